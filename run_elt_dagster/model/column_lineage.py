"""Column lineage of the declared tables: from which columns of which tables the values of each column come."""

import contextlib
import graphlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from run_elt_dagster.model.lineage import Catalogue, own_key
from run_elt_dagster.model.names import Key, key_of, stored_name, stored_names
from run_elt_dagster.model.origins import (
    ColumnRef,
    Columns,
    Origin,
    Output,
    Unknown,
    columns_of_table,
    read,
    written,
)

# Raised when the reading of columns changes.
_FORMAT = 2
_DATABASE_PARTS = 3
_MOST_VERSIONS = 4
# A tree of so many tables is more than a person reads.
_DEEPEST = 100
_NAMES_SHOWN = 10

ReadColumns = Callable[[str, Callable[[Key], Columns]], Columns]
"""Returns the columns of a SELECT, given what the tables give that it reads."""


def read_columns(sql: str, tables: Callable[[Key], Columns]) -> Columns:
    """Return the columns of a SELECT, each with its origin."""
    # sqlglot takes half a second to import, and is not needed where everything is remembered.
    from run_elt_dagster.model.query_columns import columns_of  # noqa: PLC0415

    return columns_of(sql, tables)


@dataclass(frozen=True)
class Step:
    """A column, and those behind it.

    Attributes:
        column: The column.
        steps: The columns that it comes from, or that come from it.
        unknown: Why these cannot be told, empty if they can.
        is_repeated: Whether the same column stands further above, with its steps.
    """

    column: ColumnRef
    steps: tuple["Step", ...] = ()
    unknown: str = ""
    is_repeated: bool = False


class ColumnLineage:
    """The columns of the declared tables, read when they are asked for and remembered by what they were read from.

    Args:
        tables: The declared tables, and what each of them reads.
        sources: Names of the columns of other tables, as they are stored, where they are known.
        path: A file that remembers what was read, None for none. It may be deleted at any time.
        read_sql: Returns the columns of a SELECT.
    """

    def __init__(
        self,
        tables: Catalogue,
        *,
        sources: Mapping[Key, Sequence[str]] | None = None,
        path: Path | None = None,
        read_sql: ReadColumns = read_columns,
    ) -> None:
        self._tables = tables
        self._sources = dict(sources or {})
        self._path = path
        self._read_sql = read_sql
        self._used: dict[str, Columns] = {}
        self._found: dict[Key, Columns] = {}
        self._sources_used: set[Key] = set()
        # What SQL calls a table, where that is not its key.
        self._own = {own_key(table): key for key, table in tables.items()}

    def knowing(self, sources: Mapping[Key, Sequence[str]]) -> "ColumnLineage":
        """Return the same with the stored names of the columns of more sources."""
        known = {**self._sources, **sources}
        return ColumnLineage(self._tables, sources=known, path=self._path, read_sql=self._read_sql)

    @property
    def sources_used(self) -> frozenset[Key]:
        """The sources whose known columns have been used for an answer."""
        return frozenset(self._sources_used)

    @cached_property
    def _known(self) -> dict[str, str]:
        """What the file says of each table, as text, read when the first column is asked for: not when the code location is loaded."""
        return _read_file(self._path) if self._path else {}

    def of(self, key: Key) -> Columns:
        """Return the columns of a declared table, each with the columns that its SQL takes it from."""
        if key not in self._found:
            # Parents first, without recursion: tables may stand in a chain of thousands.
            for table in self._missing_before(key):
                self._found[table] = self._columns(table)
        return self._found[key]

    def origin(self, column: ColumnRef) -> Origin:
        """Return where a column of a declared table comes from, in one step."""
        return self.of(column.table).origin(column.column)

    def names(self, key: Key) -> tuple[str, ...] | None:
        """Return the names of all columns of a table, None where they are not known."""
        if key in self._tables:
            return self.of(key).names
        if key not in self._sources:
            return None
        self._sources_used.add(key)
        return tuple(self._sources[key])

    def shown(self, key: Key) -> list[tuple[str, Origin]]:
        """Return the columns of a declared table whose names are known, in order, with their origins."""
        items = self.of(key).items
        return [(item.name, item.origin) for item in items if isinstance(item, Output) and item.name is not None]

    def unnamed(self, key: Key) -> list[str]:
        """Return why columns of a table are missing in `shown`, a reason each."""
        items = self.of(key).items
        reasons = [rest.reason for rest in self.of(key).rests]
        nameless = any(isinstance(item, Output) and item.name is None for item in items)
        return [*dict.fromkeys([*reasons, *(["an expression has no alias"] if nameless else [])])]

    def columns(self, key: Key) -> list[str]:
        """Return the names of the columns of a table: all that are known, or of a table without a file those that are read."""
        if key in self._tables:
            return [name for name, _ in self.shown(key)]
        return list(self.names(key) or sorted({ref.column for ref in self._readers if ref.table == key}))

    def upstream(self, column: ColumnRef) -> Step:
        """Return a column with all that it comes from, through the declared tables to the sources."""
        return _behind(column, lambda each: self.origin(each) if each.table in self._tables else frozenset(), set())

    def downstream(self, column: ColumnRef) -> Step:
        """Return a column with all that comes from it. What cannot tell its origin is not among it: see `doubtful`."""
        return _behind(column, lambda each: frozenset(self._readers.get(each, ())), set())

    @cached_property
    def _readers(self) -> dict[ColumnRef, set[ColumnRef]]:
        readers: dict[ColumnRef, set[ColumnRef]] = {}
        for key in self._tables:
            for name, origin in self.shown(key):
                for ref in origin if not isinstance(origin, Unknown) else ():
                    readers.setdefault(ref, set()).add(ColumnRef(key, name))
        return readers

    def doubtful(self, key: Key) -> Iterator[tuple[str, str]]:
        """Yield the columns below a table that may come from it unseen: a name, and why their origin cannot be told."""
        for table in self._below(key):
            name = ".".join(table)
            for column, origin in self.shown(table):
                if isinstance(origin, Unknown):
                    yield str(ColumnRef(table, column)), origin.reason
            for reason in self.unnamed(table):
                yield f"columns of {name}", reason

    def find(self, name: str) -> tuple[Key, str | None]:
        """Return the table and the column that a person has named.

        Args:
            name: `schema.table`, `schema.table.column`, or these with a database before them.

        Raises:
            ValueError: It is no name, or the tables have and read nothing of this name.
        """
        dotted = name if '"' in name else name.replace("/", ".")
        try:
            parts = key_of(stored_names(dotted))
        except ValueError as error:
            raise ValueError(
                f"run-elt lineage requires schema.table or schema.table.column, got {name}: it {error}."
            ) from None
        known = {**self._own, **{key: key for key in (*self._tables, *self._tables.sources)}}
        if parts in known:
            return known[parts], None
        if parts[:-1] not in known:
            near = get_close_matches(".".join(parts), map(".".join, known))
            remedy = f"Did you mean {' or '.join(near)}?" if near else "run-elt show lists the declared tables."
            raise ValueError(
                f"run-elt lineage requires a table that a file declares or that one reads, got {name}. {remedy}"
            )
        key, column = known[parts[:-1]], stored_names(dotted)[-1]
        self._check_column(key, column, name)
        return key, column

    def save(self) -> None:
        """Write down what was asked for, in one piece, if it is new; a read-only place is no error."""
        if self._path is None or self._used.keys() <= self._known.keys():
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        # What runs of other tables have asked for stays, until there is far more than tables.
        used = {digest: self._known.get(digest) or _as_text(columns) for digest, columns in self._used.items()}
        current = {**self._known, **used}
        current = current if len(current) <= _MOST_VERSIONS * len(self._tables) else used
        content = {"version": _version(), "columns": current}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(content), encoding="utf-8")
            draft.replace(self._path)

    def _check_column(self, key: Key, column: str, name: str) -> None:
        # A source may have other columns by now than those that are known.
        names = self.names(key) if key in self._tables else None
        if names is not None and column not in names:
            near = get_close_matches(key_of([column])[0], key_of(names)) or key_of(names[:_NAMES_SHOWN])
            raise ValueError(
                f"run-elt lineage requires a column of {'.'.join(key)}, got {name}. It has {len(names)} columns, as "
                f"{', '.join(near)}."
            )

    def _missing_before(self, key: Key) -> Iterable[Key]:
        missing, left = dict[Key, tuple[Key, ...]](), [key]
        while left:
            table = left.pop()
            if table not in missing and table not in self._found:
                missing[table] = self._tables.parents(table)
                left += missing[table]
        return [table for table in graphlib.TopologicalSorter(missing).static_order() if table in missing]

    def _columns(self, key: Key) -> Columns:
        table = self._tables[key]
        declared = [stored_name(name) for name in table.columns]
        upstream = [(parent, self._names_now(parent)) for parent in self._tables.upstream[key]]
        digest = hashlib.sha256(
            json.dumps([table.readable_sql, declared, upstream]).encode("utf-8", "surrogatepass")
        ).hexdigest()
        columns = _from_text(self._known.get(digest))
        if columns is None:
            self._known.pop(digest, None)
            columns = _as_declared(self._read_sql(table.readable_sql, lambda name: self._given(key, name)), declared)
        self._used[digest] = columns
        return columns

    def _names_now(self, key: Key) -> tuple[str, ...] | None:
        return self._found[key].names if key in self._tables else self.names(key)

    def _given(self, reader: Key, name: Key) -> Columns:
        """Return what a table gives, by the name that the SQL of another one has for it."""
        reads = self._tables.upstream[reader]
        # The catalogue has found every table by its full name, or without the session's database.
        names = [name, name[1:]] if len(name) == _DATABASE_PARTS else [name]
        key = next((known for known in (self._own.get(each, each) for each in names) if known in reads), name)
        return columns_of_table(key, self._names_now(key) if key in reads else None)

    def _below(self, key: Key) -> Iterator[Key]:
        below = {key}
        for table in graphlib.TopologicalSorter(
            {each: self._tables.parents(each) for each in self._tables}
        ).static_order():
            if below & set(self._tables.upstream[table]):
                below.add(table)
                yield table


def _behind(column: ColumnRef, look: Callable[[ColumnRef], Origin], seen: set[ColumnRef], depth: int = 0) -> Step:
    """Return a column with all that is behind it; what was seen before is not gone through again."""
    if column in seen:
        return Step(column, is_repeated=True)
    origin = look(column)
    if origin and depth == _DEEPEST:
        return Step(column, unknown=f"more than {_DEEPEST} tables are between: ask for this column by itself")
    if isinstance(origin, Unknown):
        return Step(column, unknown=origin.reason)
    if origin:
        seen.add(column)
    return Step(column, tuple(_behind(each, look, seen, depth + 1) for each in sorted(origin)))


def column_file(directory: Path | None, tables_dir: Path) -> Path | None:
    """Return the file that remembers the columns of a folder of tables."""
    if directory is None:
        return None
    return directory / f"columns-{hashlib.sha256(str(tables_dir).encode()).hexdigest()[:16]}.json"


def _as_declared(columns: Columns, declared: Sequence[str]) -> Columns:
    """Return columns by the names that the file declares, where SQL alone does not tell them: others fail the check `columns`."""
    if columns.names is not None or not declared:
        return columns
    return Columns(tuple(Output(name, columns.origin(name)) for name in declared), is_ordered=False)


def _version() -> str:
    return f"{_FORMAT} {importlib.metadata.version('sqlglot')}"


def _read_file(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["columns"]) if content["version"] == _version() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Not there yet, cut off, or of another program: everything is read again.
        return {}


def _as_text(columns: Columns) -> str:
    """Return columns as JSON. As a text they take little memory until somebody asks for their table."""
    return json.dumps(written(columns))


def _from_text(text: str | None) -> Columns | None:
    """Return the columns of a text, None if it has none: they are read from the SQL again."""
    try:
        return None if text is None else read(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
