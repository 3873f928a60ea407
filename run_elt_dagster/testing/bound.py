"""A test file together with its table: which columns the upstream tables have, and what is wrong between the two."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from run_elt_dagster.dialect.types import Type
from run_elt_dagster.dialect.values import Value
from run_elt_dagster.model.lineage import own_key, read_sql
from run_elt_dagster.model.names import Key, display_name, key_of, stored_name, stored_names
from run_elt_dagster.model.placeholders import placeholders_in
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.testing.files import Case, CaseFile, CaseFilesError, Cell, Row, written
from run_elt_dagster.testing.values import MisfitError, constant, inferred_type, require_digits, type_of_text

_WITH_DATABASE = 3


@dataclass(frozen=True)
class Upstream:
    """A table that the SQL reads, as the cases give it.

    Attributes:
        columns: Its columns with their types.
        left_out: The declared columns that no row of the embedded Snowflake can have, with their types.
    """

    columns: Mapping[str, Type]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])

    def constants(self, row: Row) -> list[Value]:
        """Return the cells of a row in the order of the columns; what the row does not name is NULL.

        Raises:
            MisfitError: A value is none of its column.
        """
        return [constant(row[name].value if name in row else None, kind) for name, kind in self.columns.items()]


@dataclass(frozen=True)
class TableTests:
    """The tests of a table.

    Attributes:
        table: The table.
        file: Its cases.
        upstream: The tables that its SQL reads, by the key under which it reads them.
        database: The session's database as a part of a key.
    """

    table: AnalyticsTable
    file: CaseFile
    upstream: Mapping[Key, Upstream]
    database: str

    def sql(self, case: Case) -> str:
        """Return the SELECT of a case: the whole one of the file, or that of the case's partitions or increment.

        Raises:
            ValueError: The table has no such partition or no increment, or its SQL asks for a partition and the case names none.
        """
        if case.increment_start is not None:
            return self.table.increment_sql(self.table.start_of(case.increment_start))
        if case.partition is None and self.table.increment is not None:
            return self.table.whole_sql
        if case.partition is None and placeholders_in(self.table.sql):
            raise ValueError(
                "requires partition, since the SQL has {partition_start} and {partition_end}, got none. Name one."
            )
        if case.partition is None:
            return self.table.sql
        return self.table.sliced_sql(self.table.part(case.partition))

    def key_of_parts(self, parts: Sequence[str]) -> Key:
        """Return the key of a table by the parts of its name as Snowflake stores them; "" is a schema left out."""
        return _local(key_of(part or "PUBLIC" for part in parts), self.database)


def bind(file: CaseFile, table: AnalyticsTable, declared: Mapping[Key, AnalyticsTable], *, database: str) -> TableTests:
    """Return a file's cases with the columns of the upstream tables.

    Args:
        file: What the test file says.
        table: The table of its name.
        declared: All declared tables.
        database: The session's database.

    Raises:
        CaseFilesError: Rows of a table are missing or are of none that the SQL reads, a column has no type, or a value is none
            of its column.
    """
    local = key_of([database])[0]
    binding = _Binding(file, table, {own_key(each): each for each in declared.values()}, local)
    problems = list(binding.problems())
    upstream = {key: binding.upstream(key) for key in binding.given_keys} if not problems else {}
    problems += binding.found
    if not problems:
        problems += binding.misfits(upstream)
    if problems:
        raise CaseFilesError(problems)
    return TableTests(table, file, upstream, local)


class _Binding:
    """Looks a file's tables and columns up.

    Attributes:
        found: What is wrong with columns.
        given_keys: The tables that any case gives.
    """

    def __init__(
        self, file: CaseFile, table: AnalyticsTable, declared: Mapping[Key, AnalyticsTable], database: str
    ) -> None:
        self._file, self._table, self._declared = file, table, declared
        self.found: list[TableProblem] = []
        self.given_keys = tuple(dict.fromkeys(key for case in file.cases for key in case.given))
        self._reads = {
            _local(key, database): table.sql_line + line - 1
            for key, line in read_sql(table.readable_sql).tables.items()
        }
        self._stated = {_local(key_of(stored_names(name)), database) for name in table.upstream}

    def problems(self) -> Iterator[TableProblem]:
        """Yield the tables of which rows are missing, and those that the SQL does not read."""
        for case in self._file.cases:
            for key, line in self._reads.items():
                if key not in case.given:
                    message = (
                        f"case {case.name!r} requires rows of {_name(key)}, got none. The SQL reads that table in line {line} of "
                        f"{_file_name(self._table.path)}. Write {_name(key)}: with its rows below given:, or [] for no row."
                    )
                    yield self._problem(case.line, message)
            for key in case.given:
                yield from self._unread(key, "cases", case.name, "given")
        for key in self._file.types:
            yield from self._unread(key, "types")

    def upstream(self, key: Key) -> Upstream:
        """Return an upstream table; what is wrong with its columns is noted."""
        rows = [row for case in self._file.cases for row in case.given.get(key, ())]
        contract = self._contract(key)
        stated = self._file.types.get(key, {})
        columns: dict[str, Type] = {}
        left_out: dict[str, str] = {}
        for name in dict.fromkeys((*contract, *stated, *(column for row in rows for column in row))):
            cells = [row[name] for row in rows if name in row]
            if contract and name not in contract:
                self._note_undeclared(key, name, [*cells, *([stated[name]] if name in stated else [])])
            elif contract.get(name) and name in stated:
                message = f"types cannot state {_name(key)}.{display_name(name)} again: {self._where(key)} declares it. Remove it here."
                self.found.append(self._problem(stated[name].line, message))
            else:
                text = stated[name].value if name in stated else contract.get(name)
                kind = self._type(key, name, text, cells, stated.get(name))
                if kind is None:
                    left_out[name] = text or ""
                else:
                    columns[name] = kind
        return Upstream(columns, left_out)

    def misfits(self, upstream: Mapping[Key, Upstream]) -> Iterator[TableProblem]:
        """Yield the values that are none of their column."""
        for case in self._file.cases:
            for key, rows in case.given.items():
                columns = upstream[key].columns
                for name, cell in ((name, cell) for row in rows for name, cell in row.items() if name in columns):
                    try:
                        constant(cell.value, columns[name])
                    except MisfitError as error:
                        yield self._problem(cell.line, misfit(f"{_name(key)}.{display_name(name)}", error, cell.value))

    def _contract(self, key: Key) -> dict[str, str | None]:
        table = self._declared.get(key)
        return {stored_name(name): column.type for name, column in table.columns.items()} if table else {}

    def _type(self, key: Key, name: str, text: str | None, cells: Sequence[Cell], stated: Cell | None) -> Type | None:
        values = [cell.value for cell in cells]
        subject = f"column {display_name(name)} of {_name(key)}"
        if text:
            self._note_digits(key, name, text, cells)
            return self._stated_type(subject, text, cells, stated)
        kind = inferred_type(values)
        # A declared column that no row names is not missed until the SQL reads it.
        if kind is None and (cells or name not in self._contract(key)):
            got = "values of several types" if any(value is not None for value in values) else "only NULL"
            line = cells[0].line if cells else self._file.lines.get(("cases",), 1)
            message = f"{subject} requires a type, got {got}. State it, as in types: {{{_name(key)}: {{{display_name(name).lower()}: number}}}}."
            self.found.append(self._problem(line, message))
        return kind

    def _stated_type(self, subject: str, text: str, cells: Sequence[Cell], stated: Cell | None) -> Type | None:
        values = [cell.value for cell in cells]
        try:
            return type_of_text(text, values)
        except MisfitError as error:
            # A column that no row names is not missed until the SQL reads it.
            if stated or any(value is not None for value in values):
                line = stated.line if stated else cells[0].line
                message = f"{subject} {error}, got {text}. Leave the column out, if the SQL does not read it."
                self.found.append(self._problem(line, message))
            return None

    def _note_digits(self, key: Key, name: str, text: str, cells: Sequence[Cell]) -> None:
        for cell in cells:
            try:
                require_digits(text, cell.value)
            except MisfitError as error:
                subject = f"{_name(key)}.{display_name(name)}"
                self.found.append(self._problem(cell.line, misfit(subject, error, cell.value)))

    def _note_undeclared(self, key: Key, name: str, cells: Sequence[Cell]) -> None:
        contract = self._contract(key)
        near = difflib.get_close_matches(name, contract, n=1)
        remedy = (
            f"Did you mean {display_name(near[0])}?"
            if near
            else f"Its columns: {', '.join(map(display_name, contract))}."
        )
        message = f"{_name(key)} cannot have the column {display_name(name)}: {self._where(key)} declares its columns without it. {remedy}"
        self.found.append(self._problem(cells[0].line, message))

    def _unread(self, key: Key, *at: str) -> Iterator[TableProblem]:
        if key in self._reads or key in self._stated:
            return
        near = difflib.get_close_matches(_name(key), map(_name, self._reads), n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"It reads {', '.join(map(_name, self._reads)) or 'no table'}."
        line = next(
            (line for where, line in self._file.lines.items() if where[:-1] == at and _is_named(where[-1], key)), 1
        )
        message = f"{at[-1]} cannot name {_name(key)}: the SQL of {self._table.name} does not read it. {remedy}"
        yield self._problem(line, message)

    def _where(self, key: Key) -> str:
        return _file_name(self._declared[key].path)

    def _problem(self, line: int, message: str) -> TableProblem:
        return TableProblem(self._file.path, line, message)


# What other tools write for NULL. YAML reads it as text.
_LIKE_NULL = ("null", "none", "nan", "na", "n/a", "nil", "\\n", "")


def misfit(subject: str, error: MisfitError, value: Any) -> str:
    """Return what is wrong with a value of a test file."""
    rule, _, remedy = str(error).partition(". ")
    if isinstance(value, str) and value.lower() in _LIKE_NULL:
        remedy = "NULL is null, without quotes"
    return f"{subject} {rule}, got {written(value)}.{f' {remedy}.' if remedy else ' Correct the value.'}"


def _is_named(name: str | int, key: Key) -> bool:
    try:
        parts = key_of(stored_names(str(name)))
    except ValueError:
        return False
    return parts[-len(key) :] == key


def _local(key: Key, database: str) -> Key:
    return key[1:] if len(key) == _WITH_DATABASE and key[0] == database else key


def _name(key: Key) -> str:
    return ".".join(key)


def _file_name(path: Path | None) -> str:
    return path.name if path else "its declaration"
