"""What the rollback of a table, that of its partitions and that of a group share."""

import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import dagster as dg

from run_elt_dagster.cli.asking import person
from run_elt_dagster.cli.opening import dagster_instance, in_words
from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.project import Project
from run_elt_dagster.publish.group_rollback import LockOfOne, schemas_of_group
from run_elt_dagster.publish.log import ROLLBACK
from run_elt_dagster.publish.log_by_hand import LogByHand
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.runs.history import whole_run_id
from run_elt_dagster.runs.live import is_live
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner


@contextmanager
def rolling_back(project: Project) -> Generator[tuple[dg.DagsterInstance, StatementRunner, str, LogByHand]]:
    """Open Dagster's history, what sends the statements and the log of publishes, with the stored name of the session's database."""
    signing_in = project.snowflake.session(log=say_on_stderr)
    with dagster_instance() as instance, in_words(project.settings), signing_in as session:
        run = RunContext("rollback", ROLLBACK, is_live=lambda start: is_live(instance, start))
        log = LogByHand(
            session,
            project.settings.publishing,
            person=person(),
            warn=say_on_stderr,
            whole_id=lambda table, start: whole_run_id(instance, table.asset_path, start),
        )
        yield instance, StatementRunner(session, run, threading.Event()), session.database, log


def lock_of_one(project: Project, runner: StatementRunner, table: AnalyticsTable, database: str) -> LockOfOne | None:
    """Return the lock of the group of a table that is rolled back by itself, and say that the others stay; None without a group."""
    group = table.publish_group
    if group is None:
        return None
    say_on_stderr(
        f"The other tables of publish_group {group} stay as they are. All of them go back by run-elt rollback --group {group}"
    )
    schemas = schemas_of_group(project.tables(keeps_broken=True), group)
    return LockOfOne(runner, table, schemas, database=database)


def noted(instance: dg.DagsterInstance, observations: Iterable[dg.AssetObservation]) -> Sequence[str]:
    """Report what was rolled back to Dagster's history; return what could not be noted, in words."""
    try:
        for observation in observations:
            instance.report_runless_asset_event(observation)
    except Exception as error:  # noqa: BLE001 - readers see the rows of before, whatever becomes of the history
        return [f"the rollback is done, but Dagster's history could not note it, got {type(error).__name__}: {error}"]
    return []


def observation(plan: RollbackPlan, **more: str) -> dg.AssetObservation:
    """Return what the page of a table shows of its rollback.

    Args:
        plan: What was done.
        more: What else its metadata says.
    """
    return dg.AssetObservation(
        list(plan.table.asset_path),
        description=f"Rolled back to the previous version: {plan.previous.words}.",
        metadata={"rolled_back_to": plan.previous.words, "rolled_back_from": present_words(plan), **more},
    )


def present_words(plan: RollbackPlan) -> str:
    """Return what readers see before a rollback, in words."""
    return plan.present.words if plan.present else "no table"
