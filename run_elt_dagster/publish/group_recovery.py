"""Ending the exchange of a group that a dead run has left half done: forward where all candidates are there, else back."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from run_elt_dagster.model.candidate import Marker, audited_at, by_hand_in
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.group_exchange import GroupExchange, TableOfGroupError, is_exchanged, is_overtaken
from run_elt_dagster.publish.group_lock import GroupLock, GroupNote, locks_in
from run_elt_dagster.publish.group_strays import as_published, is_found, stand_in, told_of
from run_elt_dagster.publish.group_transaction import drop_new, in_order, is_in_one_transaction
from run_elt_dagster.publish.guards import (
    OBJECT_MISSING,
    PublishRefusedError,
    TargetInventory,
    inventory_of,
    inventory_sql,
)
from run_elt_dagster.publish.methods import kept_of, method_of
from run_elt_dagster.publish.partitions import all_markers_sql, lock_sql, markers_of
from run_elt_dagster.publish.row_exchange import begin_sql, exchange_parameters
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import StatementError


@dataclass(frozen=True)
class EndedExchange:
    """What became of an exchange that a dead run had begun.

    Attributes:
        note: The run, and the tables.
        state: `forward` where readers see its rows in all tables, `declared` where they do in all that a file still declares, `back` where
            they see those of before in all, `open` where it could not be ended.
        problem: Why it is not `forward`, or what readers' tables lack though it is; empty otherwise.
    """

    note: GroupNote
    state: Literal["forward", "declared", "back", "open"]
    problem: str = ""

    @property
    def words(self) -> str:
        """It in sentences."""
        note = self.note
        if note.is_of_one:
            return f"{note.holder} has not ended. Repeat the command: it ends what was begun."
        if note.is_rollback:
            return (
                f"{note.holder} has not ended. Where it was killed, readers may see the version of before in some of {', '.join(note.tables)} "
                "and a newer one in others. Repeat the command: it ends what was begun."
            )
        who = note.holder if note.by else f"Run {note.run_id}"
        begun = f"{who} ended while it published publish_group {note.group} ({', '.join(note.tables)})."
        why = f" {self.problem}" if self.problem else ""
        if self.state in ("forward", "declared"):
            passed = "All tables had passed their checks"
            passed += ", or these were waived" if note.by else ""
            repeat = " Repeat the command: it notes and logs who has published." if note.by else ""
            seen = "in all of them" if self.state == "forward" else "in those that a file still declares"
            return f"{begun} {passed}, so the exchange is done now: readers see the new rows {seen}.{why}{repeat}"
        if self.state == "back":
            return f"{begun} Readers see in all of them what they saw before.{why}"
        seen = "Readers may see new rows in some and old ones in others."
        if note.act == "writes":
            seen = "Readers see the new rows in all of them, or what they saw before."
        return f"{begun} {seen}{why} Materialize all tables of the group."


def end_left_exchanges(
    runner: StatementRunner,
    tables: Catalogue,
    inventory: TargetInventory,
    *,
    database: str,
    options: PublishOptions,
) -> list[EndedExchange]:
    """End what dead runs have begun in the schemas of an inventory. Where none has, nothing is sent.

    Args:
        runner: Sends the statements. Its run knows which others still live.
        tables: The declared tables.
        inventory: What stands in their schemas.
        database: Stored name of the session's database.
        options: How tables are published.
    """
    own = runner.run.run_id
    left = [
        (lock, note)
        for lock, note in locks_in(inventory, database=database)
        if not note.is_rollback and note.run_id != own and note.is_over(runner.run.is_live)
    ]
    return [end_exchange(runner, tables, lock, note, options=options) for lock, note in left]


def end_exchange(
    runner: StatementRunner,
    tables: Catalogue,
    lock: Relation,
    note: GroupNote,
    *,
    options: PublishOptions,
) -> EndedExchange:
    """End the exchange that a dead run has begun. A rollback is ended by its command, repeated.

    Args:
        runner: Sends the statements.
        tables: The declared tables.
        lock: Where the run has noted it.
        note: What it has noted.
        options: How tables are published.
    """
    if note.is_rollback:
        return EndedExchange(note, "open")
    keys: list[Key] = [tuple(name.split(".")) for name in note.tables]
    if broken := [".".join(key) for key in keys if key in tables.broken]:
        return EndedExchange(note, "open", f"The files of {', '.join(broken)} cannot be used.")
    found, strays = [tables[key] for key in keys if key in tables], [key for key in keys if key not in tables]
    if not found or any(tables.is_declared_elsewhere(key) for key in strays):
        # Another project may have them.
        return EndedExchange(note, "open", f"No file here declares {', '.join(map('.'.join, strays))}.")
    if note.act == "exchanges" and is_in_one_transaction(found):
        # Their candidates have other rows than those of a table in parts.
        return EndedExchange(note, "open", "Since then, the files of the group declare partitions or increments.")
    try:
        left = _Left(runner, found, lock, note, options, strays=strays)
        return left.end_transaction() if note.act == "writes" else left.end()
    except StatementError as error:
        return EndedExchange(note, "open", f"Snowflake does not say what readers see: {error}.")


class _Left:
    """An exchange that was left half done."""

    def __init__(
        self,
        runner: StatementRunner,
        tables: Sequence[AnalyticsTable],
        lock: Relation,
        note: GroupNote,
        options: PublishOptions,
        *,
        strays: Sequence[Key],
    ) -> None:
        dead = RunContext(note.run_id, runner.run.job, is_live=runner.run.is_live)
        self._runner = runner.unstoppable(dead)
        self._note, self._lock = note, GroupLock(self._runner, lock, note)
        # Before all looks: if the run goes on all the same, it exchanges nothing from now on.
        self._lock.take_over(runner.run.run_id)
        undeclared = [stand_in(key) for key in strays]
        sql = inventory_sql(lock.database, [table.stored_schema for table in (*tables, *undeclared)])
        self._inventory = inventory_of(runner.send(sql, tag={"stage": "inspect"}).rows)
        self._works = [self._work(table, lock.database, options) for table in tables]
        # They are put back with the others, and never exchanged.
        self._strays = [self._work(table, lock.database, options) for table in undeclared]

    def _work(self, table: AnalyticsTable, database: str, options: PublishOptions) -> TableWork:
        work = TableWork(self._runner, table, self._inventory, database=database, options=options)
        work.snapshot_at = self._note.at
        work.inspect()
        self._take_person(work)
        return work

    def _take_person(self, work: TableWork) -> None:
        """Go on in the name of the person who publishes it by hand: the comment that comes after the exchange says who it was."""
        candidate = self._inventory.at(work.candidate)
        comments = [found.comment for found in (candidate, work.existing) if found is not None]
        signed = next((comment for comment in comments if by_hand_in(comment) is not None), None)
        if self._note.by and signed is not None:
            work.by_hand, work.audited_at = by_hand_in(signed), audited_at(signed)

    def end(self) -> EndedExchange:
        """End it.

        Raises:
            StatementError: Snowflake does not say what readers see.
        """
        if taken_back := [work.table.name for work in self._works if self._is_taken_back(work)]:
            problem = f"Since then, somebody has taken its rows back in {', '.join(taken_back)}."
            return EndedExchange(self._note, "open", problem)
        done = [work for work in self._works if is_exchanged(work) or is_overtaken(work) or self._is_written(work)]
        waiting = [work for work in self._works if work not in done]
        strays = [as_published(work, read_at=work.marker()) for work in self._strays if is_exchanged(work)]
        works = [*self._works, *strays]
        firsts = [work for work in works if self._is_first(work)]
        exchange = GroupExchange(self._runner, works, self._lock, firsts=firsts, done=[*done, *strays])
        missing = [str(work.candidate) for work in waiting if not _has_good_candidate(work)]
        problem = f"{', '.join(missing)} cannot be published any more." if missing else ""
        try:
            if missing:
                exchange.put_back()
            else:
                exchange.publish()
        except TableOfGroupError as error:
            problem = f"{error}."
        if exchange.is_open:
            return EndedExchange(self._note, "open", problem or "Snowflake did not answer.")
        if not problem and (lost := self._lost()):
            return EndedExchange(self._note, "open", lost)
        self._release()
        told = told_of(self._strays)
        if problem:
            self._drop_strays()
            return EndedExchange(self._note, "back", " ".join(filter(None, (problem, told))))
        self._drop_candidates()
        self._drop_strays()
        lacking = [error.refusal.problem for error in exchange.unprotected.values()]
        state = "forward" if all(map(is_exchanged, self._strays)) else "declared"
        return EndedExchange(self._note, state, " ".join(filter(None, (*lacking, told))))

    def _lost(self) -> str:
        """Return which tables readers do not see as the run has built them, in words: it may go on, and swap a table a second time.

        Raises:
            StatementError: Snowflake does not say what readers see.
        """
        for work in self._works:
            work.inspect()
        lost = [work.table.name for work in self._works if not (is_exchanged(work) or is_overtaken(work))]
        return f"Somebody else has exchanged {', '.join(lost)} meanwhile." if lost else ""

    def end_transaction(self) -> EndedExchange:
        """End it where all tables are exchanged in one transaction: it was committed, or has done nothing.

        Raises:
            StatementError: Snowflake does not say what readers see.
        """
        undeclared = f"No file declares {', '.join(work.table.name for work in self._strays)} any more."
        told = [undeclared] if self._strays else []
        if self._is_committed(in_order(self._works)[0]):
            lacking = list(filter(None, map(self._looked_after, self._works)))
            self._release()
            self._drop_candidates()
            self._drop_strays()
            return EndedExchange(self._note, "forward", " ".join([*lacking, *told]))
        told = [told_of([work for work in self._strays if not is_found(work)])]
        with self._runner.fresh() as fresh:
            for work in (*self._works, *self._strays):
                drop_new(work, fresh)
        self._release()
        self._drop_strays()
        return EndedExchange(self._note, "back", " ".join(filter(None, ("Its transaction was not committed.", *told))))

    def _looked_after(self, work: TableWork) -> str:
        """Do what comes after the commit; return what the table lacks, in words."""
        if not work.table.is_in_parts:
            method_of(work.table).exchange(exists=not self._is_first(work)).finish(work)
        try:
            Governance(work).look_after()
        except PublishRefusedError as error:
            return error.refusal.problem
        return ""

    def _is_committed(self, work: TableWork) -> bool:
        """Return whether the note of a table names the run, once no transaction has its lock."""
        work.stage = "publish"
        with self._runner.fresh(exchange_parameters(work.patience)) as fresh:
            work.send(begin_sql(self._note.run_id), once=True, runner=fresh)
            try:
                work.send(lock_sql(work.target), once=True, runner=fresh)
                noted = markers_of(work.send(all_markers_sql(work.target), once=True, runner=fresh).rows)
            except StatementError as error:
                # Without the table of notes, there was no transaction.
                if error.errno != OBJECT_MISSING:
                    raise
                return False
            finally:
                with contextlib.suppress(StatementError):
                    work.send("ROLLBACK", once=True, runner=fresh)
        return any(each.marker == work.marker() for each in noted.partitions)

    def _release(self) -> None:
        with contextlib.suppress(StatementError):
            self._lock.release()

    def _is_taken_back(self, work: TableWork) -> bool:
        """Return whether a person has written the rows of before over those of the run. Only a person knows which of them are wanted."""
        marker = work.standing.marker if work.standing is not None else None
        return marker is not None and marker.is_rolled_back and marker.at == self._note.at

    def _is_first(self, work: TableWork) -> bool:
        """Return whether the dead run publishes the table for the first time: nothing of the time before stands beside it."""
        existing = work.existing
        if existing is None:
            return True
        if not is_exchanged(work):
            return False
        if work.table.publish == "clone":
            return self._inventory.at(kept_of(work.candidate)) is None
        if work.table.publish == "swap":
            return self._inventory.at(work.candidate) is None
        read_at = Marker("run", self._note.run_id, self._note.at).read_at
        return existing.created_at is not None and read_at is not None and existing.created_at >= read_at

    def _is_written(self, work: TableWork) -> bool:
        """Return whether the transaction of the run has written a table, though its comment does not say so yet.

        All tables are written in one. And a run drops candidates only after it.
        """
        if work.standing is None or work.standing.marker != work.marker("publishing"):
            return False
        is_ended = not any(_has_good_candidate(each) for each in self._works)
        return is_ended or any(is_exchanged(each) and not self._is_first(each) for each in self._works)

    def _drop_strays(self) -> None:
        """Drop the candidates that nothing publishes any more, and what was kept beside them."""
        for work in self._strays:
            for each in (work.candidate, kept_of(work.candidate)):
                if self._inventory.at(each) is not None:
                    with contextlib.suppress(StatementError):
                        work.send(drop_sql(each))

    def _drop_candidates(self) -> None:
        for work in self._works:
            # What is left is dropped by a later run.
            with contextlib.suppress(StatementError):
                work.send(drop_sql(work.candidate))


def _has_good_candidate(work: TableWork) -> bool:
    """Return whether the audited candidate is still there, and nothing has been said against it."""
    found = next((listed for listed in work.inspection.candidates if listed.name == work.candidate.name), None)
    return found is not None and found.marker == work.marker()


EndExchange = Callable[[Relation, GroupNote], None]
"""Ends what a dead run has begun."""
