"""A table whose rows are exchanged inside of it, on its way: the steps that do not depend on which rows go."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from run_elt_dagster.model.production import Production
from run_elt_dagster.publish.building import build, comment_columns, mark_as_failed
from run_elt_dagster.publish.failures import failed_rule, failed_statement, failed_unexpectedly, failure_of
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.guards import PublishRefusedError, policies_refusal
from run_elt_dagster.publish.methods import refusal
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.row_exchange import KeyElsewhereError, RowExchange
from run_elt_dagster.publish.table_run import State
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.session import StatementError

Step = tuple[State, Callable[[], None]]


class InPlaceRun(ABC):
    """Takes one table as far as it gets, in one thread.

    Args:
        work: What is known of the table. Nothing was done for it yet.
        clock: Returns Snowflake's time as markers have it.

    Attributes:
        work: What is known of the table.
    """

    def __init__(self, work: TableWork, clock: Callable[[], str]) -> None:
        self.work = work
        self._clock = clock
        self._is_built = False
        # The check of a key that only the whole table could not hold.
        self._broken_key: KeyElsewhereError | None = None
        self._failure: Failure | None = None

    def run(self, entered: Callable[[State], None] = lambda _: None) -> TableOutcome:
        """Take the table as far as it gets.

        Its candidate is left: `table_run.clean_up` drops it where readers see all of its rows or newer ones.

        Args:
            entered: Called with each state that is no end, as it begins.
        """
        self._go_on((*self._steps, (State.EXCHANGE, self._publish)), entered)
        return self._outcome()

    def hold(self, entered: Callable[[State], None] = lambda _: None) -> TableOutcome | None:
        """Build and audit the table, and leave it to its group to publish it: all that was built, or nothing.

        Returns:
            What became of it where it cannot be published; None where it can.
        """
        self._go_on(self._steps, entered)
        if self._failure is None:
            self._failure = self._failed_checks()
            if self._failure is not None:
                mark_as_failed(self.work)
        return None if self._failure is None else self._outcome()

    @property
    def production(self) -> Production:
        """What readers see of what this run did not publish."""
        return self._production

    def outcome(self) -> TableOutcome:
        """Return what became of the table so far."""
        return self._outcome()

    @abstractmethod
    def begin_exchange(self) -> RowExchange[Any]:
        """Return what exchanges all that was built, for its group."""

    @abstractmethod
    def end_exchange(self, done: Any) -> None:
        """Note what its group has exchanged, as the exchange returns it."""

    def failed_by(self, error: Exception) -> Failure:
        """Return the failure of the table by what its group has met, and note it."""
        if isinstance(error, KeyElsewhereError):
            self._note_broken_key(error)
            self._failure = self._failed_checks()
        self._failure = self._failure or self._failed(failure_of(self.work, error))
        return self._failure

    @property
    def _steps(self) -> Sequence[Step]:
        return (
            (State.CHECK_TARGET, self._check_target),
            (State.BUILD, self._build),
            (State.AUDIT, self._audit),
        )

    def _go_on(self, steps: Sequence[Step], entered: Callable[[State], None]) -> None:
        work = self.work
        try:
            for state, step in steps:
                entered(state)
                step()
        except StatementError as error:
            self._failure = self._failed(failed_statement(work, error))
        except PublishRefusedError as error:
            self._failure = self._failed(failed_rule(work, replace(error.refusal, seen=self._production.words)))
        except Exception as error:  # noqa: BLE001 - it crosses to the main thread; lost here, the run would wait for ever
            self._failure = self._failed(failed_unexpectedly(work, error, after=None))
        if self._failure is not None and self._is_built:
            mark_as_failed(work)

    def _check_target(self) -> None:
        """Look before the build, because the build costs money."""
        work = self.work
        governance = Governance(work)
        existing = governance.without_declared(work.existing)
        refused = refusal(work.table, work.target, existing, role=work.inventory.role)
        if refused is None and existing is not None:
            unknown = () if governance.has_policies else existing.unknown
            refused = policies_refusal(work.table, work.target, existing.policies, unknown)
        if refused is not None:
            work.stage = "publish"
            raise PublishRefusedError(refused)
        if work.existing is not None:
            governance.require_exempt_role(work.target)
        governance.require_no_other_readers()

    def _build(self) -> None:
        # A moment before the statement begins: a run that notes a later one has read later.
        self.work.snapshot_at = self._clock()
        build(self.work)
        self._is_built = True
        comment_columns(self.work)

    @abstractmethod
    def _audit(self) -> None:
        """Ask the candidate."""

    @abstractmethod
    def _failed_checks(self) -> Failure | None:
        """Return the failure of a candidate that has not passed all of its checks; None of one that has."""

    @abstractmethod
    def _note_broken_key(self, error: KeyElsewhereError) -> None:
        """Note that a check of a key has failed in the exchange."""

    @abstractmethod
    def _publish(self) -> None:
        """Exchange what has passed, and note the failure of what has not."""

    @property
    @abstractmethod
    def _production(self) -> Production:
        """What readers see of what this run did not publish."""

    @property
    def _seen(self) -> str:
        """What readers see, in sentences."""
        return self._production.words

    @abstractmethod
    def _outcome(self) -> TableOutcome:
        """Return what became of the table."""

    def _failed(self, failure: Failure) -> Failure:
        """Return a failure with what readers see of this table."""
        message = failure.message.replace(failure.production.words, self._seen)
        return replace(failure, message=message, production=self._production)
