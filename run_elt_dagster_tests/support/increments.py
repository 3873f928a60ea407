"""A table with increments, runs of it, and what readers see of each row."""

from collections.abc import Mapping
from typing import Any

from snowflake.connector.errors import Error

from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish import partitions
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.support.embedded import Session, connecting
from run_elt_dagster_tests.support.run_arguments import run_arguments

# The value and the hour of each row, by its id.
Rows = Mapping[int, tuple[int, int]]


def values(rows: Rows) -> str:
    """Return rows as a query. Each hour is one of 1 January 2024, and on."""
    listed = ", ".join(f"({n}, {value}, {hour})" for n, (value, hour) in rows.items()) or "(0, 0, null)"
    empty = "" if rows else " where 1 = 0"
    return (
        "select column1::int as id, column2::int as v, dateadd(hour, column3, '2024-01-01'::timestamp_ntz)::timestamp_ntz as at "
        f"from values {listed}{empty}"
    )


def growing(source: Rows | str, *, table: str = "orders", lookback_hours: float = 0, **changes: Any) -> AnalyticsTable:
    """Return a table with increments of some rows, or of a SQL text."""
    sql = source if isinstance(source, str) else values(source)
    increment = {"column": "at", "key": ["id"], "lookback_hours": lookback_hours}
    given = {"schema": "analytics", "table": table, "sql": sql, "increment": increment, **changes}
    return AnalyticsTable.model_validate(given)


def run_increment(
    arguments: Mapping[str, Any], table: AnalyticsTable, run_id: str, *, is_whole: bool = False, **options: Any
) -> TableOutcome:
    """Build, audit and publish what is new of a table."""
    given = run_arguments(run_id, **{"retry_seconds": (0, 0, 0), "poll_seconds": 0.02, **options})
    connect = connecting(arguments)
    with connect() as connection, ConnectorSession(connection, connect) as session:
        whole = [table.key] if is_whole else []
        (outcome,) = run_tables(session, catalogue([table]), [table.key], whole=whole, **given)
    return outcome


def seen(session: Session, table: str = "orders") -> dict[int, tuple[int, int]]:
    """Return the rows that a session sees; nothing if there is no table."""
    try:
        found = session.sql(f"select id, v, datediff(hour, '2024-01-01'::timestamp_ntz, at) from analytics.{table}")
    except Error as error:
        if error.errno == OBJECT_MISSING:
            return {}
        raise
    rows = {int(n): (int(value), int(hour)) for n, value, hour in found}
    assert len(rows) == len(found), f"ids are not unique: {found}"
    return rows


def note(session: Session, table: AnalyticsTable) -> tuple[str, str, int]:
    """Return what is noted of the last publish: run, start and rows."""
    target = target_of(table, database="RUN_ELT")
    (found,) = partitions.markers_of(session.sql(partitions.published_sql(target))).partitions
    return found.marker.run_id, found.start.isoformat(sep=" ")[:19], found.rows
