"""What Dagster records of a table that a run has built: its materialization, and the results of its checks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.audit.usual_check import UsualAudit, numbers_of
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import NO_VERSION
from run_elt_dagster.orchestration.column_schema import built_schema
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.redaction import excerpt, redact
from run_elt_dagster.settings import secret_values

if TYPE_CHECKING:
    # Loading the code location does without what only a run needs.
    from run_elt_dagster.publish.outcome import TableOutcome

# An error may have megabytes, and every event is kept: enough to see how it starts and ends.
ERROR_LIMIT = 20_000
QUERY_LIMIT = 4_000


def record_table(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    metadata: Mapping[str, Any],
    *,
    tags: Mapping[str, str],
    is_awaited: bool,
    is_outdated: bool = False,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Record a published table, at once or as the result that is yielded.

    A result is an output of the op, and Dagster starts what waits for it. It costs more events, and Dagster looks up the
    versions of all that the table reads. Where nothing waits, the tags state them.

    Args:
        context: Of the op.
        key: Of the table.
        metadata: What Dagster shows of it.
        tags: The versions of its code and of what it has read (`version_tags`).
        is_awaited: Whether something in the run waits for it.
        is_outdated: Whether rows of other code than the present one stay in it.
    """
    if is_awaited:
        # Dagster adds the same tags. Without a version stated, it would make up one, and put the readers out of date.
        yield dg.MaterializeResult(key, metadata=metadata, data_version=dg.DataVersion(NO_VERSION))
    if not is_awaited or is_outdated:
        # Dagster states the present code of a result. Where rows of other code stay, this event is the latest, and says so.
        log_event(context, dg.AssetMaterialization(key, metadata=metadata, tags=tags))


def record_checks(
    context: dg.AssetExecutionContext, evaluations: Sequence[dg.AssetCheckEvaluation], *, is_awaited: bool
) -> Iterator[dg.AssetCheckResult]:
    """Record checks, those of an awaited table as results: Dagster would warn that what waits is not gated by them."""
    if is_awaited:
        yield from map(check_result, evaluations)
        return
    for evaluation in evaluations:
        log_event(context, evaluation)


def log_event(
    context: dg.AssetExecutionContext, event: dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetObservation
) -> None:
    """Store an event here and now.

    Where Dagster's storage fails, the error is raised in the op, which then begins no other table. What is yielded, Dagster
    stores on its own: its error leaves the op where it is, until the process ends, and its threads would go on publishing.
    """
    # The annotation of 1.13 leaves out the evaluation, which it takes.
    context.log_event(cast("Any", event))


def superseding(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> dg.MaterializeResult[Any]:
    """Return the result of a table that a newer run has published: what waits for it here can run, as its children can."""
    event = instance.get_latest_materialization_event(key)
    published = event.asset_materialization if event is not None and event.run_id == run_id else None
    metadata = dict(published.metadata) if published is not None else {}
    return dg.MaterializeResult(
        key, metadata={**metadata, "published_by": run_id}, data_version=dg.DataVersion(NO_VERSION)
    )


def check_result(evaluation: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    """Return an evaluation as the result that an op yields."""
    return dg.AssetCheckResult(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        severity=evaluation.severity,
        description=evaluation.description,
        metadata=evaluation.metadata,
    )


def evaluations_of(
    context: dg.AssetExecutionContext,
    table: AnalyticsTable,
    outcomes: Sequence[AuditOutcome],
    *,
    audited: Relation,
    links: Links,
) -> list[dg.AssetCheckEvaluation]:
    """Leave out checks that the run did not select: Dagster refuses them, though they did guard the publishing."""
    key = dg.AssetKey(list(table.asset_path))
    return [
        evaluation_of(key, outcome, audited=audited, links=links)
        for outcome in outcomes
        if is_selected(context, table, outcome)
    ]


def is_selected(context: dg.AssetExecutionContext, table: AnalyticsTable, outcome: AuditOutcome) -> bool:
    """Return whether the run selected the check of an audit."""
    return (
        dg.AssetCheckKey(dg.AssetKey(list(table.asset_path)), outcome.audit.name) in context.selected_asset_check_keys
    )


def evaluation_of(
    key: dg.AssetKey, audit: AuditOutcome, *, audited: Relation, links: Links, partition: str | None = None
) -> dg.AssetCheckEvaluation:
    """Return the result of a check as Dagster records it.

    Args:
        key: Of the table.
        audit: The verdict.
        audited: What was asked.
        links: Where links lead.
        partition: The partition that was asked; None for the whole table.
    """
    blocking = audit.audit.severity == "error"
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=audit.audit.name,
        passed=audit.passed,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        blocking=blocking,
        description=without_secrets(str(audit)),
        metadata=_check_metadata(audit, audited, links),
        partition=partition,
    )


def _check_metadata(audit: AuditOutcome, audited: Relation, links: Links) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "got": dict(audit.got) if audit.found is None else without_secrets(audit.found),
        "expected": audit.expected or audit.audit.description,
        "audited": str(audited),
    }
    # The catalogue's answer came without a query of its own.
    if audit.query_id:
        metadata["query_id"] = links.query(audit.query_id)
    if audit.query:
        metadata["query"] = excerpt(audit.query, limit=QUERY_LIMIT)
    if audit.bad_rows is not None:
        metadata["bad_rows"] = audit.bad_rows
    if audit.is_waived:
        metadata["waived"] = True
    if audit.audit.is_plotted:
        metadata |= {name: number for name, number in audit.got.items() if number is not None}
    if isinstance(audit.audit, UsualAudit):
        (measure,) = audit.audit.measures
        # As numbers of their own, beside the JSON of `got` and `expected`: one look compares them.
        numbers = {"number": audit.got.get(measure.counts), "low": measure.bounds.min, "high": measure.bounds.max}
        metadata |= {name: value for name, value in numbers.items() if value is not None}
    if audit.sample:
        rows = [{name: without_secrets(value) for name, value in row.items()} for row in audit.sample]
        metadata["bad_rows_sample"] = dg.MetadataValue.json(rows)
    return metadata


def materialization_metadata(outcome: "TableOutcome", links: Links) -> Mapping[str, Any]:
    """Return what Dagster shows of a published table. It plots the numbers over time."""
    return {
        "dagster/row_count": outcome.row_count,
        "dagster/table_name": str(outcome.target),
        **built_schema(outcome),
        # The embedded Snowflake counts no bytes.
        **({"bytes": outcome.bytes} if outcome.bytes else {}),
        "candidate": str(outcome.candidate),
        "publish": outcome.table.method,
        **({"publish_group": outcome.table.publish_group} if outcome.table.publish_group else {}),
        **_increment(outcome),
        **numbers_of(outcome.audits),
        "checks_passed": ", ".join(audit.audit.name for audit in outcome.audits if audit.passed),
        **_findings(outcome),
        "seconds": round(sum(outcome.seconds.values()), 3),
        **{f"{stage}_seconds": round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        **{f"{stage}_query_id": links.query(query_id) for stage, query_id in outcome.query_ids.items()},
    }


def _increment(outcome: "TableOutcome") -> Mapping[str, Any]:
    """Return what was merged into the table, and where it begins; nothing of a whole build."""
    increment = outcome.increment
    if increment is None or increment.start is None:
        return {}
    return {"increment_rows": increment.rows, "increment_start": increment.start.words}


def _findings(outcome: "TableOutcome") -> Mapping[str, str]:
    """Return what did not stop the publishing but should be looked at."""
    warned = ", ".join(audit.audit.name for audit in outcome.audits if not audit.passed)
    findings = {
        "checks_warned": warned,
        "schema_changes": "; ".join(outcome.schema_changes),
        "replaced_meanwhile": outcome.replaced,
    }
    return {name: text for name, text in findings.items() if text}


def without_secrets(text: str) -> str:
    """Return text as Dagster may keep it: no secrets, and no more of it than shows how it starts and ends."""
    return excerpt(redact(text, secrets=secret_values()), limit=ERROR_LIMIT)
