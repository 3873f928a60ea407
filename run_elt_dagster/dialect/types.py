"""Snowflake's data types, and how DuckDB stores each.

https://docs.snowflake.com/en/sql-reference/intro-summary-data-types
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlglot import exp

from run_elt_dagster.dialect.errors import SqlError, unsupported

MOST_DIGITS = 38


class Kind(StrEnum):
    """The families of types. NULL is that of a NULL without a type, INTERVAL that of a constant next to `+` and `-`."""

    NUMBER = "NUMBER"
    FLOAT = "FLOAT"
    TEXT = "VARCHAR"
    BOOLEAN = "BOOLEAN"
    DATE = "DATE"
    TIME = "TIME"
    NTZ = "TIMESTAMP_NTZ"
    LTZ = "TIMESTAMP_LTZ"
    TZ = "TIMESTAMP_TZ"
    VARIANT = "VARIANT"
    ARRAY = "ARRAY"
    OBJECT = "OBJECT"
    BINARY = "BINARY"
    NULL = "NULL"
    INTERVAL = "INTERVAL"


NUMERIC = frozenset({Kind.NUMBER, Kind.FLOAT})
INSTANTS = frozenset({Kind.NTZ, Kind.LTZ, Kind.TZ})
SEMI_STRUCTURED = frozenset({Kind.VARIANT, Kind.ARRAY, Kind.OBJECT})
# DuckDB tells apart what Snowflake takes for the same: two offsets of one instant, or two texts of one JSON value.
TOLD_APART = SEMI_STRUCTURED | {Kind.TZ}


@dataclass(frozen=True)
class Type:
    """One type.

    Attributes:
        kind: The family.
        precision: Digits of a NUMBER in all.
        scale: Digits of a NUMBER behind the point.
        length: Characters of a VARCHAR, None where only a query gives it.
    """

    kind: Kind
    precision: int = MOST_DIGITS
    scale: int = 0
    length: int | None = None

    def __str__(self) -> str:
        """Return the type as Snowflake writes it."""
        if self.kind is Kind.NUMBER:
            return f"NUMBER({self.precision},{self.scale})"
        return f"VARCHAR({self.length})" if self.kind is Kind.TEXT and self.length else str(self.kind)

    @property
    def duck(self) -> str:
        """DuckDB's type of such values while a statement is executed."""
        if self.kind is Kind.NUMBER:
            return f"DECIMAL({self.precision},{self.scale})"
        return _DUCK[self.kind]

    @property
    def stored(self) -> str:
        """DuckDB's type of a column of this type. It tells arrays and objects from other JSON."""
        return _STORED.get(self.kind, self.duck)


# A TIMESTAMP_TZ is the instant in UTC and the offset that was written: DuckDB's own type forgets the offset.
TZ_DUCK = 'STRUCT(utc TIMESTAMP, "offset" INTEGER)'
_DUCK = {
    Kind.FLOAT: "DOUBLE",
    Kind.TEXT: "VARCHAR",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.NTZ: "TIMESTAMP",
    Kind.LTZ: "TIMESTAMP WITH TIME ZONE",
    Kind.TZ: TZ_DUCK,
    Kind.VARIANT: "JSON",
    Kind.ARRAY: "JSON",
    Kind.OBJECT: "JSON",
    Kind.BINARY: "BLOB",
    Kind.NULL: "VARCHAR",
    Kind.INTERVAL: "INTERVAL",
}
_STORED = {Kind.ARRAY: "JSON[]", Kind.OBJECT: "MAP(VARCHAR, JSON)"}
_BY_DUCK = {
    **{duck: Type(kind) for kind, duck in _DUCK.items() if kind not in {Kind.NULL, Kind.ARRAY, Kind.OBJECT}},
    **{stored: Type(kind) for kind, stored in _STORED.items()},
    "BIGINT": Type(Kind.NUMBER),
    "INTEGER": Type(Kind.NUMBER),
    "SMALLINT": Type(Kind.NUMBER),
    "TINYINT": Type(Kind.NUMBER),
    "UTINYINT": Type(Kind.NUMBER),
    "USMALLINT": Type(Kind.NUMBER),
    "UINTEGER": Type(Kind.NUMBER),
    "UBIGINT": Type(Kind.NUMBER),
    "HUGEINT": Type(Kind.NUMBER),
    "FLOAT": Type(Kind.FLOAT),
    "TIMESTAMP_NS": Type(Kind.NTZ),
    '"NULL"': Type(Kind.TEXT),
}

INT = Type(Kind.NUMBER)
FLOAT = Type(Kind.FLOAT)
TEXT = Type(Kind.TEXT)
BOOLEAN = Type(Kind.BOOLEAN)
DATE = Type(Kind.DATE)
TIME = Type(Kind.TIME)
NTZ = Type(Kind.NTZ)
LTZ = Type(Kind.LTZ)
TZ = Type(Kind.TZ)
VARIANT = Type(Kind.VARIANT)
ARRAY = Type(Kind.ARRAY)
OBJECT = Type(Kind.OBJECT)
BINARY = Type(Kind.BINARY)
NULL = Type(Kind.NULL)
INTERVAL = Type(Kind.INTERVAL)
# What text becomes next to an operator of numbers: https://docs.snowflake.com/en/sql-reference/data-type-conversion
TEXT_AS_NUMBER = Type(Kind.NUMBER, 18, 5)

_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_BY_SQLGLOT = {
    exp.DType.DATE: DATE,
    exp.DType.TIME: TIME,
    exp.DType.TIMESTAMP: NTZ,
    exp.DType.TIMESTAMPNTZ: NTZ,
    exp.DType.DATETIME: NTZ,
    exp.DType.TIMESTAMPLTZ: LTZ,
    exp.DType.TIMESTAMPTZ: TZ,
    exp.DType.BOOLEAN: BOOLEAN,
    exp.DType.VARIANT: VARIANT,
    exp.DType.ARRAY: ARRAY,
    exp.DType.LIST: ARRAY,
    exp.DType.OBJECT: OBJECT,
    exp.DType.STRUCT: OBJECT,
    exp.DType.BINARY: BINARY,
    exp.DType.VARBINARY: BINARY,
    exp.DType.DOUBLE: FLOAT,
    exp.DType.FLOAT: FLOAT,
}
_INTEGERS = {exp.DType.INT, exp.DType.BIGINT, exp.DType.SMALLINT, exp.DType.TINYINT, exp.DType.INT128}
_TEXTS = {exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.NVARCHAR}
_CHARACTERS = {exp.DType.CHAR, exp.DType.NCHAR}
_DECIMALS = {exp.DType.DECIMAL}
# DuckDB keeps six digits of a second.
_KEPT_FRACTION = 6
_WITH_FRACTION = {kind for kind, of in _BY_SQLGLOT.items() if of.kind in INSTANTS | {Kind.TIME}}


def from_duck(duck: str) -> Type:
    """Return the type of a column that DuckDB describes.

    Raises:
        SqlError: No Snowflake type is stored like that.
    """
    if match := _DECIMAL.fullmatch(duck):
        return Type(Kind.NUMBER, int(match[1]), int(match[2]))
    if duck in _BY_DUCK:
        return _BY_DUCK[duck]
    raise unsupported("read a column of this type", duck)


def from_sqlglot(written: exp.DataType, *, cuts: bool = False) -> Type:
    """Return the type that a cast or a column names.

    Args:
        written: The type.
        cuts: Whether the caller sees to the digits of a second that the type does not keep.

    Raises:
        SqlError: It is not known here.
    """
    sizes = [int(size.name) for size in written.expressions if isinstance(size, exp.DataTypeParam)]
    if written.this in _TEXTS:
        return Type(Kind.TEXT, length=sizes[0] if sizes else None)
    if written.this in _CHARACTERS:
        return Type(Kind.TEXT, length=sizes[0] if sizes else 1)
    if written.this in _INTEGERS:
        return INT
    if written.this in _DECIMALS:
        precision, scale = [*sizes, 0][:2] if sizes else (MOST_DIGITS, 0)
        if not scale <= precision <= MOST_DIGITS or precision == 0:
            raise SqlError(
                f"SQL compilation error:\ninvalid precision or scale of NUMBER({precision},{scale})",
                errno=2265,
                sqlstate="42601",
            )
        return Type(Kind.NUMBER, precision, scale)
    if not cuts and fraction_digits(written) is not None:
        raise unsupported("cut the fraction of a second", written.sql(dialect="snowflake"))
    if written.this in _BY_SQLGLOT and not any(not isinstance(size, exp.DataTypeParam) for size in written.expressions):
        return _BY_SQLGLOT[written.this]
    raise unsupported("use this type", written.sql(dialect="snowflake"))


def fraction_digits(written: exp.DataType) -> int | None:
    """Return how many digits of a second a type keeps, None where it keeps all that there are here."""
    sizes = [int(size.name) for size in written.expressions if isinstance(size, exp.DataTypeParam)]
    return sizes[0] if sizes and written.this in _WITH_FRACTION and sizes[0] < _KEPT_FRACTION else None


def common(types: list[Type]) -> Type | None:
    """Return the type to which all of these are converted, None where Snowflake has none or it is not known.

    https://docs.snowflake.com/en/sql-reference/data-type-conversion#label-coercion
    """
    merged = NULL
    for other in types:
        both = _merged(merged, other)
        if both is None:
            return None
        merged = both
    return merged


def _merged(one: Type, other: Type) -> Type | None:
    if one == other or other.kind is Kind.NULL:
        return one
    if one.kind is Kind.NULL:
        return other
    if one.kind is other.kind is Kind.NUMBER:
        scale = max(one.scale, other.scale)
        whole = max(one.precision - one.scale, other.precision - other.scale)
        return Type(Kind.NUMBER, min(whole + scale, MOST_DIGITS), scale)
    if one.kind is other.kind is Kind.TEXT:
        lengths = [one.length, other.length]
        return replace(one, length=None if None in lengths else max(length for length in lengths if length))
    if one.kind is other.kind:
        return one
    return _converted(one, other) or _converted(other, one)


def _converted(one: Type, other: Type) -> Type | None:
    """Return what becomes of a type beside another one that it is converted to."""
    to = {
        Kind.NUMBER: {Kind.FLOAT, Kind.VARIANT},
        Kind.FLOAT: {Kind.VARIANT},
        Kind.BOOLEAN: {Kind.VARIANT},
        Kind.TEXT: {
            Kind.NUMBER,
            Kind.FLOAT,
            Kind.BOOLEAN,
            Kind.DATE,
            Kind.TIME,
            Kind.NTZ,
            Kind.LTZ,
            Kind.TZ,
            Kind.VARIANT,
        },
        Kind.DATE: {Kind.NTZ, Kind.LTZ},
        Kind.NTZ: {Kind.LTZ},
        Kind.ARRAY: {Kind.VARIANT},
        Kind.OBJECT: {Kind.VARIANT},
    }
    if other.kind not in to.get(one.kind, ()):
        return None
    # The text may have digits behind the point.
    if one.kind is Kind.TEXT and other.kind is Kind.NUMBER:
        return _merged(TEXT_AS_NUMBER, other)
    return other
