"""Put all tables of a group back to the versions that readers saw before its last exchange: all of them, or none.

It is done under the lock of the group, so no run publishes the group meanwhile. What a killed command leaves behind, the same command
ends: the lock says that it has begun.
"""

import contextlib
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Relation, short_id
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_lock import (
    COMMAND_HOURS,
    GroupLock,
    GroupNote,
    lock_name,
    lock_of,
    locks_in,
    operator,
)
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal, inventory_of, inventory_sql, server_instant
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.publish.row_exchange import begin_sql, exchange_parameters
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError

_NOTHING_CHANGED = "Nothing was changed."
_EACH = "Roll back each table by itself: run-elt rollback schema.table. Or materialize all tables of the group again."


class GroupRollbackError(Exception):
    """A group could not be rolled back. The text says what readers see of its tables."""


@dataclass(frozen=True)
class GroupRollbackPlan:
    """How the previous versions of a group come back.

    Attributes:
        group: Its name.
        plans: Of each of its tables.
    """

    group: str
    plans: tuple[RollbackPlan, ...]

    @property
    def due(self) -> tuple[RollbackPlan, ...]:
        """Of the tables that something is left to do of."""
        return tuple(plan for plan in self.plans if plan.method != "done")

    @property
    def is_half_done(self) -> bool:
        """Whether an earlier command has put some of the versions back: then the way is forwards."""
        return any(plan.method in ("done", "clean-up") or plan.moved is not None for plan in self.plans)

    @property
    def taken_back(self) -> str:
        """The run whose rows are taken back, in words."""
        return _run_words(self.plans[0])

    @property
    def consequence(self) -> str:
        """What readers notice of it."""
        methods = {plan.method for plan in self.due}
        if not methods:
            return "An earlier command has put these versions back, and nothing is left to do. --further goes back one version more."
        if methods == {"time travel"}:
            return "By one transaction: readers see the one or the other of all tables at every moment."
        if methods == {"clean-up"}:
            return "An earlier command has put these versions back. Only its clean-up is left: readers notice nothing."
        gap = " Of a table by undrop, there is no table between two metadata statements." if "undrop" in methods else ""
        return (
            f"One table after the other: a query that joins them may see both versions for as long as that takes.{gap}"
        )


def tables_of_group(catalogue: Catalogue, group: str, *, command: str = "rollback") -> list[AnalyticsTable]:
    """Return the declared tables of a group.

    Args:
        catalogue: The declared tables.
        group: The group.
        command: Of run-elt that asks.

    Raises:
        ValueError: There is no such group, or a file of it is broken.
    """
    found = [table for table in catalogue.values() if table.publish_group == group]
    broken = [".".join(key) for key, each in catalogue.broken.items() if each.publish_group == group]
    if broken:
        raise ValueError(
            f"run-elt {command} --group requires files that can be read of all tables of publish_group {group}, got broken ones of "
            f"{', '.join(broken)}. {_NOTHING_CHANGED} Correct them: run-elt lint says what is wrong."
        )
    if not found:
        known = sorted({table.publish_group for table in catalogue.values() if table.publish_group is not None})
        declared = f"The files declare {', '.join(known)}." if known else "No file declares one."
        raise ValueError(
            f"run-elt {command} --group requires a declared publish_group, got {group}. {_NOTHING_CHANGED} {declared}"
        )
    return found


class GroupRollback:
    """Puts the previous versions of the tables of one group back.

    Args:
        runner: Sends its statements.
        group: Its name.
        tables: Its tables.
        database: The stored name of their database.
        check_policies: Whether to ask for the policies on the present versions.
    """

    def __init__(
        self,
        runner: StatementRunner,
        group: str,
        tables: Sequence[AnalyticsTable],
        *,
        database: str,
        check_policies: bool = True,
    ) -> None:
        self._runner, self._group, self._tables, self._database = runner, group, tables, database
        self._relation = lock_of(group, tables, database=database)
        self._tag = {"group": group, "stage": "rollback"}
        self._rollbacks = {
            table.key: Rollback(runner, table, database=database, check_policies=check_policies) for table in tables
        }
        # Whether a transaction has written rows, or may have though Snowflake has not said so. Then the way is forwards.
        self._is_written = self._is_unknown = False

    def plan(self, *, further: bool = False) -> GroupRollbackPlan:
        """Look which versions there are to go back to, and whether anything forbids it; nothing is changed.

        Args:
            further: Go back one version more than an earlier command has, as `RollbackPlanner.plan` does.

        Raises:
            PublishRefusedError: A table has no version to go back to, or another run has published it, or somebody exchanges the group.
            StatementError: Snowflake did not answer.
        """
        holder, now = self._look()
        if holder is not None:
            self._require_over(holder, now)
        begun = (holder.run_id, holder.at) if holder is not None else None
        plans = tuple(self._plans(further=further, begun=begun))
        self._require_one_run(plans)
        return GroupRollbackPlan(self._group, plans)

    def carry_out(self, plan: GroupRollbackPlan) -> tuple[str, ...]:
        """Put the previous versions back. If one table fails, readers see again what they saw before.

        Where that cannot be had, or an earlier command has left them half done, the lock stays: the command, repeated, ends it.

        Returns:
            What is left to do after readers see the previous versions, in words.

        Raises:
            PublishRefusedError: Somebody else exchanges the group.
            GroupRollbackError: It failed. The error says what readers see.
        """
        if not plan.due and self._look()[0] is None:
            return ()
        try:
            lock = self._take_lock(plan)
        except StatementError as error:
            raise GroupRollbackError(
                f"rolling back publish_group {self._group} requires its lock, the table {self._relation}, got: {error}. {_NOTHING_CHANGED} "
                "Repeat the command."
            ) from error
        due = [(self._rollbacks[each.table.key], each) for each in plan.due]
        try:
            self._exchange(due)
        except BaseException as error:
            is_back = not plan.is_half_done and self._is_put_back(due)
            if is_back:
                release(lock)
            if isinstance(error, (StatementError, PublishRefusedError)):
                raise self._told(error, due, is_back=is_back) from error
            raise
        left = [problem for rollback, each in due for problem in rollback.clean_up(each)]
        return (*left, *release(lock))

    def _plans(self, *, further: bool, begun: tuple[str, str] | None) -> list[RollbackPlan]:
        plans, refused = list[RollbackPlan](), list[str]()
        for table in self._tables:
            try:
                plan = self._rollbacks[table.key].plan(further=further, begun=begun)
            except PublishRefusedError as error:
                refused.append(error.refusal.problem)
                continue
            plans.append(plan)
            if plan.present is None and plan.moved is None:
                # Restored, it would have the rows of the last exchange and not of the one before.
                refused.append(f"There is no {plan.target}: run-elt rollback {table.name} restores it.")
        if refused:
            raise self._refused("that each of its tables can be rolled back", f"these: {' '.join(refused)}", _EACH)
        return plans

    def _require_one_run(self, plans: Sequence[RollbackPlan]) -> None:
        runs: dict[tuple[str, str], list[RollbackPlan]] = {}
        for plan in plans:
            runs.setdefault(_run_of(plan), []).append(plan)
        if len(runs) == 1:
            return
        got = ", ".join(
            f"{_run_words(found[0])} in {' and '.join(plan.table.name for plan in found)}" for found in runs.values()
        )
        rule = "that one run has published all of its tables last"
        if any(plan.method == "done" for plan in plans):
            rule = "that the rows of one run go from all of its tables"
        raise self._refused(rule, got, _EACH)

    def _look(self) -> tuple[GroupNote | None, str]:
        """Return who has the lock of the group, and Snowflake's time."""
        schemas = [table.stored_schema for table in self._tables]
        return look_at_lock(self._runner, self._group, schemas, database=self._database)

    def _require_over(self, holder: GroupNote, now: str) -> None:
        """Require that whoever has the lock is over, and a command: what a run has left, another look ends forwards.

        Raises:
            PublishRefusedError: It is not.
        """
        if remedy := remedy_beside(holder, self._runner.run.is_live, now=now):
            raise self._refused("that nobody exchanges its tables", f"{holder.holder} that does", remedy)

    def _take_lock(self, plan: GroupRollbackPlan) -> GroupLock:
        _, now = self._look()
        (run, at), names = _run_of(plan.plans[0]), tuple(table.name for table in self._tables)
        note = GroupNote(self._group, run or "unknown", at or "unknown", names, "rolls back", operator(), now)
        lock = GroupLock(self._runner, self._relation, note)
        take_over(lock, lambda holder: self._require_over(holder, now))
        return lock

    def _exchange(self, due: Sequence[tuple[Rollback, RollbackPlan]]) -> None:
        for step in (Rollback.require_nobody_published, Rollback.prepare):
            for rollback, plan in due:
                step(rollback, plan)
        written = [each for each in due if each[1].method == "time travel"]
        # Those that can be taken back come before the transaction, that cannot.
        for rollback, plan in due:
            if plan.method != "time travel":
                rollback.exchange(plan)
        self._write(written)
        for rollback, plan in due:
            rollback.require_not_overtaken(plan)

    def _write(self, written: Sequence[tuple[Rollback, RollbackPlan]]) -> None:
        """Write the rows of before into all tables in one transaction.

        Raises:
            StatementError: Nothing was written, unless `_is_unknown`.
        """
        if not written:
            return
        try:
            self._write_once([statement for _, plan in written for statement in plan.statements])
        except StatementError as error:
            if not (self._is_unknown and self._are_old_rows(written)):
                self._is_unknown = self._is_unknown and not error.answered
                raise
        self._is_written, self._is_unknown = True, False

    def _write_once(self, statements: Sequence[str]) -> None:
        with self._runner.fresh(exchange_parameters(self._runner.patience)) as fresh:
            fresh.send_once(begin_sql(self._runner.run.run_id), tag=self._tag)
            try:
                for statement in statements:
                    fresh.send_once(statement, tag=self._tag)
            except BaseException:
                with contextlib.suppress(StatementError):
                    fresh.send_once("ROLLBACK", tag=self._tag)
                raise
            self._is_unknown = True
            fresh.send_once("COMMIT", tag=self._tag)

    def _are_old_rows(self, written: Sequence[tuple[Rollback, RollbackPlan]]) -> bool:
        with contextlib.suppress(StatementError):
            return all(rollback.has_happened(plan, "") for rollback, plan in written)
        return False

    def _is_put_back(self, due: Sequence[tuple[Rollback, RollbackPlan]]) -> bool:
        """Let readers see what they saw before, and return whether they do."""
        if self._is_unknown or self._is_written:
            return False
        try:
            # Twice: an exchange without an answer may come late. All of them, whatever becomes of the first.
            looks = [rollback.put_back(plan) for _ in range(2) for rollback, plan in reversed(due)]
        except StatementError:
            return False
        return all(looks)

    def _told(
        self, error: Exception, due: Sequence[tuple[Rollback, RollbackPlan]], *, is_back: bool
    ) -> GroupRollbackError:
        problem = f"publish_group {self._group} was not rolled back: {str(error).rstrip('.')}."
        if is_back:
            return GroupRollbackError(
                f"{problem} Readers see in all of its tables what they saw before. Repeat the command."
            )
        try:
            seen = "; ".join(f"of {plan.table.name}, {rollback.words_now()}" for rollback, plan in due)
            seen = f"It may be rolled back in part: {seen}."
            if self._is_unknown:
                # Their comments name the run that is being taken back until a look has shown that it is.
                seen = "Whether readers see the rows of before is unknown, since the answer to COMMIT was lost."
        except StatementError:
            seen = "What readers see is unknown, since Snowflake could not be asked."
        return GroupRollbackError(f"{problem} {seen} Repeat the command: it ends what was begun, for all tables.")

    def _refused(self, rule: str, got: str, remedy: str) -> PublishRefusedError:
        return PublishRefusedError(
            Refusal(f"rolling back publish_group {self._group} requires {rule}", got, remedy, seen=_NOTHING_CHANGED)
        )


class RollbackOfOne(Rollback):
    """Puts the previous version of one table of a group back, and leaves the others as they are.

    It has the lock of the group meanwhile. Where an exchange of the group is under way or was left half done, nobody could tell afterwards
    which rows readers are to see in all of its tables. So it is ended first.

    Args:
        runner: Sends its statements.
        table: The table.
        schemas: The stored schemas of the tables of its group. The lock stands in the first of them.
        database: The stored name of its database.
        check_policies: Whether to ask for the policies on the present version.
    """

    def __init__(
        self,
        runner: StatementRunner,
        table: AnalyticsTable,
        schemas: Collection[str],
        *,
        database: str,
        check_policies: bool = True,
    ) -> None:
        super().__init__(runner, table, database=database, check_policies=check_policies)
        self._of_one = LockOfOne(runner, table, schemas, database=database)
        self._lock: GroupLock | None = None

    def plan(self, *, further: bool = False, begun: tuple[str, str] | None = None) -> RollbackPlan:
        """Return what to do, as `RollbackPlanner.plan` does. A command that was killed has noted in the lock what it had begun.

        Raises:
            PublishRefusedError: Somebody exchanges the group, besides.
        """
        holder = self._of_one.left_by_one()
        if holder is not None:
            begun = begun or (holder.run_id, holder.at)
        return super().plan(further=further, begun=begun)

    def carry_out(self, plan: RollbackPlan) -> tuple[str, ...]:
        """Put the previous version back, as `Rollback` does, under the lock of the group.

        With nothing left to do, it gives back a lock that a killed command has left.

        Raises:
            PublishRefusedError: Somebody exchanges the group, besides.
        """
        if plan.method == "done" and self._of_one.left_by_one() is None:
            return ()
        self._lock = self._of_one.taken(*_run_of(plan))
        try:
            left = super().carry_out(plan)
        except BaseException:
            # What was begun, the comments say. A repeated command takes it up, and a run of the group publishes anew.
            release(self._lock)
            raise
        return (*left, *release(self._lock))

    def require_nobody_published(self, plan: RollbackPlan) -> None:
        """Look again, as `Rollback` does, and whether it has the lock of the group alone."""
        self._of_one.left_by_one(besides=self._lock)
        super().require_nobody_published(plan)


class LockOfOne:
    """The lock of a group for one of its tables that goes back by itself.

    Args:
        runner: Sends its statements.
        table: The table.
        schemas: The stored schemas of the tables of its group. The lock stands in the first of them.
        database: The stored name of its database.
    """

    def __init__(
        self, runner: StatementRunner, table: AnalyticsTable, schemas: Collection[str], *, database: str
    ) -> None:
        self._runner, self._table, self._schemas, self._database = runner, table, schemas, database
        self._group = table.publish_group or ""

    def left_by_one(self, *, besides: GroupLock | None = None) -> GroupNote | None:
        """Return the note of a command that was killed while it rolled this table back; None where nobody has the lock.

        Args:
            besides: The lock of this command itself.

        Raises:
            PublishRefusedError: Somebody else has the lock.
        """
        holder, now = self._look()
        if holder is None or (besides is not None and holder == besides.note):
            return None
        self._require_own(holder, now=now)
        return holder

    def taken(self, run: str = "", at: str = "") -> GroupLock:
        """Take the lock, also that of a killed command.

        Args:
            run: The start of the id of the run that is taken back; empty where that is unknown.
            at: The snapshot of its rows.

        Raises:
            PublishRefusedError: Somebody else has the lock.
        """
        _, now = self._look()
        note = GroupNote(
            self._group, run or "unknown", at or "unknown", (self._table.name,), "rolls back", operator(), now
        )
        relation = Relation(self._database, min(self._schemas), lock_name(self._group))
        lock = GroupLock(self._runner, relation, note)
        take_over(lock, lambda holder: self._require_own(holder, now=now))
        return lock

    def _look(self) -> tuple[GroupNote | None, str]:
        return look_at_lock(self._runner, self._group, self._schemas, database=self._database)

    def _require_own(self, holder: GroupNote, *, now: str) -> None:
        """Require that whoever has the lock is over, and has rolled this table back alone.

        Raises:
            PublishRefusedError: Somebody exchanges the group, or has left that half done.
        """
        remedy = remedy_beside(holder, self._runner.run.is_live, now=now)
        if not remedy and holder.tables != (self._table.name,):
            remedy = "It has not ended: repeat it first."
        if remedy:
            rule = f"rolling back {self._table.name} requires that nobody exchanges publish_group {self._group}"
            raise PublishRefusedError(Refusal(rule, f"{holder.holder} that does", remedy, seen=_NOTHING_CHANGED))


@contextmanager
def alone_in_group(of_one: LockOfOne | None) -> Generator[list[str]]:
    """Have the lock of a group while parts of one of its tables go back; without a group, do nothing.

    Args:
        of_one: The lock; None for a table without a group.

    Yields:
        What is left to do afterwards, in words.

    Raises:
        PublishRefusedError: Somebody else has the lock.
    """
    left = list[str]()
    lock = of_one.taken() if of_one is not None else None
    try:
        yield left
    finally:
        left += release(lock) if lock is not None else []


def take_over(lock: GroupLock, require_over: Callable[[GroupNote], None]) -> None:
    """Take a lock, also that of a command that is over.

    Args:
        lock: The lock.
        require_over: Raises where who has it is not over.
    """
    while (holder := lock.take()) is not None:
        require_over(holder)
        # Another command may have done so a moment before, and have it now: then nothing is dropped.
        lock.release(holder)


def release(lock: GroupLock) -> list[str]:
    """Give a lock back, and return what is left to do, in words."""
    try:
        was_held = lock.release()
    except StatementError as error:
        return [f"{lock.relation} could not be dropped, got: {error}. Repeat the command: it drops it."]
    if was_held:
        return []
    problem = (
        f"{lock.relation} was taken from this command while it went on, so another one may have changed the same tables. "
        f"Look what readers see: {'; '.join(f'run-elt show {name}' for name in lock.note.tables)}."
    )
    return [problem]


def schemas_of_group(catalogue: Catalogue, group: str) -> list[str]:
    """Return the stored schemas of the tables of a group; a broken file counts by its folder."""
    found = {table.stored_schema for table in catalogue.values() if table.publish_group == group}
    return sorted(found | {key[0].upper() for key, each in catalogue.broken.items() if each.publish_group == group})


def look_at_lock(
    runner: StatementRunner, group: str, schemas: Collection[str], *, database: str
) -> tuple[GroupNote | None, str]:
    """Return who has the lock of a group, and Snowflake's time."""
    tag = {"group": group, "stage": "rollback"}
    inventory = inventory_of(runner.send(inventory_sql(database, schemas), tag=tag).rows)
    holders = [note for lock, note in locks_in(inventory, database=database) if lock.name == lock_name(group)]
    return next(iter(holders), None), server_instant(inventory, elapsed_seconds=0)


def remedy_beside(holder: GroupNote, is_live: Callable[[str], bool], *, now: str) -> str:
    """Return what to do about who has the lock before anything is rolled back; empty for a rollback that is over."""
    is_over = holder.is_over(is_live, now=now)
    if holder.is_rollback:
        wait = (
            f"Wait for it. If it was killed, repeat it on its machine, or on any {COMMAND_HOURS} h after it has begun."
        )
        return "" if is_over else wait
    if is_over:
        return "That run is over, and run-elt doctor ends its exchange. Then repeat the command."
    return "Wait for the run, or cancel it. Then repeat the command."


def _run_of(plan: RollbackPlan) -> tuple[str, str]:
    """Return what tells the run whose rows are taken back; after a rollback by Time Travel, its id is short."""
    marker = plan.taken_back
    return (short_id(marker.run_of_rows), marker.at) if marker is not None else ("", "")


def _run_words(plan: RollbackPlan) -> str:
    run, at = _run_of(plan)
    return f"run {run}, built {at[:16].replace('T', ' ')} UTC" if run else "an unknown run"
