"""What Snowflake's catalogue says about a candidate, its target and its rivals. Pure: the queries, and their answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from run_elt_dagster.model.column_type import ColumnType, actual_type
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.production import TableVersion

# What Snowflake gives to text, to a binary and to seconds without a parameter.
_USUAL_LENGTHS, _USUAL_DIGITS = {"TEXT": 16_777_216, "BINARY": 8_388_608}, 9


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
        is_nullable: Whether it has no NOT NULL constraint.
    """

    name: str
    data_type: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    digits: int | None = None
    is_nullable: bool = True

    @property
    def type(self) -> str:
        """The type as a person would write it."""
        if self.data_type == "NUMBER" and self.precision is not None:
            return f"NUMBER({self.precision},{self.scale or 0})"
        if (usual := _USUAL_LENGTHS.get(self.data_type)) is not None:
            name = "VARCHAR" if self.data_type == "TEXT" else self.data_type
            return f"{name}({self.length})" if self.length not in (None, usual) else name
        has_digits = self.data_type.startswith("TIME") and self.digits not in (None, _USUAL_DIGITS)
        return f"{self.data_type}({self.digits})" if has_digits else self.data_type

    def is_a(self, declared: ColumnType) -> bool:
        """Return whether the column keeps what was declared, as far as the catalogue says."""
        number = () if self.precision is None else (self.precision, self.scale or 0)
        others = tuple(value for value in (self.length, self.digits) if value is not None)
        return declared.admits(actual_type(self.data_type, number or others))


@dataclass(frozen=True)
class Inspection:
    """What the catalogue said at one moment.

    Attributes:
        target: The published table, None if there is none.
        candidates: The candidates of the same target, this run's and others'.
        target_columns: Columns of the published table in order.
        candidate_columns: Columns of this run's candidate in order.
        candidate_bytes: How large this run's candidate is, None where the catalogue does not say it.
        asked_at: When it was asked, aware, UTC, by Snowflake's clock; None where it has no table.
    """

    target: TableVersion | None = None
    candidates: tuple[TableVersion, ...] = ()
    target_columns: tuple[Column, ...] = ()
    candidate_columns: tuple[Column, ...] = ()
    candidate_bytes: int | None = None
    asked_at: datetime | None = None

    @property
    def target_rows(self) -> int | None:
        """Rows of the published table, None if there is none."""
        return self.target.rows if self.target else None


# One column as `columns_of` reads it. https://docs.snowflake.com/en/sql-reference/info-schema/columns
COLUMN_SQL = (
    "OBJECT_CONSTRUCT('table', TABLE_NAME, 'position', ORDINAL_POSITION, 'name', COLUMN_NAME, 'type', DATA_TYPE, "
    "'nullable', IS_NULLABLE, 'precision', NUMERIC_PRECISION, 'scale', NUMERIC_SCALE, 'length', CHARACTER_MAXIMUM_LENGTH, "
    "'digits', DATETIME_PRECISION)"
)


def inspection_columns_sql(target: Relation, candidate: Relation, *, prefix: str) -> tuple[str, str]:
    """Return two expressions for a SELECT: the tables and the columns concerned, each as one JSON array.

    Both go along with the scan of an audit, so they cost no statement of their own, and say what is there while the
    candidate can already be seen by other runs. https://docs.snowflake.com/en/sql-reference/info-schema/tables

    Args:
        target: What readers see.
        candidate: This run's candidate.
        prefix: What the names of all candidates of the target start with.
    """
    catalogue = f"{quote_identifier(target.database)}.INFORMATION_SCHEMA"
    here = f"TABLE_SCHEMA = {quote_literal(target.schema)}"
    tables = (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('name', TABLE_NAME, 'rows', ROW_COUNT, 'bytes', BYTES, 'comment', COMMENT, "
        "'created', DATE_PART(EPOCH_MICROSECOND, CREATED), 'now', DATE_PART(EPOCH_MICROSECOND, CURRENT_TIMESTAMP()))) "
        f"FROM {catalogue}.TABLES WHERE {here} AND (TABLE_NAME = {quote_literal(target.name)} "
        f"OR LEFT(TABLE_NAME, {len(prefix)}) = {quote_literal(prefix)}))"
    )
    columns = (
        f"(SELECT ARRAY_AGG({COLUMN_SQL}) "
        f"FROM {catalogue}.COLUMNS WHERE {here} AND TABLE_NAME IN ({quote_literal(target.name)}, {quote_literal(candidate.name)}))"
    )
    return tables, columns


def inspection_of(tables: Any, columns: Any, *, target: Relation, candidate: Relation) -> Inspection:
    """Return what the two JSON arrays of `inspection_columns_sql` say."""
    rows = _rows(tables)
    listed = [
        TableVersion(
            str(row["name"]),
            _whole(row.get("rows")),
            str(row.get("comment") or ""),
            created_at=_moment(row.get("created")),
        )
        for row in rows
    ]
    by_table = columns_of(columns)
    return Inspection(
        next((table for table in listed if table.name == target.name), None),
        tuple(table for table in listed if table.name != target.name),
        by_table.get(target.name, ()),
        by_table.get(candidate.name, ()),
        next((_whole(row.get("bytes")) for row in rows if row["name"] == candidate.name), None),
        next((_moment(row["now"]) for row in rows if row.get("now") is not None), None),
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(microseconds: Any) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=int(microseconds))


def columns_of(listed: Any) -> dict[str, tuple[Column, ...]]:
    """Return the columns of tables in order, by the table's name, out of an array of `COLUMN_SQL`."""
    found: dict[str, tuple[Column, ...]] = {}
    for row in sorted(_rows(listed), key=lambda row: int(row["position"])):
        found[str(row["table"])] = (*found.get(str(row["table"]), ()), _column(row))
    return found


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _rows(value: Any) -> Sequence[Mapping[str, Any]]:
    return json.loads(value) if isinstance(value, str) else (value or [])


_MEASURES = ("precision", "scale", "length", "digits")


def _column(row: Mapping[str, Any]) -> Column:
    numbers = (_whole(row.get(name)) for name in _MEASURES)
    return Column(str(row["name"]), str(row["type"]), *numbers, is_nullable=row.get("nullable") != "NO")
