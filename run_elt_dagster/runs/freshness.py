"""How fresh tables are: what Dagster's history says of those that declare how old their rows may be."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.model.partitions import Partitioning
from run_elt_dagster.runs.history import is_publication, last_publications, run_of
from run_elt_dagster.runs.partitions import latest_materializations

# Of a table in partitions, so many of the newest are looked at, and so many of those before them that were built.
_NEWEST_READ = 5

Counts = Callable[[dg.EventLogEntry], bool]


@dataclass(frozen=True)
class Watched:
    """A table that declares how old its rows may be.

    Attributes:
        name: The key of its asset with dots.
        rule: What it declares.
        partitions: Its partitions, None if it is built whole.
        schedule: Name of the schedule that builds it, None if there is none.
        upstream: The tables of the code location that it reads, by the keys of their assets with dots.
        owners: Who is responsible.
    """

    name: str
    rule: FreshWithin
    partitions: Partitioning | None = None
    schedule: str | None = None
    upstream: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    @property
    def key(self) -> dg.AssetKey:
        """The key of its asset."""
        return dg.AssetKey(self.name.split("."))

    def late_since(self, fresh_at: datetime | None, *, since: datetime, now: datetime) -> datetime | None:
        """Return since when it is late at a moment, None if it is not; as `FreshWithin.late_since` has it."""
        if self.partitions is None:
            return self.rule.late_since(fresh_at, since=since, now=now)
        return self.rule.parts_late_since(self.partitions, fresh_at, since=since, now=now)

    def missing(self, fresh_at: datetime | None, *, now: datetime) -> str:
        """Return the oldest partition that is over and not published behind the newest published one; empty if it is built whole."""
        if self.partitions is None or (newest := self.partitions.newest(now)) is None:
            return ""
        if fresh_at is None:
            return newest.key
        behind = [part.key for part in self.partitions.last(now, 1000) if part.start >= fresh_at]
        return behind[0] if behind else ""


@dataclass(frozen=True)
class Rows:
    """The rows of a table that readers see.

    Attributes:
        at: Of what moment they are: when a run built them, or the end of the newest published partition. Aware UTC.
        built_at: When that run recorded them, aware UTC.
        run_id: The run.
    """

    at: datetime
    built_at: datetime
    run_id: str


def published_rows(
    instance: dg.DagsterInstance, tables: Sequence[Watched], *, now: datetime, counts: Counts = is_publication
) -> dict[str, Rows | None]:
    """Return what the history says of the rows that readers see, None for a table that was never published.

    It takes a query for 500 whole tables, and one or two for each in partitions.

    Args:
        instance: With the history.
        tables: Which tables.
        now: With a time zone.
        counts: Whether a materialization is a publication.
    """
    whole = [table.name.split(".") for table in tables if table.partitions is None]
    found = last_publications(instance, whole, counts=counts) if whole else {}
    rows: dict[str, Rows | None] = {}
    for table in tables:
        if table.partitions is None:
            event = found.get(tuple(table.name.split(".")))
            rows[table.name] = event and Rows(_utc(event.timestamp), _utc(event.timestamp), run_of(event))
        else:
            rows[table.name] = _newest_part(instance, table.key, table.partitions, now=now, counts=counts)
    return rows


def _newest_part(
    instance: dg.DagsterInstance, key: dg.AssetKey, parts: Partitioning, *, now: datetime, counts: Counts
) -> Rows | None:
    newest = parts.last(now, _NEWEST_READ)
    built = instance.get_materialized_partitions(key)
    # Keys sort as their times do.
    older = sorted((each for each in built if newest and each < newest[0].key), reverse=True)[:_NEWEST_READ]
    parts_read = [*(parts.partition(each) for each in reversed(older)), *newest]
    latest = latest_materializations(instance, key, [part.key for part in parts_read if part.key in built])
    for part in reversed(parts_read):
        if part.key in latest and counts(event := latest[part.key].event_log_entry):
            return Rows(part.end, _utc(event.timestamp), event.run_id)
    return None


def first_tried_at(instance: dg.DagsterInstance, key: dg.AssetKey) -> datetime | None:
    """Return when a run was to build a table for the first time, None if none ever was."""
    planned = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=key)
    with warnings.catch_warnings():
        # Dagster 1.13.27 calls the method deprecated until 2.0, and has no other that returns planned materializations.
        warnings.simplefilter("ignore", DeprecationWarning)
        records = instance.get_event_records(planned, limit=1, ascending=True)
    return _utc(records[0].timestamp) if records else None


def last_runs(instance: dg.DagsterInstance, tables: Iterable[Watched]) -> Mapping[str, dg.RunRecord]:
    """Return the last run that was to build each table, for those that have one: a query for the tables, and one for the runs."""
    tables = list(tables)
    records = instance.get_asset_records([table.key for table in tables]) if tables else []
    by_name = {
        ".".join(record.asset_entry.asset_key.path): run_id
        for record in records
        if (run_id := record.asset_entry.last_run_id)
    }
    runs = instance.get_run_records(dg.RunsFilter(run_ids=sorted(set(by_name.values())))) if by_name else []
    by_id = {record.dagster_run.run_id: record for record in runs}
    return {name: by_id[run_id] for name, run_id in by_name.items() if run_id in by_id}


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
