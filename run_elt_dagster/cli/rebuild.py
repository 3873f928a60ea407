"""`run-elt rebuild`."""

import os
import shlex
import sys
from dataclasses import replace

import click

from run_elt_dagster.cli.asking import agrees
from run_elt_dagster.cli.opening import dagster_instance, signed_in
from run_elt_dagster.cli.parameters import TABLE, of_project
from run_elt_dagster.cli.printing import print_table
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.groups import groups_of
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.rebuild import RebuildPlan, plan_of, require_increment
from run_elt_dagster.orchestration.show import Shown, planned_for
from run_elt_dagster.project import Project
from run_elt_dagster.publish.guards import inventory_of, inventory_sql


@click.command("rebuild")
@click.argument("table", type=TABLE, metavar="SCHEMA.TABLE")
@of_project
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
def command(project: Project, table: str, *, is_agreed: bool) -> int:
    """Build a table with increments whole, audit it, and put it in the place of all of its rows.

    It first prints what that takes: the rows now, how long the last whole build took, and the statements. Then it asks. The run is one of
    Dagster, with its checks and alerts. Grants, tags and streams of the table stay.
    """
    # As it was, so Dagster finds its instance as it does without this command.
    environment = dict(os.environ)
    declared = project.table(table)
    require_increment(declared, project.target)
    plan = _plan(project, declared)
    _print(plan)
    if is_agreed or agrees("rebuilding", "Build it whole?", unchanged="Nothing was built."):
        command = plan.command(project.target, folder=project.name)
        print(f"dagster {shlex.join(command)}", flush=True)
        # In place of this process: a signal reaches Dagster, and its exit code is the command's.
        os.execve(sys.executable, [sys.executable, "-m", "dagster", *command], environment)  # noqa: S606
    return 1


def _plan(project: Project, table: AnalyticsTable) -> RebuildPlan:
    with dagster_instance() as instance, signed_in(project) as session:
        database = session.database
        answer = session.execute(inventory_sql(database, [table.stored_schema]), tag={"stage": "inspect"})
        inventory = inventory_of(answer.rows)
        target = target_of(table, database=database)
        existing = inventory.at(target)
        columns = (
            session.execute(f"SELECT * FROM {target.sql} LIMIT 0", tag={"stage": "inspect"}).columns if existing else ()
        )
        tables, shown = (
            project.tables(keeps_broken=True),
            Shown(table.name, target, existing, table, inventory=inventory),
        )
        statements = planned_for(
            session, tables, shown, columns=columns, options=project.settings.publishing, is_whole=True
        )
        plan = plan_of(instance, table, statements, rows=existing.rows if existing is not None else None)
        group = groups_of(tables.values()).get(table.publish_group or "", ())
        return replace(plan, others=tuple(tuple(tables.asset_path(key)) for key in group if key != table.key))


def _print(plan: RebuildPlan) -> None:
    print(f"{plan.table.name}, built whole:")
    if plan.others:
        others = ", ".join(".".join(path) for path in plan.others)
        print(f"With it, the run builds the others of publish_group {plan.table.publish_group}: {others}.")
    last = f"{plan.last_whole_at:%Y-%m-%d %H:%M} UTC" if plan.last_whole_at is not None else "not known here"
    took = f", in {plan.last_seconds:,.1f} s" if plan.last_seconds is not None else ""
    changed = {True: "changed since then", False: "as it was then", None: "not known here"}[plan.is_outdated]
    print_table(
        ("", ""),
        [
            ("rows now", "no table" if plan.rows is None else f"{plan.rows:,}"),
            ("last built whole", f"{last}{took}"),
            ("its file", changed),
        ],
    )
    print("\nThe statements:")
    for each in plan.statements:
        print(f"  {each.stage:<9} {' '.join(each.sql.split())}")
