"""`run-elt diff`."""

import threading

import click

from run_elt_dagster.cli.diff_of_all import comparison_facts, print_comparison
from run_elt_dagster.cli.diff_of_one import difference_facts, print_difference
from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json, changed, of_project, partition, whole
from run_elt_dagster.cli.printing import print_json, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.environments.comparison import compare_tables
from run_elt_dagster.environments.databases import production_for
from run_elt_dagster.environments.mark import stored_database
from run_elt_dagster.environments.planning import planned
from run_elt_dagster.model.names import display_name
from run_elt_dagster.project import Project
from run_elt_dagster.publish.compare import against_of, compare, key_of
from run_elt_dagster.publish.preview import built
from run_elt_dagster.settings import EMBEDDED_DATABASE
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Session


@click.command("diff")
@click.argument("table", required=False, type=TABLE, metavar="[SCHEMA.TABLE]")
@of_project
@click.option("--key", metavar="COLUMNS", help="Columns that identify a row, with commas; primary_key by default.")
@click.option(
    "--against",
    metavar="NAME",
    help="A database, production, or database.schema.table, in the place of what readers see.",
)
@changed
@click.option("--rows", type=click.IntRange(0, 1000), default=0, help="Print so many keys of each kind of difference.")
@partition
@whole
@click.option("--exit-code", "tells_by_code", is_flag=True, help="Exit with 1 if there is a difference, as git does.")
@as_json
def command(
    project: Project,
    table: str | None,
    *,
    key: str | None,
    against: str | None,
    changed: str | None,
    rows: int,
    partition: str | None,
    is_whole: bool,
    tells_by_code: bool,
    as_json: bool,
) -> int:
    """Build a table as its file stands and count what readers would see change: columns, and rows by key.

    \b
      run-elt diff analytics.mau_summary       a build, with what readers see
      run-elt diff --against production        all tables of an environment, with those of production

    Nothing is published. NULL is equal to NULL. A FLOAT is equal to a number that differs by less than its 1e-9th part. Without a
    key, whole rows are counted, and FLOATs must be the same. Of a table with increments, only the rows that would be merged are compared.

    Without a table, nothing is built: the tables that are published in the two databases are compared. The exit code is 1 if one cannot be.
    """
    if rows and as_json:
        raise click.UsageError("--rows prints values of rows, and is for a terminal: leave out --json.")
    if table is None:
        if key is not None or rows or partition is not None or is_whole:
            raise click.UsageError("--key, --rows, --partition and --whole require a table.")
        return _all_tables(project, against, changed, tells_by_code=tells_by_code, as_json=as_json)
    if changed is not None:
        raise click.UsageError("--changed chooses tables: name none.")
    declared = project.buildable(table)
    part = declared.part(partition) if declared.partitions is not None or partition else None
    columns = key_of(key.split(",") if key else (), declared, examples=rows)
    with signed_in(project) as session:
        other = against_of(_database(session, project, against), declared, database=session.database)
        with (
            progress(f"Building {declared.name} under another name") as steps,
            built(
                session,
                declared,
                job="run-elt diff",
                options=project.settings.publishing,
                part=part,
                is_whole=is_whole,
                warn=say_on_stderr,
            ) as work,
        ):
            steps.tell(f"Comparing the build with {other}")
            difference = compare(work, other, key=columns, examples=rows, part=part)
            steps.tell("Dropping the build")
    if not difference.exists and against is not None:
        raise ValueError(
            f"run-elt diff --against requires a table that this role may see, got {other}. Nothing was compared."
        )
    if as_json:
        print_json(difference_facts(declared.name, difference))
    else:
        print_difference(declared.name, difference)
    return 1 if tells_by_code and not difference.is_empty else 0


def _database(session: Session, project: Project, against: str | None) -> str | None:
    """Return what `--against` names, with the production database in the place of the word."""
    if against is None or against.lower() != "production":
        return against
    settings = project.settings
    given = settings.production_database
    production = production_for(
        session,
        database=session.database,
        given=stored_database(given) if given else None if settings.snowflake else EMBEDDED_DATABASE,
        job="run-elt diff",
    )
    # Otherwise it is a name like any other.
    return display_name(production) if production else against


def _all_tables(
    project: Project, against: str | None, changed: str | None, *, tells_by_code: bool, as_json: bool
) -> int:
    """Compare the tables of two databases, all or those that --changed chooses."""
    if against is None:
        raise click.UsageError("Name a table, or a database with --against: run-elt diff --against production.")
    plan, _ = planned(project.settings, (), changed, prefix=project.prefix)
    tables = sorted((each.table for each in plan.built), key=lambda table: table.key)
    with signed_in(project) as session, progress("Asking both catalogues") as steps:
        here = session.database
        named = _database(session, project, against)
        if named == against and against.lower() == "production":
            raise ValueError(
                f"run-elt diff --against production requires an environment, got {display_name(here)}: it is no copy, and "
                "RUN_ELT_PRODUCTION_DATABASE names no other. Nothing was compared. Set SNOWFLAKE_DATABASE to the environment. A database of "
                "this name is '\"PRODUCTION\"'."
            )
        other = stored_database(named or "")
        if other == here:
            raise ValueError(
                f"run-elt diff --against requires another database than the session's, got {display_name(here)} twice. Nothing was compared. "
                "Set SNOWFLAKE_DATABASE to the environment, or name another database."
            )
        runner = StatementRunner(session, RunContext("", "run-elt diff"), threading.Event())
        found = compare_tables(
            lambda sql: runner.send(sql, tag={"stage": "compare"}).rows,
            tables,
            database=here,
            against=other,
            tell=lambda table: steps.tell(f"Comparing {table.name}"),
        )
    if as_json:
        print_json(comparison_facts(found, here, other))
    else:
        print_comparison(found, here, other)
    failed = any(each.state == "not compared" for each in found)
    differ = any(each.state not in ("same", "in neither") for each in found)
    return 1 if failed or (tells_by_code and differ) else 0
