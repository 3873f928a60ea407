"""What Dagster's history has of the versions of a table: the numbers that the check `usual` learns from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from run_elt_dagster.audit.usual import VERSIONS_USED
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.past import Past, PublishedNumbers
from run_elt_dagster.runs.history import publications

_DATE = "2024-01-01"


def past_of(instance: dg.DagsterInstance, asset_path: Callable[[Key], Sequence[str]]) -> Past:
    """Return what reads the versions of a table, once for each table that asks.

    Args:
        instance: Where they are recorded.
        asset_path: Returns the asset key of a table.
    """

    def past(key: Key, partitions: Sequence[str]) -> Sequence[PublishedNumbers]:
        events = publications(instance, asset_path(key), days=VERSIONS_USED, partitions=partitions)
        return [_numbers_of(event) for event in events]

    return past


def _numbers_of(event: dg.EventLogEntry) -> PublishedNumbers:
    published = event.asset_materialization
    if published is None:
        raise ValueError("a publication requires a materialization, got another event.")
    day, hour = datetime.fromtimestamp(event.timestamp, UTC).date(), ""
    if published.partition is not None:
        day = date.fromisoformat(published.partition[: len(_DATE)])
        hour = published.partition[len(_DATE) :]
    return PublishedNumbers(day, _named(published.metadata), hour)


def _named(metadata: Mapping[str, dg.MetadataValue]) -> Mapping[str, float]:
    """Return the numbers of a materialization by their names; the rows of a table and of a partition by one name."""
    found = dict(_numbers(metadata))
    rows = found.get("dagster/partition_row_count", found.get("dagster/row_count"))
    return found if rows is None else {**found, "rows": rows}


def _numbers(metadata: Mapping[str, dg.MetadataValue]) -> Iterable[tuple[str, float]]:
    for name, value in metadata.items():
        number = value.value if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue) else None
        if number is not None:
            yield name, float(number)
