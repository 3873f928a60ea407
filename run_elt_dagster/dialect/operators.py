"""Operators between values: sums, products, quotients and comparisons, with the digits that Snowflake gives them.

https://docs.snowflake.com/en/sql-reference/operators-arithmetic and
https://docs.snowflake.com/en/sql-reference/operators-comparison
"""

from dataclasses import replace

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.types import MOST_DIGITS, SEMI_STRUCTURED, Kind, Type
from run_elt_dagster.dialect.values import Value, converted, macro

# Digits of a whole number that DuckDB's BIGINT always has room for.
LONGEST_BIGINT = 18
_MOST_PRODUCT_SCALE = 12
_EXTRA_QUOTIENT_SCALE = 6


def negated(value: Value) -> Value:
    """Return a number with the other sign."""
    value = values.as_number(value)
    constant = f"-{value.constant}" if value.constant is not None else None
    return replace(value, sql=f"(-{value.sql})", constant=constant)


def sum_of(one: Value, other: Value, sign: str) -> Value:
    """Return a sum or a difference."""
    one, other = values.as_number(one), values.as_number(other)
    kind = _sum_type(one, other)
    if kind.kind is Kind.FLOAT:
        one, other = converted(one, kind), converted(other, kind)
    return both(f"({_roomy(one, kind)} {sign} {other.sql})", kind, one, other)


def _sum_type(one: Value, other: Value) -> Type:
    if Kind.FLOAT in {one.kind, other.kind}:
        return types.FLOAT
    scale = max(one.type.scale, other.type.scale)
    whole = max(one.type.precision - one.type.scale, other.type.precision - other.type.scale)
    return Type(Kind.NUMBER, min(whole + scale + 1, MOST_DIGITS), scale)


def _roomy(operand: Value, kind: Type) -> str:
    """Return an operand whose sum or product has a type: DuckDB's BIGINT, of which constants are, has no room for 19 digits."""
    if kind.kind is Kind.NUMBER and not kind.scale and kind.precision > LONGEST_BIGINT and operand.type != types.INT:
        return f"CAST({operand.sql} AS DECIMAL({MOST_DIGITS},0))"
    return operand.sql


def product(one: Value, other: Value) -> Value:
    """Return a product."""
    one, other = values.as_number(one), values.as_number(other)
    if Kind.FLOAT in {one.kind, other.kind}:
        one, other = converted(one, types.FLOAT), converted(other, types.FLOAT)
        return both(f"({one.sql} * {other.sql})", types.FLOAT, one, other)
    digits = one.type.scale + other.type.scale
    scale = min(digits, max(one.type.scale, other.type.scale, _MOST_PRODUCT_SCALE))
    whole = one.type.precision - one.type.scale + other.type.precision - other.type.scale
    kind = Type(Kind.NUMBER, min(whole + scale, MOST_DIGITS), scale)
    sql = f"({_roomy(one, kind)} * {other.sql})"
    return both(sql if scale == digits else f"CAST({sql} AS {kind.duck})", kind, one, other)


def quotient(one: Value, other: Value, *, over_zero: str = "quotient") -> Value:
    """Return a quotient with the digits that Snowflake gives it.

    https://docs.snowflake.com/en/sql-reference/operators-arithmetic#division

    Args:
        one: What is divided.
        other: By what.
        over_zero: The macro that divides; each treats a zero its way.
    """
    one, other = values.as_number(one), values.as_number(other)
    if Kind.FLOAT in {one.kind, other.kind}:
        one, other = converted(one, types.FLOAT), converted(other, types.FLOAT)
        return both(macro(f"float_{over_zero}", one.sql, other.sql), types.FLOAT, one, other)
    scale = max(one.type.scale, min(one.type.scale + _EXTRA_QUOTIENT_SCALE, _MOST_PRODUCT_SCALE))
    power = scale + other.type.scale - one.type.scale
    top = f"({unscaled(one)} * 1{'0' * power}::HUGEINT)" if power else unscaled(one)
    sql = scaled(macro(over_zero, top, unscaled(other)), scale)
    return both(sql, Type(Kind.NUMBER, MOST_DIGITS, scale), one, other)


def unscaled(value: Value) -> str:
    """Return a NUMBER without its point, as a HUGEINT: exact where DuckDB's division is not."""
    scale = value.type.scale
    if value.type.precision + scale > MOST_DIGITS and scale:
        # The product could have more digits than DuckDB's DECIMAL.
        return f"CAST(replace(CAST({value.sql} AS VARCHAR), '.', '') AS HUGEINT)"
    return f"CAST({value.sql} * 1{'0' * scale}::HUGEINT AS HUGEINT)" if scale else f"CAST({value.sql} AS HUGEINT)"


def scaled(sql: str, scale: int) -> str:
    """Return a HUGEINT as a NUMBER with so many digits behind the point."""
    factor = f"CAST('0.{'0' * (scale - 1)}1' AS DECIMAL({scale + 1},{scale}))" if scale else ""
    return f"(CAST({sql} AS DECIMAL(38,0)) * {factor})" if scale else f"CAST({sql} AS DECIMAL(38,0))"


def compared(one: Value, other: Value, sign: str) -> Value:
    """Return a comparison of two values."""
    if one.kind is other.kind is Kind.NUMBER:
        return both(f"({one.sql} {sign} {other.sql})", types.BOOLEAN, one, other)
    if {one.kind, other.kind} == {Kind.LTZ, Kind.TZ}:
        one, other = values.cast(one, types.TZ), values.cast(other, types.TZ)
    if {one.kind, other.kind} == {Kind.BOOLEAN, Kind.NUMBER} and {one.constant, other.constant} & {"0", "1"}:
        # Another number is another truth or none: which of the two Snowflake converts no page says.
        one, other = converted(one, types.BOOLEAN), converted(other, types.BOOLEAN)
    plain = [value.kind for value in (one, other) if value.kind in _VARIANT_RANKS]
    (one, other), kind = values.unified([one, other], f"a comparison with {sign}")
    if kind.kind in SEMI_STRUCTURED and plain and sign == "=":
        rank = str(_VARIANT_RANKS[plain[0]])
        keys = [macro("variant_key_as", value.sql, rank) for value in (one, other)]
        return both(f"({keys[0]} = {keys[1]})", types.BOOLEAN, one, other)
    if kind.kind in SEMI_STRUCTURED:
        # A path is NULL where there is nothing, and a value of another type never compares as text would.
        return both(macro(f"variant_{_COMPARISONS[sign]}", one.sql, other.sql), types.BOOLEAN, one, other)
    if kind.kind is Kind.TZ:
        one, other = (replace(value, sql=f"({value.sql}).utc") for value in (one, other))
    return both(f"({one.sql} {sign} {other.sql})", types.BOOLEAN, one, other)


# How the key of a VARIANT sorts such values.
_VARIANT_RANKS = {Kind.BOOLEAN: 0, Kind.NUMBER: 1, Kind.FLOAT: 1, Kind.TEXT: 2}
_COMPARISONS = {
    "=": "equal",
    "<>": "unequal",
    "<": "less",
    "<=": "at_most",
    ">": "greater",
    ">=": "at_least",
    "IS DISTINCT FROM": "distinct",
    "IS NOT DISTINCT FROM": "same",
}


def both(sql: str, kind: Type, *operands: Value) -> Value:
    """Return what SQL makes of some values: an aggregate where one of them is."""
    return Value(sql, kind, aggregate=any(operand.aggregate for operand in operands))
