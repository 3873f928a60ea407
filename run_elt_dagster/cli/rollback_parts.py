"""What `run-elt rollback --partition` prints and does."""

from collections.abc import Iterator

import dagster as dg

from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.rolling_back import agrees, noted, rolling_back
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import partition_words
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.part_rollback import put_back
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlan, PartRollbackPlanner, parts_of_slice
from run_elt_dagster.settings import Settings


def roll_back_parts(settings: Settings, table: AnalyticsTable, part: Slice, *, is_agreed: bool, further: bool) -> int:
    """Put back the rows that partitions had before their last publish, after a question."""
    with rolling_back(settings) as (instance, runner, database):
        parts = parts_of_slice(table, part, target=target_of(table, database=database))
        planner = PartRollbackPlanner(runner, table, parts, database=database, check_policies=settings.check_policies)
        plan = planner.plan(further=further)
        _print(plan)
        if not plan.versions:
            return 0
        if not is_agreed and not agrees():
            return 1
        put_back(runner, plan)
        left = noted(instance, _observations(plan))
    print(
        f"{plan.target}: {partition_words(tuple(plan.versions))} {'has' if len(plan.versions) == 1 else 'have'} the rows of before "
        f"({plan.rows:,} rows). The next run that builds them publishes again: fix the SQL first."
    )
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def _print(plan: PartRollbackPlan) -> None:
    print(f"{plan.table.name} at {plan.target}")
    if plan.versions:
        lines = [(key, version.present_words, version.words) for key, version in plan.versions.items()]
        print_table(("partition", "readers see now", "they will see"), lines)
        print("By one transaction: readers see all of the one or all of the other at every moment.")
    if plan.done:
        print(
            f"An earlier command has put back {partition_words(plan.done)}, and nothing is left to do. --further goes back one version "
            "more."
        )


def _observations(plan: PartRollbackPlan) -> Iterator[dg.AssetObservation]:
    for key, version in plan.versions.items():
        yield dg.AssetObservation(
            list(plan.table.key),
            partition=key,
            description=f"Rolled back to the previous version: {version.words}.",
            metadata={"rolled_back_to": version.words, "rolled_back_from": version.present_words},
        )
