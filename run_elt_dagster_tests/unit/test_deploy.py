"""The files under deploy/ hold together, ask for no more rights than they need, and hold no secret.

Neither Docker nor Kubernetes nor a Snowflake account is at hand here: docs/deployment.md says what that leaves unproven.
"""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_elt_dagster.settings import SECRET_VARIABLES, VARIABLES
from run_elt_dagster.storage.postgres import KeepConnections

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = {*SECRET_VARIABLES, "DAGSTER_POSTGRES_PASSWORD"}
UNITS = sorted(DEPLOY.glob("systemd/*"))
LISTENER = DEPLOY / "buttons" / "run-elt-listen.service"
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
# Keys of the chart's schema that the values may use, by the path to them; a dot stands before what is below.
# https://github.com/dagster-io/dagster/tree/master/helm/dagster
CHART = {
    "": "global generatePostgresqlPasswordSecret postgresql migrate dagsterWebserver dagsterDaemon telemetry retention "
    "dagster-user-deployments runLauncher computeLogManager pythonLogs additionalInstanceConfig rabbitmq redis flower "
    "ingress generateCeleryConfigSecret imagePullSecrets scheduler busybox serviceAccount rbacEnabled",
    "global": "postgresqlSecretName dagsterHome serviceAccountName celeryConfigSecretName",
    "postgresql": "enabled image postgresqlScheme postgresqlHost postgresqlUsername postgresqlPassword "
    "postgresqlDatabase postgresqlParams service",
    "migrate": "enabled extraContainers initContainers",
    "dagsterWebserver": "replicaCount image nameOverride pathPrefix service workspace env envConfigMaps envSecrets labels "
    "deploymentLabels nodeSelector affinity tolerations podSecurityContext securityContext resources readinessProbe "
    "livenessProbe startupProbe annotations enableReadOnly dbStatementTimeout dbPoolRecycle logLevel schedulerName "
    "volumeMounts volumes",
    "dagsterDaemon": "enabled image runCoordinator heartbeatTolerance env envConfigMaps envSecrets deploymentLabels labels "
    "nodeSelector affinity tolerations podSecurityContext securityContext resources checkDbReadyInitContainer "
    "livenessProbe readinessProbe startupProbe annotations runMonitoring runRetries sensors schedules backfills "
    "schedulerName logFormat volumeMounts volumes initContainerResources extraContainers extraPrependedInitContainers",
    "dagsterDaemon.runCoordinator": "enabled type config",
    "dagsterDaemon.runCoordinator.config": "queuedRunCoordinator customRunCoordinator",
    "dagsterDaemon.runCoordinator.config.queuedRunCoordinator": "maxConcurrentRuns tagConcurrencyLimits "
    "dequeueIntervalSeconds dequeueNumWorkers dequeueUseThreads blockOpConcurrencyLimitedRuns",
    "dagsterDaemon.runMonitoring": "enabled startTimeoutSeconds cancelTimeoutSeconds maxRuntimeSeconds "
    "maxResumeRunAttempts pollIntervalSeconds freeSlotsAfterRunEndSeconds",
    "dagsterDaemon.runRetries": "enabled maxRetries retryOnAssetOrOpFailure",
    "dagsterDaemon.sensors": "useThreads numWorkers numSubmitWorkers",
    "dagsterDaemon.schedules": "useThreads numWorkers numSubmitWorkers",
    "dagster-user-deployments": "enabled enableSubchart imagePullSecrets deployments",
    "dagster-user-deployments.deployments": "name image port dagsterApiGrpcArgs codeServerArgs "
    "includeConfigInLaunchedRuns env envConfigMaps envSecrets annotations nodeSelector affinity tolerations "
    "podSecurityContext securityContext resources livenessProbe readinessProbe startupProbe labels volumeMounts volumes "
    "schedulerName service replicaCount",
    "runLauncher": "type config",
    "runLauncher.config": "celeryK8sRunLauncher k8sRunLauncher customRunLauncher",
    "runLauncher.config.k8sRunLauncher": "image imagePullPolicy jobNamespace loadInclusterConfig kubeconfigFile "
    "envConfigMaps envSecrets envVars volumeMounts volumes labels failPodOnRunFailure resources schedulerName "
    "securityContext runK8sConfig",
    "runLauncher.config.k8sRunLauncher.runK8sConfig": "containerConfig podSpecConfig podTemplateSpecMetadata "
    "jobSpecConfig jobMetadata",
    "computeLogManager": "type config",
    "retention": "enabled sensor schedule autoMaterialize",
    "retention.sensor": "purgeAfterDays",
    "retention.schedule": "purgeAfterDays",
    "pythonLogs": "pythonLogLevel dagsterHandlerConfig managedPythonLoggers",
    "telemetry": "enabled",
}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load(text_of(name))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def version_of(package: str) -> str:
    (line,) = re.findall(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return line


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their arguments, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text_of("Dockerfile"), flags=re.MULTILINE))
    return [(name, rest) for name, rest in (line.split(" ", 1) for line in joined.splitlines() if line)]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


# --- the image ---


def test_image_starts_from_one_pinned_release_that_the_project_supports() -> None:
    (base, *stages) = of("FROM")
    release = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+ AS base", base)
    assert release is not None
    assert f">={release[1]}," in project()["requires-python"]
    assert stages == ["base AS build", "base"]


def test_image_runs_as_nobody_in_particular_and_says_whether_it_is_healthy() -> None:
    last_stage = [name for name, _ in instructions()][::-1]
    assert of("USER") == ["10001:10001"]
    assert last_stage.index("USER") < last_stage.index("RUN")
    assert "/opt/run_elt/ping_code_server.py" in of("HEALTHCHECK")[0]
    assert of("ENTRYPOINT") == ['["/opt/run_elt/entrypoint.sh"]']


def test_image_holds_no_secret_and_fetches_nothing_but_what_is_pinned() -> None:
    for instruction in ("ENV", "ARG"):
        for words in of(instruction):
            assert not re.search(r"password|secret|token|key", words, re.IGNORECASE), words
    assert of("ADD") == []
    (wheel, _) = of("RUN")
    assert "--constraint constraints.txt" in wheel
    assert not re.search(r"curl|wget|apt-get|sudo", " ".join(of("RUN")))
    assert "latest" not in text_of("Dockerfile") + text_of("compose.yaml") + text_of("helm_values.yaml")


def test_image_has_the_extras_of_a_deployment_and_never_the_embedded_snowflake() -> None:
    extras = project()["optional-dependencies"]
    assert of("ARG") == ["EXTRAS=deploy"]
    for name in ("deploy", "kubernetes"):
        assert name in extras, f"pyproject.toml requires the extra {name}, which deploy/Dockerfile installs"
        assert not any("embedded" in dependency or "fakesnow" in dependency for dependency in extras[name])


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    allowed = {line[1:] for line in text_of("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    copied = {
        source
        for words in of("COPY")
        if "--from" not in words
        for source in words.split()[:-1]
        if not source.startswith("--")
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert os.access(DEPLOY / "entrypoint.sh", os.X_OK)


# --- the entry point ---


def entered(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEPLOY / "entrypoint.sh", "env"], env=variables, capture_output=True, text=True, check=False, timeout=20
    )


def test_secrets_come_out_of_their_files(tmp_path: Path) -> None:
    for name in SECRETS - {"SNOWFLAKE_PRIVATE_KEY"}:
        value = f"a 'quoted' $value of {name}"
        (tmp_path / name).write_text(f"{value}\n", encoding="utf-8")
        run = entered(**{f"{name}_FILE": str(tmp_path / name)})
        assert f"{name}={value}" in run.stdout.splitlines()
        assert "_FILE" not in run.stdout


def test_nothing_starts_without_the_file_of_a_secret_or_with_two_sources(tmp_path: Path) -> None:
    missing = entered(SLACK_TOKEN_FILE=str(tmp_path / "missing"))
    assert missing.returncode == 1
    assert "SLACK_TOKEN_FILE requires a file" in missing.stderr
    (tmp_path / "token").write_text("from the file", encoding="utf-8")
    both = entered(SLACK_TOKEN="from the environment", SLACK_TOKEN_FILE=str(tmp_path / "token"))
    assert both.returncode == 1
    assert "SLACK_TOKEN requires one source" in both.stderr
    assert "from the" not in both.stdout + both.stderr


def test_command_starts_as_it_is_without_secrets() -> None:
    run = entered(SLACK_CHANNEL="C0123")
    assert (run.returncode, run.stderr) == (0, "")
    assert "SLACK_CHANNEL=C0123" in run.stdout


# --- compose ---


def test_every_name_that_compose_refers_to_is_declared() -> None:
    compose = loaded("compose.yaml")
    services = compose["services"]
    for name, service in services.items():
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith(".."):
                assert (target, mode) == (service["environment"]["RUN_ELT_TABLES_DIR"], ["ro"]), name
                assert list((DEPLOY / source).rglob("*.sql"))
            else:
                assert source in compose["volumes"], name
        for variable, value in service["environment"].items():
            # The watch names the key, as the settings want it, and does not have it.
            if variable.endswith(("_FILE", "_PATH")) and (name, variable) != ("watch", "SNOWFLAKE_PRIVATE_KEY_PATH"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], (name, variable)
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("secrets/")
    assert "secrets/" in text_of(".gitignore").splitlines()


def test_listener_of_buttons_fits_beside_the_others_without_the_key_of_snowflake() -> None:
    added, compose = loaded("buttons/compose.yaml"), loaded("compose.yaml")
    listener, watch = added["services"]["listener"], compose["services"]["watch"]
    closed = ("image", "read_only", "cap_drop", "security_opt", "init", "restart", "env_file", "networks")
    assert {name: listener[name] for name in closed} == {name: watch[name] for name in closed}
    there = {**watch["environment"], "RUN_ELT_SLACK_APP_TOKEN_FILE": "/run/secrets/slack_app_token"}
    assert listener["environment"].items() <= there.items()
    assert set(listener["secrets"]) == {*watch["secrets"], *added["secrets"]}
    assert not any("snowflake" in secret for secret in listener["secrets"])
    assert added["services"]["code_server"]["secrets"] == list(added["secrets"])
    unit, other = (settings_of(DEPLOY / name) for name in (LISTENER, "systemd/run-elt-watch.service"))
    own = {"Description", "Type", "ExecStart", "TimeoutStartSec", "After"}
    assert [each for each in other if each[0] not in own and each not in unit] == []
    assert dict(unit)["ExecStart"].endswith("/run-elt alert listen")
    assert listener["command"] == ["run-elt", "alert", "listen"]


def test_every_container_is_closed_and_checked() -> None:
    for name, service in loaded("compose.yaml")["services"].items():
        assert service["read_only"] is True, name
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"]), name  # noqa: S108
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        assert service["healthcheck"] == {"disable": True} or service["healthcheck"]["test"][0] == "CMD", name
        assert re.search(r":\$\{RUN_ELT_VERSION:-[\d.]+\}$|:\d+\.\d+-\w+$", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_only_the_code_server_has_the_secrets_of_snowflake_and_nobody_has_one_in_the_environment() -> None:
    services = loaded("compose.yaml")["services"]
    more = {name: set(service["secrets"]) - {"postgres_password"} for name, service in services.items()}
    assert {name: secrets for name, secrets in more.items() if secrets} == {
        "code_server": {"slack_token", "snowflake_private_key", "snowflake_private_key_password"},
        # It posts by itself, and never signs in to Snowflake.
        "watch": {"slack_token"},
    }
    assert {name for name, service in services.items() if "env_file" in service} == {"code_server", "watch"}
    for service in services.values():
        assert not set(service["environment"]) & (SECRETS | {"POSTGRES_PASSWORD"})


def test_processes_wait_for_the_migration_and_the_code_server_and_only_who_must_reaches_the_internet() -> None:
    services = loaded("compose.yaml")["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["code_server"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    for name in ("webserver", "daemon"):
        assert services[name]["depends_on"] == {"code_server": {"condition": "service_healthy"}}
    assert loaded("compose.yaml")["networks"]["inside"] == {"internal": True}
    # The webserver is on the outer network for its port, which an internal network cannot publish.
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {
        "code_server",
        "webserver",
        "watch",
    }
    # It is to find the others missing.
    assert "depends_on" not in services["watch"]


def test_compose_sets_every_variable_that_the_instance_and_the_workspace_read() -> None:
    read = set(re.findall(r"\{env: (\w+)\}", text_of("dagster.yaml") + text_of("workspace.yaml")))
    image = set(re.findall(r"(\w+)=", " ".join(of("ENV"))))
    for name in ("migrate", "code_server", "webserver", "daemon"):
        given = {variable.removesuffix("_FILE") for variable in loaded("compose.yaml")["services"][name]["environment"]}
        assert read <= given | image, name
    known = {*VARIABLES, *(f"{name}_FILE" for name in VARIABLES)}
    extra = {
        v
        for v in loaded("compose.yaml")["services"]["code_server"]["environment"]
        if v.startswith(("SNOWFLAKE", "SLACK"))
    }
    assert extra <= known


# --- the instance ---


def test_connections_to_postgres_are_kept_by_a_plugin_that_is_installed_with_the_package() -> None:
    on_one_machine = loaded("dagster.yaml")["storage"]["postgres"]["postgres_db"]["params"]
    in_kubernetes = loaded("helm_values.yaml")["postgresql"]["postgresqlParams"]
    for params in (on_one_machine, in_kubernetes):
        (plugin,) = entry_points(group="sqlalchemy.plugins", name=params["plugin"])
        assert plugin.load() is KeepConnections
        # libpq takes milliseconds there, and gives up on a peer that is gone after idle + interval * count seconds.
        assert params["tcp_user_timeout"] == 30_000
        assert params["keepalives_idle"] + params["keepalives_interval"] * params["keepalives_count"] <= 30


def test_killed_workers_are_run_again_once_and_failed_tables_never() -> None:
    instance = loaded("dagster.yaml")
    assert instance["run_retries"] == {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    assert instance["run_monitoring"]["max_resume_run_attempts"] == 0
    # The sensors that alert must not run at the same time.
    assert instance["sensors"] == {"use_threads": False}
    assert instance["concurrency"]["runs"] == {"max_concurrent_runs": -1}
    assert instance["telemetry"] == {"enabled": False}


def test_deployment_ends_lost_runs_as_the_readme_says() -> None:
    of_this_folder = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))["run_monitoring"]
    assert loaded("dagster.yaml")["run_monitoring"].items() >= of_this_folder.items()


def test_no_file_of_the_deployment_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"xox[a-z]-\w|-----BEGIN|eyJ\w{8}|(?i:password)[:=] ?['\"]?\w{8}", text), path


# --- Helm ---


def unknown_keys(values: Any, path: str = "") -> Iterator[str]:
    """Yield the keys that the chart's schema does not have, as far as it is known here."""
    for item in values if isinstance(values, list) else [values]:
        if path in CHART and isinstance(item, Mapping):
            yield from (f"{path}.{key}" for key in item if key not in CHART[path].split())
        if isinstance(item, Mapping):
            for key, below in item.items():
                yield from unknown_keys(below, f"{path}.{key}".removeprefix("."))


def test_values_use_only_keys_of_the_chart() -> None:
    assert list(unknown_keys(loaded("helm_values.yaml"))) == []
    assert list(unknown_keys({"dagsterDaemon": {"runRetry": {}}})) == ["dagsterDaemon.runRetry"]


def test_values_say_the_same_as_the_instance_of_one_machine() -> None:
    values, instance = loaded("helm_values.yaml"), loaded("dagster.yaml")
    daemon = values["dagsterDaemon"]
    assert daemon["runRetries"] == {"enabled": True, "maxRetries": 1, "retryOnAssetOrOpFailure": False}
    assert daemon["sensors"] == {"useThreads": False}
    assert daemon["runMonitoring"]["maxRuntimeSeconds"] == instance["run_monitoring"]["max_runtime_seconds"]
    assert daemon["runCoordinator"]["config"]["queuedRunCoordinator"] == {"maxConcurrentRuns": -1}
    for kind in ("schedule", "sensor"):
        assert values["retention"][kind]["purgeAfterDays"] == instance["retention"][kind]["purge_after_days"]
    assert values["postgresql"]["postgresqlScheme"] == instance["storage"]["postgres"]["postgres_db"]["scheme"]
    assert values["telemetry"] == instance["telemetry"]


def test_pods_are_closed_and_checked_and_use_one_image_of_this_version() -> None:
    values = loaded("helm_values.yaml")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    for pod in (values["dagsterWebserver"], values["dagsterDaemon"], deployment):
        assert pod["image"]["tag"] == project()["version"]
        assert pod["podSecurityContext"]["runAsUser"] == 10001
        assert pod["podSecurityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in pod["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert pod["livenessProbe"]
        assert pod["startupProbe"]["enabled"] is True
    run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert run["containerConfig"]["securityContext"] == deployment["securityContext"]
    assert run["podSpecConfig"]["securityContext"] == deployment["podSecurityContext"]
    assert f"--version {version_of('dagster')} " in text_of("helm_values.yaml")


def test_values_take_secrets_from_secrets() -> None:
    values = loaded("helm_values.yaml")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    names = {variable["name"] for variable in deployment["env"]}
    assert not names & SECRETS
    assert names <= set(VARIABLES)
    assert deployment["envSecrets"] == [{"name": "run-elt"}]
    assert values["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in values["postgresql"]


# --- systemd ---


def settings_of(unit: Path) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, value in (line.split("=", 1) for line in lines)]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_service_can_write_nothing_but_its_own_data(unit: Path) -> None:
    settings = dict(settings_of(unit))
    closed = {
        "User": "run_elt",
        "ProtectSystem": "strict",
        "ProtectHome": "true",
        "PrivateTmp": "true",
        "NoNewPrivileges": "true",
        "CapabilityBoundingSet": "",
        "SystemCallFilter": "@system-service",
        "StateDirectory": "run_elt run_elt/logs",
        "UMask": "0077",
    }
    assert settings.items() >= closed.items()


def test_only_the_service_of_the_code_server_reads_its_secrets() -> None:
    files = {
        unit.stem: [v for n, v in settings_of(unit) if n in ("EnvironmentFile", "LoadCredential")] for unit in SERVICES
    }
    instance, own = "/etc/run_elt/instance.env", "/etc/run_elt/code_server.env"
    assert {name: values for name, values in files.items() if values != [instance]} == {
        "run-elt-code-server": [instance, own, "snowflake_private_key:/etc/run_elt/snowflake_private_key.p8"],
        # The settings and Slack's token, but not the key.
        "run-elt-watch": [instance, own],
    }
    for unit in SERVICES:
        variables = {value.split("=")[0] for name, value in settings_of(unit) if name == "Environment"}
        assert not variables & SECRETS


def test_target_starts_every_process_and_a_lost_one_comes_back() -> None:
    (target,) = [unit for unit in UNITS if unit.suffix == ".target"]
    wanted = dict(settings_of(target))["Wants"].split()
    once = ("run-elt-migrate", "run-elt-watch")
    assert sorted(wanted) == sorted([*(unit.name for unit in SERVICES if unit.stem not in once), "run-elt-watch.timer"])
    for unit in SERVICES:
        settings = dict(settings_of(unit))
        if unit.stem not in once:
            assert (settings["Restart"], settings["PartOf"]) == ("always", target.name)
            assert settings["Requires"] == "run-elt-migrate.service"


def test_services_run_what_the_containers_run() -> None:
    """The commands themselves are started by e2e/test_deployment.py."""
    services = loaded("compose.yaml")["services"]
    for name in ("code_server", "webserver", "daemon", "migrate"):
        (command,) = [
            v
            for n, v in settings_of(DEPLOY / "systemd" / f"run-elt-{name.replace('_', '-')}.service")
            if n == "ExecStart"
        ]
        here = {"127.0.0.1": "0.0.0.0", "/etc/run_elt/home": "/opt/run_elt/home", "/opt/run_elt/venv/bin/": ""}  # noqa: S104
        for path, there in here.items():
            command = command.replace(path, there)
        assert command.split() == services[name]["command"]


def test_systemd_accepts_the_units() -> None:
    if shutil.which("systemd-analyze") is None:
        return
    run = subprocess.run(
        ["systemd-analyze", "verify", *UNITS, LISTENER], capture_output=True, text=True, check=False, timeout=60
    )
    # The programs are where a deployment has them, and not here.
    problems = [line for line in run.stderr.splitlines() if "is not executable: No such file or directory" not in line]
    assert problems == []


def test_watch_looks_every_five_minutes_and_needs_none_of_what_it_looks_at() -> None:
    watch = settings_of(DEPLOY / "systemd" / "run-elt-watch.service")
    assert not {name for name, _ in watch} & {"Requires", "BindsTo", "PartOf", "Requisite"}
    timer = dict(settings_of(DEPLOY / "systemd" / "run-elt-watch.timer"))
    assert (timer["OnUnitInactiveSec"], timer["PartOf"], timer["WantedBy"]) == ("5min", *["run-elt.target"] * 2)
    in_compose = loaded("compose.yaml")["services"]["watch"]
    (in_kubernetes,) = loaded("kubernetes_watch.yaml")["spec"]["template"]["spec"]["containers"]
    for command in (dict(watch)["ExecStart"].split(), in_compose["command"], in_kubernetes["args"]):
        assert [Path(command[0]).name, command[1]] == ["run-elt", "watch"]
    for command in (in_compose["command"], in_kubernetes["args"]):
        assert command[2:4] == ["--every", "300"]
        assert command[-1].startswith(("/var/lib/run_elt/watch/", "/tmp/watch/"))  # noqa: S108


def test_only_what_deploys_says_that_it_is_a_deployment() -> None:
    name = "RUN_ELT_DEPLOYMENT"
    services = loaded("compose.yaml")["services"]
    for service in ("code_server", "watch"):
        assert services[service]["environment"][name] == "production"
    for unit in ("run-elt-code-server", "run-elt-watch"):
        settings = settings_of(DEPLOY / "systemd" / f"{unit}.service")
        assert ("Environment", f"{name}=production") in settings
    (deployment,) = loaded("helm_values.yaml")["dagster-user-deployments"]["deployments"]
    (watch,) = loaded("kubernetes_watch.yaml")["spec"]["template"]["spec"]["containers"]
    for env in (deployment["env"], watch["env"]):
        assert {"name": name, "value": "production"} in env
    # A person's copy of .env must not make a deployment of their machine.
    assert f"#{name}=" in (ROOT / ".env.example").read_text(encoding="utf-8")


# --- a new history is opened by one process alone ---


def test_make_dev_opens_a_new_history_before_it_starts_more_than_one_process() -> None:
    """Dagster 1.13.27 on SQLite: two processes that open it at the same moment can break it for good."""
    recipes = re.split(r"^(?=\S)", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    (recipe,) = [text for text in recipes if text.startswith("dev:")]
    commands = [line.split(maxsplit=1)[1].split(" >")[0] for line in recipe.splitlines() if line.startswith("\t")]
    assert commands == ["instance info", "dev"]


def test_compose_opens_a_new_history_before_it_starts_more_than_one_process() -> None:
    services = loaded("compose.yaml")["services"]
    assert services["migrate"]["command"] == ["dagster", "instance", "migrate"]

    def waits_for(name: str) -> set[str]:
        conditions = services[name].get("depends_on", {})
        direct = {other for other, how in conditions.items() if how["condition"] != "service_started"}
        return direct.union(*map(waits_for, direct))

    for name in ("code_server", "webserver", "daemon"):
        assert "migrate" in waits_for(name)
    # It waits before its first look.
    assert "--every" in services["watch"]["command"]


def test_systemd_opens_a_new_history_before_it_starts_more_than_one_process() -> None:
    migrate = (DEPLOY / "systemd/run-elt-migrate.service").read_text(encoding="utf-8")
    # With `oneshot`, what stands after it starts when it has ended.
    assert "Type=oneshot\n" in migrate
    assert migrate.count("ExecStart=/opt/run_elt/venv/bin/dagster instance migrate\n") == 1
    for name in ("code-server", "webserver", "daemon"):
        unit = (DEPLOY / f"systemd/run-elt-{name}.service").read_text(encoding="utf-8")
        for order in ("Requires", "After"):
            (line,) = re.findall(rf"^{order}=(.*)$", unit, re.MULTILINE)
            assert "run-elt-migrate.service" in line.split()
    assert "OnActiveSec=5min" in (DEPLOY / "systemd/run-elt-watch.timer").read_text(encoding="utf-8")


# --- the documentation ---


def test_documentation_names_every_file_of_the_deployment() -> None:
    deployment = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.parent.name != "secrets" and path.suffix != ".md":
            assert path.name in deployment, path
