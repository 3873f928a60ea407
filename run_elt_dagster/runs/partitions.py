"""What Dagster's history says of partitions: which a run was asked for, and when each of them was materialized last."""

from collections.abc import Collection, Mapping

import dagster as dg

# Dagster's tags of a run. It offers no constants for them (1.13.27).
PARTITION, BACKFILL = "dagster/partition", "dagster/backfill"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# Others' events of the same partitions may lie between those that are looked for.
_MORE_READ = 200
# As many as one query names: a storage takes a limited number of parameters.
_PER_QUERY = 500


def asked_partitions(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first and the last partition that the tags of a run ask for; None of a run of whole tables."""
    if RANGE_START in tags and RANGE_END in tags:
        return tags[RANGE_START], tags[RANGE_END]
    return (tags[PARTITION], tags[PARTITION]) if PARTITION in tags else None


def latest_materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Collection[str]
) -> dict[str, dg.EventLogRecord]:
    """Return the latest materialization of each partition that has one: a query for 500, and one more for each that others hide."""
    asked, found = list(partitions), dict[str, dg.EventLogRecord]()
    for begin in range(0, len(asked), _PER_QUERY):
        found |= _latest_of_some(instance, key, asked[begin : begin + _PER_QUERY])
    return found


def _latest_of_some(instance: dg.DagsterInstance, key: dg.AssetKey, asked: list[str]) -> dict[str, dg.EventLogRecord]:
    limit = len(asked) + _MORE_READ
    records = instance.fetch_materializations(_filter(key, asked), limit=limit).records
    found: dict[str, dg.EventLogRecord] = {}
    for record in records:
        if record.partition_key is not None:
            found.setdefault(record.partition_key, record)
    if len(records) == limit:
        for partition in set(asked) - found.keys():
            if newest := instance.fetch_materializations(_filter(key, [partition]), limit=1).records:
                found[partition] = newest[0]
    return found


def _filter(key: dg.AssetKey, partitions: list[str]) -> dg.AssetRecordsFilter:
    return dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions)
