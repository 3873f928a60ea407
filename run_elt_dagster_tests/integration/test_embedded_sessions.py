import threading
import time
from collections.abc import Callable

import pytest
import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import DatabaseError, OperationalError, ProgrammingError

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.embedded.server import ANSWERS_KEPT
from run_elt_dagster_tests.simulator import DropAnswerError, SimulatedServer, StatementEvent
from run_elt_dagster_tests.simulator.query_history import StatementRecord
from run_elt_dagster_tests.simulator.sessions import SimulatedStatement
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import Account, Background, Gate, Session, account, server, session

__all__ = ["account", "server", "session"]


@pytest.fixture
def endless(session: Session) -> str:
    """A query that DuckDB would work on for days."""
    session.sql("create table n as select seq4() as n from table(generator(rowcount => 10000))")
    session.sql("create table many as select a.n from n as a, n as b limit 1000000")
    return "select count(*) from many a, many b, many c where a.n + b.n = c.n"


def record(server: SimulatedServer, sql: str) -> StatementRecord:
    (found,) = [record for record in server.history if record.sql == sql]
    return found


def until_running(server: SimulatedServer, sql: str) -> str:
    """Return a statement's query id as soon as DuckDB works on it."""
    return until(server, lambda statement: statement.sql == sql and statement.is_in_duckdb).query_id


def until(server: SimulatedServer, condition: Callable[[SimulatedStatement], bool]) -> SimulatedStatement:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for statement in server.running():
            if condition(statement):
                return statement
        threading.Event().wait(0.01)
    raise AssertionError("no statement is where it should be")


def test_session_has_a_number_that_it_knows_itself(session: Session) -> None:
    assert isinstance(session.connection.session_id, int)
    assert session.value("select current_session()") == str(session.id)


def test_wrong_password_is_refused_at_once(account: Account) -> None:
    with pytest.raises(DatabaseError, match="Incorrect username or password") as failure:
        account.session(password="guessed")
    assert failure.value.errno == 390100 or "390100" in str(failure.value)


def test_login_is_counted(account: Account) -> None:
    before = account.server.logins
    account.session()
    assert account.server.logins == before + 1


def test_statement_is_recorded_with_its_tag_and_outcome(account: Account, session: Session) -> None:
    session.sql("select 'tagged'", _statement_params={"QUERY_TAG": "one"})
    session.refused("select 'tagged' + nope")
    done, failed = record(account.server, "select 'tagged'"), record(account.server, "select 'tagged' + nope")
    assert (done.query_tag, done.session_id, done.role, done.error_code) == ("one", session.id, "SYSADMIN", None)
    assert (failed.query_tag, failed.error_code) == ("", 904)
    assert done.seconds >= 0
    assert done.started_at.tzinfo is not None


def test_query_id_is_the_one_of_the_record(account: Account, session: Session) -> None:
    with session.connection.cursor() as cursor:
        cursor.execute("select 'id'")
        assert record(account.server, "select 'id'").query_id == cursor.sfqid
        with pytest.raises(ProgrammingError) as failure:
            cursor.execute("select 'id' + nope")
    assert failure.value.sfqid == record(account.server, "select 'id' + nope").query_id


def test_tag_of_the_session_holds_until_it_is_unset(account: Account) -> None:
    session = account.session(session_parameters={"QUERY_TAG": "login"})
    session.sql("select 't1'")
    session.sql("alter session set query_tag = 'it''s'")
    session.sql("select 't2'")
    session.sql("alter session unset query_tag")
    session.sql("select 't3'")
    assert [record(account.server, f"select 't{n}'").query_tag for n in (1, 2, 3)] == ["login", "it's", ""]


@pytest.mark.parametrize("change", ["set timezone = 'Europe/Berlin'", "set week_start = 1", "unset timezone"])
def test_parameter_of_the_session_without_its_effect_is_refused(session: Session, change: str) -> None:
    error = session.error(
        f"alter session {change}, query_tag = 'x'" if "unset" not in change else f"alter session {change}"
    )
    assert (error.errno, "cannot apply this session parameter" in str(error)) == (2, True)


def test_rolled_back_change_never_was(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("begin")
    session.sql("insert into x values (2)")
    session.sql("rollback")
    assert session.sql("select a from x") == [(1,)]


def test_other_sessions_see_a_transaction_when_it_is_committed(account: Account, session: Session) -> None:
    session.sql("create table x as select 1 as a")
    other = account.session(schema=session.value("select current_schema()"))
    session.sql("begin")
    session.sql("insert into x values (2)")
    assert other.value("select count(*) from x") == 1
    session.sql("commit")
    assert other.value("select count(*) from x") == 2


def test_ddl_commits_the_transaction_before_it(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("begin")
    session.sql("insert into x values (2)")
    session.sql("create table y as select 1 as a")
    session.sql("rollback")
    assert session.value("select count(*) from x") == 2


def test_session_without_autocommit_commits_when_told_to(account: Account, session: Session) -> None:
    session.sql("create table x as select 1 as a")
    other = account.session(autocommit=False, schema=session.value("select current_schema()"))
    other.sql("insert into x values (2)")
    assert session.value("select count(*) from x") == 1
    other.connection.commit()
    assert session.value("select count(*) from x") == 2


def test_autocommit_is_switched_in_the_session(account: Account, session: Session) -> None:
    session.sql("create table x as select 1 as a")
    other = account.session(schema=session.value("select current_schema()"))
    for _ in range(2):
        session.connection.autocommit(False)
        session.sql("create view v as select 1 as a")
        session.sql("drop view v")
        session.sql("insert into x values (2)")
        assert other.value("select count(*) from x") == 1
        session.connection.rollback()
        session.connection.autocommit(True)
    session.sql("insert into x values (2)")
    assert other.value("select count(*) from x") == 2


def test_writer_waits_for_a_transaction_and_reader_does_not(account: Account, session: Session) -> None:
    session.sql("create table x (a int) as select 1")
    other = account.session(schema=session.value("select current_schema()"))
    session.sql("begin")
    session.sql("update x set a = 2")
    writing = Background(lambda: other.sql("update x set a = a + 10"))
    assert account.session(schema=session.value("select current_schema()")).value("select a from x") == 1
    assert not writing.done
    session.sql("commit")
    writing.result()
    assert session.value("select a from x") == 12


def test_writer_does_not_wait_longer_than_it_may(account: Account, session: Session) -> None:
    session.sql("create table x as select 1 as a")
    other = account.session(schema=session.value("select current_schema()"), session_parameters={"LOCK_TIMEOUT": 1})
    session.sql("begin")
    session.sql("update x set a = 3")
    assert other.refused("update x set a = 2") == 625
    session.sql("rollback")


def test_closed_session_gives_up_its_transaction(account: Account, session: Session) -> None:
    session.sql("create table x (a int) as select 1")
    other = account.session(schema=session.value("select current_schema()"))
    other.sql("begin")
    other.sql("update x set a = 2")
    other.connection.close()
    session.sql("update x set a = a + 10")
    assert session.value("select a from x") == 11


def test_threads_share_a_session(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    calls = [Background(lambda n=n: session.sql(f"create table t{n} as select a + {n} as a from x")) for n in range(8)]
    for call in calls:
        call.result()
    assert [session.value(f"select a from t{n}") for n in range(8)] == list(range(1, 9))


@pytest.mark.parametrize("how", ["all queries of the session", "one query", "the connector"])
def test_running_query_is_cancelled(account: Account, session: Session, endless: str, how: str) -> None:
    other = account.session()
    running = Background(lambda: session.sql(endless, timeout=2 if how == "the connector" else None))
    # Nobody says when the connector's own time is over: before DuckDB begins, or after.
    query_id = "" if how == "the connector" else until_running(account.server, endless)
    if how == "one query":
        assert "terminated" in other.value(f"select system$cancel_query('{query_id}')")
    elif how == "all queries of the session":
        assert other.value(f"select system$cancel_all_queries({session.id})") == "1 statements canceled."
    with pytest.raises(ProgrammingError) as failure:
        running.result()
    assert failure.value.errno == 604
    assert session.value("select 1") == 1


def test_query_is_cancelled_while_it_waits_for_a_lock(account: Account, session: Session) -> None:
    session.sql("create table x as select 1 as a")
    waiting = account.session(schema=session.value("select current_schema()"))
    session.sql("begin")
    session.sql("update x set a = 3")
    running = Background(lambda: waiting.sql("update x set a = 2"))
    until(account.server, lambda statement: statement.session.session_id == waiting.id)
    session.sql(f"select system$cancel_all_queries({waiting.id})")
    with pytest.raises(ProgrammingError, match="SQL execution canceled"):
        running.result()
    session.sql("rollback")


def test_query_is_cancelled_in_a_hook(account: Account, session: Session) -> None:
    gate = Gate("held")
    with account.hooked(gate):
        running = Background(lambda: session.sql("select 'held'"))
        assert gate.reached.wait(PATIENCE_SECONDS)
        assert account.session().value(f"select system$cancel_all_queries({session.id})") == "1 statements canceled."
        with pytest.raises(ProgrammingError, match="SQL execution canceled"):
            running.result()


def test_nothing_is_cancelled_where_nothing_runs(account: Account, session: Session) -> None:
    assert account.session().value(f"select system$cancel_all_queries({session.id})") == "0 statements canceled."


def test_statement_ends_when_its_time_is_over(session: Session, endless: str) -> None:
    error = session.error(endless, _statement_params={"STATEMENT_TIMEOUT_IN_SECONDS": 1})
    assert error.errno == 630
    assert "timeout of 1 second(s)" in str(error)


def test_cancelled_build_leaves_nothing_and_a_session_that_goes_on(
    account: Account, session: Session, endless: str
) -> None:
    build = f"create table x as {endless}"
    # Several times, since the cancelling may meet the rolling back as well.
    for _ in range(10):
        running = Background(lambda: session.sql(build))
        until_running(account.server, build)
        account.session().sql(f"select system$cancel_all_queries({session.id})")
        with pytest.raises(ProgrammingError):
            running.result()
        assert session.refused("select * from x") == 2003


def test_hook_decides_what_a_statement_answers(account: Account, session: Session) -> None:
    def fail(event: StatementEvent) -> None:
        if event.phase == "before" and "fails" in event.sql:
            raise SqlError("Warehouse budget exceeded", errno=90073, sqlstate="22000")

    with account.hooked(fail):
        assert session.refused("create table fails as select 1 as a") == 90073
    assert session.refused("select * from fails") == 2003


def test_lost_answer_does_not_execute_the_statement_again(account: Account, session: Session) -> None:
    session.sql("create table x (a int)")
    lost: list[int] = []

    def lose_first(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("insert") and event.attempt == 1:
            lost.append(event.attempt)
            raise DropAnswerError

    with account.hooked(lose_first):
        session.sql("insert into x values (1)")
    assert lost == [1]
    assert session.value("select count(*) from x") == 1


def test_lost_answer_is_kept_while_others_send_many_statements(account: Account, session: Session) -> None:
    session.sql("create table x (a int)")
    other, lost = account.session(), list[int]()

    def lose_first(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("insert") and not lost:
            lost.append(event.attempt)
            for _ in range(ANSWERS_KEPT + 1):
                other.sql("select 1")
            raise DropAnswerError

    with account.hooked(lose_first):
        session.sql("insert into x values (1)")
    assert session.value("select count(*) from x") == 1


def test_answer_that_never_comes_is_no_answer(account: Account, session: Session) -> None:
    session.sql("create table x (a int)")
    impatient = account.session(schema=session.value("select current_schema()"), network_timeout=1)

    def lose_all(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("insert"):
            raise DropAnswerError

    with account.hooked(lose_all), pytest.raises(OperationalError):
        impatient.sql("insert into x values (1)")
    # The server may need longer than the connector waits.
    while session.value("select count(*) from x") == 0:
        threading.Event().wait(0.01)
    assert session.value("select count(*) from x") == 1


def test_long_query_is_answered_in_instalments(account: Account, session: Session) -> None:
    gate = Gate("slow")
    account.server.answer_within_seconds = 0.05
    try:
        with account.hooked(gate):
            running = Background(lambda: session.value("select 'slow'"))
            assert gate.reached.wait(PATIENCE_SECONDS)
            threading.Event().wait(0.3)
            gate.opened.set()
            assert running.result() == "slow"
    finally:
        account.server.answer_within_seconds = 40.0


def test_asynchronous_query_is_fetched_by_its_id(account: Account, session: Session) -> None:
    gate = Gate("async")
    with account.hooked(gate), session.connection.cursor() as cursor:
        cursor.execute_async("select 'async' as a")
        query_id = cursor.sfqid
        assert gate.reached.wait(PATIENCE_SECONDS)
        assert session.connection.is_still_running(session.connection.get_query_status(query_id))
        gate.opened.set()
        cursor.get_results_from_sfqid(query_id)
        assert cursor.fetchall() == [("async",)]


def test_failed_asynchronous_query_says_why(session: Session) -> None:
    with session.connection.cursor() as cursor:
        cursor.execute_async("select nope from values (1)")
        query_id = cursor.sfqid
        while session.connection.is_still_running(session.connection.get_query_status(query_id)):
            threading.Event().wait(0.01)
        with pytest.raises(ProgrammingError, match="invalid identifier 'NOPE'"):
            session.connection.get_query_status_throw_if_error(query_id)


def test_unexpected_failure_is_an_answer_and_not_retried(
    account: Account, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def broken(event: StatementEvent) -> None:
        if event.phase == "before":
            attempts.append(event.attempt)
            raise RuntimeError("a bug")

    with account.hooked(broken):
        error = session.error("select 1")
    assert (error.errno, error.sqlstate) == (9999, "99999")
    assert "RuntimeError: a bug" in str(error)
    assert attempts == [1]


def test_closed_session_is_told_so(account: Account) -> None:
    session = account.session()
    session.connection.rest.delete_session()
    assert session.refused("select 1") == 390111


def test_connection_is_the_real_one(session: Session) -> None:
    assert type(session.connection) is SnowflakeConnection is snowflake.connector.SnowflakeConnection
