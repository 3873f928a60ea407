"""`run-elt diff`."""

from typing import Any

import click

from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json, partition, whole
from run_elt_dagster.cli.printing import cells, print_json, print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.model.names import display_name
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.publish.compare import Difference, against_of, compare, key_of
from run_elt_dagster.publish.difference import RowDifference
from run_elt_dagster.publish.preview import built
from run_elt_dagster.settings import Settings


@click.command("diff")
@click.argument("table", type=TABLE, metavar="SCHEMA.TABLE")
@click.option("--key", metavar="COLUMNS", help="Columns that identify a row, with commas; primary_key by default.")
@click.option(
    "--against", metavar="NAME", help="A database, or database.schema.table, in the place of what readers see."
)
@click.option("--rows", type=click.IntRange(0, 1000), default=0, help="Print so many keys of each kind of difference.")
@partition
@whole
@click.option("--exit-code", "tells_by_code", is_flag=True, help="Exit with 1 if there is a difference, as git does.")
@as_json
def command(
    table: str,
    *,
    key: str | None,
    against: str | None,
    rows: int,
    partition: str | None,
    is_whole: bool,
    tells_by_code: bool,
    as_json: bool,
) -> int:
    """Build a table as its file stands and count what readers would see change: columns, and rows by key.

    Nothing is published. NULL is equal to NULL. A FLOAT is equal to a number that differs by less than its 1e-9th part. Without a
    key, whole rows are counted, and FLOATs must be the same. Of a table with increments, only the rows that would be merged are compared.
    """
    if rows and as_json:
        raise click.UsageError("--rows prints values of rows, and is for a terminal: leave out --json.")
    settings = Settings.from_environment()
    declared = load_table(settings.tables_dir, table)
    part = declared.part(partition) if declared.partitions is not None or partition else None
    columns = key_of(key.split(",") if key else (), declared, examples=rows)
    with signed_in(settings) as session:
        other = against_of(against, declared, database=session.database)
        with (
            progress(f"Building {declared.name} under another name") as steps,
            built(
                session,
                declared,
                job="run-elt diff",
                options=settings.publishing,
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
        print_json(_facts(declared.name, difference))
    else:
        _print(declared.name, difference)
    return 1 if tells_by_code and not difference.is_empty else 0


def _print(name: str, difference: Difference) -> None:
    print(f"A build of {name}, compared with {difference.against}:")
    if not difference.exists:
        print("There is no such table yet. Every row and every column is new.")
    elif difference.is_empty:
        print("No difference.")
    for line in difference.schema.lines:
        print(f"  {line}")
    if difference.start is not None:
        print(f"Compared are the rows since {difference.start.words} and the rows that they would replace.")
    if difference.rows is not None:
        _print_rows(difference.rows, [display_name(name).lower() for name in difference.key])
    elif difference.exists:
        print("The two have no column in common. Their rows were not compared.")
    if difference.examples:
        print()
        header = ("difference", *(display_name(name).lower() for name in difference.key), "columns")
        print_table(header, cells(difference.examples))


def _print_rows(rows: RowDifference, key: list[str]) -> None:
    what = f"key {', '.join(key)}" if key else "whole rows"
    print(f"{rows.old_rows:,} rows now, {rows.new_rows:,} rows after a build, compared by {what}:")
    counts = [("added", rows.added), ("removed", rows.removed)]
    if key:
        counts += [("changed", rows.changed)]
    if rows.repeated:
        counts += [("with several rows for one key, not compared", rows.repeated)]
    print("\n".join(f"  {count:,} {word}" for word, count in counts))
    if rows.by_column:
        print_table(("column", "rows changed"), [(display_name(name).lower(), f"{n:,}") for name, n in rows.by_column])


def _facts(name: str, difference: Difference) -> dict[str, Any]:
    schema, rows = difference.schema, difference.rows
    return {
        "table": name,
        "against": str(difference.against),
        "exists": difference.exists,
        "different": not difference.is_empty,
        "schema": {
            "added": {column.name: column.type for column in schema.added},
            "removed": {column.name: column.type for column in schema.removed},
            "changed": {new.name: {"from": old.type, "to": new.type} for old, new in schema.changed},
        },
        "key": list(difference.key),
        "increment_start": difference.start.words if difference.start else None,
        "rows": None
        if rows is None
        else {
            "now": rows.old_rows,
            "after": rows.new_rows,
            "added": rows.added,
            "removed": rows.removed,
            "changed": rows.changed if difference.key else None,
            "repeated": rows.repeated if difference.key else None,
            "by_column": dict(rows.by_column),
        },
    }
