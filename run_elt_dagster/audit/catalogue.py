"""What Snowflake's catalogue says about a candidate, its target and its rivals. Pure: the queries, and their answers.

The comment of every table that a run makes carries a marker: which run made it, from a snapshot of when, and how far it
is. A clone carries its source's comment, so production says what is in it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from run_elt_dagster.model.column_type import ColumnType, actual_type
from run_elt_dagster.model.names import Relation, exact_sql, short_id, string_sql

State = Literal["run", "publishing", "failed", "rollback", "withdrawn"]
_MARKER = re.compile(r"\[run_elt (run|publishing|failed|rollback|withdrawn) ([^\s\]]+)(?: at ([^\s\]]+))?\]")
_UNKNOWN_TIME = ""
# What Snowflake gives to text and to seconds without a parameter.
_USUAL_LENGTH, _USUAL_DIGITS = 16_777_216, 9


@dataclass(frozen=True)
class Marker:
    """What the comment of a table says about its rows.

    Attributes:
        state: `run` for rows of a build, `publishing` while they are written over others, `failed` for rejected ones,
            `withdrawn` for those that a rollback has taken away, `rollback` for those that a rollback is taking away from readers.
        run_id: Dagster's id of the run.
        at: When its build began, ISO 8601 in UTC by Snowflake's clock; empty if it was not noted.
    """

    state: State
    run_id: str
    at: str = _UNKNOWN_TIME

    @property
    def order(self) -> tuple[str, str]:
        """What makes a later snapshot greater."""
        return (self.at, self.run_id)

    @property
    def published(self) -> str:
        """The time and the run that built the rows, in words; empty if unknown."""
        return f"built {self.at[:16].replace('T', ' ')} UTC by run {short_id(self.run_id)}" if self.at else ""

    def __str__(self) -> str:
        """Return it as the comment has it."""
        return f"[run_elt {self.state} {self.run_id}{f' at {self.at}' if self.at else ''}]"


def marker_in(comment: str | None) -> Marker | None:
    """Return the last marker of a comment, None if it has none."""
    found = list(_MARKER.finditer(comment or ""))
    return Marker(found[-1][1], found[-1][2], found[-1][3] or _UNKNOWN_TIME) if found else None  # type: ignore[arg-type]


def previous_table(row_count: int | None, marker: Marker | None) -> str:
    """Return what readers see as long as nothing is published over a table, in a sentence."""
    facts = [f"{row_count:,} rows"] if row_count is not None else []
    facts += [marker.published] if marker is not None and marker.published else []
    return f"Readers still see the previous table{' (' + ', '.join(facts) + ')' if facts else ''}."


def instant(moment: datetime) -> str:
    """Return an instant as markers have it: text that sorts by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: As it is stored.
        data_type: As INFORMATION_SCHEMA.COLUMNS says it.
        precision: Of a number.
        scale: Of a number.
        length: Of a text or a binary.
        digits: Of the seconds of a time or a timestamp; None where the catalogue does not say them.
    """

    name: str
    data_type: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    digits: int | None = None

    @property
    def type(self) -> str:
        """The type as a person would write it."""
        if self.data_type == "NUMBER" and self.precision is not None:
            return f"NUMBER({self.precision},{self.scale or 0})"
        if self.data_type == "TEXT":
            return f"VARCHAR({self.length})" if self.length not in (None, _USUAL_LENGTH) else "VARCHAR"
        return f"{self.data_type}({self.digits})" if self.digits not in (None, _USUAL_DIGITS) else self.data_type

    def is_a(self, declared: ColumnType) -> bool:
        """Return whether the column keeps what was declared, as far as the catalogue says."""
        number = () if self.precision is None else (self.precision, self.scale or 0)
        others = tuple(value for value in (self.length, self.digits) if value is not None)
        return declared.admits(actual_type(self.data_type, number or others))


@dataclass(frozen=True)
class Listed:
    """A table of the catalogue: its stored name, its rows if they are counted, and the marker of its comment."""

    name: str
    row_count: int | None
    marker: Marker | None

    @property
    def seen(self) -> str:
        """What readers see as long as nothing is published over it, in a sentence."""
        return previous_table(self.row_count, self.marker)


@dataclass(frozen=True)
class Inspection:
    """What the catalogue said at one moment.

    Attributes:
        target: The published table, None if there is none.
        candidates: The candidates of the same target, this run's and others'.
        target_columns: Columns of the published table in order.
        candidate_columns: Columns of this run's candidate in order.
    """

    target: Listed | None = None
    candidates: tuple[Listed, ...] = ()
    target_columns: tuple[Column, ...] = ()
    candidate_columns: tuple[Column, ...] = ()

    @property
    def target_rows(self) -> int | None:
        """Rows of the published table, None if there is none."""
        return self.target.row_count if self.target else None


def inspection_columns_sql(target: Relation, candidate: Relation, *, prefix: str) -> tuple[str, str]:
    """Return two expressions for a SELECT: the tables and the columns concerned, each as one JSON array.

    Both go along with the scan of an audit, so they cost no statement of their own, and say what is there while the
    candidate can already be seen by other runs. https://docs.snowflake.com/en/sql-reference/info-schema/tables

    Args:
        target: What readers see.
        candidate: This run's candidate.
        prefix: What the names of all candidates of the target start with.
    """
    catalogue = f"{exact_sql(target.database)}.INFORMATION_SCHEMA"
    here = f"TABLE_SCHEMA = {string_sql(target.schema)}"
    tables = (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('name', TABLE_NAME, 'rows', ROW_COUNT, 'comment', COMMENT)) "
        f"FROM {catalogue}.TABLES WHERE {here} AND (TABLE_NAME = {string_sql(target.name)} "
        f"OR LEFT(TABLE_NAME, {len(prefix)}) = {string_sql(prefix)}))"
    )
    columns = (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('table', TABLE_NAME, 'position', ORDINAL_POSITION, 'name', COLUMN_NAME, "
        "'type', DATA_TYPE, 'precision', NUMERIC_PRECISION, 'scale', NUMERIC_SCALE, 'length', CHARACTER_MAXIMUM_LENGTH, 'digits', DATETIME_PRECISION)) "
        f"FROM {catalogue}.COLUMNS WHERE {here} AND TABLE_NAME IN ({string_sql(target.name)}, {string_sql(candidate.name)}))"
    )
    return tables, columns


def inspection_of(tables: Any, columns: Any, *, target: Relation, candidate: Relation) -> Inspection:
    """Return what the two JSON arrays of `inspection_columns_sql` say."""
    listed = [
        Listed(str(row["name"]), None if row.get("rows") is None else int(row["rows"]), marker_in(row.get("comment")))
        for row in _rows(tables)
    ]
    by_table: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(_rows(columns), key=lambda row: int(row["position"])):
        by_table.setdefault(str(row["table"]), []).append(row)
    return Inspection(
        next((table for table in listed if table.name == target.name), None),
        tuple(table for table in listed if table.name != target.name),
        tuple(_column(row) for row in by_table.get(target.name, [])),
        tuple(_column(row) for row in by_table.get(candidate.name, [])),
    )


def _rows(value: Any) -> Sequence[Mapping[str, Any]]:
    return json.loads(value) if isinstance(value, str) else (value or [])


_MEASURES = ("precision", "scale", "length", "digits")


def _column(row: Mapping[str, Any]) -> Column:
    numbers = (None if row.get(name) is None else int(row[name]) for name in _MEASURES)
    return Column(str(row["name"]), str(row["type"]), *numbers)
