"""`run-elt rollback`."""

import click
import dagster as dg

from run_elt_dagster.cli import InterruptedCommandError
from run_elt_dagster.cli.parameters import TABLE, of_project
from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.cli.rollback_parts import roll_back_increment, roll_back_partitions
from run_elt_dagster.cli.rolling_back import agrees, noted, rolling_back
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.project import Project
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.rollback_plan import RollbackPlan


@click.command("rollback")
@click.argument("table", type=TABLE, metavar="SCHEMA.TABLE")
@of_project
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
@click.option("--further", is_flag=True, help="Go back one version more than an earlier rollback has.")
@click.option(
    "--partition",
    metavar="KEY",
    help="The partition to roll back, as in 2024-01-31, or a range, FIRST...LAST. A partitioned table requires it.",
)
def command(project: Project, table: str, *, is_agreed: bool, further: bool, partition: str | None) -> int:
    """Put the previous version of a table back, or the rows from before the last publish of partitions, or from before the last increment.

    It first prints what readers see now, what they will see and by which statement, and asks.
    """
    declared = project.table(table)
    try:
        if declared.partitions is not None or partition:
            part = declared.part(partition)
            return roll_back_partitions(project, declared, part, is_agreed=is_agreed, further=further)
        if declared.increment is not None:
            return roll_back_increment(project, declared, is_agreed=is_agreed, further=further)
        return _roll_back(project, declared, is_agreed=is_agreed, further=further)
    except KeyboardInterrupt:
        raise InterruptedCommandError(
            f"What readers see of {table} is unknown if its exchange was under way: run-elt show {table}"
        ) from None


def _roll_back(project: Project, table: AnalyticsTable, *, is_agreed: bool, further: bool) -> int:
    with rolling_back(project) as (instance, runner, database):
        rollback = Rollback(runner, table, database=database, check_policies=project.settings.check_policies)
        plan = rollback.plan(further=further)
        print(_plan_text(plan))
        if table.publish_group is not None:
            say_on_stderr(
                f"The other tables of publish_group {table.publish_group} stay as they are. Roll them back too."
            )
        if plan.method == "done":
            return 0
        if not is_agreed and not agrees():
            return 1
        left = list(rollback.carry_out(plan))
        left += noted(instance, [_observation(plan)])
    print(
        f"{plan.target} is back at {plan.previous.words}. The next run of {table.name} publishes again: fix its SQL first."
    )
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _observation(plan: RollbackPlan) -> dg.AssetObservation:
    return dg.AssetObservation(
        list(plan.table.asset_path),
        description=f"Rolled back to the previous version: {plan.previous.words}.",
        metadata={"rolled_back_to": plan.previous.words, "rolled_back_from": _present(plan)},
    )


def _present(plan: RollbackPlan) -> str:
    return plan.present.words if plan.present else "no table"


def _plan_text(plan: RollbackPlan) -> str:
    lines = [
        f"{plan.table.name} at {plan.target}",
        f"  readers see now    {_present(plan)}",
        f"  they will see      {plan.previous.words}",
        f"  by                 {plan.method}. {plan.consequence}",
    ]
    if plan.aside is not None and plan.moved is None:
        lines.append(f"  present rows go to {plan.aside}")
    return "\n".join(lines)
