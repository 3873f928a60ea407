"""Declared policies and tags: readers never see a table without them, the audit counts true rows, and hidden rows are missed."""

from datetime import date

import pytest

from run_elt_dagster.doctor.governance import GovernanceLook
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.publish.statements import after_rows_sql, stored_as_sql
from run_elt_dagster.snowflake.session import Answer
from run_elt_dagster_tests.support.embedded import Session
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.slices import Version, part_of
from run_elt_dagster_tests.support.snowflake_account import METHODS, OwnTable, allowed, built

NOT_ENFORCED = "records policies and does not enforce them"
NOT_LISTED = "lists no tags, and no clustering keys"


def names(table: OwnTable) -> tuple[str, str, str]:
    """Return the names of a masking policy, a row access policy and a tag of the test's own."""
    place = f"{table.schema.database}.{table.schema.name}"
    return f"{place}.M_{table.name}", f"{place}.R_{table.name}", f"{place}.T_{table.name}"


def created(table: OwnTable, session: Session, *, shown: str = "true") -> str:
    """Create them, and return the front matter that declares them.

    Args:
        table: The table.
        session: Of the role.
        shown: Which rows the row access policy shows.
    """
    mask, rows, tag = names(table)
    allowed(
        session,
        [
            f"create masking policy {mask} as (val number) returns number -> -1",
            f"create row access policy {rows} as (val number) returns boolean -> {shown}",
        ],
    )
    if not table.schema.account.is_embedded:
        allowed(session, [f"create tag {tag}"])
    return f"policies:\n  row_access: {{name: {rows}, on: n}}\n  masking: {{v: {mask}}}\nobject_tags: {{{tag}: sales}}"


def restricted(table: OwnTable, session: Session) -> str:
    """Create policies that exempt nobody from grouping and joining, and return the front matter that declares them."""
    place = f"{table.schema.database}.{table.schema.name}"
    bodies = {
        "projection": "projection_constraint(allow => false)",
        "aggregation": "aggregation_constraint(min_group_size => 5)",
        "join": "join_constraint(join_required => true)",
    }
    allowed(
        session,
        [
            f"create {kind} policy {place}.{kind}_{table.name} as () returns {kind}_constraint -> {body}"
            for kind, body in bodies.items()
        ],
    )
    policy = {kind: f"{place}.{kind}_{table.name}" for kind in bodies}
    return (
        f"policies:\n  projection: {{v: {policy['projection']}}}\n"
        f"  aggregation: {{name: {policy['aggregation']}, entity_key: [v, n]}}\n"
        f"  join: {{name: {policy['join']}, allowed_keys: n}}"
    )


def references(table: OwnTable, session: Session) -> list[tuple[str, ...]]:
    target, _ = table.relations("0000000A")
    return session.sql(
        f"select policy_name, ref_column_name from table({target.database}.information_schema.policy_references("
        f"ref_entity_name => '{target}', ref_entity_domain => 'table')) order by 1"
    )


@pytest.mark.parametrize("publish", METHODS)
def test_declared_policies_and_tags_are_on_each_version_of_the_table(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    more = created(table, session) + "\ncluster_by: v\nprimary_key: n\nchecks: {range: {v: {min: 1}}}"
    for run_id, rows in (("0000000A", 3), ("0000000B", 5)):
        # A masked value would fail the check.
        outcome = table.publish(run_id, built(rows, 2, publish=publish, more=more))
        assert outcome.warnings == ()
        assert references(table, session) == [(f"M_{table.name}", "V"), (f"R_{table.name}", None)]
        assert session.value(f"select system$get_tag('{names(table)[2]}', '{table.name}', 'table')") == "sales"


@pytest.mark.parametrize("publish", METHODS)
def test_policies_that_restrict_queries_hinder_no_way_of_publishing(table: OwnTable, publish: str) -> None:
    """The role is none that they exempt."""
    session = table.schema.session()
    more = restricted(table, session)
    for run_id, rows in (("0000000A", 3), ("0000000B", 5)):
        outcome = table.publish(run_id, built(rows, 2, publish=publish, more=more))
        assert outcome.warnings == ()
        assert references(table, session) == [
            (f"AGGREGATION_{table.name}", None),
            (f"JOIN_{table.name}", None),
            (f"PROJECTION_{table.name}", "V"),
        ]


@pytest.mark.only_an_account(NOT_ENFORCED)
def test_table_in_parts_is_not_created_below_policies_that_exempt_nobody(table: OwnTable) -> None:
    session = table.schema.session()
    text = restricted(table, session)
    failed = publish_days(table, daily(table, Version(3, 1), text=text), "0000000A").failure
    assert failed is not None
    assert "requires a role that aggregation policy" in failed.message
    assert session.value(f"select count(*) from information_schema.tables where table_name = '{table.name}'") == 0


@pytest.mark.only_an_account(NOT_ENFORCED)
@pytest.mark.parametrize("publish", METHODS)
def test_readers_see_masked_values_from_the_first_version_on(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 2, publish=publish, more=created(table, session)))
    assert table.seen(session) == (3, -1, -1)


def daily(table: OwnTable, version: Version, *, text: str) -> AnalyticsTable:
    declared = table.parsed(built(1, 1, more=text))
    division = {"by": "day", "column": "day", "start": date(2024, 1, 1)}
    given = {"schema": table.schema.name, "table": table.name, "sql": version.sql, "partitions": division}
    return AnalyticsTable.model_validate(
        {**given, "policies": declared.policies, "object_tags": declared.object_tags, "primary_key": ["day", "n"]}
    )


def publish_days(table: OwnTable, declared: AnalyticsTable, run_id: str) -> TableOutcome:
    part = part_of(declared, (1, 2))
    with table.schema.watched(lambda _, __: None) as session:
        options = run_arguments(run_id, job="tests", check_policies=table.schema.account.check_policies)
        (outcome,) = run_tables(session, catalogue([declared]), [declared.key], slices={declared.key: part}, **options)
    return outcome


def test_partitions_are_exchanged_below_policies_that_show_all_rows(table: OwnTable) -> None:
    session = table.schema.session()
    text = created(table, session)
    for run_id, version in (("0000000A", Version(3, 1)), ("0000000B", Version(5, 2))):
        outcome = publish_days(table, daily(table, version, text=text), run_id)
        assert outcome.failure is None, outcome.failure
        assert references(table, session) == [(f"M_{table.name}", "V"), (f"R_{table.name}", None)]
    assert session.value(f"select count(*) from {table.name}") == 10


@pytest.mark.only_an_account(NOT_ENFORCED)
def test_partition_is_not_exchanged_below_a_policy_that_hides_rows_from_the_role(table: OwnTable) -> None:
    """Without the count, the hidden rows would stay beside the new ones."""
    session = table.schema.session()
    text = created(table, session, shown="val > 0")
    assert publish_days(table, daily(table, Version(3, 1), text=text), "0000000A").failure is None
    failed = publish_days(table, daily(table, Version(5, 2), text=text), "0000000B").failure
    assert failed is not None
    assert "requires a role that sees all rows of" in failed.message


@pytest.mark.only_an_account(NOT_LISTED)
def test_doctor_and_the_looks_at_clustering_read_what_an_account_lists(table: OwnTable) -> None:
    session = table.schema.session()
    more = created(table, session) + "\ncluster_by: [v, n]\ndata_retention_days: 0"
    table.publish("0000000A", built(3, 2, more=more))
    declared, (target, _) = table.parsed(built(3, 2, more=more)), table.relations("0000000A")
    key, days = session.sql(stored_as_sql(declared, target) or "")[0]
    assert after_rows_sql(declared, target, key, days) == []

    def ask(sql: str) -> Answer:
        rows = session.sql(sql)
        return Answer(tuple(rows), "", 0.0, tuple(session.columns(sql)))

    role = session.value("select current_role()")

    def look(text: str) -> GovernanceLook:
        return GovernanceLook(ask, [table.parsed(built(3, 2, more=text))], database=target.database, role=role)

    assert list(look(more).problems()) == []
    assert list(look(more).drift(lambda _: True)) == []
    assert len(list(look(more.replace(": sales", ": finance")).drift(lambda _: True))) == 1
    ((problem, _),) = look(more.replace(".T_", ".NO_T_")).problems()
    assert "got none that the role may apply" in problem


@pytest.mark.only_an_account("has no grants on future tables")
@pytest.mark.parametrize("publish", ["clone", "swap"])
def test_candidate_that_others_can_read_at_once_has_its_policies_from_its_creating_statement(
    table: OwnTable, publish: str
) -> None:
    """The second version, by a role that its policies do not exempt any more, is refused before its build."""
    session = table.schema.session()
    place, role = f"{table.schema.database}.{table.schema.name}", session.value("select current_role()")
    exempt = f"current_role() = '{role}'"
    mask, rows, tag = names(table)
    allowed(
        session,
        [
            f"grant select on future tables in schema {place} to role public",
            f"create masking policy {mask} as (val number) returns number -> iff({exempt}, val, -1)",
            f"create row access policy {rows} as (val number) returns boolean -> {exempt}",
            f"create tag {tag}",
        ],
    )
    more = (
        f"policies:\n  row_access: {{name: {rows}, on: n}}\n  masking: {{v: {mask}}}\nobject_tags: {{{tag}: sales}}\n"
        "checks: {range: {v: {min: 1}}}"
    )
    outcome = table.publish("0000000A", built(3, 2, publish=publish, more=more))
    assert outcome.warnings == ()
    assert references(table, session) == [(f"M_{table.name}", "V"), (f"R_{table.name}", None)]
    assert table.seen(session) == (3, 2, 2)
    session.sql(f"alter masking policy {mask} set body -> -1")
    failure = table.run("0000000B", built(5, 2, publish=publish, more=more)).failure
    assert failure is not None
    assert "got other values than it wrote" in failure.message
