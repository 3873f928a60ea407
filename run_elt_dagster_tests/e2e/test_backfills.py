"""Many partitions by a real daemon: a year of backfills that are cancelled and gone on with, and days that a downtime missed."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster.runs.partitions import RANGE_END, RANGE_START
from run_elt_dagster_tests.e2e.test_partitions import (
    MATERIALIZATIONS,
    STATUS,
    VERDICTS,
    asked,
    backfill,
    declare,
    in_parts,
    ranges,
)
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.embedded import Account, Gate, account_variables

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(2400)]

LOG = logging.getLogger("backfills")
YEAR = 2023
DAYS = [date(YEAR, 1, 1) + timedelta(days=number) for number in range(365)]
# The 101,520 sessions of the sample, by the minute, on 365 days.
SESSIONS = f"""select dateadd(day, mod(datediff(minute, '2019-05-01', t.ts), {len(DAYS)}), '{YEAR}-01-01')::date as day,
    c.channel, count(*) as sessions, count(distinct c.userid) as unique_users
from raw_data.session_timestamp as t join raw_data.user_session_channel as c on t.sessionid = c.sessionid
group by 1, 2"""
TABLE = (
    f"/* elt\nowner: team:a\npartitions: {{by: day, column: day, start: {YEAR}-01-01, end: {YEAR + 1}-01-01}}\n"
    f"primary_key: [day, channel]\nelt */\n{SESSIONS}"
)
CANCEL = """mutation($b: String!) { cancelPartitionBackfill(backfillId: $b) { __typename ... on PythonError { message } } }"""
OVER = {"CANCELED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"}
# A backfill is looked at every 30 s, and a day of a run is recorded in 0.05 to 0.2 s.
BACKFILL_SECONDS = 900


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """An account with the sample, for the processes of several runs."""
    server = SimulatedServer(tmp_path)
    set_up_database(server.engine, "RUN_ELT", sample_data=True, log=print)
    server.start()
    account = Account(server)
    with account.resources:
        yield account
    server.stop()


def started(deployment_dir: DeploymentDir, env: dict[str, str]) -> Webserver:
    """Start webserver and daemon. The history is there already: two processes that open a new one at once can break it."""
    port = free_port()
    deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=env)
    return webserver


def one_run_at_a_time(deployment_dir: DeploymentDir) -> None:
    path = deployment_dir.directory / "dagster.yaml"
    settings = path.read_text(encoding="utf-8")
    path.write_text(f"{settings}\nconcurrency:\n  runs:\n    max_concurrent_runs: 1\n", encoding="utf-8")


def days_of(months: Iterable[int]) -> list[str]:
    return [str(day) for month in months for day in DAYS if day.month == month]


def built(webserver: Webserver, table: str) -> set[str]:
    """Return the days that the page of a table shows as built."""
    found = ranges(asked(webserver, VERDICTS, table)["assetPartitionStatuses"])
    done = [(first, last) for first, last, status in found if status == "MATERIALIZED"]
    return {str(day) for day in DAYS if any(first <= str(day) <= last for first, last in done)}


class Backfills:
    """Backfills of one table, as a person at its page launches, watches and cancels them."""

    def __init__(self, deployment_dir: DeploymentDir, webserver: Webserver, table: str) -> None:
        self._place, self._webserver, self._table = deployment_dir, webserver, table

    def status(self, name: str) -> str:
        return self._webserver.query(STATUS, b=name)["partitionBackfillOrError"]["status"]

    def runs(self, name: str) -> list[str]:
        """Return the statuses of the runs of a backfill, sorted."""
        tags = {"key": "dagster/backfill", "value": name}
        return sorted(run["status"] for run in self._webserver.runs() if tags in run["tags"])

    def launch(self, days: Sequence[str]) -> str:
        return backfill(self._webserver, self._table, *days)

    def end(self, name: str) -> str:
        self._place.wait_for("the backfill", lambda: self.status(name) in OVER, BACKFILL_SECONDS)
        return self.status(name)

    def cancel(self, name: str) -> None:
        answer = self._webserver.query(CANCEL, b=name)["cancelPartitionBackfill"]
        assert answer["__typename"] == "CancelBackfillSuccess", answer
        assert self.end(name) == "CANCELED"

    def measured(self, what: str, days: Sequence[str]) -> list[str]:
        """Launch a backfill, wait for its success, and return the statuses of its runs. How long it took is logged."""
        began = time.monotonic()
        name = self.launch(days)
        assert self.end(name) == "COMPLETED_SUCCESS"
        LOG.info("%s: %.0f s until the daemon calls it done", what, time.monotonic() - began)
        return self.runs(name)


def test_year_is_cancelled_in_the_middle_and_gone_on_with_as_one_run_and_as_twelve(
    deployment_dir: DeploymentDir, account: Account
) -> None:
    one_run_at_a_time(deployment_dir)
    env = {
        **account_variables(account.server),
        **declare(deployment_dir, one=TABLE, twelve=TABLE),
        "DAGSTER_HOME": str(deployment_dir.directory),
    }
    webserver = started(deployment_dir, env)
    reader = account.session()
    truth = reader.sql(f"select * from ({SESSIONS}) order by 1, 2")
    assert sorted({row[0] for row in truth}) == DAYS

    def rows(table: str) -> list[tuple[Any, ...]]:
        return reader.sql(f"select * from analytics.{table} order by 1, 2")

    def held(literal: str) -> Gate:
        gate = Gate(literal)
        account.server.hook = gate
        return gate

    # One run of all days, cancelled while its candidate is being built, and once more.
    one, everything = Backfills(deployment_dir, webserver, "one"), [str(day) for day in DAYS]
    gate = held("CREATE OR REPLACE TABLE")
    name = one.launch(everything)
    deployment_dir.wait_for("the build", gate.reached.is_set)
    one.cancel(name)
    assert one.runs(name) == ["CANCELED"]
    account.server.hook = None
    assert reader.sql("show tables like 'ONE' in schema analytics") == []
    assert built(webserver, "one") == set()
    assert one.measured("365 days as one run", everything) == ["SUCCESS"]
    assert rows("one") == truth

    # The odd months are six runs. The third one is held in its build, and the others wait in the queue.
    twelve, odd = Backfills(deployment_dir, webserver, "twelve"), days_of(range(1, 13, 2))
    gate = held(f">= '{YEAR}-05-01'::DATE")
    name = twelve.launch(odd)
    deployment_dir.wait_for("the third build", gate.reached.is_set, BACKFILL_SECONDS)
    twelve.cancel(name)
    assert twelve.runs(name) == [*["CANCELED"] * 4, *["SUCCESS"] * 2]
    account.server.hook = None
    there = built(webserver, "twelve")
    assert there == set(days_of([1, 3]))
    assert rows("twelve") == [row for row in truth if row[0].month in (1, 3)]
    assert twelve.measured("four months, a run each", sorted(set(odd) - there)) == ["SUCCESS"] * 4
    assert twelve.measured("six months, a run each", days_of(range(2, 13, 2))) == ["SUCCESS"] * 6
    assert rows("twelve") == truth
    assert built(webserver, "twelve") == set(everything)
    # No run has left a candidate behind for good: those of the cancelled runs are dropped after hours.
    assert len(reader.sql("show tables like 'TEMP_%' in schema analytics")) <= 2


def test_days_missed_in_a_downtime_are_caught_up_and_whole_tables_run_once(deployment_dir: DeploymentDir) -> None:
    today = datetime.now(UTC).date()

    def ago(days: int) -> str:
        return str(today - timedelta(days=days))

    daily = "select dateadd(day, -seq4(), current_date) as at, seq4() as n from table(generator(rowcount => 20))"
    table = in_parts("day", daily).replace("2024-01-01", ago(9))
    env = {
        **declare(deployment_dir, days=table, total="select count(*) as n from analytics.days", whole="select 1 as n"),
        "DAGSTER_HOME": str(deployment_dir.directory),
    }
    command = ("dagster", "asset", "materialize", "-m", "run_elt_dagster", "--select", "analytics/days")
    for chosen in (("--partition-range", f"{ago(9)}...{ago(7)}"), ("--partition", ago(5))):
        run = deployment_dir.run(*command, *chosen, env=env)
        assert run.returncode == 0, run.stderr
    webserver = started(deployment_dir, env)
    daemon = deployment_dir.processes[-1]
    deployment_dir.wait_for("the first look at the schedule", deployment_dir.schedule_was_evaluated)
    deployment_dir.stop(daemon)
    assert by_schedule(webserver) == []

    deployment_dir.date_schedule_back(days=4)
    deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=env)

    def ended() -> bool:
        return [status for status, _ in by_schedule(webserver)] == ["SUCCESS"] * 2

    deployment_dir.wait_for("the runs of the schedule", ended)
    assert sorted(part for _, part in by_schedule(webserver)) == [(ago(6), ago(6)), (ago(4), ago(1))]
    found = asked(webserver, VERDICTS, "days")["assetPartitionStatuses"]
    assert ranges(found) == [(ago(9), ago(1), "MATERIALIZED")]
    for name in ("total", "whole"):
        assert len(asked(webserver, MATERIALIZATIONS, name)["assetMaterializations"]) == 1, name
    shown = deployment_dir.run("run-elt", "show", "--partitions", "analytics.days", env=env)
    assert shown.stdout.startswith("analytics.days: 9 partitions published"), shown.stderr


def by_schedule(webserver: Webserver) -> list[tuple[str, tuple[str | None, str | None]]]:
    """Return status, first and last day of the runs that the schedule has launched."""
    tags = [(run["status"], {tag["key"]: tag["value"] for tag in run["tags"]}) for run in webserver.runs()]
    return [
        (status, (each.get(RANGE_START), each.get(RANGE_END)))
        for status, each in tags
        if each.get("dagster/schedule_name") == "daily"
    ]
