"""`run-elt plan`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json, changed, of_project
from run_elt_dagster.cli.printing import print_json, print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.environments.mark import stored_database
from run_elt_dagster.environments.plan import Plan, Planned
from run_elt_dagster.environments.planning import EXCHANGE_OF, planned, statements_of
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.project import Project
from run_elt_dagster.publish.planned import RUN_ID, PlannedStatement


@click.command("plan")
@click.argument("tables", nargs=-1, type=TABLE, metavar="[SCHEMA.TABLE]...")
@of_project
@changed
@click.option("--selection", is_flag=True, help="Print only what --select of Dagster's commands takes.")
@click.option("--statements", is_flag=True, help="Sign in, and print the statements of each table too.")
@as_json
def command(
    project: Project, tables: tuple[str, ...], *, changed: str | None, selection: bool, statements: bool, as_json: bool
) -> int:
    """Print what a run of TABLES would build and where it would be published. All tables by default.

    \b
      run-elt plan --changed
      dagster asset materialize -m run_elt_dagster --select "$(run-elt plan --changed --selection)"

    It signs in nowhere, and builds nothing. The exit code is 1 if a table cannot be built because of its file. Where nothing is to be
    built, --selection prints nothing.
    """
    if selection and (as_json or statements):
        raise click.UsageError("--selection prints a selection alone: leave out --json and --statements.")
    with progress("Reading the table files"):
        plan, catalogue = planned(project.settings, tables, changed, prefix=project.prefix)
    if selection:
        return _print_selection(plan, catalogue)
    sent = _statements(project, plan, catalogue) if statements else {}
    if as_json:
        print_json(_facts(project, plan, catalogue, sent))
    else:
        _print(project, plan, catalogue, sent)
    return 1 if plan.broken else 0


def _print_selection(plan: Plan, catalogue: Catalogue) -> int:
    _say_broken(plan, catalogue)
    _say_parts(plan)
    if plan.built:
        print(plan.selection)
    elif not plan.broken:
        say_on_stderr("No table needs to be built. Dagster refuses an empty selection.")
    return 1 if plan.broken else 0


def _say_parts(plan: Plan) -> None:
    """Say which tables a run builds in parts: of a changed one, the other rows stay as they were."""
    for each in plan.built:
        name = each.table.name
        if each.table.partitions is not None:
            say_on_stderr(f"{name} is built in partitions: give --partition to Dagster's command too.")
        elif each.table.increment is not None and plan.since:
            say_on_stderr(f"{name} merges new rows alone. For all of its rows: run-elt rebuild {name}")


def _say_broken(plan: Plan, catalogue: Catalogue) -> None:
    for key in plan.broken:
        for problem in catalogue.broken[key].problems:
            say_on_stderr(str(problem))


def _statements(project: Project, plan: Plan, catalogue: Catalogue) -> dict[Key, Sequence[PlannedStatement]]:
    with signed_in(project) as session, progress("Asking Snowflake"):
        return dict(statements_of(session, plan, catalogue, project.settings.publishing))


def _print(project: Project, plan: Plan, catalogue: Catalogue, sent: Mapping[Key, Sequence[PlannedStatement]]) -> None:
    if plan.built:
        rows = [(each.table.name, each.reason, str(_target(project, each)), each.table.method) for each in plan.built]
        print_table(("built", "because", "published as", "by"), rows)
    since = f" Compared with {plan.since}." if plan.since else ""
    print(f"{len(plan.built):,} built, {len(plan.skipped):,} skipped.{since}")
    if plan.broken:
        print(f"{', '.join(map('.'.join, plan.broken))} cannot be built:", flush=True)
        _say_broken(plan, catalogue)
    _say_parts(plan)
    for key in plan.deleted:
        print(f"{'.'.join(key)} has no file any more. Its table stays: drop it by hand.")
    if sent:
        print(f"\nA run would send these statements now. {RUN_ID[:8]} stands for the run:")
    for key, statements in sent.items():
        print(f"\n-- {' '.join(key) if key[0] == EXCHANGE_OF else '.'.join(key)}")
        for each in statements:
            print(f"\n-- {each.stage}\n{each.sql};")


def _target(project: Project, each: Planned) -> Relation:
    return target_of(each.table, database=stored_database(project.settings.database))


def _facts(
    project: Project, plan: Plan, catalogue: Catalogue, sent: Mapping[Key, Sequence[PlannedStatement]]
) -> dict[str, Any]:
    return {
        "since": plan.since or None,
        "selection": plan.selection,
        "built": [
            {
                "table": each.table.name,
                "because": each.reason,
                "published_as": str(_target(project, each)),
                "method": each.table.method,
                **({"publish_group": each.table.publish_group} if each.table.publish_group else {}),
                **({"statements": [one.sql for one in sent[each.table.key]]} if sent else {}),
            }
            for each in plan.built
        ],
        **_groups(sent),
        "skipped": [".".join(key) for key in plan.skipped],
        "broken": {".".join(key): list(map(str, catalogue.broken[key].problems)) for key in plan.broken},
        "deleted": [".".join(key) for key in plan.deleted],
    }


def _groups(sent: Mapping[Key, Sequence[PlannedStatement]]) -> dict[str, Any]:
    """Return what exchanges the groups, by name; nothing where there are none, or no statements were asked for."""
    found = {key[1]: [one.sql for one in statements] for key, statements in sent.items() if key[0] == EXCHANGE_OF}
    return {"groups": found} if found else {}
