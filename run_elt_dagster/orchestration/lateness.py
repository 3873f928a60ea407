"""Which tables are older than their `freshness` allows.

Dagster shows this too, but calls a table unknown that was never built, for ever. Here it is late when its first run is too long ago.
"""

import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from run_elt_dagster.model.checks import TableFreshness
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.table import AnalyticsTable


def with_freshness(tables: Mapping[Key, AnalyticsTable]) -> dict[dg.AssetKey, tuple[str, TableFreshness]]:
    """Return the names of the tables that declare a freshness, and what they declare."""
    return {
        dg.AssetKey(list(key)): (table.name, table.freshness)
        for key, table in tables.items()
        if table.freshness is not None
    }


def late_tables(instance: dg.DagsterInstance, tables: Mapping[Key, AnalyticsTable], *, now: datetime) -> Iterator[str]:
    """Yield each late table in words, in one query and one more for each that was never built.

    A table that no run has tried to build yet is not late.

    Args:
        instance: With the history.
        tables: The declared tables.
        now: With a time zone.
    """
    due = with_freshness(tables)
    built = _built_at(instance, due)
    for key, (name, freshness) in due.items():
        if (at := built.get(key)) is not None:
            if now - at > freshness.fail:
                yield f"{name} (last built {at:%Y-%m-%d %H:%M} UTC, allowed every {in_words(freshness.fail)})"
        elif (tried := _first_tried_at(instance, key)) is not None and now - tried > freshness.fail:
            yield f"{name} (never built, first tried {tried:%Y-%m-%d %H:%M} UTC, allowed every {in_words(freshness.fail)})"


def _built_at(
    instance: dg.DagsterInstance, due: Mapping[dg.AssetKey, tuple[str, TableFreshness]]
) -> dict[dg.AssetKey, datetime]:
    records = instance.get_asset_records(list(due)) if due else []
    events = {record.asset_entry.asset_key: record.asset_entry.last_materialization for record in records}
    return {key: datetime.fromtimestamp(event.timestamp, UTC) for key, event in events.items() if event is not None}


def _first_tried_at(instance: dg.DagsterInstance, key: dg.AssetKey) -> datetime | None:
    planned = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=key)
    with warnings.catch_warnings():
        # Dagster 1.13.27 calls the method deprecated until 2.0, and has no other that returns planned materializations.
        warnings.simplefilter("ignore", DeprecationWarning)
        records = instance.get_event_records(planned, limit=1, ascending=True)
    return datetime.fromtimestamp(records[0].timestamp, UTC) if records else None


def in_words(allowed: timedelta) -> str:
    """Return a time of whole minutes in the largest unit that leaves no rest, as in `26 h`. A day is 24 h."""
    minutes = int(allowed.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60
    if days > 1 and minutes % 1440 == 0:
        return f"{days} days"
    return f"{hours} h" if minutes % 60 == 0 else f"{minutes} min"
