"""The checks and columns that a table file declares: what can be asked of a candidate, before any SQL is made of it."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from run_elt_dagster.relation import stored_name, stored_names

Severity = Literal["error", "warn"]
Value = str | int | float | date | datetime

# Stands in a `sql` check for the table under audit: the candidate before publishing, the table itself afterwards.
TABLE_PLACEHOLDER = "{table}"
_CHECK_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class Strict(BaseModel):
    """A part of the front matter: unknown keys are errors, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _column(value: str) -> str:
    stored_name(value)
    return value


def _differ(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("requires at least one column")
    if len({stored_name(value) for value in values}) < len(values):
        raise ValueError("requires columns that differ")
    return values


Column = Annotated[str, AfterValidator(_column)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(_as_tuple)]
SomeColumns = Annotated[Columns, AfterValidator(_differ)]


def _short_for(key: str) -> Callable[[Any], Any]:
    """Return a validator that takes the one important value in the place of the whole mapping."""
    return BeforeValidator(lambda value: value if isinstance(value, Mapping) else {key: value})  # type: ignore[return-value]


class Check(Strict):
    """What all checks have: a failed one of severity `error` stops the publishing, one of `warn` is only shown."""

    severity: Severity = "error"


class RowCount(Check):
    """Bounds of the number of rows, both included."""

    min: Annotated[int, Field(ge=0, strict=True)] = 1
    max: Annotated[int, Field(ge=0, strict=True)] | None = None

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> "RowCount":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"requires min <= max, got min {self.min} and max {self.max}")
        return self


def _fraction(value: Any) -> float:
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("requires a percentage, as in 50%")
    return float(match[1]) / 100


Percentage = Annotated[float, BeforeValidator(_fraction)]


class RowCountChange(Check):
    """How far the number of rows may be from that of the published table, as fractions of the latter.

    Attributes:
        max_drop: 0.5 for at most half of the rows fewer.
        max_growth: 2.0 for at most three times as many.
        min_rows: A published table with fewer rows is not compared.
    """

    max_drop: Percentage | None = None
    max_growth: Percentage | None = None
    min_rows: Annotated[int, Field(ge=0, strict=True)] = 100

    @model_validator(mode="after")
    def _something_is_bounded(self) -> "RowCountChange":
        if self.max_drop is None and self.max_growth is None:
            raise ValueError("requires max_drop, max_growth or both")
        if self.max_drop is not None and self.max_drop > 1:
            raise ValueError("requires a max_drop of at most 100%")
        return self


class Unique(Check):
    """Columns that identify a row; rows with a NULL in one of them are not compared."""

    columns: SomeColumns


class NotNull(Check):
    """Columns without NULL."""

    columns: SomeColumns


def _one_kind(values: tuple[Any, ...]) -> tuple[Any, ...]:
    kinds = {"true/false" if isinstance(v, bool) else "text" if isinstance(v, str) else "numbers" for v in values}
    if not values or len(kinds) > 1:
        raise ValueError(
            f"requires values of one kind, got {' and '.join(sorted(kinds)) or 'none'}; YAML reads yes, no, on and off as "
            "true and false unless they are quoted"
        )
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError("requires finite numbers")
    return values


class AcceptedValues(Check):
    """The values that a column may have besides NULL: text, numbers, or true and false."""

    values: Annotated[tuple[bool | int | float | str, ...], Field(strict=True), AfterValidator(_one_kind)]

    @field_validator("values", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Matches(Check):
    """A regular expression that every value of a column but NULL matches from its start to its end."""

    pattern: str

    @field_validator("pattern")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"requires a regular expression ({error})") from error
        return value


def _bound(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | date):
        raise ValueError("requires a number, a date or a timestamp, unquoted")  # noqa: TRY004 - pydantic reports ValueErrors
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("requires a finite number")
    return value


Bound = Annotated[Any, BeforeValidator(_bound)]


class Range(Check):
    """What the values of a column but NULL may be, both ends included; NaN is outside of every range."""

    min: Bound | None = None
    max: Bound | None = None

    @model_validator(mode="after")
    def _bounds_agree(self) -> "Range":
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if not bounds:
            raise ValueError("requires min, max or both")
        if len({isinstance(bound, date) for bound in bounds}) > 1:
            raise ValueError("requires min and max of one kind")
        low, high = bounds[0], bounds[-1]
        if isinstance(low, datetime) == isinstance(high, datetime) and low > high:
            raise ValueError(f"requires min <= max, got min {self.min} and max {self.max}")
        return self


class Freshness(Check):
    """How old the latest instant of a column may be; one without a time zone counts as UTC.

    Attributes:
        max_age_hours: Hours between the latest instant and now.
        max_ahead_hours: Hours that it may be in the future; a date far ahead would keep the table fresh for ever.
    """

    max_age_hours: Annotated[float, Field(gt=0)]
    max_ahead_hours: Annotated[float, Field(ge=0)] = 24


class Relationship(Check):
    """Another table's column that has every value of this one but NULL.

    Attributes:
        to: `schema.table.column`; the table is built before if it is declared here.
    """

    to: str

    @field_validator("to")
    @classmethod
    def _is_a_column(cls, value: str) -> str:
        if len(stored_names(value)) not in (3, 4):
            raise ValueError("requires schema.table.column or database.schema.table.column")
        return value

    @property
    def table(self) -> tuple[str, ...]:
        """The other table's stored names: schema and table, or database, schema and table."""
        return stored_names(self.to)[:-1]

    @property
    def column(self) -> str:
        """The other column's stored name."""
        return stored_names(self.to)[-1]


class SqlCheck(Check):
    """A query that returns the rows that are wrong; `{table}` in it is the table under audit."""

    query: str

    @field_validator("query")
    @classmethod
    def _asks_about_the_table(cls, value: str) -> str:
        if TABLE_PLACEHOLDER not in value:
            raise ValueError(
                f"requires {TABLE_PLACEHOLDER} where the table is read: its own name would read what is published, not "
                "the candidate"
            )
        return value


def _check_names(value: dict[str, SqlCheck]) -> dict[str, SqlCheck]:
    for name in value:
        if not _CHECK_NAME.fullmatch(name):
            raise ValueError(f"requires names of letters, digits and _, got {name[:100]!r}")
    return value


def _uniques(value: Any) -> Any:
    items = [value] if isinstance(value, str | Mapping) else value
    return tuple(item if isinstance(item, Mapping) else {"columns": item} for item in items) if items else items


class Checks(Strict):
    """The audits that a candidate must pass before anybody can read it."""

    row_count: RowCount = RowCount()
    row_count_change: RowCountChange | None = None
    unique: Annotated[tuple[Unique, ...], BeforeValidator(_uniques)] = ()
    not_null: Annotated[NotNull, _short_for("columns")] | None = None
    accepted_values: dict[Column, Annotated[AcceptedValues, _short_for("values")]] = {}
    matches: dict[Column, Annotated[Matches, _short_for("pattern")]] = {}
    range: dict[Column, Range] = {}
    freshness: dict[Column, Annotated[Freshness, _short_for("max_age_hours")]] = {}
    relationship: dict[Column, Annotated[Relationship, _short_for("to")]] = {}
    sql: Annotated[dict[str, Annotated[SqlCheck, _short_for("query")]], AfterValidator(_check_names)] = {}


# What stands in `checks: {<kind>: ...}`, for errors that say which options there are.
CHECK_MODELS: Mapping[str, type[Check]] = {
    "row_count": RowCount,
    "row_count_change": RowCountChange,
    "unique": Unique,
    "not_null": NotNull,
    "accepted_values": AcceptedValues,
    "matches": Matches,
    "range": Range,
    "freshness": Freshness,
    "relationship": Relationship,
    "sql": SqlCheck,
}


class ColumnType(Strict):
    """A type of Snowflake's as INFORMATION_SCHEMA.COLUMNS names it.

    https://docs.snowflake.com/en/sql-reference/intro-summary-data-types

    Attributes:
        names: What DATA_TYPE may be.
        parameters: Precision and scale, or length; empty if any will do.
        whole: Whether only numbers without decimals will do, whatever their precision.
    """

    names: tuple[str, ...]
    parameters: tuple[int, ...] = ()
    whole: bool = False


_WHOLE = ("INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT")
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("NUMBER", "DECIMAL", "DEC", "NUMERIC", *_WHOLE), ("NUMBER",)),
    **dict.fromkeys(("FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL"), ("FLOAT",)),
    **dict.fromkeys(("VARCHAR", "STRING", "TEXT", "CHAR", "CHARACTER", "NVARCHAR", "NCHAR"), ("TEXT",)),
    **dict.fromkeys(("BINARY", "VARBINARY"), ("BINARY",)),
    **dict.fromkeys(("TIMESTAMP_NTZ", "TIMESTAMPNTZ", "DATETIME"), ("TIMESTAMP_NTZ",)),
    **dict.fromkeys(("TIMESTAMP_LTZ", "TIMESTAMPLTZ"), ("TIMESTAMP_LTZ",)),
    **dict.fromkeys(("TIMESTAMP_TZ", "TIMESTAMPTZ"), ("TIMESTAMP_TZ",)),
    # Which of them it means is a parameter of the account: TIMESTAMP_TYPE_MAPPING.
    "TIMESTAMP": ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"),
    **{
        name: (name,)
        for name in (
            "ARRAY",
            "BOOLEAN",
            "DATE",
            "DECFLOAT",
            "FILE",
            "GEOGRAPHY",
            "GEOMETRY",
            "MAP",
            "OBJECT",
            "TIME",
            "VARIANT",
            "VECTOR",
        )
    },
}
_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_ ]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?")


def column_type(text: str) -> ColumnType:
    """Return the type that a text names, as in `number(10, 2)` or `varchar`.

    Raises:
        ValueError: Snowflake has no such type.
    """
    match = _TYPE.fullmatch(text.strip())
    name = " ".join(match[1].upper().split()) if match else ""
    if match is None or name not in _SYNONYMS:
        raise ValueError("requires a data type of Snowflake's, as in number(10, 2), varchar, date or timestamp_ntz")
    parameters = tuple(int(part) for part in match.groups()[1:] if part is not None)
    if _SYNONYMS[name] == ("NUMBER",) and len(parameters) == 1:
        parameters = (*parameters, 0)
    return ColumnType(names=_SYNONYMS[name], parameters=parameters, whole=name in _WHOLE)


class ColumnContract(Strict):
    """What a column is promised to be.

    Attributes:
        type: A data type of Snowflake's; without parameters, whatever the parameters; None for any type.
        description: The column's comment in Snowflake.
    """

    type: str | None = None
    description: str = ""

    @field_validator("type")
    @classmethod
    def _is_a_type(cls, value: str | None) -> str | None:
        if value is not None:
            column_type(value)
        return value


ColumnContracts = dict[Column, Annotated[ColumnContract, _short_for("type")]]
