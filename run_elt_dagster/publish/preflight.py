"""Look around before a run: what stands under the targets' names, what hangs on it, and what died runs left behind."""

from collections.abc import Iterable, Sequence
from functools import cache

from run_elt_dagster.model.candidate import (
    Marker,
    is_candidate_of,
    is_from_its_run,
    run_of_candidate,
    run_suffix,
    target_of,
)
from run_elt_dagster.model.names import Relation, is_candidate_name, quote_identifier
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import (
    POLICIES_PER_QUERY,
    STREAMS_SQL,
    TargetInventory,
    create_schema_sql,
    inventory_of,
    inventory_sql,
    policies_sql,
    with_policies,
    with_streams,
    with_unknown,
)
from run_elt_dagster.publish.methods import KEPT, method_of, replaces_object
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError

# As many as two groups take if the policies of one table in each cannot be listed.
MOST_REFUSALS = 20


def read_targets(
    runner: StatementRunner,
    tables: Sequence[AnalyticsTable],
    *,
    database: str,
    check_policies: bool,
) -> TargetInventory:
    """Return what stands under the targets' names and what hangs on it, in at most three queries (for 500 tables).

    Args:
        runner: Sends them.
        tables: Whose targets.
        database: The session's database.
        check_policies: Whether to ask for the policies on the targets.

    Raises:
        StatementError: The first of them failed. Where another one does, that is noted in the inventory.
    """
    tag = {"stage": "inspect"}
    inventory = inventory_of(
        runner.send(inventory_sql(database, [table.stored_schema for table in tables]), tag=tag).rows
    )
    # Only another object under the name loses anything.
    replaced = [target_of(table, database=database) for table in tables if replaces_object(table)]
    replaced = [target for target in replaced if (found := inventory.at(target)) and found.kind == "BASE TABLE"]
    if replaced:
        try:
            inventory = with_streams(inventory, replaced, runner.send(STREAMS_SQL, tag=tag).rows)
        except StatementError as error:
            inventory = with_unknown(inventory, replaced, f"streams: {error}")
    # A policy may hide rows from the DELETE of a part.
    divided = [target_of(table, database=database) for table in tables if table.is_in_parts]
    looked_up = [*replaced, *(target for target in divided if inventory.at(target) is not None)]
    return policies_looked_up(runner, inventory, looked_up) if check_policies and looked_up else inventory


def policies_looked_up(
    runner: StatementRunner, inventory: TargetInventory, targets: Sequence[Relation]
) -> TargetInventory:
    """Return the inventory with the policies on tables; where they cannot be listed, it says why.

    A query that fails is asked again in halves: it may name too many tables, or one whose policies cannot be listed must not
    make all unknown. After MOST_REFUSALS it is not, since an account without policies refuses each of them.
    """
    refusals = 0
    waiting = [targets[first : first + POLICIES_PER_QUERY] for first in range(0, len(targets), POLICIES_PER_QUERY)]
    while waiting:
        group = waiting.pop()
        try:
            inventory = with_policies(inventory, group, runner.send(policies_sql(group), tag={"stage": "inspect"}).rows)
        except StatementError as error:
            refusals += 1
            if len(group) == 1 or refusals >= MOST_REFUSALS:
                inventory = with_unknown(inventory, group, f"policies: {error}")
            else:
                half = len(group) // 2
                waiting += [group[:half], group[half:]]
    return inventory


def create_schemas(
    runner: StatementRunner, inventory: TargetInventory, tables: Sequence[AnalyticsTable], *, database: str
) -> list[str]:
    """Create the target schemas that do not exist.

    Returns:
        What could not be created, in words. The tables in it fail by themselves.
    """
    missing = {table.stored_schema for table in tables} - inventory.schemas
    problems: list[str] = []
    for schema in sorted(missing):
        try:
            runner.send(create_schema_sql(Relation(database, schema, "")), tag={"stage": "inspect"})
        except StatementError as error:
            problems.append(f"schema {schema} could not be created: {error}")
    if missing:
        # Creating a schema makes it the session's current one: https://docs.snowflake.com/en/sql-reference/sql/create-schema
        runner.send(f"USE SCHEMA {quote_identifier(database)}.PUBLIC", tag={"stage": "inspect"})
    return problems


def stale_candidates(
    inventory: TargetInventory, declared: Iterable[AnalyticsTable], *, older_than_hours: float
) -> list[tuple[str, str, Marker]]:
    """Return schema, name and marker of the candidates that runs left behind more than so long ago.

    Args:
        inventory: What stands in the schemas.
        declared: All tables of the project: none of them is left behind, whatever its name and comment.
        older_than_hours: Age, by Snowflake's clock.
    """
    if inventory.server_time is None:
        return []
    tables = tuple(declared)
    targets = {(table.stored_schema, table.stored_table) for table in tables}
    limit = inventory.server_time.timestamp() - older_than_hours * 3600
    return [
        (schema, name, found.marker)
        for (schema, name), found in inventory.tables.items()
        if (schema, name) not in targets
        and found.kind == "BASE TABLE"
        and found.marker is not None
        and found.created_at is not None
        and found.created_at.timestamp() < limit
        and (
            (is_candidate_name(name) and _is_left_behind(schema, name, found.marker, tables))
            or _is_kept(schema, name, tables)
        )
    ]


def _is_kept(schema: str, name: str, tables: Iterable[AnalyticsTable]) -> bool:
    """Return whether a run kept a table there while it exchanged its group."""
    of_groups = (table for table in tables if table.publish_group is not None and table.stored_schema == schema)
    return name.startswith(KEPT) and any(is_candidate_of(each, f"TEMP{name.removeprefix(KEPT)}") for each in of_groups)


def _is_left_behind(schema: str, name: str, marker: Marker, tables: Iterable[AnalyticsTable]) -> bool:
    """Return whether a run left a table behind, and no person made it as a copy of a published one, with its comment.

    Rows that the run of the name did not build stand there only after a swap, or taken away from readers by a rollback.
    """
    if marker.state in ("failed", "withdrawn") or is_from_its_run(name, marker):
        return True
    swapped = (table for table in tables if method_of(table).leaves_old_rows and table.stored_schema == schema)
    return any(is_candidate_of(table, name) for table in swapped)


def drop_stale_candidates(
    runner: StatementRunner,
    inventory: TargetInventory,
    declared: Iterable[AnalyticsTable],
    *,
    database: str,
    older_than_hours: float,
) -> list[str]:
    """Drop the candidates that runs left behind long ago, never those of a run that still lives, nor a declared table.

    Args:
        runner: Sends the statements.
        inventory: What stands in the schemas.
        declared: All tables of the project, built by this run or not.
        database: The session's database.
        older_than_hours: Age, by Snowflake's clock.

    Returns:
        What could not be dropped, in words.
    """
    problems: list[str] = []
    # A run may have left thousands behind, and each question is one to Dagster's storage.
    run, is_live = runner.run, cache(runner.run.is_live)
    for schema, name, marker in stale_candidates(inventory, declared, older_than_hours=older_than_hours):
        if name.endswith(run_suffix(run.run_id)) or is_live(run_of_candidate(name)) or is_live(marker.run_id):
            continue
        relation = Relation(database, schema, name)
        try:
            runner.send(drop_sql(relation), tag={"stage": "clean-up"})
        except StatementError as error:
            problems.append(f"{relation}, left behind by run {marker.run_id}, could not be dropped: {error}")
    return problems
