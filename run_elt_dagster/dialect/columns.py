"""The columns that CREATE TABLE declares. Pure.

https://docs.snowflake.com/en/sql-reference/sql/create-table
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.changes import refuse_same_names, stored
from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.parser import parsed
from run_elt_dagster.dialect.scope import Column, name_of
from run_elt_dagster.dialect.values import Value

# Snowflake keeps keys as information and never enforces them, DuckDB does:
# https://docs.snowflake.com/en/sql-reference/constraints-overview
_KEYS = (
    exp.Constraint,
    exp.ForeignKey,
    exp.PrimaryKey,
    exp.PrimaryKeyColumnConstraint,
    exp.Reference,
    exp.UniqueColumnConstraint,
)


@dataclass(frozen=True)
class Declared:
    """The columns that CREATE TABLE names.

    Attributes:
        names: Their names, empty where the statement gives none.
        comments: Names and comments.
        typed: The columns with their types, empty if they have none.
        typed_sql: Likewise, for DuckDB.
    """

    names: tuple[str, ...] = ()
    comments: tuple[tuple[str, str], ...] = ()
    typed: tuple[Column, ...] = ()
    typed_sql: str = ""


def declared(columns_sql: str, constant: Callable[[Expr], Value]) -> Declared:
    """Return the columns in the parentheses of CREATE TABLE.

    Args:
        columns_sql: The parentheses.
        constant: Translates a default.

    Raises:
        SqlError: They hold what would be left out, or one name twice.
    """
    listed: list[Any] = parsed(f"CREATE TABLE listed {columns_sql}").this.expressions
    parts = [part for part in listed if isinstance(part, exp.Identifier | exp.ColumnDef)]
    if any(not isinstance(part, _KEYS) for part in listed if part not in parts):
        raise unsupported("create a table with this constraint", repr(columns_sql[:200]))
    names = tuple(name_of(part if isinstance(part, exp.Identifier) else part.this) for part in parts)
    for part in parts:
        _refuse_clauses(part)
    comments = tuple(
        (name, constraint.name)
        for name, part in zip(names, parts, strict=True)
        for constraint in part.find_all(exp.CommentColumnConstraint)
    )
    kinds: list[Any] = [part.args.get("kind") for part in parts]
    if not any(kinds):
        return Declared(names, comments)
    if not all(kinds):
        raise unsupported("create a table whose columns have types only in part", repr(columns_sql[:200]))
    refuse_same_names(names)
    typed = tuple(
        Column(name, types.from_sqlglot(kind), name, stored=True) for name, kind in zip(names, kinds, strict=True)
    )
    definitions = [_definition(column, part, constant) for column, part in zip(typed, parts, strict=True)]
    return Declared(names, comments, typed, f"({', '.join(definitions)})")


def _definition(column: Column, part: Any, constant: Callable[[Expr], Value]) -> str:
    """Return a column for DuckDB. VARCHAR(n) refuses longer text.

    https://docs.snowflake.com/en/sql-reference/data-types-text
    """
    sql = f"{quoted(column.name)} {column.type.stored}"
    if column.type.length is not None:
        sql += f" CHECK (length({quoted(column.name)}) <= {column.type.length})"
    for constraint in part.args.get("constraints") or []:
        kind = constraint.kind
        if isinstance(kind, exp.NotNullColumnConstraint):
            sql += "" if kind.args.get("allow_null") else " NOT NULL"
        elif isinstance(kind, exp.DefaultColumnConstraint):
            sql += f" DEFAULT {stored(constant(kind.this), column)}"
    return sql


def _refuse_clauses(part: Any) -> None:
    """Refuse what a column would silently be without, such as a masking policy."""
    known = (*_KEYS, exp.CommentColumnConstraint, exp.NotNullColumnConstraint, exp.DefaultColumnConstraint)
    for constraint in part.args.get("constraints") or []:
        if not isinstance(constraint.kind, known) or (
            part.kind is None and not isinstance(constraint.kind, exp.CommentColumnConstraint)
        ):
            raise unsupported("create a column with this clause", constraint.sql(dialect="snowflake"))
