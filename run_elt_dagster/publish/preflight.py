"""Look around before a run: what stands under the targets' names, what hangs on it, and what died runs left behind."""

from collections.abc import Iterable, Sequence

from run_elt_dagster.model.candidate import run_of_candidate, run_suffix, target_of
from run_elt_dagster.model.names import Relation, exact_sql
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import (
    POLICIES_PER_QUERY,
    STREAMS_SQL,
    Stock,
    create_schema_sql,
    policies_sql,
    stock_of,
    stock_sql,
    with_policies,
    with_streams,
    with_unknown,
)
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.snowflake.runner import RunOptions, Sender
from run_elt_dagster.snowflake.session import StatementError

# As many as two groups take if the policies of one table in each cannot be listed.
MOST_REFUSALS = 20


def look_around(
    send: Sender,
    tables: Sequence[AnalyticsTable],
    *,
    database: str,
    options: RunOptions,
) -> Stock:
    """Return what stands under the targets' names and what hangs on it, in at most three queries (for 500 tables).

    Raises:
        StatementError: The first of them failed. Where another one does, that is noted in the stock.
    """
    tag = {"stage": "inspect"}
    stock = stock_of(send(stock_sql(database, [table.stored_schema for table in tables]), tag=tag).rows)
    # Only another object under the name loses anything.
    replaced = [target_of(table, database=database) for table in tables if table.publish != "overwrite"]
    replaced = [target for target in replaced if (found := stock.at(target)) and found.kind == "BASE TABLE"]
    if not replaced:
        return stock
    try:
        stock = with_streams(stock, replaced, send(STREAMS_SQL, tag=tag).rows)
    except StatementError as error:
        stock = with_unknown(stock, replaced, f"streams: {error}")
    return policies_looked_up(send, stock, replaced) if options.check_policies else stock


def policies_looked_up(send: Sender, stock: Stock, targets: Sequence[Relation]) -> Stock:
    """Return the stock with the policies on tables; where they cannot be listed, it says why.

    A query that fails is asked again in halves: it may name too many tables, or one whose policies cannot be listed must not
    make all unknown. After MOST_REFUSALS it is not, since an account without policies refuses each of them.
    """
    refusals = 0
    waiting = [targets[first : first + POLICIES_PER_QUERY] for first in range(0, len(targets), POLICIES_PER_QUERY)]
    while waiting:
        group = waiting.pop()
        try:
            stock = with_policies(stock, group, send(policies_sql(group), tag={"stage": "inspect"}).rows)
        except StatementError as error:
            refusals += 1
            if len(group) == 1 or refusals >= MOST_REFUSALS:
                stock = with_unknown(stock, group, f"policies: {error}")
            else:
                half = len(group) // 2
                waiting += [group[:half], group[half:]]
    return stock


def create_schemas(send: Sender, stock: Stock, tables: Sequence[AnalyticsTable], *, database: str) -> list[str]:
    """Create the target schemas that do not exist.

    Returns:
        What could not be created, in words. The tables in it fail by themselves.
    """
    missing = {table.stored_schema for table in tables} - stock.schemas
    problems: list[str] = []
    for schema in sorted(missing):
        try:
            send(create_schema_sql(Relation(database, schema, "")), tag={"stage": "inspect"})
        except StatementError as error:
            problems.append(f"schema {schema} could not be created: {error}")
    if missing:
        # Creating a schema makes it the session's current one: https://docs.snowflake.com/en/sql-reference/sql/create-schema
        send(f"USE SCHEMA {exact_sql(database)}.PUBLIC", tag={"stage": "inspect"})
    return problems


def sweep(
    send: Sender, stock: Stock, declared: Iterable[AnalyticsTable], *, database: str, options: RunOptions
) -> list[str]:
    """Drop the candidates that runs left behind long ago, never those of a run that still lives, nor a declared table.

    Args:
        send: Sends a statement.
        stock: What stands in the schemas.
        declared: All tables of the project, built by this run or not.
        database: The session's database.
        options: Of the run.

    Returns:
        What could not be dropped, in words.
    """
    problems: list[str] = []
    for schema, name, marker in stock.leftovers(declared, older_than_hours=options.keep_candidates_hours):
        if (
            name.endswith(run_suffix(options.run_id))
            or options.is_live(run_of_candidate(name))
            or options.is_live(marker.run_id)
        ):
            continue
        relation = Relation(database, schema, name)
        try:
            send(drop_sql(relation), tag={"stage": "clean-up"})
        except StatementError as error:
            problems.append(f"{relation}, left behind by run {marker.run_id}, could not be dropped: {error}")
    return problems
