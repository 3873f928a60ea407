"""Where in a file a value stands, and which line of it is none of its format. It is asked only after something was wrong."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass

from run_elt_dagster.seeding.files import LocalFile


@dataclass(frozen=True)
class Record:
    """A record of a file.

    Attributes:
        line: Where it begins, from 1.
        problem: Why it is none, empty if it is one.
        remedy: What to do about it.
    """

    line: int
    problem: str = ""
    remedy: str = "Correct the file."


def line_of(file: LocalFile, row: int) -> int | None:
    """Return the line where a row begins, from 1; None in Parquet, which has no lines.

    Args:
        file: The file.
        row: Its number, from 1.
    """
    if file.format == "parquet":
        return None
    for number, record in enumerate(_records(file), start=1):
        if number == row:
            return record.line
    return None


def broken_line(file: LocalFile) -> Record | None:
    """Return the first record that is none of the file's format, None if there is no such one."""
    if file.format == "parquet":
        return None
    return next((record for record in _records(file) if record.problem), None)


def _records(file: LocalFile) -> Iterator[Record]:
    return _csv_records(file) if file.format == "csv" else _json_records(file)


def _csv_records(file: LocalFile) -> Iterator[Record]:
    wanted, line = len(file.columns), 1
    with file.path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=file.delimiter, strict=True)
        try:
            for number, fields in enumerate(reader):
                # An empty line is no record, except where it is the one field of a record.
                if number and (fields or wanted == 1):
                    got = max(len(fields), 1)
                    yield Record(
                        line,
                        ""
                        if got == wanted
                        else f"requires {wanted} field{'' if wanted == 1 else 's'} as the first line has, got {got}",
                    )
                line = reader.line_num + 1
        except csv.Error as error:
            yield Record(line, f"requires a field whose quotes are closed and doubled inside, got: {error}")
        except UnicodeDecodeError as error:
            yield Record(line, f"requires UTF-8, got: {error.reason} at or after this line")


def _of_array(file: LocalFile) -> str:
    name = file.path.name
    return f"Write each object of the array on a line of its own: jq -c '.[]' {name} > {file.path.stem}.jsonl"


def _json_records(file: LocalFile) -> Iterator[Record]:
    is_empty = True
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if is_empty and line.lstrip()[:1] == b"[":
                yield Record(number, "requires one JSON object on each line, got an array", _of_array(file))
            is_empty = False
            try:
                value = json.loads(line)
            except ValueError as error:
                yield Record(number, f"requires one JSON object on each line, got: {error}")
                continue
            is_object = isinstance(value, dict)
            yield Record(number, "" if is_object else "requires one JSON object on each line, got another value")
    if is_empty:
        yield Record(1, "requires at least one JSON object, got none")
