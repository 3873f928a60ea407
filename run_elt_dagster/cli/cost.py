"""`run-elt cost`."""

import click

from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json, of_project
from run_elt_dagster.cli.printing import print_json, print_table
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.project import Project
from run_elt_dagster.snowflake.cost import DAYS_OF_FUNCTION, DAYS_OF_VIEW, as_mapping, lines, read_cost


@click.command("cost")
@of_project
@click.option(
    "--days",
    type=int,
    default=DAYS_OF_FUNCTION,
    show_default=True,
    help=f"Days in UTC, today included. More than {DAYS_OF_FUNCTION} are asked of ACCOUNT_USAGE, {DAYS_OF_VIEW} at most.",
)
@click.option("--table", "name", type=TABLE, metavar="SCHEMA.TABLE", help="Only this table, day by day.")
@as_json
def command(project: Project, name: str | None, *, days: int, as_json: bool) -> int:
    """List what each table has cost in Snowflake: seconds of warehouse, statements, bytes scanned."""
    if project.settings.snowflake is None:
        raise ValueError(
            "run-elt cost requires a Snowflake account, got the embedded Snowflake. It keeps no history of statements, so there "
            "is nothing to show. Set the SNOWFLAKE_ variables."
        )
    with signed_in(project) as session, progress("Reading Snowflake's history of statements"):
        report = read_cost(session, days=days)
    if name is not None:
        declared = {table.name for table in project.declared()[0].values()}
        report = report.of(name.lower().replace("/", "."), declared=declared)
    if as_json:
        print_json(as_mapping(report))
        return 0
    if report.spent:
        print_table(*lines(report, by="table" if name is None else "day"))
    else:
        print(f"There is no statement {f'of {name}' if name else 'of a run or of run-elt'} in this time.")
    print(f"\n{report.note}")
    return 0
