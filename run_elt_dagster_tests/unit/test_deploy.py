"""The files under deploy/ hold together, ask for no more rights than they need, and hold no secret.

Neither Docker nor Kubernetes nor a Snowflake account is at hand here: docs/deployment.md says what that leaves unproven.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlfluff
import sqlglot
import yaml
from sqlglot import exp

from run_elt_dagster.publish.log import COLUMNS, create_sql, log_table
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


# --- what the health checks run ---


@pytest.fixture
def webserver() -> Iterator[tuple[str, dict[str, Any]]]:
    """Answer GraphQL with what a test puts into the dictionary, by the first word of the query."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Keep the tests' output quiet."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = json.dumps(
                {"data": answers["mutation" if body["query"].startswith("mutation") else "query"]}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()
    server.server_close()
    thread.join(5)


def located(*arguments: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-I", DEPLOY / "location.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stderr == ""
    return run.returncode, run.stdout


def workspace(*entries: tuple[str, str]) -> dict[str, Any]:
    chain = [{"error": {"message": "a.sql:1: the cause"}}]
    found = [
        {
            "name": name,
            "loadStatus": "LOADING" if kind == "LOADING" else "LOADED",
            "locationOrLoadError": None
            if kind == "LOADING"
            else {"__typename": kind, "message": "Error occurred during the loading", "errorChain": chain},
        }
        for name, kind in entries
    ]
    return {"workspaceOrError": {"locationEntries": found}}


def test_probe_says_whether_every_location_is_loaded_and_the_cause_if_not(
    webserver: tuple[str, dict[str, Any]],
) -> None:
    url, answers = webserver
    answers["query"] = workspace(("ours", "RepositoryLocation"), ("theirs", "RepositoryLocation"))
    assert located(url) == (0, "every code location is loaded\n")
    answers["query"] = workspace(("ours", "PythonError"), ("theirs", "LOADING"))
    assert located(f"{url}/") == (1, "ours is not loaded: a.sql:1: the cause\ntheirs is not loaded: LOADING\n")
    answers["query"] = workspace()
    assert located(url) == (1, "no code location: no reason was given\n")


def test_reload_says_what_came_of_it_not_what_was_before(webserver: tuple[str, dict[str, Any]]) -> None:
    url, answers = webserver
    answers["query"] = workspace(("ours", "PythonError"))
    (entry,) = workspace(("ours", "RepositoryLocation"))["workspaceOrError"]["locationEntries"]
    answers["mutation"] = {"reloadRepositoryLocation": {"__typename": "WorkspaceLocationEntry", **entry}}
    answers["query"]["assetNodes"] = [{"assetKey": {"path": ["a", "x"]}, "tags": [], "metadataEntries": []}]
    assert located(url, "--reload") == (0, "every code location is loaded\n")
    broken = [{"label": "run_elt/broken", "text": "a/y.sql:2: the cause"}, {"label": "rows"}]
    answers["query"]["assetNodes"].append(
        {"assetKey": {"path": ["a", "y"]}, "tags": [{"key": "run_elt/broken"}], "metadataEntries": broken}
    )
    assert located(url, "--reload") == (1, "a.y is broken: a/y.sql:2: the cause\n")
    answers["mutation"] = {"reloadRepositoryLocation": {"__typename": "ReloadNotSupported"}}
    assert located(url, "--reload") == (1, "ours is not loaded: ReloadNotSupported\n")


def test_probe_fails_where_nobody_or_another_answers(webserver: tuple[str, dict[str, Any]]) -> None:
    url, answers = webserver
    code, said = located("http://127.0.0.1:9")
    assert (code, "gave no answer" in said) == (1, True)
    answers["query"] = None
    code, said = located(url)
    assert (code, "gave no answer" in said) == (1, True)


def test_ping_of_the_code_server_fails_where_nobody_answers() -> None:
    ping = [sys.executable, DEPLOY / "ping_code_server.py", "9"]
    run = subprocess.run(ping, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (3, "")


@contextmanager
def code_server_without_its_process() -> Iterator[int]:
    """Yield the port of a server that answers each call as `dagster code-server start` does without its process: UNKNOWN."""

    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        raise ConnectionError

    call = grpc.method_handlers_generic_handler("api.DagsterApi", {"Ping": grpc.unary_unary_rpc_method_handler(fail)})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[call])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def guard_of_a_server_that_lives_for_four_pings(directory: Path, port: int) -> tuple[int, str, list[str]]:
    """Return the guard's exit code, its words, and what each ping said; the server itself ends with 7."""
    said = directory / "said"
    said.touch()
    # The guard takes the interpreter beside the server's command.
    scripts = {
        "python": f'#!/bin/sh\n[ "$1" = -c ] && exec "{sys.executable}" "$@"\n"{sys.executable}" "$@"\n'
        f'code=$?\necho $code >> "{said}"\nexit $code\n',
        "server": f'#!/bin/sh\nwhile [ $(wc -l < "{said}") -lt 4 ]; do sleep 0.1; done\nexit 7\n',
    }
    for name, text in scripts.items():
        (directory / name).write_text(text, encoding="utf-8")
        (directory / name).chmod(0o755)
    run = subprocess.run(
        [DEPLOY / "code_server.sh", str(port), directory / "server"],
        env={**os.environ, "RUN_ELT_PING_SECONDS": "0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return run.returncode, run.stderr, said.read_text(encoding="utf-8").split()


def test_code_server_ends_where_its_process_was_gone_before_the_first_ping(tmp_path: Path) -> None:
    with code_server_without_its_process() as port:
        code, words, said = guard_of_a_server_that_lives_for_four_pings(tmp_path, port)
    assert (code, said) == (1, ["1"] * 3)
    assert "The process that has the code does not answer." in words


def test_code_server_that_nobody_hears_yet_is_left_alone(tmp_path: Path) -> None:
    code, words, said = guard_of_a_server_that_lives_for_four_pings(tmp_path, 9)
    assert (code, words, said[:4]) == (7, "", ["3"] * 4)


def server_in(directory: Path, script: str) -> Path:
    """Return a script in the place of the server's command, with an interpreter beside it."""
    (directory / "python").symlink_to(sys.executable)
    server = directory / "server"
    server.write_text(script, encoding="utf-8")
    server.chmod(0o755)
    return server


def test_end_of_the_code_server_is_passed_on_with_its_exit_code(tmp_path: Path) -> None:
    server = server_in(tmp_path, "#!/bin/sh\nexit $1\n")
    for code in (0, 3):
        command = [DEPLOY / "code_server.sh", "9", server, str(code)]
        run = subprocess.run(command, env={**os.environ, "RUN_ELT_PING_SECONDS": "0.1"}, check=False, timeout=60)
        assert run.returncode == code


def test_code_server_does_not_ignore_an_interruption_since_dagster_would_ignore_a_stop_too(tmp_path: Path) -> None:
    server = server_in(tmp_path, f"#!{sys.executable}\nimport signal\nprint(signal.getsignal(signal.SIGINT))\n")
    env = {**os.environ, "RUN_ELT_PING_SECONDS": "0.1"}
    run = subprocess.run([DEPLOY / "code_server.sh", "9", server], env=env, capture_output=True, check=True, timeout=60)
    assert b"default_int_handler" in run.stdout


def test_stop_of_the_code_server_is_passed_on_at_once_and_waited_for(tmp_path: Path) -> None:
    server = server_in(tmp_path, "#!/bin/sh\ntrap 'exit 7' TERM\necho up\nwhile :; do sleep 0.1; done\n")
    quiet = {**os.environ, "RUN_ELT_PING_SECONDS": "300"}
    with subprocess.Popen([DEPLOY / "code_server.sh", "9", server], env=quiet, stdout=subprocess.PIPE) as guard:
        assert guard.stdout is not None
        assert guard.stdout.readline() == b"up\n"
        guard.terminate()
        assert guard.wait(60) == 7
        # Its own wait goes on without it; nobody reads what it says.
        guard.stdout.close()


# --- Snowflake ---


def statements() -> list[exp.Expr]:
    return [statement for statement in sqlglot.parse(text_of("snowflake_setup.sql"), dialect="snowflake") if statement]


@pytest.mark.parametrize("name", ["snowflake_setup.sql", "publish_log.sql"])
def test_setup_of_snowflake_is_clean_sql(name: str) -> None:
    assert sqlfluff.lint(text_of(name), dialect="snowflake", config_path=str(ROOT / "pyproject.toml")) == []


def test_setup_of_snowflake_has_all_of_its_statements() -> None:
    assert len(statements()) > 30


def test_setup_of_the_log_creates_the_tables_that_runs_write_to() -> None:
    created = [
        each for each in sqlglot.parse(text_of("publish_log.sql"), dialect="snowflake") if isinstance(each, exp.Create)
    ]
    written = [table.sql("snowflake") for table in created if table.kind == "TABLE"]
    assert [_columns(each) for each in written] == [
        _columns(create_sql(log_table(name, "RUN_ELT", database="D"))) for name in COLUMNS
    ]


def _columns(create: str) -> dict[str, str]:
    """Return the columns of a CREATE TABLE with their types, and its comment."""
    parsed = sqlglot.parse_one(create, dialect="snowflake")
    columns = {
        column.name.upper(): column.sql("snowflake").partition(" ")[2] for column in parsed.find_all(exp.ColumnDef)
    }
    return {**columns, "comment": parsed.find(exp.SchemaCommentProperty).sql("snowflake")}


def test_role_gets_these_rights_and_no_other() -> None:
    granted = [line for line in text_of("snowflake_setup.sql").splitlines() if line.startswith("grant ")]
    to_role = " to role identifier($service_role);"
    assert [line.removesuffix(to_role) for line in granted] == [
        "grant role identifier($service_role) to user identifier($service_user);",
        "grant role identifier($service_role) to role sysadmin;",
        "grant usage on warehouse identifier($warehouse_name)",
        "grant usage on database identifier($database_name)",
        "grant usage on schema identifier($source_schema)",
        "grant usage on schema identifier($target_schema)",
        "grant create table on schema identifier($target_schema)",
        "grant select on table identifier($first_source)",
        "grant select on table identifier($second_source)",
    ]
    assert [type(s) for s in statements() if isinstance(s, exp.Grant)] == [exp.Grant] * 7


def test_user_is_a_service_with_a_key_pair_and_warehouse_has_limits() -> None:
    sql = " ".join(text_of("snowflake_setup.sql").split())
    for needed in (
        "type = service",
        "default_secondary_roles = ()",
        "rsa_public_key = 'PUBLIC_KEY_OF_RUN_ELT'",
        "set network_policy = $policy_name",
        "allowed_ip_list = ('203.0.113.10')",
        "auto_suspend = 60",
        "statement_timeout_in_seconds = 14400",
        "on 100 percent do suspend ",
    ):
        assert needed in sql, needed
    assert "password" not in re.sub(r"--.*", "", text_of("snowflake_setup.sql"))


def test_variables_are_set_before_they_are_used_and_fit() -> None:
    known: set[str] = set()
    for line in re.sub(r"--.*", "", text_of("snowflake_setup.sql")).splitlines():
        assert set(re.findall(r"\$(\w+)", line)) <= known, line
        if setting := re.match(r"set (\w+) = ", line):
            known.add(setting[1])
            assert len(line) < 256


# --- the documentation ---


def test_documentation_names_every_file_of_the_deployment() -> None:
    deployment = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.parent.name != "secrets" and path.suffix != ".md":
            assert path.name in deployment, path


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that a page of Markdown has: its own, and those of its headings as GitHub makes them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_of_the_documentation_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_readme_shows_the_sql_of_the_file_it_names() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"```sql\n.*?elt \*/\n(.*?)```", readme, re.DOTALL)[0]
    file = ROOT / "run_elt_dagster" / "tables" / "analytics" / "mau_summary.sql"
    assert file.read_text(encoding="utf-8").endswith(shown)


def test_security_page_explains_every_grant_and_secret() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    for secret in SECRETS:
        assert f"`{secret}`" in page
    for right in ("USAGE", "CREATE TABLE", "SELECT", "OWNERSHIP"):
        assert f"`{right}`" in page


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
