"""Functions that make text or choose between values, as far as a line of data cannot say it.

https://docs.snowflake.com/en/sql-reference/functions-string, https://docs.snowflake.com/en/sql-reference/functions-conditional
"""

import re
from dataclasses import replace

from sqlglot import exp

from run_elt_dagster.dialect import instants, types, values
from run_elt_dagster.dialect.calls import Call, form
from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.dialect.numbers import arguments_of, whole_constant
from run_elt_dagster.dialect.operators import compared, unscaled
from run_elt_dagster.dialect.parser import authored
from run_elt_dagster.dialect.types import INSTANTS, MOST_DIGITS, SEMI_STRUCTURED, Kind, Type
from run_elt_dagster.dialect.values import Value, as_text, converted, macro

_GROUP = 3
_FORMAT = re.compile(
    r"(?P<compact>FM)?(?P<before>S)?(?P<dollar>\$)?(?P<whole>[09](?:[09,G]*[09])?)"
    r"(?:(?P<point>[.D])(?P<fraction>[09]*))?(?P<after>S|MI)?"
)
_LITERALS = re.compile(r'(?:"([^"]*)")?([^"]*)(?:"([^"]*)")?')
_BINARY_FORMATS = {
    "HEX": "hex({})",
    "BASE64": "to_base64({})",
    "UTF-8": "@binary_string({})",
    "UTF8": "@binary_string({})",
}


@form("TO_CHAR", "TO_VARCHAR")
def to_text(call: Call) -> Value:
    """Return TO_CHAR: https://docs.snowflake.com/en/sql-reference/functions/to_char."""
    value, *formats = arguments_of(call, 1, 2)
    if not formats:
        return replace(as_text(value), type=types.TEXT)
    if value.kind in INSTANTS | {Kind.DATE, Kind.TIME}:
        return instants.formatted(call)
    template = formats[0].constant
    if template is None or value.kind not in {Kind.NUMBER, Kind.BINARY}:
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    if value.kind is Kind.NUMBER:
        return _formatted(value, template)
    if (written := _BINARY_FORMATS.get(template.upper())) is None:
        raise unsupported("write bytes in this format", template)
    sql = macro("binary_string", value.sql) if written.startswith("@") else written.format(value.sql)
    return Value(sql, types.TEXT, aggregate=value.aggregate)


def _formatted(value: Value, template: str) -> Value:
    """Return a number written in a format: https://docs.snowflake.com/en/sql-reference/sql-format-models."""
    match = _LITERALS.fullmatch(template)
    if match is None:
        raise unsupported("write numbers in this format", template)
    before, model, after = (part or "" for part in match.groups())
    hexadecimal = re.fullmatch("(S?)(0X+)", model.upper())
    if model.upper() == "TM9":
        number = as_text(value).sql
    elif model.upper() == "TME":
        number = macro("exponent_format", unscaled(value), str(value.type.scale))
    elif hexadecimal is not None:
        whole = unscaled(values.cast(value, types.INT))
        number = macro("hex_format", whole, str(len(hexadecimal[2])), str(bool(hexadecimal[1])))
    else:
        number = _modelled(value, model, template)
    sql = f"({values.literal_sql(before)} || {number} || {values.literal_sql(after)})"
    return Value(sql, types.TEXT, aggregate=value.aggregate)


def _modelled(value: Value, model: str, template: str) -> str:
    match = _FORMAT.fullmatch(model.upper())
    groups = re.split("[,G]", match["whole"]) if match is not None else []
    if match is None or (match["before"] and match["after"]) or any(len(group) != _GROUP for group in groups[1:]):
        raise unsupported("write numbers in this format", template)
    digits, fraction, dollar = "".join(groups), match["fraction"] or "", match["dollar"] or ""
    point = "." if match["point"] else ""
    width = len(match["whole"]) + len(point + fraction + dollar)
    sign = "+" if match["before"] else match["after"] or ""
    kind = Type(Kind.NUMBER, MOST_DIGITS, len(fraction))
    # A zero before the point asks for all digits from there to the point, one behind it for those up to there.
    least = len(digits) - digits.index("0") if "0" in digits else 0
    zeros = fraction.rfind("0") + 1
    sizes = [str(size) for size in (kind.scale, len(digits), least, zeros)]
    marks = [str(len(groups) > 1), *(values.literal_sql(mark) for mark in (point, dollar, sign))]
    written = unscaled(values.cast(value, kind))
    return macro("number_format", written, *sizes, *marks, str(bool(match["compact"])), str(width))


@form("SUBSTR", "SUBSTRING")
def substring(call: Call) -> Value:
    """Return SUBSTR: https://docs.snowflake.com/en/sql-reference/functions/substr."""
    text, *numbers = arguments_of(call, 2, 3)
    if text.kind is Kind.BINARY:
        raise unsupported("take a part of bytes", authored(call.node)[:200])
    places = [f"CAST({converted(number, types.INT).sql} AS BIGINT)" for number in numbers]
    constants = [whole_constant(number) for number in numbers]
    if all(constant is not None and constant > 0 for constant in constants):
        sql = f"substr({as_text(text).sql}, {', '.join(places)})"
    else:
        sql = macro("substr" if len(places) > 1 else "substr_from", as_text(text).sql, *places)
    return Value(sql, types.TEXT, aggregate=any(value.aggregate for value in [text, *numbers]))


@form("POSITION", "CHARINDEX")
def position(call: Call) -> Value:
    """Return POSITION in both of its ways: https://docs.snowflake.com/en/sql-reference/functions/position."""
    inside = call.arguments[0] if len(call.arguments) == 1 else None
    given = [inside.this, inside.args.get("field")] if isinstance(inside, exp.In) else call.arguments
    part, text, *start = arguments_of(replace(call, arguments=given), 2, 3)
    if Kind.BINARY in {part.kind, text.kind}:
        raise unsupported("look for bytes", authored(call.node)[:200])
    one, other = as_text(part), as_text(text)
    first = f"CAST({converted(start[0], types.INT).sql} AS BIGINT)" if start else "1"
    aggregate = any(value.aggregate for value in [part, text, *start])
    return Value(macro("position", one.sql, other.sql, first), types.INT, aggregate=aggregate)


@form("EQUAL_NULL")
def equal_null(call: Call) -> Value:
    """Return EQUAL_NULL: https://docs.snowflake.com/en/sql-reference/functions/equal_null."""
    one, other = arguments_of(call, 2, 2)
    return compared(one, other, "IS NOT DISTINCT FROM")


@form("NULLIF")
def null_if(call: Call) -> Value:
    """Return NULLIF: https://docs.snowflake.com/en/sql-reference/functions/nullif."""
    one, other = arguments_of(call, 2, 2)
    equal = compared(one, other, "=")
    return replace(one, sql=f"CASE WHEN {equal.sql} THEN NULL ELSE {one.sql} END", constant=None)


@form("DECODE")
def decode(call: Call) -> Value:
    """Return DECODE: NULL is equal to NULL. https://docs.snowflake.com/en/sql-reference/functions/decode."""
    subject, *others = arguments_of(call, 3, 1000)
    pairs = len(others) // 2
    searched, chosen = others[: pairs * 2 : 2], others[1 : pairs * 2 : 2]
    results, kind = values.unified([*chosen, *others[pairs * 2 :]], "DECODE")
    whens = " ".join(
        f"WHEN {compared(subject, search, 'IS NOT DISTINCT FROM').sql} THEN {result.sql}"
        for search, result in zip(searched, results, strict=False)
    )
    otherwise = results[-1].sql if len(others) % 2 else "NULL"
    aggregate = any(value.aggregate for value in [subject, *others])
    return Value(f"(CASE {whens} ELSE {otherwise} END)", replace(kind, length=None), aggregate=aggregate)


@form("GREATEST", "LEAST", "GREATEST_IGNORE_NULLS", "LEAST_IGNORE_NULLS")
def extreme(call: Call) -> Value:
    """Return GREATEST and LEAST: https://docs.snowflake.com/en/sql-reference/functions/greatest."""
    items, kind = values.unified(arguments_of(call, 1, 1000), call.name)
    if kind.kind in SEMI_STRUCTURED | {Kind.TZ, Kind.BINARY}:
        raise unsupported(f"call {call.name} with arguments of these types", str(kind.kind))
    name = call.name.lower().removesuffix("_ignore_nulls")
    sql = f"{name}({', '.join(item.sql for item in items)})"
    if not call.name.endswith("_IGNORE_NULLS"):
        missing = " OR ".join(f"{item.sql} IS NULL" for item in items)
        sql = f"CASE WHEN {missing} THEN NULL ELSE {sql} END"
    return Value(sql, replace(kind, length=None), aggregate=any(item.aggregate for item in items))


@form("NVL2")
def nvl2(call: Call) -> Value:
    """Return NVL2: https://docs.snowflake.com/en/sql-reference/functions/nvl2."""
    subject, *choices = arguments_of(call, 3, 3)
    (one, other), kind = values.unified(choices, "NVL2")
    sql = f"CASE WHEN {subject.sql} IS NOT NULL THEN {one.sql} ELSE {other.sql} END"
    return Value(sql, replace(kind, length=None), aggregate=subject.aggregate or one.aggregate or other.aggregate)


_CONTEXT = {
    "CURRENT_ACCOUNT": "account",
    "CURRENT_DATABASE": "database",
    "CURRENT_REGION": "region",
    "CURRENT_ROLE": "role",
    "CURRENT_SCHEMA": "schema",
    "CURRENT_SESSION": "session_id",
    "CURRENT_USER": "user",
    "CURRENT_WAREHOUSE": "warehouse",
    "LAST_QUERY_ID": "last_query_id",
}


@form(*_CONTEXT)
def context(call: Call) -> Value:
    """Return what a session is about: https://docs.snowflake.com/en/sql-reference/functions-context."""
    arguments_of(call, 0, 0)
    key, known = _CONTEXT[call.name], call.this.queries.context
    if key not in known:
        raise unsupported("run this function", call.name)
    value = known[key]
    return converted(values.NULL, types.TEXT) if value is None else Value(values.literal_sql(value), types.TEXT)
