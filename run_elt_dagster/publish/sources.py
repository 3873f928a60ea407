"""Sources that are too old: a check of severity `error` on them holds a build back before it costs anything."""

from dataclasses import replace

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import Audited, AuditOutcome, Numbers, SourceAudit, sources_sql
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.failures import failed_statement
from run_elt_dagster.publish.outcome import Failure, PartitionOutcome, TableOutcome
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError
from run_elt_dagster.snowflake.session import StatementError


def held_back(work: TableWork) -> TableOutcome | None:
    """Ask the catalogue about the sources of a table that declares how old they may be; one statement, none without such a check.

    Args:
        work: The table.

    Returns:
        The outcome of a table that must not be built; None if it may be.
    """
    asked = holding_audits(work.table, database=work.target.database)
    if not asked:
        return None
    work.stage = "audit"
    try:
        answer = work.send(sources_sql(asked))
    except StatementError as error:
        return _outcome(work, (), failed_statement(work, error))
    except RunStoppedError:
        # The run ends: the build says so.
        return None
    outcomes = tuple(
        audit.judge(Numbers((value,), answer.query_id), Audited(work.target))
        for audit, value in zip(asked, answer.rows[0], strict=True)
    )
    old = [outcome for outcome in outcomes if outcome.blocks]
    return _outcome(work, outcomes, _failure(work, old, answer.query_id)) if old else None


def holding_audits(table: AnalyticsTable, *, database: str) -> list[SourceAudit]:
    """Return the audits of sources that hold the build of a table back."""
    if not table.checks.source_freshness:
        return []
    audits = audits_of(table, database=database)
    return [audit for audit in audits if isinstance(audit, SourceAudit) and audit.severity == "error"]


def _failure(work: TableWork, old: list[AuditOutcome], query_id: str) -> Failure:
    problem, production = "; ".join(map(str, old)), work.production
    message = f"{work.table.name} was not built: {problem} (query {query_id}). {production.words} Have the source loaded, then materialize again."
    return Failure("audit", message, production, query_id=query_id, problem=problem)


def _outcome(work: TableWork, audits: tuple[AuditOutcome, ...], failure: Failure) -> TableOutcome:
    # What holds the build back is said of each partition of it.
    keys = work.part.keys if work.part is not None and audits else ()
    partitions = {
        key: PartitionOutcome("failed", audits=tuple(replace(each, partition=key) for each in audits)) for key in keys
    }
    return TableOutcome(
        table=work.table,
        target=work.target,
        candidate=work.candidate,
        partitions=partitions,
        audits=audits,
        seconds=work.seconds,
        query_ids=work.query_ids,
        failure=failure,
    )
