"""Snowflake's data types, as an author declares them and as DESCRIBE TABLE and INFORMATION_SCHEMA.COLUMNS print them.

https://docs.snowflake.com/en/sql-reference/intro-summary-data-types
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from run_elt_dagster.model.names import stored_name


@dataclass(frozen=True)
class Element:
    """What is inside a structured type: an array's element, a map's key or value, a field of an object.

    Attributes:
        type: Its type.
        name: Of a field, as stored; empty otherwise.
        not_null: Whether it is never NULL.
    """

    type: "ColumnType"
    name: str = ""
    not_null: bool = False


@dataclass(frozen=True)
class ColumnType:
    """A type as INFORMATION_SCHEMA.COLUMNS names it.

    Attributes:
        names: What DATA_TYPE may be.
        parameters: Precision and scale, length, digits of a second, or dimension; empty if any will do, or unknown.
        whole: Whether only numbers without decimals will do, whatever their precision.
        elements: What is inside a structured type; empty if anything will do, or unknown.
    """

    names: tuple[str, ...]
    parameters: tuple[int, ...] = ()
    whole: bool = False
    elements: tuple[Element, ...] = ()

    def admits(self, actual: "ColumnType") -> bool:
        """Return whether a column of the other type keeps what this one promises, as far as is known of it."""
        if not set(actual.names) <= set(self.names) or (self.whole and any(actual.parameters[1:])):
            return False
        if self.parameters and actual.parameters and self.parameters != actual.parameters:
            return False
        if not self.elements or not actual.elements:
            return True
        return len(self.elements) == len(actual.elements) and all(
            (mine.name, mine.not_null) == (its.name, its.not_null) and mine.type.admits(its.type)
            for mine, its in zip(self.elements, actual.elements, strict=True)
        )


@dataclass(frozen=True)
class _Family:
    """Types with the same parameters.

    Attributes:
        names: What DATA_TYPE may be.
        bounds: Least and greatest value of each parameter.
        default: The parameters of a type without any, where Snowflake has others than the greatest.
        whole: Whether the numbers have no decimals.
    """

    names: tuple[str, ...]
    bounds: tuple[tuple[int, int], ...] = ()
    default: tuple[int, ...] = ()
    whole: bool = False


_TEXT_LENGTH, _BINARY_LENGTH, _SECOND = (1, 134_217_728), (1, 67_108_864), (0, 9)
_STRUCTURED = ("ARRAY", "OBJECT", "MAP", "VECTOR")
_NTZ, _LTZ, _TZ = "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"
_FAMILIES: Mapping[str, _Family] = {
    **dict.fromkeys(("NUMBER", "DECIMAL", "DEC", "NUMERIC"), _Family(("NUMBER",), ((1, 38), (0, 37)))),
    **dict.fromkeys(("INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT"), _Family(("NUMBER",), whole=True)),
    **dict.fromkeys(("FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL"), _Family(("FLOAT",))),
    "DECFLOAT": _Family(("DECFLOAT",), ((38, 38),)),
    **dict.fromkeys(
        ("VARCHAR", "STRING", "TEXT", "NVARCHAR", "NVARCHAR2", "CHAR VARYING", "NCHAR VARYING", "CHARACTER VARYING"),
        _Family(("TEXT",), (_TEXT_LENGTH,)),
    ),
    # https://docs.snowflake.com/en/sql-reference/data-types-text: one character, where nothing else is said.
    **dict.fromkeys(("CHAR", "CHARACTER", "NCHAR"), _Family(("TEXT",), (_TEXT_LENGTH,), default=(1,))),
    **dict.fromkeys(("BINARY", "VARBINARY"), _Family(("BINARY",), (_BINARY_LENGTH,))),
    "TIME": _Family(("TIME",), (_SECOND,)),
    # https://docs.snowflake.com/en/sql-reference/data-types-datetime
    **dict.fromkeys((_NTZ, "TIMESTAMPNTZ", "TIMESTAMP WITHOUT TIME ZONE", "DATETIME"), _Family((_NTZ,), (_SECOND,))),
    **dict.fromkeys((_LTZ, "TIMESTAMPLTZ", "TIMESTAMP WITH LOCAL TIME ZONE"), _Family((_LTZ,), (_SECOND,))),
    **dict.fromkeys((_TZ, "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"), _Family((_TZ,), (_SECOND,))),
    # Which of them it means is a parameter of the account: TIMESTAMP_TYPE_MAPPING.
    "TIMESTAMP": _Family((_NTZ, _LTZ, _TZ), (_SECOND,)),
    **{name: _Family((name,)) for name in ("BOOLEAN", "DATE", "FILE", "GEOGRAPHY", "GEOMETRY", "UUID", "VARIANT")},
    # https://docs.snowflake.com/en/sql-reference/data-types-structured and .../data-types-vector
    **{name: _Family((name,)) for name in _STRUCTURED},
}
_MOST_WORDS = 5
_MOST_LEVELS = 100
_DIMENSION = (1, 4_096)
_TOKEN = re.compile(r"""\s*(?P<token> "(?:[^"]|"")+" | '[^']*' | [A-Za-z_][\w$]* | \d+ | [(),] )\s*""", re.VERBOSE)
_UNIT = r"(?:YEAR|MONTH|DAY|HOUR|MINUTE|SECOND)(?: ?\( ?\d(?: ?, ?\d)? ?\))?"
_INTERVAL = re.compile(rf"INTERVAL(?: {_UNIT}(?: TO {_UNIT})?)?")

NO_SUCH_TYPE = (
    "requires a data type of Snowflake's as DESCRIBE TABLE prints it, as in number(10, 2), varchar, date, timestamp_ntz(9) "
    "or array(number)"
)


def column_type(text: str) -> ColumnType:
    """Return the type that a text names, as in `number(10, 2)`, `varchar` or `ARRAY(NUMBER(38,0) NOT NULL)`.

    Raises:
        ValueError: Snowflake has no such type, or none with such parameters.
    """
    if _INTERVAL.fullmatch(" ".join(text.upper().split())):
        # What the catalogue prints of it is not documented.
        return ColumnType(("INTERVAL",))
    if text.count("(") > _MOST_LEVELS:
        raise ValueError(NO_SUCH_TYPE)
    reader = _Reader(_tokens(text))
    found = reader.type()
    reader.accept_collation()
    reader.require_end()
    return found


def actual_type(data_type: str, parameters: tuple[int, ...]) -> ColumnType:
    """Return the type of a column as the catalogue says it: DATA_TYPE, and its parameters where other columns say them."""
    try:
        found = column_type(data_type)
    except ValueError:
        return ColumnType((data_type,))
    return ColumnType(found.names, found.parameters or parameters, elements=found.elements)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(NO_SUCH_TYPE)
        tokens.append(match["token"])
        position = match.end()
    return tokens


class _Reader:
    """Reads a type off its tokens, from left to right."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def type(self) -> ColumnType:
        name, family = self._family()
        if not self._accept("("):
            return ColumnType(family.names, family.default, family.whole)
        if name in _STRUCTURED:
            return self._structured(name)
        parameters = self._numbers(name, family.bounds)
        self._require(")")
        if name == "DECFLOAT":
            return ColumnType(family.names)
        # number(10) is number(10, 0).
        scale = (0,) if family.names == ("NUMBER",) and len(parameters) == 1 else ()
        return ColumnType(family.names, (*parameters, *scale))

    def accept_collation(self) -> None:
        """Go past a collation: the catalogue does not have it, so it is not compared."""
        if self._accept("COLLATE"):
            self._at += 1

    def require_end(self) -> None:
        if self._at != len(self._tokens):
            raise ValueError(NO_SUCH_TYPE)

    def _family(self) -> tuple[str, _Family]:
        words = [token.upper() for token in self._tokens[self._at : self._at + _MOST_WORDS]]
        for length in range(len(words), 0, -1):
            name = " ".join(words[:length])
            if name in _FAMILIES:
                self._at += length
                return name, _FAMILIES[name]
        raise ValueError(NO_SUCH_TYPE)

    def _structured(self, name: str) -> ColumnType:
        if name == "VECTOR":
            return self._vector()
        elements = [self._element(named=name == "OBJECT")]
        while self._accept(","):
            elements.append(self._element(named=name == "OBJECT"))
        self._require(")")
        wanted = {"ARRAY": 1, "MAP": 2}.get(name, len(elements))
        if len(elements) != wanted:
            raise ValueError(f"requires {wanted} type{'s' if wanted > 1 else ''} in {name.lower()}(...)")
        return ColumnType((name,), elements=tuple(elements))

    def _element(self, *, named: bool) -> Element:
        name = stored_name(self._next()) if named else ""
        found = self.type()
        not_null = self._accept("NOT")
        if not_null:
            self._require("NULL")
        return Element(found, name, not_null)

    def _vector(self) -> ColumnType:
        word = self._next().upper()
        if word not in ("FLOAT", "INT"):
            raise ValueError("requires vector(float, <dimension>) or vector(int, <dimension>)")
        self._require(",")
        (dimension,) = self._numbers("VECTOR", (_DIMENSION,))
        self._require(")")
        element = Element(ColumnType((word,)))
        return ColumnType(("VECTOR",), (dimension,), elements=(element,))

    def _numbers(self, name: str, bounds: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        if not bounds:
            raise ValueError(f"requires {name.lower()} without parameters, as Snowflake has it")
        found: list[int] = []
        for low, high in bounds:
            if found and not self._accept(","):
                break
            number = self._next()
            if not number.isdigit() or not low <= int(number) <= high:
                raise ValueError(f"requires {name.lower()} with a parameter from {low} to {high:,}")
            found.append(int(number))
        if len(found) > 1 and found[1] > found[0]:
            raise ValueError(f"requires {name.lower()} with no more decimals than digits")
        return tuple(found)

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise ValueError(NO_SUCH_TYPE)
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, token: str) -> bool:
        there = self._at < len(self._tokens) and self._tokens[self._at].upper() == token
        self._at += there
        return there

    def _require(self, token: str) -> None:
        if not self._accept(token):
            raise ValueError(NO_SUCH_TYPE)
