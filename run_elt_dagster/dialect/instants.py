"""Dates, times and timestamps: reading and writing them with formats, and sums with intervals.

https://docs.snowflake.com/en/sql-reference/date-time-input-output
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.calls import Call, by_values, form
from run_elt_dagster.dialect.catalogue import ELEMENTS, PARTS, with_macros
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.parser import authored
from run_elt_dagster.dialect.types import INSTANTS, Kind, Type
from run_elt_dagster.dialect.values import Part, Value, cast, converted, literal_sql, macro

_TARGETS = {
    "DATE": types.DATE,
    "TIME": types.TIME,
    "TIMESTAMP": types.NTZ,
    "TIMESTAMP_NTZ": types.NTZ,
    "TIMESTAMP_LTZ": types.LTZ,
    "TIMESTAMP_TZ": types.TZ,
}
_NAMES = {Kind.DATE: "date", Kind.TIME: "time", Kind.NTZ: "ntz", Kind.LTZ: "ltz", Kind.TZ: "tz"}
_PIECE = re.compile(
    rf'"(?P<quoted>[^"]*)"|(?P<element>{"|".join(re.escape(name) for name in ELEMENTS)})|(?P<other>.)',
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z0-9:]+")
# These are elements only where no letter is beside them: `DDD` and `MOD` are not known.
_ALONE = frozenset({"D", "MO"})
_LONGEST_FOREIGN_ELEMENT = 4
_DEFAULTS = {"year": "1970", "month": "1", "day": "1"}
_INTERVAL_ITEM = re.compile(r"\s*([+-]?\d+)\s*([A-Za-z]*)\s*")
_MOST_SCALE = 9


@form(*(f"{prefix}TO_{name}" for prefix in ("", "TRY_") for name in _TARGETS), "DATE", "TIME")
def _read(call: Call) -> Value:
    """Return TO_DATE and its like: https://docs.snowflake.com/en/sql-reference/functions/to_date."""
    trying = call.name.startswith("TRY_")
    to = _TARGETS[call.name.removeprefix("TRY_").removeprefix("TO_")]
    if call.named or call.distinct or call.over or call.order or len(call.arguments) not in {1, 2}:
        raise _way_refused(call)
    value, *options = call.values()
    if options and options[0].is_text_constant and str(options[0].constant).upper() == "AUTO":
        options = []
    if trying and value.kind not in {Kind.TEXT, Kind.NULL}:
        raise _way_refused(call)
    if not options or value.kind is Kind.NULL:
        return cast(value, to, trying=trying)
    if value.kind is Kind.TEXT and options[0].is_text_constant:
        return _with_format(value, str(options[0].constant), to, trying=trying)
    if value.kind is Kind.NUMBER and value.type.scale == 0 and to.kind in INSTANTS:
        return _scaled(call, value, options[0], to)
    raise _way_refused(call)


def _way_refused(call: Call) -> SqlError:
    return unsupported(f"call {call.name} in this way", authored(call.node)[:200])


def _scaled(call: Call, value: Value, scale: Value, to: Type) -> Value:
    """Return a number of seconds, milliseconds and so on since 1970 as a timestamp."""
    if scale.kind is not Kind.NUMBER or scale.constant not in {str(digits) for digits in range(_MOST_SCALE + 1)}:
        raise _way_refused(call)
    moment = macro("scaled_to_ntz", value.sql, str(scale.constant))
    return cast(Value(moment, types.NTZ, aggregate=value.aggregate), to)


def _with_format(value: Value, text: str, to: Type, *, trying: bool) -> Value:
    """Return text read with a format."""
    pattern, names = _pattern(text, to)
    parts = {name: f"sf_part.{name}" for name in names}
    if "century" in parts:
        parts["year"] = macro("full_year", parts["century"])
    if "named" in parts:
        parts["month"] = macro("month_number", parts["named"])
    if "twelfth" in parts:
        parts["hour"] = macro("full_hour", parts["twelfth"], parts["half"])
    if "fraction" in parts:
        digits = next(literal[2:] or "9" for literal, element in _pieces(text) if element and element[1] == "fraction")
        parts["fraction"] = macro("digits_of", parts["fraction"], digits)
    order = ("found", "year", "month", "day", "hour", "minute", "second", "fraction", "zone")
    reading = macro("reading", *(parts.get(name, literal_sql(_DEFAULTS.get(name, ""))) for name in order))
    if "weekday" in parts:
        reading = macro("on_weekday", reading, parts["weekday"])
    extracted = f"regexp_extract({value.sql}, {literal_sql(pattern)}, [{', '.join(map(literal_sql, names))}])"
    found = macro(f"reading_to_{_NAMES[to.kind]}", f"list_transform([{extracted}], lambda sf_part: {reading})[1]")
    if trying:
        return Value(found, to, aggregate=value.aggregate)
    what = "timestamp" if to.kind in INSTANTS else _NAMES[to.kind]
    # DuckDB 2.0.0 may evaluate what stands behind a STRUCT in coalesce(), so the failure is a whole value of the type.
    failed = f"CAST({macro('format_refused', value.sql, literal_sql(what), literal_sql(text))} AS {to.duck})"
    return Value(f"coalesce({found}, {failed})", to, aggregate=value.aggregate)


def _pattern(text: str, to: Type) -> tuple[str, Sequence[str]]:
    """Return the regular expression of a format, and what its groups are."""
    pieces, names, pattern = _pieces(text), ["found"], ""
    for index, (literal, element) in enumerate(pieces):
        if element is None:
            pattern += re.escape(literal)
            continue
        read, name, _, needs = element
        beside = [pieces[at][1] for at in (index - 1, index + 1) if 0 <= at < len(pieces)]
        if any(other is not None and "\\d" in other[0] for other in beside):
            # Where nothing separates the digits, each element has all of its own.
            read = read.replace(r"\d{1,2}", r"\d{2}").replace(r"\d{1,4}", r"\d{4}").replace(r"?\d", r"\d")
        if name in names or (to.kind is Kind.TIME and needs != "time"):
            raise unsupported("read text with this format", text)
        if name:
            # More digits than FF3 says are read, and refused later.
            read = r"\d{1,9}" if name == "fraction" else read
            names.append(name)
            pattern += f"({read})"
    clashes = {"hour", "twelfth"} <= {*names} or {"year", "century"} <= {*names} or {"month", "named"} <= {*names}
    if clashes or ("half" in names) != ("twelfth" in names):
        raise unsupported("read text with this format", text)
    return f"^({pattern})$", names


def _pieces(text: str) -> Sequence[tuple[str, Sequence[str] | None]]:
    """Return the pieces of a format, each a literal or an element.

    Raises:
        SqlError: It holds what is not known to be either, or no element.
    """
    pieces: list[tuple[str, Sequence[str] | None]] = []
    for match in _PIECE.finditer(text):
        if match["quoted"] is not None:
            pieces.append((match["quoted"], None))
        elif _is_element(match, text):
            pieces.append((match[0], ELEMENTS[match[0].upper()]))
        elif _is_literal(match, text):
            pieces.append((match[0], None))
        else:
            raise unsupported("read this format", f"{match[0]!r} in {text!r}")
    if not any(element for _, element in pieces):
        raise unsupported("format dates and times with this", repr(text))
    return pieces


def _is_element(match: re.Match[str], text: str) -> bool:
    beside = text[max(match.start() - 1, 0) : match.start()] + text[match.end() : match.end() + 1]
    element = match["element"]
    return element is not None and not (element.upper() in _ALONE and any(letter.isalpha() for letter in beside))


def _is_literal(match: re.Match[str], text: str) -> bool:
    """Return whether a character stands for itself: `MONTH`, `DDD` or `Q`, elements elsewhere, do not."""
    letter = match[0]
    if not letter.isalnum() or letter in "TZ":
        return True
    # A word without any element in it is a literal, as in 'hh24:mi hours', if it is too long to be an element elsewhere.
    word = next((word for word in _WORD.finditer(text) if word.end() > match.start()), None)
    return (
        word is not None and len(word[0]) > _LONGEST_FOREIGN_ELEMENT and word[0].isalpha() and not _elements_in(word[0])
    )


def _elements_in(word: str) -> bool:
    return any(_is_element(piece, word) for piece in _PIECE.finditer(word))


def formatted(call: Call) -> Value:
    """Return TO_CHAR of a date, time or timestamp with a format: https://docs.snowflake.com/en/sql-reference/functions/to_char.

    Raises:
        SqlError: The format is no constant, or not known.
    """
    value, *options = call.values()
    if call.named or call.distinct or call.over or len(options) != 1 or not options[0].is_text_constant:
        raise _way_refused(call)
    text = str(options[0].constant)
    known = {Kind.TIME: {"time"}, Kind.LTZ: {"date", "time", "zone"}, Kind.TZ: {"date", "time", "zone"}}
    written: list[str] = []
    for literal, element in _pieces(text):
        if element is not None and element[3] and element[3] not in known.get(value.kind, {"date", "time"}):
            raise unsupported(f"write a {value.kind} with this format", text)
        written.append(_written(literal, element))
    names = {element[1] for _, element in _pieces(text) if element is not None}
    if {"hour", "half"} <= names:
        raise unsupported("write AM or PM beside the hour of 24", text)
    parts = _joined(written)
    local = (
        converted(value, types.NTZ)
        if value.kind is not Kind.TIME
        else replace(value, sql=macro("time_to_ntz", value.sql))
    )
    offset = f'({value.sql})."offset"' if value.kind is Kind.TZ else "0"
    sql = with_macros(" || ".join(parts).replace("{o}", offset))
    bound = len(parts) > 1
    sql = (
        f"list_transform([{local.sql}], lambda sf_x: {sql.replace('{x}', 'sf_x')})[1]"
        if bound
        else sql.replace("{x}", local.sql)
    )
    return Value(f"({sql})", types.TEXT, aggregate=value.aggregate)


def _written(literal: str, element: Sequence[str] | None) -> str:
    return literal.replace("%", "%%") if element is None else element[2]


def _joined(written: Sequence[str]) -> Sequence[str]:
    """Return the SQL of pieces: neighbours that strftime can write become one."""
    parts: list[str] = []
    for piece in written:
        is_sql = "{x}" in piece or "{o}" in piece
        if not is_sql and parts and parts[-1].startswith("\0"):
            parts[-1] += piece
        else:
            parts.append(piece if is_sql else f"\0{piece}")
    return [f"strftime({{x}}, {literal_sql(part[1:])})" if part.startswith("\0") else part for part in parts]


def moved(value: Value, interval: exp.Interval, sign: str) -> Value:
    """Return a value moved by an INTERVAL constant: https://docs.snowflake.com/en/sql-reference/data-types-datetime#interval-constants."""
    if value.kind is Kind.DATE:
        value = converted(value, types.NTZ)
    if value.kind not in INSTANTS | {Kind.TIME} or not isinstance(interval.this, exp.Literal):
        raise unsupported("add an interval", authored(interval)[:200])
    unit = interval.args.get("unit")
    # The order counts: a day and then a year is not a year and then a day.
    for item in f"{interval.this.name} {unit.name if unit is not None else ''}".split(","):
        match = _INTERVAL_ITEM.fullmatch(item)
        part, group = PARTS.get((match[2].lower() if match else "-") or "second", ("", ""))
        if match is None or group not in {"day", "time", "small", "nano"}:
            raise unsupported("add an interval", authored(interval)[:200])
        number = str(-int(match[1]) if sign == "-" else int(match[1]))
        count = Value(f"({number})::BIGINT", types.INT, constant=number)
        value = by_values("DATEADD", [Part(part, types.TEXT, group=group), count, value])
    return value


def sum_of(one: Value, other: Value, sign: str) -> Value | None:
    """Return what `+` and `-` make of dates and numbers, None where both are numbers.

    https://docs.snowflake.com/en/sql-reference/operators-arithmetic
    """
    aggregate = one.aggregate or other.aggregate
    if one.kind is Kind.DATE and other.kind is Kind.DATE and sign == "-":
        return Value(f"datediff('day', {other.sql}, {one.sql})", types.INT, aggregate=aggregate)
    if Kind.DATE in {one.kind, other.kind}:
        day, days = (one, other) if one.kind is Kind.DATE else (other, one)
        if days.kind is Kind.NUMBER and days.type.scale == 0 and (day is one or sign == "+"):
            return Value(f"({day.sql} {sign} CAST({days.sql} AS INTEGER))", types.DATE, aggregate=aggregate)
    if {one.kind, other.kind} & (INSTANTS | {Kind.DATE, Kind.TIME}):
        raise unsupported("add or subtract these types", f"{one.kind} {sign} {other.kind}")
    return None
