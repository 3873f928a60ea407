"""The types of columns: which one the values have, and the rule that a value obeys. Pure: DuckDB's SQL, and its answers.

https://docs.snowflake.com/en/sql-reference/intro-summary-data-types
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from run_elt_dagster.dialect.types import MOST_DIGITS, TZ_DUCK, Kind, Type
from run_elt_dagster.model.column_type import column_type

# More decimals are seldom an amount; then a FLOAT holds them, unless digits would be lost.
MOST_DECIMALS = 9
# A FLOAT tells apart numbers of so many digits: https://docs.snowflake.com/en/sql-reference/data-types-numeric#float
_FLOAT_DIGITS = 17
_PLAIN = "([0-9]+([.][0-9]*)?|[.][0-9]+)"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6}0*)?)?"
_OFFSET = "(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_TRUE, _FALSE = "('true', 't', 'yes', 'y', 'on', '1')", "('false', 'f', 'no', 'n', 'off', '0')"


class Form(StrEnum):
    """What a file itself says of a column's values."""

    TEXT_OF_ANYTHING = "text of anything"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    ARRAY = "array"
    OBJECT = "object"
    VARIANT = "variant"


@dataclass(frozen=True)
class Facts:
    """What all values of a column have in common, NULL left out.

    Attributes:
        values: How many there are.
        plain: Whether each is a number without an exponent.
        floating: Whether each is a number, with or without one.
        padded: Whether one is a number with a leading zero, such as 007.
        digits: Most digits before the point.
        decimals: Most digits behind the point.
        significant: Most digits in all, leading zeros left out.
        boolean: Whether each is `true` or `false`, in any case.
        date: Whether each is a date, as 2026-11-28.
        local: Whether each is a date or a time stamp without an offset.
        zoned: Whether each is a time stamp with an offset.
    """

    values: int = 0
    plain: bool = False
    floating: bool = False
    padded: bool = False
    digits: int = 0
    decimals: int = 0
    significant: int = 0
    boolean: bool = False
    date: bool = False
    local: bool = False
    zoned: bool = False


def facts_sql(text: str) -> str:
    """Return the aggregates of `Facts`, in order, over a column of text in DuckDB."""
    x = trimmed(text)
    whole, decimals = f"split_part(ltrim({x}, '-'), '.', 1)", f"split_part({x}, '.', 2)"
    mantissa = f"regexp_replace({x}, '[eE].*', '')"
    significant = f"ltrim(regexp_replace({mantissa}, '[^0-9]', '', 'g'), '0')"
    plain = _matches(x, f"-?{_PLAIN}")
    there = f"FILTER (WHERE {x} IS NOT NULL)"
    return ", ".join(
        f"{aggregate} {there}"
        for aggregate in (
            f"count({x})",
            f"bool_and({plain})",
            f"bool_and({_matches(x, f'-?{_PLAIN}([eE][+-]?[0-9]+)?')})",
            f"bool_or({_matches(x, '-?0[0-9].*')})",
            f"max(CASE WHEN {plain} THEN length(ltrim({whole}, '0')) END)",
            f"max(CASE WHEN {plain} THEN length({decimals}) END)",
            f"max(length({significant}))",
            f"bool_and(lower({x}) IN ('true', 'false'))",
            f"bool_and({valid_sql(text, Type(Kind.DATE))})",
            f"bool_and({valid_sql(text, Type(Kind.NTZ))})",
            f"bool_and({_matches(x, f'.*:.*{_OFFSET}')} AND {valid_sql(text, Type(Kind.TZ))})",
        )
    )


def kind_of(form: Form, facts: Facts) -> Type:
    """Return the type of a column whose values are so. What would lose a digit or a zero stays text."""
    known = _KINDS_OF_FORMS.get(form) if facts.values else Kind.TEXT
    if known is not None:
        return Type(known)
    if form is Form.TEXT_OF_ANYTHING and facts.boolean:
        return Type(Kind.BOOLEAN)
    if form is not Form.TEXT and facts.floating and not facts.padded:
        return _number(facts)
    moments = ((facts.date, Kind.DATE), (facts.local, Kind.NTZ), (facts.zoned, Kind.TZ))
    return Type(next((kind for is_so, kind in moments if is_so), Kind.TEXT))


@dataclass(frozen=True)
class Likeness:
    """A type that most values of a column of text have.

    Attributes:
        kind: The type.
        noun: What such a value is, in words.
        most: At most this share of the values has another one. What looks like a moment is seldom a code, and what looks like a number often.
    """

    kind: Kind
    noun: str
    most: float

    def type_for(self, facts: Facts) -> Type:
        """Return the type for the values that have it."""
        if self.kind is not Kind.NUMBER:
            return Type(self.kind)
        return Type(Kind.NUMBER, MOST_DIGITS, facts.decimals) if facts.decimals <= MOST_DECIMALS else Type(Kind.FLOAT)


LIKENESSES = (
    Likeness(Kind.NUMBER, "a number", 1 / 3),
    Likeness(Kind.BOOLEAN, "true or false", 1 / 3),
    Likeness(Kind.DATE, "a date", 1 / 2),
    Likeness(Kind.NTZ, "a time stamp", 1 / 2),
    Likeness(Kind.TZ, "a time stamp with an offset", 1 / 2),
)


def is_like_sql(text: str, kind: Kind) -> str:
    """Return DuckDB's condition that a value looks like one of a type in `LIKENESSES`. It is for values that are there."""
    x = trimmed(text)
    if kind is Kind.NUMBER:
        return _matches(x, f"-?{_PLAIN}([eE][+-]?[0-9]+)?")
    return f"lower({x}) IN ('true', 'false')" if kind is Kind.BOOLEAN else valid_sql(text, Type(kind))


def likeness_sql(text: str) -> str:
    """Return how many values of a column of text look like each of `LIKENESSES`, in DuckDB."""
    return ", ".join(f"count_if({is_like_sql(text, each.kind)})" for each in LIKENESSES)


def likeness_of(form: Form, facts: Facts, alike: Sequence[int]) -> Likeness | None:
    """Return the type that a column of text has but for few values; None where there is none, and where leading zeros make text of it."""
    best = max(alike)
    found = LIKENESSES[list(alike).index(best)]
    is_text = found.kind in (Kind.NUMBER, Kind.BOOLEAN) and (facts.padded or form is not Form.TEXT_OF_ANYTHING)
    others = facts.values - best
    return found if best and 0 < others <= found.most * facts.values and not is_text else None


_KINDS_OF_FORMS: Mapping[Form, Kind] = {
    Form.BOOLEAN: Kind.BOOLEAN,
    Form.ARRAY: Kind.ARRAY,
    Form.OBJECT: Kind.OBJECT,
    Form.VARIANT: Kind.VARIANT,
}


def _number(facts: Facts) -> Type:
    fits = facts.plain and facts.digits + facts.decimals <= MOST_DIGITS
    if fits and facts.decimals <= MOST_DECIMALS:
        return Type(Kind.NUMBER, MOST_DIGITS, facts.decimals)
    if facts.significant <= _FLOAT_DIGITS:
        return Type(Kind.FLOAT)
    return Type(Kind.NUMBER, MOST_DIGITS, facts.decimals) if fits and facts.decimals < MOST_DIGITS else Type(Kind.TEXT)


_DECLARED: Mapping[str, Kind] = {
    "NUMBER": Kind.NUMBER,
    "FLOAT": Kind.FLOAT,
    "TEXT": Kind.TEXT,
    "BINARY": Kind.BINARY,
    "BOOLEAN": Kind.BOOLEAN,
    "DATE": Kind.DATE,
    "TIME": Kind.TIME,
    "TIMESTAMP_NTZ": Kind.NTZ,
    "TIMESTAMP_LTZ": Kind.LTZ,
    "TIMESTAMP_TZ": Kind.TZ,
    "VARIANT": Kind.VARIANT,
    "ARRAY": Kind.ARRAY,
    "OBJECT": Kind.OBJECT,
}


def declared_kind(text: str) -> Type:
    """Return the type that a person declares, as in `number(10, 2)`. TIMESTAMP is TIMESTAMP_NTZ, as by default on an account.

    Raises:
        ValueError: Snowflake has no such type, or the embedded Snowflake has not.
    """
    found = column_type(text)
    kind = _DECLARED.get(found.names[0])
    if kind is None or found.elements:
        raise ValueError("requires a type that the embedded Snowflake has: docs/embedded.md lists the others")
    if kind is Kind.NUMBER:
        precision, scale = found.parameters or (MOST_DIGITS, 0)
        return Type(kind, precision, scale)
    return Type(kind, length=found.parameters[0] if kind is Kind.TEXT and found.parameters else None)


def trimmed(text: str) -> str:
    """Return a column of text without spaces around it; NULL where nothing is left."""
    return f"nullif(trim({text}), '')"


def valid_sql(text: str, kind: Type) -> str:
    """Return DuckDB's condition that a value can become one of a type without a loss. It is for values that are there."""
    if kind.kind is Kind.TEXT:
        return f"length({text}) <= {kind.length}" if kind.length else f"{text} IS NOT NULL"
    return _CONDITIONS[kind.kind](trimmed(text), kind)


def _is_number(x: str, kind: Type) -> str:
    decimals = f"length(rtrim(split_part({x}, '.', 2), '0')) <= {kind.scale}"
    return f"({_matches(x, f'[+-]?{_PLAIN}')} AND {decimals} AND {_casts(x, kind.duck)})"


def _is_float(x: str, _: Type) -> str:
    number = f"(?i)[+-]?({_PLAIN}(e[+-]?[0-9]+)?|inf(inity)?)|nan"
    # 1e400 is none: DuckDB makes infinity of it.
    is_finite = f"isinf(TRY_CAST({x} AS DOUBLE)) = contains(lower({x}), 'inf')"
    return f"({_matches(x, number)} AND {_casts(x, 'DOUBLE')} AND {is_finite})"


def _is_moment(x: str, kind: Type) -> str:
    offset = "" if kind.kind is Kind.NTZ else f"{_OFFSET}?"
    return f"({_matches(x, f'{_DATE}([ T]{_TIME} ?{offset})?')} AND {_casts(_local(x), 'TIMESTAMP')})"


def _is_json(x: str, kind: Type) -> str:
    wanted = {Kind.ARRAY: " = 'ARRAY'", Kind.OBJECT: " = 'OBJECT'"}.get(kind.kind, " IS NOT NULL")
    return f"CASE WHEN json_valid({x}) THEN json_type({x}){wanted} ELSE FALSE END"


def _casts(x: str, duck_type: str) -> str:
    return f"TRY_CAST({x} AS {duck_type}) IS NOT NULL"


_CONDITIONS: Mapping[Kind, Callable[[str, Type], str]] = {
    Kind.NUMBER: _is_number,
    Kind.FLOAT: _is_float,
    Kind.BOOLEAN: lambda x, _: f"(lower({x}) IN {_TRUE} OR lower({x}) IN {_FALSE})",
    Kind.DATE: lambda x, _: f"({_matches(x, _DATE)} AND {_casts(x, 'DATE')})",
    Kind.TIME: lambda x, _: f"({_matches(x, _TIME)} AND {_casts(x, 'TIME')})",
    **dict.fromkeys((Kind.NTZ, Kind.LTZ, Kind.TZ), _is_moment),
    Kind.BINARY: lambda x, _: _matches(x, "([0-9a-fA-F]{2})*"),
    **dict.fromkeys((Kind.VARIANT, Kind.ARRAY, Kind.OBJECT), _is_json),
}


def value_sql(text: str, kind: Type) -> str:
    """Return DuckDB's value of a type, in the type that the embedded Snowflake reads as Snowflake's."""
    x = trimmed(text)
    if kind.kind is Kind.TEXT:
        return text
    if kind.kind is Kind.BOOLEAN:
        return f"lower({x}) IN {_TRUE}"
    if kind.kind is Kind.BINARY:
        return f"unhex({x})"
    if kind.kind in {Kind.TZ, Kind.LTZ}:
        utc = f"CAST({_local(x)} AS TIMESTAMP) - to_minutes({_minutes(x)})"
        if kind.kind is Kind.LTZ:
            return f"timezone('UTC', {utc})"
        return f"CAST(CASE WHEN {x} IS NOT NULL THEN {{'utc': {utc}, 'offset': {_minutes(x)}}} END AS {TZ_DUCK})"
    return f"CAST({x} AS {kind.duck})"


RULES: Mapping[Kind, str] = {
    Kind.FLOAT: "digits, with a point or an exponent",
    Kind.BOOLEAN: "true or false, yes or no, 1 or 0",
    Kind.DATE: "a date as 2026-11-28",
    Kind.TIME: "a time as 23:59:58, with at most six digits of a second",
    Kind.NTZ: "a time stamp as 2026-11-28 23:59:58, with at most six digits of a second and no offset",
    Kind.LTZ: "a time stamp as 2026-11-28 23:59:58 +01:00, with at most six digits of a second",
    Kind.TZ: "a time stamp as 2026-11-28 23:59:58 +01:00, with at most six digits of a second",
    Kind.BINARY: "pairs of hexadecimal digits",
    Kind.VARIANT: "JSON",
    Kind.ARRAY: "a JSON array",
    Kind.OBJECT: "a JSON object",
}


def rule(kind: Type) -> str:
    """Return in words what a value of a type must look like."""
    if kind.kind is Kind.NUMBER:
        behind = f"at most {kind.scale} behind the point" if kind.scale else "none behind a point"
        return f"at most {kind.precision} digits, {behind}"
    return RULES.get(kind.kind, f"at most {kind.length} characters")


_LISTED = re.compile(r'\s*("(?:[^"]|"")+"|[^\s,"]+)\s+([^,()]+(?:\([^()]*\))?[^,()]*)\s*(?:,|$)')


def listed_types(text: str) -> dict[str, str]:
    """Return names and types of a list such as `id number, price number(10, 2)`.

    Raises:
        ValueError: It is no such list.
    """
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _LISTED.match(text, position)
        if match is None:
            raise ValueError(
                'requires names and types with commas between them, as in "id number, price number(10, 2)"'
            )
        found[match[1]] = match[2].strip()
        position = match.end()
    return found


def _matches(x: str, pattern: str) -> str:
    return f"regexp_full_match({x}, '{pattern}')"


def _local(x: str) -> str:
    """Return a time stamp's text without its offset; that of a date has none."""
    return f"regexp_replace({x}, '([0-9]:[0-9]{{2}}([.][0-9]+)?) ?{_OFFSET}$', '\\1')"


def _minutes(x: str) -> str:
    """Return the offset of a time stamp's text in minutes, 0 where it has none."""
    sign_hour_minute = f"regexp_extract({x}, ':[0-9.:]+ ?([+-])([0-9]{{2}}):?([0-9]{{2}})?$', %d)"
    sign, hour, minute = (sign_hour_minute % group for group in (1, 2, 3))
    number = "coalesce(TRY_CAST(%s AS INTEGER), 0)"
    return f"(CASE {sign} WHEN '-' THEN -1 ELSE 1 END * ({number % hour} * 60 + {number % minute}))"
