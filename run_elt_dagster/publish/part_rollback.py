"""Put back the rows that parts of a table had before their last publish: one transaction in a session of its own."""

import contextlib
from collections.abc import Mapping, Sequence

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.counted import counted
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.part_rollback_plan import NOTHING_CHANGED, PartRollbackPlan
from run_elt_dagster.publish.partitions import (
    PublishedPartition,
    forget_keys_sql,
    lock_sql,
    markers_of,
    record_again_sql,
)
from run_elt_dagster.publish.rollback_plan import rollback_tag
from run_elt_dagster.publish.row_exchange import begin_sql, exchange_parameters
from run_elt_dagster.snowflake.runner import RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError


def put_back(runner: StatementRunner, *plans: PartRollbackPlan) -> None:
    """Put the rows of before back, of all tables in one transaction; readers see all of them or those of now.

    Safe to repeat with new plans: the notes of the same transaction say what is done.

    Args:
        runner: Sends the statements.
        plans: One for each table.

    Raises:
        PublishRefusedError: A run has published meanwhile, or the rows are not those of a plan. Nothing was changed.
        StatementError: A statement failed. The error says what readers see.
    """
    due = sorted((plan for plan in plans if plan.versions), key=lambda plan: (plan.target.schema, plan.target.name))
    if not due:
        return
    attempt = _Attempt(due)
    try:
        with runner.fresh(exchange_parameters(runner.patience)) as fresh:
            attempt.exchange(fresh)
            attempt.commit(fresh)
    except StatementError as error:
        if not attempt.is_committing:
            raise _told(due, error, NOTHING_CHANGED) from error
        if problem := _after_commit(runner, attempt, error):
            raise _told(due, error, problem) from error


class _Attempt:
    """One transaction.

    Attributes:
        plans: What it puts back, in the order of the locks.
        is_committing: Whether COMMIT was sent, so an error does not say what readers see.
    """

    def __init__(self, plans: Sequence[PartRollbackPlan]) -> None:
        self.plans, self.is_committing = plans, False

    def exchange(self, fresh: StatementRunner) -> None:
        """Exchange the rows and note it, without the COMMIT."""
        first = self.plans[0]
        _send(fresh, first, begin_sql(fresh.run.run_id))
        try:
            self.lock(fresh)
            for step in (_require_nobody_published, _exchange):
                for plan in self.plans:
                    step(fresh, plan)
        except BaseException:
            # Where that fails, the end of the session does it.
            with contextlib.suppress(StatementError, RunStoppedError):
                _send(fresh, first, "ROLLBACK")
            raise

    def lock(self, fresh: StatementRunner) -> None:
        """Take the locks of all tables."""
        for plan in self.plans:
            _send(fresh, plan, lock_sql(plan.target))

    def commit(self, fresh: StatementRunner) -> None:
        """Let readers see it."""
        self.is_committing = True
        _send(fresh, self.plans[0], "COMMIT")


def _send(runner: StatementRunner, plan: PartRollbackPlan, sql: str) -> Answer:
    """Send a statement about a table once."""
    return runner.send_once(sql, tag=rollback_tag(plan.table))


def _notes(fresh: StatementRunner, plan: PartRollbackPlan) -> dict[str, PublishedPartition]:
    """Return the notes of the parts, by the key."""
    return {note.key: note for note in markers_of(_send(fresh, plan, plan.notes_sql).rows).partitions}


def _require_nobody_published(fresh: StatementRunner, plan: PartRollbackPlan) -> None:
    """Look again under the lock: a person may have read the plan for an hour."""
    if _notes(fresh, plan) != {key: version.present for key, version in plan.versions.items()}:
        raise _refused(plan, "another version since", "Repeat the command if that one must go, too.")


def _exchange(fresh: StatementRunner, plan: PartRollbackPlan) -> None:
    for sql in (plan.delete_sql, *plan.insert_sqls):
        _send(fresh, plan, sql)
    _require_its_rows(fresh, plan)
    _send(fresh, plan, forget_keys_sql(plan.target, tuple(plan.versions)))
    _send(fresh, plan, record_again_sql(plan.target, [version.note for version in plan.versions.values()]))


def _require_its_rows(fresh: StatementRunner, plan: PartRollbackPlan) -> None:
    if (found := int(_send(fresh, plan, plan.count_sql).rows[0][0])) != plan.rows:
        raise _refused(
            plan,
            f"{counted(found, 'rows')} in the place of {plan.rows:,}",
            "Find in Snowflake's history who else writes into the table.",
        )
    for check, sql in plan.parts.elsewhere(plan.versions).items():
        if found := int(_send(fresh, plan, sql).rows[0][0]):
            raise _refused(
                plan,
                f"{counted(found, 'rows')} with a key of other rows (check {check})",
                "Roll the other partitions back with them.",
            )


def _refused(plan: PartRollbackPlan, got: str, remedy: str) -> PublishRefusedError:
    rule = f"rolling back {plan.table.name} requires that readers see what the plan says"
    return PublishRefusedError(Refusal(rule, got, remedy, seen=NOTHING_CHANGED))


def _after_commit(runner: StatementRunner, attempt: _Attempt, error: StatementError) -> str:
    """Ask in a session of its own whether the COMMIT has happened; return what readers see if it has not, in a sentence.

    The locks are taken first: as long as the transaction of before is under way, the notes do not tell.

    Raises:
        StatementError: Snowflake cannot be asked.
    """
    plans = attempt.plans
    names = " ".join(f"run-elt show --partitions {plan.table.name}." for plan in plans)
    try:
        with runner.fresh(exchange_parameters(runner.patience)) as fresh:
            attempt.lock(fresh)
            found = [_notes(fresh, plan) for plan in plans]
    except StatementError:
        parts = " and of ".join(plan.parts.words for plan in plans)
        raise _told(plans, error, f"What readers see of {parts} is unknown: {names}") from error
    pairs = list(zip(plans, found, strict=True))
    if all(_is_done(plan, notes) for plan, notes in pairs):
        return ""
    if all(notes == {key: version.present for key, version in plan.versions.items()} for plan, notes in pairs):
        return NOTHING_CHANGED
    return f"Another run has published since: {names}"


def _is_done(plan: PartRollbackPlan, found: Mapping[str, PublishedPartition]) -> bool:
    versions = plan.versions.items()
    return all(key in found and _says(found[key]) == _says(version.note) for key, version in versions)


def _says(note: PublishedPartition) -> tuple[Marker, str | None]:
    return note.marker, note.query_id


def _told(plans: Sequence[PartRollbackPlan], error: StatementError, seen: str) -> StatementError:
    names = ", ".join(plan.table.name for plan in plans)
    text = f"rolling back {names} failed, got {str(error).rstrip('.')}. {seen} Repeat the command: it never goes back twice."
    return StatementError(text, errno=error.errno, query_id=error.query_id, answered=error.answered)
