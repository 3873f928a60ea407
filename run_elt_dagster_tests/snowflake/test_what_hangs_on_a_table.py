"""Policies and streams: found before anything is built, lost by a clone or a swap, kept by writing rows over."""

import pytest

from run_elt_dagster.publish.guards import STREAMS_SQL, streams_by_table
from run_elt_dagster.publish.methods import exchange_sql
from run_elt_dagster_tests.support.embedded import Session
from run_elt_dagster_tests.support.snowflake_account import OwnTable, allowed, built, listing

REPLACING = ["clone", "swap"]
NOT_ENFORCED = "records policies and does not enforce them"
NOT_READABLE = "lists streams, which cannot be read"
# By the kind that the project finds: how one is created, and set on a table with a column V.
POLICIES = {
    "masking policy": (
        "create masking policy {policy} as (val number) returns number -> -1",
        "alter table {table} modify column v set masking policy {policy}",
    ),
    "row access policy": (
        "create row access policy {policy} as (val number) returns boolean -> false",
        "alter table {table} add row access policy {policy} on (v)",
    ),
}


def exchange(table: OwnTable, session: Session, publish: str) -> None:
    """Send the exchange alone, without the look that would refuse it."""
    target, candidate = table.relations("0000000B")
    session.sql(f"create table {candidate.sql} as select 1 as n, 2::int as v")
    declared = table.parsed(built(1, 2, publish=publish))
    session.sql(
        exchange_sql(declared, target=target, candidate=candidate, exists=True, columns=["N", "V"], copy_tags=False)
    )


def protect(table: OwnTable, session: Session, kind: str) -> str:
    policy = f"P_{table.name}"
    allowed(session, [statement.format(policy=policy, table=table.name) for statement in POLICIES[kind]])
    return policy


@pytest.mark.parametrize("publish", REPLACING)
@pytest.mark.parametrize("kind", POLICIES)
def test_policy_forbids_to_put_another_object_in_the_place(table: OwnTable, publish: str, kind: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    policy = protect(table, session, kind)
    outcome = table.run("0000000B", built(5, 2, publish=publish))
    assert outcome.failure is not None
    assert f"{kind} {policy}" in outcome.failure.message
    # Nothing was built, which would have cost money.
    assert not outcome.query_ids


@pytest.mark.only_an_account(NOT_ENFORCED)
@pytest.mark.parametrize("kind", POLICIES)
def test_policy_is_kept_where_rows_are_written_over(table: OwnTable, kind: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    protect(table, session, kind)
    table.publish("0000000B", built(5, 2, publish="overwrite"))
    assert table.seen(session) == ((5, -1, -1) if kind == "masking policy" else (0, None, None))


@pytest.mark.only_an_account(NOT_ENFORCED)
def test_clone_would_lose_the_policy(table: OwnTable) -> None:
    """Why it is refused: the same statement, sent without looking first, shows what was masked."""
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    protect(table, session, "masking policy")
    assert table.seen(session) == (3, -1, -1)
    exchange(table, session, "clone")
    assert table.seen(session) == (1, 2, 2)


@pytest.mark.parametrize("publish", REPLACING)
def test_stream_forbids_to_put_another_object_in_the_place(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    allowed(session, [f"create stream s_{table.name} on table {table.name}"])
    outcome = table.run("0000000B", built(5, 2, publish=publish))
    assert outcome.failure is not None
    assert (
        f"streams that read it: {table.schema.database}.{table.schema.name}.S_{table.name}" in outcome.failure.message
    )
    assert table.seen(session) == (3, 1, 1)


@pytest.mark.parametrize("publish", REPLACING)
def test_stream_is_stale_once_another_object_has_the_name(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    allowed(session, [f"create stream s_{table.name} on table {table.name}"])
    exchange(table, session, publish)
    (stream,) = listing(session, f"show streams like 's_{table.name}'")
    is_stale = str(stream["stale"]).lower() == "true"
    # It may only be noticed when it is read.
    assert is_stale or session.refused(f"select * from s_{table.name}")


@pytest.mark.only_an_account(NOT_READABLE)
def test_stream_tells_the_difference_where_rows_are_written_over(table: OwnTable) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    allowed(session, [f"create stream s_{table.name} on table {table.name}"])
    exchange(table, session, "overwrite")
    changes = session.sql(f"select metadata$action, count(*) from s_{table.name} group by 1 order by 1")
    assert changes == [("DELETE", 3), ("INSERT", 1)]


def test_streams_are_listed_where_publishing_looks_for_them(table: OwnTable) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    allowed(session, [f"create stream s_{table.name} on table {table.name}"])
    found = streams_by_table(session.sql(STREAMS_SQL))
    target, _ = table.relations("0000000A")
    assert found[target.database, target.schema, target.name] == (f"{target.database}.{target.schema}.S_{table.name}",)


@pytest.mark.only_an_account("has no streams on views")
def test_stream_on_a_view_is_listed_with_the_table_below_it(table: OwnTable) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1))
    allowed(session, [f"create view v_{table.name} as select * from {table.name}"])
    allowed(session, [f"create stream s_{table.name} on view v_{table.name}"])
    target, _ = table.relations("0000000A")
    stream = f"{target.database}.{target.schema}.S_{table.name}"
    assert streams_by_table(session.sql(STREAMS_SQL))[target.database, target.schema, target.name] == (stream,)


def test_listing_of_streams_has_its_columns_where_publishing_reads_them(table: OwnTable) -> None:
    names = [name.lower() for name in table.schema.session().columns(STREAMS_SQL)]
    assert names[1:4] == ["name", "database_name", "schema_name"]
    assert (names[6], names[8]) == ("table_name", "base_tables")
