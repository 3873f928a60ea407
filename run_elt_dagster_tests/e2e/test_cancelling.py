"""Cancelling a run of real processes, each way there is: its query ends in Snowflake at once, and production stays."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import snowflake.connector

from run_elt_dagster.embedded import Endpoint
from run_elt_dagster.embedded.server import HOST, USER
from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster.orchestration.heartbeat import BEAT_SECONDS
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.embedded import account_variables

pytestmark = pytest.mark.thorough

LAUNCH = """
mutation($e: ExecutionParams!) { launchRun(executionParams: $e) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
TERMINATE = """
mutation($r: String!, $p: TerminateRunPolicy) { terminateRun(runId: $r, terminatePolicy: $p) { __typename ... on PythonError { message } } }
"""
SELECTOR = {"repositoryLocationName": "run_elt_dagster", "repositoryName": "__repository__", "jobName": "RunELT_Alert"}
# What cancelling may take until the query has ended. The connector itself only hears of it with its next request.
SECONDS = 10
# A run that was only marked as cancelled sees it at its next heartbeat.
FORCED_SECONDS = BEAT_SECONDS + SECONDS


class Account:
    """A Snowflake whose statements on `slow` never end by themselves, and the variables that lead there."""

    def __init__(self, directory: Path) -> None:
        self.server = SimulatedServer(directory, hook=self._hold)
        set_up_database(self.server.engine, "RUN_ELT", sample_data=False, log=print)
        self.environment = account_variables(self.server)

    def _hold(self, event: StatementEvent) -> None:
        if event.phase == "before" and "'slow'" in event.sql:
            event.statement.wait(300)

    def sql(self, statement: str) -> list[Any]:
        arguments = Endpoint(
            HOST, self.server.port, "http", "embedded", USER, self.server.password, "RUN_ELT"
        ).connection_args()
        with closing(snowflake.connector.connect(**arguments)) as connection, connection.cursor() as cursor:
            return list(cursor.execute(statement).fetchall())

    def held(self) -> set[str]:
        """Return the runs whose build is being executed."""
        running = [statement for statement in self.server.running() if "'slow'" in statement.sql]
        return {json.loads(statement.parameter("QUERY_TAG", ""))["run_id"] for statement in running}

    def errors(self, run_id: str) -> list[int | None]:
        return [r.error_code for r in self.server.history if run_id in r.query_tag and "'slow'" in r.sql]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    directory = tmp_path / "account"
    directory.mkdir()
    account = Account(directory)
    account.server.start()
    yield account
    account.server.stop()


@pytest.fixture
def home(deployment_dir: DeploymentDir, account: Account) -> dict[str, str]:
    path = deployment_dir.directory / "tables" / "analytics" / "orders.sql"
    path.parent.mkdir(parents=True)
    path.write_text("select 'slow' as n", encoding="utf-8")
    settings = (deployment_dir.directory / "dagster.yaml").read_text(encoding="utf-8")
    hasty = settings.replace("poll_interval_seconds: 20", "poll_interval_seconds: 1")
    assert hasty != settings
    (deployment_dir.directory / "dagster.yaml").write_text(hasty, encoding="utf-8")
    return {
        **account.environment,
        "DAGSTER_HOME": str(deployment_dir.directory),
        "RUN_ELT_TABLES_DIR": str(deployment_dir.directory / "tables"),
    }


def statuses(webserver: Webserver) -> dict[str, str]:
    return {run["runId"]: run["status"] for run in webserver.runs()}


def test_cancelled_run_ends_its_query_closes_its_sessions_and_leaves_production_alone(
    deployment_dir: DeploymentDir,
    account: Account,
    home: dict[str, str],
    record_property: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account.sql("create table analytics.orders comment = '[run_elt run before]' as select 'fast' as n")
    port = free_port()
    deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=home)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    # Afterwards: two processes that make the same empty database at once disturb each other.
    deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=home)

    seconds: list[float] = []

    def launch() -> str:
        answer = webserver.query(LAUNCH, e={"selector": SELECTOR, "runConfigData": {}})["launchRun"]
        assert "run" in answer, f"{answer}\n{deployment_dir.logs()}"
        run_id = answer["run"]["runId"]
        deployment_dir.wait_for("the query", lambda: run_id in account.held())
        return run_id

    def command_line(number: signal.Signals) -> str:
        before = account.held()
        process = deployment_dir.start(
            "dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster", env=home
        )
        (run_id,) = deployment_dir.wait_for("the query", lambda: account.held() - before)
        started = time.monotonic()
        process.send_signal(number)
        assert_ended(run_id, started)
        assert process.wait(60) == 1
        return run_id

    def assert_ended(run_id: str, started: float, limit: float = SECONDS) -> None:
        deployment_dir.wait_for("the query's end", lambda: run_id not in account.held(), limit)
        seconds.append(round(time.monotonic() - started, 1))
        deployment_dir.wait_for("its record", lambda: account.errors(run_id) == [604], SECONDS)

    def terminate(run_id: str, policy: str, limit: float) -> None:
        started = time.monotonic()
        answer: Any = webserver.query(TERMINATE, r=run_id, p=policy)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer
        assert_ended(run_id, started, limit)

    page, forced = launch(), launch()
    terminate(page, "SAFE_TERMINATE", SECONDS)
    terminate(forced, "MARK_AS_CANCELED_IMMEDIATELY", FORCED_SECONDS)
    interrupted = [command_line(number) for number in (signal.SIGINT, signal.SIGTERM)]
    # Run monitoring ends it as a failure, since a run that takes too long is one that somebody must hear of.
    late = launch()
    monkeypatch.chdir(deployment_dir.directory)
    monkeypatch.setenv("DAGSTER_HOME", str(deployment_dir.directory))
    with dg.DagsterInstance.get() as instance:
        instance.add_run_tags(late, {"dagster/max_runtime": "1"})
    assert_ended(late, time.monotonic())

    record_property("seconds until the query had ended", seconds)

    expected = dict.fromkeys((page, forced, *interrupted), "CANCELED") | {late: "FAILURE"}
    deployment_dir.wait_for("the ends of the runs", lambda: statuses(webserver) == expected, 30)
    deployment_dir.wait_for("the end of the sessions", lambda: account.server.open_sessions == 0, 30)
    statements = [record.sql for record in account.server.history]
    assert not any("CLONE" in sql for sql in statements)
    assert account.sql("select n from analytics.orders") == [("fast",)]
