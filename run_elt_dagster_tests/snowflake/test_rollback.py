"""Putting the version before back, by whatever Snowflake has kept of it."""

from datetime import datetime

import pytest

from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.versions import versions_sql
from run_elt_dagster_tests.support.snowflake_account import METHODS, OwnTable, built, listing

METHOD = {"clone": "undrop", "swap": "swap", "overwrite": "time travel"}


def publish_twice(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1, publish=publish))
    session.sql(f"grant select on table {table.name} to role public")
    table.publish("0000000B", built(5, 2, publish=publish))
    assert table.seen(session) == (5, 2, 2)


@pytest.mark.parametrize("publish", METHODS)
def test_version_before_comes_back_with_the_present_grants(table: OwnTable, publish: str) -> None:
    publish_twice(table, publish)
    session = table.schema.session()
    session.sql(f"grant references on table {table.name} to role public")
    with table.rollback() as rollback:
        plan = rollback.plan()
        assert (plan.method, plan.previous.rows) == (METHOD[publish], 3)
        assert rollback.carry_out(plan) == ()
    assert table.seen(session) == (3, 1, 1)
    assert {privilege for privilege, *_ in table.grants(session)} == {"SELECT", "REFERENCES"}
    table.publish("0000000C", built(7, 3, publish=publish))
    assert table.seen(session) == (7, 3, 3)


@pytest.mark.parametrize("publish", ["clone", "swap"])
def test_rollback_of_a_rollback_goes_one_version_further_back(table: OwnTable, publish: str) -> None:
    for run_id, rows in (("0000000A", 3), ("0000000B", 5), ("0000000C", 7)):
        table.publish(run_id, built(rows, rows, publish=publish))
    session = table.schema.session()
    for rows in (5, 3):
        with table.rollback() as rollback:
            assert rollback.carry_out(rollback.plan()) == ()
        assert table.seen(session) == (rows, rows, rows)


def test_rewritten_rows_go_back_one_version_only(table: OwnTable) -> None:
    publish_twice(table, "overwrite")
    with table.rollback() as rollback:
        rollback.carry_out(rollback.plan())
        with pytest.raises(PublishRefusedError, match="rolled back already"):
            rollback.plan()


def test_dropped_table_comes_back(table: OwnTable) -> None:
    publish_twice(table, "clone")
    session = table.schema.session()
    session.sql(f"drop table {table.name}")
    with table.rollback() as rollback:
        rollback.carry_out(rollback.plan())
    assert table.seen(session) == (5, 2, 2)


def test_history_of_tables_has_the_columns_that_rolling_back_reads(table: OwnTable) -> None:
    publish_twice(table, "clone")
    session = table.schema.session()
    session.sql(f"drop table {table.name}")
    target, _ = table.relations("0000000A")
    rows = [row for row in listing(session, versions_sql(target)) if row["name"] == target.name]
    assert {row["rows"] for row in rows} == {3, 5}
    assert all("[run_elt run" in row["comment"] for row in rows)
    dropped = [row["dropped_on"] for row in rows]
    assert all(isinstance(moment, datetime) and moment.tzinfo for moment in dropped)
    latest = max(rows, key=lambda row: row["dropped_on"])
    assert latest["rows"] == 5


def test_what_is_dropped_last_is_restored_first(table: OwnTable) -> None:
    session = table.schema.session()
    for version in (1, 2, 3):
        session.sql(f"create or replace table {table.name} as select {version} as v")
    session.sql(f"drop table {table.name}")
    for version in (3, 2, 1):
        session.sql(f"undrop table {table.name}")
        assert table.seen(session) == (1, version, version)
        session.sql(f"alter table {table.name} rename to {table.name}_{version}")


def test_rows_before_an_overwrite_are_read_by_the_moment_of_the_build(table: OwnTable) -> None:
    """The marker's time is Snowflake's own, so that it falls between the two versions."""
    publish_twice(table, "overwrite")
    session = table.schema.session()
    marker = table.marker(session)
    assert marker is not None
    before = session.sql(f"select count(*) from {table.name} at(timestamp => '{marker.at}'::timestamp_tz)")
    assert before == [(3,)]
