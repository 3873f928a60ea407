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
_WITH_OFFSET = pa.struct([("utc", pa.timestamp("us")), ("offset", pa.int32())])


def _is_json(found: Any) -> bool:
    return "string" in str(found) or "json" in str(found)


# What the connector calls each kind, the type of a column of nothing but NULL, and whether a type of DuckDB's is of the kind.
# https://docs.snowflake.com/en/developer-guide/sql-api/handling-responses#getting-metadata-about-the-results
_FORMS: Mapping[Kind, tuple[str, pa.DataType, Callable[[Any], bool]]] = {
    Kind.NUMBER: ("fixed", pa.int64(), lambda _: False),
    Kind.FLOAT: ("real", pa.float64(), pa.types.is_float64),
    Kind.TEXT: ("text", pa.string(), pa.types.is_string),
    Kind.NULL: ("text", pa.string(), lambda _: True),
    Kind.BOOLEAN: ("boolean", pa.bool_(), pa.types.is_boolean),
    Kind.DATE: ("date", pa.date32(), pa.types.is_date32),
    Kind.TIME: ("time", pa.time64("us"), pa.types.is_time64),
    Kind.NTZ: ("timestamp_ntz", pa.timestamp("us"), pa.types.is_timestamp),
    Kind.LTZ: ("timestamp_ltz", pa.timestamp("us", "UTC"), pa.types.is_timestamp),
    Kind.TZ: ("timestamp_tz", _WITH_OFFSET, pa.types.is_struct),
    Kind.VARIANT: ("variant", pa.string(), _is_json),
    Kind.ARRAY: ("array", pa.string(), _is_json),
    Kind.OBJECT: ("object", pa.string(), _is_json),
    Kind.BINARY: ("binary", pa.binary(), pa.types.is_binary),
    # No result has one.
    Kind.INTERVAL: ("text", pa.string(), lambda _: False),
}


@dataclass(frozen=True)
class Result:
    """What a statement gives: rows, and their columns as the connector wants them described."""

    table: pa.Table
    rowtype: list[ColumnInfo]
    # Snowflake's id of the kind of statement; it tells the connector what counts as rows.
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
    found, (_, empty, fits) = column.type, _FORMS[kind.kind]
    if kind.kind is Kind.NUMBER and kind.scale == 0 and pa.types.is_integer(found):
        return (table if found == pa.int64() else table.set_column(index, field.name, column.cast(pa.int64()))), kind
    if kind.kind is Kind.NUMBER and pa.types.is_decimal(found) and found.scale == kind.scale:
        return table, Type(Kind.NUMBER, found.precision, kind.scale)
    if pa.types.is_null(found):
        # Nothing but NULL: DuckDB gives no type, the connector needs one.
        return table.set_column(index, field.name, column.cast(empty)), kind
    has_zone = kind.kind in types.INSTANTS and pa.types.is_timestamp(found) and found.tz is not None
    if fits(found) and has_zone == (kind.kind is Kind.LTZ):
        return table, kind
    raise unsupported("give a column of this type", f"{found} where {kind} was expected, for {field.name}")


def _column_info(name: str, kind: Type) -> ColumnInfo:
    is_text, is_time = kind.kind in {Kind.TEXT, Kind.NULL}, kind.kind in {Kind.TIME, *types.INSTANTS}
    length = _TEXT_LENGTH if is_text else _BINARY_LENGTH if kind.kind is Kind.BINARY else None
    return {
        "name": name,
        "database": "",
        "schema": "",
        "table": "",
        "nullable": True,
        "type": _FORMS[kind.kind][0],
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
        silenced = (getattr(message, "pattern", None) for action, message, *_ in warnings.filters if action == "ignore")
        if _ARROW_REMARK not in silenced:
            warnings.filterwarnings("ignore", message=_ARROW_REMARK, category=UserWarning)
