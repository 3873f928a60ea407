"""Aggregates that only Python can translate: https://docs.snowflake.com/en/sql-reference/functions-aggregation."""

from dataclasses import replace
from decimal import Decimal

from sqlglot import exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.calls import Call, by_signature, form, order_key, refuse_order, sortable
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.operators import quotient, scaled, unscaled
from run_elt_dagster.dialect.parser import authored
from run_elt_dagster.dialect.stars import is_star, starred
from run_elt_dagster.dialect.types import MOST_DIGITS, Kind, Type
from run_elt_dagster.dialect.values import Value, macro

_EXTRA_MEDIAN_SCALE = 3
_SHARE = Decimal("0.001")


@form("COUNT")
def count(call: Call) -> Value:
    """Return COUNT: of rows, of values, and of rows in which no value is missing.

    https://docs.snowflake.com/en/sql-reference/functions/count
    """
    if call.order or call.named or call.ignore_nulls or not call.arguments:
        raise _way(call)
    over, aggregate = call.over_sql(), call.over is None
    (first, *others) = call.arguments
    if isinstance(first, exp.Star) and not others and not any(first.args.values()) and not call.distinct:
        return Value(f"(count(*){over})", types.INT, aggregate=aggregate)
    is_all = is_star(first) and not others
    parts = [value for _, value in starred(call.this, first)] if is_all else call.values()
    present = " AND ".join(f"{_counted(part)} IS NOT NULL" for part in parts)
    if not call.distinct:
        return Value(f"(count(CASE WHEN {present} THEN 1 END){over})", types.INT, aggregate=aggregate)
    keys = ", ".join(_counted_key(part) for part in parts)
    key = keys if len(parts) == 1 else f"CASE WHEN {present} THEN ({keys}) END"
    return Value(f"(count(DISTINCT {key}){over})", types.INT, aggregate=aggregate)


def _way(call: Call) -> SqlError:
    return unsupported(f"call {call.name} in this way", authored(call.node)[:200])


def _counted(value: Value) -> str:
    """Return what counts: the null of JSON does not."""
    return f"nullif({value.sql}, 'null'::JSON)" if value.kind is Kind.VARIANT else value.sql


def _counted_key(value: Value) -> str:
    return sortable(replace(value, sql=_counted(value)))


def _checked(call: Call, *counts: int, order: bool = False, distinct: bool = False) -> list[Value]:
    """Return the arguments of a call in which nothing stands that would be left out."""
    if len(call.arguments) not in counts or call.named or call.ignore_nulls:
        raise _way(call)
    if bool(call.order) != order or (call.distinct and not distinct):
        raise _way(call)
    return call.values()


def _made(call: Call, sql: str, kind: Type) -> Value:
    return Value(f"({sql})", kind, aggregate=call.over is None)


@form("AVG")
def average(call: Call) -> Value:
    """Return AVG: the quotient of the sum and the count, with the digits of a quotient.

    https://docs.snowflake.com/en/sql-reference/functions/avg
    """
    (value,) = _checked(call, 1, distinct=True)
    if value.kind is not Kind.NUMBER:
        return by_signature(call)
    distinct, over = "DISTINCT " if call.distinct else "", call.over_sql()
    total = Value(f"sum({distinct}{value.sql}){over}", replace(value.type, precision=MOST_DIGITS))
    number = Value(f"nullif(count({distinct}{value.sql}){over}, 0)", types.INT)
    return replace(quotient(total, number), aggregate=call.over is None)


@form("RATIO_TO_REPORT")
def ratio_to_report(call: Call) -> Value:
    """Return the share of a value in the sum of the partition.

    https://docs.snowflake.com/en/sql-reference/functions/ratio_to_report
    """
    (value,) = _checked(call, 1)
    if value.kind is not Kind.NUMBER or call.over is None:
        return by_signature(call)
    refuse_order(call)
    total = Value(f"sum({value.sql}){call.over_sql()}", replace(value.type, precision=MOST_DIGITS))
    return replace(quotient(value, total, over_zero="share"), aggregate=False)


@form("VARIANCE", "VARIANCE_SAMP", "VAR_SAMP", "VARIANCE_POP", "VAR_POP")
def variance(call: Call) -> Value:
    """Return a variance: exact for NUMBER, with the digits of a quotient of squares.

    https://docs.snowflake.com/en/sql-reference/functions/var_pop, https://docs.snowflake.com/en/sql-reference/functions/var_samp
    """
    (value,) = _checked(call, 1, distinct=True)
    squared = value.type.scale * 2
    if value.kind is not Kind.NUMBER or squared > MOST_DIGITS:
        return by_signature(call)
    distinct, over, whole = "DISTINCT " if call.distinct else "", call.over_sql(), unscaled(value)
    number = f"count({distinct}{whole}){over}::HUGEINT"
    total, squares = f"sum({distinct}{whole}){over}", f"sum({distinct}{whole} * {whole}){over}"
    if call.distinct:
        squares = f"list_sum(list_transform(list(DISTINCT {whole}){over}, lambda x: x * x))"
    rows = number if call.name.endswith("POP") else f"({number} - 1)"
    scale = quotient(Value("", Type(Kind.NUMBER, MOST_DIGITS, squared)), Value("", types.INT)).type.scale
    top, bottom = f"({number} * {squares} - {total} * {total})", f"nullif({number} * {rows}, 0)"
    divided = macro("long_quotient", top, bottom, f"1{'0' * (scale - squared)}::HUGEINT")
    return _made(call, scaled(divided, scale), Type(Kind.NUMBER, MOST_DIGITS, scale))


@form("MEDIAN")
def median(call: Call) -> Value:
    """Return MEDIAN: PERCENTILE_CONT(0.5).

    https://docs.snowflake.com/en/sql-reference/functions/median
    """
    (value,) = _checked(call, 1)
    if value.kind is not Kind.NUMBER:
        return by_signature(call)
    refuse_order(call)
    return _percentile(call, replace(value, sql=_wide(value)), "0.5", "ASC")


def _wide(value: Value) -> str:
    return f"CAST({value.sql} AS DECIMAL({MOST_DIGITS},{value.type.scale}))"


@form("PERCENTILE_CONT", "PERCENTILE_DISC")
def percentile(call: Call) -> Value:
    """Return PERCENTILE_CONT or PERCENTILE_DISC, of exact numbers exactly.

    https://docs.snowflake.com/en/sql-reference/functions/percentile_cont
    https://docs.snowflake.com/en/sql-reference/functions/percentile_disc
    """
    (share,) = _checked(call, 1, order=True)
    refuse_order(call)
    if share.kind is not Kind.NUMBER or share.constant is None or not 0 <= Decimal(share.constant) <= 1:
        raise _way(call)
    (ordered, *others) = call.order
    if others or Decimal(share.constant) != Decimal(share.constant).quantize(_SHARE):
        raise _way(call)
    value, direction = call.this.value(ordered.this), "DESC" if ordered.args.get("desc") else "ASC"
    if call.name == "PERCENTILE_CONT":
        value = values.as_number(value) if value.kind is Kind.NUMBER else values.converted(value, types.FLOAT)
        sql = _wide(value) if value.kind is Kind.NUMBER else value.sql
        return _percentile(call, replace(value, sql=sql), share.constant, direction)
    items = _items(call, value, direction)
    place = f"greatest(ceil({share.constant}::DECIMAL(4,3) * len({items}))::BIGINT, 1)"
    return _made(call, f"({items})[{place}]", value.type)


def _items(call: Call, value: Value, direction: str) -> str:
    over = call.over_sql()
    return f"list({value.sql} ORDER BY {sortable(value)} {direction}) FILTER ({value.sql} IS NOT NULL){over}"


def _percentile(call: Call, value: Value, share: str, direction: str) -> Value:
    items = _items(call, value, direction)
    sql = macro("between_items", f"({items})", f"({share}::DECIMAL(4,3) * (len({items}) - 1))")
    if value.kind is Kind.FLOAT:
        return _made(call, sql, types.FLOAT)
    kind = Type(Kind.NUMBER, MOST_DIGITS, min(value.type.scale + _EXTRA_MEDIAN_SCALE, MOST_DIGITS))
    return _made(call, f"CAST({sql} AS {kind.duck})", kind)


@form("LISTAGG")
def listagg(call: Call) -> Value:
    """Return LISTAGG: the empty text over nothing, without what is NULL.

    https://docs.snowflake.com/en/sql-reference/functions/listagg
    """
    value, *rest = _checked(call, 1, 2, order=bool(call.order), distinct=True)
    refuse_order(call)
    if rest and (rest[0].constant is None or not rest[0].is_text_constant):
        raise _way(call)
    separator = rest[0].sql if rest else "''"
    if call.distinct and call.order:
        return _listed_once(call, value, separator)
    distinct, text = "DISTINCT " if call.distinct else "", values.as_text(value).sql
    sql = f"string_agg({distinct}{text}, {separator}{call.order_sql()}){call.over_sql()}"
    return _made(call, f"coalesce({sql}, '')", types.TEXT)


def _listed_once(call: Call, value: Value, separator: str) -> Value:
    """Return LISTAGG(DISTINCT x) WITHIN GROUP (ORDER BY x): Snowflake orders by nothing but the value itself."""
    (ordered, *others) = call.order
    if others or ordered.this != call.arguments[0] or sortable(value) != value.sql:
        raise _way(call)
    items = f"list(DISTINCT {value.sql} ORDER BY {order_key(call.this, ordered)}){call.over_sql()}"
    text = values.as_text(replace(value, sql="item")).sql
    texts = f"list_transform({items}, lambda item: {text})"
    return _made(call, f"coalesce(array_to_string({texts}, {separator}), '')", types.TEXT)


@form("MIN_BY", "MAX_BY")
def extreme_by(call: Call) -> Value:
    """Return MIN_BY or MAX_BY: rows without the second value do not count, those without the first do.

    https://docs.snowflake.com/en/sql-reference/functions/max_by
    """
    value, key, *number = _checked(call, 2, 3)
    refuse_order(call)
    word, direction = ("min", "ASC") if call.name == "MIN_BY" else ("max", "DESC")
    if not number:
        return _made(call, f"arg_{word}_null({value.sql}, {sortable(key)}){call.over_sql()}", value.type)
    if not (number[0].constant or "").isdecimal():
        raise _way(call)
    failure = macro("fail", f"'unsupported|{call.name} of NULL with a number'")
    item = f"CASE WHEN {value.sql} IS NULL THEN {failure}::JSON ELSE {values.as_json(value).sql} END"
    items = f"list({item} ORDER BY {sortable(key)} {direction}) FILTER ({key.sql} IS NOT NULL){call.over_sql()}"
    return _made(call, f"to_json(({items})[1:{number[0].constant}])", types.ARRAY)
