"""VARIANT, ARRAY and OBJECT: the functions that only Python can translate.

https://docs.snowflake.com/en/sql-reference/functions-semistructured
"""

import re
from dataclasses import replace

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.calls import Call, array_of, form, object_of, sortable
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.parser import authored
from run_elt_dagster.dialect.scope import HIDDEN, Scope, name_of
from run_elt_dagster.dialect.types import Kind
from run_elt_dagster.dialect.values import Value, macro

_STEP = re.compile(
    r"""(?:^|[.:])([A-Za-z_][\w$]*)|(?:^|[.:])"((?:[^"]|"")+)"|\[(\d+)\]|\['([^'\\]+)'\]|\["([^"\\]+)"\]"""
)


def steps(path: str) -> list[str | int]:
    """Return the keys and indexes of a path such as `a.b[0]['c d']`.

    Raises:
        SqlError: It is no path that is known here.
    """
    found: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise unsupported("follow this path into a VARIANT", path)
        name, quoted_name, index, *keys = match.groups()
        found.append(int(index) if index else name or (quoted_name or "").replace('""', '"') or keys[0] or keys[1])
        at = match.end()
    return found


def at_path(value: Value, path: str) -> Value:
    """Return what is found under a path, NULL where there is nothing."""
    sql = value.sql
    for step in steps(path):
        sql = (
            macro("element", sql, str(step))
            if isinstance(step, int)
            else macro("member", sql, values.literal_sql(step))
        )
    return Value(sql, types.VARIANT, aggregate=value.aggregate)


def _plain_call(call: Call) -> None:
    if call.distinct or call.order or call.over is not None or call.ignore_nulls or call.named:
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])


@form("GET_PATH")
def get_path(call: Call) -> Value:
    """Return GET_PATH, whose path is a constant."""
    _plain_call(call)
    arguments = call.values()
    if len(arguments) == 2 and arguments[0].kind in types.SEMI_STRUCTURED and arguments[1].is_text_constant:  # noqa: PLR2004
        return at_path(arguments[0], arguments[1].constant or "")
    raise unsupported("call GET_PATH in this way", authored(call.node)[:200])


@form("ARRAY_CONSTRUCT", "ARRAY_CONSTRUCT_COMPACT")
def array_construct(call: Call) -> Value:
    """Return an array of the arguments, with those that are NULL or without them."""
    _plain_call(call)
    array = array_of(call.values())
    if call.name == "ARRAY_CONSTRUCT":
        return array
    return Value(macro("array_compact", array.sql), types.ARRAY, aggregate=array.aggregate)


@form("OBJECT_CONSTRUCT", "OBJECT_CONSTRUCT_KEEP_NULL")
def object_construct(call: Call) -> Value:
    """Return an object of keys and values, or of all columns."""
    _plain_call(call)
    keep_null = call.name == "OBJECT_CONSTRUCT_KEEP_NULL"
    star = call.arguments[0] if len(call.arguments) == 1 else None
    if isinstance(star, exp.Star) and not any(star.args.values()):
        columns = list(call.this.scope.all_columns())
        keys, items = [values.text_constant(name) for name, _ in columns], [value for _, value in columns]
        return object_of(keys, items, keep_null=keep_null)
    arguments = call.values()
    if len(arguments) % 2:
        raise SqlError(
            f"SQL compilation error:\ninvalid number of arguments for function [{call.name}]",
            errno=938,
            sqlstate="22023",
        )
    if any(key.kind not in {Kind.TEXT, Kind.VARIANT, Kind.NULL} for key in arguments[::2]):
        raise unsupported(f"call {call.name} with keys that are no text", authored(call.node)[:200])
    return object_of(arguments[::2], arguments[1::2], keep_null=keep_null)


@form("ARRAY_AGG", "ARRAYAGG", "ARRAY_UNIQUE_AGG")
def array_agg(call: Call) -> Value:
    """Return the array of all values that are not NULL, in the order that WITHIN GROUP names."""
    arguments = call.values()
    if len(arguments) != 1 or call.ignore_nulls or call.named:
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    (value,) = arguments
    element = f"CAST({values.as_json(value).sql} AS VARCHAR)"
    distinct = call.distinct or call.name == "ARRAY_UNIQUE_AGG"
    if distinct and (call.order or value.kind in types.SEMI_STRUCTURED):
        rows = _distinct(call, value, element)
    else:
        inside = f"{'DISTINCT ' if distinct else ''}{element}{call.order_sql()}"
        rows = f"list_filter(list({inside}){call.over_sql()}, lambda e: e IS NOT NULL)"
    return Value(macro("json_aggregate", rows), types.ARRAY, aggregate=call.over is None)


def _distinct(call: Call, value: Value, element: str) -> str:
    """Return the list of values that differ: what sorts them must be the values themselves."""
    keys = list(call.order)
    if call.over is not None or len(keys) > 1 or any(call.this.value(key.this).sql != value.sql for key in keys):
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    rows = (
        f"list(DISTINCT struct_pack(k := {sortable(value, ordered=bool(keys))}, e := {element})) "
        f"FILTER (WHERE {value.sql} IS NOT NULL)"
    )
    down = bool(keys) and bool(keys[0].args.get("desc"))
    return f"list_transform({'list_reverse_sort' if down else 'list_sort'}({rows}), lambda s: s.e)"


@form("FILTER", "TRANSFORM")
def higher_order(call: Call) -> Value:
    """Return FILTER and TRANSFORM of an array with a lambda expression of one argument.

    https://docs.snowflake.com/en/user-guide/querying-semistructured#label-higher-order-functions
    """
    _plain_call(call)
    body = call.arguments[1] if len(call.arguments) == 2 else None  # noqa: PLR2004
    if not isinstance(body, exp.Lambda) or len(body.expressions) != 1 or body.this.find(exp.Lambda):
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    array, name = call.this.value(call.arguments[0]), name_of(body.expressions[0])
    if array.kind is Kind.VARIANT:
        array = Value(macro("variant_as_array", array.sql), types.ARRAY, aggregate=array.aggregate)
    elif array.kind is not Kind.ARRAY:
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    item = Value(macro("element_json", _ITEM), types.VARIANT)
    this = replace(call.this, scope=Scope(parent=call.this.scope, merged={name: item}))
    inside = this.value(body.this.transform(_as_column, name))
    if call.name == "TRANSFORM" and inside.kind is Kind.FLOAT and not body.this.find(exp.Cast):
        raise unsupported("calculate with an argument of TRANSFORM that has no type", authored(call.node)[:200])
    if call.name == "FILTER":
        rows = f"list_filter({macro('elements', array.sql)}, lambda {_ITEM}: {values.converted(inside, types.BOOLEAN).sql})"
    else:
        element = f"coalesce(CAST({values.as_json(inside).sql} AS VARCHAR), {_NO_NULL})"
        rows = f"list_transform({macro('elements', array.sql)}, lambda {_ITEM}: {element})"
    return Value(macro("array", rows), types.ARRAY, aggregate=array.aggregate or inside.aggregate)


_ITEM = '"lambda:item"'
_NO_NULL = macro("fail", "'unsupported|make NULL an element with TRANSFORM'")


def _as_column(part: Expr, name: str) -> Expr:
    """Return the argument of a lambda expression as a column: sqlglot leaves a bare identifier."""
    if isinstance(part, exp.Identifier) and name_of(part) == name and not isinstance(part.parent, exp.Column | exp.Dot):
        return exp.Column(this=part.copy())
    return part


@form("SEQ1", "SEQ2", "SEQ4", "SEQ8")
def sequence(call: Call) -> Value:
    """Return the number of a row of GENERATOR, from 0.

    https://docs.snowflake.com/en/sql-reference/functions/seq1
    """
    _plain_call(call)
    sources = call.this.scope.sources
    numbers = [
        column.value(source.inner) for source in sources for column in source.columns if column.name == HIDDEN + "SEQ"
    ]
    if call.arguments or len(sources) != 1 or len(numbers) != 1:
        raise unsupported(f"call {call.name} where FROM is not GENERATOR alone", authored(call.node)[:200])
    return numbers[0]
