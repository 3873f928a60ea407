"""The columns that the settings of a table name: a file that lists its columns lists all of them."""

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from run_elt_dagster.model.checks import Checks
from run_elt_dagster.model.fields import LocatedError, SeveralLocatedError
from run_elt_dagster.model.front_matter import Location
from run_elt_dagster.model.names import key_part, stored_name

if TYPE_CHECKING:
    from run_elt_dagster.model.table import AnalyticsTable


def require_declared(table: "AnalyticsTable") -> None:
    """Require that `columns` lists each column that another setting names. A query of a `sql` check is not read.

    Raises:
        SeveralLocatedError: It does not: each place, with the column that may be meant.
    """
    declared = {stored_name(name): name for name in table.columns}
    if not declared:
        return
    wrong = [(location, name) for location, name in _named(table) if stored_name(name) not in declared]
    if wrong:
        raise SeveralLocatedError([_error(location, name, declared) for location, name in dict.fromkeys(wrong)])


def _error(location: Location, name: str, declared: dict[str, str]) -> LocatedError:
    folded = {stored.lower(): written for stored, written in declared.items()}
    close = difflib.get_close_matches(stored_name(name).lower(), folded, n=1)
    remedy = f"Did you mean {folded[close[0]]!r}?" if close else f"columns lists {', '.join(declared.values())}."
    return LocatedError(f"requires columns of the table, got {name}", location=location, remedy=remedy)


def _named(table: "AnalyticsTable") -> Iterator[tuple[Location, str]]:
    """Yield where a column is named, and its name as it is written."""
    for column in table.primary_key:
        yield ("primary_key",), column
    for column in table.cluster_by or ():
        yield ("cluster_by",), column
    for place, columns in table.policies.columns.items() if table.policies is not None else ():
        for column in columns:
            yield ("policies", *place), column
    yield from _of_parts(table)
    for location, column in (*_of_columns(table.checks), *_of_numbers(table.checks)):
        yield ("checks", *location), column
    for column, rule in table.checks.relationship.items():
        if rule.table == (table.stored_schema, table.stored_table):
            yield ("checks", "relationship", column), key_part(rule.column)


def _of_parts(table: "AnalyticsTable") -> Iterator[tuple[Location, str]]:
    if table.partitions is not None:
        yield ("partitions", "column"), table.partitions.column
    if table.increment is not None:
        yield ("increment", "column"), table.increment.column
        for column in table.increment.key:
            yield ("increment", "key"), column


def _of_columns(checks: Checks) -> Iterator[tuple[Location, str]]:
    for column in checks.not_null.columns if checks.not_null is not None else ():
        yield ("not_null",), column
    for index, rule in enumerate(checks.unique):
        for column in rule.columns:
            yield ("unique", index), column
    for kind in ("accepted_values", "matches", "range", "freshness", "relationship"):
        for column in getattr(checks, kind):
            yield (kind, column), column


def _of_numbers(checks: Checks) -> Iterator[tuple[Location, str]]:
    for number, columns in checks.usual.numbers if checks.usual is not None else ():
        for column in columns:
            yield ("usual", number), column
    for kind in ("key", "columns", "ignore") if checks.changes is not None else ():
        for column in getattr(checks.changes, kind):
            yield ("changes", kind), column
