"""Transactions, lost answers, cancelling and time limits of a session."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from run_elt_dagster.snowflake.session import ConnectorSession, Session, StatementError
from run_elt_dagster_tests.support.embedded import Background
from run_elt_dagster_tests.support.snowflake_account import METHODS, OwnTable, built

CANCELLED, TIMED_OUT = 604, 630
# Every pair of a million and a million: hours for any warehouse, and nothing that a join could make shorter.
ENDLESS = (
    "select count(*) from (select seq4() as n from table(generator(rowcount => 1000000))) a, "
    "(select seq4() as n from table(generator(rowcount => 1000000))) b where sqrt(a.n + b.n) = 7.5"
)


def failure(session: Session) -> StatementError:
    with pytest.raises(StatementError) as caught:
        session.execute(ENDLESS, tag={"stage": "build"})
    return caught.value


def test_ddl_commits_what_came_before_it(table: OwnTable) -> None:
    session = table.schema.session()
    session.sql(f"create table {table.name} (v int)")
    session.sql("begin")
    session.sql(f"insert into {table.name} values (1)")
    session.sql(f"create table {table.name}_other (v int)")
    session.sql("rollback")
    assert table.seen(session) == (1, 1, 1)
    assert session.value(f"select count(*) from {table.name}_other") == 0


def test_publishing_in_a_transaction_cannot_be_rolled_back(table: OwnTable) -> None:
    session = table.schema.session()
    session.sql(f"create table {table.name} as select 1 as v")
    session.sql(f"create table {table.name}_other as select 2 as v")
    session.sql("begin")
    session.sql(f"alter table {table.name} swap with {table.name}_other")
    session.sql("rollback")
    assert table.seen(session) == (1, 2, 2)


def test_statement_whose_answer_is_lost_is_executed_once(table: OwnTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connector asks again with the same request id, for which Snowflake gives the answer that it has."""
    from snowflake.connector.vendored import requests  # noqa: PLC0415 - half a second to import

    session = table.schema.session()
    session.sql(f"create table {table.name} (v int)")
    answer: Callable[..., Any] = requests.Session.request
    lost: list[str] = []

    def lose_first(self: Any, method: str, url: str, **options: Any) -> Any:
        response = answer(self, method=method, url=url, **options)
        if "/queries/v1/query-request" in url:
            lost.append(url.partition("requestId=")[2].partition("&")[0])
            if len(lost) == 1:
                raise requests.exceptions.ConnectionError("the answer is lost on its way")
        return response

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "request", lose_first)
        session.sql(f"insert into {table.name} values (1)")
    assert len(lost) >= 2
    assert len(set(lost)) == 1
    assert table.seen(session) == (1, 1, 1)


@pytest.mark.parametrize("publish", METHODS)
def test_exchange_whose_answer_is_lost_is_done_once(
    table: OwnTable, publish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second swap would bring the old table back."""
    from snowflake.connector.vendored import requests  # noqa: PLC0415 - half a second to import

    table.publish("0000000A", built(3, 1, publish=publish))
    answer: Callable[..., Any] = requests.Session.request
    is_exchange = threading.Event()
    lost: list[str] = []

    def lose_first(self: Any, method: str, url: str, **options: Any) -> Any:
        response = answer(self, method=method, url=url, **options)
        if "/queries/v1/query-request" in url and is_exchange.is_set():
            is_exchange.clear()
            lost.append(url)
            raise requests.exceptions.ConnectionError("the answer is lost on its way")
        return response

    def note(sql: str, _: Any) -> None:
        if any(words in sql for words in ("COPY GRANTS", "SWAP WITH", "INSERT OVERWRITE")):
            is_exchange.set()

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "request", lose_first)
        table.publish("0000000B", built(5, 2, publish=publish), before=note)
    assert len(lost) == 1
    session = table.schema.session()
    assert table.seen(session) == (5, 2, 2)
    marker = table.marker(session)
    assert marker is not None
    assert marker.run_id == "0000000B"


def test_second_session_cancels_what_runs_in_the_first(table: OwnTable) -> None:
    resource = table.schema.account.resource
    with resource.connect() as connection, ConnectorSession(connection, resource.connect) as session:
        running = Background(lambda: failure(session))
        deadline = time.monotonic() + 120
        while not running.done and time.monotonic() < deadline:
            # It may not have arrived yet.
            session.cancel()
            threading.Event().wait(1)
        error = running.result(1)
    assert (error.errno, error.answered, error.transient) == (CANCELLED, True, False)


def test_statement_ends_by_its_time_limit_and_is_not_tried_again(table: OwnTable) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    limited = table.schema.account.resource.model_copy(update={"statement_timeout_seconds": 2})
    with limited.session() as own:
        error = failure(own)
    assert (error.errno, error.transient) == (TIMED_OUT, False)
    assert table.seen(session) == (3, 1, 1)


def test_tag_of_a_statement_is_that_statements_alone(table: OwnTable) -> None:
    """The account's own history has it, quotes and all, and the next statement of the session has its own."""
    tag = {"run_id": f"{table.name} größe", "asset": 'a/"x"', "stage": "audit", "job": ""}
    with table.schema.account.resource.session() as session:
        session.execute("select 1", tag=tag)
        session.execute("select 2", tag={"stage": "audit"})
    assert table.schema.history(tag["run_id"], until=1) == [("audit", "select 1")]
