"""The test files of a folder of tables: which they are, and what they say. Nothing is run here."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from run_elt_dagster.model.front_matter import Location, Settings, read_settings
from run_elt_dagster.model.names import Key, key_of, stored_name, stored_names
from run_elt_dagster.model.problems import TableProblem

SUFFIX = ".test.yaml"
LIKE_SUFFIX = (SUFFIX, ".test.yml", ".tests.yaml", ".tests.yml")
_FILE_KEYS = ("description", "types", "cases")
_CASE_KEYS = (
    "description",
    "partition",
    "increment_start",
    "given",
    "expect",
    "now",
    "ordered",
    "exact",
    "tolerance",
    "account",
)
_LONGEST_KEY = 3
T = TypeVar("T")


class CaseFilesError(ValueError):
    """What is wrong with test files, all at once.

    Attributes:
        problems: Each with its file and line.
    """

    def __init__(self, problems: Sequence[TableProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (str(problem.path), problem.line)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Cell:
    """A value as the file has it.

    Attributes:
        value: What YAML reads: text, a number, true or false, a date or timestamp, a list, a mapping, or None for NULL.
        line: Line of the file, from 1.
    """

    value: Any
    line: int


Row = Mapping[str, Cell]
"""The named columns of a row, as Snowflake stores their names."""


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        name: Its name in the file.
        line: Line of the name, from 1.
        given: The rows of the upstream tables, by the key under which SQL reads them.
        expect: The rows that the SQL must give.
        expect_line: Line of `expect`.
        now: The time for the SQL, in UTC; None where the file states none.
        ordered: Whether the rows must come in this order.
        exact: Whether every column of the result must be named.
        tolerance: How far a FLOAT may be from the expected one; None for the usual rounding alone.
        account: Whether it runs on an account only.
        partition: The partition that is built, or a range of them, FIRST...LAST; None for the whole SELECT.
        increment_start: Where the increment begins that is built; None for the whole SELECT.
    """

    name: str
    line: int
    given: Mapping[Key, Sequence[Row]]
    expect: Sequence[Row]
    expect_line: int
    now: datetime | None = None
    ordered: bool = False
    exact: bool = False
    tolerance: Decimal | None = None
    account: bool = False
    partition: str | None = None
    increment_start: date | datetime | None = None


@dataclass(frozen=True)
class CaseFile:
    """What a test file says.

    Attributes:
        path: The file.
        types: The types of upstream columns, by table and stored column; each is the text of a type.
        cases: The tests, in the order of the file.
        lines: Line of every key and item, from 1.
    """

    path: Path
    types: Mapping[Key, Row]
    cases: Sequence[Case]
    lines: Mapping[Location, int] = field(default_factory=dict[Location, int])


def is_case_file(name: str) -> bool:
    """Return whether a file of this name is a test file, or means to be one."""
    return not name.startswith(".") and name.lower().rstrip().endswith(LIKE_SUFFIX)


def case_files(directory: Path) -> Iterator[Path]:
    """Yield what is named like a test file below a folder of tables, at any depth; a link may stand for a schema."""
    for entry in sorted(path for path in directory.glob("*") if not path.name.startswith(".")):
        found = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
        for path in found:
            is_hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
            if is_case_file(path.name) and not is_hidden:
                yield path


def table_of(path: Path) -> tuple[str, str]:
    """Return schema and table of a test file, in lower case."""
    name = path.name
    return path.parent.name.lower(), name[: name.lower().index(".test")].lower()


def read_case_file(path: Path, *, database: str = "") -> CaseFile:
    """Return what a test file says.

    Args:
        path: The file.
        database: The session's database: `database.schema.table` then is `schema.table`.

    Raises:
        CaseFilesError: With everything that is wrong with it.
    """
    if not path.name.endswith(SUFFIX):
        message = f"a test file requires the suffix {SUFFIX}, got {path.name}. It would not run. Rename it."
        raise CaseFilesError([TableProblem(path, 1, message)])
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        message = f"a test file requires a file that can be read, got {error.strerror}. Make it readable."
        raise CaseFilesError([TableProblem(path, 1, message)]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"requires UTF-8, got byte {error.object[error.start]:#04x} at {error.start}. Save it as UTF-8."
        raise CaseFilesError([TableProblem(path, line, message)]) from error
    reader = _Reader(path, read_settings(text, subject="a test file", takes_null=True), database)
    found = reader.file()
    if reader.problems:
        raise CaseFilesError(reader.problems)
    return found


class _Reader:
    """Makes cases of what YAML has read, and notes what is wrong."""

    def __init__(self, path: Path, settings: Settings, database: str) -> None:
        self._path = path
        self._values = settings.values
        self._lines = settings.lines
        self._database = key_of([database])[0] if database else None
        self.problems = [TableProblem(path, fault.line + 1, fault.message) for fault in settings.faults]

    def file(self) -> CaseFile:
        """Return the file as far as it is right."""
        self._require_known_keys((), self._values, _FILE_KEYS)
        types = self._by_table(("types",), self._values.get("types", {}), self._row)
        for name, row in types.items():
            for column, cell in row.items():
                if not isinstance(cell.value, str):
                    self._note_line(
                        cell.line,
                        f"types of {'.'.join(name)}.{column} requires a type, as in number(10, 2), got another value. Write one.",
                    )
        cases = self._mapping(("cases",), self._values.get("cases", {}))
        if not cases and not self.problems:
            self._note((), "a test file requires cases, got none. Write one below cases:, with given: and expect:.")
        found = [self._case(name, value) for name, value in cases.items()]
        lines = {at: line + 1 for at, line in self._lines.items()}
        return CaseFile(self._path, types, [case for case in found if case is not None], lines)

    def _case(self, name: str, value: Any) -> Case | None:
        at: Location = ("cases", name)
        if "::" in name or name != name.strip() or not name or not name.isprintable():
            self._note(
                at,
                f"the name of a case requires plain text without ::, got {name!r}. No test could be selected by it. Rename the case.",
            )
        case = self._mapping(at, value)
        self._require_known_keys(at, case, _CASE_KEYS)
        for key in ("given", "expect"):
            if key not in case:
                self._note(at, f"case {name!r} requires {key}, got none. Write {key}: with its rows, or [] for none.")
                return None
        return Case(
            name,
            self._line(at),
            self._by_table((*at, "given"), case["given"], self._rows),
            self._expected((*at, "expect"), case["expect"]),
            self._line((*at, "expect")),
            now=self._now((*at, "now"), case.get("now")),
            tolerance=self._tolerance((*at, "tolerance"), case.get("tolerance")),
            partition=self._partition((*at, "partition"), case.get("partition")),
            increment_start=self._start((*at, "increment_start"), case.get("increment_start")),
            **{key: self._flag((*at, key), case.get(key, False)) for key in ("ordered", "exact", "account")},
        )

    def _by_table(self, at: Location, value: Any, read: Callable[[Location, Any], T]) -> dict[Key, T]:
        """Return what stands below the names of tables, by the tables' keys."""
        found: dict[Key, T] = {}
        for name, inside in self._mapping(at, value).items():
            key = self._key((*at, name))
            if key in found:
                self._note(
                    (*at, name),
                    f"{_named(at)} requires tables that differ, got {name} a second time. Keep one of them.",
                )
            elif key is not None:
                found[key] = read((*at, name), inside)
        return found

    def _expected(self, at: Location, rows: Any) -> list[Row]:
        found = self._rows(at, rows)
        for index, row in enumerate(found):
            if not row:
                self._note(
                    (*at, index), f"{_named((*at, index))} requires a column, got none. Name the columns to compare."
                )
        return found

    def _rows(self, at: Location, rows: Any) -> list[Row]:
        if not isinstance(rows, list):
            self._note(
                at,
                f"{_named(at)} requires a list of rows, got something else. Write each row as - {{column: value}}, or [] for no row.",
            )
            return []
        return [self._row((*at, index), row) for index, row in enumerate(rows)]

    def _row(self, at: Location, row: Any) -> Row:
        found: dict[str, Cell] = {}
        for column, value in self._mapping(at, row).items():
            try:
                name = stored_name(column)
            except ValueError as error:
                self._note((*at, column), f"a column {error}, got {column!r}. Correct the name.")
                continue
            if name in found:
                self._note(
                    (*at, column), f"a row requires columns that differ, got {column} a second time. Keep one of them."
                )
            found[name] = Cell(value, self._line((*at, column)))
        return found

    def _key(self, at: Location) -> Key | None:
        """Return the key of the table that the last part names."""
        name = str(at[-1])
        try:
            parts = stored_names(name)
        except ValueError:
            parts = ()
        if len(parts) not in (2, _LONGEST_KEY):
            self._note(at, f"a table requires schema.table, got {name!r}. Write the name as the SQL does.")
            return None
        key = key_of(parts)
        return key[1:] if len(key) == _LONGEST_KEY and key[0] == self._database else key

    def _now(self, at: Location, value: Any) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        self._note(
            at,
            f"now requires a date or a timestamp, as in 2030-01-31 10:00:00, got {written(value)}. Without a time zone it is UTC.",
        )
        return None

    def _partition(self, at: Location, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, date) and not isinstance(value, datetime):
            return value.isoformat()
        self._note(at, f"partition requires a key or FIRST...LAST, as in 2024-01-31, got {written(value)}. Quote it.")
        return None

    def _start(self, at: Location, value: Any) -> date | datetime | None:
        if value is None or isinstance(value, date):
            return value
        self._note(
            at,
            f"increment_start requires a date or a timestamp, as in 2024-01-31 10:00:00, got {written(value)}. Write one, unquoted.",
        )
        return None

    def _tolerance(self, at: Location, value: Any) -> Decimal | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0:
            self._note(at, f"tolerance requires a number of at least 0, got {written(value)}. Write one, as in 0.001.")
            return None
        return Decimal(value)

    def _flag(self, at: Location, value: Any) -> bool:
        if not isinstance(value, bool):
            self._note(at, f"{at[-1]} requires true or false, got {written(value)}. Write one of them.")
        return value is True

    def _mapping(self, at: Location, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._note(at, f"{_named(at)} requires `key: value` lines, got something else. Write one a line.")
            return {}
        return value

    def _require_known_keys(self, at: Location, found: Iterable[str], known: Sequence[str]) -> None:
        for key in found:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                remedy = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."
                self._note((*at, key), f"unknown key {key!r}. {remedy}")

    def _line(self, at: Location) -> int:
        return next((self._lines[at[:length]] + 1 for length in range(len(at), 0, -1) if at[:length] in self._lines), 1)

    def _note(self, at: Location, message: str) -> None:
        self._note_line(self._line(at), message)

    def _note_line(self, line: int, message: str) -> None:
        # What YAML has told of a line is not said again in other words.
        if all(problem.line != line for problem in self.problems):
            self.problems.append(TableProblem(self._path, line, message))


def written(value: Any) -> str:
    """Return a value of YAML as a message names it; text in quotes."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else json.dumps(value, default=written, ensure_ascii=False)


def _named(at: Location) -> str:
    return ".".join(str(part) for part in at) or "a test file"
