"""What else than a plain table can stand under a name in the simulator, and who may grant on it."""

import pytest

from run_elt_dagster_tests.support.embedded import Account, Session, account, server, session

# About a part of the tests alone, the simulated account.
pytestmark = pytest.mark.thorough

__all__ = ["account", "server", "session"]

KINDS = {
    "DYNAMIC TABLE": "create dynamic table x target_lag = '1 hour' warehouse = w comment = 'c' as select 1 as a",
    "EXTERNAL TABLE": "create external table x (a int as (value:c1::int), b date as (value:c2::date)) "
    "with location = @stage/path/ file_format = (type = parquet) comment = 'c'",
    "ICEBERG TABLE": "create iceberg table x (a int) external_volume = 'v' catalog = 'SNOWFLAKE' base_location = 'x/' "
    "comment = 'c'",
    "MATERIALIZED VIEW": "create materialized view x comment = 'c' as select 1 as a",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_listed_as_an_account_lists_it(session: Session, kind: str) -> None:
    session.sql(KINDS[kind])
    query = (
        "select table_type, is_dynamic, is_iceberg, is_hybrid, comment from information_schema.tables "
        "where table_schema = current_schema()"
    )
    shown = {
        "DYNAMIC TABLE": ("BASE TABLE", "YES", "NO"),
        "EXTERNAL TABLE": ("EXTERNAL TABLE", "NO", "NO"),
        "ICEBERG TABLE": ("BASE TABLE", "NO", "YES"),
        "MATERIALIZED VIEW": ("MATERIALIZED VIEW", "NO", "NO"),
    }
    assert session.sql(query) == [(*shown[kind], "NO", "c")]
    assert session.columns("select * from x")[0] == "A"


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_neither_replaced_nor_exchanged_by_a_table(session: Session, kind: str) -> None:
    session.sql(KINDS[kind])
    session.sql("create table y as select 2 as a")
    assert session.refused("create or replace table x as select 2 as a") == 2002
    assert session.refused("create or replace table x clone y") == 2002
    assert session.refused("alter table x swap with y") == 2
    assert session.refused("alter table x rename to z") == 2
    assert session.refused("create table z clone x") == 2
    if kind != "ICEBERG TABLE":
        assert session.refused("drop table x") == 2203
        for change in ("insert into x (a) values (2)", "insert overwrite into x (a) select 2", "truncate table x"):
            assert session.refused(change) == 1421
    session.sql(f"drop {kind} x")
    assert session.refused("select * from x") == 2003


def test_iceberg_table_can_be_overwritten(session: Session) -> None:
    session.sql(KINDS["ICEBERG TABLE"])
    session.sql("insert overwrite into x (a) select 2")
    assert session.value("select a from x") == 2
    assert (
        session.value("select is_iceberg from information_schema.tables where table_schema = current_schema()") == "YES"
    )


def managed(session: Session, schema: str) -> tuple[str, str]:
    query = "select is_managed_access, schema_owner from information_schema.schemata where schema_name = ?"
    ((is_managed, owner),) = session.sql(query, [schema.upper()])
    return is_managed, owner


def test_only_its_owner_grants_in_a_managed_access_schema(account: Account, session: Session) -> None:
    session.sql("create role governance")
    session.sql("use role governance")
    session.sql("create schema governed with managed access comment = 'c'")
    assert managed(session, "governed") == ("YES", "GOVERNANCE")
    other = account.session(schema="governed")
    other.sql("create table x as select 1 as a")
    error = other.error("grant select on table x to role public")
    assert (error.errno, error.sqlstate) == (3001, "42501")
    assert "Insufficient privileges" in str(error)
    session.sql("grant select on table x to role public")
    assert other.refused("revoke select on table x from role public") == 3001
    other.sql("alter schema governed disable managed access")
    assert managed(session, "governed") == ("NO", "GOVERNANCE")
    other.sql("revoke select on table x from role public")
    other.sql("alter schema governed enable managed access")
    assert managed(session, "governed") == ("YES", "GOVERNANCE")
    session.sql("drop schema governed")
    session.sql("create schema governed")
    assert managed(session, "governed") == ("NO", "GOVERNANCE")


def test_schema_is_created_once(session: Session) -> None:
    schema = session.value("select current_schema()")
    assert managed(session, "analytics") == ("NO", "SYSADMIN")
    assert session.refused(f"create schema {schema}") == 2002
    assert "already exists" in session.value(f"create schema if not exists {schema}")
    assert session.refused("create schema other clone analytics") == 2
    assert session.refused("alter schema nowhere enable managed access") == 2003
    session.sql("alter schema if exists nowhere enable managed access")
