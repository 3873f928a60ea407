"""Snowflake stops answering: how long anybody waits, what is said meanwhile, and what is known afterwards."""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from snowflake.connector.errors import Error

from run_elt_dagster.alerts.production import look_at_production
from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import NO_PATIENCE, RunContext, StatementRunner
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.wire import Mode, Wire, wire_to

# How long Snowflake may be silent in these tests, and what anything may take that a dozen tests on a busy machine slow down.
LIMIT, SOON = 4.0, 60.0
SILENCES = cases(("answers held", "503", "requests held"), usual=["answers held"])


class Account:
    """A server behind a wire, and what a run needs to reach it."""

    def __init__(self, directory: Path, resources: ExitStack) -> None:
        self.held, self.cut_at = threading.Event(), ""
        self.seconds = 0.0
        self.server = SimulatedServer(directory, hook=self._hook)
        self.server.start()
        resources.callback(self.server.stop)
        self.wire: Wire = resources.enter_context(wire_to(self.server.port))
        self.direct = self.resource(port=self.server.port, limit=SOON)
        self.sql("create schema analytics")

    def _hook(self, event: StatementEvent) -> None:
        if event.phase == "before" and self.seconds and "'slow'" in event.sql:
            self.held.set()
            event.statement.wait(self.seconds)
        if event.phase == "after" and self.cut_at and re.search(self.cut_at, event.sql):
            self.wire.set("answers held")

    def resource(self, *, port: int | None = None, limit: float = LIMIT) -> Snowflake:
        return Snowflake(
            account="embedded",
            user="svc",
            role="elt",
            warehouse="wh",
            database="run_elt",
            password=self.server.password,
            host="127.0.0.1",
            port=port or self.wire.port,
            protocol="http",
            answer_timeout_seconds=limit,
        )

    def sql(self, statement: str) -> tuple[tuple[Any, ...], ...]:
        with self.direct.session() as session:
            return session.execute(statement, tag={"stage": "test"}).rows

    def sent(self, pattern: str) -> list[str]:
        return [record.sql for record in self.server.history if re.search(pattern, record.sql)]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with ExitStack() as resources:
        yield Account(tmp_path, resources)


def declared(count: int = 1, **more: Any) -> Catalogue:
    return catalogue(
        [
            AnalyticsTable.model_validate(
                {"schema": "analytics", "table": f"t{number}", "sql": "select 1 as n", **more}
            )
            for number in range(count)
        ]
    )


def run(resource: Snowflake, tables: Catalogue, *, run_id: str = "8f3a01c2") -> list[TableOutcome]:
    with resource.session() as session:
        arguments = run_arguments(run_id, max_concurrent_tables=20, poll_seconds=0.05)
        return list(run_tables(session, tables, list(tables), **arguments))


def seconds_until_error(session: Any, sql: str = "select 1") -> tuple[float, StatementError]:
    started = time.monotonic()
    with pytest.raises(StatementError) as failed:
        session.execute(sql, tag={"stage": "build", "asset": "analytics/t0"})
    return time.monotonic() - started, failed.value


@pytest.mark.parametrize("silence", SILENCES)
def test_statement_without_an_answer_fails_after_the_limit_and_may_have_taken_effect(
    account: Account, silence: Mode
) -> None:
    with account.resource().session() as session:
        account.wire.set(silence)
        seconds, error = seconds_until_error(session)
    assert LIMIT <= seconds < SOON
    assert (error.answered, error.transient) == (False, False)
    assert "RUN_ELT_ANSWER_TIMEOUT_SECONDS" in str(error)


def test_statement_fails_after_the_limit_when_nobody_listens_any_more(account: Account) -> None:
    with account.resource().session() as session:
        account.wire.shutdown()
        account.wire.server_close()
        account.wire.set("503")
        seconds, error = seconds_until_error(session)
    assert LIMIT <= seconds < SOON
    assert not error.answered


def test_query_longer_than_the_limit_is_not_touched_while_snowflake_says_that_it_runs(account: Account) -> None:
    account.server.answer_within_seconds, account.seconds = LIMIT / 8, 2 * LIMIT
    with account.resource().session() as session:
        answer = session.execute("select 'slow' as n", tag={"stage": "build"})
    assert answer.rows == (("slow",),)
    assert answer.seconds >= 2 * LIMIT


def test_error_names_the_query_that_was_said_to_run_before_the_silence(account: Account) -> None:
    account.server.answer_within_seconds, account.seconds = LIMIT / 8, SOON
    with account.resource().session() as session, ThreadPoolExecutor(1) as pool:
        failing = pool.submit(seconds_until_error, session, "select 'slow'")
        assert account.held.wait(SOON)
        (statement,) = account.server.running()
        # The connector has heard once that it runs.
        deadline = time.monotonic() + SOON
        while not any(r.query_id for r in session._answers.silent(0)) and time.monotonic() < deadline:  # noqa: SLF001
            time.sleep(0.05)
        account.wire.set("requests held")
        _, error = failing.result(SOON)
        statement.cancel()
    assert error.query_id == statement.query_id


@pytest.mark.parametrize("silence", SILENCES)
def test_sign_in_and_close_end_after_the_limit(account: Account, silence: Mode) -> None:
    account.wire.set(silence)
    started = time.monotonic()
    with pytest.raises(Error), account.resource().session():
        pass
    assert time.monotonic() - started < SOON
    account.wire.set("mended")
    with account.resource().session() as session:
        session.execute("select 1", tag={})
        account.wire.set(silence)
        started = time.monotonic()
    assert time.monotonic() - started < SOON


def test_session_that_is_silent_is_replaced_by_another_one(account: Account) -> None:
    with account.resource().session() as session:
        account.wire.set("answers held")
        seconds_until_error(session)
        account.wire.set("mended")
        logins = account.server.logins
        assert session.execute("select 1", tag={}).rows == ((1,),)
        assert account.server.logins == logins + 1


@pytest.mark.parametrize(
    ("silence", "stage"),
    [
        ("answers held", "CLONE"),
        pytest.param("requests held", "select 1 as n", marks=pytest.mark.thorough),
        pytest.param("503", "CLONE", marks=pytest.mark.thorough),
    ],
)
def test_twenty_tables_go_on_and_are_published_once_when_snowflake_comes_back(
    account: Account, silence: Mode, stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("run_elt_dagster.snowflake.resource.REPORT_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(logging.getLogger("dagster"), "propagate", True)
    tables = declared(20)
    account.cut_at = stage
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, account.resource(limit=SOON), tables)
        account.wire.wait_until_held(3)
        account.cut_at = ""
        account.wire.set(silence)
        deadline = time.monotonic() + SOON
        while "Waiting for Snowflake" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
        account.wire.set("mended")
        outcomes = running.result(2 * SOON)
    assert [outcome.failure for outcome in outcomes] == [None] * 20
    assert len(account.sent("CLONE")) == 20
    assert len(account.sql("select table_name from information_schema.tables where table_schema = 'ANALYTICS'")) == 20
    assert re.search(
        r"Waiting for Snowflake's answer for \d+ s: \w+ of analytics\.t\d+ since \d\d:\d\d:\d\d UTC", caplog.text
    )
    assert "Snowflake has answered after" in caplog.text


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.thorough)])
def test_run_fails_with_the_truth_when_the_answers_to_its_exchanges_never_come(account: Account, count: int) -> None:
    account.cut_at = "CLONE"
    started = time.monotonic()
    outcomes = run(account.resource(), declared(count))
    seconds = time.monotonic() - started
    failures = [outcome.failure for outcome in outcomes]
    assert len(failures) == count
    assert all(failure is not None for failure in failures)
    unknown = [f for f in failures if f is not None and f.production.state == "unknown"]
    assert unknown
    assert all("8f3a01c2" in f.message for f in unknown)
    # Two requests, a sign-in and the closing of what is open, and not one after the other for each table.
    assert seconds < 6 * LIMIT + SOON


@pytest.mark.parametrize(("again", "limit"), cases(((False, 30.0), (True, 15.0)), usual=[(True, 15.0)]))
def test_interrupted_run_ends_and_says_what_is_unknown_when_snowflake_does_not_answer(
    account: Account, monkeypatch: pytest.MonkeyPatch, again: bool, limit: float
) -> None:
    if not again:
        monkeypatch.setattr("run_elt_dagster.publish.scheduler.END_SECONDS", 3.0)
        monkeypatch.setattr("run_elt_dagster.snowflake.session.CANCEL_SECONDS", 3.0)
    interrupted_at: list[float] = []

    def interrupt() -> None:
        account.wire.wait_until_held()
        interrupted_at.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
        if again:
            # The run is cancelling, which nobody answers.
            account.wire.wait_until_held(2)
            os.kill(os.getpid(), signal.SIGINT)

    account.cut_at = "CLONE"
    thread = threading.Thread(target=interrupt)
    thread.start()
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [analytics_assets(declared(3), PublishOptions(max_concurrent_tables=1, creates_schemas=True))],
            resources={"snowflake": account.resource(limit=900)},
            instance=instance,
            raise_on_error=False,
        )
        seconds = time.monotonic() - interrupted_at[0]
        thread.join(SOON)
        log = "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))
    assert not result.success
    assert seconds < limit
    assert re.search(r"analytics\.t0 .*Whether readers see the new table is unknown.*look for", log)
    # Whoever still waited would send it again now.
    requests = account.wire.requests
    account.wire.set("mended")
    time.sleep(1)
    assert account.wire.requests == requests
    assert len(account.sent("CLONE")) == 1


def test_look_at_production_says_nothing_when_snowflake_does_not_answer(account: Account) -> None:
    resource = account.resource()
    account.wire.set("answers held")
    started = time.monotonic()
    assert look_at_production(lambda: resource, declared(), ["analytics.t0"], logging.getLogger()) is None
    assert time.monotonic() - started < SOON


def test_rollback_says_that_what_readers_see_is_unknown_when_snowflake_does_not_answer(account: Account) -> None:
    tables = declared(publish="swap")
    for number in range(2):
        assert [o.failure for o in run(account.resource(limit=SOON), tables, run_id=f"{number}f3a01c2")] == [None]

    def rollback(session: Any) -> Rollback:
        runner = StatementRunner(session, RunContext("rollback"), threading.Event(), patience=NO_PATIENCE)
        return Rollback(runner, tables["analytics", "t0"], database="RUN_ELT")

    with account.resource(limit=SOON).session() as session:
        plan = rollback(session).plan()
    with account.resource().session() as session:
        account.cut_at = "SWAP"
        started = time.monotonic()
        with pytest.raises(StatementError, match="What readers see is unknown"):
            rollback(session).carry_out(plan)
        assert time.monotonic() - started < SOON
