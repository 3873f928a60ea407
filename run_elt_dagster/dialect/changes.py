"""INSERT, UPDATE, DELETE and MERGE, and the columns of CREATE TABLE and ALTER TABLE.

https://docs.snowflake.com/en/sql-reference/sql-dml
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.expressions import Expressions, refused
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.queries import Queries
from run_elt_dagster.dialect.scope import Column, Relation, Scope, Source, invalid_identifier, name_of
from run_elt_dagster.dialect.sources import Sources
from run_elt_dagster.dialect.types import Kind
from run_elt_dagster.dialect.values import Value


@dataclass(frozen=True)
class Change:
    """A statement that changes rows.

    Attributes:
        sql: DuckDB's SQL; what it returns are the rows that it changed, for MERGE with `merge_action`.
        check_sql: A query that must give no row: a row of the target that several rows of MERGE's source change.
    """

    sql: str
    check_sql: str = ""


def stored(value: Value, column: Column) -> str:
    """Return a value as a column takes it: converted, and in the type in which DuckDB stores it.

    https://docs.snowflake.com/en/sql-reference/sql/insert#usage-notes
    """
    sql = value.sql if value.type == column.type else values.cast(value, column.type).sql
    if column.type.length is None and value.kind is column.type.kind is Kind.TEXT:
        sql = value.sql
    if column.type.kind in {Kind.ARRAY, Kind.OBJECT}:
        # Unlike a cast this keeps missing elements and the digits of numbers.
        return values.macro(f"{column.type.kind.lower()}_stored", sql)
    # DuckDB's own type of a number or of a NULL may be another one, such as HUGEINT or INTEGER.
    return f"CAST({sql} AS {column.type.stored})"


def stored_query(relation: Relation, columns: Sequence[Column]) -> str:
    """Return a query whose columns are as a table's columns take them.

    Raises:
        SqlError: The numbers of columns differ (002020), or a type cannot become another.
    """
    if len(relation.columns) != len(columns):
        raise SqlError(
            "SQL compilation error:\nInsert value list does not match column list expecting "
            f"{len(columns)} but got {len(relation.columns)}",
            errno=2020,
            sqlstate="21S01",
        )
    names = ", ".join(quoted(column.inner) for column in relation.columns)
    items = [
        f"{stored(given.value('given'), column)} AS {quoted(column.inner)}"
        for given, column in zip(relation.columns, columns, strict=True)
    ]
    return f'SELECT {", ".join(items)} FROM ({relation.sql}) AS "given"({names})'


def stored_table(relation: Relation, names: Sequence[str]) -> str:
    """Return a query whose columns are as Snowflake would store them, under distinct names.

    Raises:
        SqlError: Two columns have one name (002025), or the names that CREATE TABLE gives are not as many (002020).
    """
    given = names or [column.name for column in relation.columns]
    refuse_same_names(given)
    kinds = [types.TEXT if column.type.kind is Kind.NULL else column.type for column in relation.columns]
    columns = tuple(Column(name, replace(kind, length=None), name) for name, kind in zip(given, kinds, strict=False))
    return stored_query(relation, columns)


def refuse_same_names(names: Sequence[str]) -> None:
    """Require distinct names.

    Raises:
        SqlError: Two columns have one name (002025), or their names differ by case alone.
    """
    for index, name in enumerate(names):
        same = [earlier for earlier in names[:index] if earlier.lower() == name.lower()]
        if name in same:
            raise SqlError(f"SQL compilation error:\nduplicate column name '{name}'", errno=2025, sqlstate="42S21")
        if same:
            raise unsupported("keep two columns with names that differ by case alone", f"{name!r} beside {same[0]!r}")


def insert(queries: Queries, node: Any, target: Relation) -> Change:
    """Return INSERT INTO, with VALUES or a query; DEFAULT is refused."""
    extras = {key for key, value in node.args.items() if value} - {"this", "expression"}
    if extras:
        raise refused(node)
    names = [name_of(part) for part in node.this.expressions] if isinstance(node.this, exp.Schema) else []
    columns = [column(target, name) for name in names] or list(target.columns)
    listed = ", ".join(quoted(column.inner) for column in columns)
    query = stored_query(queries.relation(node.expression), columns)
    return Change(f"INSERT INTO {target.sql} ({listed}) {query} RETURNING 1")


def update(queries: Queries, node: Any, target: Relation) -> Change:
    """Return UPDATE."""
    extras = {key for key, value in node.args.items() if value} - {"this", "expressions", "from_", "where"}
    if extras:
        raise refused(node)
    scope = Scope()
    named = _target(node.this, target, scope)
    from_sql, _ = Sources(queries, scope).clause(exp.Select(from_=node.args.get("from_")))
    this = Expressions(queries, scope)
    where = f" WHERE {this.condition(node.args['where'].this)}" if node.args.get("where") else ""
    sets = _sets(this, target, node.expressions)
    return Change(f"UPDATE {named} SET {sets}{f' FROM {from_sql}' if from_sql else ''}{where} RETURNING 1")


def delete(queries: Queries, node: Any, target: Relation) -> Change:
    """Return DELETE."""
    extras = {key for key, value in node.args.items() if value} - {"this", "using", "where"}
    if extras:
        raise refused(node)
    scope = Scope()
    named = _target(node.this, target, scope)
    using = [Sources(queries, scope).one(source) for source in node.args.get("using") or []]
    this = Expressions(queries, scope)
    where = f" WHERE {this.condition(node.args['where'].this)}" if node.args.get("where") else ""
    using_sql = f" USING {', '.join(using)}" if using else ""
    return Change(f"DELETE FROM {named}{using_sql}{where} RETURNING 1")


def merge(queries: Queries, node: Any, target: Relation) -> Change:
    """Return MERGE. Two rows of the source for one of the target are an error, unless all of them delete it.

    https://docs.snowflake.com/en/sql-reference/sql/merge#nondeterministic-results-for-update-and-delete
    """
    extras = {key for key, value in node.args.items() if value} - {"this", "using", "on", "whens"}
    if extras:
        raise refused(node)
    scope = Scope()
    named = _target(node.this, target, scope)
    source = Sources(queries, scope).one(node.args["using"])
    this = Expressions(queries, scope)
    on = this.condition(node.args["on"])
    branches = [_branch(this, target, when) for when in node.args["whens"].expressions]
    inner = scope.sources[0].inner
    taken = " ".join(
        f"WHEN {_condition(this, when)} THEN {isinstance(when.args['then'], exp.Update)}"
        for when in node.args["whens"].expressions
        if when.args.get("matched")
    )
    check = taken and (
        f"SELECT 1 FROM {named} INNER JOIN {source} ON {on} GROUP BY {quoted(inner)}.rowid "
        f"HAVING count(CASE {taken} END) > 1 AND bool_or(CASE {taken} END) LIMIT 1"
    )
    return Change(f"MERGE INTO {named} USING {source} ON {on} {' '.join(branches)} RETURNING merge_action", check)


def _condition(this: Expressions, when: Any) -> str:
    return this.condition(when.args["condition"]) if when.args.get("condition") else "TRUE"


def _branch(this: Expressions, target: Relation, when: Any) -> str:
    if when.args.get("source"):
        raise refused(when)
    head = f"WHEN {'' if when.args.get('matched') else 'NOT '}MATCHED AND {_condition(this, when)} THEN"
    action = when.args["then"]
    if isinstance(action, exp.Update):
        return f"{head} UPDATE SET {_sets(this, target, action.expressions)}"
    if isinstance(action, exp.Insert):
        columns = (
            [column(target, _assigned(part)) for part in action.this.expressions]
            if action.this
            else list(target.columns)
        )
        given = action.expression.expressions
        if len(given) != len(columns):
            raise SqlError(
                f"SQL compilation error:\nInsert value list does not match column list expecting {len(columns)} "
                f"but got {len(given)}",
                errno=2020,
                sqlstate="21S01",
            )
        listed = ", ".join(quoted(column.inner) for column in columns)
        items = ", ".join(stored(this.value(part), column) for part, column in zip(given, columns, strict=True))
        return f"{head} INSERT ({listed}) VALUES ({items})"
    if str(action).upper() == "DELETE":
        return f"{head} DELETE"
    raise refused(when)


def _target(node: exp.Table, target: Relation, scope: Scope) -> str:
    names = (
        (name_of(node.args["alias"].this),) if node.args.get("alias") else tuple(name_of(part) for part in node.parts)
    )
    scope.sources.append(Source(names, names[-1], target.columns))
    return f"{target.sql} AS {quoted(names[-1])}"


def _sets(this: Expressions, target: Relation, assignments: Sequence[Expr]) -> str:
    parts: list[str] = []
    for assignment in assignments:
        if not isinstance(assignment, exp.EQ):
            raise refused(assignment)
        assigned = column(target, _assigned(assignment.this))
        parts.append(f"{quoted(assigned.inner)} = {stored(this.value(assignment.expression), assigned)}")
    return ", ".join(parts)


def _assigned(node: Expr) -> str:
    return name_of(node.this if isinstance(node, exp.Column) else node)


def alterations(action: Any) -> Sequence[str]:
    """Return what follows ALTER TABLE in DuckDB's SQL; nothing for what cannot be done wholly."""
    exists = "IF EXISTS " if action.args.get("exists") else ""
    if isinstance(action, exp.ColumnDef) and action.kind is not None and not action.args.get("constraints"):
        kind = types.from_sqlglot(action.kind)
        if kind.length is None:
            not_exists = exists.replace("IF", "IF NOT")
            return [f"ADD COLUMN {not_exists}{quoted(name_of(action.this))} {kind.stored}"]
    if isinstance(action, exp.Drop) and str(action.args.get("kind")).upper() == "COLUMN":
        return [f"DROP COLUMN {exists}{quoted(name_of(column.this))}" for column in action.args["tables"]]
    if isinstance(action, exp.RenameColumn):
        return [f"RENAME COLUMN {quoted(name_of(action.this.this))} TO {quoted(name_of(action.args['to'].this))}"]
    return []


def column(target: Relation, name: str) -> Column:
    """Return the column of a table that has this name.

    Raises:
        SqlError: There is none (000904).
    """
    for found in target.columns:
        if found.name == name:
            return found
    raise invalid_identifier(name)
