"""Streams of the simulator: listed, and stale when another object comes under the name of their table."""

from typing import Any

import pytest

from run_elt_dagster_tests.support.embedded import Account, Session, account, server, session

# About a part of the tests alone, the simulated account.
pytestmark = pytest.mark.thorough

__all__ = ["account", "server", "session"]

COLUMNS = (
    "created_on name database_name schema_name owner comment table_name source_type base_tables type stale mode stale_after "
    "invalid_reason owner_role_type"
)


def streams(session: Session, scope: str = "") -> list[dict[str, Any]]:
    query = f"show streams {scope}"
    columns = session.columns(query)
    return [dict(zip(columns, row, strict=True)) for row in session.sql(query)]


@pytest.fixture
def stream(session: Session) -> Session:
    """A session with the table X, another table Y and a stream on X."""
    session.sql("create table x as select 1 as a")
    session.sql("create table y as select 2 as a")
    session.sql("create stream s on table x comment = 'c'")
    return session


def test_stream_is_listed_with_the_columns_of_an_account(stream: Session) -> None:
    schema = stream.value("select current_schema()")
    assert stream.columns("show streams in account") == COLUMNS.split()
    (row,) = streams(stream)
    assert {name: row[name] for name in COLUMNS.split() if name not in ("created_on", "stale_after")} == {
        "name": "S",
        "database_name": "RUN_ELT",
        "schema_name": schema,
        "owner": "SYSADMIN",
        "comment": "c",
        "table_name": f"RUN_ELT.{schema}.X",
        "source_type": "Table",
        "base_tables": f"RUN_ELT.{schema}.X",
        "type": "DELTA",
        "stale": "false",
        "mode": "DEFAULT",
        "invalid_reason": "N/A",
        "owner_role_type": "ROLE",
    }


def test_streams_are_listed_by_scope_and_pattern(account: Account, stream: Session) -> None:
    schema = stream.value("select current_schema()")
    other = account.session(schema="analytics")
    for scope, count in (("", 0), (f"in schema {schema}", 1), (f"in {schema}", 1), ("in schema analytics", 0)):
        assert len(streams(other, scope)) == count
    for scope in ("in account", "in database", "in database run_elt"):
        assert (schema, "S") in [(row["schema_name"], row["name"]) for row in streams(other, scope)]
    assert (len(streams(stream, "like 's%'")), len(streams(stream, "like 't%'"))) == (1, 0)


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ("create or replace table x clone y", True),
        ("create or replace table x as select 3 as a", True),
        ("alter table y swap with x", True),
        ("drop table x", True),
        ("insert overwrite into x select 3", False),
        ("update x set a = 4", False),
        ("alter table x rename to z", False),
    ],
)
def test_stream_is_stale_once_another_object_is_in_the_place_of_its_table(
    stream: Session, change: str, *, stale: bool
) -> None:
    stream.sql(change)
    (row,) = streams(stream)
    assert (row["stale"], row["invalid_reason"] != "N/A") == (str(stale).lower(), stale)
    stream.sql("create or replace table y as select 1 as a")
    stream.sql("create or replace stream s on table y append_only = true")
    (row,) = streams(stream)
    assert (row["stale"], row["mode"], row["table_name"][-2:]) == ("false", "APPEND_ONLY", ".Y")


def test_stream_is_created_and_dropped_once(stream: Session) -> None:
    assert stream.refused("create stream s on table y") == 2002
    assert stream.refused("create stream x on table y") == 2002
    assert "already exists" in stream.value("create stream if not exists s on table y")
    assert stream.refused("create stream t on table nowhere") == 2003
    assert stream.refused("create stream t on view x") == 2
    assert stream.refused("select * from s") == 2003
    stream.sql("drop stream s")
    assert stream.refused("drop stream s") == 2003
    stream.sql("drop stream if exists s")
    assert streams(stream) == []


def test_any_quoted_name_is_listed_as_it_is_typed(session: Session) -> None:
    session.sql('create table "a.b ""c""" as select 1 as a')
    session.sql('create stream "s t" on table "a.b ""c"""')
    (row,) = streams(session)
    assert (row["name"], row["table_name"].partition(".")[2].partition(".")[2]) == ("s t", '"a.b ""c"""')
