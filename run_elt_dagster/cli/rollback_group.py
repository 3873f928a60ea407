"""What `run-elt rollback --group` prints and does."""

import dagster as dg

from run_elt_dagster.cli.asking import agrees
from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.rolling_back import noted, observation, present_words, rolling_back
from run_elt_dagster.project import Project
from run_elt_dagster.publish.group_rollback import GroupRollback, GroupRollbackPlan, tables_of_group


def roll_back_group(project: Project, group: str, *, is_agreed: bool, further: bool) -> int:
    """Put all tables of a group back to the versions before its last exchange, after a question."""
    tables = tables_of_group(project.tables(keeps_broken=True), group)
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
        log.rolled_back(plan.plans if plan.due else ())
    if plan.due:
        print(f"publish_group {group} is back. The next run of it publishes again: fix its SQL first.")
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _print(plan: GroupRollbackPlan) -> None:
    print(f"publish_group {plan.group}, exchanged by {plan.taken_back}")
    lines = [(each.table.name, present_words(each), each.previous.words, each.method) for each in plan.plans]
    print_table(("table", "readers see now", "they will see", "by"), lines)
    print(plan.consequence)


def _observations(plan: GroupRollbackPlan) -> list[dg.AssetObservation]:
    return [observation(each, publish_group=plan.group) for each in plan.due]
