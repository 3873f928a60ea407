"""What `run-elt diff` prints of all tables."""

from collections.abc import Sequence
from typing import Any

from run_elt_dagster.cli.diff_of_one import difference_facts
from run_elt_dagster.cli.printing import print_table
from run_elt_dagster.environments.comparison import TableComparison, summary
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import display_name
from run_elt_dagster.model.production import TableVersion

_HEADER = ("table", "is", "columns", "rows there", "rows here", "added", "removed", "changed", "compared by")
_WORDS = {"in neither": "built in neither", "not compared": "not compared"}


def print_comparison(found: Sequence[TableComparison], here: str, there: str) -> None:
    """Print how the tables of one database differ from those of another: a line for each that does, then which columns do."""
    print(f"{display_name(here)}, compared with {display_name(there)}:")
    listed = [each for each in found if each.state not in ("same", "in neither")]
    if listed:
        print_table(_HEADER, [_line(each) for each in listed])
    print(
        ", ".join(f"{count:,} {_WORDS.get(state, state)}" for state, count in summary(found)) or "No table to compare."
    )
    for each in listed:
        _print_details(each)


def _line(each: TableComparison) -> list[str]:
    difference, rows = each.difference, each.difference.rows if each.difference else None
    key = ", ".join(display_name(name).lower() for name in difference.key) if difference and rows else ""
    return [
        each.table.name,
        each.state,
        f"{len(difference.schema.lines):,} differ" if difference and difference.schema.lines else "-",
        _count(rows.old_rows if rows else each.there and each.there.rows),
        _count(rows.new_rows if rows else each.here and each.here.rows),
        _count(rows.added if rows else None),
        _count(rows.removed if rows else None),
        _count(rows.changed if rows and key else None),
        key or ("whole rows" if rows else "-"),
    ]


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _print_details(each: TableComparison) -> None:
    difference = each.difference
    print(f"\n{each.table.name}")
    for place, version in (("here", each.here), ("there", each.there)):
        if version is not None and version.marker is not None and version.marker.published:
            print(f"  {place}: {version.marker.published}")
    if each.problem:
        print(f"  not compared: {each.problem}")
    for line in difference.schema.lines if difference else ():
        print(f"  {line}")
    if difference is None or difference.rows is None:
        return
    if difference.rows.repeated:
        print(f"  {counted(difference.rows.repeated, 'keys')} with several rows, not compared")
    for name, count in difference.rows.by_column:
        print(f"  {display_name(name).lower()}: {counted(count, 'rows')} changed")


def comparison_facts(found: Sequence[TableComparison], here: str, there: str) -> dict[str, Any]:
    """Return the same for a program."""
    return {
        "database": display_name(here),
        "against": display_name(there),
        "summary": dict(summary(found)),
        "tables": [
            {
                "table": each.table.name,
                "state": each.state,
                "here": _version(each.here),
                "there": _version(each.there),
                "difference": difference_facts(each.table.name, each.difference) if each.difference else None,
                "problem": each.problem or None,
            }
            for each in found
        ],
    }


def _version(version: TableVersion | None) -> dict[str, Any] | None:
    if version is None:
        return None
    return {"rows": version.rows, "run_id": version.marker.run_id if version.marker else None}
