"""A change of a table in a deployment, and who says so when it is wrong, or when a process is gone or there twice."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.embedded import embedded_snowflake
from run_elt_dagster.runs.tags import ALIVE
from run_elt_dagster_tests.support.deployment import Deployment, kill
from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver
from run_elt_dagster_tests.support.postgres import Postgres
from run_elt_dagster_tests.support.slack_stand_in import TOKEN, SlackStandIn

# A look waits for the daemon's next heartbeat, which comes every 30 s.
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]

NEW = "/* elt\nowner: team:analytics\nelt */\nselect 1 as n"
WRONG = "/* elt\nownr: team:analytics\nelt */\nselect 1 as n"


@pytest.fixture
def deployment(
    postgres: Postgres, deployment_dir: DeploymentDir, slack: SlackStandIn, request: pytest.FixtureRequest
) -> Deployment:
    return Deployment(deployment_dir, postgres.create_database(f"db{abs(hash(request.node.name)) % 10**8}"), slack)


def assets(webserver: Webserver) -> set[str]:
    nodes = webserver.query("{ assetNodes { assetKey { path } } }")["assetNodes"]
    return {"/".join(node["assetKey"]["path"]) for node in nodes}


def statuses(deployment: Deployment) -> list[Any]:
    return deployment.database.column("select status from runs order by id")


SENSORS = """{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors { sensorState {
    ticks(limit: 1) { status } } } } } } }"""


def are_evaluated(webserver: Webserver) -> bool:
    """Tell whether the daemon has looked at every sensor."""
    locations = webserver.query(SENSORS)["repositoriesOrError"]["nodes"]
    ticks = [sensor["sensorState"]["ticks"] for location in locations for sensor in location["sensors"]]
    return bool(ticks) and all(ticks)


def start(deployment: Deployment) -> tuple[subprocess.Popen[bytes], Webserver]:
    code_server = deployment.start_code_server()
    deployment.start_daemon()
    webserver = deployment.start_webserver()
    deployment.place.wait_for("the webserver", webserver.is_up)
    deployment.place.wait_for("the first evaluation of the sensors", lambda: are_evaluated(webserver))
    return code_server, webserver


def test_changed_table_is_loaded_while_a_run_goes_on_and_a_wrong_one_is_named(deployment: Deployment) -> None:
    place, new = deployment.place, deployment.tables / "analytics" / "new.sql"
    _, webserver = start(deployment)
    # The run waits for the embedded Snowflake, which this test holds, as another one would for a slow statement.
    with embedded_snowflake(deployment.data / "embedded", wait_seconds=60, log=print):
        deployment.run("dagster", "job", "launch", "-w", str(deployment.home / "workspace.yaml"), "-j", "RunELT_Alert")
        alive = f"select run_id from run_tags where key = '{ALIVE}'"
        place.wait_for("the run", lambda: deployment.database.column(alive))
        new.write_text(NEW, encoding="utf-8")
        reload = deployment.reload()
        assert (reload.returncode, reload.stdout) == (0, "every code location is loaded\n")
        assert "analytics/new" in assets(webserver)
        assert deployment.is_loaded()

        new.write_text(WRONG, encoding="utf-8")
        reload = deployment.reload()
        assert reload.returncode == 1
        assert reload.stdout.startswith("analytics.new is broken: ")
        assert "new.sql:2: unknown key 'ownr'" in reload.stdout
        # The other tables are loaded all the same.
        assert deployment.is_loaded()
        assert "analytics/mau_summary" in assets(webserver)
        assert statuses(deployment) == ["STARTED"]
    place.wait_for("the end of the run", lambda: statuses(deployment) == ["SUCCESS"])


def test_run_of_before_a_reload_can_be_cancelled_after_it(deployment: Deployment) -> None:
    _, webserver = start(deployment)
    with embedded_snowflake(deployment.data / "embedded", wait_seconds=60, log=print):
        deployment.run("dagster", "job", "launch", "-w", str(deployment.home / "workspace.yaml"), "-j", "RunELT_Alert")
        alive = f"select run_id from run_tags where key = '{ALIVE}'"
        (run_id,) = deployment.place.wait_for("the run", lambda: deployment.database.column(alive))
        assert deployment.reload().returncode == 0
        answer = webserver.query("mutation($r: String!) { terminateRun(runId: $r) { __typename } }", r=run_id)
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
        deployment.place.wait_for("its end", lambda: statuses(deployment) == ["CANCELED"])


def test_wrong_file_in_the_deployment_is_told_by_the_watch_once_and_so_is_its_end(
    deployment: Deployment, slack: SlackStandIn
) -> None:
    new = deployment.tables / "analytics" / "new.sql"
    start(deployment)
    new.write_text(WRONG, encoding="utf-8")
    assert deployment.reload().returncode == 1

    first = deployment.watch()
    assert first.returncode == 1, first.stdout + first.stderr
    lines = [line.split()[:3] for line in first.stdout.splitlines() if line.startswith("FAIL")]
    assert lines == [["FAIL", "table", "files"]]
    assert first.stdout.count("new.sql:2: unknown key 'ownr'") == 1
    assert deployment.watch().returncode == 1
    (message,) = slack.messages
    title = ":rotating_light: run_elt_dagster (production): table files: failed"
    assert message["text"].startswith(title)
    assert "new.sql:2: unknown key" in message["text"]

    new.write_text(NEW, encoding="utf-8")
    assert deployment.reload().returncode == 0
    deployment.place.wait_for("a look that finds nothing", lambda: deployment.watch().returncode == 0, 300)
    assert slack.messages[-1]["text"].startswith(":large_green_circle: run_elt_dagster (production): every check holds")
    assert len(slack.messages) == 2
    assert TOKEN not in deployment.place.logs() + slack.everything()


def test_code_server_ends_when_the_process_with_the_code_is_gone_and_until_then_doctor_tells(
    deployment: Deployment,
) -> None:
    code_server, _ = start(deployment)
    (inner,) = processes_of(code_server.pid, "api", "grpc")
    os.kill(inner, signal.SIGKILL)

    found = deployment.doctor("dagster")
    assert found["code location"][0]["status"] == "FAIL"
    assert f"no code server answers at 127.0.0.1:{deployment.code_port}" in found["code location"][0]["detail"]
    assert found["schedule"][0]["status"] == "skip"
    # What restarts it is systemd's or Docker's part.
    deployment.place.wait_for("its end", lambda: code_server.poll() is not None)
    assert code_server.returncode == 1
    assert "does not answer. The code server ends" in deployment.place.logs()


def processes_of(group: int, *words: str) -> list[int]:
    lines = subprocess.run(["ps", "-o", "pid=,args=", "-g", str(group)], capture_output=True, text=True, check=True)
    split = [line.split() for line in lines.stdout.splitlines()]
    return [int(pid) for pid, *args in split if set(words) <= set(args) and "code-server" not in args]


def test_second_daemon_is_seen_by_doctor_and_none_after_it_has_gone(deployment: Deployment) -> None:
    start(deployment)
    second = deployment.start_daemon()
    deployment.place.wait_for("the second daemon", lambda: "Another SENSOR daemon" in deployment.place.logs())

    (finding,) = deployment.doctor("dagster")["daemon"]
    assert finding["status"] == "FAIL"
    assert "requires one daemon, got 2 that give heartbeats in turn" in finding["detail"]

    kill(second)
    (finding,) = deployment.doctor("dagster")["daemon"]
    assert finding["status"] == "ok"


def test_nobody_is_taken_for_a_second_daemon_who_was_started_anew(deployment: Deployment) -> None:
    start(deployment)
    daemon = deployment.place.processes[1]
    kill(daemon)
    deployment.start_daemon()
    (finding,) = deployment.doctor("dagster")["daemon"]
    assert finding["status"] == "ok", finding


def test_persons_machine_with_an_account_starts_neither_schedule_nor_sensors(
    deployment_dir: DeploymentDir, tmp_path: Path
) -> None:
    account = {f"SNOWFLAKE_{name}": "x" for name in ("ACCOUNT", "USER", "ROLE", "WAREHOUSE", "DATABASE", "PASSWORD")}
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in account.items()), encoding="utf-8")
    home = {"DAGSTER_HOME": str(deployment_dir.directory)}
    for status, named in (("STOPPED", {}), ("RUNNING", {"RUN_ELT_DEPLOYMENT": "production"})):
        for kind, first in (("schedule", "daily"), ("sensor", "slack_alert")):
            listed = deployment_dir.run("dagster", kind, "list", "-m", "run_elt_dagster", env={**home, **named})
            found = dict(re.findall(rf"^{kind}: (\w+) \[(\w+)\]", listed.stdout, re.IGNORECASE | re.MULTILINE))
            assert first in found, listed.stdout + listed.stderr
            assert set(found.values()) == {status}, listed.stdout
