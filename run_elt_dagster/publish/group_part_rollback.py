"""Put all tables of a group in parts back to the rows from before a publish: one transaction, under the lock of the group.

The notes of each table name the statement that took its rows of before away (`publish.part_rollback_plan`). A command that was killed has
put all of them back, or none: its lock stays, and the same command, repeated, gives it back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from run_elt_dagster.model.candidate import comment_of, target_of
from run_elt_dagster.model.names import Key, short_id
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_lock import GroupLock, GroupNote, lock_of, operator
from run_elt_dagster.publish.group_rollback import look_at_lock, release, remedy_beside, take_over
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.part_rollback import put_back
from run_elt_dagster.publish.part_rollback_plan import (
    NOTHING_CHANGED,
    PartRollbackPlan,
    PartRollbackPlanner,
    Parts,
    last_exchange,
    last_increment,
    parts_of_slice,
)
from run_elt_dagster.publish.partitions import PublishedPartition
from run_elt_dagster.publish.rollback_plan import rollback_tag
from run_elt_dagster.publish.statements import comment_sql
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError

_EACH = "Roll back each table by itself: run-elt rollback schema.table. Or materialize all tables of the group again."


@dataclass(frozen=True)
class GroupPartRollbackPlan:
    """How the rows of before come back.

    Attributes:
        group: The group.
        plans: Of each of its tables.
    """

    group: str
    plans: tuple[PartRollbackPlan, ...]

    @property
    def due(self) -> tuple[PartRollbackPlan, ...]:
        """Of the tables that something is left to do of."""
        return tuple(plan for plan in self.plans if plan.versions)


class GroupPartRollback:
    """Puts the rows of before of all tables of one group back.

    Args:
        runner: Sends its statements.
        group: Its name.
        tables: Its tables.
        slices: Which partitions of each go back; nothing of a group without partitions.
        database: The stored name of their database.
        check_policies: Whether to ask for the policies on the tables.
    """

    def __init__(
        self,
        runner: StatementRunner,
        group: str,
        tables: Sequence[AnalyticsTable],
        slices: Mapping[Key, Slice],
        *,
        database: str,
        check_policies: bool = True,
    ) -> None:
        self._runner, self._group, self._tables, self._database = runner, group, tables, database
        self._planners = [
            PartRollbackPlanner(
                runner,
                table,
                _parts(table, slices.get(table.key), database=database),
                database=database,
                check_policies=check_policies,
            )
            for table in tables
        ]

    def plan(self, *, further: bool = False) -> GroupPartRollbackPlan:
        """Look which rows there are to go back to, and whether anything forbids it; nothing is changed.

        Args:
            further: Go back one version more than an earlier command has, as `PartRollbackPlanner.plan` does.

        Raises:
            PublishRefusedError: A table has nothing to go back to, or other runs have published some of them, or somebody exchanges the group.
            StatementError: Snowflake did not answer.
        """
        holder, now = self._look()
        begun_at = None
        if holder is not None:
            self._require_over(holder, now)
            begun_at = holder.began_at
        plans, refused = list[PartRollbackPlan](), list[str]()
        for planner in self._planners:
            try:
                plans.append(planner.plan(further=further, begun_at=begun_at))
            except PublishRefusedError as error:
                refused.append(error.refusal.problem)
        if refused:
            raise self._refused("that each of its tables can be rolled back", f"these: {' '.join(refused)}", _EACH)
        self._require_one_run(plans)
        self._require_one_version(plans)
        return GroupPartRollbackPlan(self._group, tuple(plans))

    def carry_out(self, plan: GroupPartRollbackPlan) -> tuple[str, ...]:
        """Put the rows of before back, of all tables or of none. With nothing left to do, it gives back the lock of a killed command.

        Returns:
            What is left to do after readers see the rows of before, in words.

        Raises:
            PublishRefusedError: A run has published meanwhile, or somebody else exchanges the group. Nothing was changed.
            StatementError: A statement failed. The error says what readers see.
        """
        holder, now = self._look()
        if holder is None and not plan.due:
            return ()
        lock = self._taken_lock(plan, now)
        try:
            put_back(self._runner, *plan.plans)
        except BaseException:
            # Whatever became of the transaction, its notes say it.
            release(lock)
            raise
        return (*self._commented(plan), *release(lock))

    def _commented(self, plan: GroupPartRollbackPlan) -> list[str]:
        """Say in the comments of tables that are written whole whose rows were taken back; return what could not be said.

        A killed command may have said it of none, so those that it has put back are among them.
        """
        problems: list[str] = []
        for each in plan.plans:
            if each.table.is_in_parts:
                continue
            (note,) = [version.note for version in each.versions.values()] or each.notes.values()
            try:
                self._runner.send(
                    comment_sql(each.target, comment_of(each.table, note.marker)), tag=rollback_tag(each.table)
                )
            except StatementError as error:
                problems.append(
                    f"The comment of {each.target} still names the run that was taken back, got: {error}. The next publish comments it anew."
                )
        return problems

    def _require_one_run(self, plans: Sequence[PartRollbackPlan]) -> None:
        """Require that one run has published each part in all tables last."""
        notes = [(plan, key, note) for plan in plans for key, note in plan.notes.items()]
        if got := _runs_beside(notes):
            raise self._refused("that one run has published all of its tables last", got, _EACH)

    def _require_one_version(self, plans: Sequence[PartRollbackPlan]) -> None:
        """Require that going further goes equally far in all tables: one of them may have gone back further by itself."""
        notes = [
            (plan, key, version.previous)
            for plan in plans
            for key, version in plan.versions.items()
            if version.present.marker.is_rolled_back and version.previous is not None
        ]
        if got := _runs_beside(notes):
            raise self._refused("that all of its tables go back to the rows of one run", got, _EACH)

    def _taken_lock(self, plan: GroupPartRollbackPlan, now: str) -> GroupLock:
        run, at = _run_of(next(iter(plan.plans[0].notes.values())))
        names = tuple(table.name for table in self._tables)
        note = GroupNote(self._group, run, at, names, "rolls back", operator(), now)
        lock = GroupLock(self._runner, lock_of(self._group, self._tables, database=self._database), note)
        take_over(lock, lambda holder: self._require_over(holder, now))
        return lock

    def _look(self) -> tuple[GroupNote | None, str]:
        schemas = [table.stored_schema for table in self._tables]
        return look_at_lock(self._runner, self._group, schemas, database=self._database)

    def _require_over(self, holder: GroupNote, now: str) -> None:
        if remedy := remedy_beside(holder, self._runner.run.is_live, now=now):
            raise self._refused("that nobody exchanges its tables", f"{holder.holder} that does", remedy)

    def _refused(self, rule: str, got: str, remedy: str) -> PublishRefusedError:
        return PublishRefusedError(
            Refusal(f"rolling back publish_group {self._group} requires {rule}", got, remedy, seen=NOTHING_CHANGED)
        )


def _parts(table: AnalyticsTable, part: Slice | None, *, database: str) -> Parts:
    if part is not None:
        return parts_of_slice(table, part, target=target_of(table, database=database))
    return last_increment() if table.increment is not None else last_exchange()


def _runs_beside(notes: Iterable[tuple[PartRollbackPlan, str, PublishedPartition]]) -> str:
    """Return the runs of the same part of several tables, in words; empty where each part has one run."""
    runs: dict[str, dict[tuple[str, str], list[str]]] = {}
    for plan, key, note in notes:
        part = key if plan.parts.is_partition else ""
        runs.setdefault(part, {}).setdefault(_run_of(note), []).append(plan.table.name)
    for part, found in runs.items():
        if len(found) > 1:
            where = f" of partition {part}" if part else ""
            return ", ".join(f"run {run}{where} in {' and '.join(names)}" for (run, _), names in found.items())
    return ""


def _run_of(note: PublishedPartition) -> tuple[str, str]:
    """Return what tells the run whose rows are taken back, whether they are already or not."""
    return short_id(note.marker.run_of_rows), note.marker.at
