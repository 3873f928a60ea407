"""The checks and columns that a table file declares: what can be asked of a candidate, before any SQL is made of it."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from run_elt_dagster.model.column_type import column_type
from run_elt_dagster.model.fields import (
    MOST_DIGITS,
    Column,
    Hours,
    LocatedError,
    SomeColumns,
    Strict,
    Tags,
    WrittenColumns,
    digits,
    is_finite,
    short_for,
)
from run_elt_dagster.model.front_matter import SQL_UNIT, Location
from run_elt_dagster.model.names import display_name, stored_name, stored_names
from run_elt_dagster.model.regular_expression import require_posix

Severity = Literal["error", "warn"]
# A number of a table whose usual value is learned.
UsualNumber = Literal["rows", "null_rate", "distinct", "sum"]
Value = str | bool | int | float | Decimal

# Stands in a `sql` check for the table under audit: the candidate before publishing, the table itself afterwards.
TABLE_PLACEHOLDER = "{table}"
_CHECK_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
_PERCENT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%")


class Check(Strict):
    """What all checks have.

    Attributes:
        severity: A failed check of `error` stops the publishing. One of `warn` is only shown.
    """

    severity: Severity = "error"


class RowCount(Check):
    """Bounds of the number of rows, both included.

    Attributes:
        min: The table has at least so many rows.
        max: The table has at most so many rows.
    """

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


_WrittenPercentage = Annotated[str, Field(pattern=rf"^\s*{_PERCENT.pattern}\s*$")]
Percentage = Annotated[float, BeforeValidator(_fraction, json_schema_input_type=_WrittenPercentage)]


class RowCountChange(Check):
    """How far the number of rows may be from the published table's. Not asked at a first publish.

    Attributes:
        max_drop: How many rows fewer are allowed, as a share of the published table's rows: `50%` is half of them.
        max_growth: How many rows more are allowed: `200%` is three times as many rows.
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


class Limit(Strict):
    """How much of something is allowed.

    Attributes:
        number: How many; of a share, how many percent.
        is_share: Whether it is a share.
    """

    number: float
    is_share: bool

    def allows(self, count: int, *, of: int) -> bool:
        """Return whether so many of some are allowed. The digits that an author writes count exactly."""
        number = Decimal(str(self.number))
        return count * 100 <= number * of if self.is_share else count <= number

    def __str__(self) -> str:
        """Return it as an author writes it."""
        return f"{self.number:.9f}".rstrip("0").rstrip(".") + " %" if self.is_share else f"{self.number:,.0f}"


def _limit(value: Any) -> Limit:
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        return Limit(number=float(match[1]), is_share=True)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**_MOST_DIGITS_OF_A_LIMIT:
        raise ValueError("requires a number of rows or a percentage of them, as in 100 or 0.5%")
    return Limit(number=value, is_share=False)


# A float keeps so many.
_MOST_DIGITS_OF_A_LIMIT = 15
_WrittenLimit = Annotated[int, Field(ge=0)] | _WrittenPercentage
ChangeLimit = Annotated[Limit, BeforeValidator(_limit, json_schema_input_type=_WrittenLimit)]


class Changes(Check):
    """How far the rows may be from those that readers see. Not asked at a first publish.

    A percentage is of the rows that readers see. Without `key`, the table's `primary_key` or that of its `increment` identifies a row.
    Without any of them, rows are counted, and `columns` compares sums and numbers of distinct values.

    Attributes:
        key: A column, or columns that identify a row together, in the place of `primary_key`.
        max_added: How many rows may be new.
        max_removed: How many rows may be gone.
        max_changed: How many rows may have another value in some column. It requires a key.
        columns: For a column, how many rows may have another value in it. Without a key: how far its sum, if it has numbers, and its number of distinct values may be from those that readers see, as a percentage.
        ignore: Columns that `max_changed` does not compare, such as the time of a load.
    """

    key: SomeColumns = ()
    max_added: ChangeLimit | None = None
    max_removed: ChangeLimit | None = None
    max_changed: ChangeLimit | None = None
    columns: Annotated[dict[Column, ChangeLimit], Field(min_length=1)] = Field(default_factory=dict[str, Limit])
    ignore: SomeColumns = ()

    @model_validator(mode="after")
    def _something_is_limited(self) -> "Changes":
        if not (self.max_added or self.max_removed or self.max_changed or self.columns):
            raise ValueError("requires max_added, max_removed, max_changed or columns")
        if self.max_removed is not None and self.max_removed.is_share and self.max_removed.number > _WHOLE:
            raise ValueError("requires a max_removed of at most 100%")
        return self

    @model_validator(mode="after")
    def _columns_have_one_meaning(self) -> "Changes":
        taken = {stored_name(name): "key" for name in self.key}
        for kind, names in (("columns", self.columns), ("ignore", self.ignore)):
            for name in names:
                other = taken.setdefault(stored_name(name), kind)
                if other != kind or (kind == "columns" and _is_twice(name, self.columns)):
                    words = f"which {other} has too" if other != kind else "a second time"
                    raise LocatedError(f"requires columns that differ, got {name}, {words}", location=(kind,))
        if self.ignore and self.max_changed is None:
            raise LocatedError(
                "cannot stand without max_changed: columns alone names what is compared", location=("ignore",)
            )
        return self


_WHOLE = 100


def _is_twice(name: str, names: Iterable[str]) -> bool:
    return [stored_name(each) for each in names].count(stored_name(name)) > 1


class Usual(Check):
    """Numbers that are as usual, by the versions of the table that were published before. Off until ten days are known.

    Attributes:
        rows: The number of rows.
        null_rate: Columns whose share of NULL is.
        distinct: Columns whose number of different values is.
        sum: Columns whose sum is.
        since: Older versions teach nothing: the day from which a new level is right.
    """

    rows: Annotated[bool, Field(strict=True)] = False
    null_rate: SomeColumns = ()
    distinct: SomeColumns = ()
    sum: SomeColumns = ()
    since: date | None = None

    @model_validator(mode="after")
    def _something_is_usual(self) -> "Usual":
        if not (self.rows or self.null_rate or self.distinct or self.sum):
            raise ValueError("requires rows, null_rate, distinct, sum or several of them")
        return self

    @property
    def numbers(self) -> Iterator[tuple[UsualNumber, tuple[str, ...]]]:
        """The numbers, each as its kind and the column that it is of, if it is of one."""
        if self.rows:
            yield "rows", ()
        of_columns: Mapping[UsualNumber, tuple[str, ...]] = {
            "null_rate": self.null_rate,
            "distinct": self.distinct,
            "sum": self.sum,
        }
        for kind, columns in of_columns.items():
            for column in columns:
                yield kind, (column,)


def _usual(value: Any) -> Any:
    return {"rows": True} if value == "rows" else value


class Unique(Check):
    """Columns that identify a row. Rows with a NULL in one of them are not compared.

    Attributes:
        columns: A column, or columns that identify a row together.
    """

    columns: SomeColumns


class NotNull(Check):
    """Columns without NULL.

    Attributes:
        columns: A column, or several.
    """

    columns: SomeColumns


def _require_a_number_of_snowflake(value: float | Decimal) -> None:
    if not is_finite(value):
        raise ValueError("requires finite numbers")
    if digits(value) > MOST_DIGITS:
        raise ValueError(f"requires numbers of at most {MOST_DIGITS} digits; quote it where it is text")


def _compared(value: Any) -> tuple[Value, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("requires a list of values")  # noqa: TRY004 - pydantic reports ValueErrors
    values = tuple(value)
    kinds = {_kind(each) for each in values}
    if not values or len(kinds) > 1:
        got = " and ".join(sorted(kinds)) or "none"
        raise ValueError(f"requires a list of values of one kind, got {got}; quote each value that is text")
    for each in values:
        if isinstance(each, int | float | Decimal):
            _require_a_number_of_snowflake(each)
    return values


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float | Decimal):
        return "numbers"
    if not isinstance(value, str):
        raise ValueError("requires text, numbers, or true and false; quote what is text")  # noqa: TRY004 - pydantic reports ValueErrors
    return "text"


_WrittenValues = list[str] | list[float] | list[bool]


class AcceptedValues(Check):
    """The values that a column may have besides NULL.

    Attributes:
        values: Text, numbers, or true and false. Quote each value of a column of text.
    """

    values: Annotated[tuple[Any, ...], BeforeValidator(_compared, json_schema_input_type=_WrittenValues)]


class Matches(Check):
    """A regular expression that every value of a column but NULL matches from its start to its end.

    Attributes:
        pattern: POSIX extended, as Snowflake reads it. Write it in single quotes.
    """

    pattern: str

    @field_validator("pattern")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        require_posix(value)
        return value


def _bound(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | date):
        raise ValueError("requires a number, a date or a timestamp with at most 6 decimals, unquoted")  # noqa: TRY004 - pydantic reports ValueErrors
    if isinstance(value, int | float | Decimal):
        _require_a_number_of_snowflake(value)
    return value


Bound = Annotated[Any, BeforeValidator(_bound, json_schema_input_type=float | date | datetime)]


class Range(Check):
    """What the values of a column but NULL may be, both ends included. NaN is outside of every range.

    Attributes:
        min: The least value: a number, a date or a timestamp.
        max: The greatest value, of the same kind.
    """

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
        if isinstance(low, datetime) and isinstance(high, datetime) and (low.tzinfo is None) != (high.tzinfo is None):
            raise ValueError("requires min and max both with a time zone, or both without one")
        if isinstance(low, datetime) == isinstance(high, datetime) and low > high:
            raise ValueError(f"requires min <= max, got min {self.min} and max {self.max}")
        return self


class Freshness(Check):
    """How old the latest instant of a column may be. An instant without a time zone counts as UTC.

    Attributes:
        max_age_hours: Hours between the latest instant and now.
        max_ahead_hours: Hours that it may be in the future. A date far ahead would keep the table fresh for ever.
    """

    max_age_hours: Annotated[Hours, Field(gt=0)]
    max_ahead_hours: Annotated[Hours, Field(ge=0)] = 24


class SourceFreshness(Check):
    """How long ago a table that something else loads was changed at most.

    Attributes:
        max_age_hours: Its last change is at most so many hours ago, by Snowflake's catalogue.
    """

    max_age_hours: Annotated[Hours, Field(gt=0)]


class Relationship(Check):
    """Another table's column that has every value of this one but NULL.

    Attributes:
        to: `schema.table.column`. A run builds that table first if a file declares it. The table's own name means the rows under
            audit.
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

    def is_to(self, schema: str, table: str, *, database: str) -> bool:
        """Return whether it is a column of this table; all names as they are stored."""
        return self.table in ((schema, table), (database, schema, table))


def _one_query(value: str, units: Sequence[re.Match[str]]) -> str:
    """Return the one query of a check, without its terminator and what follows it."""
    # The place of the table is one at least.
    first = next(unit for unit in units if unit.group() != "(").group()
    if first.upper() not in ("SELECT", "WITH"):
        raise ValueError(f"requires a query of the rows that are wrong (SELECT or WITH), got {first[:40]}")
    end = next((unit.start() for unit in units if unit.lastgroup == "semicolon"), len(value))
    second = next((unit for unit in units if unit.start() > end and unit.lastgroup != "semicolon"), None)
    if second is not None:
        raise ValueError(f"requires one statement, got a second one that starts with {second.group()[:40]}")
    return value[:end]


class SqlCheck(Check):
    """A query that returns the rows that are wrong. You choose the name of the check.

    Attributes:
        query: One SELECT or WITH. `{table}` behind FROM or JOIN is the table under audit.
    """

    query: str

    @field_validator("query")
    @classmethod
    def _asks_about_the_table(cls, value: str) -> str:
        read = [unit for unit in SQL_UNIT.finditer(value) if unit.lastgroup != "comment"]
        if TABLE_PLACEHOLDER not in "".join(unit.group() for unit in read):
            raise ValueError(
                f"requires {TABLE_PLACEHOLDER} where the table is read: its own name would read what is published, not "
                "the candidate"
            )
        if any(unit.group().startswith('"') and TABLE_PLACEHOLDER in unit.group() for unit in read):
            raise ValueError(
                f"requires {TABLE_PLACEHOLDER} without double quotes: the name that it stands for has its own"
            )
        return _one_query(value, [unit for unit in read if unit.lastgroup != "space"])


def _check_names(value: dict[str, SqlCheck]) -> dict[str, SqlCheck]:
    for name in value:
        if not _CHECK_NAME.fullmatch(name):
            raise LocatedError(f"requires a name of letters, digits and _, got {name[:100]!r}", location=(name,))
    return value


def _source_names(value: dict[str, SourceFreshness]) -> dict[str, SourceFreshness]:
    for name in value:
        if len(stored_names(name)) not in (2, 3):
            raise LocatedError(f"requires schema.table or database.schema.table, got {name[:100]}", location=(name,))
    return value


def _uniques(value: Any) -> Any:
    items = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(items, list | tuple) or not items:
        raise ValueError("requires a column, or a list of columns and of lists of columns")
    return tuple(item if isinstance(item, Mapping) else {"columns": item} for item in items)


_WrittenUniques = str | Unique | list[str | list[str] | Unique]
# A kind of check without a column would be no check.
_SOME = Field(min_length=1)


class Checks(Strict):
    """The audits that a candidate must pass before readers see it."""

    row_count: RowCount = RowCount()
    row_count_change: RowCountChange | None = None
    changes: Changes | None = None
    usual: Annotated[Usual, BeforeValidator(_usual, json_schema_input_type=Usual | Literal["rows"])] | None = None
    unique: Annotated[tuple[Unique, ...], BeforeValidator(_uniques, json_schema_input_type=_WrittenUniques)] = ()
    not_null: Annotated[NotNull, short_for("columns", NotNull | WrittenColumns)] | None = None
    accepted_values: Annotated[
        dict[Column, Annotated[AcceptedValues, short_for("values", AcceptedValues | _WrittenValues)]], _SOME
    ] = Field(default_factory=dict)
    matches: Annotated[dict[Column, Annotated[Matches, short_for("pattern", Matches | str)]], _SOME] = Field(
        default_factory=dict
    )
    range: Annotated[dict[Column, Range], _SOME] = Field(default_factory=dict)
    freshness: Annotated[dict[Column, Annotated[Freshness, short_for("max_age_hours", Freshness | float)]], _SOME] = (
        Field(default_factory=dict)
    )
    relationship: Annotated[dict[Column, Annotated[Relationship, short_for("to", Relationship | str)]], _SOME] = Field(
        default_factory=dict
    )
    source_freshness: Annotated[
        dict[str, Annotated[SourceFreshness, short_for("max_age_hours", SourceFreshness | float)]],
        _SOME,
        AfterValidator(_source_names),
    ] = Field(default_factory=dict)
    sql: Annotated[
        dict[str, Annotated[SqlCheck, short_for("query", SqlCheck | str)]], _SOME, AfterValidator(_check_names)
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_is_declared_once(self) -> "Checks":
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for location, kind, columns in self._on_columns():
            if (kind, columns) in seen:
                what = f"{kind} of {', '.join(map(display_name, columns))}"
                raise LocatedError(f"requires one check {what}, got a second. Keep one of them", location=location)
            seen.add((kind, columns))
        return self

    def names(self) -> Mapping[tuple[str, tuple[str, ...]], str]:
        """Return the name of each check on columns, by its kind and the stored names of its columns."""
        names: dict[tuple[str, tuple[str, ...]], str] = {}
        taken: set[str] = set()
        for _, kind, columns in self._on_columns():
            name = _name_of(kind, columns)
            # [a, b] and [a_b] are other checks, and so are a and "a".
            names[kind, columns] = name if name not in taken else _told_apart(name, kind, columns)
            taken.add(names[kind, columns])
        return names

    def _on_columns(self) -> Iterator[tuple[Location, str, tuple[str, ...]]]:
        """Yield where each check on columns stands, its kind, and the stored names of its columns."""
        for index, rule in enumerate(self.unique):
            yield ("unique", index), "unique", tuple(map(stored_name, rule.columns))
        for kind in ("accepted_values", "matches", "range", "freshness", "relationship"):
            for column in getattr(self, kind):
                yield (kind, column), kind, (stored_name(column),)
        for source in self.source_freshness:
            yield ("source_freshness", source), "source_freshness", stored_names(source)
        for kind, columns in self.usual.numbers if self.usual is not None else ():
            yield ("usual", kind), f"usual_{kind}", tuple(map(stored_name, columns))


def _name_of(kind: str, columns: tuple[str, ...]) -> str:
    """Return the name of a check: Dagster takes letters, digits and `_` only."""
    name = "_".join([kind, *columns]).lower()
    plain = re.sub(r"[^a-z0-9_]", "_", name)[:80]
    # Columns that differ in other signs alone have different checks.
    return plain if plain == name else _told_apart(plain, kind, columns)


def _told_apart(name: str, kind: str, columns: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join([kind, *columns]).encode()).hexdigest()
    return f"{name[:80]}_{digest[:6]}"


# What stands in `checks: {<kind>: ...}`, for errors that say which options there are.
CHECK_MODELS: Mapping[str, type[Check]] = {
    "row_count": RowCount,
    "row_count_change": RowCountChange,
    "changes": Changes,
    "usual": Usual,
    "unique": Unique,
    "not_null": NotNull,
    "accepted_values": AcceptedValues,
    "matches": Matches,
    "range": Range,
    "freshness": Freshness,
    "relationship": Relationship,
    "source_freshness": SourceFreshness,
    "sql": SqlCheck,
}


class ColumnContract(Strict):
    """What a column is promised to be.

    Attributes:
        type: A data type of Snowflake's. Without parameters it matches any. Left out, any type will do. What the catalogue does not
            say of a type is not compared.
        description: The column's comment in Snowflake.
        tags: Labels of the column in Dagster's UI.
    """

    type: str | None = None
    description: str = ""
    tags: Tags = Field(default_factory=dict[str, str])

    @field_validator("type")
    @classmethod
    def _is_a_type(cls, value: str | None) -> str | None:
        if value is not None:
            column_type(value)
        return value


ColumnContracts = dict[Column, Annotated[ColumnContract, short_for("type", ColumnContract | str | None)]]
