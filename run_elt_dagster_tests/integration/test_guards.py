"""What hangs on production and would be lost forbids to publish over it, on the simulator over the real connector."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.guards import InventoryTable
from run_elt_dagster.publish.preflight import MOST_REFUSALS, read_targets
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.embedded import connecting
from run_elt_dagster_tests.support.local_server import NEW, OLD, LocalServer, mau

POLICIES = (
    "select policy_name from table(run_elt.information_schema.policy_references("
    "ref_entity_name => 'analytics.mau', ref_entity_domain => 'table'))"
)
CREATED = (
    "select table_type, created from information_schema.tables where table_schema = 'ANALYTICS' and table_name = 'MAU'"
)
REPLACING = ["clone", "swap"]


def hang_masking_policy(local_server: LocalServer) -> None:
    local_server.reader.sql("create masking policy analytics.mask as (v int) returns int -> 0")
    local_server.reader.sql("alter table analytics.mau modify column v set masking policy analytics.mask")


def hang_row_access_policy(local_server: LocalServer) -> None:
    local_server.reader.sql("create row access policy analytics.filter as (v int) returns boolean -> v > 0")
    local_server.reader.sql("alter table analytics.mau add row access policy analytics.filter on (v)")


def hang_stream(local_server: LocalServer) -> None:
    local_server.reader.sql("create stream raw_data.changes on table analytics.mau")


def hang_managed_access(local_server: LocalServer) -> None:
    local_server.reader.sql("drop schema analytics")
    local_server.reader.sql("use role securityadmin")
    local_server.reader.sql("create schema analytics with managed access")
    local_server.reader.sql("use role sysadmin")
    assert local_server.run("00000009", mau(3, 1)).published
    local_server.reader.sql("use role securityadmin")
    local_server.reader.sql("grant select on table analytics.mau to role public")


HANGING = {
    "masking policy MASK on it": (hang_masking_policy, "expose data"),
    "row access policy FILTER on it": (hang_row_access_policy, "expose data"),
    "streams that read it: RUN_ELT.RAW_DATA.CHANGES": (hang_stream, "They would go stale."),
    "a managed access schema that role SECURITYADMIN owns, not SYSADMIN": (
        hang_managed_access,
        "Its grants could be lost.",
    ),
}


def hanging(local_server: LocalServer) -> dict[str, Any]:
    """Return what hangs on production, as an account would show it."""
    return {
        "object": local_server.reader.sql(CREATED),
        "policies": local_server.reader.sql(POLICIES),
        "streams": [(row[1], row[6], row[10]) for row in local_server.reader.sql("show streams in account")],
        "grants": [row[1:6] for row in local_server.reader.sql("show grants on table analytics.mau")],
    }


@pytest.mark.parametrize(
    "got", cases(HANGING, usual=["row access policy FILTER on it", "streams that read it: RUN_ELT.RAW_DATA.CHANGES"])
)
def test_what_would_be_lost_forbids_to_replace_production_and_survives_overwriting_it(
    local_server: LocalServer, got: str
) -> None:
    assert local_server.run("00000001", mau(3, 1)).published
    hang, consequence = HANGING[got]
    hang(local_server)
    before = hanging(local_server)
    for number, publish in enumerate(REPLACING):
        outcome = local_server.run(f"0000000{2 + number}", mau(5, 2, publish=publish))
        assert outcome.failure is not None
        for part in (got, consequence, "Readers still see the previous table.", "publish: overwrite"):
            assert part in outcome.failure.message
        assert (local_server.seen(), local_server.tables(), hanging(local_server)) == (OLD, {"MAU"}, before)
    outcome = local_server.run("00000004", mau(5, 2, publish="overwrite"))
    assert outcome.published, outcome.failure
    assert (local_server.seen(), hanging(local_server)) == (NEW, before)


KINDS = {
    "view": "create view analytics.mau as select 0 as n, 1 as v",
    "materialized view": "create materialized view analytics.mau as select 0 as n, 1 as v",
    "dynamic table": "create dynamic table analytics.mau target_lag = '1 hour' warehouse = w as select 0 as n, 1 as v",
    "external table": "create external table analytics.mau (n int as (value:n::int), v int as (value:v::int)) location = @s",
}


@pytest.mark.parametrize("kind", cases(KINDS, usual=["view", "dynamic table"]))
def test_target_that_is_no_table_is_left_alone_by_every_method(local_server: LocalServer, kind: str) -> None:
    local_server.reader.sql(KINDS[kind])
    before = (local_server.seen(), local_server.reader.sql(CREATED))
    for number, publish in enumerate([*REPLACING, "overwrite"]):
        outcome = local_server.run(f"0000000{number}", mau(5, 2, publish=publish))
        assert outcome.failure is not None
        assert f"got a {kind} at RUN_ELT.ANALYTICS.MAU." in outcome.failure.message
        assert "Drop or rename it" in outcome.failure.message
        assert (local_server.seen(), local_server.reader.sql(CREATED)) == before
        assert local_server.tables() == {"MAU"}


def test_iceberg_table_is_overwritten_and_never_replaced(local_server: LocalServer) -> None:
    local_server.reader.sql(
        "create iceberg table analytics.mau (n int, v int) external_volume = 'v' base_location = ''"
    )
    local_server.reader.sql("insert into analytics.mau values (0, 1), (1, 1), (2, 1)")
    for number, publish in enumerate(REPLACING):
        outcome = local_server.run(f"0000000{number}", mau(5, 2, publish=publish))
        assert outcome.failure is not None
        assert "got iceberg table. It would become an ordinary table." in outcome.failure.message
        assert "publish: overwrite" in outcome.failure.message
        assert local_server.seen() == OLD
    outcome = local_server.run("00000003", mau(5, 2, publish="overwrite"))
    assert outcome.published, outcome.failure
    assert local_server.seen() == NEW
    flag = "select is_iceberg from information_schema.tables where table_schema = 'ANALYTICS' and table_name = 'MAU'"
    assert local_server.reader.value(flag) == "YES"


def looked_up(
    local_server: LocalServer, count: int, is_refused: Callable[[str], bool]
) -> tuple[list[InventoryTable], int]:
    """Return what is known of `count` tables, and how many queries for policies that took; some are refused."""
    queries = 0

    def refuse(event: StatementEvent) -> None:
        nonlocal queries
        if event.phase == "before" and "POLICY_REFERENCES" in event.sql:
            queries += 1
            if is_refused(event.sql):
                raise SqlError("SQL compilation memory exhausted.", errno=2, sqlstate="0A000")

    names = [f"t{number}" for number in range(count)]
    tables = [
        parse_table_file(local_server.directory / f"{name}.sql", "select 1 as v", schema="analytics", table=name)
        for name in names
    ]
    connect = connecting(local_server.account.arguments)
    with (
        connect() as connection,
        ConnectorSession(connection, connect) as session,
        local_server.account.hooked(refuse),
    ):
        runner = StatementRunner(session, RunContext("00000001"), threading.Event())
        inventory = read_targets(runner, tables, database=session.database, check_policies=True)
    found = [inventory.at(Relation("RUN_ELT", "ANALYTICS", name.upper())) for name in names]
    return [existing for existing in found if existing is not None], queries


@pytest.fixture
def many(local_server: LocalServer) -> LocalServer:
    for number in range(24):
        local_server.reader.sql(f"create table analytics.t{number} (v int)")
    local_server.reader.sql("create masking policy analytics.mask as (v int) returns int -> 0")
    local_server.reader.sql("alter table analytics.t5 modify column v set masking policy analytics.mask")
    return local_server


def test_refused_query_for_policies_is_asked_again_in_halves(many: LocalServer) -> None:
    """One query may name too many tables, and the policies of one table may be hidden: those of the others are known."""
    found, queries = looked_up(many, 24, lambda sql: sql.count("POLICY_REFERENCES") > 6 or '"T17"' in sql)
    assert [number for number, existing in enumerate(found) if existing.policies] == [5]
    assert [(n, existing.unknown) for n, existing in enumerate(found) if existing.unknown] == [
        (17, ("policies: SQL compilation memory exhausted",))
    ]
    # 24, twice 12, four times 6; the half with the hidden one once more: 3, 3, then 1, 2 and so on.
    assert queries <= 13


def test_account_that_refuses_every_query_for_policies_is_not_asked_table_by_table(many: LocalServer) -> None:
    found, queries = looked_up(many, 24, lambda sql: True)
    assert len(found) == 24
    assert all(existing.unknown for existing in found)
    assert MOST_REFUSALS <= queries <= MOST_REFUSALS + 6


@pytest.mark.thorough
def test_policies_of_a_thousand_tables_take_two_queries(local_server: LocalServer) -> None:
    for number in range(1000):
        local_server.reader.sql(f"create table analytics.t{number} (v int)")
    local_server.reader.sql("create masking policy analytics.mask as (v int) returns int -> 0")
    for number in (0, 499, 500, 999):
        local_server.reader.sql(f"alter table analytics.t{number} modify column v set masking policy analytics.mask")
    found, queries = looked_up(local_server, 1000, lambda sql: False)
    assert (len(found), queries) == (1000, 2)
    assert [number for number, existing in enumerate(found) if existing.policies] == [0, 499, 500, 999]
    assert not any(existing.unknown for existing in found)
