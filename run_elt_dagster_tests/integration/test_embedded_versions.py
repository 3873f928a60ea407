"""What Snowflake's Time Travel keeps of tables that are dropped or replaced."""

from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.embedded import versions
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
