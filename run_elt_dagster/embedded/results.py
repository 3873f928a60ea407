"""What a statement gives: rows as DuckDB has them, columns as the connector wants them described."""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from fakesnow.rowtype import ColumnInfo

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.dialect.types import Kind, Type

DDL = 0x6000
_TEXT_LENGTH = 16_777_216
_BINARY_LENGTH = 8_388_608
# https://docs.snowflake.com/en/developer-guide/sql-api/handling-responses#getting-metadata-about-the-results
_WIRE = {
    Kind.NUMBER: "fixed",
    Kind.FLOAT: "real",
    Kind.TEXT: "text",
    Kind.NULL: "text",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIME: "time",
    Kind.NTZ: "timestamp_ntz",
    Kind.LTZ: "timestamp_ltz",
    Kind.TZ: "timestamp_tz",
    Kind.VARIANT: "variant",
    Kind.ARRAY: "array",
    Kind.OBJECT: "object",
    Kind.BINARY: "binary",
}


@dataclass(frozen=True)
class Result:
    """What a statement gives.

    Attributes:
        table: The rows.
        rowtype: The columns as the connector wants them described.
        statement_type: Snowflake's id of the kind of statement, which tells the connector what counts as rows.
    """

    table: pa.Table
    rowtype: list[ColumnInfo]
    statement_type: int = 0


def result_of(table: Any, columns: Sequence[tuple[str, Type]], statement_type: int = 0) -> Result:
    """Return a result whose columns have these names and types.

    Raises:
        SqlError: DuckDB gave another type than the translation said: its rows could mean something else.
    """
    rowtype: list[ColumnInfo] = []
    for index, (name, kind) in enumerate(columns):
        table, described = _described(table, index, kind)
        rowtype.append(_column_info(name, described))
    return Result(table, rowtype, statement_type)


def _described(table: Any, index: int, kind: Type) -> tuple[Any, Type]:
    """Return the table with a column as the connector reads it, and the column's type."""
    column, field = table.column(index), table.schema.field(index)
    found = column.type
    if pa.types.is_integer(found) and kind.kind is Kind.NUMBER and kind.scale == 0:
        return (table if found == pa.int64() else table.set_column(index, field.name, column.cast(pa.int64()))), kind
    if pa.types.is_decimal(found) and kind.kind is Kind.NUMBER and found.scale == kind.scale:
        return table, Type(Kind.NUMBER, found.precision, kind.scale)
    if pa.types.is_null(found):
        # Nothing but NULL: DuckDB gives no type, the connector needs one.
        return table.set_column(index, field.name, column.cast(_EMPTY.get(kind.kind, pa.string()))), kind
    fits = _FITS.get(kind.kind)
    has_zone = kind.kind in types.INSTANTS and pa.types.is_timestamp(found) and found.tz is not None
    if kind.kind is Kind.NULL or (fits and fits(found) and has_zone == (kind.kind is Kind.LTZ)):
        return table, kind
    raise unsupported("give a column of this type", f"{found} where {kind} was expected, for {field.name}")


def _is_json(found: Any) -> bool:
    return "string" in str(found) or "json" in str(found)


_EMPTY = {
    Kind.NUMBER: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.NTZ: pa.timestamp("us"),
    Kind.LTZ: pa.timestamp("us", "UTC"),
    Kind.TZ: pa.struct([("utc", pa.timestamp("us")), ("offset", pa.int32())]),
    Kind.BINARY: pa.binary(),
}
_FITS: Mapping[Kind, Callable[[Any], bool]] = {
    Kind.FLOAT: pa.types.is_float64,
    Kind.TEXT: pa.types.is_string,
    Kind.BOOLEAN: pa.types.is_boolean,
    Kind.DATE: pa.types.is_date32,
    Kind.TIME: pa.types.is_time64,
    Kind.NTZ: pa.types.is_timestamp,
    Kind.LTZ: pa.types.is_timestamp,
    Kind.TZ: pa.types.is_struct,
    Kind.VARIANT: _is_json,
    Kind.ARRAY: _is_json,
    Kind.OBJECT: _is_json,
    Kind.BINARY: pa.types.is_binary,
}


def _column_info(name: str, kind: Type) -> ColumnInfo:
    is_text, is_time = kind.kind in {Kind.TEXT, Kind.NULL}, kind.kind in {Kind.TIME, *types.INSTANTS}
    length = _TEXT_LENGTH if is_text else _BINARY_LENGTH if kind.kind is Kind.BINARY else None
    return {
        "name": name,
        "database": "",
        "schema": "",
        "table": "",
        "nullable": True,
        "type": _WIRE[kind.kind],
        "byteLength": length,
        "length": (kind.length or length) if is_text else length,
        "scale": kind.scale if kind.kind is Kind.NUMBER else 9 if is_time else None,
        "precision": kind.precision if kind.kind is Kind.NUMBER else 0 if is_time else None,
        "collation": None,
    }


def status(message: str) -> Result:
    """Return the one row that Snowflake gives for a statement without rows.

    Made without DuckDB: a cancellation that arrives after the effect must not make the statement fail.
    """
    return result_of(pa.table({"status": [message]}), [("status", types.TEXT)], DDL)


def counts(names: Sequence[str], numbers: Sequence[int], statement_type: int) -> Result:
    """Return the one row in which Snowflake counts what a statement has changed."""
    columns = {str(index): [number] for index, number in enumerate(numbers)}
    return result_of(pa.table(columns), [(name, types.INT) for name in names], statement_type)


_ARROW_REMARK = "Arrow output on a DB-API result"
_allowing_arrow_output = threading.Lock()


def allow_arrow_output() -> None:
    """Silence one remark of DuckDB's about a copy that cannot be avoided.

    Set anew where it is gone, because whoever captures warnings (pytest does) takes filters away again. Where it is there it
    stays: Python 3.11 takes a filter out before it puts the same one in, and another thread's remark may come in between.
    """
    with _allowing_arrow_output:
        if not any(action == "ignore" and _is_arrow_remark(message) for action, message, *_ in warnings.filters):
            warnings.filterwarnings("ignore", message=_ARROW_REMARK, category=UserWarning)


def _is_arrow_remark(message: object) -> bool:
    return getattr(message, "pattern", None) == _ARROW_REMARK
