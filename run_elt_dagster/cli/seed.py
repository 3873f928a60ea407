"""`run-elt seed`."""

from pathlib import Path

import click

from run_elt_dagster.cli.parameters import TABLE, of_project
from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.embedded import NotInstalledError
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Relation, stored_names
from run_elt_dagster.project import Project

_PARTS = 2
_FORMATS = ("csv", "json", "parquet")


@click.command("seed")
@click.argument("table", type=TABLE, metavar="SCHEMA.TABLE")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@of_project
@click.option("--types", metavar="LIST", help="Types of columns, as in 'id number, at timestamp_ntz'.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="What FILE is, if its name does not tell.")
@click.option(
    "--delimiter", metavar="CHARACTER", help="Between the fields of a CSV file, if its first line does not tell."
)
@click.option("--replace", is_flag=True, help="Replace a table that is there.")
def command(
    project: Project,
    table: str,
    file: Path,
    *,
    types: str | None,
    form: str | None,
    delimiter: str | None,
    replace: bool,
) -> int:
    """Load FILE into the embedded Snowflake as a table: CSV with a first line of names, JSON lines, or Parquet.

    \b
      run-elt seed raw_data.orders orders.csv

    The whole file is read to find the type of each column. If a value does not fit, nothing is loaded.
    """
    settings = project.settings
    if settings.snowflake is not None:
        raise ValueError(
            f"run-elt seed requires the embedded Snowflake, got account {settings.snowflake.account}. Nothing was loaded. Load the "
            "file there with PUT and COPY INTO."
        )
    target = _target(table, settings.database)
    try:
        from run_elt_dagster.seeding import loading  # noqa: PLC0415 - it needs what only an extra installs
    except ImportError as error:
        raise NotInstalledError([error.name or str(error)]) from error
    from run_elt_dagster.seeding.declared import declaration_of  # noqa: PLC0415 - likewise

    declaration = declaration_of(settings.tables_dir, target, types)
    with progress(f"Reading {file.name} for the types of its columns") as steps:
        plan = loading.planned(file, declaration, form=form, delimiter=delimiter)
        steps.tell(f"Loading {file.name} into {target}")
        rows = loading.load(
            plan, target, declaration, directory=settings.embedded_dir, replace=replace, log=say_on_stderr
        )
    print_table(("column", "type"), loading.shown_columns(plan.columns))
    for doubt in plan.doubts:
        say_on_stderr(doubt)
    print(f"\nLoaded {counted(rows, 'rows')} from {file.name} into {target}.")
    return 0


def _target(name: str, database: str) -> Relation:
    try:
        parts = stored_names(name if '"' in name else name.replace("/", "."))
    except ValueError as error:
        raise ValueError(f"run-elt seed {error}, got {name}. Nothing was loaded.") from None
    if len(parts) != _PARTS:
        raise ValueError(f"run-elt seed requires schema.table, got {name}. Nothing was loaded.")
    return Relation(database, *parts)
