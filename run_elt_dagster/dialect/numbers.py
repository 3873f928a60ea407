"""Functions of numbers whose result has digits that depend on the call.

https://docs.snowflake.com/en/sql-reference/functions-numeric
"""

import re
from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.calls import Call, call_of, form
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.operators import quotient, scaled, unscaled
from run_elt_dagster.dialect.parser import authored, function_name
from run_elt_dagster.dialect.types import INSTANTS, MOST_DIGITS, Kind, Type
from run_elt_dagster.dialect.values import Value, as_number, converted, macro

_MODES = {"HALF_AWAY_FROM_ZERO": "round", "HALF_TO_EVEN": "round_even"}


def arguments_of(call: Call, least: int, most: int) -> list[Value]:
    """Return the arguments of a plain call.

    Raises:
        SqlError: There are too few or too many (000938, 000939), or something stands around them.
    """
    if call.distinct or call.order or call.over is not None or call.ignore_nulls or call.named:
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    if not least <= (count := len(call.arguments)) <= most:
        few = count < least
        raise SqlError(
            f"SQL compilation error:\n{'not enough' if few else 'too many'} arguments for function [{call.name}], "
            f"expected {least if few else most}, got {count}",
            errno=938 if few else 939,
            sqlstate="22023",
        )
    return call.values()


def whole_constant(value: Value) -> int | None:
    """Return the whole number that a constant is, None for anything else."""
    text = value.constant if value.kind is Kind.NUMBER and value.constant is not None else ""
    return int(text) if re.fullmatch(r"-?\d+", text) else None


@form("ROUND")
def rounded(call: Call) -> Value:
    """Return ROUND: https://docs.snowflake.com/en/sql-reference/functions/round."""
    first, *others = arguments_of(call, 1, 3)
    mode = _MODES.get((others[1].constant or "").upper()) if others[1:] else "round"
    if mode is None:
        raise unsupported("round in this mode", authored(call.node)[:200])
    return _with_digits(mode, first, others[:1])


def _to_digits(name: str) -> Callable[[Call], Value]:
    def translate(call: Call) -> Value:
        first, *digits = arguments_of(call, 1, 2)
        return _with_digits(name, first, digits)

    return translate


form("CEIL")(_to_digits("ceil"))
form("FLOOR")(_to_digits("floor"))


@form("TRUNC", "TRUNCATE")
def truncated(call: Call) -> Value:
    """Return TRUNC of a number, or of a date: https://docs.snowflake.com/en/sql-reference/functions/trunc2."""
    first, *digits = arguments_of(call, 1, 2)
    if first.kind in INSTANTS | {Kind.DATE, Kind.TIME}:
        return call_of(call.this, exp.Anonymous(this="F$DATE_TRUNC", expressions=list(reversed(call.arguments))))
    return _with_digits("trunc", first, digits)


def _with_digits(name: str, given: Value, digits: list[Value]) -> Value:
    """Return a number made shorter by the macro of a name; each takes a whole number and what one of its new units is."""
    value = as_number(given)
    count = converted(digits[0], types.INT) if digits else Value("0", types.INT, constant="0")
    if value.kind is Kind.FLOAT:
        sql = macro(f"float_{name}", value.sql, f"CAST({count.sql} AS INTEGER)")
        return Value(sql, types.FLOAT, aggregate=value.aggregate)
    scale = value.type.scale
    wanted = whole_constant(digits[0]) if digits else 0
    if wanted is None:
        unit = macro("unit_of_digits", f"CAST({count.sql} AS BIGINT)", str(scale))
        shorter = f"({macro(f'to_{name}', unscaled(value), unit)} * {unit})"
        return Value(scaled(shorter, scale), replace(value.type, precision=MOST_DIGITS), aggregate=value.aggregate)
    if wanted >= scale:
        return replace(value, constant=None)
    kept = max(wanted, 0)
    kind = Type(Kind.NUMBER, min(value.type.precision - scale + kept + 1, MOST_DIGITS), kept)
    if name == "round" and wanted >= 0:
        # DuckDB's cast rounds half away from zero, too.
        return Value(f"CAST({value.sql} AS {kind.duck})", kind, aggregate=value.aggregate)
    if scale - wanted >= MOST_DIGITS:
        raise unsupported("round to so many digits", str(wanted))
    shorter = macro(f"to_{name}", unscaled(value), f"1{'0' * (scale - wanted)}::HUGEINT")
    if wanted < 0:
        shorter = f"({shorter} * 1{'0' * -wanted}::HUGEINT)"
    return Value(f"CAST({scaled(shorter, kept)} AS {kind.duck})", kind, aggregate=value.aggregate)


@form("MOD")
def remainder(call: Call) -> Value:
    """Return MOD: https://docs.snowflake.com/en/sql-reference/functions/mod."""
    return modulo(*arguments_of(call, 2, 2))


def modulo(one: Value, other: Value) -> Value:
    """Return the remainder: its sign is that of the first operand."""
    one, other = as_number(one), as_number(other)
    aggregate = one.aggregate or other.aggregate
    if Kind.FLOAT in {one.kind, other.kind}:
        one, other = converted(one, types.FLOAT), converted(other, types.FLOAT)
        return Value(macro("float_mod", one.sql, other.sql), types.FLOAT, aggregate=aggregate)
    kind = types.common([one.type, other.type]) or types.INT
    one, other = (converted(value, replace(kind, precision=MOST_DIGITS)) for value in (one, other))
    return Value(scaled(macro("mod", unscaled(one), unscaled(other)), kind.scale), kind, aggregate=aggregate)


@form("DIV0", "DIV0NULL")
def quotient_or_zero(call: Call) -> Value:
    """Return DIV0 and DIV0NULL: https://docs.snowflake.com/en/sql-reference/functions/div0."""
    one, other = arguments_of(call, 2, 2)
    return quotient(one, other, over_zero=call.name.lower())


@form("WIDTH_BUCKET")
def width_bucket(call: Call) -> Value:
    """Return WIDTH_BUCKET: https://docs.snowflake.com/en/sql-reference/functions/width_bucket."""
    *given, count = arguments_of(call, 4, 4)
    numbers = [as_number(value) for value in given]
    aggregate = any(value.aggregate for value in [*numbers, count])
    buckets = converted(count, types.INT).sql
    if any(value.kind is Kind.FLOAT for value in numbers):
        bounds = [converted(value, types.FLOAT).sql for value in numbers]
        return Value(macro("float_width_bucket", *bounds, buckets), types.INT, aggregate=aggregate)
    kind = Type(Kind.NUMBER, MOST_DIGITS, max(value.type.scale for value in numbers))
    bounds = [unscaled(converted(value, kind)) for value in numbers]
    return Value(macro("width_bucket", *bounds, buckets), types.INT, aggregate=aggregate)


@form("UNIFORM")
def uniform(call: Call) -> Value:
    """Return UNIFORM(low, high, RANDOM()) of whole numbers: any other generator gives numbers that only Snowflake knows.

    https://docs.snowflake.com/en/sql-reference/functions/uniform
    """
    low, high, _ = arguments_of(call, 3, 3)
    generator = call.arguments[2]
    random = function_name(generator) == "RANDOM" and not generator.expressions
    ends = [whole_constant(low), whole_constant(high)]
    if not random or None in ends:
        raise unsupported("draw such numbers", authored(call.node)[:200])
    span = f"({high.sql} - {low.sql} + 1)"
    return Value(f"CAST({low.sql} + floor(random() * {span}) AS BIGINT)", types.INT)


_TO_NUMBER = ("TO_NUMBER", "TO_DECIMAL", "TO_NUMERIC")


@form(*_TO_NUMBER, *(f"TRY_{name}" for name in _TO_NUMBER))
def to_number(call: Call) -> Value:
    """Return TO_NUMBER with its digits and its format: https://docs.snowflake.com/en/sql-reference/functions/to_decimal."""
    value, *others = arguments_of(call, 1, 4)
    trying = call.name.startswith("TRY_")
    if others and others[0].kind is Kind.TEXT:
        if value.kind is not Kind.TEXT:
            raise unsupported(f"call {call.name} with a format and arguments of these types", str(value.kind))
        value = _unformatted(value, others.pop(0), trying=trying)
    sizes = [whole_constant(size) for size in others]
    if None in sizes or sizes[2:] or (trying and value.kind not in {Kind.TEXT, Kind.NULL}):
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    precision, scale = [*(size or 0 for size in sizes), 0][:2] if sizes else (MOST_DIGITS, 0)
    return values.cast(value, Type(Kind.NUMBER, precision, scale), trying=trying)


def _unformatted(value: Value, template: Value, *, trying: bool) -> Value:
    """Return text that is written in a format as text that is a number."""
    written = (template.constant or "").upper().removeprefix("FM")
    name = "try_unformatted" if trying else "unformatted"
    if written == "TM9":
        return replace(value, sql=f"regexp_replace({value.sql}, '^(\\s*[+-])\\s+', '\\1')", constant=None)
    match = re.fullmatch(r"(MI|S)?(\$)?([09](?:[09,G]*[09])?)(?:[.D]([09]*))?", written)
    if match is None:
        raise unsupported("read numbers in this format", template.constant or template.sql)
    groups = re.split("[,G]", match[3])
    # All digits of a group that is not the first must be there, if any to its left is.
    whole = "|".join(
        ",".join([f"[0-9]{{1,{len(groups[first])}}}", *(f"[0-9]{{{len(group)}}}" for group in groups[first + 1 :])])
        for first in range(len(groups))
    )
    fraction = f"(?:\\.[0-9]{{0,{len(match[4])}}})?" if match[4] is not None else ""
    pattern = rf"\s*[+-]?\s*{chr(92) + '$' if match[2] else ''}(?:{whole}){fraction}\s*"
    return replace(value, sql=macro(name, value.sql, values.literal_sql(pattern)), constant=None)
