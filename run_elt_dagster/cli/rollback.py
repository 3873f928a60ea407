"""`run-elt rollback`."""

import sys
import threading

import click
import dagster as dg

from run_elt_dagster.cli import InterruptedCommandError
from run_elt_dagster.cli.opening import dagster_instance, in_words
from run_elt_dagster.cli.parameters import TABLE
from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.orchestration.assets import is_live
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner


@click.command("rollback")
@click.argument("table", type=TABLE, metavar="SCHEMA.TABLE")
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
@click.option("--further", is_flag=True, help="Go back one version more than an earlier rollback has.")
def command(table: str, *, is_agreed: bool, further: bool) -> int:
    """Put the previous version of a table back.

    It first prints what readers see now, what they will see and by which statement, and asks.
    """
    settings = Settings.from_environment()
    try:
        return _roll_back(settings, load_table(settings.tables_dir, table), is_agreed=is_agreed, further=further)
    except KeyboardInterrupt:
        raise InterruptedCommandError(
            f"What readers see of {table} is unknown if its exchange was under way: run-elt show {table}"
        ) from None


def _roll_back(settings: Settings, table: AnalyticsTable, *, is_agreed: bool, further: bool) -> int:
    snowflake = Snowflake.from_settings(settings).resolved()
    with dagster_instance() as instance, in_words(settings), snowflake.session(log=say_on_stderr) as session:
        run = RunContext("rollback", "run-elt rollback", is_live=lambda start: is_live(instance, start))
        runner = StatementRunner(session, run, threading.Event())
        rollback = Rollback(runner, table, database=session.database, check_policies=settings.check_policies)
        plan = rollback.plan(further=further)
        print(_plan_text(plan))
        if plan.method == "done":
            return 0
        if not is_agreed and not _agrees():
            print("Nothing was changed.")
            return 1
        left = list(rollback.carry_out(plan))
        try:
            instance.report_runless_asset_event(_observation(plan))
        except Exception as error:  # noqa: BLE001 - readers see the previous version, whatever becomes of the history
            left.append(
                f"the rollback is done, but Dagster's history could not note it, got {type(error).__name__}: {error}"
            )
    print(
        f"{plan.target} is back at {plan.previous.words}. The next run of {table.name} publishes again: fix its SQL first."
    )
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _observation(plan: RollbackPlan) -> dg.AssetObservation:
    return dg.AssetObservation(
        list(plan.table.key),
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


def _agrees() -> bool:
    if not sys.stdin.isatty():
        raise ValueError("rolling back requires an answer, got no terminal. Nothing was changed. Pass --yes.")
    return input("Roll back? Type yes: ").strip().lower() == "yes"
