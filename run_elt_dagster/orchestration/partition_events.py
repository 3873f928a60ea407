"""What Dagster records of the partitions that a run has built: one materialization and one result of each check for each of them.

Tried on Dagster 1.13.27: a result of the op records every partition of the run, whatever was built, and an AssetCheckResult of a
range is stored without a partition. So the events name their partition, one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.audit.usual_check import numbers_of
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.partitions import range_words
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import NO_VERSION
from run_elt_dagster.orchestration.events import evaluations_of, log_event
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.partitions import target_of_evaluation
from run_elt_dagster.publish.outcome import PartitionOutcome, TableOutcome
from run_elt_dagster.runs.partitions import latest_materializations

# Dagster's name for the rows of one partition.
ROWS_OF_PARTITION = "dagster/partition_row_count"
# What each partition's event says besides. Only the newest one has the rest: columns and their lineage take thousands of characters,
# and the page of the table shows the latest.
_SAID_OF_EACH = {"dagster/table_name", "candidate", "publish", "publish_query_id"}


def published_partitions(outcome: TableOutcome) -> list[str]:
    """Return the keys of the partitions that a run has published, in order."""
    return [key for key, part in outcome.partitions.items() if part.state == "published"]


def failed_partitions(outcome: TableOutcome) -> list[str]:
    """Return the keys of the partitions that were to be published and were not, or of which it is unknown, in order."""
    return [key for key, part in outcome.partitions.items() if part.state in ("failed", "unknown")]


def partition_words(keys: Sequence[str], *, limit: int = 5) -> str:
    """Return some keys for a person: all of a few, else the first, the last and how many."""
    return ", ".join(keys) if len(keys) <= limit else range_words(keys)


def record_partitions(
    context: dg.AssetExecutionContext,
    outcome: TableOutcome,
    metadata: Mapping[str, Any],
    *,
    tags: Mapping[str, str],
    is_awaited: bool,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Record the published partitions of a table, at once, or as the result that starts what waits for the table.

    Args:
        context: Of the op.
        outcome: What became of the table.
        metadata: What Dagster shows of the table.
        tags: The versions of its code and of what it has read.
        is_awaited: Whether something in the run waits for the table. It starts only if readers see every partition of the run.
    """
    key, published = dg.AssetKey(list(outcome.table.asset_path)), published_partitions(outcome)
    said = {each: _metadata(outcome.partitions[each], metadata, is_newest=each == published[-1]) for each in published}
    if is_awaited and outcome.in_production:
        for each, part in outcome.partitions.items():
            more = said.get(each) or {"published_by": part.superseded_by or ""}
            context.add_asset_metadata(more, asset_key=key, partition_key=each)
        yield dg.MaterializeResult(key, data_version=dg.DataVersion(NO_VERSION))
        return
    for each in published:
        log_event(context, dg.AssetMaterialization(key, partition=each, metadata=said[each], tags=tags))


def _metadata(part: PartitionOutcome, metadata: Mapping[str, Any], *, is_newest: bool) -> dict[str, Any]:
    kept = metadata if is_newest else {name: value for name, value in metadata.items() if name in _SAID_OF_EACH}
    # Those of the table's metadata are of another partition.
    own = numbers_of(part.audits)
    rows = {} if part.row_count is None else {ROWS_OF_PARTITION: part.row_count}
    passed = ", ".join(audit.audit.name for audit in part.audits if audit.passed)
    # The number of all rows of the table is not known here.
    return {
        **{name: value for name, value in kept.items() if name != "dagster/row_count"},
        **rows,
        **own,
        "checks_passed": passed,
    }


def record_partition_checks(context: dg.AssetExecutionContext, outcome: TableOutcome, links: Links) -> None:
    """Record the results of a table's checks, for each partition, behind its materialization."""
    audits = {key: part.audits for key, part in outcome.partitions.items()}
    superseded = [key for key, part in outcome.partitions.items() if part.state == "superseded"]
    _record_evaluations(context, outcome.table, audits, audited=outcome.candidate, links=links, elsewhere=superseded)


def record_partition_checks_alone(
    context: dg.AssetExecutionContext,
    table: AnalyticsTable,
    outcomes: Sequence[AuditOutcome],
    *,
    audited: Relation,
    links: Links,
) -> None:
    """Record the results of checks of published partitions."""
    audits: dict[str, list[AuditOutcome]] = {}
    for outcome in outcomes:
        audits.setdefault(outcome.partition or "", []).append(outcome)
    _record_evaluations(context, table, audits, audited=audited, links=links)


def _record_evaluations(
    context: dg.AssetExecutionContext,
    table: AnalyticsTable,
    audits: Mapping[str, Sequence[AuditOutcome]],
    *,
    audited: Relation,
    links: Links,
    elsewhere: Sequence[str] = (),
) -> None:
    """Record evaluations; those of a rejected partition are about the rows before, and are shown beside them.

    Args:
        context: Of the op.
        table: The table.
        audits: The verdicts, by partition.
        audited: What was asked.
        links: Where links lead.
        elsewhere: Partitions that a newer run has published. Its own results are shown, and these are kept in the history.
    """
    evaluations = {
        partition: evaluations_of(context, table, outcomes, audited=audited, links=links)
        for partition, outcomes in audits.items()
    }
    about = [partition for partition, some in evaluations.items() if some and partition not in elsewhere]
    latest = latest_materializations(context.instance, dg.AssetKey(list(table.asset_path)), about)
    for partition, some in evaluations.items():
        target = target_of_evaluation(latest.get(partition))
        for evaluation in some:
            log_event(context, _of_partition(evaluation, partition, target))


def _of_partition(evaluation: dg.AssetCheckEvaluation, partition: str, target: Any) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        metadata=evaluation.metadata,
        target_materialization_data=target,
        severity=evaluation.severity,
        description=evaluation.description,
        blocking=evaluation.blocking,
        partition=partition,
    )
