"""Values: what an expression is in DuckDB's SQL and in Snowflake's types, and how one becomes another.

https://docs.snowflake.com/en/sql-reference/data-type-conversion
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.catalogue import with_macros
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.types import INSTANTS, MOST_DIGITS, SEMI_STRUCTURED, Kind, Type

if TYPE_CHECKING:
    from sqlglot import Expr


@dataclass(frozen=True)
class Value:
    """An expression.

    Attributes:
        sql: DuckDB's SQL, which can stand beside any operator.
        type: Snowflake's type.
        constant: What a constant is, as text; None for anything else.
        aggregate: Whether it makes one value of many rows.
        nullable: Whether it may be NULL; True where it is not known.
        duck: DuckDB's type where it is another one than the type's own.
    """

    sql: str
    type: Type
    constant: str | None = None
    aggregate: bool = False

    @property
    def kind(self) -> Kind:
        """The family of its type."""
        return self.type.kind

    @property
    def is_text_constant(self) -> bool:
        """Whether it is a string constant."""
        return self.constant is not None and self.kind is Kind.TEXT


@dataclass(frozen=True)
class Part(Value):
    """The name of a part of a date or time, as its SQL, and its group in `parts.tsv`."""

    group: str = ""


NULL = Value("NULL", types.NULL)


def macro(name: str, *arguments: str) -> str:
    """Return the call of a macro."""
    return f"{with_macros(f'@{name}')}({', '.join(arguments)})"


def literal_sql(text: str) -> str:
    """Return a string constant in DuckDB's SQL."""
    return "'" + text.replace("'", "''") + "'"


def text_constant(text: str) -> Value:
    """Return a string constant."""
    return Value(literal_sql(text), Type(Kind.TEXT, length=len(text)), constant=text)


def as_text(value: Value) -> Value:
    """Return a value as text, as Snowflake writes it with the default formats.

    https://docs.snowflake.com/en/sql-reference/functions/to_char
    """
    names = {
        Kind.FLOAT: "float_text",
        Kind.DATE: "date_text",
        Kind.TIME: "time_text",
        Kind.NTZ: "ntz_text",
        Kind.LTZ: "ltz_text",
        Kind.TZ: "tz_text",
        Kind.VARIANT: "variant_text",
        Kind.ARRAY: "json_text",
        Kind.OBJECT: "json_text",
        Kind.BINARY: "binary_text",
    }
    if value.kind is Kind.TEXT:
        return value
    if value.kind is Kind.NULL:
        return Value("NULL::VARCHAR", types.TEXT)
    name = names.get(value.kind)
    if value.kind is Kind.NUMBER and 0 < value.type.scale >= value.type.precision - 1:
        name = "fraction_text"
    sql = macro(name, value.sql) if name else f"CAST({value.sql} AS VARCHAR)"
    return Value(sql, types.TEXT, aggregate=value.aggregate)


def converted(value: Value, to: Type) -> Value:
    """Return a value as Snowflake converts it by itself.

    Raises:
        SqlError: Snowflake does not, or it is not known how.
    """
    if value.type == to or (value.kind is to.kind and to.kind is not Kind.NUMBER and to.length is None):
        return value
    if value.kind is Kind.NULL:
        return Value(f"CAST(NULL AS {to.duck})", to)
    if value.kind is to.kind is Kind.NUMBER:
        # A number fits wherever its digits behind the point do: DuckDB fails where it has too many before it.
        wide = f"CAST({value.sql} AS DECIMAL({MOST_DIGITS},{to.scale}))"
        return replace(value, sql=value.sql if value.type.scale == to.scale else wide, type=to)
    return cast(value, to)


def cast(value: Value, to: Type, *, trying: bool = False) -> Value:
    """Return CAST, or TRY_CAST, of a value.

    https://docs.snowflake.com/en/sql-reference/functions/cast, https://docs.snowflake.com/en/sql-reference/functions/try_cast

    Raises:
        SqlError: There is no such conversion, or it is not known here.
    """
    if value.kind is Kind.NULL:
        return Value(f"CAST(NULL AS {to.duck})", to)
    if trying and value.kind is not Kind.TEXT:
        raise SqlError(
            f"SQL compilation error:\nFunction TRY_CAST cannot be used with arguments of types {value.type} and {to}",
            errno=1065,
            sqlstate="22023",
        )
    convert = _CASTS.get(to.kind)
    sql = convert(value, to, trying) if convert else None
    if sql is None:
        raise _no_conversion(value, to)
    return Value(sql, to, aggregate=value.aggregate)


def _no_conversion(value: Value, to: Type) -> SqlError:
    if value.kind in SEMI_STRUCTURED or to.kind in SEMI_STRUCTURED or to.kind in INSTANTS or to.kind is Kind.BINARY:
        return unsupported(f"convert {value.kind} to {to.kind}", value.kind)
    return SqlError(
        f"SQL compilation error:\ninvalid type [CAST({value.kind} AS {to})] for parameter 'TO_{to.kind}'",
        errno=1007,
        sqlstate="22023",
    )


def _to_text(value: Value, to: Type, trying: bool) -> str:  # noqa: FBT001 - the same for all kinds
    text = as_text(value).sql
    if to.length is None:
        return text
    return macro("try_limited" if trying else "limited", text, str(to.length))


def _to_number(value: Value, to: Type, trying: bool) -> str | None:  # noqa: FBT001, PLR0911 - a line for each source
    cast_sql = "TRY_CAST" if trying else "CAST"
    if value.kind is Kind.NUMBER:
        if value.type.scale == 0 and to == types.INT:
            return value.sql
        return f"CAST({value.sql} AS {to.duck})"
    if value.kind is Kind.FLOAT:
        return f"CAST({macro('float_round', value.sql, str(to.scale))} AS {to.duck})"
    if value.kind is Kind.BOOLEAN:
        return f"CAST({value.sql} AS INTEGER)::{to.duck}" if to.precision > to.scale else None
    if value.kind is Kind.TEXT:
        # DuckDB cuts with TRY_CAST where it rounds with CAST, so the digits behind the point are rounded apart.
        return f"{cast_sql}({macro('try_number_text' if trying else 'number_text', value.sql, str(to.scale))} AS {to.duck})"
    if value.kind is Kind.VARIANT:
        return f"CAST({macro('number_text', macro('variant_number_text', value.sql), str(to.scale))} AS {to.duck})"
    return None


def _to_float(value: Value, to: Type, trying: bool) -> str | None:  # noqa: FBT001
    if value.kind is Kind.NUMBER:
        return f"CAST({value.sql} AS {to.duck})"
    if value.kind is Kind.TEXT:
        return macro("try_text_float" if trying else "text_float", value.sql)
    if value.kind is Kind.BOOLEAN:
        return f"CAST(CAST({value.sql} AS INTEGER) AS DOUBLE)"
    if value.kind is Kind.VARIANT:
        return f"CAST({macro('variant_number_text', value.sql)} AS DOUBLE)"
    return value.sql if value.kind is Kind.FLOAT else None


def _to_boolean(value: Value, _to: Type, trying: bool) -> str | None:  # noqa: FBT001
    if value.kind in types.NUMERIC:
        return f"({value.sql} <> 0)"
    if value.kind is Kind.TEXT:
        return macro("try_text_boolean" if trying else "text_boolean", value.sql)
    if value.kind is Kind.VARIANT:
        return macro("variant_boolean", value.sql)
    return value.sql if value.kind is Kind.BOOLEAN else None


_INSTANT_MACROS = {Kind.DATE: "date", Kind.NTZ: "ntz", Kind.LTZ: "ltz", Kind.TZ: "tz", Kind.TIME: "time"}
_SOURCES = {
    Kind.TEXT: "text",
    Kind.DATE: "date",
    Kind.NTZ: "ntz",
    Kind.LTZ: "ltz",
    Kind.TZ: "tz",
    Kind.NUMBER: "number",
    Kind.FLOAT: "number",
    Kind.TIME: "time",
}
# The macro `<from>_to_<to>` exists for these: https://docs.snowflake.com/en/sql-reference/data-type-conversion
_INSTANT_CASTS = {
    Kind.DATE: {Kind.TEXT, Kind.VARIANT, Kind.NTZ, Kind.LTZ, Kind.TZ},
    Kind.TIME: {Kind.TEXT, Kind.VARIANT, Kind.NTZ, Kind.LTZ, Kind.TZ},
    Kind.NTZ: {Kind.TEXT, Kind.VARIANT, Kind.DATE, Kind.LTZ, Kind.TZ, Kind.NUMBER, Kind.FLOAT},
    Kind.LTZ: {Kind.TEXT, Kind.VARIANT, Kind.DATE, Kind.NTZ, Kind.TZ, Kind.NUMBER, Kind.FLOAT},
    Kind.TZ: {Kind.TEXT, Kind.VARIANT, Kind.DATE, Kind.NTZ, Kind.LTZ, Kind.NUMBER, Kind.FLOAT},
}


_PLAIN_INSTANT = re.compile(r"[1-9]\d{3}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?", re.ASCII)


def _plain_instant(value: Value, to: Type) -> str | None:
    """Return a constant in the commonest form as DuckDB's constant, which costs nothing in each row."""
    if not _PLAIN_INSTANT.fullmatch(str(value.constant)):
        return None
    try:
        moment = datetime.fromisoformat(str(value.constant))
    except ValueError:
        return None
    return f"DATE '{moment:%Y-%m-%d}'" if to.kind is Kind.DATE else f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}'"


def _to_instant(value: Value, to: Type, trying: bool) -> str | None:  # noqa: FBT001
    if value.kind is to.kind:
        return value.sql
    if value.kind not in _INSTANT_CASTS[to.kind]:
        return None
    if value.is_text_constant and to.kind in {Kind.DATE, Kind.NTZ} and (known := _plain_instant(value, to)) is not None:
        return known
    if value.kind is Kind.VARIANT:
        return macro(f"text_to_{_INSTANT_MACROS[to.kind]}", macro("variant_instant_text", value.sql))
    name = f"{'try_' if trying else ''}{_SOURCES[value.kind]}_to_{_INSTANT_MACROS[to.kind]}"
    return macro(name, value.sql)


def _to_variant(value: Value, _to: Type, _trying: bool) -> str | None:  # noqa: FBT001
    if value.kind in SEMI_STRUCTURED:
        return value.sql
    if value.kind in types.NUMERIC or value.kind in {Kind.TEXT, Kind.BOOLEAN}:
        return macro("to_variant", as_json(value).sql)
    return None


def as_json(value: Value) -> Value:
    """Return a value as an element of an array or an object, NULL where it is NULL."""
    if value.kind in SEMI_STRUCTURED:
        return value
    if value.kind is Kind.NUMBER:
        sql = macro("number_json", value.sql) if value.type.scale else f"CAST(CAST({value.sql} AS VARCHAR) AS JSON)"
        return Value(sql, types.VARIANT, aggregate=value.aggregate)
    if value.kind is Kind.FLOAT:
        return Value(macro("float_json", value.sql), types.VARIANT, aggregate=value.aggregate)
    if value.kind is Kind.BOOLEAN:
        return Value(f"to_json({value.sql})", types.VARIANT, aggregate=value.aggregate)
    if value.kind is Kind.NULL:
        return Value("NULL::JSON", types.VARIANT)
    if value.kind is Kind.BINARY:
        raise unsupported("put a BINARY into an array or an object", value.kind)
    return Value(macro("text_json", as_text(value).sql), types.VARIANT, aggregate=value.aggregate)


def _to_array(value: Value, _to: Type, _trying: bool) -> str | None:  # noqa: FBT001
    if value.kind is Kind.ARRAY:
        return value.sql
    return macro("variant_to_array", value.sql) if value.kind is Kind.VARIANT else None


def _to_object(value: Value, _to: Type, _trying: bool) -> str | None:  # noqa: FBT001
    if value.kind is Kind.OBJECT:
        return value.sql
    return macro("variant_to_object", value.sql) if value.kind is Kind.VARIANT else None


def _to_binary(value: Value, _to: Type, trying: bool) -> str | None:  # noqa: FBT001
    if value.kind is Kind.BINARY:
        return value.sql
    return macro("try_text_to_binary" if trying else "text_to_binary", value.sql) if value.kind is Kind.TEXT else None


_CASTS = {
    Kind.TEXT: _to_text,
    Kind.NUMBER: _to_number,
    Kind.FLOAT: _to_float,
    Kind.BOOLEAN: _to_boolean,
    Kind.DATE: _to_instant,
    Kind.TIME: _to_instant,
    Kind.NTZ: _to_instant,
    Kind.LTZ: _to_instant,
    Kind.TZ: _to_instant,
    Kind.VARIANT: _to_variant,
    Kind.ARRAY: _to_array,
    Kind.OBJECT: _to_object,
    Kind.BINARY: _to_binary,
}


def unified(values: Sequence[Value], what: str) -> tuple[list[Value], Type]:
    """Return values converted to their common type, and that type.

    Raises:
        SqlError: They have none.
    """
    to = types.common([value.type for value in values])
    if to is None:
        kinds = ", ".join(dict.fromkeys(str(value.kind) for value in values))
        raise unsupported(f"find the common type in {what}", kinds)
    if to.kind is Kind.NUMBER and any(value.is_text_constant for value in values):
        _check_numbers(values, what)
        to = _with_digits_of_constants(values)
    return [converted(value, replace(to, length=None)) for value in values], to


_ALL_NEEDED = frozenset({"IN", "VALUES", "GREATEST", "LEAST"})
_A_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?\s*", re.ASCII | re.IGNORECASE)


def _check_numbers(values: Sequence[Value], what: str) -> None:
    """Refuse text beside numbers that is none, as in COALESCE(n, 'none'), where not each row needs it.

    No page says whether Snowflake converts such a constant before it reads any row, and so fails, or only where a row needs it.

    Raises:
        SqlError: A constant is no number.
    """
    if what in _ALL_NEEDED or what.startswith("a comparison"):
        return
    for value in values:
        if value.is_text_constant and not _A_NUMBER.fullmatch(str(value.constant)):
            raise unsupported("tell when this text becomes a number", f"{value.sql} in {what}")


def _with_digits_of_constants(values: Sequence[Value]) -> Type:
    """Return a NUMBER that holds what string constants say beside numbers: '1.5' has one digit behind the point."""
    digits = [number_constant_type(value) if value.is_text_constant else value.type for value in values]
    return types.common(digits) or Type(Kind.NUMBER, MOST_DIGITS, 5)


def number_constant_type(value: Value) -> Type:
    """Return the type of the number that a string constant holds; that of any text where it is none."""
    whole, _, fraction = (value.constant or "").strip().lstrip("+-").partition(".")
    if not (whole + fraction).isdigit():
        return types.TEXT_AS_NUMBER
    return Type(Kind.NUMBER, min(len(whole) + len(fraction), MOST_DIGITS), len(fraction))


def as_number(value: Value) -> Value:
    """Return an operand of an operator of numbers.

    Raises:
        SqlError: It cannot become a number.
    """
    if value.kind in types.NUMERIC:
        return value
    if value.kind is Kind.NULL:
        return Value("CAST(NULL AS DECIMAL(38,0))", types.INT)
    if value.is_text_constant:
        return converted(value, number_constant_type(value))
    if value.kind is Kind.TEXT:
        return converted(value, types.TEXT_AS_NUMBER)
    if value.kind is Kind.VARIANT:
        return converted(value, types.FLOAT)
    if value.kind is Kind.BOOLEAN:
        return converted(value, types.INT)
    raise SqlError(
        f"SQL compilation error:\ninvalid type [{value.kind}] for an operator of numbers", errno=1007, sqlstate="22023"
    )


def position_of(node: "Expr") -> int | None:
    """Return the line on which a node stands, None where it is not known."""
    for part in node.walk():
        if line := part.meta.get("line"):
            return int(line)
    return None
