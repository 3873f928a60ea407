"""One table on its way, as a state machine: build, audit, publish, and what becomes of it when another run is in the way."""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum

from run_elt_dagster.audit.catalogue import Inspection
from run_elt_dagster.audit.plan import AuditOutcome, schema_changes
from run_elt_dagster.audit.runner import AuditRunner
from run_elt_dagster.model.candidate import instant
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.building import build, comment_columns, mark_as_failed
from run_elt_dagster.publish.creating import Creation, require_all_rows
from run_elt_dagster.publish.failures import failed_audit, failure_of
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.guards import OBJECT_EXISTS, OBJECT_MISSING, PublishRefusedError, Refusal
from run_elt_dagster.publish.methods import CandidateGoneError, Exchange, method_of, refusal, replaces_object
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.overwrite_exchange import OverwriteExchange, WrittenRows
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.rivals import SupersededError, drop_older, wait_for_newer_builds
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import StatementError

# How often a target may come or go while it is being published.
EXCHANGES = 5


class State(StrEnum):
    """Where a table is on its way. docs/architecture.md draws them."""

    CHECK_TARGET = "check target"
    BUILD = "build"
    AUDIT = "audit"
    WAIT_FOR_NEWER = "wait for newer"
    DROP_OLDER = "drop older"
    PREPARE = "prepare"
    EXCHANGE = "exchange"
    VERIFY = "verify"
    LOOK_AGAIN = "look again"
    FINISH = "finish"
    PUBLISHED = "published"
    FAILED = "failed"
    SUPERSEDED = "superseded"


ENDS = frozenset({State.PUBLISHED, State.FAILED, State.SUPERSEDED})
# Which state follows which. Every state but the ends may be followed by `failed`, so that is left out.
TRANSITIONS: Mapping[State, tuple[State, ...]] = {
    State.CHECK_TARGET: (State.BUILD,),
    State.BUILD: (State.AUDIT,),
    State.AUDIT: (State.WAIT_FOR_NEWER, State.SUPERSEDED),
    State.WAIT_FOR_NEWER: (State.DROP_OLDER, State.SUPERSEDED),
    State.DROP_OLDER: (State.PREPARE,),
    State.PREPARE: (State.EXCHANGE, State.LOOK_AGAIN),
    State.EXCHANGE: (State.FINISH, State.VERIFY),
    State.VERIFY: (State.FINISH, State.EXCHANGE, State.LOOK_AGAIN),
    State.LOOK_AGAIN: (State.PREPARE, State.SUPERSEDED),
    State.FINISH: (State.PUBLISHED,),
}


class TableRun:
    """Takes one table from state to state, in one thread. Each state has a method that returns the next one.

    Args:
        work: What is known of the table. Nothing was done for it yet.
        clock: Returns Snowflake's time as markers have it.

    Attributes:
        work: What is known of the table.
    """

    def __init__(self, work: TableWork, clock: Callable[[], str]) -> None:
        self.work = work
        self._method = method_of(work.table)
        self._governance = Governance(self.work)
        self._clock = clock
        self._tell_audited: Callable[[], None] = lambda: None
        self._is_built = False
        self._audits: tuple[AuditOutcome, ...] = ()
        # What the catalogue said with the audits: later, the candidate's name may be another table's.
        self._audited = Inspection()
        self._failure: Failure | None = None
        self._superseded_by: str | None = None
        # What writes its rows in the transaction of its group.
        self._row_exchange: OverwriteExchange | None = None
        # The answer that is being looked into, the pauses that are left, and how often the target has come or gone.
        self._error: StatementError | None = None
        self._pauses: list[float] = []
        self._changes = 0

    def run(self, audited: Callable[[], None], entered: Callable[[State], None] = lambda _: None) -> TableOutcome:
        """Take the table as far as it gets.

        Its candidate is left: `clean_up` drops it where readers see its rows or newer ones.

        Args:
            audited: Called when the warehouse has done its work for the table. It is not published yet.
            entered: Called with each state that is no end, as it begins.
        """
        self._tell_audited = audited
        self._go_on(State.CHECK_TARGET, ENDS, entered)
        return self.outcome()

    def hold(self, entered: Callable[[State], None] = lambda _: None) -> TableOutcome | None:
        """Build and audit the table, and leave it to its group to publish it.

        Returns:
            What became of it where it cannot be published; None where it can.
        """
        reached = self._go_on(State.CHECK_TARGET, {*ENDS, State.WAIT_FOR_NEWER}, entered)
        return None if reached is State.WAIT_FOR_NEWER else self.outcome()

    def _go_on(self, state: State, ends: Collection[State], entered: Callable[[State], None]) -> State:
        while state not in ends:
            entered(state)
            state = self._after(state)
        if state is State.FAILED and self._is_built:
            mark_as_failed(self.work)
        return state

    def _after(self, state: State) -> State:
        """Do what a state asks for, and return the next one."""
        work = self.work
        try:
            return self._step(state)
        except StatementError as error:
            if work.stage == "build" and error.answered:
                with contextlib.suppress(StatementError, RunStoppedError):
                    work.inspect()
            self._failure = failure_of(work, error)
        except SupersededError as error:
            self._superseded_by = error.marker.run_id
            return State.SUPERSEDED
        except Exception as error:  # noqa: BLE001 - it crosses to the main thread; lost here, the run would wait for ever
            self._failure = failure_of(work, error, after=self._error)
        return State.FAILED

    def _step(self, state: State) -> State:
        steps: Mapping[State, Callable[[], State]] = {
            State.CHECK_TARGET: self._check_target,
            State.BUILD: self._build,
            State.AUDIT: self._audit,
            State.WAIT_FOR_NEWER: self._wait_for_newer,
            State.DROP_OLDER: self._drop_older,
            State.PREPARE: self._prepare,
            State.EXCHANGE: self._exchange,
            State.VERIFY: self._verify,
            State.LOOK_AGAIN: self._look_again,
            State.FINISH: self._finish,
        }
        return steps[state]()

    def _check_target(self) -> State:
        """Look before the build, because the build costs money: what hangs on the target forbids every publish by this method."""
        work = self.work
        refuse_what_would_be_lost(work)
        if readers := self._governance.other_readers():
            # What reads the candidate would store what its policies leave of it.
            if not replaces_object(work.table) or work.is_read_in_group:
                raise self._governance.others_can_read(readers)
            work.protection = Creation(work, self._governance, readers).proven()
        return State.BUILD

    def _build(self) -> State:
        work = self.work
        # A moment before the statement begins: a run that notes a later one has read later.
        work.snapshot_at = self._clock()
        build(work)
        self._is_built = True
        if work.protection is not None:
            self._governance.require_declared()
        comment_columns(work)
        return State.AUDIT

    def _audit(self) -> State:
        work = self.work
        work.stage = "audit"
        auditor = work.auditor()
        try:
            self._audits, work.inspection = self._evaluated(auditor)
        except StatementError as error:
            self._audits = auditor.unanswered(error)
            raise
        # A kept candidate has the moment of its first audit.
        asked_at = work.inspection.asked_at
        work.audited_at = work.audited_at or (instant(asked_at) if asked_at is not None else "")
        self._audited = work.inspection
        work.take_look()
        self._require_a_candidate()
        self._warn_of_findings()
        if self._governance.has_policies:
            is_rejected = any(each.blocks for each in self._audits)
            require_all_rows(work, _row_count(self._audits), is_rejected=is_rejected)
        self._failure = failed_audit(work, self._audits)
        if self._failure is not None:
            return State.FAILED
        if not self._method.takes_warehouse:
            self._tell_audited()
        return State.WAIT_FOR_NEWER

    def _evaluated(self, auditor: AuditRunner) -> tuple[tuple[AuditOutcome, ...], Inspection]:
        """Ask the candidate; return the verdicts, and what the catalogue said."""
        return auditor.evaluate()

    def _wait_for_newer(self) -> State:
        """Let a newer snapshot go first, so an older one never overwrites it."""
        self.work.stage = "publish"
        take_another_target(self.work)
        self._wait_for_newer_builds()
        return State.DROP_OLDER

    def _drop_older(self) -> State:
        """Drop what older runs of the table have built and not yet published; their publishing then finds nothing."""
        drop_older(self.work)
        return State.PREPARE

    def _prepare(self) -> State:
        self._pauses = list(self.work.patience.retry_seconds)
        try:
            # Before all else: what comes next may let readers see it.
            self._governance.protect()
            self._by.prepare(self.work)
        except CandidateGoneError as gone:
            self._error = gone.answer
            return State.LOOK_AGAIN
        return State.EXCHANGE

    def _exchange(self) -> State:
        """Send the statement that publishes.

        Snowflake may report one as failed, cancelled or timed out that has taken effect, and an answer may be lost.
        """
        self._error = None
        try:
            self._by.send(self.work)
        except StatementError as error:
            self._error = error
            return State.VERIFY
        return State.FINISH

    def _verify(self) -> State:
        """Look what readers see before all else."""
        work, error = self.work, self._looked_into
        if self._by.took_effect(work, error):
            return State.FINISH
        if error.errno in (OBJECT_EXISTS, OBJECT_MISSING):
            return State.LOOK_AGAIN
        if not self._pauses or not error.transient or work.is_unknown or not self._by.is_sent_again:
            raise error
        work.runner.wait(self._pauses.pop(0))
        work.runner.reconnect(error)
        return State.EXCHANGE

    def _look_again(self) -> State:
        """Find out what happened when the candidate is gone, or a target has come: this run's own doing, or a newer run's.

        Raises:
            SupersededError: A newer run has published.
            StatementError: There is no newer run to blame.
            PublishRefusedError: The target comes and goes again and again.
        """
        work = self.work
        work.inspect()
        self._wait_for_newer_builds()
        if not work.has_candidate and (newer := self._by.give_way(work)):
            raise SupersededError(newer)
        if not work.has_candidate or not work.has_target_come_or_gone:
            raise self._looked_into
        take_another_target(self.work)
        self._changes += 1
        if self._changes == EXCHANGES:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires a target that stands still while it is published",
                    f"one that has come or gone {EXCHANGES} times",
                    "Find in Snowflake's history what creates and drops it, then materialize again.",
                    seen=work.production.words,
                    reason=Reason.TARGET_CHANGES,
                )
            )
        return State.PREPARE

    def _finish(self) -> State:
        self._by.finish(self.work)
        self._governance.look_after()
        return State.PUBLISHED

    @property
    def _by(self) -> Exchange:
        return self._method.exchange(exists=self.work.existing is not None)

    @property
    def _looked_into(self) -> StatementError:
        if self._error is None:
            raise RuntimeError("there is no error to look into")
        return self._error

    def _require_a_candidate(self) -> None:
        """Wait for a newer run where it has taken the candidate away.

        There is no verdict on rows that nobody could ask about, and failed checks would make Dagster fail the run. Otherwise the
        candidate's audits have failed, and say so.
        """
        if any(outcome.error is not None for outcome in self._audits):
            # Between two questions a newer run may have taken it away.
            with contextlib.suppress(StatementError):
                self.work.inspect()
        if not self.work.has_candidate:
            audits, self._audits = self._audits, ()
            self._wait_for_newer_builds()
            self._audits = audits

    def _warn_of_findings(self) -> None:
        work = self.work
        if work.table.schema_change == "report":
            work.warnings += [f"{work.table.name}: {change}" for change in schema_changes(work.inspection)]
        warned = [outcome for outcome in self._audits if not outcome.passed and not outcome.blocks]
        work.warnings += [f"{work.table.name}: {outcome}" for outcome in warned]

    def _wait_for_newer_builds(self) -> None:
        wait_for_newer_builds(self.work)

    @property
    def production(self) -> Production:
        """What readers see."""
        if self._row_exchange is not None and self._row_exchange.is_created and not self.work.is_unknown:
            # The catalogue may not have answered since.
            return Production("new", self.work.standing)
        return self.work.production

    def begin_exchange(self) -> OverwriteExchange:
        """Return what writes its rows in the transaction of its group."""
        self._row_exchange = OverwriteExchange(self.work, rows=_row_count(self._audits) or 0)
        return self._row_exchange

    def end_exchange(self, done: WrittenRows) -> None:
        """Note what its group has written."""
        self._superseded_by = done.superseded_by

    def failed_by(self, error: Exception) -> Failure:
        """Return the failure of the table by what its group has met."""
        return failure_of(self.work, error)

    def outcome(self) -> TableOutcome:
        """Return what became of the table so far: one that is held counts as published."""
        work = self.work
        return TableOutcome(
            table=work.table,
            target=work.target,
            candidate=work.candidate,
            row_count=_row_count(self._audits),
            bytes=self._audited.candidate_bytes,
            columns=self._audited.candidate_columns,
            audits=self._audits,
            seconds=work.seconds,
            query_ids=work.query_ids,
            warnings=tuple(work.warnings),
            replaced=work.replaced,
            before=work.before,
            failure=self._failure,
            superseded_by=self._superseded_by,
            schema_changes=schema_changes(work.inspection),
        )


def refuse_what_would_be_lost(work: TableWork) -> None:
    """Look what hangs on the target.

    Raises:
        PublishRefusedError: It forbids every publish by the table's method.
    """
    existing = Governance(work).without_declared(work.existing)
    refused = refusal(work.table, work.target, existing, role=work.inventory.role)
    if refused is not None:
        work.stage = "publish"
        raise PublishRefusedError(refused)


def take_another_target(work: TableWork) -> None:
    """Go by what stands there now, if another run has published the table for the first time, or it was dropped.

    Raises:
        PublishRefusedError: What hangs on it forbids to publish.
        StatementError: Snowflake does not say what stands there.
    """
    if not work.has_target_come_or_gone:
        return
    database, check_policies = work.target.database, work.options.check_policies
    work.take(read_targets(work.runner, [work.table], database=database, check_policies=check_policies))
    refuse_what_would_be_lost(work)


def clean_up(runner: StatementRunner, outcome: TableOutcome) -> str | None:
    """Drop a candidate that is of no use any more: it was published, or a newer one was.

    Returns:
        Why it is still there, None if it is gone.
    """
    try:
        runner.send(drop_sql(outcome.candidate), tag={"asset": "/".join(outcome.table.key), "stage": "clean-up"})
    except Exception as error:  # noqa: BLE001 - raised before the outcome is handed over, the run would wait for ever
        return f"{outcome.candidate} is of no use any more and could not be dropped: {error}"
    return None


def _row_count(audits: Sequence[AuditOutcome]) -> int | None:
    return next((outcome.row_count for outcome in audits if outcome.row_count is not None), None)
