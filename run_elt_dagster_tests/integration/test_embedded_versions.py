"""What Snowflake's Time Travel keeps: tables that are dropped or replaced, and the rows before a change."""

from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.embedded import past, versions
from run_elt_dagster.embedded.server import EmbeddedServer
from run_elt_dagster_tests.support.embedded import Account, Session, account, running_server, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

LISTINGS = (
    "select table_name from information_schema.tables where table_schema = current_schema()",
    "select distinct table_name from information_schema.columns where table_schema = current_schema()",
)


def seen(session: Session) -> set[str]:
    """Return every name that any listing shows."""
    listed = {str(name) for query in LISTINGS for (name,) in session.sql(query)}
    return listed | {str(row[1]) for row in session.sql("show tables")}


def history(session: Session, name: str) -> list[dict[str, Any]]:
    """Return the versions of a table, the present one first, then the latest dropped one."""
    query = f"show tables history like '{name}' in schema"
    columns = session.columns(query)
    rows = [dict(zip(columns, row, strict=True)) for row in session.sql(query)]
    return sorted(rows, key=lambda row: float("-inf") if row["dropped_on"] is None else -row["dropped_on"].timestamp())


REPLACING = {
    "drop table x": "drop table x",
    "query": "create or replace table x as select a + 1 as a from x",
    "typed": "create or replace table x (a int) as select a + 1 from x",
    "empty": "create or replace table x (b varchar)",
    "clone": "create or replace table x clone y copy grants copy tags",
    "itself": "create or replace table x clone x",
}


@pytest.mark.parametrize("replacing", REPLACING.values(), ids=REPLACING)
def test_dropped_or_replaced_table_comes_back_with_its_comment(session: Session, replacing: str) -> None:
    session.sql("create table y as select 9 as a")
    session.sql("create transient table x (a int not null) comment = 'first' as select 1")
    (before,) = history(session, "X")
    session.sql(replacing.replace("table x clone", "transient table x clone"))
    if "drop" not in replacing:
        session.sql("alter table x rename to present")
    assert session.value("undrop table x") == "Table X successfully restored."
    assert session.value("select a from x") == 1
    assert session.refused("insert into x values (null)") == 100072
    (after,) = history(session, "X")
    assert {name: after[name] for name in ("created_on", "comment", "kind", "rows", "dropped_on")} == {
        "created_on": before["created_on"],
        "comment": "first",
        "kind": "TRANSIENT",
        "rows": 1,
        "dropped_on": None,
    }


def test_query_of_a_typed_table_reads_what_it_replaces(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create or replace table x (a int) as select a + 1 from x")
    assert session.value("select a from x") == 2


def test_kept_table_is_seen_nowhere(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create or replace table x as select 2 as a")
    session.sql("insert overwrite into x select 3")
    assert seen(session) == {"X"}
    session.sql("drop table x")
    assert seen(session) == set()
    assert session.refused("select * from x") == 2003
    assert session.refused("comment on table x is 'c'") == 2003
    session.sql("create table x as select 4 as a")
    assert session.value("select a from x") == 4


def test_versions_come_back_from_the_latest_to_the_oldest(session: Session) -> None:
    for version in range(3):
        session.sql(f"create or replace table x as select {version} as a")
    session.sql("drop table x")
    session.sql("undrop table x")
    assert session.value("select a from x") == 2
    for version in (1, 0):
        session.sql(f"alter table x rename to x{version}")
        session.sql("undrop table x")
        assert session.value("select a from x") == version


def test_table_is_not_restored_over_another_one(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create or replace table x as select 2 as a")
    error = session.error("undrop table x")
    assert (error.errno, error.sqlstate) == (2002, "42710")
    assert "already exists" in str(error)
    assert session.value("select a from x") == 2


def test_table_that_was_never_dropped_is_not_restored(session: Session) -> None:
    assert "Table X did not exist or was purged." in str(session.error("undrop table x"))
    assert session.refused("undrop table nowhere.x") == 2003
    session.sql("create table y as select 1 as a")
    session.sql("alter table y rename to x")
    session.sql("drop table x")
    assert "Table Y did not exist or was purged." in str(session.error("undrop table y"))


def test_history_lists_what_can_be_restored(session: Session) -> None:
    for version in range(3):
        session.sql(
            f"create or replace table x comment = 'v{version}' as select * from values (1), (2), (3) limit {version}"
        )
    session.sql("create table other as select 1 as a")
    assert [(row["comment"], row["rows"], row["dropped_on"] is None) for row in history(session, "x")] == [
        ("v2", 2, True),
        ("v1", 1, False),
        ("v0", 0, False),
    ]
    assert {row[1] for row in session.sql("show tables history")} == {"X", "OTHER"}


@pytest.mark.parametrize("limit", ["VERSIONS_PER_NAME", "VERSIONS_PER_DATABASE"])
def test_oldest_versions_are_purged(session: Session, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(versions, limit, 2)
    for version in range(5):
        session.sql(f"create or replace table x as select {version} as a")
        session.sql(f"insert overwrite into x select {version}")
    assert [row["dropped_on"] is None for row in history(session, "X")] == [True, False, False]
    session.sql("drop table x")
    for version in (4, 3):
        session.sql("undrop table x")
        assert session.value("select a from x") == version
        session.sql(f"alter table x rename to x{version}")
    assert session.refused("undrop table x") == 90025


def test_version_is_kept_for_a_day(session: Session, account: Account) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("drop table x")
    aged = "UPDATE RUN_ELT._fs_information_schema.embedded_objects SET dropped_on = dropped_on - INTERVAL 25 HOUR"
    account.server.engine.duck_conn.cursor().execute(aged)
    assert history(session, "X") == []
    assert session.refused("undrop table x") == 90025


def test_dropped_schema_takes_what_was_kept_along(session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql("create table x as select 1 as a")
    session.sql("drop table x")
    session.sql(f"drop schema {schema}")
    session.sql(f"create schema {schema}")
    assert session.refused("undrop table x") == 90025


def test_kept_tables_outlive_the_server(tmp_path: Path) -> None:
    for part in range(2):
        with running_server(tmp_path, EmbeddedServer) as server:
            account = Account(server)
            with account.resources:
                session = account.session(schema="analytics")
                if part == 0:
                    session.sql("create table x comment = 'first' as select 1 as a")
                    session.sql("insert overwrite into x select 2")
                    session.sql("create or replace table x as select 3 as a")
                else:
                    assert seen(session) == {"X"}
                    session.sql("alter table x rename to y")
                    session.sql("undrop table x")
                    assert session.value("select a from x") == 2
                    assert history(session, "X")[0]["comment"] == "first"


def overwritten(session: Session, change: str = "insert overwrite into x select 2") -> str:
    """Overwrite a table and return the statement's query id."""
    with session.connection.cursor() as cursor:
        cursor.execute(change)
        return str(cursor.sfqid)


def test_rows_before_an_overwrite_can_be_read(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    created = session.value("select current_timestamp()").isoformat()
    query_id = overwritten(session)
    between = session.value("select current_timestamp()").isoformat()
    overwritten(session, "insert overwrite into x select 3")
    assert session.value("select a from x") == 3
    assert session.value(f"select a from x before(statement => '{query_id}')") == 1
    assert session.value(f"select x.a from x at(statement => '{query_id}')") == 2
    assert session.value(f"select a from x at(timestamp => '{created}'::timestamp_tz)") == 1
    assert session.value(f"select t.a from x at(timestamp => '{between}'::timestamp_ltz) as t") == 2
    assert session.value("select a from x at(offset => -0.0)") == 3
    session.sql(f"insert overwrite into x (a) select a from x before(statement => '{query_id}')")
    assert session.value("select a from x") == 1
    session.sql(f"create table y as select a + 1 as a from x at(timestamp => '{between}'::timestamp_tz)")
    assert session.value("select a from y") == 3


def test_rows_follow_the_object_and_not_its_name(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    query_id = overwritten(session)
    session.sql("create table y as select 9 as a")
    session.sql("alter table x swap with y")
    assert session.value(f"select a from y before(statement => '{query_id}')") == 1
    # The other one was created later.
    assert session.refused(f"select a from x before(statement => '{query_id}')") == 707


def test_time_before_the_table_is_not_kept(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    for offset in (60, 2 * 86400):
        assert session.refused(f"select a from x at(offset => -{offset})") == 707


@pytest.mark.parametrize(
    "change",
    [
        "insert into x values (5)",
        *(pytest.param(sql, marks=pytest.mark.thorough) for sql in ("update x set a = 5", "delete from x")),
        "truncate table x",
    ],
)
def test_rows_that_were_not_kept_are_an_error_and_no_other_rows(session: Session, change: str) -> None:
    session.sql("create table x as select 1 as a")
    created = session.value("select current_timestamp()").isoformat()
    query_id = overwritten(session)
    between = session.value("select current_timestamp()").isoformat()
    session.sql(change)
    changed = overwritten(session, "insert overwrite into x select 7")
    session.sql(change)
    assert session.value(f"select a from x at(timestamp => '{created}')") == 1
    assert session.value(f"select a from x before(statement => '{query_id}')") == 1
    assert session.refused(f"select a from x at(timestamp => '{between}')") == 2
    assert session.refused(f"select a from x at(statement => '{changed}')") == 2
    assert session.refused("select a from x before(statement => '01b2-unknown')") == 2


def test_dropped_schema_takes_overwritten_rows_along(session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql("create table x as select 1 as a")
    session.sql("insert overwrite into x select 2")
    session.sql(f"drop schema {schema}")
    session.sql(f"create schema {schema}")
    assert seen(session) == set()


def test_only_the_latest_rows_are_kept(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "KEPT_PER_TABLE", 3)
    session.sql("create table x as select 0 as a")
    ids = [overwritten(session, f"insert overwrite into x select {number}") for number in range(1, 6)]
    assert [session.value(f"select a from x before(statement => '{query_id}')") for query_id in ids[2:]] == [2, 3, 4]
    assert session.refused(f"select a from x before(statement => '{ids[1]}')") == 2


@pytest.mark.parametrize("point", ["timestamp => current_timestamp()", "stream => 's'", "offset => -length('a')"])
def test_point_in_time_that_is_not_understood_is_refused(session: Session, point: str) -> None:
    session.sql("create table x as select 1 as a")
    assert session.refused(f"select a from x at({point})") in {2, 1003}


def in_a_transaction(session: Session, *changes: str) -> list[str]:
    """Send changes from BEGIN to COMMIT; return their query ids."""
    session.sql("begin")
    ids = [overwritten(session, change) for change in changes]
    session.sql("commit")
    return ids


def test_rows_before_a_transaction_can_be_read(session: Session, account: Account) -> None:
    session.sql("create table x as select seq4() as a from table(generator(rowcount => 3))")
    session.sql("create table y as select 0 as b")
    first = in_a_transaction(
        session,
        "update y set b = 1",
        "delete from x where a = 1",
        "insert into x values (7)",
        "update x set a = a + 10",
    )
    (merged,) = in_a_transaction(session, "merge into x using y on x.a = y.b + 9 when matched then delete")
    past_of = "select array_agg(a) within group (order by a)::varchar from x"
    # A statement's moment is that of its transaction, whichever table it has changed: no other one sees half of it.
    assert {session.value(f"{past_of} before(statement => '{query_id}')") for query_id in first} == {"[0,1,2]"}
    assert session.value(f"select b from y before(statement => '{first[1]}')") == 0
    assert session.value(f"{past_of} at(statement => '{first[0]}')") == "[10,12,17]"
    assert session.value(f"{past_of} before(statement => '{merged}') as t where t.a > 10") == "[12,17]"
    assert session.value(past_of) == "[12,17]"
    # The past can be read where the table has been changed already, and another session sees the same of it.
    session.sql("begin")
    session.sql("delete from x")
    session.sql(f"insert into x (a) select a from x before(statement => '{first[0]}') where a > 0")
    session.sql("commit")
    assert session.value(past_of) == "[1,2]"
    assert seen(session) == {"X", "Y"}
    # Nothing of what was rolled back is kept.
    session.sql("begin")
    lost = overwritten(session, "delete from x")
    session.sql("rollback")
    assert session.refused(f"select * from x before(statement => '{lost}')") == 2


def test_rows_before_the_columns_changed_are_an_error(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    (deleted,) = in_a_transaction(session, "delete from x")
    assert session.value(f"select a from x before(statement => '{deleted}')") == 1
    session.sql("alter table x add column b int")
    moment = session.value("select current_timestamp()").isoformat()
    session.sql("alter table x drop column b")
    assert session.refused(f"select a from x at(timestamp => '{moment}')") == 2


def test_rows_are_kept_for_a_day_and_go_with_their_table(session: Session, account: Account) -> None:
    session.sql("create table x as select 1 as a")
    ids = [query_id for n in range(2) for query_id in in_a_transaction(session, f"insert into x values ({n})")]
    duck = account.server.engine.duck_conn.cursor()
    past_rows = "RUN_ELT._fs_information_schema.embedded_past"
    duck.execute("UPDATE RUN_ELT._fs_information_schema.embedded_objects SET created_on = created_on - INTERVAL 2 DAY")
    duck.execute(f"UPDATE {past_rows} SET until = until - INTERVAL 25 HOUR WHERE query_id = ?", [ids[0]])
    assert session.refused(f"select * from x before(statement => '{ids[0]}')") == 707
    in_a_transaction(session, "insert into x values (9)")
    assert session.refused(f"select * from x before(statement => '{ids[0]}')") == 2
    assert session.value(f"select count(*) from x before(statement => '{ids[1]}')") == 2
    kept = "SELECT count(*) FROM duckdb_tables() WHERE starts_with(table_name, 'embedded kept ')"
    before = duck.execute(kept).fetchall()[0][0]
    assert before >= 2
    session.sql(f"drop schema {session.value('select current_schema()')}")
    assert duck.execute(kept).fetchall()[0][0] == before - 2
