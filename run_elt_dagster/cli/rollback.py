"""`run-elt rollback`."""

import click

from run_elt_dagster.cli import InterruptedCommandError
from run_elt_dagster.cli.asking import agrees
from run_elt_dagster.cli.parameters import TABLE, of_project
from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.cli.rollback_group import roll_back_group
from run_elt_dagster.cli.rollback_parts import roll_back_increment, roll_back_partitions
from run_elt_dagster.cli.rolling_back import noted, observation, present_words, rolling_back
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.project import Project
from run_elt_dagster.publish.group_rollback import RollbackOfOne, schemas_of_group
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.snowflake.runner import StatementRunner


@click.command("rollback")
@click.argument("table", type=TABLE, metavar="[SCHEMA.TABLE]", required=False)
@of_project
@click.option(
    "--group", metavar="NAME", help="Instead of a table: all tables of a publish_group, to before its last exchange."
)
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
@click.option("--further", is_flag=True, help="Go back one version more than an earlier rollback has.")
@click.option(
    "--partition",
    metavar="KEY",
    help="The partition to roll back, as in 2024-01-31, or a range, FIRST...LAST. A partitioned table, or a group of them, requires it.",
)
def command(
    project: Project, table: str | None, *, group: str | None, is_agreed: bool, further: bool, partition: str | None
) -> int:
    """Put the previous version of a table back, or the rows from before the last publish of partitions, or from before the last increment.

    \b
      run-elt rollback analytics.orders
      run-elt rollback analytics.orders_daily --partition 2024-01-31
      run-elt rollback --group finance
      run-elt rollback --group orders_by_day --partition 2024-01-31

    It first prints what readers see now, what they will see and by which statement, and asks.
    """
    if (table is None) == (group is None):
        raise click.UsageError("run-elt rollback requires either SCHEMA.TABLE or --group NAME.")
    try:
        if group is not None:
            return roll_back_group(project, group, partition, is_agreed=is_agreed, further=further)
        return _roll_back_one(project, table or "", partition, is_agreed=is_agreed, further=further)
    except KeyboardInterrupt:
        told = f"of {table} is unknown if its exchange was under way: run-elt show {table}"
        if group is not None:
            told = f"of publish_group {group} is what it was, unless its exchange was under way. Repeat the command: it ends what was begun."
        raise InterruptedCommandError(f"What readers see {told}") from None


def _roll_back_one(project: Project, name: str, partition: str | None, *, is_agreed: bool, further: bool) -> int:
    table = project.table(name)
    if table.partitions is not None or partition:
        return roll_back_partitions(project, table, table.part(partition), is_agreed=is_agreed, further=further)
    if table.increment is not None:
        return roll_back_increment(project, table, is_agreed=is_agreed, further=further)
    return _roll_back(project, table, is_agreed=is_agreed, further=further)


def _roll_back(project: Project, table: AnalyticsTable, *, is_agreed: bool, further: bool) -> int:
    with rolling_back(project) as (instance, runner, database, log):
        rollback = _rollback_of(project, runner, table, database)
        plan = rollback.plan(further=further)
        print(_plan_text(plan))
        if table.publish_group is not None:
            say_on_stderr(
                f"The other tables of publish_group {table.publish_group} stay as they are. All of them go back by "
                f"run-elt rollback --group {table.publish_group}"
            )
        is_done = plan.method == "done"
        if not (is_done or is_agreed or agrees("rolling back", "Roll back?")):
            return 1
        # With nothing left to do, it drops the lock of a command that was killed at its end.
        left = list(rollback.carry_out(plan))
        if not is_done:
            left += noted(instance, [observation(plan)])
        # Also what a killed command has ended with: it has logged nothing.
        log.rolled_back([plan])
    if not is_done:
        print(
            f"{plan.target} is back at {plan.previous.words}. The next run of {table.name} publishes again: fix its SQL first."
        )
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _rollback_of(project: Project, runner: StatementRunner, table: AnalyticsTable, database: str) -> Rollback:
    policies, group = project.settings.check_policies, table.publish_group
    if group is None:
        return Rollback(runner, table, database=database, check_policies=policies)
    schemas = schemas_of_group(project.tables(keeps_broken=True), group)
    return RollbackOfOne(runner, table, schemas, database=database, check_policies=policies)


def _plan_text(plan: RollbackPlan) -> str:
    lines = [
        f"{plan.table.name} at {plan.target}",
        f"  readers see now    {present_words(plan)}",
        f"  they will see      {plan.previous.words}",
        f"  by                 {plan.method}. {plan.consequence}",
    ]
    if plan.aside is not None and plan.moved is None:
        lines.append(f"  present rows go to {plan.aside}")
    return "\n".join(lines)
