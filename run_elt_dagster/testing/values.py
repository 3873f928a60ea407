"""Values of test files in Snowflake's types: as rows of a table, and as what a result is compared with.

A value of YAML stands for one of a column only if it is exactly that: no digit is lost, no text becomes a number.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, cast

from sqlglot import exp
from sqlglot.errors import SqlglotError

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.dialect.types import INSTANTS, SEMI_STRUCTURED, Kind, Type
from run_elt_dagster.dialect.values import Value, literal_sql
from run_elt_dagster.testing.memory import json_value

# Number types whose digits are those of the values where the type states none.
_OF_ANY_SCALE = frozenset({"NUMBER", "DECIMAL", "DEC", "NUMERIC"})
_MICROSECONDS = 6
_MINUTE = timedelta(minutes=1)
_SPECIAL_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class MisfitError(ValueError):
    """A value that is none of its column; the text is a rule and a remedy."""


def type_of_text(text: str, given: Iterable[Any]) -> Type:
    """Return the type that a text names. A number without digits has as many decimals as the values.

    Raises:
        MisfitError: The embedded Snowflake has no such type.
    """
    try:
        written = exp.DataType.build(text, dialect="snowflake")
        found = types.from_sqlglot(written, cuts=True)
    except (SqlError, SqlglotError, ValueError) as error:
        raise MisfitError(
            "requires a type that the embedded Snowflake has, as in number(10, 2), varchar, date, timestamp_ntz or variant"
        ) from error
    if text.strip().upper() in _OF_ANY_SCALE:
        return _number_for(value for value in given if _is_number(value))
    return found


def require_digits(text: str, value: Any) -> None:
    """Refuse a fraction of a second that a type does not keep, as in timestamp_ntz(3).

    Raises:
        MisfitError: The value has more digits.
    """
    try:
        digits = types.fraction_digits(exp.DataType.build(text, dialect="snowflake"))
    except (SqlglotError, ValueError):
        return
    fraction = value.microsecond if isinstance(value, datetime) else 0
    if isinstance(value, str):
        written = re.search(r"\.(\d{1,6})$", value)
        fraction = int(written[1].ljust(_MICROSECONDS, "0")) if written else 0
    if digits is not None and fraction % 10 ** (_MICROSECONDS - digits):
        raise MisfitError(f"requires at most {digits} digits of a second, since the column is {text}")


def inferred_type(given: Iterable[Any]) -> Type | None:
    """Return the one type that holds all these values of YAML, None if there is none, or only NULL."""
    found = [value for value in given if value is not None]
    kinds = {_kind_of(value) for value in found}
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    return _number_for(found) if kind is Kind.NUMBER else Type(kind)


def _kind_of(value: Any) -> Kind:
    if isinstance(value, datetime):
        return Kind.NTZ if value.tzinfo is None else Kind.TZ
    for python, kind in ((bool, Kind.BOOLEAN), (int | Decimal, Kind.NUMBER), (str, Kind.TEXT), (date, Kind.DATE)):
        if isinstance(value, python):
            return kind
    return Kind.VARIANT


def _number_for(given: Iterable[Any]) -> Type:
    return Type(Kind.NUMBER, types.MOST_DIGITS, max((_scale(value) for value in given), default=0))


def _scale(value: int | Decimal) -> int:
    exponent = Decimal(value).normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


@dataclass(frozen=True)
class Json:
    """A semi-structured value that compares as Snowflake does: the order of keys does not count, 1.0 is 1, '1' is not.

    Attributes:
        parts: The kind of the value, and what it holds.
        text: The value as JSON.
    """

    parts: tuple[Any, ...]
    text: str

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same value."""
        return isinstance(other, Json) and self.parts == other.parts

    def __hash__(self) -> int:
        """Return the same for the same value."""
        return hash(self.parts)


@dataclass(frozen=True)
class Zoned:
    """A TIMESTAMP_TZ: an instant, and the offset that was written.

    Attributes:
        utc: The instant in UTC, without a zone.
        minutes: The offset.
    """

    utc: datetime
    minutes: int

    def __str__(self) -> str:
        """Return it as Snowflake shows it."""
        offset = timedelta(minutes=self.minutes)
        return (self.utc + offset).replace(tzinfo=timezone(offset)).isoformat(sep=" ")


def meant(value: Any, kind: Type) -> Any:
    """Return what a value of YAML means in a column, comparable with what `got` returns; None is NULL.

    Raises:
        MisfitError: It is no value of such a column.
    """
    return None if value is None else _MEANT[kind.kind](value, kind)


def _number(value: Any, kind: Type) -> Decimal:
    if not _is_number(value):
        raise MisfitError(f"requires a number, since the column is {kind}")
    return Decimal(value)


def _float(value: Any, _: Type) -> float:
    if isinstance(value, str) and value.lower() in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[value.lower()]
    if not _is_number(value):
        raise MisfitError("requires a number, NaN, inf or -inf, since the column is FLOAT")
    return float(value)


def _text(value: Any, _: Type) -> str:
    if not isinstance(value, str):
        raise MisfitError("requires text, since the column is VARCHAR. Quote it")
    return value


def _boolean(value: Any, _: Type) -> bool:
    if not isinstance(value, bool):
        raise MisfitError("requires true or false, since the column is BOOLEAN")
    return value


def _date(value: Any, _: Type) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise MisfitError("requires a date, as in 2030-01-31, since the column is DATE")
    return value


def _time(value: Any, _: Type) -> time:
    try:
        found = time.fromisoformat(str(value))
    except ValueError:
        found = None
    if not isinstance(value, str) or found is None or found.tzinfo is not None:
        raise MisfitError("requires a time, as in 10:00:00, since the column is TIME")
    return found


def _instant(value: Any, kind: Type) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - midnight, as Snowflake takes a date
    if not isinstance(value, datetime) or (kind.kind is Kind.NTZ and value.tzinfo is not None):
        without = " without a time zone" if kind.kind is Kind.NTZ else ""
        raise MisfitError(f"requires a timestamp{without}, as in 2030-01-31 10:00:00, since the column is {kind}")
    if kind.kind is Kind.NTZ:
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _zoned(value: Any, _: Type) -> Zoned:
    offset = value.utcoffset() if isinstance(value, datetime) else None
    if offset is None:
        raise MisfitError(
            "requires a timestamp with its time zone, as in 2030-01-31 10:00:00+02:00, since the column is TIMESTAMP_TZ"
        )
    return Zoned(value.astimezone(UTC).replace(tzinfo=None), offset // _MINUTE)


def _semi_structured(value: Any, kind: Type) -> Json:
    wanted: Mapping[Kind, type] = {Kind.ARRAY: list, Kind.OBJECT: dict}
    if not isinstance(value, wanted.get(kind.kind, object)):
        shape = "a list" if kind.kind is Kind.ARRAY else "`key: value` pairs"
        raise MisfitError(f"requires {shape}, since the column is {kind}")
    return _json(_plain(value))


def _binary(value: Any, _: Type) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise MisfitError("requires hexadecimal digits in quotes, as in '00FF', since the column is BINARY") from error


_MEANT: Mapping[Kind, Callable[[Any, Type], Any]] = {
    Kind.NUMBER: _number,
    Kind.FLOAT: _float,
    Kind.TEXT: _text,
    Kind.NULL: _text,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.NTZ: _instant,
    Kind.LTZ: _instant,
    Kind.TZ: _zoned,
    Kind.BINARY: _binary,
    **dict.fromkeys(SEMI_STRUCTURED, _semi_structured),
}


def _plain(value: Any) -> Any:
    """Return a value of YAML as JSON can have it: there are no dates in it, only their texts."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[Any]", value)]
    if isinstance(value, datetime):
        raise MisfitError("requires a timestamp inside of a semi-structured value in quotes, as text")
    return value.isoformat() if isinstance(value, date) else value


def _json(value: Any) -> Json:
    return Json(_parts(value), _json_text(value))


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return ("object", frozenset((key, _parts(each)) for key, each in value.items()))
    if isinstance(value, list):
        return ("array", *map(_parts, cast("list[Any]", value)))
    return (_kind_of(value).value if value is not None else "null", value)


def _json_text(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {_json_text(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json_text, cast("list[Any]", value))) + "]"
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def got(value: Any, kind: Type) -> Any:
    """Return a value of a result so that it can be compared; None is NULL."""
    if value is None:
        return None
    if kind.kind in SEMI_STRUCTURED:
        return _json(json.loads(value, parse_float=Decimal))
    if kind.kind is Kind.TZ:
        return value if isinstance(value, Zoned) else Zoned(value["utc"], value["offset"])
    if kind.kind is Kind.LTZ:
        return value.astimezone(UTC)
    return Decimal(value) if kind.kind is Kind.NUMBER else value


def constant(value: Any, kind: Type) -> Value:
    """Return a value of YAML as a constant of a column's type for a table of given rows.

    Raises:
        MisfitError: It is no value of such a column.
    """
    found = meant(value, kind)
    if found is None:
        return Value("NULL", types.NULL)
    _require_room(found, kind)
    if isinstance(found, Json):
        return json_value(found.text, kind)
    return Value(_constant_sql(found, kind), kind)


def _require_room(found: Any, kind: Type) -> None:
    """Refuse what the column would cut or round."""
    if isinstance(found, Decimal) and (_scale(found) > kind.scale or abs(found) >= 10 ** (kind.precision - kind.scale)):
        raise MisfitError(f"requires a number that {kind} holds exactly. Write it so, or state another type")
    if isinstance(found, str) and kind.length is not None and len(found) > kind.length:
        raise MisfitError(f"requires at most {kind.length} characters, since the column is {kind}")


def _constant_sql(found: Any, kind: Type) -> str:
    if isinstance(found, Zoned):
        return f"""{{'utc': TIMESTAMP '{found.utc.isoformat(sep=" ")}', 'offset': {found.minutes}}}"""
    if kind.kind in INSTANTS:
        return f"CAST('{found.isoformat(sep=' ')}' AS {kind.duck})"
    if kind.kind is Kind.BINARY:
        return f"unhex('{found.hex()}')"
    text = f"{found:f}" if isinstance(found, Decimal) else str(found)
    return f"CAST({literal_sql(text)} AS {kind.duck})"


_SHOWN: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (type(None), lambda _: "NULL"),
    (Json, lambda value: value.text),
    (bool, lambda value: str(value).lower()),
    (bytes, lambda value: value.hex().upper()),
    (Decimal, lambda value: f"{value:f}"),
    (datetime, lambda value: value.isoformat(sep=" ")),
)


def shown(value: Any) -> str:
    """Return a comparable value for a person; text that could be taken for something else is quoted."""
    for python, show in _SHOWN:
        if isinstance(value, python):
            return show(value)
    text = str(value)
    is_plain = text and text == text.strip() and text.isprintable() and text != "NULL"
    return text if is_plain or not isinstance(value, str) else repr(text)


def agree(one: Any, other: Any, *, tolerance: Decimal | None) -> bool:
    """Return whether two comparable values of a column are the same.

    A FLOAT may differ by the tolerance, and by a billionth of itself in any case: sums in another order do.
    """
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=float(tolerance or 0))
    return one == other
