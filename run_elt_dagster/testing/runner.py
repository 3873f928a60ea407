"""Runs cases: the table's own SQL on the given rows, then the comparison with what is expected."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from run_elt_dagster.dialect.errors import SqlError, missing_object
from run_elt_dagster.dialect.scope import Relation
from run_elt_dagster.dialect.types import Kind, Type
from run_elt_dagster.model.front_matter import SQL_UNIT
from run_elt_dagster.model.names import Key, display_name, stored_name
from run_elt_dagster.testing.bound import TableTests, misfit
from run_elt_dagster.testing.difference import Comparison, Difference, lines
from run_elt_dagster.testing.files import Case
from run_elt_dagster.testing.memory import TIME_FUNCTIONS, Memory, Translated, given_table
from run_elt_dagster.testing.values import MisfitError, agree, got, meant

Verdict = Literal["passed", "failed", "error", "skipped"]
NO_ACCOUNT = "it runs on an account only: set the SNOWFLAKE_ variables, and RUN_ELT_TEST_SCHEMA to a scratch schema"
_REFUSED, _INVALID_IDENTIFIER, _NO_OBJECT = 2, 904, 2003


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        table: `schema.table`.
        case: Its name.
        path: The test file.
        line: Line of the case.
        verdict: Whether the rows were the expected ones.
        message: Why not, or why it was skipped: several lines; empty where it passed.
        seconds: How long it took.
        difference: The rows that differ.
    """

    table: str
    case: str
    path: Path
    line: int
    verdict: Verdict
    message: str = ""
    seconds: float = 0.0
    difference: Difference | None = None

    def as_mapping(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "table": self.table,
            "case": self.case,
            "verdict": self.verdict,
            "path": str(self.path),
            "line": self.line,
            "seconds": round(self.seconds, 4),
            "message": self.message,
            "difference": self.difference.as_mapping() if self.difference else None,
        }


@dataclass(frozen=True)
class Answered:
    """What the SQL gave.

    Attributes:
        columns: Names and types.
        rows: The rows, comparable.
    """

    columns: tuple[tuple[str, Type], ...]
    rows: list[tuple[Any, ...]]


class CaseError(Exception):
    """A case that cannot be judged: its SQL fails, or its file does not suit the result."""


class AccountRunner(Protocol):
    """Runs a case on an account."""

    def answer(self, tests: TableTests, case: Case) -> Answered:
        """Return what the SQL gives.

        Raises:
            CaseError: It fails there.
        """
        ...


class Runner:
    """Runs cases one after another, in one thread, as a context manager.

    Args:
        account: Returns what runs the cases for an account, and is called at the first of them; None skips them.
    """

    def __init__(self, account: Callable[[], AccountRunner] | None = None) -> None:
        self._memory = Memory()
        self._open_account = account
        self._translated: dict[tuple[int, object, object], tuple[TableTests, Translated]] = {}

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of everything."""
        self._memory.__exit__(kind, error, traceback)

    def run(self, tests: TableTests, case: Case) -> Outcome:
        """Return what becomes of a case. Safe to repeat."""
        started = time.monotonic()
        outcome = partial(Outcome, tests.table.name, case.name, tests.file.path, case.line)
        if case.account and self._open_account is None:
            return outcome("skipped", NO_ACCOUNT)
        try:
            answer = self._account.answer(tests, case) if case.account else self._answer(tests, case)
            difference, text = _judged(tests, case, answer)
        except CaseError as error:
            return outcome("error", str(error), time.monotonic() - started)
        seconds = time.monotonic() - started
        return outcome("failed", text, seconds, difference) if difference else outcome("passed", "", seconds)

    @cached_property
    def _account(self) -> AccountRunner:
        if self._open_account is None:
            raise CaseError(NO_ACCOUNT)
        return self._open_account()

    def _answer(self, tests: TableTests, case: Case) -> Answered:
        tables = _tables(tests)
        try:
            query = self._query(tests, case, tables)
            _require_time(tests, case, query.time_functions)
            constants = {
                name: [upstream.constants(row) for row in case.given[key]]
                for (name, key), upstream in zip(_names(tests), tests.upstream.values(), strict=True)
            }
            given = {name: tables[key].columns for name, key in _names(tests)}
            rows = self._memory.rows(query, given, constants, now=case.now)
        except SqlError as error:
            raise CaseError(_told(tests, error)) from error
        kinds = [column.type for column in query.columns]
        found = [tuple(map(got, row, kinds)) for row in rows]
        return Answered(tuple((column.name, column.type) for column in query.columns), found)

    def _query(self, tests: TableTests, case: Case, tables: Mapping[Key, Relation]) -> Translated:
        """Return the table's SQL for DuckDB, translated once for all cases of the same partition or increment."""
        key = id(tests), case.partition, case.increment_start
        known = self._translated.get(key)
        if known is None:
            known = tests, self._memory.translated(file_sql(tests, case), partial(_find, tests, tables))
            self._translated[key] = known
        return known[1]


def file_sql(tests: TableTests, case: Case) -> str:
    """Return the SQL of a case with the lines that it has in its file.

    Raises:
        CaseError: The table has no such partition, or no increment.
    """
    sql = case_sql(tests, case)
    # Around the SQL of a slice stands another query, with a line of its own before it.
    around = sql.count("\n", 0, max(sql.find(tests.table.sql), 0))
    return "\n" * max(tests.table.sql_line - 1 - around, 0) + sql


def case_sql(tests: TableTests, case: Case) -> str:
    """Return the SQL of a case.

    Raises:
        CaseError: The table has no such partition, or no increment.
    """
    try:
        return tests.sql(case)
    except ValueError as error:
        raise CaseError(f"{tests.file.path}:{case.line}: case {case.name!r}: {error}") from error


def _names(tests: TableTests) -> Sequence[tuple[str, Key]]:
    return [(f"given {number}", key) for number, key in enumerate(tests.upstream)]


def _tables(tests: TableTests) -> Mapping[Key, Relation]:
    return {key: given_table(name, list(tests.upstream[key].columns.items())) for name, key in _names(tests)}


def _find(tests: TableTests, tables: Mapping[Key, Relation], parts: Sequence[str]) -> Relation:
    """Return the table of given rows that a name means, as a run finds the table."""
    found = tables.get(tests.key_of_parts(parts))
    if found is None:
        raise missing_object(".".join(parts))
    return found


def _require_time(tests: TableTests, case: Case, functions: frozenset[str]) -> None:
    if not functions or case.now is not None:
        return
    sql = file_sql(tests, case)
    words = (unit for unit in SQL_UNIT.finditer(sql) if unit.lastgroup == "word")
    asking = next(unit for unit in words if unit.group().upper() in TIME_FUNCTIONS)
    line = sql.count("\n", 0, asking.start()) + 1
    raise CaseError(
        f"{tests.table.path}:{line}: case {case.name!r} requires now, since the SQL asks for the time by {asking.group()}. The "
        "expected rows would be wrong tomorrow. Write now: with a date or a timestamp into the case."
    )


def _told(tests: TableTests, error: SqlError) -> str:
    """Return an error of the SQL with its place and the next step."""
    text = " ".join(str(error).split())
    place = f"{tests.table.path}:{error.line or tests.table.sql_line}"
    remedy = ""
    if error.errno == _REFUSED:
        remedy = " In a test: mark the case with account: true."
    elif error.errno == _NO_OBJECT:
        remedy = " Name the table below given:, as the SQL does."
    elif error.errno == _INVALID_IDENTIFIER:
        remedy = _remedy_for_column(tests, text)
    return f"{place}: the SQL of {tests.table.name} fails: {text.rstrip('.')}.{remedy}"


def _remedy_for_column(tests: TableTests, text: str) -> str:
    left_out = {name: kind for each in tests.upstream.values() for name, kind in each.left_out.items()}
    for name, kind in left_out.items():
        if f"'{name}'" in text or f".{name}'" in text:
            if not kind:
                return f" {display_name(name)} is declared without a type: state it in types:."
            return (
                f" The embedded Snowflake has no column of the type {kind}, as {display_name(name)} is. Mark the case with account: "
                "true."
            )
    return " If an upstream table has this column, name it in a row of given:, or its type in types:."


def _judged(tests: TableTests, case: Case, answer: Answered) -> tuple[Difference, str]:
    """Return how a result differs from the expected rows, and that for a person."""
    kinds = dict(answer.columns)
    named = _named(case)
    for name in (name for name in named if name not in kinds):
        line = next(row[name].line for row in case.expect if name in row)
        columns = ", ".join(map(display_name, kinds))
        raise CaseError(
            f"{tests.file.path}:{line}: case {case.name!r} cannot expect {display_name(name)}: the SQL gives no such column, but "
            f"{columns}. Correct the name."
        )
    left = [name for name in kinds if name not in named]
    if case.exact and left and case.expect:
        raise CaseError(
            f"{tests.file.path}:{case.expect_line}: case {case.name!r} requires every column, since it is exact, got no "
            f"{', '.join(map(display_name, left))}. Name them in expect:, or take exact: true out."
        )
    columns = [name for name in kinds if name in named] or list(kinds)
    comparison = _comparison(tests, case, [(name, kinds[name]) for name in columns])
    expected = [tuple(_expected(tests, row, name, kinds[name]) for name in columns) for row in case.expect]
    places = [place for place, (name, _) in enumerate(answer.columns) if name in columns]
    found = [tuple(row[place] for place in places) for row in answer.rows]
    difference = comparison.difference(expected, found)
    return difference, _report(difference, comparison, len(expected), len(found)) if difference else ""


def _named(case: Case) -> dict[str, None]:
    return dict.fromkeys(name for row in case.expect for name in row)


def _expected(tests: TableTests, row: Mapping[str, Any], name: str, kind: Type) -> Any:
    if name not in row:
        return None
    try:
        return meant(row[name].value, kind)
    except MisfitError as error:
        subject = f"{tests.file.path}:{row[name].line}: expected {display_name(name)}"
        raise CaseError(misfit(subject, error, row[name].value)) from error


def _comparison(tests: TableTests, case: Case, columns: Sequence[tuple[str, Type]]) -> Comparison:
    names = [name for name, _ in columns]
    key = [stored_name(name) for name in tests.table.primary_key]
    by_key = tuple(names.index(name) for name in key) if set(key) <= set(names) else ()
    close = partial(agree, tolerance=case.tolerance)
    same: Callable[[Any, Any], bool] = lambda one, other: one == other  # noqa: E731 - a place for each column
    return Comparison(
        tuple(map(display_name, names)),
        [close if kind.kind is Kind.FLOAT else same for _, kind in columns],
        by_key,
        case.ordered,
    )


def _report(difference: Difference, comparison: Comparison, expected: int, found: int) -> str:
    counted = f"{expected} row{'' if expected == 1 else 's'} expected, {found} found"
    if difference.misplaced:
        head = f"The rows are the expected ones in another order ({counted})."
    else:
        head = f"{counted}. A changed cell shows expected -> got." if difference.changed else f"{counted}."
    return "\n".join([head, *lines(difference, comparison.agree)])
