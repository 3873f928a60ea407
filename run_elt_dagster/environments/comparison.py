"""All tables of a database against those of another, as an environment against production.

Two questions find the tables that may differ, and one more compares the rows of each. What nobody has changed since the copy was made is
not read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.difference import Comparison, columns_of, schema_difference
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.names import Key, Relation, quote_identifier, quote_literal
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.compare import Difference
from run_elt_dagster.snowflake.session import StatementError

Send = Callable[[str], Sequence[Sequence[Any]]]
"""Sends a query and returns its rows; raises StatementError."""
State = Literal["same", "changed", "only here", "only there", "in neither", "not compared"]
_COLUMNS = "ORDINAL_POSITION, COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE, CHARACTER_MAXIMUM_LENGTH, DATETIME_PRECISION"
# A copy of a table is created and altered at the same moment, but for some milliseconds.
_ONE_MOMENT = timedelta(seconds=1)
# A copy has the rows of the moment when it was begun, and the time of the moment when it was made.
_COPIED_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True)
class CopiedTable(TableVersion):
    """What stands under a table's name in one of the databases.

    Attributes:
        altered_at: When its rows or its definition were changed last.
    """

    altered_at: datetime | None = None


@dataclass(frozen=True)
class TableComparison:
    """A table in two databases.

    Attributes:
        table: The table.
        state: What came of it; `not compared` where Snowflake refused.
        here: What stands in the database of the session, None if nothing does.
        there: What stands in the other database, None if nothing does.
        difference: How columns and rows differ; None where they were not compared.
        problem: Why they could not be.
    """

    table: AnalyticsTable
    state: State
    here: CopiedTable | None = None
    there: CopiedTable | None = None
    difference: Difference | None = None
    problem: str = ""


def tables_sql(databases: Sequence[str], schemas: Iterable[str]) -> str:
    """Return the query for the tables in schemas of several databases: the number of the database, and what the catalogue says.

    https://docs.snowflake.com/en/sql-reference/info-schema/tables
    """
    names = ", ".join(map(quote_literal, sorted(set(schemas))))
    return " UNION ALL ".join(
        f"SELECT {number} AS N, TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ROW_COUNT, COMMENT, CREATED, LAST_ALTERED "
        f"FROM {quote_identifier(database)}.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA IN ({names})"
        for number, database in enumerate(databases)
    )


def columns_sql(databases: Sequence[str], tables: Iterable[AnalyticsTable]) -> str:
    """Return the query for the columns of tables in several databases, in order.

    https://docs.snowflake.com/en/sql-reference/info-schema/columns
    """
    wanted = " OR ".join(
        f"(TABLE_SCHEMA = {quote_literal(table.stored_schema)} AND TABLE_NAME = {quote_literal(table.stored_table)})"
        for table in tables
    )
    parts = (
        f"SELECT {number} AS N, TABLE_SCHEMA, TABLE_NAME, {_COLUMNS} FROM {quote_identifier(database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE {wanted}"
        for number, database in enumerate(databases)
    )
    return " UNION ALL ".join(parts) + " ORDER BY 1, 2, 3, 4"


def compare_tables(
    send: Send,
    tables: Sequence[AnalyticsTable],
    *,
    database: str,
    against: str,
    tell: Callable[[AnalyticsTable], None] = lambda _: None,
) -> list[TableComparison]:
    """Return how tables of one database differ from those of another, in the order of the tables.

    Args:
        send: Sends a query.
        tables: The tables.
        database: Stored name of the database that is looked at.
        against: Stored name of the other one.
        tell: Called before a table is compared by its rows.

    Raises:
        StatementError: A catalogue does not answer. A table that cannot be read is an outcome.
    """
    if not tables:
        return []
    databases = (database, against)
    here, there = _listed(send(tables_sql(databases, (table.stored_schema for table in tables))))
    found = [_first_look(table, here.get(_place(table)), there.get(_place(table))) for table in tables]
    suspects = [each.table for each in found if each.state == "changed"]
    if not suspects:
        return found
    columns = _columns(send(columns_sql(databases, suspects)))
    compared: dict[Key, TableComparison] = {}
    for each in (each for each in found if each.state == "changed"):
        tell(each.table)
        compared[each.table.key] = _compared(send, each, columns, databases)
    return [compared.get(each.table.key, each) for each in found]


def _place(table: AnalyticsTable) -> tuple[str, str]:
    return table.stored_schema, table.stored_table


def _listed(rows: Sequence[Sequence[Any]]) -> tuple[dict[tuple[str, str], CopiedTable], ...]:
    found: tuple[dict[tuple[str, str], CopiedTable], ...] = ({}, {})
    for number, schema, name, kind, count, comment, created, altered in rows:
        found[int(number)][str(schema), str(name)] = CopiedTable(
            str(name),
            None if count is None else int(count),
            str(comment or ""),
            created_at=created,
            kind=str(kind),
            altered_at=altered,
        )
    return found


def _first_look(table: AnalyticsTable, here: CopiedTable | None, there: CopiedTable | None) -> TableComparison:
    if here is None or there is None:
        state: State = "only here" if here else "only there" if there else "in neither"
        return TableComparison(table, state, here, there)
    return TableComparison(table, "same" if is_untouched(here, there) else "changed", here, there)


def is_untouched(here: CopiedTable, there: CopiedTable) -> bool:
    """Return whether the catalogue is enough to know that a copy and its source have the same rows.

    It has the same run's rows as its source, and neither was changed since it was copied: on an account by the times of both, of a copied
    file by times that are the same. https://docs.snowflake.com/en/sql-reference/info-schema/tables
    """
    times = (here.created_at, here.altered_at, there.created_at, there.altered_at)
    if here.marker is None or here.marker != there.marker or here.rows != there.rows or None in times:
        return False
    created, altered, source_created, source_altered = (time for time in times if time is not None)
    if (created, altered) == (source_created, source_altered):
        return True
    return altered - created <= _ONE_MOMENT and source_altered <= created - _COPIED_WITHIN


def _columns(rows: Sequence[Sequence[Any]]) -> Mapping[tuple[int, str, str], tuple[Column, ...]]:
    by_table: dict[tuple[int, str, str], list[Sequence[Any]]] = {}
    for number, schema, name, *column in rows:
        by_table.setdefault((int(number), str(schema), str(name)), []).append(("", *column))
    return {place: columns_of(each, "") for place, each in by_table.items()}


def _compared(
    send: Send,
    each: TableComparison,
    columns: Mapping[tuple[int, str, str], tuple[Column, ...]],
    databases: tuple[str, str],
) -> TableComparison:
    new, old = (columns.get((number, *_place(each.table)), ()) for number in (0, 1))
    targets = [target_of(each.table, database=database) for database in databases]
    try:
        difference = _difference(send, each.table, (targets[0], targets[1]), new, old)
    except StatementError as error:
        return replace(each, state="not compared", problem=str(error))
    return replace(each, state="same" if difference.is_empty else "changed", difference=difference)


def _difference(
    send: Send,
    table: AnalyticsTable,
    targets: tuple[Relation, Relation],
    new: tuple[Column, ...],
    old: tuple[Column, ...],
) -> Difference:
    comparison = Comparison(*targets, new, old, table.difference_key)
    if comparison.missing_key:
        # The key itself is what differs: whole rows are compared.
        comparison = replace(comparison, key=())
    rows = None
    if comparison.key or comparison.compared:
        rows = comparison.row_difference(send(comparison.counts_sql())[0])
    return Difference(targets[1], True, schema_difference(new, old), comparison.key, rows)


def summary(found: Iterable[TableComparison]) -> Iterator[tuple[State, int]]:
    """Yield how many tables are in each state, for the states that some are in."""
    states = [each.state for each in found]
    order: tuple[State, ...] = ("same", "changed", "only here", "only there", "in neither", "not compared")
    for state in order:
        if state in states:
            yield state, states.count(state)
