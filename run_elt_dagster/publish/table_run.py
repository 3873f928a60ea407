"""One table on its way, as a state machine: build, audit, publish, and what becomes of it when another run is in the way."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeGuard

from run_elt_dagster.audit.catalogue import Inspection
from run_elt_dagster.audit.plan import AuditOutcome, schema_changes
from run_elt_dagster.audit.runner import AuditRunner
from run_elt_dagster.model.candidate import Marker, instant, run_suffix
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.building import build, comment_columns, mark_as_failed
from run_elt_dagster.publish.failures import failed_audit, failed_rule, failed_statement, failed_unexpectedly
from run_elt_dagster.publish.guards import OBJECT_EXISTS, OBJECT_MISSING, PublishRefusedError, Refusal, TargetInventory
from run_elt_dagster.publish.methods import CandidateGoneError, Exchange, method_of, refusal
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.settings import PublishOptions
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


class SupersededError(Exception):
    """A run with a newer snapshot has published the table, so this one must not.

    Attributes:
        marker: The run of the rows that readers see.
    """

    def __init__(self, marker: Marker) -> None:
        super().__init__(f"superseded by run {marker.run_id}")
        self.marker = marker


class TableRun:
    """Takes one table from state to state, in one thread. Each state has a method that returns the next one."""

    def __init__(
        self,
        runner: StatementRunner,
        table: AnalyticsTable,
        inventory: TargetInventory,
        clock: Callable[[], str],
        *,
        database: str,
        options: PublishOptions,
    ) -> None:
        self._work = TableWork(runner, table, inventory, database=database, options=options)
        self._method = method_of(table)
        self._clock = clock
        self._tell_audited: Callable[[], None] = lambda: None
        self._is_built = False
        self._audits: tuple[AuditOutcome, ...] = ()
        # What the catalogue said with the audits: later, the candidate's name may be another table's.
        self._audited = Inspection()
        self._failure: Failure | None = None
        self._superseded_by: str | None = None
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
        state = State.CHECK_TARGET
        while state not in ENDS:
            entered(state)
            state = self._after(state)
        if state is State.FAILED and self._is_built:
            mark_as_failed(self._work)
        return self._outcome()

    def _after(self, state: State) -> State:
        """Do what a state asks for, and return the next one."""
        work = self._work
        try:
            return self._step(state)
        except StatementError as error:
            if work.stage == "build" and error.answered:
                with contextlib.suppress(StatementError, RunStoppedError):
                    work.inspect()
            self._failure = failed_statement(work, error)
        except PublishRefusedError as error:
            self._failure = failed_rule(work, error.refusal)
        except SupersededError as error:
            self._superseded_by = error.marker.run_id
            return State.SUPERSEDED
        except Exception as error:  # noqa: BLE001 - it crosses to the main thread; lost here, the run would wait for ever
            self._failure = failed_unexpectedly(work, error, after=self._error)
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
        self._refuse_what_would_be_lost()
        return State.BUILD

    def _build(self) -> State:
        work = self._work
        # A moment before the statement begins: a run that notes a later one has read later.
        work.snapshot_at = self._clock()
        build(work)
        self._is_built = True
        comment_columns(work)
        return State.AUDIT

    def _audit(self) -> State:
        work = self._work
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
        work.standing = work.inspection.target
        self._require_a_candidate()
        self._warn_of_findings()
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
        self._work.stage = "publish"
        self._take_another_target()
        self._wait_for_newer_builds()
        return State.DROP_OLDER

    def _drop_older(self) -> State:
        """Drop what older runs of the table have built and not yet published; their publishing then finds nothing."""
        work = self._work
        own = work.marker().order
        for listed in work.inspection.candidates:
            marker = _marker_of(listed)
            if _is_pending(marker) and marker.order < own:
                work.send(drop_sql(Relation(work.target.database, work.target.schema, listed.name)))
        return State.PREPARE

    def _prepare(self) -> State:
        self._pauses = list(self._work.patience.retry_seconds)
        try:
            self._by.prepare(self._work)
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
            self._by.send(self._work)
        except StatementError as error:
            self._error = error
            return State.VERIFY
        return State.FINISH

    def _verify(self) -> State:
        """Look what readers see before all else."""
        work, error = self._work, self._looked_into
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
        work = self._work
        work.inspect()
        self._wait_for_newer_builds()
        if not work.has_candidate and (newer := self._by.give_way(work)):
            raise SupersededError(newer)
        if not work.has_candidate or not work.has_target_come_or_gone:
            raise self._looked_into
        self._take_another_target()
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
        self._by.finish(self._work)
        return State.PUBLISHED

    @property
    def _by(self) -> Exchange:
        return self._method.exchange(exists=self._work.existing is not None)

    @property
    def _looked_into(self) -> StatementError:
        if self._error is None:
            raise RuntimeError("there is no error to look into")
        return self._error

    def _refuse_what_would_be_lost(self) -> None:
        work = self._work
        refused = refusal(work.table, work.target, work.existing, role=work.inventory.role)
        if refused is not None:
            work.stage = "publish"
            raise PublishRefusedError(refused)

    def _require_a_candidate(self) -> None:
        """Wait for a newer run where it has taken the candidate away.

        There is no verdict on rows that nobody could ask about, and failed checks would make Dagster fail the run. Otherwise the
        candidate's audits have failed, and say so.
        """
        if any(outcome.error is not None for outcome in self._audits):
            # Between two questions a newer run may have taken it away.
            with contextlib.suppress(StatementError):
                self._work.inspect()
        if not self._work.has_candidate:
            audits, self._audits = self._audits, ()
            self._wait_for_newer_builds()
            self._audits = audits

    def _warn_of_findings(self) -> None:
        work = self._work
        if work.table.schema_change == "report":
            work.warnings += [f"{work.table.name}: {change}" for change in schema_changes(work.inspection)]
        warned = [outcome for outcome in self._audits if not outcome.passed and not outcome.blocks]
        work.warnings += [f"{work.table.name}: {outcome}" for outcome in warned]

    def _take_another_target(self) -> None:
        """Go by what stands there now, if another run has published the table for the first time, or it was dropped."""
        work = self._work
        if not work.has_target_come_or_gone:
            return
        database, check_policies = work.target.database, work.options.check_policies
        work.take(read_targets(work.runner, [work.table], database=database, check_policies=check_policies))
        self._refuse_what_would_be_lost()

    def _wait_for_newer_builds(self) -> None:
        """Wait until no newer build of the table is on its way.

        A run that publishes has first dropped the older candidates that it saw. Publishing them then fails. A candidate
        that came too late to be seen sees the newer one here, and waits until that is published or has failed.

        Raises:
            SupersededError: Readers see a newer snapshot.
            PublishRefusedError: The newer build neither publishes nor fails; its run may have died.
        """
        work, waited = self._work, 0.0
        while newer := self._newer_builds():
            if waited >= work.patience.wait_seconds:
                raise PublishRefusedError(
                    Refusal(
                        f"{work.table.name} requires that the newest build is published last",
                        f"run {newer[0].run_id} that has built from a newer snapshot and has not published it in {waited:g} s",
                        "Materialize again.",
                        seen=work.production.words,
                        reason=Reason.NEWEST_LAST,
                    )
                )
            work.runner.wait(work.patience.poll_seconds)
            waited += work.patience.poll_seconds
            work.inspect()

    def _newer_builds(self) -> list[Marker]:
        """Return the builds of newer snapshots that are not published yet.

        Raises:
            SupersededError: One is published.
        """
        own, inspection = self._work.marker().order, self._work.inspection
        live = inspection.target.marker if inspection.target else None
        if live is not None and live.order > own and live.state in ("run", "rollback"):
            raise SupersededError(live)
        return [m for m in [live, *map(_marker_of, inspection.candidates)] if _is_pending(m) and m.order > own]

    def _outcome(self) -> TableOutcome:
        work = self._work
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
            failure=self._failure,
            superseded_by=self._superseded_by,
            schema_changes=schema_changes(work.inspection),
        )


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


def _marker_of(listed: TableVersion) -> Marker | None:
    """Return the marker of a candidate, None where its rows are another run's: after a swap, they are the old table's."""
    marker = listed.marker
    return marker if marker is not None and listed.name.endswith(run_suffix(marker.run_id)) else None


def _is_pending(marker: Marker | None) -> TypeGuard[Marker]:
    """Return whether a run may still publish what it has built, or is just writing it over the target."""
    return marker is not None and marker.state in ("run", "publishing")
