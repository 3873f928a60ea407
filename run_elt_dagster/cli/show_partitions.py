"""What `run-elt show` prints of published parts: the partitions of a table, or its last increment, as Snowflake has them."""

from collections.abc import Sequence
from typing import Any

import click

from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.printing import print_json, print_table
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.increment import BEGINNING
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.project import Project
from run_elt_dagster.publish.partitions import PublishedPartition, read_partitions

_HEADER = ("partition", "rows", "published (UTC)", "by run", "rows of (UTC)")


def print_partitions(project: Project, names: Sequence[str], *, as_json: bool) -> int:
    """Print the published partitions of some tables.

    Raises:
        ValueError: A table has no partitions, or no table is named.
    """
    if not names:
        raise click.UsageError("--partitions requires a table: run-elt show --partitions schema.table")
    declared = [_partitioned(project.table(name)) for name in names]
    with signed_in(project) as session:
        found = {table.name: read_partitions(session, table) for table in declared}
    if as_json:
        print_json({name: [_facts(each) for each in partitions] for name, partitions in found.items()})
        return 0
    for name, partitions in found.items():
        print(f"{name}: {len(partitions):,} partition{'' if len(partitions) == 1 else 's'} published")
        if partitions:
            print_table(_HEADER, [_line(each) for each in partitions])
    return 0


def _partitioned(table: AnalyticsTable) -> AnalyticsTable:
    if table.partitions is None:
        raise ValueError(
            f"run-elt show --partitions requires a table with partitions, got {table.name} without. Nothing was read."
        )
    return table


def increment_line(noted: PublishedPartition) -> str:
    """Return the last increment of a table on one line."""
    if noted.marker.is_rolled_back:
        return f"  last increment: that of run {short_id(noted.marker.run_of_rows)} was rolled back, {_minute(noted.published_at)} UTC"
    what = "a whole build" if noted.start == BEGINNING else f"since {noted.start:%Y-%m-%d %H:%M:%S}"
    return (
        f"  last increment: {counted(noted.rows, 'rows')}, {what}, published {_minute(noted.published_at)} UTC by run "
        f"{short_id(noted.marker.run_of_rows)}"
    )


def increment_facts(noted: PublishedPartition) -> dict[str, Any]:
    """Return the last increment of a table for a program."""
    return {name: value for name, value in _facts(noted).items() if name not in ("partition", "end")}


def _line(partition: PublishedPartition) -> list[str]:
    return [
        partition.key,
        f"{partition.rows:,}",
        _minute(partition.published_at),
        f"{'rollback of ' if partition.marker.is_rolled_back else ''}{short_id(partition.marker.run_of_rows)}",
        _minute(partition.marker.at),
    ]


def _facts(partition: PublishedPartition) -> dict[str, Any]:
    return {
        "partition": partition.key,
        "start": str(partition.start),
        "end": str(partition.end),
        "rows": partition.rows,
        "published_at": str(partition.published_at),
        "run_id": partition.marker.run_of_rows,
        "snapshot_at": partition.marker.at,
        "is_rolled_back": partition.marker.is_rolled_back,
    }


def _minute(at: object) -> str:
    return str(at)[:16].replace("T", " ")
