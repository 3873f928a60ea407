"""Exchanging some rows of a table that stays: a first table by one statement, later rows by one transaction in a session of its own.

No statement of the transaction is repeated by itself. After an error all of it is rolled back and begun again: it reads first what is
published, so what another run or this one has published meanwhile stays. Which rows go is the matter of the subclasses.
https://docs.snowflake.com/en/sql-reference/transactions
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.plan import KeyAudit
from run_elt_dagster.model.candidate import Marker, run_suffix
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.guards import (
    OBJECT_EXISTS,
    OBJECT_MISSING,
    PublishRefusedError,
    Refusal,
    policies_column_sql,
    policies_in,
    policies_refusal,
    policies_sql,
    policy_words,
)
from run_elt_dagster.publish.methods import exchange_sql
from run_elt_dagster.publish.partitions import (
    Markers,
    all_markers_sql,
    create_lock_sql,
    create_table_sql,
    forget_all_sql,
    lock_sql,
    markers_of,
    partitions_table,
    remember_first_sql,
)
from run_elt_dagster.publish.statements import column_comments_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import Patience, RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import Parameters, StatementError

# A lock was not given: more than twenty statements wait for it, or the wait was too long.
LOCK_NOT_GIVEN = 625
# How often the exchange is begun anew because a table has come or gone meanwhile.
CHANGES = 5
Done = TypeVar("Done")


@dataclass(frozen=True)
class Superseding:
    """A newer run that has published before.

    Attributes:
        marker: The run.
        of_all: Whether readers see its rows, or still newer ones, in the place of all rows in question.
    """

    marker: Marker
    of_all: bool = True


class KeyElsewhereError(Exception):
    """After the exchange, rows would have a key of other rows: an audit would have found it, had they been there before.

    Attributes:
        audit: The check.
        rows: How many rows there would be.
    """

    def __init__(self, audit: KeyAudit, rows: int) -> None:
        super().__init__(f"check {audit.name} found {counted(rows, audit.measures[-1].counts)}")
        self.audit, self.rows = audit, rows


def exchange_parameters(patience: Patience) -> Parameters:
    """Return what the session of a transaction signs in with: it waits for a lock so long, and rolls back what fails.

    https://docs.snowflake.com/en/sql-reference/parameters#lock-timeout
    https://docs.snowflake.com/en/sql-reference/parameters#transaction-abort-on-error
    """
    return {"LOCK_TIMEOUT": max(int(patience.wait_seconds), 1), "TRANSACTION_ABORT_ON_ERROR": True}


def begin_sql(run_id: str) -> str:
    """Return the statement that begins the transaction, named by its run."""
    return f"BEGIN TRANSACTION NAME RUN_ELT_{run_suffix(run_id)}"


def insert_rows_sql(target: Relation, candidate: Relation, *, columns: Sequence[str]) -> str:
    """Return the statement that inserts the candidate's rows by the names of the columns; a condition may follow."""
    names = ", ".join(map(quote_identifier, columns))
    return f"INSERT INTO {target.sql} ({names}) SELECT {names} FROM {candidate.sql}"


def add_column_sql(target: Relation, column: Column) -> str:
    """Return the statement that adds a column at the end; safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table
    """
    return f"ALTER TABLE {target.sql} ADD COLUMN IF NOT EXISTS {quote_identifier(column.name)} {column.type}"


def column_changes(published: Sequence[Column], new: Sequence[Column]) -> tuple[list[Column], list[str]]:
    """Return the columns that are new, and what else differs, in words: rows that would be lost or rounded.

    A narrower text or number is none of it: Snowflake refuses a value that does not fit.
    """
    there, wanted = {column.name: column for column in published}, {column.name: column for column in new}
    added = [column for column in new if column.name not in there]
    removed = [f"no column {name}" for name in there if name not in wanted]
    retyped = [
        f"{name} of type {wanted[name].type}, published as {column.type}"
        for name, column in there.items()
        if name in wanted and _is_lossy(wanted[name], column)
    ]
    return added, [*removed, *retyped]


def _is_lossy(new: Column, published: Column) -> bool:
    if new.data_type != published.data_type:
        return True
    if (new.scale or 0) > (published.scale or 0):
        return True
    return new.digits is not None and published.digits is not None and new.digits > published.digits


class RowExchange(ABC, Generic[Done]):
    """Exchanges rows of the target for the candidate's, until it is done or cannot be.

    Args:
        work: The table, with its audited candidate.

    Attributes:
        is_created: Whether this run has created the table, so readers see its rows whatever follows.
        done: What is published, once readers see it; None before.
    """

    def __init__(self, work: TableWork) -> None:
        self._work, self._governance = work, Governance(work)
        self._pauses = list(work.patience.retry_seconds)
        self._changes = 0
        self._began = time.monotonic()
        self.is_created = False
        self.done: Done | None = None
        # Whether the table that stands there is the one that this run has created, by the last look.
        self._is_own = False

    def _first_sql(self) -> str:
        """Return the statement that creates the table. It fails where another run has created it meanwhile.

        Raises:
            PublishRefusedError: What was built is not fit to be a table by itself.
        """
        work = self._work
        return exchange_sql(work.table, target=work.target, candidate=work.candidate, exists=False)

    @property
    def _first_is_clone(self) -> bool:
        """Whether that statement clones the candidate, with the comments of its columns."""
        return True

    @property
    def _notes_sql(self) -> str:
        """The query for the lock and what is noted of the rows in question: of all, where no part of them is meant."""
        return all_markers_sql(self._work.target)

    @abstractmethod
    def superseding(self, markers: Markers) -> Superseding | None:
        """Return which newer run has published rows in question, by the notes; None where none has."""

    @abstractmethod
    def exchange_under_lock(self, markers: Markers, fresh: StatementRunner) -> Done:
        """Exchange the rows and note it, in the open transaction; nobody else publishes meanwhile.

        Args:
            markers: What is noted.
            fresh: Sends the statements.
        """

    @abstractmethod
    def found_done(self, markers: Markers, fresh: StatementRunner) -> Done | None:
        """Return what was published if the notes say that all of it was; None otherwise."""

    @property
    @abstractmethod
    def _created(self) -> Done:
        """What is published where this run has created the table and could not note it."""

    def publish(self) -> Done:
        """Publish. Safe to repeat as long as the candidate exists.

        Raises:
            StatementError: It failed for good. `work.is_unknown` says whether readers may see the new rows.
            PublishRefusedError: It must not be published.
            KeyElsewhereError: Keys would not identify rows any more.
            RunStoppedError: The run was interrupted.
        """
        self.done = done = self._until_done()
        self.look_after()
        return done

    def _until_done(self) -> Done:
        while True:
            try:
                return self._attempt()
            except StatementError as error:
                if (done := self._look(error)) is not None:
                    return done
                pause = self.pause_before_another_try(error)
                if pause is None and not self._has_created():
                    raise
                if pause is None:
                    self._warn_without_notes(error)
                    return self._created
                self._work.runner.wait(pause)

    def _has_created(self) -> bool:
        """Return whether readers see the table that this run has created: somebody may have dropped it since."""
        if not self.is_created:
            return False
        with contextlib.suppress(StatementError), self._work.runner.fresh() as fresh:
            self._inspect(fresh)
            self._work.is_unknown = False
            return self._is_own
        # It was there, and nothing says that it is not any more.
        return True

    def _attempt(self) -> Done:
        """Publish in a session that was opened after the build, so it sees the candidate for certain."""
        work = self._work
        with work.runner.fresh(exchange_parameters(work.patience)) as fresh:
            self.ready(fresh)
            return self._in_a_transaction(fresh)

    def ready(self, fresh: StatementRunner) -> None:
        """Do what comes before the transaction, and create the table where there is none. Safe to repeat.

        Raises:
            StatementError: It failed. `is_created` says whether readers may see the first rows.
            PublishRefusedError: It must not be published.
        """
        policies = self._inspect_with_policies(fresh)
        self._require_candidate()
        if self._work.standing is None:
            self._protect_the_first()
            self._create(fresh)
            self._inspect(fresh)
        self._require_table()
        self._require_no_policies(policies, fresh)
        self._match_columns(fresh)
        if not self._is_own:
            # A new column has no rows yet. The candidate's come when it is protected.
            self._governance.protect_object(is_in_place=True)

    def require_created(self, fresh: StatementRunner) -> None:
        """Require the table that this run has created, where it has: it is what the transaction only notes.

        Raises:
            StatementError: It is gone, or another one has its name. All begins anew then.
        """
        if not self._is_own:
            return
        self._inspect(fresh)
        if not self._is_own:
            problem = f"{self._work.target} was created a moment ago, and is not the same table any more"
            raise StatementError(problem, errno=OBJECT_MISSING, query_id=None, answered=True)

    def _protect_the_first(self) -> None:
        """Give the candidate what the first table has from its creation: a clone has its policies and tags.

        Raises:
            PublishRefusedError: The table would be made of some of its rows, and a policy on them would store masked values.
        """
        work = self._work
        if self._governance.has_policies and not self._first_is_clone:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} with policies requires that all partitions of its first run pass their checks",
                    "some that have failed",
                    "Fix the SQL or the source, or materialize those that pass alone, then the others.",
                    consequence="The table would be created without its policies.",
                    reason=Reason.POLICIES,
                )
            )
        self._governance.protect_object(is_in_place=False)

    def look_after(self) -> None:
        """Look what the table has that readers see now, and give it the clustering and retention of its file."""
        self._work.settle_in_place(is_clone=self._is_own and self._first_is_clone)
        self._governance.look_after()

    def _inspect(self, fresh: StatementRunner, *more: str) -> tuple[Any, ...]:
        asked = self._work.inspect(fresh, *more)
        standing = self._work.standing
        self._is_own = standing is not None and standing.marker == self._work.marker()
        self.is_created = self.is_created or self._is_own
        return asked

    def _inspect_with_policies(self, fresh: StatementRunner) -> tuple[str, ...] | None:
        """Ask the catalogue, and for the policies on the table in the same statement if it was there at the last look.

        Returns:
            The policies in words; None where they have to be asked for by themselves.
        """
        work = self._work
        if work.standing is None or self._governance.has_policies or not work.options.check_policies:
            self._inspect(fresh)
            return None
        try:
            (listed,) = self._inspect(fresh, policies_column_sql(work.target))
        except StatementError as error:
            if not error.answered:
                raise
            # The table may be gone. What is wrong besides, the second question says.
            self._inspect(fresh)
            return None
        return policies_in(listed)

    def _require_table(self) -> None:
        if self._work.standing is None:
            problem = f"{self._work.target} was created a moment ago, and is not there any more"
            raise StatementError(problem, errno=OBJECT_MISSING, query_id=None, answered=True)

    def _require_candidate(self) -> None:
        work = self._work
        if not work.has_candidate and not self._is_own:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires its candidate until it is published",
                    f"no {work.candidate}",
                    "Find in Snowflake's history who has dropped it, then materialize again.",
                    reason=Reason.TARGET_CHANGES,
                )
            )

    def _create(self, fresh: StatementRunner) -> None:
        """Create the table with its first rows.

        Raises:
            StatementError: It failed; another run may have been faster (002002).
        """
        work = self._work
        self._send_for_readers(self._first_sql(), fresh)
        self.is_created = True
        if not self._first_is_clone and (comments := column_comments_sql(work.table, work.target)):
            work.send(comments, once=True, runner=fresh)

    def _send_for_readers(self, sql: str, fresh: StatementRunner) -> None:
        """Send a statement whose effect readers see at once. Until there is an answer, what they see is unknown."""
        self._work.is_unknown = True
        try:
            self._work.send(sql, once=True, runner=fresh)
        except RunStoppedError:
            self._work.is_unknown = False
            raise
        self._work.is_unknown = False

    def _require_no_policies(self, known: tuple[str, ...] | None, fresh: StatementRunner) -> None:
        """Look once more, since the build may have taken hours: rows that a policy hides would not be deleted.

        Args:
            known: The policies; None if they have not been asked for.
            fresh: Sends the question.
        """
        work = self._work
        if self._is_own or not (work.options.check_policies or self._governance.has_policies):
            return
        if self._governance.has_policies:
            known = self._governance.undeclared()
        elif known is None:
            rows = work.send(policies_sql([work.target]), once=True, runner=fresh).rows
            known = tuple(sorted({policy_words(*policy) for _, *policy in rows}))
        if refused := policies_refusal(work.table, work.target, known):
            raise PublishRefusedError(refused)

    def _match_columns(self, fresh: StatementRunner) -> None:
        """Require the columns of the published table, or add new ones to it, before the transaction: DDL would commit it."""
        work = self._work
        added, others = column_changes(work.inspection.target_columns, work.inspection.candidate_columns)
        if not (added or others):
            return
        if others or work.table.schema_change != "add":
            new = [f"new columns {', '.join(column.name for column in added)}"] if added else []
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires the columns of {work.target}, since its other rows stay",
                    "; ".join([*new, *others]),
                    "Alter the published table to match, or build a table of another name. schema_change: add takes new columns.",
                    reason=Reason.PARTITION_COLUMNS,
                )
            )
        for column in added:
            work.send(add_column_sql(work.target, column), once=True, runner=fresh)

    def _in_a_transaction(self, fresh: StatementRunner) -> Done:
        """Exchange the rows; nothing of it stays unless COMMIT is reached."""
        self._begin(fresh)
        try:
            markers = self._locked(fresh)
            # Nobody else publishes now, and no transaction of before is under way.
            self._work.is_unknown = False
            self.require_created(fresh)
            done = self.exchange_under_lock(markers, fresh)
        except BaseException:
            self._roll_back(fresh)
            raise
        self._send_for_readers("COMMIT", fresh)
        return done

    def _begin(self, fresh: StatementRunner) -> None:
        self._work.send(begin_sql(self._work.run.run_id), once=True, runner=fresh)

    def _roll_back(self, fresh: StatementRunner) -> None:
        """Give the locks back at once. Where that fails, the end of the session does it."""
        with contextlib.suppress(StatementError, RunStoppedError):
            self._work.send("ROLLBACK", once=True, runner=fresh)

    def _locked(self, fresh: StatementRunner) -> Markers:
        """Take the lock of the table, and return what is noted of the rows in question."""
        work = self._work
        if not self._takes_lock(fresh):
            self._roll_back(fresh)
            work.send(create_table_sql(work.target), once=True, runner=fresh)
            work.send(create_lock_sql(work.target), once=True, runner=fresh)
            self._begin(fresh)
            self._require_lock(fresh)
        return self.noted(fresh)

    def noted(self, fresh: StatementRunner) -> Markers:
        """Return what is noted of the rows in question; the lock of the table is taken."""
        work = self._work
        markers = markers_of(work.send(self._notes_sql, once=True, runner=fresh).rows)
        first = work.standing.marker if work.standing is not None else None
        if first is None or first.state != "run" or markers.first == first:
            return markers
        # Another table of this name stands here now: what is known of the old one is not true of it.
        work.send(forget_all_sql(work.target), once=True, runner=fresh)
        work.send(remember_first_sql(work.target, first), once=True, runner=fresh)
        return Markers(first, ())

    def _takes_lock(self, fresh: StatementRunner) -> bool:
        try:
            answer = self._work.send(lock_sql(self._work.target), once=True, runner=fresh)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            return False
        return bool(answer.rows and int(answer.rows[0][0]))

    def _require_lock(self, fresh: StatementRunner) -> None:
        if not self._takes_lock(fresh):
            raise PublishRefusedError(
                Refusal(
                    f"{self._work.table.name} requires its lock in {partitions_table(self._work.target)}",
                    "no row that could be changed",
                    "Look who else changes that table, and which policies it has. Then materialize again.",
                    reason=Reason.TARGET_CHANGES,
                )
            )

    def _require_rows(self, found: int, *, expected: int, where: str) -> None:
        """Require the candidate's rows and no other, as long as all of it can be rolled back.

        Args:
            found: How many rows there are now.
            expected: How many the candidate has.
            where: Which rows of the target are counted, in words.
        """
        if found != expected:
            raise self._other_rows(f"{found:,}", expected=expected, where=where)

    def _other_rows(self, got: str, *, expected: int, where: str) -> PublishRefusedError:
        work = self._work
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} requires the {counted(expected, 'rows')} of {work.candidate} {where} after the exchange",
                got,
                "Find in Snowflake's history who else writes into it, then materialize again.",
                consequence="The exchange was rolled back.",
                reason=Reason.TARGET_CHANGES,
            )
        )

    def _require_key(self, audit: KeyAudit, sql: str, fresh: StatementRunner) -> None:
        if found := int(self._work.send(sql, once=True, runner=fresh).rows[0][0]):
            raise KeyElsewhereError(audit, found)

    def _look(self, error: StatementError) -> Done | None:
        """Look in a new session what readers see where an error leaves it open; return it if all is done.

        Without an answer, what is not done may only be late: it stays unknown until the lock is taken again.
        """
        work = self._work
        if not work.is_unknown:
            return None
        try:
            with work.runner.fresh() as fresh:
                self._inspect(fresh)
                done = self.found_done(self._read(fresh), fresh)
        except StatementError:
            return None
        work.is_unknown = done is None and not self.is_created and not error.answered
        if done is not None and error.answered:
            work.warn_of_effect(error)
        return done

    def _read(self, fresh: StatementRunner) -> Markers:
        try:
            return markers_of(self._work.send(self._notes_sql, once=True, runner=fresh).rows)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            return Markers(None, ())

    def pause_before_another_try(self, error: StatementError) -> float | None:
        """Return for how many seconds to wait before all is begun anew; None where that would not help."""
        patience = self._work.patience
        if error.errno == LOCK_NOT_GIVEN:
            is_left = time.monotonic() - self._began < patience.wait_seconds
            return patience.poll_seconds if is_left else None
        if error.transient or self._work.is_unknown:
            return self._pauses.pop(0) if self._pauses else None
        # A table has come or gone, or an answer said that the first statement had failed.
        self._changes += 1
        is_in_motion = error.errno in (OBJECT_EXISTS, OBJECT_MISSING) or self.is_created
        return patience.poll_seconds if is_in_motion and self._changes < CHANGES else None

    def _warn_without_notes(self, error: StatementError) -> None:
        work = self._work
        work.is_unknown = False
        work.warnings.append(
            f"{work.table.name}: readers see the new table, but its rows could not be noted in "
            f"{partitions_table(work.target)}, got: {error}. Its comment keeps the order of runs all the same."
        )
