"""Runs that were interrupted before they wrote their log of publishes: what a later run adds of them, by Dagster's history."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.runs.partitions import asked_partitions
from run_elt_dagster.runs.tags import UNLOGGED
from run_elt_dagster.runs.trigger import trigger_of

if TYPE_CHECKING:
    from run_elt_dagster.publish.log import Row

# As many interrupted runs as one run adds; the next one adds more.
_RUNS, _PAGE = 20, 1000
_ENDED = [dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE]
_PLANNED, _PUBLISHED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION
# Where a materialization has the numbers of the log's columns.
_NUMBERS = {
    "ROW_COUNT": ("dagster/row_count", "dagster/partition_row_count"),
    "BYTES": ("bytes",),
    **{f"{stage.upper()}_SECONDS": (f"{stage}_seconds",) for stage in ("build", "audit", "publish")},
}
_Key = tuple[tuple[str, ...], str | None]


def unlogged_runs(instance: dg.DagsterInstance, log: str, *, now: str) -> list[dg.RunRecord]:
    """Return the runs that have ended without writing a log, the newest first.

    Args:
        instance: Where they are recorded.
        log: Which log, as `UNLOGGED` names it.
        now: The run that looks.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=_ENDED, tags={UNLOGGED: log}), limit=_RUNS)
    return [record for record in records if record.dagster_run.run_id != now]


def interrupted_rows(
    instance: dg.DagsterInstance, record: dg.RunRecord, tables: Catalogue, *, database: str
) -> "Iterator[Row]":
    """Yield the rows of PUBLISHES of an interrupted run: of each table that it was to build, and of each partition.

    Args:
        instance: Where it is recorded.
        record: The run.
        tables: The declared tables.
        database: The stored name of the session's database.
    """
    from run_elt_dagster.publish.log import LoggedRun, found_row  # noqa: PLC0415 - only a run with such a log needs it

    run, asked = record.dagster_run, asked_partitions(record.dagster_run.tags)
    facts = LoggedRun(run.run_id, run.job_name, " ".join(trigger_of(run)).strip())
    ended = record.end_time or record.update_timestamp.timestamp()
    by_path = {tables.asset_path(key): table for key, table in tables.items()}
    planned, published = _history(instance, run.run_id)
    for path in planned:
        if (table := by_path.get(path)) is None:
            continue
        target = target_of(table, database=database)
        for key in _keys(table, asked):
            event = published.get((path, key))
            at = datetime.fromtimestamp(event.timestamp if event is not None else ended, UTC)
            known = _known(event) if event is not None else None
            yield found_row(facts, table, target, at=at, key=key, published=known)


def _keys(table: AnalyticsTable, asked: tuple[str, str] | None) -> tuple[str | None, ...]:
    """Return the partitions that a run was to build; None alone of a whole table, and of a range that there is not any more."""
    if table.partitions is not None and asked is not None:
        with contextlib.suppress(ValueError):
            return table.part("...".join(asked)).keys
    return (None,)


def _history(instance: dg.DagsterInstance, run_id: str) -> tuple[list[tuple[str, ...]], dict[_Key, dg.EventLogEntry]]:
    """Return the assets that a run was to materialize, and its materializations, page by page."""
    planned: dict[tuple[str, ...], None] = {}
    published: dict[_Key, dg.EventLogEntry] = {}
    cursor, has_more = None, True
    while has_more:
        page = instance.get_records_for_run(run_id, cursor, of_type={_PLANNED, _PUBLISHED}, limit=_PAGE)
        for event in (record.event_log_entry for record in page.records):
            key = event.dagster_event.asset_key if event.dagster_event is not None else None
            if key is not None and event.asset_materialization is not None:
                published[tuple(key.path), event.asset_materialization.partition] = event
            elif key is not None:
                planned[tuple(key.path)] = None
        cursor, has_more = page.cursor, page.has_more
    return list(planned), published


def _known(event: dg.EventLogEntry) -> "Row":
    materialization = event.asset_materialization
    metadata: Mapping[str, Any] = materialization.metadata if materialization is not None else {}
    tags = (materialization.tags if materialization is not None else None) or {}
    found = {
        column: next((metadata[name].value for name in names if name in metadata), None)
        for column, names in _NUMBERS.items()
    }
    return {**found, "CODE_VERSION": tags.get("dagster/code_version")}
