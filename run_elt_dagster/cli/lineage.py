"""`run-elt lineage`."""

from collections.abc import Container
from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from run_elt_dagster.cli.parameters import TABLE, as_json
from run_elt_dagster.cli.printing import print_json, print_tree
from run_elt_dagster.model.column_lineage import ColumnLineage, Step, column_file
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.names import Key, key_of
from run_elt_dagster.model.origins import ColumnRef
from run_elt_dagster.settings import Settings


@click.command("lineage")
@click.argument("name", type=TABLE, metavar="SCHEMA.TABLE[.COLUMN]")
@click.option("--downstream", is_flag=True, help="Show the columns that come from it, not those that it comes from.")
@as_json
def command(name: str, *, downstream: bool, as_json: bool) -> int:
    """Show which columns the values of a table or of one column come from.

    \b
      run-elt lineage analytics.mau_summary                   every column, down to the sources
      run-elt lineage analytics.mau_summary.mau               one column
      run-elt lineage raw_data.orders.amount --downstream     what comes from a column of a source

    It is read off the SQL files: no statement is sent. What cannot be told says so, with the reason.
    """
    settings = Settings.from_environment()
    tables = load_tables(settings.tables_dir, database=settings.database, cache_dir=settings.cache_dir)
    lineage = ColumnLineage(tables, path=column_file(settings.cache_dir, settings.tables_dir))
    table, column = lineage.find(name)
    names = [column] if column is not None else lineage.columns(table)
    look = lineage.downstream if downstream else lineage.upstream
    steps = [look(ColumnRef(table, each)) for each in names]
    unknown = list(lineage.doubtful(table)) if downstream else []
    missing = lineage.unnamed(table) if table in tables and column is None else []
    lineage.save()
    if as_json:
        print_json(_facts(table, steps, missing, unknown, downstream=downstream))
        return 0
    print_tree(_drawn(table, steps, missing, downstream=downstream, declared=tables))
    if unknown:
        print("\nThese and what comes from them may come from it too:")
        for reader, reason in unknown:
            print(f"  {reader}: unknown, because {reason}")
    return 0


def _drawn(table: Key, steps: list[Step], missing: list[str], *, downstream: bool, declared: Container[Key]) -> Tree:
    is_declared = table in declared
    tree = Tree(Text(f"{'.'.join(table)}{'' if is_declared else '  (no file declares it)'}"))
    # Of a source, nothing says that it has such a column.
    end = "no file reads a column of this name" if downstream else "comes from no column" if is_declared else ""
    for step in steps:
        branch = tree.add(_line(step, key_of([step.column.column])[0], end))
        _draw(branch, step, "" if downstream else "comes from no column", declared)
    for reason in missing:
        tree.add(Text(f"other columns unknown, because {reason}"))
    if not steps and not missing:
        tree.add(Text("no file reads a column of it" if downstream else "its columns are not known"))
    return tree


def _draw(branch: Tree, step: Step, end: str, declared: Container[Key]) -> None:
    for each in step.steps:
        _draw(
            branch.add(_line(each, str(each.column), end if each.column.table in declared else "")), each, end, declared
        )


def _line(step: Step, name: str, end: str) -> Text:
    note = f"unknown, because {step.unknown}" if step.unknown else "see above" if step.is_repeated else ""
    note = note or (end if not step.steps else "")
    return Text(f"{name}  ({note})" if note else name)


def _facts(
    table: Key, steps: list[Step], missing: list[str], unknown: list[tuple[str, str]], *, downstream: bool
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "table": ".".join(table),
        "direction": "downstream" if downstream else "upstream",
        "columns": [_fact(step, "to" if downstream else "from") for step in steps],
        "other_columns_unknown": missing,
    }
    if downstream:
        facts["may_come_from_it"] = [{"column": column, "unknown": reason} for column, reason in unknown]
    return facts


def _fact(step: Step, direction: str) -> dict[str, Any]:
    if step.unknown:
        return {"column": str(step.column), "unknown": step.unknown}
    if step.is_repeated:
        return {"column": str(step.column), "see_above": True}
    return {"column": str(step.column), direction: [_fact(each, direction) for each in step.steps]}
