"""Failed runs of real processes reach Slack's stand-in, each once, whatever is killed meanwhile."""

import os
import re
import signal
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, Fault, SlackStandIn

CANARY = "canary-value-in-the-environment"
BROKEN = f"""/* elt
owner: team:analytics
elt */
select * from raw_data.session_timestamp where '{CANARY}' = 'x'
"""
SLOW = "select count(*) as n from range(100000) a, range(1000000) b where a.range * b.range % 7 = 3"
LAUNCH = """
mutation($e: ExecutionParams!) { launchRun(executionParams: $e) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
EVENTS = """
query($r: ID!) { logsForRun(runId: $r) { ... on EventConnection { events { ... on MessageEvent { message } } } } }
"""
SCHEDULE = """
query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule { scheduleState {
  status ticks { runIds } } } } }
"""
SELECTOR = {"repositoryLocationName": "run_elt_dagster", "repositoryName": "__repository__", "jobName": "RunELT_Alert"}


@pytest.fixture
def home(deployment_dir: DeploymentDir, slack: SlackStandIn) -> dict[str, str]:
    """The variables of a deployment whose only table has no rows."""
    declare(deployment_dir, BROKEN)
    return {
        "DAGSTER_HOME": str(deployment_dir.directory),
        "RUN_ELT_TABLES_DIR": str(deployment_dir.directory / "tables"),
        "RUN_ELT_WEBSERVER_URL": "http://127.0.0.1:3000",
        "RUN_ELT_SLACK_OWNERS": '{"team:analytics": "S0123"}',
        "SLACK_TOKEN": TOKEN,
        "SLACK_CHANNEL": CHANNEL,
        "SLACK_BASE_URL": slack.url,
        # Of no account: its value must come out nowhere.
        "RUN_ELT_EMBEDDED_DIR": str(deployment_dir.directory / "embedded"),
    }


def declare(deployment_dir: DeploymentDir, sql: str) -> None:
    path = deployment_dir.directory / "tables" / "analytics" / "orders.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sql, encoding="utf-8")


def webserver_of(deployment_dir: DeploymentDir, home: dict[str, str]) -> Webserver:
    port = free_port()
    deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=home)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    return webserver


def start_daemon(deployment_dir: DeploymentDir, home: dict[str, str]) -> subprocess.Popen[bytes]:
    return deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=home)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)


def launch(webserver: Webserver) -> str:
    answer = webserver.query(LAUNCH, e={"selector": SELECTOR, "runConfigData": {}})["launchRun"]
    return answer["run"]["runId"]


def materialize(deployment_dir: DeploymentDir, home: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return deployment_dir.run("dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster", env=home)


def tags(webserver: Webserver) -> dict[str, dict[str, str]]:
    return {run["runId"]: {tag["key"]: tag["value"] for tag in run["tags"]} for run in webserver.runs()}


def schedule_state(webserver: Webserver) -> dict[str, Any]:
    location = {"repositoryLocationName": "run_elt_dagster", "repositoryName": "__repository__"}
    return webserver.query(SCHEDULE, s={**location, "scheduleName": "daily"})["scheduleOrError"]["scheduleState"]


def assert_one_run_of_the_schedule(webserver: Webserver) -> None:
    """Assert that days of downtime gave one run, of the last midnight."""
    (run_id,) = [run for run, known in tags(webserver).items() if known.get("dagster/schedule_name") == "daily"]
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    known = tags(webserver)[run_id]
    assert (known["ELT"], known["dagster/run_key"]) == ("", midnight.isoformat())
    assert schedule_state(webserver) == {"status": "RUNNING", "ticks": [{"runIds": [run_id]}]}


def delivered(webserver: Webserver) -> list[str]:
    return sorted(run for run, known in tags(webserver).items() if known.get("run_elt/alert") == "delivered")


def worker_of(webserver: Webserver, run_id: str) -> int | None:
    """Return the process that executes a run, as its events name it, once its step has begun."""
    events = webserver.query(EVENTS, r=run_id)["logsForRun"]["events"]
    if not any("Started execution of step" in event.get("message", "") for event in events):
        return None
    pids = [re.search(r"pid: (\d+)", event.get("message", "")) for event in events]
    return next((int(pid[1]) for pid in pids if pid), None)


@pytest.mark.timeout(600)
def test_each_failure_is_heard_of_once_from_page_schedule_and_command_line_though_the_daemon_is_killed(
    deployment_dir: DeploymentDir, slack: SlackStandIn, home: dict[str, str]
) -> None:
    # Slack is down at first, which the retry after 60 s makes up for.
    slack.faults = [Fault(status=500, times=1)]
    # Before the first tick of any sensor, and with no daemon at all.
    assert materialize(deployment_dir, home).returncode == 1
    webserver = webserver_of(deployment_dir, home)
    daemon = start_daemon(deployment_dir, home)
    deployment_dir.wait_for("the alert of the command line", lambda: len(delivered(webserver)) == 1)
    assert len(slack.calls("chat.postMessage")) == 2
    launch(webserver)
    deployment_dir.wait_for("the alert of the page", lambda: len(delivered(webserver)) == 2)

    # Days of downtime, in which the command line fails; afterwards the schedule launches the one run that it missed.
    # The daemon notes the start of its look at the schedule first; killed between the two it would not know what it has looked at.
    deployment_dir.wait_for("the first look at the schedule", deployment_dir.schedule_was_evaluated)
    assert schedule_state(webserver) == {"status": "RUNNING", "ticks": []}
    kill(daemon)
    deployment_dir.date_schedule_back(days=3)
    assert materialize(deployment_dir, home).returncode == 1
    assert len(delivered(webserver)) == 2
    daemon = start_daemon(deployment_dir, home)
    deployment_dir.wait_for("the alerts of the downtime and of the schedule", lambda: len(delivered(webserver)) == 4)
    assert_one_run_of_the_schedule(webserver)

    deployment_dir.wait_for("the count", lambda: "Failed the same way 4 times" in slack.messages[0]["text"])
    assert sorted(slack.run_ids()) == sorted(tags(webserver))
    first, *repeats = slack.messages
    assert "launched by the command line" in str(first["blocks"])
    assert "<!subteam^S0123>" in first["text"]
    assert "Check row_count: got 0 rows" in first["text"]
    assert [message["thread_ts"] for message in repeats] == [first["ts"]] * 3

    declare(deployment_dir, "select 1 as n")
    assert materialize(deployment_dir, home).returncode == 0
    deployment_dir.wait_for("the recovery", lambda: "Recovered" in str(slack.messages[0]["blocks"]))
    deployment_dir.stop(daemon)
    assert CANARY not in slack.everything()
    assert TOKEN not in deployment_dir.logs() + slack.everything()


@pytest.mark.thorough
def test_killed_worker_is_heard_of(deployment_dir: DeploymentDir, slack: SlackStandIn, home: dict[str, str]) -> None:
    declare(deployment_dir, SLOW)
    webserver = webserver_of(deployment_dir, home)
    start_daemon(deployment_dir, home)
    run_id = launch(webserver)
    deployment_dir.wait_for("the run's start", lambda: [r["status"] for r in webserver.runs()] == ["STARTED"])
    pid = deployment_dir.wait_for("the run's process", lambda: worker_of(webserver, run_id))
    os.kill(pid, signal.SIGKILL)
    deployment_dir.wait_for("the alert", lambda: slack.run_ids() == [run_id])
    (message,) = slack.messages
    assert "The run's process was lost" in message["text"]
    assert "Unchanged, verified in Snowflake: there is no published table yet." in message["text"]
