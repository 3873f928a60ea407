"""Column lineage of the queries of TPC-H and TPC-DS: what was read off them by hand, and what the project says."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from run_elt_dagster.model.names import Key
from run_elt_dagster.model.origins import Columns, Output, Unknown, columns_of_table
from run_elt_dagster.model.query_columns import columns_of
from run_elt_dagster_tests.support.tpc import named

_FILE = Path(__file__).parent.parent / "documented" / "lineage" / "column_lineage.tsv"
_SCHEMA = "raw_data"

Lines = list[tuple[str, list[str] | None]]
"""Name of a column, `-` without an alias, and what it comes from; None where that is unknown."""


def truth() -> dict[str, Lines]:
    """Return the columns of each query, as they are written down by hand."""
    found: dict[str, Lines] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            query, column, origins = line.split("\t")
            found.setdefault(query, []).append((column, origins.split()))
    return found


def lineage_of(sql: str, tables: Mapping[str, Sequence[str]], *, hidden: Collection[str] = ()) -> Columns:
    """Return the columns of a query of TPC, where the columns of the `hidden` tables are not known."""
    known: dict[Key, list[str]] = {
        (_SCHEMA, name): [column.upper() for column in columns]
        for name, columns in tables.items()
        if name not in hidden
    }
    return columns_of(named(sql, tables, schema=_SCHEMA), lambda key: columns_of_table(key, known.get(key)))


def lines(columns: Columns) -> Lines:
    """Return columns as they are in the file of the truth."""
    outputs = [item for item in columns.items if isinstance(item, Output)]
    assert len(outputs) == len(columns.items)
    return [
        (
            (output.name or "-").lower(),
            None if isinstance(output.origin, Unknown) else sorted(ref.column.lower() for ref in output.origin),
        )
        for output in outputs
    ]
