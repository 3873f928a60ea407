"""PIVOT and UNPIVOT.

https://docs.snowflake.com/en/sql-reference/constructs/pivot and https://docs.snowflake.com/en/sql-reference/constructs/unpivot
"""

from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import values
from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.dialect.expressions import Expressions, refused
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.parser import authored, function_name
from run_elt_dagster.dialect.scope import (
    Column,
    Relation,
    Scope,
    Source,
    distinct_columns,
    invalid_identifier,
    name_of,
)
from run_elt_dagster.dialect.types import Type
from run_elt_dagster.dialect.values import Value, macro

if TYPE_CHECKING:
    from run_elt_dagster.dialect.queries import Queries

_AGGREGATES = frozenset({"AVG", "COUNT", "MAX", "MIN", "SUM"})
# The last are notes of sqlglot's own.
_NOTES = frozenset({"columns", "identify_pivot_strings", "prefixed_pivot_columns", "pivot_column_naming"})
_NO_ROWS = "'unsupported|a COUNT of PIVOT over nothing'"
_PIVOT_PARTS = frozenset({"expressions", "fields", "alias", "default_on_null"}) | _NOTES
_UNPIVOT_PARTS = frozenset({"expressions", "fields", "alias", "unpivot", "include_nulls"}) | _NOTES


def pivoted(queries: "Queries", relation: Relation, pivot: Any, scope: Scope) -> Relation:
    """Return a relation after PIVOT or UNPIVOT.

    Args:
        queries: Translates what is inside.
        relation: What stands before it, with SQL for FROM.
        pivot: The clause.
        scope: The scope around it.
    """
    known = _UNPIVOT_PARTS if pivot.args.get("unpivot") else _PIVOT_PARTS
    (field, *others), (value, *more) = pivot.args["fields"], pivot.expressions
    if others or more or {key for key, given in pivot.args.items() if given} - known:
        raise refused(pivot)
    inner = Scope([Source((), "pivot", relation.columns)], parent=scope.parent)
    make = _to_rows if pivot.args.get("unpivot") else _to_columns
    items, tail = make(Expressions(queries, inner), relation, field, value, pivot)
    columns = distinct_columns([(name, item.type) for name, item in items])
    listed = ", ".join(
        f"{item.sql} AS {quoted(column.inner)}" for (_, item), column in zip(items, columns, strict=True)
    )
    names = ", ".join(quoted(column.inner) for column in relation.columns)
    sql = f'SELECT {listed} FROM {relation.sql} AS "pivot"({names}){tail}'
    if pivot.args.get("unpivot") and not pivot.args.get("include_nulls"):
        sql = f'SELECT * FROM ({sql}) AS "unpivot" WHERE {quoted(columns[-1].inner)} IS NOT NULL'
    return Relation(sql, columns)


Items = list[tuple[str, Value]]


def _to_columns(this: Expressions, relation: Relation, field: Any, call: Expr, pivot: Any) -> tuple[Items, str]:
    name = function_name(call)
    if name not in _AGGREGATES or len(call.expressions) != 1 or not isinstance(call.expressions[0], exp.Column):
        raise refused(pivot)
    (argument,) = call.expressions
    used = {name_of(argument.this), name_of(field.this.this)}
    groups = [(column.name, column.value("pivot")) for column in relation.columns if column.name not in used]
    cells = [_cell(this, call, field.this, written, pivot) for written in field.expressions]
    keys = ", ".join(value.sql for _, value in groups)
    return [*groups, *cells], f" GROUP BY {keys}" if keys else ""


def _cell(this: Expressions, call: Expr, key: Expr, written: Expr, pivot: Any) -> tuple[str, Value]:
    constant, alias = (written.this, written.args["alias"]) if isinstance(written, exp.PivotAlias) else (written, None)
    if not isinstance(constant, exp.Literal | exp.Neg | exp.Boolean):
        raise refused(pivot)
    equal = exp.EQ(this=key.copy(), expression=constant.copy())
    when = exp.Case(ifs=[exp.If(this=equal, true=call.expressions[0].copy())])
    value = this.value(exp.Anonymous(this=call.this, expressions=[when]))
    if function_name(call) == "COUNT":
        rows, failure = f"count(CASE WHEN {this.condition(equal)} THEN 1 END)", macro("fail", _NO_ROWS)
        value = Value(f"(CASE WHEN {rows} = 0 THEN {failure}::BIGINT ELSE {value.sql} END)", value.type)
    if (default := pivot.args.get("default_on_null")) is not None and not isinstance(default, bool):
        (value, other), kind = values.unified([value, this.value(default)], "DEFAULT ON NULL")
        value = Value(f"coalesce({value.sql}, {other.sql})", kind)
    return name_of(alias) if alias is not None else constant.sql(dialect="snowflake"), value


def _to_rows(_: Expressions, relation: Relation, field: Any, value: Any, pivot: Any) -> tuple[Items, str]:
    parts = [_part(written, pivot) for written in field.expressions]
    taken = [_column(relation, name) for name, _ in parts]
    kept = [(column.name, column.value("pivot")) for column in relation.columns if column not in taken]
    items, kind = values.unified([column.value("pivot") for column in taken], "UNPIVOT")
    if any(column.type.kind is not kind.kind for column in taken):
        raise unsupported("unpivot columns of different types", authored(pivot)[:200])
    texts = [values.text_constant(label) for _, label in parts]
    labels = f"unnest([{', '.join(text.sql for text in texts)}])"
    cells = f"unnest([{', '.join(f'CAST({item.sql} AS {kind.duck})' for item in items)}])"
    longest = max(len(label) for _, label in parts)
    names = (name_of(field.this.this if isinstance(field.this, exp.Column) else field.this), name_of(value))
    return [*kept, (names[0], Value(labels, Type(texts[0].kind, length=longest))), (names[1], Value(cells, kind))], ""


def _part(written: Any, pivot: Any) -> tuple[str, str]:
    column, alias = (written.this, written.args["alias"]) if isinstance(written, exp.PivotAlias) else (written, None)
    if not isinstance(column, exp.Column | exp.Identifier):
        raise refused(pivot)
    name = name_of(column.this if isinstance(column, exp.Column) else column)
    if alias is None:
        return name, name
    return name, alias.name if isinstance(alias, exp.Literal) else name_of(alias)


def _column(relation: Relation, name: str) -> Column:
    found = [column for column in relation.columns if column.name == name]
    if len(found) != 1:
        raise invalid_identifier(name)
    return found[0]
