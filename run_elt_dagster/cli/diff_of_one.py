"""What `run-elt diff` prints of one table."""

from typing import Any

from run_elt_dagster.audit.difference import RowDifference
from run_elt_dagster.cli.printing import cells, print_table
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import display_name
from run_elt_dagster.publish.compare import Difference


def print_difference(name: str, difference: Difference) -> None:
    """Print how a build of a table differs from another table."""
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
    print(f"{counted(rows.old_rows, 'rows')} now, {counted(rows.new_rows, 'rows')} after a build, compared by {what}:")
    counts = [("added", rows.added), ("removed", rows.removed)]
    if key:
        counts += [("changed", rows.changed)]
    if rows.repeated:
        counts += [("with several rows for one key, not compared", rows.repeated)]
    print("\n".join(f"  {count:,} {word}" for word, count in counts))
    if rows.by_column:
        print_table(("column", "rows changed"), [(display_name(name).lower(), f"{n:,}") for name, n in rows.by_column])


def difference_facts(name: str, difference: Difference) -> dict[str, Any]:
    """Return the same for a program."""
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
