"""Columns that not every role may select: which other tables would take values from them."""

from collections.abc import Iterator, Mapping

from run_elt_dagster.model.column_lineage import ColumnLineage
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, key_of, stored_name
from run_elt_dagster.model.origins import ColumnRef, Columns, Output, Unknown
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable


def problems_of_projection(tables: Catalogue, lines: Mapping[Key, Mapping[Key, int]]) -> Iterator[TableProblem]:
    """Yield the columns that take values from a projection-constrained column of another table.

    Snowflake inserts no such value into a table, or NULL in its place: https://docs.snowflake.com/en/user-guide/projection-policies.
    A column that only chooses or joins rows may be one. Within a group, a table reads the candidate of another one, before its policies.

    Args:
        tables: The declared tables.
        lines: For each of them, the keys that it reads, each with a line of its file.
    """
    lineage = ColumnLineage(tables)
    for key, parent in tables.items():
        hidden = {stored_name(column) for column in parent.policies.projection} if parent.policies else set[str]()
        for reader in (each for each in tables if hidden and key in tables.parents(each)):
            if reader == key or _are_together(parent, tables[reader]):
                continue
            for column, ref in _taken(lineage.of(reader), key, hidden):
                message = (
                    f"{tables[reader].name} cannot take values from a column with a projection policy, got {ref} for {column}. Snowflake "
                    f"inserts none of them into another table, or NULL in their place. Leave it out, or read it from what {parent.name} reads."
                )
                yield TableProblem(tables[reader].path, lines[reader][key], message)


def _are_together(one: AnalyticsTable, other: AnalyticsTable) -> bool:
    return one.publish_group is not None and one.publish_group == other.publish_group


def _taken(columns: Columns, table: Key, hidden: set[str]) -> Iterator[tuple[str, ColumnRef]]:
    """Yield the columns of a query that take values from hidden columns of a table, each with one of these."""
    for item in columns.items:
        if isinstance(item, Output):
            origin = item.origin if not isinstance(item.origin, Unknown) else frozenset[ColumnRef]()
            found = sorted(ref for ref in origin if ref.table == table and ref.column in hidden)
            name = key_of([item.name])[0] if item.name is not None else "a column without a name"
            yield from ((name, ref) for ref in found[:1])
        elif item.table == table:
            yield from (("each column", ColumnRef(table, column)) for column in sorted(hidden - item.without)[:1])
