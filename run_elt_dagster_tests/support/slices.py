"""A partitioned table of some days, runs of slices of it, and what readers see of each day."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from snowflake.connector.errors import Error

from run_elt_dagster.model.candidate import Marker, comment_of, target_of
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish import partitions
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.support.embedded import Session, connecting
from run_elt_dagster_tests.support.run_arguments import run_arguments

THOUSAND = 1000
# A day after so many from the first one.
LATE = datetime(2026, 9, 27, tzinfo=UTC)
# How many days the source has. Each of them has as many rows as the version says.
DAYS = 6
# The rows, and the least and the greatest value of each day.
Seen = Mapping[int, tuple[int, int, int]]


class Version(NamedTuple):
    """What a run builds: so many rows of each day, each with the same value. A mixture has another least or greatest one."""

    rows: int
    value: int

    def of(self, *days: int) -> Seen:
        return dict.fromkeys(days, (self.rows, self.value, self.value))

    @property
    def sql(self) -> str:
        return (
            f"select dateadd(day, seq4() % {DAYS}, '2024-01-01'::date) as day, seq4() as n, {self.value}::int as v "
            f"from table(generator(rowcount => {DAYS * self.rows}))"
        )


def divided(version: Version | str, *, table: str = "daily", **changes: Any) -> AnalyticsTable:
    """Return a table by day, of a version or of a SQL text."""
    sql = version if isinstance(version, str) else version.sql
    division = {"by": "day", "column": "day", "start": date(2024, 1, 1)}
    given = {"schema": "analytics", "table": table, "sql": sql, "partitions": division, **changes}
    return AnalyticsTable.model_validate(given)


def key(day: int) -> str:
    return f"2024-01-{day:02}"


def part_of(table: AnalyticsTable, days: Sequence[int]) -> Slice:
    assert table.partitions is not None
    return table.partitions.between(key(days[0]), key(days[-1]))


def run_slice(
    arguments: Mapping[str, Any], table: AnalyticsTable, days: Sequence[int], run_id: str, **options: Any
) -> TableOutcome:
    """Build, audit and publish some days, the first and the last one included."""
    given = run_arguments(run_id, **{"retry_seconds": (0, 0, 0), "poll_seconds": 0.02, **options})
    known = catalogue([table])
    connect = connecting(arguments)
    with connect() as connection, ConnectorSession(connection, connect) as session:
        (outcome,) = run_tables(session, known, [table.key], slices={table.key: part_of(table, days)}, **given)
    return outcome


def states(outcome: TableOutcome) -> dict[int, str]:
    return {int(name[-2:]): each.state for name, each in outcome.partitions.items()}


def seen(session: Session, table: str = "daily") -> Seen:
    """Return what a session sees of each day; nothing if there is no table."""
    try:
        rows = session.sql(
            f"select date_part(day, day), count(*), min(v), max(v) from analytics.{table} group by 1 order by 1"
        )
    except Error as error:
        if error.errno == OBJECT_MISSING:
            return {}
        raise
    return {int(day): (int(count), int(low), int(high)) for day, count, low, high in rows}


def notes(session: Session, table: AnalyticsTable) -> dict[int, tuple[str, int]]:
    """Return the run and the number of rows that are noted of each day."""
    target = target_of(table, database="RUN_ELT")
    found = partitions.markers_of(session.sql(partitions.published_sql(target))).partitions
    return {each.start.day: (each.marker.run_id, each.rows) for each in found}


def published_before(table: AnalyticsTable, version: Version, days: Sequence[int]) -> list[str]:
    """Return the statements that leave days as a run of long ago would have left them, with a grant to a consumer."""
    target, marker = target_of(table, database="RUN_ELT"), Marker("run", "0", "2026-01-01")
    part = part_of(table, days)
    comment = comment_of(table, marker, [(part.start, part.end)])
    rows = dict.fromkeys(part.keys, version.rows)
    return [
        f"create or replace table {target.sql} comment = '{comment}' as {divided(version).sliced_sql(part)}",
        f"grant select on table {target.sql} to role consumer",
        partitions.create_table_sql(target),
        partitions.create_lock_sql(target),
        partitions.remember_first_sql(target, marker),
        partitions.record_sql(target, part.partitions, rows, marker),
    ]


def thousand_days_before(table: AnalyticsTable, *, rows: int) -> list[str]:
    """Return the statements that leave a table of a thousand days, of so many rows each, as runs of long ago would have left it."""
    assert table.partitions is not None
    part, target = table.partitions.last(LATE, THOUSAND), target_of(table, database="RUN_ELT")
    marker = Marker("run", "0", "2026-01-01")
    return [
        f"create table {target.sql} comment = '{comment_of(table, marker)}' as {table.sql}",
        partitions.create_table_sql(target),
        partitions.create_lock_sql(target),
        partitions.remember_first_sql(target, marker),
        partitions.record_sql(target, part, dict.fromkeys([each.key for each in part], rows), marker),
    ]
