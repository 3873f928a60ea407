"""Exchanging the tables of a group in parts: the rows of all of them in one transaction, under the lock of the group.

Each table brings its own statements (`publish.row_exchange`) and its own note. All notes are written in the transaction, so that of one table
says whether all were exchanged. A transaction that was not committed has done nothing. Only a table that is published for the first
time is there before it, and is dropped where it fails.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

from run_elt_dagster.model.names import Key
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_exchange import TableOfGroupError, about, of_another_run
from run_elt_dagster.publish.group_lock import GroupLock
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.partitions import (
    Markers,
    create_lock_sql,
    create_table_sql,
    lock_sql,
    partitions_table,
)
from run_elt_dagster.publish.row_exchange import RowExchange, begin_sql, exchange_parameters
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError


class Member(Protocol):
    """A table of the group on its way, audited."""

    @property
    def work(self) -> TableWork:
        """What is known of it."""
        ...

    def begin_exchange(self) -> RowExchange[Any]:
        """Return what exchanges it."""
        ...

    def end_exchange(self, done: Any) -> None:
        """Note what was exchanged."""
        ...


def is_in_one_transaction(tables: Sequence[AnalyticsTable]) -> bool:
    """Return whether a group is exchanged in one transaction, with a note of each table."""
    return any(table.is_in_parts for table in tables)


def in_order(works: Sequence[TableWork]) -> list[TableWork]:
    """Return tables in the order of their locks: two transactions that take them so never wait for each other."""
    return sorted(works, key=lambda work: (work.target.schema, work.target.name))


class GroupTransaction:
    """Exchanges audited tables in one transaction, until it is done or cannot be.

    Args:
        runner: Sends the statements, whether the run is interrupted or not.
        members: The tables.
        lock: The lock of their group, taken.

    Attributes:
        is_open: Whether it may be committed though nobody knows, or a table is left that readers should not see. Then the lock has to stay.
        broken_after: What was raised after the commit, by the table: readers see the new rows of all of them.
    """

    def __init__(self, runner: StatementRunner, members: Sequence[Member], lock: GroupLock) -> None:
        self._runner, self._lock = runner, lock
        for member in members:
            member.work.runner, member.work.stage = runner, "publish"
        order = [work.target for work in in_order([member.work for member in members])]
        self._members = sorted(members, key=lambda member: order.index(member.work.target))
        self._exchanges = [(member.work, member.begin_exchange()) for member in self._members]
        # The note of this table stands for those of all.
        self._first, self._first_exchange = self._exchanges[0]
        self.is_open = self._may_be_committed = False
        # Whether readers see the rows of a newer run: nothing of these tables is changed then.
        self._is_overtaken = False
        self.broken_after: dict[Key, Exception] = {}

    def publish(self) -> None:
        """Exchange all tables; the members know then whether a newer run has published all of it before.

        Raises:
            TableOfGroupError: One could not be exchanged. None is then, unless `is_open`.
        """
        try:
            done = self._until_done()
        except BaseException:
            self.is_open = self._may_be_committed or not self._are_new_tables_gone()
            raise
        for member, each, (_, exchange) in zip(self._members, done, self._exchanges, strict=True):
            exchange.done = each
            member.end_exchange(each)
        if not self._is_overtaken:
            self._look_after()

    def _look_after(self) -> None:
        """Do what comes after the commit. What fails is a failure of its table alone: the others are published."""
        for work, exchange in self._exchanges:
            try:
                exchange.look_after()
            except Exception as error:  # noqa: BLE001 - raised, it would look as if nothing was published
                self.broken_after[work.table.key] = error

    def _until_done(self) -> list[Any]:
        while True:
            try:
                return self._attempt()
            except TableOfGroupError as error:
                if not isinstance(error.cause, StatementError):
                    raise
                if (done := self._look(error.cause)) is not None:
                    return done
                pause = self._first_exchange.pause_before_another_try(error.cause)
                if pause is None:
                    raise
                self._runner.wait(pause)

    def _attempt(self) -> list[Any]:
        """Publish in a session that was opened after all builds, so it sees the candidates for certain."""
        with about(self._first), self._runner.fresh(exchange_parameters(self._runner.patience)) as fresh:
            self._create_locks(fresh)
            # A new table is read by nobody yet. It comes when nothing else forbids to publish.
            for work, exchange in sorted(self._exchanges, key=lambda each: each[0].existing is None):
                with about(work):
                    exchange.ready(fresh)
            return self._in_a_transaction(fresh)

    def _create_locks(self, fresh: StatementRunner) -> None:
        """Create the tables of notes and the locks in them before the transaction: DDL would commit it."""
        for work in in_order([work for work, _ in self._exchanges]):
            with about(work):
                work.send(create_table_sql(work.target), once=True, runner=fresh)
                work.send(create_lock_sql(work.target), once=True, runner=fresh)

    def _in_a_transaction(self, fresh: StatementRunner) -> list[Any]:
        first = self._first
        first.send(begin_sql(first.run.run_id), once=True, runner=fresh)
        try:
            self._take_locks(fresh)
            # Nobody else publishes now, and no transaction of before is under way.
            self._set_unknown(is_unknown=False)
            self._require_own(fresh)
            markers = [exchange.noted(fresh) for _, exchange in self._exchanges]
            is_superseded = self._is_superseded(markers)
            done: list[Any] = []
            for (work, exchange), noted in zip(self._exchanges, markers, strict=True):
                with about(work):
                    done.append(exchange.exchange_under_lock(noted, fresh))
        except BaseException:
            self._roll_back(fresh)
            raise
        if is_superseded:
            self._is_overtaken = True
            self._roll_back(fresh)
            return done
        self._set_unknown(is_unknown=True)
        first.send("COMMIT", once=True, runner=fresh)
        self._set_unknown(is_unknown=False)
        return done

    def _take_locks(self, fresh: StatementRunner) -> None:
        for work, _ in self._exchanges:
            with about(work):
                answer = work.send(lock_sql(work.target), once=True, runner=fresh)
                if not (answer.rows and int(answer.rows[0][0])):
                    raise PublishRefusedError(_without_lock(work))

    def _require_own(self, fresh: StatementRunner) -> None:
        """Require the lock of the group, and the tables that this run has created.

        Who takes the run for dead writes so into the lock of the group first, and then asks the notes, under the locks of the tables. So
        either the run finds it here, or the notes say that the run has committed.
        """
        with about(self._first):
            self._lock.require(fresh)
        for work, exchange in self._exchanges:
            with about(work):
                exchange.require_created(fresh)

    def _is_superseded(self, markers: Sequence[Markers]) -> bool:
        """Return whether a newer run has published all rows in question, of all tables.

        Raises:
            TableOfGroupError: It has published some of them: readers would see rows of two runs.
        """
        found = [exchange.superseding(noted) for (_, exchange), noted in zip(self._exchanges, markers, strict=True)]
        newer = [each for each in found if each is not None]
        if not newer:
            return False
        for (work, _), each in zip(self._exchanges, found, strict=True):
            if each is None or not each.of_all:
                raise TableOfGroupError(work, of_another_run(work, newer[0].marker))
        return True

    def _roll_back(self, fresh: StatementRunner) -> None:
        """Give the locks back at once. Where that fails, the end of the session does it."""
        with contextlib.suppress(StatementError):
            self._first.send("ROLLBACK", once=True, runner=fresh)

    def _look(self, error: StatementError) -> list[Any] | None:
        """Look in a new session whether all is exchanged, where an error leaves that open; return what is, or None.

        The lock is taken first: as long as the transaction of before is under way, the notes do not tell.
        """
        if not self._may_be_committed:
            return None
        try:
            with self._runner.fresh(exchange_parameters(self._runner.patience)) as fresh:
                done = self._found(fresh)
        except StatementError:
            return None
        self._set_unknown(is_unknown=False)
        if done is not None and error.answered:
            self._first.warn_of_effect(error)
        return done

    def _found(self, fresh: StatementRunner) -> list[Any] | None:
        self._first.send(begin_sql(self._first.run.run_id), once=True, runner=fresh)
        try:
            self._take_locks(fresh)
            found = [exchange.found_done(exchange.noted(fresh), fresh) for _, exchange in self._exchanges]
        finally:
            self._roll_back(fresh)
        return None if any(each is None for each in found) else found

    def _set_unknown(self, *, is_unknown: bool) -> None:
        self._may_be_committed = is_unknown
        for work, _ in self._exchanges:
            work.is_unknown = is_unknown

    def _are_new_tables_gone(self) -> bool:
        """Drop the tables that this run has created, and return whether none is left."""
        new = [(work, exchange) for work, exchange in self._exchanges if exchange.is_created or work.existing is None]
        try:
            with self._runner.fresh() as fresh:
                for work, exchange in new:
                    drop_new(work, fresh)
                    exchange.is_created = False
        except StatementError:
            return not new
        return True


def drop_new(work: TableWork, fresh: StatementRunner) -> None:
    """Drop a table that the run has created before its transaction, and that has none of the rows of another run.

    Raises:
        StatementError: It may be there.
    """
    work.inspect(fresh)
    if work.standing is not None and work.standing.marker == work.marker():
        work.send(drop_sql(work.target), once=True, runner=fresh)
        work.standing = None
    work.is_unknown = False


def _without_lock(work: TableWork) -> Refusal:
    return Refusal(
        f"{work.table.name} requires its lock in {partitions_table(work.target)}",
        "no row that could be changed",
        "Look who else changes that table, and which policies it has. Then materialize again.",
        reason=Reason.TARGET_CHANGES,
    )
