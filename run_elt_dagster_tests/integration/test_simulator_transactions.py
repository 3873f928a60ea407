"""Transactions of the simulator: what they hold, what a failed statement does to them, and who waits for whom."""

from collections.abc import Iterator

import pytest

from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.simulator.server import ABORT_IDLE_SECONDS
from run_elt_dagster_tests.support.embedded import Account, Session, account, server, session

__all__ = ["account", "server", "session"]

AT_ONCE = {"LOCK_TIMEOUT": 0}


@pytest.fixture
def x(session: Session) -> Session:
    """A session with a table X of one row."""
    session.sql("create table x (a int) as select 1")
    return session


@pytest.fixture
def other(account: Account, x: Session) -> Session:
    """A session in the same schema that does not wait for a lock."""
    return account.session(schema=x.value("select current_schema()"), session_parameters=AT_ONCE)


@pytest.fixture
def hasty(server: SimulatedServer) -> Iterator[None]:
    server.abort_idle_seconds = 0
    yield
    server.abort_idle_seconds = ABORT_IDLE_SECONDS


def rows(session: Session) -> list[int]:
    return [row[0] for row in session.sql("select a from x order by a")]


def test_transaction_that_only_reads_blocks_no_writer_and_sees_what_is_committed(x: Session, other: Session) -> None:
    x.sql("begin")
    assert rows(x) == [1]
    other.sql("insert into x values (2)")
    assert rows(x) == [1, 2]
    x.sql("insert into x values (3)")
    assert other.refused("insert into x values (4)") == 625
    x.sql("commit")
    other.sql("insert into x values (4)")
    assert rows(x) == [1, 2, 3, 4]


def test_failed_statement_outside_a_transaction_holds_no_lock(x: Session, other: Session) -> None:
    x.refused("insert into x values ('two')")
    other.sql("insert into x values (2)")
    assert rows(x) == [1, 2]


def test_failed_first_change_leaves_an_open_transaction_without_a_lock(x: Session, other: Session) -> None:
    x.sql("begin")
    x.refused("insert into x values ('two')")
    other.sql("insert into x values (2)")
    x.sql("insert into x values (3)")
    assert rows(other) == [1, 2]
    x.sql("commit")
    assert rows(other) == [1, 2, 3]


@pytest.mark.parametrize(
    "failing", ["insert into x values ('three')", "select 1 / (a - a) from x", "select nope from x"]
)
def test_failed_statement_leaves_the_changes_before_it(x: Session, other: Session, failing: str) -> None:
    x.sql("begin")
    x.sql("insert into x values (?)", (2,))
    x.sql("insert overwrite into x select a * 10 from x")
    x.refused(failing)
    assert rows(x) == [10, 20]
    assert rows(other) == [1]
    assert other.refused("insert into x values (4)") == 625
    x.sql("update x set a = a + 1")
    x.sql("commit")
    assert rows(other) == [11, 21]


def test_changes_that_cannot_be_made_again_are_not_silently_lost(x: Session, other: Session) -> None:
    x.sql("begin")
    x.sql("insert into x select 2 + 0 * length(uuid_string())")
    x.refused("insert into x values ('three')")
    other.sql("insert into x values (4)")
    assert x.refused("select a from x") == 9999
    assert x.refused("insert into x values (5)") == 9999
    assert "All of it was rolled back" in str(x.error("commit"))
    assert rows(x) == [1, 4]


def test_transaction_is_aborted_on_an_error_when_asked_to(x: Session, other: Session) -> None:
    x.sql("alter session set transaction_abort_on_error = true")
    x.sql("begin")
    x.sql("insert into x values (2)")
    x.refused("select nope from x")
    other.sql("insert into x values (3)")
    assert x.refused("select a from x") == 9999
    x.sql("rollback")
    assert rows(x) == [1, 3]


def test_autocommit_is_switched_on_after_an_error(x: Session, other: Session) -> None:
    x.connection.autocommit(False)
    x.sql("insert into x values (2)")
    x.refused("insert into x values ('three')")
    x.sql("alter session set autocommit = true")
    assert rows(other) == [1, 2]
    x.sql("insert into x values (3)")
    assert rows(other) == [1, 2, 3]


@pytest.mark.usefixtures("hasty")
def test_session_that_has_left_its_changes_alone_gives_its_lock_to_who_waits(x: Session, other: Session) -> None:
    x.sql("begin")
    x.sql("insert into x values (2)")
    other.sql("alter session set lock_timeout = 60")
    other.sql("insert into x values (3)")
    error = x.error("insert into x values (4)")
    assert "requires a statement at least every 0 s" in str(error)
    x.sql("rollback")
    assert rows(x) == [1, 3]


def test_session_that_nobody_waits_for_keeps_its_changes(x: Session, other: Session) -> None:
    x.sql("begin")
    x.sql("insert into x values (2)")
    assert other.refused("insert into x values (3)") == 625
    x.sql("commit")
    assert rows(x) == [1, 2]


@pytest.mark.parametrize(
    "asking", ["show grants on table x", "select system$get_tag('t', 'x', 'table')", "show tables"]
)
@pytest.mark.parametrize("autocommit", [True, False])
def test_asking_about_a_table_commits_nothing(x: Session, other: Session, asking: str, autocommit: bool) -> None:
    x.connection.autocommit(autocommit)
    if autocommit:
        x.sql("begin")
    x.sql(asking)
    x.sql("insert into x values (2)")
    x.sql(asking)
    assert rows(other) == [1]
    x.sql("rollback")
    x.sql(asking)
    assert rows(x) == [1]
    other.sql("insert into x values (3)")


def test_clock_stands_still_from_the_first_change_of_a_transaction(x: Session) -> None:
    def now() -> object:
        return x.value("select current_timestamp()")

    x.sql("begin")
    assert now() != now()
    x.sql("insert into x values (2)")
    assert now() == now()
    x.sql("commit")
    assert now() != now()
