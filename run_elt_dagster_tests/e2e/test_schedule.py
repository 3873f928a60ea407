"""The daemon launches the schedule's run; days of downtime give one run, not several."""

import os
import signal
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

DAEMON = ("dagster-daemon", "run", "-w", "workspace.yaml")
STATE = """
query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule { scheduleState {
  status ticks { status runIds } typeSpecificData { ... on ScheduleData { startTimestamp } } } } } }
"""
SELECTOR = {"repositoryLocationName": "run_elt_dagster", "repositoryName": "__repository__", "scheduleName": "daily"}


def state(webserver: Webserver) -> dict[str, Any]:
    return webserver.query(STATE, s=SELECTOR)["scheduleOrError"]["scheduleState"]


@pytest.fixture
def webserver(deployment_dir: DeploymentDir) -> Webserver:
    port = free_port()
    home = {"DAGSTER_HOME": str(deployment_dir.directory)}
    deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=home)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    return webserver


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)


def test_schedule_runs_by_default_and_days_of_downtime_give_one_run(
    deployment_dir: DeploymentDir, webserver: Webserver
) -> None:
    home = {"DAGSTER_HOME": str(deployment_dir.directory)}
    daemon = deployment_dir.start(*DAEMON, env=home)
    deployment_dir.wait_for(
        "the schedule's first evaluation", lambda: state(webserver)["typeSpecificData"].get("startTimestamp")
    )
    # The daemon notes its start first; killed between the two it would not know what it has looked at.
    deployment_dir.wait_for("the end of that evaluation", deployment_dir.schedule_was_evaluated)
    assert state(webserver)["status"] == "RUNNING"
    assert webserver.runs() == []
    kill(daemon)
    deployment_dir.date_schedule_back(days=3)

    deployment_dir.start(*DAEMON, env=home)
    deployment_dir.wait_for("the run", lambda: [run["status"] for run in webserver.runs()] == ["SUCCESS"])
    (run,) = webserver.runs()
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert run["jobName"] == "RunELT_Alert"
    assert tags["dagster/schedule_name"] == "daily"
    assert tags["ELT"] == ""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert tags["dagster/run_key"] == midnight.isoformat()
    assert [tick["runIds"] for tick in state(webserver)["ticks"]] == [[run["runId"]]]
