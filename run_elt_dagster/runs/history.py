"""What Dagster's history says of a table: its publications by this project, and no event that a person reports."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from run_elt_dagster.model.names import RUN_ID_CHARACTERS

# A publication older than so many events of others is not looked for.
EVENTS_READ = 200
# As many tables as one query names: a storage takes a limited number of parameters.
KEYS_PER_QUERY = 500
# An event of a wide table has 20 KB, and takes ten times as much as objects.
EVENTS_AT_ONCE = 50
# What `run-elt rollback` says in its observation, and `run-elt publish` in its materialization.
ROLLED_BACK_TO, CHECKS_WAIVED = "rolled_back_to", "checks_waived"
_DAY_SECONDS = 86400
# Where each day has many publications, a day takes a query, which takes as long as ten events.
DAYS_APART = 40


# What a materialization says of a table that a person has published: the run that had built and rejected it.
PUBLISHED_RUN = "published_run"


def run_of(event: dg.EventLogEntry) -> str:
    """Return the run of the rows that a materialization is about; empty where a person has reported it in the UI."""
    published = event.asset_materialization
    told = published.metadata.get(PUBLISHED_RUN) if published is not None else None
    return event.run_id or (str(told.value) if told is not None else "")


def whole_run_id(instance: dg.DagsterInstance, path: Sequence[str], start: str) -> str:
    """Return the id of a run that has published a table, by its start; the start where the history does not say.

    Args:
        instance: Where it is recorded.
        path: The table's asset key.
        start: What is known of the id.
    """
    if not start or len(start) > RUN_ID_CHARACTERS:
        return start
    try:
        records = instance.fetch_materializations(dg.AssetKey(list(path)), limit=EVENTS_READ).records
    except Exception:  # noqa: BLE001 - of what is logged, this is the least
        return start
    return next((run for each in records if (run := run_of(each.event_log_entry)).startswith(start)), start)


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


def publications(
    instance: dg.DagsterInstance, key: Sequence[str], *, days: int, partitions: Sequence[str] = ()
) -> list[dg.EventLogEntry]:
    """Return the publications of a table in order, without those that are no example: rolled back, or published over a failed check.

    A page of 50 events is read at a time, until there are enough days. Where each day has many events, the others are the last of each day: one
    query for a day, and one event, until there are DAYS_APART days.

    Args:
        instance: Where they are recorded.
        key: The table's asset key.
        days: How many days with a publication are enough. Of partitions, all of those that are named.
        partitions: Their keys; empty for a table that is built whole.
    """
    asset = dg.AssetKey(list(key))
    if partitions:
        chosen = dg.AssetRecordsFilter(asset, asset_partitions=list(partitions))
        found = _all_of(instance, chosen, most=2 * len(partitions))
    else:
        found = _of_days(instance, asset, days)
    taken_back = [
        record.event_log_entry
        for record in instance.fetch_observations(asset, limit=EVENTS_AT_ONCE).records
        if (observed := record.event_log_entry.asset_observation) is not None and ROLLED_BACK_TO in observed.metadata
    ]
    return _that_stayed(found, taken_back)


def _all_of(instance: dg.DagsterInstance, chosen: dg.AssetRecordsFilter, *, most: int) -> list[dg.EventLogEntry]:
    records = instance.fetch_materializations(chosen, limit=most).records
    return [record.event_log_entry for record in records]


def _of_days(instance: dg.DagsterInstance, asset: dg.AssetKey, days: int) -> list[dg.EventLogEntry]:
    """Return the newest publications first: all of the first page, and then enough for the last one of each of so many days."""
    found: list[dg.EventLogEntry] = []
    seen: set[int] = set()
    before: float | None = None
    size = EVENTS_AT_ONCE
    while len(seen) < days:
        page = _all_of(instance, dg.AssetRecordsFilter(asset, before_timestamp=before), most=size)
        found += page
        seen |= {_day(event) for event in page}
        if len(page) < size:
            break
        # Before all of the day that the page ends in: its newest event is known.
        before = float(_day(page[-1]) * _DAY_SECONDS)
        if 2 * len(seen) < len(found):
            days, size = min(days, DAYS_APART), 1
    return found


def _day(event: dg.EventLogEntry) -> int:
    """Return the number of the day of an event in UTC."""
    return int(event.timestamp // _DAY_SECONDS)


def _that_stayed(found: Sequence[dg.EventLogEntry], taken_back: Sequence[dg.EventLogEntry]) -> list[dg.EventLogEntry]:
    """Return publications in order, without those that a rollback has taken back, and those whose failed checks a person has waived."""
    stayed: list[dg.EventLogEntry] = []
    for event in sorted([*found, *taken_back], key=lambda each: each.timestamp):
        published = event.asset_materialization
        if published is None:
            _take_back(stayed, event)
        elif is_publication(event):
            stayed.append(event)
    return [each for each in stayed if not _is_waived(each)]


def _take_back(stayed: list[dg.EventLogEntry], rollback: dg.EventLogEntry) -> None:
    """Remove the newest publication before a rollback, of its partition if it is of one."""
    observed = rollback.asset_observation
    partition = observed.partition if observed is not None else None
    for place in range(len(stayed) - 1, -1, -1):
        published = stayed[place].asset_materialization
        if published is not None and partition in (None, published.partition):
            del stayed[place]
            return


def _is_waived(event: dg.EventLogEntry) -> bool:
    published = event.asset_materialization
    waived = published.metadata.get(CHECKS_WAIVED) if published is not None else None
    return waived is not None and bool(waived.value)


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
