"""Compare what a build of a table would give with what readers see, or with another table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from run_elt_dagster.audit.difference import (
    Comparison,
    RowDifference,
    SchemaDifference,
    columns_of,
    columns_sql,
    schema_difference,
)
from run_elt_dagster.audit.increment import is_replaced_sql
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.increment import Start
from run_elt_dagster.model.names import Relation, display_name, stored_name, stored_names
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.work import TableWork

_DATABASE, _TABLE = 1, 3


@dataclass(frozen=True)
class Difference:
    """How a build of a table differs from another table.

    Attributes:
        against: The other table.
        exists: Whether it is there.
        schema: How the columns differ.
        key: Stored names of the columns that identify a row; none where whole rows were compared.
        rows: How the rows differ; None where the tables have no column in common, or there is no other table.
        examples: Keys: state, values of the key, and which columns differ.
        start: Where the increment begins that was built; None where the table was built whole, or by partitions.
    """

    against: Relation
    exists: bool
    schema: SchemaDifference
    key: tuple[str, ...]
    rows: RowDifference | None
    examples: tuple[tuple[Any, ...], ...] = ()
    start: Start | None = None

    @property
    def is_empty(self) -> bool:
        """Whether a build would change nothing."""
        return self.exists and not self.schema.lines and self.rows is not None and self.rows.is_empty


def against_of(text: str | None, table: AnalyticsTable, *, database: str) -> Relation:
    """Return the table to compare with: what readers see, or the one of a database, or any other.

    Args:
        text: A database, or `database.schema.table`; None for what readers see.
        table: The table that is built.
        database: The session's database.

    Raises:
        ValueError: It is neither.
    """
    target = target_of(table, database=database)
    if text is None:
        return target
    try:
        parts = stored_names(text)
    except ValueError as error:
        raise ValueError(f"run-elt diff --against {error}, got {text}. Nothing was built.") from None
    if len(parts) == _DATABASE:
        return Relation(parts[0], target.schema, target.name)
    if len(parts) != _TABLE:
        raise ValueError(
            f"run-elt diff --against requires a database or database.schema.table, got {text}. Nothing was built. "
            f"For a table of this database, write {display_name(database)}.{text}."
        )
    return Relation(*parts)


def key_of(columns: Sequence[str], table: AnalyticsTable, *, examples: int) -> tuple[str, ...]:
    """Return the stored names of the columns that identify a row: those that are given, or those of the table (`difference_key`).

    Raises:
        ValueError: One is no name of a column, or stands there twice; or there is none, and examples could show none.
    """
    try:
        key = tuple(stored_name(column.strip()) for column in columns) or table.difference_key
    except ValueError as error:
        raise ValueError(f"run-elt diff --key {error}, got {', '.join(columns)}. Nothing was built.") from None
    if len(set(key)) != len(key):
        raise ValueError(
            f"run-elt diff --key requires columns that differ, got {', '.join(columns)}. Nothing was built."
        )
    if examples and not key:
        raise ValueError(
            f"run-elt diff --rows requires a key, got {table.name} without primary_key. Nothing was built. Name its columns with "
            "--key."
        )
    return key


def compare(
    work: TableWork, against: Relation, *, key: tuple[str, ...], examples: int = 0, part: Slice | None = None
) -> Difference:
    """Compare a table's candidate with another table, in two statements, and a third for examples.

    Args:
        work: The work on the candidate.
        against: The other table.
        key: Stored names of the columns that identify a row.
        examples: How many keys of each kind of difference are shown.
        part: The partitions that the candidate has: only theirs of the other table are compared. None for whole tables.

    Raises:
        ValueError: A column of the key is not in both tables.
        StatementError: A table could not be read.
    """
    rows = work.send(columns_sql(work.candidate, against)).rows
    new, old = columns_of(rows, "new"), columns_of(rows, "old")
    schema = schema_difference(new, old)
    if not old:
        return Difference(against, exists=False, schema=schema, key=key, rows=None)
    comparison = Comparison(work.candidate, against, new, old, key, _within(work, part))
    _require_key(comparison)
    if not key and not comparison.compared:
        return Difference(against, exists=True, schema=schema, key=key, rows=None)
    difference = comparison.row_difference(work.send(comparison.counts_sql()).rows[0])
    shown = work.send(comparison.examples_sql(examples)).rows if examples and not difference.is_empty else ()
    return Difference(against, exists=True, schema=schema, key=key, rows=difference, examples=shown, start=work.start)


def _within(work: TableWork, part: Slice | None) -> str:
    """Return the condition of the rows of the other table that a build would replace; empty for all rows."""
    if part is not None:
        return work.table.partition_predicate(part.start, part.end)
    if work.start is not None and work.table.increment is not None:
        return is_replaced_sql(work.candidate, work.table.increment.stored_key)
    return ""


def _require_key(comparison: Comparison) -> None:
    if comparison.missing_key:
        names = ", ".join(display_name(name).lower() for name in comparison.missing_key)
        raise ValueError(
            f"run-elt diff requires a key of columns that the build and {comparison.old} both have, got {names}. Nothing was "
            "compared. Name other columns with --key."
        )
