"""An increment of one table on its way: find where it begins, build and audit it, merge it by key."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

from run_elt_dagster.audit.increment import IncrementAuditRunner, rows_to_merge
from run_elt_dagster.audit.plan import AuditOutcome, schema_changes, with_keys_elsewhere
from run_elt_dagster.audit.runner import AuditRunner
from run_elt_dagster.model.candidate import Marker, instant
from run_elt_dagster.model.production import Production, TableVersion
from run_elt_dagster.publish.failures import failed_audit
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.in_place_run import InPlaceRun
from run_elt_dagster.publish.increment_exchange import IncrementExchange, MergedRows, newest_sql
from run_elt_dagster.publish.outcome import Failure, IncrementOutcome, TableOutcome
from run_elt_dagster.publish.partitions import Markers, all_markers_sql, markers_of, newest_of, partitions_table
from run_elt_dagster.publish.row_exchange import KeyElsewhereError
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.session import StatementError


class IncrementRun(InPlaceRun):
    """Takes an increment of one table as far as it gets, in one thread. Without a table, it is the whole table.

    Args:
        work: What is known of the table. Nothing was done for it yet.
        clock: Returns Snowflake's time as markers have it.
        is_whole: Whether the table is built whole, though there is one.
    """

    def __init__(self, work: TableWork, clock: Callable[[], str], *, is_whole: bool = False) -> None:
        super().__init__(work, clock)
        self._is_whole = is_whole
        self._audits: tuple[AuditOutcome, ...] = ()
        self._exchange: IncrementExchange | None = None
        self._merged: MergedRows | None = None

    def _build(self) -> None:
        if not self._is_whole:
            find_start(self.work)
        super()._build()

    def _audit(self) -> None:
        work = self.work
        work.stage = "audit"
        auditor = increment_auditor(work)
        try:
            self._audits, work.inspection = auditor.evaluate()
        except StatementError as error:
            self._audits = auditor.unanswered(error)
            raise
        work.take_look()
        asked_at = work.inspection.asked_at
        # A kept candidate has the moment of its first audit.
        work.audited_at = work.audited_at or (instant(asked_at) if asked_at is not None else "")
        warned = [each for each in self._audits if not each.passed and not each.blocks]
        work.warnings += [f"{work.table.name}: {each}" for each in warned]

    def _publish(self) -> None:
        self._failure = self._failed_checks()
        if self._failure is not None:
            return
        work = self.work
        if work.start is not None and not rows_to_merge(self._audits):
            # Nothing is new. What readers see is what it would be after a merge.
            self._merged = MergedRows(_row_count(self._audits))
            self._protect()
            return
        work.stage = "publish"
        exchange = self.begin_exchange()
        try:
            self._merged = exchange.publish()
        except KeyElsewhereError as error:
            self._note_broken_key(error)
            self._failure = self._failed_checks()
        except Exception:
            if exchange.done is not None:
                self._merged = exchange.done
            elif exchange.is_created:
                # Readers see the rows of the first statement, whatever has failed since.
                self._merged = MergedRows(rows_to_merge(self._audits))
            raise

    def _protect(self) -> None:
        """Give the table its policies and tags where no rows are exchanged: its file may have changed."""
        self.work.stage = "publish"
        governance = Governance(self.work)
        governance.protect_object(is_in_place=True)
        governance.look_after()

    def begin_exchange(self) -> IncrementExchange:
        """Return what merges the candidate; in a group also one without rows, so the notes of all tables name one run."""
        self._exchange = IncrementExchange(self.work, self._audits)
        return self._exchange

    def end_exchange(self, done: MergedRows) -> None:
        """Note what was merged."""
        self._merged = done

    def _note_broken_key(self, error: KeyElsewhereError) -> None:
        self._audits = tuple(
            with_keys_elsewhere(each, error.rows) if each.audit == error.audit else each for each in self._audits
        )

    def _failed_checks(self) -> Failure | None:
        failure = failed_audit(self.work, self._audits)
        return failure and self._failed(failure)

    @property
    def _production(self) -> Production:
        """What readers see. The comment of the table names the run that has created it, and not that of the newest rows."""
        work = self.work
        if work.is_unknown:
            # A table that this run may have created says so itself; what it may have merged is noted.
            noted = work.target if work.standing is None else partitions_table(work.target)
            return Production("unknown", run_id=work.run.run_id, target=str(noted))
        if self._exchange is not None and (self._exchange.is_created or self._exchange.done is not None):
            return Production("new", work.standing)
        return Production.of(with_marker(work.standing, work.base))

    def _outcome(self) -> TableOutcome:
        work, merged = self.work, self._merged
        return TableOutcome(
            table=work.table,
            target=work.target,
            candidate=work.candidate,
            row_count=merged.total if merged is not None else None,
            bytes=work.inspection.candidate_bytes,
            columns=work.inspection.candidate_columns,
            audits=self._audits,
            seconds=work.seconds,
            query_ids=work.query_ids,
            warnings=tuple(work.warnings),
            replaced=work.replaced,
            failure=self._failure,
            superseded_by=merged.superseded_by if merged is not None else None,
            schema_changes=schema_changes(work.inspection),
            increment=IncrementOutcome(work.start, rows_to_merge(self._audits)) if self._audits else None,
        )


def find_start(work: TableWork) -> None:
    """Note where the increment of a table begins: after what is published, less its lookback. Without any rows, nowhere.

    Raises:
        StatementError: Snowflake does not say.
    """
    increment = work.table.increment
    if increment is None or work.existing is None:
        return
    # The notes first: a run that publishes in between moves the start back and not forth.
    base = work.base = newest_of(_noted(work), work.existing)
    newest = work.send(newest_sql(work.table, work.target)).rows[0][0]
    if isinstance(newest, date):
        work.start = increment.start(newest, snapshot_at=base.read_at if base is not None else None)


def increment_auditor(work: TableWork) -> AuditRunner | IncrementAuditRunner:
    """Return what asks the candidate, which is an increment or the whole table."""
    if work.start is None:
        return work.auditor()
    return IncrementAuditRunner(work.send, work.table, target=work.target, candidate=work.candidate, past=work.run.past)


def _noted(work: TableWork) -> Markers:
    try:
        return markers_of(work.send(all_markers_sql(work.target)).rows)
    except StatementError as error:
        if error.errno != OBJECT_MISSING:
            raise
        return Markers(None, ())


def with_marker(standing: TableVersion | None, marker: Marker | None) -> TableVersion | None:
    """Return what readers see with the run of its newest rows: its comment names the run that has created it."""
    return replace(standing, comment=str(marker)) if standing is not None and marker is not None else standing


def _row_count(audits: Sequence[AuditOutcome]) -> int:
    return next((outcome.row_count for outcome in audits if outcome.row_count is not None), 0)
