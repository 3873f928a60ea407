"""Exchanging the tables of a group: all looks before, the exchanges without a pause, and all of it taken back where one fails.

Tables by `overwrite` are written in one transaction. Tables by `clone` and `swap` are exchanged one after the other. What readers see is
all old or all new at the end; where a process is killed in between, the lock of the group stays and another run ends it
(`publish.group_recovery`).
"""

import contextlib
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.group_lock import GroupLock
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.methods import (
    CandidateGoneError,
    Exchange,
    InsertOverwrite,
    kept_of,
    method_of,
)
from run_elt_dagster.publish.rivals import drop_older
from run_elt_dagster.publish.row_exchange import begin_sql, exchange_parameters
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError

# How often an exchange is looked for before it is taken back, or not.
_LOOKS = 3


class TableOfGroupError(Exception):
    """One table of a group could not be exchanged.

    Attributes:
        work: The table.
        cause: Why.
    """

    def __init__(self, work: TableWork, cause: Exception) -> None:
        super().__init__(f"{work.table.name}: {cause}")
        self.work, self.cause = work, cause


@contextmanager
def about(work: TableWork) -> Generator[None]:
    """Name the table in whatever is raised.

    Raises:
        TableOfGroupError: Something was.
    """
    try:
        yield
    except CandidateGoneError as gone:
        raise TableOfGroupError(work, gone.answer) from gone
    except TableOfGroupError:
        raise
    except Exception as error:
        raise TableOfGroupError(work, error) from error


class GroupExchange:
    """Exchanges audited tables, under the lock of their group.

    Args:
        runner: Sends the statements, whether the run is interrupted or not: it must not end halfway.
        works: The tables, parents first, each with a look at the catalogue that is younger than the lock.
        lock: The lock, taken.
        firsts: The tables that are published for the first time.
        done: The tables that have been exchanged before.

    Attributes:
        is_open: Whether some tables may be exchanged and others not. Then the lock has to stay.
        unprotected: For a table that readers see without its policies, why.
    """

    def __init__(
        self,
        runner: StatementRunner,
        works: Sequence[TableWork],
        lock: GroupLock,
        *,
        firsts: Collection[TableWork],
        done: Collection[TableWork] = (),
    ) -> None:
        self._runner, self._lock, self._firsts = runner, lock, firsts
        for work in works:
            work.runner, work.stage = runner, "publish"
        # A new table is read by nobody yet: readers find it when the others are there, and not before.
        self._works = sorted(works, key=lambda work: work in firsts)
        self._done: list[TableWork] = [work for work in self._works if work in done]
        self.is_open = bool(self._done)
        self.unprotected: dict[Key, PublishRefusedError] = {}

    def publish(self) -> None:
        """Exchange all tables that are not exchanged yet.

        Raises:
            TableOfGroupError: One could not be. The others are what they were, unless `is_open`.
        """
        waiting = [work for work in self._works if work not in self._done]
        prepared: list[TableWork] = []
        try:
            for work in waiting:
                with about(work):
                    drop_older(work)
                    self._by(work).keep(work)
            for work in waiting:
                prepared.append(work)
                with about(work):
                    # Before all else: what comes next may let readers see it. All checks are over, and all tables are built.
                    Governance(work).protect()
                    self._by(work).prepare(work)
            with about(self._works[0]):
                # From here on, another run that took this one for dead might exchange the same candidates a second time.
                self._lock.require(self._runner)
            self._exchange(waiting)
        except BaseException:
            if self._is_taken_over():
                self._leave_it()
            else:
                self.put_back()
                self._take_announcements_back(prepared)
            raise
        self.is_open = False
        for work in self._works:
            self._by(work).finish(work)
            try:
                Governance(work).look_after()
            except PublishRefusedError as error:
                self.unprotected[work.table.key] = error
        self.drop_kept()

    def _is_taken_over(self) -> bool:
        """Return whether somebody else ends this exchange, and decides about each of its tables."""
        try:
            with self._runner.fresh() as fresh:
                return self._lock.holder(fresh) != self._lock.note
        except StatementError:
            return False

    def _leave_it(self) -> None:
        """Look what readers see, and change nothing."""
        self.is_open = True
        with contextlib.suppress(StatementError), self._runner.fresh() as fresh:
            for work in self._works:
                work.inspect(fresh)
                work.is_unknown = False

    def put_back(self) -> None:
        """Let readers see what they saw before; `is_open` says whether they may not.

        Rows that a transaction may have written stay: only going forward is sure to end in rows of one run.
        """
        if any(work.is_unknown and work not in self._done for work in self._works):
            return
        with contextlib.suppress(StatementError), self._runner.fresh() as fresh:
            for work in self._works:
                work.runner = fresh
            # Twice: an exchange without an answer may come late.
            for work in [*reversed(self._done), *reversed(self._done)]:
                self._put_back_one(work)
            self.is_open = any(is_exchanged(work) for work in self._done)
        for work in self._works:
            work.runner = self._runner
        if not self.is_open:
            self._done.clear()
            self.drop_kept()

    def drop_kept(self) -> None:
        """Drop what was kept of the tables of before, and warn where that fails."""
        for work in self._works:
            if work.table.publish != "clone" or work in self._firsts:
                continue
            kept = kept_of(work.candidate)
            try:
                work.send(drop_sql(kept))
            except StatementError as error:
                work.warnings.append(
                    f"{work.table.name}: {kept} is of no use any more and could not be dropped: {error}"
                )

    def _by(self, work: TableWork) -> Exchange:
        return method_of(work.table).exchange(exists=work not in self._firsts)

    def _exchange(self, waiting: Sequence[TableWork]) -> None:
        written = [work for work in waiting if isinstance(self._by(work), InsertOverwrite)]
        # Those that can be taken back come before the transaction, that cannot.
        for work in waiting:
            if work not in written:
                self._done.append(work)
                with about(work):
                    self._exchange_one(work)
                _note_exchanged(work)
        if written:
            with about(written[0]):
                self._write_all(written)
            for work in written:
                _note_exchanged(work)

    def _exchange_one(self, work: TableWork) -> None:
        """Send the statement of one table, again where a look shows that it took no effect and may be repeated.

        Raises:
            StatementError: It took no effect; or `work.is_unknown`.
        """
        exchange, pauses = self._by(work), list(work.patience.retry_seconds)
        self.is_open = True
        while True:
            try:
                exchange.send(work)
            except StatementError as error:
                if exchange.took_effect(work, error):
                    return
                if not pauses or not error.transient or work.is_unknown or not exchange.is_sent_again:
                    raise
                work.runner.wait(pauses.pop(0))
                work.runner.reconnect(error)
            else:
                return

    def _write_all(self, works: Sequence[TableWork]) -> None:
        """Write the rows of all tables in one transaction, again where that may help: the rows are the candidates' each time."""
        first, pauses = works[0], list(works[0].patience.retry_seconds)
        while True:
            self.is_open = True
            try:
                self._write_once(works)
            except StatementError as error:
                if self._by(first).took_effect(first, error):
                    return
                for work in works[1:]:
                    work.is_unknown = first.is_unknown
                if not pauses or not error.transient or first.is_unknown:
                    raise
                first.runner.wait(pauses.pop(0))
            else:
                return

    def _write_once(self, works: Sequence[TableWork]) -> None:
        first = works[0]
        with self._runner.fresh(exchange_parameters(first.patience)) as fresh:
            first.send(begin_sql(first.run.run_id), once=True, runner=fresh)
            try:
                for work in works:
                    if isinstance(exchange := self._by(work), InsertOverwrite):
                        exchange.write(work, fresh)
            except BaseException:
                with contextlib.suppress(StatementError):
                    first.send("ROLLBACK", once=True, runner=fresh)
                raise
            first.send("COMMIT", once=True, runner=fresh)

    def _put_back_one(self, work: TableWork) -> None:
        """Put one table back where a look shows the rows of this run.

        Raises:
            StatementError: Snowflake does not say what readers see.
        """
        for look in range(_LOOKS):
            if look:
                work.runner.wait(min(work.patience.poll_seconds, 1))
            work.inspect()
            work.is_unknown = False
            if not is_exchanged(work):
                return
            work.is_unknown = True
            with contextlib.suppress(StatementError):
                self._by(work).put_back(work)
        work.inspect()
        work.is_unknown = False

    def _take_announcements_back(self, works: Sequence[TableWork]) -> None:
        if self.is_open:
            return
        for work in works:
            exchange = self._by(work)
            if isinstance(exchange, InsertOverwrite) and work.looks_afresh():
                exchange.put_back(work)


def _note_exchanged(work: TableWork) -> None:
    """Note what readers see without another look."""
    work.standing = TableVersion(work.target.name, comment=str(work.marker()))


def is_exchanged(work: TableWork) -> bool:
    """Return whether readers see the rows of the run, by the last look."""
    return work.standing is not None and work.standing.marker == work.marker()


def is_overtaken(work: TableWork) -> bool:
    """Return whether a newer run has published the table since."""
    marker = work.standing.marker if work.standing is not None else None
    return marker is not None and marker.state == "run" and marker.order > work.marker().order


def of_another_run(work: TableWork, marker: Marker) -> PublishRefusedError:
    """Return why a table is not published though nothing is wrong with it: a newer run has published others of its group."""
    return PublishRefusedError(
        Refusal(
            f"{work.table.name} requires that the tables of publish_group {work.table.publish_group} have rows of one run",
            f"run {marker.run_id} that has published others of them from a newer snapshot, and not this one",
            "Materialize all tables of the group again.",
            seen=work.production.words,
            reason=Reason.NEWEST_LAST,
        )
    )
