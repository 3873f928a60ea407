"""What Dagster's history says of a table: its publications by this project, and no event that a person reports."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

# A publication older than so many events of others is not looked for.
EVENTS_READ = 200
# As many tables as one query names: a storage takes a limited number of parameters.
KEYS_PER_QUERY = 500
# An event of a wide table has 20 KB, and takes ten times as much as objects.
EVENTS_AT_ONCE = 50


# What a materialization says of a table that a person has published: the run that had built and rejected it.
PUBLISHED_RUN = "published_run"


def run_of(event: dg.EventLogEntry) -> str:
    """Return the run of the rows that a materialization is about; empty where a person has reported it in the UI."""
    published = event.asset_materialization
    told = published.metadata.get(PUBLISHED_RUN) if published is not None else None
    return event.run_id or (str(told.value) if told is not None else "")


def is_publication(event: dg.EventLogEntry) -> bool:
    """Return whether a materialization was recorded by a run that published the table, or by `run-elt publish`.

    "Report materialization" in the UI records one without a run: https://docs.dagster.io/guides/build/assets/external-assets
    """
    published = event.asset_materialization
    return bool(run_of(event)) and published is not None and "dagster/table_name" in published.metadata


def last_publications(
    instance: dg.DagsterInstance,
    keys: Sequence[Sequence[str]],
    *,
    counts: Callable[[dg.EventLogEntry], bool] = is_publication,
) -> dict[tuple[str, ...], dg.EventLogEntry]:
    """Return the last publication of each table that has one: a query for 500 tables, and one for each with later events of others.

    Args:
        instance: Where they are recorded.
        keys: The tables' asset keys.
        counts: Whether a materialization is a publication.
    """
    found: dict[tuple[str, ...], dg.EventLogEntry] = {}
    for record in _asset_records(instance, keys):
        key, event = record.asset_entry.asset_key, record.asset_entry.last_materialization
        if event is not None and not counts(event):
            records = instance.fetch_materializations(key, limit=EVENTS_READ).records
            event = next((each.event_log_entry for each in records if counts(each.event_log_entry)), None)
        if event is not None:
            found[tuple(key.path)] = event
    return found


def last_materialized_at(instance: dg.DagsterInstance, keys: Sequence[Sequence[str]]) -> dict[tuple[str, ...], float]:
    """Return when each table was materialized last, by a run or a person, in seconds since the epoch: a query for 500 tables."""
    entries = [record.asset_entry for record in _asset_records(instance, keys)]
    return {
        tuple(entry.asset_key.path): entry.last_materialization.timestamp
        for entry in entries
        if entry.last_materialization is not None
    }


def last_seconds(instance: dg.DagsterInstance, keys: Sequence[Sequence[str]]) -> dict[tuple[str, ...], float]:
    """Return how long tables took when they were published last, as their materializations say: a query for 50 tables."""
    seconds: dict[tuple[str, ...], float] = {}
    for record in _asset_records(instance, keys, at_once=EVENTS_AT_ONCE):
        event = record.asset_entry.last_materialization
        published = event.asset_materialization if event is not None else None
        value = published.metadata.get("seconds") if published is not None else None
        if value is not None and isinstance(value.value, (int, float)):
            seconds[tuple(record.asset_entry.asset_key.path)] = float(value.value)
    return seconds


def _asset_records(
    instance: dg.DagsterInstance, keys: Sequence[Sequence[str]], *, at_once: int = KEYS_PER_QUERY
) -> Iterator[Any]:
    asked = [dg.AssetKey(list(key)) for key in keys]
    for begin in range(0, len(asked), at_once):
        yield from instance.get_asset_records(asked[begin : begin + at_once])
