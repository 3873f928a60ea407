"""`run-elt new`."""

import shlex

import click

from run_elt_dagster.cli.parameters import TABLE, of_project
from run_elt_dagster.cli.printing import shown_path
from run_elt_dagster.model.new_table import new_table
from run_elt_dagster.project import Project


@click.command("new")
@click.argument("name", metavar="SCHEMA.TABLE")
@of_project
@click.option("--from", "source", type=TABLE, metavar="SCHEMA.TABLE", help="Select from this table.")
@click.option("--key", metavar="COLUMN[,COLUMN]...", help="Columns that identify a row.")
@click.option("--owner", metavar="OWNER", help="An e-mail address or team:<name>, for alerts.")
def command(project: Project, name: str, *, source: str | None, key: str | None, owner: str | None) -> int:
    """Write the first version of a table's file and of its tests.

    Both load and pass as they are. The comments in them say what to do next. No file is ever replaced.

    \b
      run-elt new analytics.orders_daily --from raw_data.orders --key day
    """
    settings = project.settings
    columns = [column.strip() for column in key.split(",")] if key else []
    made = new_table(settings.tables_dir, name, source=source, key=columns, owner=owner, database=settings.database)
    made.write()
    print(f"wrote {shown_path(made.sql_path)}\nwrote {shown_path(made.test_path)}\n")
    print(f"Next: edit the query, its description and its tests. Then:\n  run-elt lint {made.name}")
    print(
        f"  run-elt test {made.name}\n  dagster asset materialize --select {'/'.join((*project.prefix, *made.name.split('.')))} "
        f"{shlex.join(project.target)}"
    )
    return 0
