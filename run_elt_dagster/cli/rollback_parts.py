"""What `run-elt rollback` prints and does for partitions, and for the last increment of a table."""

from collections.abc import Callable, Iterator

import dagster as dg

from run_elt_dagster.cli.asking import agrees
from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.rolling_back import lock_of_one, noted, rolling_back
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.project import Project
from run_elt_dagster.publish.group_rollback import LockOfOne, alone_in_group
from run_elt_dagster.publish.part_rollback import put_back
from run_elt_dagster.publish.part_rollback_plan import (
    PartRollbackPlan,
    PartRollbackPlanner,
    Parts,
    last_increment,
    parts_of_slice,
)


def roll_back_partitions(
    project: Project, table: AnalyticsTable, part: Slice, *, is_agreed: bool, further: bool
) -> int:
    """Put back the rows that partitions had before their last publish, after a question."""

    def parts(database: str) -> Parts:
        return parts_of_slice(table, part, target=target_of(table, database=database))

    return _roll_back(project, table, parts, is_agreed=is_agreed, further=further)


def roll_back_increment(project: Project, table: AnalyticsTable, *, is_agreed: bool, further: bool) -> int:
    """Put back the rows that a table had before its last increment, after a question."""
    return _roll_back(project, table, lambda _: last_increment(), is_agreed=is_agreed, further=further)


def _roll_back(
    project: Project,
    table: AnalyticsTable,
    parts_in: Callable[[str], Parts],
    *,
    is_agreed: bool,
    further: bool,
) -> int:
    with rolling_back(project) as (instance, runner, database, log):
        parts = parts_in(database)
        policies = project.settings.check_policies
        planner = PartRollbackPlanner(runner, table, parts, database=database, check_policies=policies)
        of_one = lock_of_one(project, runner, table, database)
        killed = of_one.left_by_one() if of_one is not None else None
        plan = planner.plan(further=further, begun_at=killed.began_at if killed is not None else None)
        _print(plan)
        if not plan.versions:
            # What a killed command has put back, it has not logged.
            log.parts_rolled_back(plan)
            # A command that was killed at its end has left the lock of the group.
            return _given_back(of_one) if killed is not None else 0
        if not is_agreed and not agrees("rolling back", "Roll back?"):
            return 1
        with alone_in_group(of_one) as left:
            put_back(runner, plan)
        left += noted(instance, observations(plan))
        log.parts_rolled_back(plan)
    print(
        f"{plan.target}{_seen(plan)} ({counted(plan.rows, 'rows')}). The next run that builds them publishes again: fix the SQL first."
    )
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _given_back(of_one: LockOfOne | None) -> int:
    with alone_in_group(of_one) as left:
        pass
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _seen(plan: PartRollbackPlan) -> str:
    """Return what readers see now, behind the name of the table."""
    parts = plan.parts.named(tuple(plan.versions))
    if not plan.parts.is_partition:
        return f" has the rows from before {parts}"
    return f": {parts} {'has' if len(plan.versions) == 1 else 'have'} the rows of before"


def _print(plan: PartRollbackPlan) -> None:
    print(f"{plan.table.name} at {plan.target}")
    if plan.versions:
        lines = [(key, version.present_words, version.words) for key, version in plan.versions.items()]
        header = ("partition", "readers see now", "they will see")
        # Of an increment it is noted how many rows were merged, and not how many the table has.
        print_table(header if plan.parts.is_partition else ("part", "was merged", "readers will see"), lines)
        print("By one transaction: readers see all of the one or all of the other at every moment.")
    if plan.done:
        print(
            f"An earlier command has put back {plan.parts.named(plan.done)}, and nothing is left to do. --further goes back one version "
            "more."
        )


def observations(plan: PartRollbackPlan, **more: str) -> Iterator[dg.AssetObservation]:
    """Yield what the page of a table shows of its rollback.

    Args:
        plan: What was done.
        more: What else the metadata says.
    """
    for key, version in plan.versions.items():
        yield dg.AssetObservation(
            list(plan.table.asset_path),
            partition=key if plan.parts.is_partition else None,
            description=f"Rolled back to the previous version: {version.words}.",
            metadata={"rolled_back_to": version.words, "rolled_back_from": version.present_words, **more},
        )
