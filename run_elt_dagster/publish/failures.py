"""What is said of a table that was not published: the failure of each stage, with what readers see and the remedy."""

from collections.abc import Sequence
from dataclasses import replace

from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal, missing_schema
from run_elt_dagster.publish.outcome import Failure
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError
from run_elt_dagster.snowflake.session import StatementError

# "SQL compilation error": what an account without COPY TAGS answers to the clause.
SYNTAX_ERROR = 1003


def failure_of(work: TableWork, error: Exception, *, after: StatementError | None = None) -> Failure:
    """Return the failure of a table by whatever was raised on its way.

    Args:
        work: The table.
        error: What was raised.
        after: The answer to the exchange that was being looked into, if there was one.
    """
    if isinstance(error, StatementError):
        return failed_statement(work, error)
    if isinstance(error, PublishRefusedError):
        return failed_rule(work, error.refusal)
    return failed_unexpectedly(work, error, after=after)


def failed_audit(work: TableWork, audits: Sequence[AuditOutcome]) -> Failure | None:
    """Return the failure of a table that did not pass its audits, None if it did."""
    failed = [outcome for outcome in audits if outcome.blocks]
    if not failed:
        return None
    problem, production, command = "; ".join(map(str, failed)), work.production, if_wanted(work, failed)
    query_id = next((outcome.query_id for outcome in failed if outcome.query_id), work.query_ids.get("audit"))
    message = (
        f"{work.table.name} was not published: {problem} in {work.candidate} "
        f"(query {query_id}). {production.words} Fix the SQL or the source, then materialize again; the "
        f"candidate is kept for inspection.{f' If the change is wanted: {command}' if command else ''}"
    )
    return Failure("audit", message, production, query_id=query_id, problem=problem, if_wanted=command)


def if_wanted(work: TableWork, failed: Sequence[AuditOutcome]) -> str:
    """Return the command that publishes a difference which is no mistake; empty where something else has failed too, or it would refuse."""
    if (
        work.is_read_in_group
        or work.is_in_one_transaction
        or any(outcome.audit.kind != "changes" for outcome in failed)
    ):
        return ""
    group = work.table.publish_group
    what = work.table.name if group is None else f"--group {group}"
    return f"run-elt publish {what} --run {short_id(work.run.run_id)}"


def failed_rule(work: TableWork, refusal: Refusal) -> Failure:
    """Return the failure of a table that must not be published."""
    message = (refusal if refusal.seen else replace(refusal, seen=work.production.words)).message
    return Failure(work.stage, message, work.production, problem=message, reason=refusal.reason)


def failed_statement(work: TableWork, error: StatementError) -> Failure:
    """Return the failure of a table one of whose statements failed."""
    said, problem, remedy, reason = str(error), error.problem, _remedy(work, error), error.reason
    if work.stage == "build" and (missing := missing_schema(work.target, error, role=_role(work))):
        problem, remedy = missing
        said, reason = problem, Reason.PRIVILEGES
    production = work.production
    number = f"Snowflake error {error.errno}, " if error.errno else ""
    message = (
        f"{work.table.name} failed in stage {work.stage}: {said} ({number}query {error.query_id}). {production.words} "
        f"{remedy}"
    )
    return Failure(
        work.stage,
        message,
        production,
        query_id=error.query_id,
        errno=error.errno,
        cause=error,
        problem=problem,
        where=error.where if work.stage == "build" else "",
        reason=reason,
    )


def failed_unexpectedly(work: TableWork, error: Exception, *, after: StatementError | None) -> Failure:
    """Return the failure of a table by anything else: an error of this project, or an interruption.

    Args:
        work: The table.
        error: What was raised.
        after: The answer to the exchange that was being looked into, if there was one.
    """
    what, query_id = type(error).__name__, _query_id(after, error)
    message = (
        f"{work.table.name} failed in stage {work.stage} (query {query_id}): {what}: {error}. {work.production.words}"
    )
    problem = f"{what} in stage {work.stage}: {error}"
    return Failure(work.stage, message, work.production, query_id=query_id, cause=error, problem=problem)


def _query_id(*errors: BaseException | None) -> str | None:
    """Return the id of the failed query. It may be that of an error before the last one."""
    for error in errors:
        link = error
        while link is not None:
            if isinstance(link, StatementError) and link.query_id:
                return link.query_id
            link = link.__cause__ or link.__context__
    return None


def _remedy(work: TableWork, error: StatementError) -> str:
    if error.errno == SYNTAX_ERROR and work.stage == "publish" and work.options.copy_tags:
        return "If the account refuses COPY TAGS, set RUN_ELT_COPY_TAGS=false."
    if error.errno == EMBEDDED_DISK_ERRNO:
        return "Nothing of the statement was kept. Make room on that disk or mend it, then materialize again."
    return "Read the query in Snowflake's history, fix the SQL or the grants, then materialize again."


def _role(work: TableWork) -> str:
    """Return the session's role. Its name is not known yet if no target schema exists."""
    if work.inventory.role:
        return work.inventory.role
    try:
        return str(work.runner.send_once("SELECT CURRENT_ROLE()", tag={"stage": "inspect"}).rows[0][0])
    except (StatementError, RunStoppedError, IndexError):
        return "of the session"
