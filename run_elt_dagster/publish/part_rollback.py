"""Put back the rows that parts of a table had before their last publish: one transaction in a session of its own."""

import contextlib

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.table import AnalyticsTable
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


def put_back(runner: StatementRunner, plan: PartRollbackPlan) -> None:
    """Put the rows of before back; readers see all of them or those of now.

    Safe to repeat with a new plan: the notes of the same transaction say what is done.

    Raises:
        PublishRefusedError: A run has published meanwhile, or the rows are not those of the plan. Nothing was changed.
        StatementError: A statement failed. The error says what readers see.
    """
    if not plan.versions:
        return
    attempt = _Attempt(plan)
    try:
        with runner.fresh(exchange_parameters(runner.patience)) as fresh:
            attempt.exchange(fresh)
            attempt.commit(fresh)
    except StatementError as error:
        if not attempt.is_committing:
            raise _told(plan.table, error, NOTHING_CHANGED) from error
        if problem := _after_commit(runner, plan, attempt, error):
            raise _told(plan.table, error, problem) from error


class _Attempt:
    """One transaction.

    Attributes:
        is_committing: Whether COMMIT was sent, so an error does not say what readers see.
    """

    def __init__(self, plan: PartRollbackPlan) -> None:
        self._plan, self._tag = plan, rollback_tag(plan.table)
        self.is_committing = False

    def send(self, runner: StatementRunner, sql: str) -> Answer:
        """Send a statement once."""
        return runner.send_once(sql, tag=self._tag)

    def exchange(self, fresh: StatementRunner) -> None:
        """Exchange the rows and note it, without the COMMIT."""
        plan, run_id = self._plan, fresh.run.run_id
        self.send(fresh, begin_sql(run_id))
        try:
            self.send(fresh, lock_sql(plan.target))
            self._require_nobody_published(fresh)
            for sql in (plan.delete_sql, *plan.insert_sqls):
                self.send(fresh, sql)
            self._require_its_rows(fresh)
            self.send(fresh, forget_keys_sql(plan.target, tuple(plan.versions)))
            notes = [version.note for version in plan.versions.values()]
            self.send(fresh, record_again_sql(plan.target, notes))
        except BaseException:
            # Where that fails, the end of the session does it.
            with contextlib.suppress(StatementError, RunStoppedError):
                self.send(fresh, "ROLLBACK")
            raise

    def commit(self, fresh: StatementRunner) -> None:
        """Let readers see it."""
        self.is_committing = True
        self.send(fresh, "COMMIT")

    def notes(self, fresh: StatementRunner) -> dict[str, PublishedPartition]:
        """Return the notes of the parts, by the key."""
        return {note.key: note for note in markers_of(self.send(fresh, self._plan.notes_sql).rows).partitions}

    def _require_nobody_published(self, fresh: StatementRunner) -> None:
        """Look again under the lock: a person may have read the plan for an hour."""
        plan = self._plan
        if self.notes(fresh) != {key: version.present for key, version in plan.versions.items()}:
            raise self._refused("another version since", "Repeat the command if that one must go, too.")

    def _require_its_rows(self, fresh: StatementRunner) -> None:
        plan = self._plan
        if (found := int(self.send(fresh, plan.count_sql).rows[0][0])) != plan.rows:
            raise self._refused(
                f"{found:,} rows in the place of {plan.rows:,}",
                "Find in Snowflake's history who else writes into the table.",
            )
        for check, sql in plan.parts.elsewhere(plan.versions).items():
            if found := int(self.send(fresh, sql).rows[0][0]):
                raise self._refused(
                    f"{found:,} rows with a key of other rows (check {check})",
                    "Roll the other partitions back with them.",
                )

    def _refused(self, got: str, remedy: str) -> PublishRefusedError:
        rule = f"rolling back {self._plan.table.name} requires that readers see what the plan says"
        return PublishRefusedError(Refusal(rule, got, remedy, seen=NOTHING_CHANGED))


def _after_commit(runner: StatementRunner, plan: PartRollbackPlan, attempt: _Attempt, error: StatementError) -> str:
    """Ask in a session of its own whether the COMMIT has happened; return what readers see if it has not, in a sentence.

    The lock is taken first: as long as the transaction of before is under way, the notes do not tell.

    Raises:
        StatementError: Snowflake cannot be asked.
    """
    try:
        with runner.fresh(exchange_parameters(runner.patience)) as fresh:
            attempt.send(fresh, lock_sql(plan.target))
            found = attempt.notes(fresh)
    except StatementError:
        unknown = f"What readers see of {plan.parts.words} is unknown: run-elt show --partitions {plan.table.name}."
        raise _told(plan.table, error, unknown) from error
    versions = plan.versions.items()
    if all(key in found and _says(found[key]) == _says(version.note) for key, version in versions):
        return ""
    if found == {key: version.present for key, version in versions}:
        return NOTHING_CHANGED
    return f"Another run has published since: run-elt show --partitions {plan.table.name}."


def _says(note: PublishedPartition) -> tuple[Marker, str | None]:
    return note.marker, note.query_id


def _told(table: AnalyticsTable, error: StatementError, seen: str) -> StatementError:
    text = f"rolling back {table.name} failed, got {str(error).rstrip('.')}. {seen} Repeat the command: it never goes back twice."
    return StatementError(text, errno=error.errno, query_id=error.query_id, answered=error.answered)
