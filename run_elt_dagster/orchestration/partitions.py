"""Partitions as Dagster has them: their definitions, which of them a run was asked for, and what is recorded of each."""

import json
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import dagster as dg

from run_elt_dagster.audit.plan import Audit
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Partitioning, Slice
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable

# Dagster counts the days of a week from Sunday.
_MONDAY = 1


def definition_of(partitions: Partitioning) -> dg.TimeWindowPartitionsDefinition:
    """Return Dagster's definition of a table's partitions; the same object for tables with the same ones."""
    start, end = partitions.start.strftime(partitions.key_format), partitions.end
    return _definition(partitions.by, start, end.strftime(partitions.key_format) if end is not None else None)


@cache
def _definition(by: str, start: str, end: str | None) -> dg.TimeWindowPartitionsDefinition:
    if by == "hour":
        return dg.HourlyPartitionsDefinition(start, end_date=end)
    if by == "day":
        return dg.DailyPartitionsDefinition(start, end_date=end)
    if by == "week":
        return dg.WeeklyPartitionsDefinition(start, end_date=end, day_offset=_MONDAY)
    return dg.MonthlyPartitionsDefinition(start, end_date=end)


def partitions_of(table: AnalyticsTable) -> dg.TimeWindowPartitionsDefinition | None:
    """Return the definition of a table's partitions, None of one that is built whole."""
    return None if table.partitions is None else definition_of(table.partitions)


def dep_of(key: Sequence[str], reader: AnalyticsTable, read: AnalyticsTable | None) -> dg.AssetDep:
    """Return a dependency. A partition may be older than the first one of what it reads: the SQL says what it needs."""
    if reader.partitions is None or read is None or read.partitions is None:
        return _whole(tuple(key))
    if definition_of(reader.partitions) == definition_of(read.partitions):
        return _whole(tuple(key))
    with warnings.catch_warnings():
        # Dagster 1.13.27 calls the parameter beta. Without it, it refuses a partition whose time the other table has no partition of.
        warnings.simplefilter("ignore", dg.BetaWarning)
        mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    return dg.AssetDep(list(key), partition_mapping=mapping)


@cache
def _whole(key: Key) -> dg.AssetDep:
    """Return a dependency without a mapping; hundreds of tables may read the same one."""
    return dg.AssetDep(list(key))


def partitioned_check_spec(table: AnalyticsTable, audit: Audit) -> dg.AssetCheckSpec:
    """Return the asset check of an audit, with the partitions of its table."""
    with warnings.catch_warnings():
        # Without it, no page shows a verdict by partition. Dagster 1.13.27 calls it a preview.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            audit.name,
            asset=list(table.asset_path),
            description=audit.description,
            blocking=audit.severity == "error",
            partitions_def=partitions_of(table),
        )


class NoPartitionError(ValueError):
    """A run that was to build partitions, and names none.

    Attributes:
        summary: That in words.
        reason: The same as a fact.
    """

    summary: ClassVar[str] = "The run names no partition"
    reason: ClassVar[Reason] = Reason.NO_PARTITION


def slices_of(context: dg.AssetExecutionContext, tables: Catalogue) -> dict[Key, Slice]:
    """Return the slice that the run asks for, for each selected partitioned table, and each one with a selected check.

    Dagster starts a run without a partition, and one of a range whose end comes first. Both would record nothing, in green.

    Raises:
        NoPartitionError: The run names no partition, or a range the wrong way round.
    """
    asked = {*context.selected_asset_keys, *(key.asset_key for key in context.selected_asset_check_keys)}
    wanted = {
        key: table.partitions
        for key, table in tables.items()
        if table.partitions is not None and dg.AssetKey(list(table.asset_path)) in asked
    }
    if not wanted:
        return {}
    first, last = _asked_for(context, ".".join(next(iter(wanted))))
    try:
        return {key: partitions.between(first, last) for key, partitions in wanted.items()}
    except ValueError as error:
        raise NoPartitionError(
            f"{error} This run is refused, nothing was built, and readers see what they saw before."
        ) from error


def _asked_for(context: dg.AssetExecutionContext, name: str) -> tuple[str, str]:
    """Return the first and the last partition that a run was launched for."""
    if context.has_partition_key_range:
        asked = context.partition_key_range
        return asked.start, asked.end
    if context.has_partition_key:
        return context.partition_key, context.partition_key
    raise NoPartitionError(
        f"{name} requires a partition or a range of partitions, got none. This run is refused, nothing was built, and readers see what "
        "they saw before. Name them: --partition KEY, or --partition-range FIRST...LAST, or choose them on the page."
    )


def target_of_evaluation(record: dg.EventLogRecord | None) -> Any:
    """Return what an evaluation says it is about: pages show its verdict where that is the partition's latest materialization.

    Dagster 1.13.27 has no public name for it. This is how its storage keeps one, and how it is read back.
    """
    if record is None:
        return None
    kept = {
        "__class__": "AssetCheckEvaluationTargetMaterializationData",
        "storage_id": record.storage_id,
        "run_id": record.run_id,
        "timestamp": record.timestamp,
    }
    return dg.deserialize_value(json.dumps(kept))
