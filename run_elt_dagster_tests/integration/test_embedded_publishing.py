"""What readers see while a table is published over and over."""

import threading
from contextlib import closing

import pytest
import snowflake.connector

from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.embedded import Account, Background, Session, account, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

PUBLISHES = effort(usual=9, thorough=200)
ROWS = 5
METHODS = (
    "create or replace table x clone y copy grants copy tags",
    "alter table x swap with y",
    "insert overwrite into x (v, i) select v, i from y",
)


class Reader:
    """A session of its own that reads until it is told to stop, and keeps what nobody should ever see."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        self._reading = Background(self._read)
        self.reads = 0

    def _read(self) -> list[object]:
        wrong: list[object] = []
        while not self._stop.is_set():
            rows = self._session.sql("select count(*), count(distinct i), min(v), max(v) from x")
            count, distinct, first, last = rows[0]
            if (count, distinct) != (ROWS, ROWS) or first != last:
                wrong.append(rows)
            listed = self._session.sql(
                "select table_type, row_count from information_schema.tables "
                "where table_schema = current_schema() and table_name = 'X'"
            )
            if listed != [("BASE TABLE", ROWS)]:
                wrong.append(listed)
            self.reads += 1
            # One process makes all of this: publishing needs its turn.
            self._stop.wait(0.02)
        return wrong

    def stop(self) -> list[object]:
        self._stop.set()
        return self._reading.result()


def build(version: int) -> str:
    return f"create or replace table y as select {version}::int as v, i from x"


def test_reader_never_sees_a_table_missing_empty_or_mixed(account: Account, session: Session) -> None:
    session.sql("create table x as select 0::int as v, column1 as i from values (1), (2), (3), (4), (5)")
    session.sql(build(1))
    reader = Reader(account.session(schema=session.value("select current_schema()")))
    for number in range(PUBLISHES):
        session.sql(METHODS[number % len(METHODS)])
        if number % 10 == 0:
            session.sql(build(number))
    assert reader.stop() == []
    assert reader.reads > PUBLISHES / 4


def test_reader_never_sees_half_of_a_transaction(account: Account, session: Session) -> None:
    session.sql("create table x as select 0::int as v, column1 as i from values (1), (2), (3), (4), (5)")
    reader = Reader(account.session(schema=session.value("select current_schema()")))
    for number in range(PUBLISHES):
        session.sql(build(number))
        session.sql("begin")
        session.sql("delete from x where i < 3")
        session.sql("delete from x where i >= 3")
        session.sql("insert into x (v, i) select v, i from y")
        session.sql("commit")
    assert reader.stop() == []
    assert reader.reads > PUBLISHES / 4


@pytest.fixture
def x(session: Session) -> Session:
    session.sql("create table x as select 1 as a")
    return session


@pytest.fixture
def other(account: Account, x: Session) -> Session:
    """A session that does not wait to write."""
    session = account.session(schema=x.value("select current_schema()"))
    session.sql("alter session set lock_timeout = 0, transaction_abort_on_error = true")
    return session


@pytest.mark.parametrize(("ending", "seen"), [("commit", [(2,)]), ("rollback", [(1,)])])
def test_transaction_is_seen_as_a_whole_or_not_at_all(x: Session, other: Session, ending: str, seen: object) -> None:
    for _ in range(2):
        # A second BEGIN changes nothing.
        x.sql("begin transaction name one")
    assert x.sql("update x set a = 2") == [(1, 0)]
    assert (x.sql("select a from x"), other.sql("select a from x")) == ([(2,)], [(1,)])
    for waits in ("insert into x values (3)", "begin", "create table y (a int)"):
        assert other.refused(waits) == 625
    x.sql(ending)
    assert other.sql("select a from x") == seen
    other.sql("insert into x values (3)")


@pytest.mark.parametrize("failing", ["select 1 / (a - a) from x", "insert into x values ('three')", "select nope"])
def test_failed_statement_leaves_nothing_of_its_transaction(x: Session, other: Session, failing: str) -> None:
    x.sql("begin")
    x.sql("update x set a = 2")
    x.refused(failing)
    assert x.refused("insert into x values (2)") == 9999
    assert x.refused("commit") == 9999
    assert x.sql("select a from x") == [(1,)]
    other.sql("insert into x values (3)")


def test_ddl_and_autocommit_commit_what_is_open(x: Session, other: Session) -> None:
    for number, ddl in enumerate(
        (
            "alter session set autocommit = true",
            "create table y (a int)",
            "comment on table x is 'c'",
            "alter table x add column b int",
        )
    ):
        x.sql("begin")
        x.sql("update x set a = a + 1")
        x.sql(ddl)
        assert other.value("select max(a) from x") == number + 2
        x.sql("rollback")
    assert other.value("select max(a) from x") == 5


def test_session_that_ends_in_a_transaction_leaves_nothing_of_it(account: Account, x: Session, other: Session) -> None:
    arguments = {**account.arguments, "schema": x.value("select current_schema()")}
    with closing(snowflake.connector.connect(**arguments)) as connection:
        lost = Session(connection)
        lost.sql("begin")
        lost.sql("delete from x")
    other.sql("insert into x values (2)")
    assert other.sql("select a from x order by a") == [(1,), (2,)]


def test_sessions_that_write_at_once_do_not_disturb_each_other(account: Account, session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql("create table log (writer int)")

    def write(number: int) -> None:
        other = account.session(schema=schema)
        for version in range(10):
            other.sql(f"create or replace table t{number} as select {version} as v")
            other.sql(f"create or replace table p{number} clone t{number}")
            other.sql(f"insert into log values ({number})")
            other.sql(f"update log set writer = writer where writer = {number}")

    for call in [Background(lambda number=number: write(number)) for number in range(3)]:
        call.result()
    assert session.value("select count(*) from log") == 30
    assert [session.value(f"select v from p{number}") for number in range(3)] == [9, 9, 9]
