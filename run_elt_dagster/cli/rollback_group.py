"""What `run-elt rollback --group` prints and does."""

from collections.abc import Mapping, Sequence

import dagster as dg

from run_elt_dagster.cli.asking import agrees
from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.rollback_parts import observations
from run_elt_dagster.cli.rolling_back import noted, observation, present_words, rolling_back
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.project import Project
from run_elt_dagster.publish.group_part_rollback import GroupPartRollback, GroupPartRollbackPlan
from run_elt_dagster.publish.group_rollback import GroupRollback, GroupRollbackPlan, tables_of_group
from run_elt_dagster.publish.group_transaction import is_in_one_transaction


def roll_back_group(project: Project, group: str, partition: str | None, *, is_agreed: bool, further: bool) -> int:
    """Put all tables of a group back to the versions before its last exchange, after a question.

    Raises:
        ValueError: Its tables have partitions and none is named, or the other way round.
    """
    tables = tables_of_group(project.tables(keeps_broken=True), group)
    slices = _slices(group, tables, partition)
    if is_in_one_transaction(tables):
        return _roll_back_parts(project, group, tables, slices, is_agreed=is_agreed, further=further)
    with rolling_back(project) as (instance, runner, database, log):
        check_policies = project.settings.check_policies
        rollback = GroupRollback(runner, group, tables, database=database, check_policies=check_policies)
        plan = rollback.plan(further=further)
        _print(plan)
        if plan.due and not is_agreed and not agrees("rolling back", "Roll back?"):
            return 1
        # With nothing left to do, it drops the lock of a command that was killed at its end.
        left = [*rollback.carry_out(plan), *noted(instance, _observations(plan))]
        # Those, too, that a killed command has ended with: it has logged none.
        log.rolled_back(plan.plans)
    if plan.due:
        print(f"publish_group {group} is back. The next run of it publishes again: fix its SQL first.")
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _slices(group: str, tables: Sequence[AnalyticsTable], partition: str | None) -> dict[Key, Slice]:
    if any(table.partitions is not None for table in tables):
        return {table.key: table.part(partition) for table in tables}
    if partition is not None:
        raise ValueError(
            f"run-elt rollback --group {group} requires tables with partitions for --partition, got none. Nothing was changed. "
            "Leave --partition out."
        )
    return {}


def _roll_back_parts(
    project: Project,
    group: str,
    tables: Sequence[AnalyticsTable],
    slices: Mapping[Key, Slice],
    *,
    is_agreed: bool,
    further: bool,
) -> int:
    with rolling_back(project) as (instance, runner, database, log):
        check_policies = project.settings.check_policies
        rollback = GroupPartRollback(runner, group, tables, slices, database=database, check_policies=check_policies)
        plan = rollback.plan(further=further)
        _print_parts(plan)
        if plan.due and not is_agreed and not agrees("rolling back", "Roll back?"):
            return 1
        # With nothing left to do, it drops the lock of a command that was killed at its end.
        left = list(rollback.carry_out(plan))
        left += noted(instance, [each for due in plan.due for each in observations(due, publish_group=group)])
        for each in plan.plans:
            log.parts_rolled_back(each)
    if plan.due:
        print(f"publish_group {group} is back. The next run of it publishes again: fix its SQL first.")
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _print_parts(plan: GroupPartRollbackPlan) -> None:
    print(f"publish_group {plan.group}")
    lines = [
        (each.table.name, key, version.present_words, version.words)
        for each in plan.due
        for key, version in each.versions.items()
    ]
    if not lines:
        print(
            "An earlier command has put these rows back, and nothing is left to do. --further goes back one version more."
        )
        return
    # Of an increment it is noted how many rows were merged, and not how many the table has.
    print_table(("table", "part", "was published", "readers will see"), lines)
    print("By one transaction: readers see the one or the other of all tables at every moment.")


def _print(plan: GroupRollbackPlan) -> None:
    print(f"publish_group {plan.group}, exchanged by {plan.taken_back}")
    lines = [(each.table.name, present_words(each), each.previous.words, each.method) for each in plan.plans]
    print_table(("table", "readers see now", "they will see", "by"), lines)
    print(plan.consequence)


def _observations(plan: GroupRollbackPlan) -> list[dg.AssetObservation]:
    return [observation(each, publish_group=plan.group) for each in plan.due]
