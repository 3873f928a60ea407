"""What Dagster records of a candidate that a person has published: `run-elt publish`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dagster as dg

from run_elt_dagster.model.candidate import ByHand
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import built_tags
from run_elt_dagster.orchestration.events import evaluation_of, materialization_metadata
from run_elt_dagster.orchestration.partition_events import ROWS_OF_PARTITION
from run_elt_dagster.orchestration.specs import NO_LINKS
from run_elt_dagster.publish.kept import ByHandOutcome, Published
from run_elt_dagster.publish.kept_parts import PartitionsByHand, PublishedPartitions
from run_elt_dagster.runs.history import PUBLISHED_RUN, run_of

# Other events of the table since its publication are seldom more.
_EVENTS_READ = 50
Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def tags_of_part(instance: dg.DagsterInstance, table: AnalyticsTable) -> Mapping[str, str]:
    """Return the tags of the materialization of an increment: most rows are of the code of before, so they stay those of before."""
    return built_tags(instance, _asset_key(table))


def events_of(published: ByHandOutcome, run_id: str, *, tags: Mapping[str, str] | None = None) -> Sequence[Event]:
    """Return the materialization of a published candidate, and the results of its checks as they are now.

    The code of the rows is not known: the file may have changed since the run. So they have no version, and Dagster does not call them
    out of date.

    Args:
        published: What became of the candidate.
        run_id: The run that had built it.
        tags: Those of the materialization of an increment, as `tags_of_part` returns them.
    """
    outcome = published.outcome
    key = dg.AssetKey(list(outcome.table.asset_path))
    metadata = {**materialization_metadata(outcome, NO_LINKS), **_by_hand(published.by_hand, run_id)}
    return [
        dg.AssetMaterialization(key, metadata=metadata, description=_words(published.by_hand), tags=tags),
        *(evaluation_of(key, audit, audited=outcome.candidate, links=NO_LINKS) for audit in outcome.audits),
    ]


def late_event(published: Published, *, tags: Mapping[str, str] | None = None) -> dg.AssetMaterialization:
    """Return the materialization of a table that was published without being recorded, by its comment. The tags are as in `events_of`."""
    metadata = {
        "dagster/row_count": published.version.rows,
        "dagster/table_name": str(published.target),
        **_by_hand(published.by_hand, published.run_id),
    }
    key = dg.AssetKey(list(published.table.asset_path))
    return dg.AssetMaterialization(key, metadata=metadata, description=_words(published.by_hand), tags=tags)


def events_of_partitions(published: PartitionsByHand, run_id: str) -> Sequence[Event]:
    """Return the materialization of each partition that the command has published, and the results of its checks as they are now.

    Args:
        published: What became of the kept partitions.
        run_id: The run that had built them.
    """
    outcome, found = published.outcome, list[Event]()
    key = _asset_key(outcome.table)
    for partition in published.published:
        part, by_hand = outcome.partitions[partition], published.by_hand_of(partition)
        same = {"dagster/table_name": str(outcome.target), **_by_hand(by_hand, run_id)}
        metadata = {**same, ROWS_OF_PARTITION: part.row_count or 0}
        found.append(_of_partition(outcome.table, partition, metadata, by_hand))
        found += (
            evaluation_of(key, audit, audited=outcome.candidate, links=NO_LINKS, partition=partition)
            for audit in part.audits
        )
    return found


def late_events_of_partitions(published: PublishedPartitions, keys: Collection[str]) -> Sequence[Event]:
    """Return the materializations of partitions that were published without being recorded, by their notes.

    Args:
        published: What readers see.
        keys: Of those that are not recorded.
    """
    by_hand = published.by_hand
    same = {"dagster/table_name": str(published.target), **_by_hand(by_hand, published.run_id)}
    return [
        _of_partition(published.table, note.key, {**same, ROWS_OF_PARTITION: note.rows}, by_hand)
        for note in published.notes
        if note.key in keys
    ]


def unrecorded_partitions(instance: dg.DagsterInstance, published: PublishedPartitions) -> list[str]:
    """Return the keys of the partitions of which Dagster has no materialization with the rows of the run."""
    key = _asset_key(published.table)
    return [each for each in published.keys if not _is_partition_recorded(instance, key, each, published.run_id)]


def _is_partition_recorded(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str, run_id: str) -> bool:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    records = instance.fetch_materializations(wanted, limit=_EVENTS_READ).records
    return any(run_of(record.event_log_entry) == run_id for record in records)


def _of_partition(
    table: AnalyticsTable, partition: str, metadata: Mapping[str, Any], by_hand: ByHand | None
) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        _asset_key(table), partition=partition, metadata=metadata, description=_words(by_hand)
    )


def _asset_key(table: AnalyticsTable) -> dg.AssetKey:
    return dg.AssetKey(list(table.asset_path))


def is_recorded(instance: dg.DagsterInstance, published: Published) -> bool:
    """Return whether Dagster has recorded that the rows of a run were published."""
    records = instance.fetch_materializations(dg.AssetKey(list(published.table.asset_path)), limit=_EVENTS_READ).records
    return any(run_of(record.event_log_entry) == published.run_id for record in records)


def report(instance: dg.DagsterInstance, events: Sequence[Event]) -> str | None:
    """Record events without a run; return what could not be recorded, in words."""
    try:
        for event in events:
            instance.report_runless_asset_event(event)
    except Exception as error:  # noqa: BLE001 - readers see the new rows, whatever becomes of the history
        return (
            f"the table is published, but Dagster's history could not note it, got {type(error).__name__}: {error}. Repeat the command when "
            "Dagster's storage is in order: it notes it, and changes nothing else"
        )
    return None


def _by_hand(by_hand: ByHand | None, run_id: str) -> dict[str, Any]:
    if by_hand is None:
        return {PUBLISHED_RUN: run_id}
    return {
        PUBLISHED_RUN: run_id,
        "published_by": by_hand.person,
        "published_at": by_hand.at,
        "checks_waived": ", ".join(by_hand.waived),
    }


def _words(by_hand: ByHand | None) -> str:
    return f"By run-elt publish: {by_hand.words}." if by_hand is not None else ""
