from run_elt_dagster_tests.support.embedded import Session, account, server, session

__all__ = ["account", "server", "session"]


def test_session_variable_is_used(session: Session) -> None:
    session.sql("set day = '2019-05-01'")
    session.sql("create table x as select $day as d")
    assert session.value("select d from x where d = $day") == "2019-05-01"


def test_query_is_described_without_running(session: Session) -> None:
    session.sql("create table x (a number(38, 0), b varchar, c timestamp_ntz)")
    with session.connection.cursor() as cursor:
        assert [column.name for column in cursor.describe("select a, b, c, count(*) over () as n from x")] == [
            "A",
            "B",
            "C",
            "N",
        ]
        cursor.describe("drop table x")
    assert session.sql("select * from x") == []


def test_last_result_is_scanned(session: Session) -> None:
    session.sql("select 1 as a union all select 2 order by 1")
    assert session.sql("select * from table(result_scan(last_query_id()))") == [(1,), (2,)]


def test_session_variable_that_was_never_set_is_an_error(session: Session) -> None:
    error = session.error("select $nope")
    assert (error.errno, error.sqlstate) == (2211, "02000")
    assert "Session variable '$NOPE' does not exist" in str(error)
