"""Which columns a file has, and the query that reads each as text. A query that fails raises DuckDB's error: `places` explains it."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from duckdb import DuckDBPyConnection

from run_elt_dagster.dialect.names import literal, quoted
from run_elt_dagster.dialect.types import MOST_DIGITS, Kind, Type
from run_elt_dagster.model.names import IDENTIFIER_LIMIT, stored_name
from run_elt_dagster.seeding.kinds import Form

FORMATS = ("csv", "json", "parquet")
_BY_SUFFIX: Mapping[str, str] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    ".parquet": "parquet",
}
DELIMITERS = (",", ";", "\t", "|")
_VALUE = re.compile(r"[+-]?[\d.,]+|\d{4}-\d{2}-\d{2}.*")
_NUMBERED = re.compile(r"(.+)_\d+", re.DOTALL)
# DuckDB would read them as a pattern of names.
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FileColumn:
    """A column of a file.

    Attributes:
        name: As Snowflake stores it: a plain name in upper case, any other exactly as the file has it.
        form: What the file says of its values.
        kind: Its type, where the file says it.
    """

    name: str
    form: Form = Form.TEXT_OF_ANYTHING
    kind: Type | None = None


@dataclass(frozen=True)
class LocalFile:
    """A file that can be read.

    Attributes:
        path: The file.
        format: One of FORMATS.
        columns: Its columns in order.
        text_sql: DuckDB's query for all columns as text, in the order of the file.
        delimiter: Between the fields of a CSV file.
    """

    path: Path
    format: str
    columns: tuple[FileColumn, ...]
    text_sql: str
    delimiter: str = ""


def format_of(path: Path, given: str | None) -> str:
    """Return the format of a file: the one that is given, or the one of its name's end.

    Raises:
        ValueError: It is no file, or its name's end says nothing.
    """
    if not path.is_file() or _GLOB.search(str(path)):
        what = "a path without *, ? and [" if path.is_file() else "a file"
        raise ValueError(f"run-elt seed requires {what}, got {path}. Nothing was loaded.")
    chosen = given or _BY_SUFFIX.get(path.suffix.lower())
    if chosen is None:
        raise ValueError(
            f"run-elt seed requires a name that ends with {', '.join(_BY_SUFFIX)}, got {path.name}. Nothing was loaded. Name the "
            f"format with --format {'|'.join(FORMATS)}."
        )
    return chosen


def opened(duck: DuckDBPyConnection, path: Path, form: str, *, delimiter: str | None = None) -> LocalFile:
    """Return a file with its columns.

    Args:
        duck: Looks at JSON and Parquet.
        path: The file.
        form: One of FORMATS.
        delimiter: Between the fields of a CSV file; None to go by its first line.

    Raises:
        ValueError: Its columns have no names that Snowflake could store.
        duckdb.Error: It cannot be read as what it is.
    """
    if form == "csv":
        return _csv(path, delimiter)
    return _json(duck, path) if form == "json" else _parquet(duck, path)


def _csv(path: Path, delimiter: str | None) -> LocalFile:
    chosen, header = _header(path, delimiter)
    names = [cell.strip() for cell in header]
    if "" in names and any(names):
        raise ValueError(
            f"{path.name} requires a name for each column in its first line, got none for column {names.index('') + 1}. Nothing was "
            "loaded. Name it, or leave the column out."
        )
    if not any(names) or any(_VALUE.fullmatch(name) for name in names):
        raise ValueError(
            f"{path.name} requires a first line with the names of its columns, got {', '.join(header) or 'nothing'}. Nothing was "
            "loaded. Add the line."
        )
    columns = tuple(FileColumn(name) for name in _stored(path, names))
    listed = ", ".join(f"{literal(column.name)}: 'VARCHAR'" for column in columns)
    sql = (
        f"SELECT * FROM read_csv({literal(str(path))}, auto_detect = false, header = true, delim = {literal(chosen)}, "
        f"quote = '\"', escape = '\"', allow_quoted_nulls = false, columns = {{{listed}}})"
    )
    return LocalFile(path, "csv", columns, sql, chosen)


def _header(path: Path, delimiter: str | None) -> tuple[str, list[str]]:
    """Return the delimiter and the first line's fields: the delimiter is the one that makes the most of them."""
    # Shells make no tab of it.
    given = "\t" if delimiter == "\\t" else delimiter
    if given is not None and (len(given) != 1 or given in '"\r\n'):
        raise ValueError(f"run-elt seed --delimiter requires one character, got {given!r}. Nothing was loaded.")
    found: dict[str, list[str]] = {}
    for each in (given,) if given else DELIMITERS:
        with path.open(encoding="utf-8-sig", newline="") as file:
            try:
                found[each] = next(csv.reader(file, delimiter=each), [])
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path.name} requires CSV in UTF-8, got {error.reason} (byte 0x{error.object[error.start]:02x}). Nothing was loaded. "
                    "Save it as UTF-8. If it is of Windows: iconv -f WINDOWS-1252 -t UTF-8."
                ) from None
            except csv.Error as error:
                raise ValueError(f"{path.name} requires CSV in UTF-8, got {error}. Nothing was loaded.") from None
    best = max(found, key=lambda each: len(found[each]))
    return best, found[best]


# What DuckDB calls the values of a key.
_JSON_FORMS: Mapping[str, Form] = {
    **dict.fromkeys(("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE"), Form.NUMBER),
    "BOOLEAN": Form.BOOLEAN,
    "JSON": Form.VARIANT,
}


def _json(duck: DuckDBPyConnection, path: Path) -> LocalFile:
    source = f"{literal(str(path))}, format = 'newline_delimited', records = true"
    rows = duck.execute(f"DESCRIBE SELECT * FROM read_json({source}, sample_size = -1)").fetchall()
    keys, kinds = [str(row[0]) for row in rows], [str(row[1]) for row in rows]
    if _may_be_renamed(keys):
        named = duck.execute(
            f"SELECT DISTINCT unnest(json_keys(json)) FROM read_json_objects({literal(str(path))}, format = 'newline_delimited')"
        ).fetchall()
        _stored(path, sorted(str(row[0]) for row in named))
    columns = tuple(FileColumn(name, _json_form(kind)) for name, kind in zip(_stored(path, keys), kinds, strict=True))
    listed = ", ".join(
        f"{literal(key)}: '{'JSON' if column.form is Form.VARIANT else 'VARCHAR'}'"
        for key, column in zip(keys, columns, strict=True)
    )
    names = _renamed(keys, columns, "CAST({} AS VARCHAR)")
    return LocalFile(path, "json", columns, f"SELECT {names} FROM read_json({source}, columns = {{{listed}}})")


def _may_be_renamed(keys: Sequence[str]) -> bool:
    """Return whether a key may be another one in the file: DuckDB 2.0.0 lists the second of `Id` and `id` as `id_1`."""
    folded = {key.lower() for key in keys}
    return any((end := _NUMBERED.fullmatch(key.lower())) and end[1] in folded for key in keys)


def _json_form(duck_type: str) -> Form:
    if duck_type.endswith("[]"):
        return Form.ARRAY
    if duck_type.startswith(("STRUCT", "MAP")):
        return Form.OBJECT
    return _JSON_FORMS.get(duck_type, Form.TEXT)


_PARQUET: Mapping[str, Kind] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), Kind.NUMBER),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"), Kind.NUMBER),
    **dict.fromkeys(("FLOAT", "DOUBLE"), Kind.FLOAT),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), Kind.NTZ),
    **dict.fromkeys(("VARCHAR", "UUID"), Kind.TEXT),
    "BOOLEAN": Kind.BOOLEAN,
    "DATE": Kind.DATE,
    "TIME": Kind.TIME,
    "BLOB": Kind.BINARY,
    "JSON": Kind.VARIANT,
    "TIMESTAMP WITH TIME ZONE": Kind.TZ,
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


def _parquet(duck: DuckDBPyConnection, path: Path) -> LocalFile:
    source = f"read_parquet({literal(str(path))})"
    rows = duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    keys = [str(row[0]) for row in rows]
    kinds = [_parquet_kind(path, key, str(row[1])) for key, row in zip(keys, rows, strict=True)]
    columns = tuple(FileColumn(name, Form.TEXT, kind) for name, kind in zip(_stored(path, keys), kinds, strict=True))
    texts = {
        Kind.BINARY: "hex({})",
        Kind.ARRAY: "CAST(to_json({}) AS VARCHAR)",
        Kind.OBJECT: "CAST(to_json({}) AS VARCHAR)",
    }
    names = ", ".join(
        f"{texts.get(kind.kind, 'CAST({} AS VARCHAR)').format(quoted(key))} AS {quoted(column.name)}"
        for key, kind, column in zip(keys, kinds, columns, strict=True)
    )
    return LocalFile(path, "parquet", columns, f"SELECT {names} FROM {source}")


def _parquet_kind(path: Path, column: str, duck_type: str) -> Type:
    if decimal := _DECIMAL.fullmatch(duck_type):
        return Type(Kind.NUMBER, int(decimal[1]), int(decimal[2]))
    if duck_type.endswith("]"):
        return Type(Kind.ARRAY)
    if duck_type.startswith(("STRUCT", "MAP")):
        return Type(Kind.OBJECT)
    kind = Kind.TEXT if duck_type.startswith("ENUM") else _PARQUET.get(duck_type)
    if kind is None:
        raise ValueError(
            f"{path.name} requires types that Snowflake has, got {duck_type} in column {column}. Nothing was loaded. Write the "
            "column with another type."
        )
    return Type(kind, MOST_DIGITS)


def _renamed(keys: Sequence[str], columns: Sequence[FileColumn], text: str) -> str:
    return ", ".join(
        f"{text.format(quoted(key))} AS {quoted(column.name)}" for key, column in zip(keys, columns, strict=True)
    )


def _stored(path: Path, names: Sequence[str]) -> list[str]:
    """Return the names as Snowflake stores them.

    Raises:
        ValueError: Two differ by case alone, or one is too long.
    """
    stored = [_stored_name(name) for name in names]
    folded = [name.lower() for name in stored]
    twice = [name for name, each in zip(names, folded, strict=True) if folded.count(each) > 1]
    if twice or any(len(name) > IDENTIFIER_LIMIT for name in stored):
        got = f"{', '.join(twice)}" if twice else f"one with more than {IDENTIFIER_LIMIT} characters"
        raise ValueError(
            f"{path.name} requires columns with names that differ by more than case, got {got}. Nothing was loaded. Rename them."
        )
    return stored


def _stored_name(name: str) -> str:
    try:
        return name if name.startswith('"') else stored_name(name)
    except ValueError:
        return name
