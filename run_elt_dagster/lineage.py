"""Which tables a SELECT reads, and which tables stand in a folder of SQL files, in an order that can be built."""

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from run_elt_dagster.table import AnalyticsTable, TableProblem, TableProblemsError, parse_table_file

Key = tuple[str, ...]
"""`(schema, table)` of a table, or `(database, schema, table)` of one in another database; lower case."""


class UnreadableSqlError(ValueError):
    """SQL whose upstream tables cannot be read off it."""


def upstream_tables(sql: str) -> tuple[Key, ...]:
    """Return the tables that a SELECT reads, sorted, each once; common table expressions are left out.

    sqlglot only reads here: the SQL that runs is always the author's.

    Raises:
        UnreadableSqlError: sqlglot cannot read the SQL, or a table in it has no schema.
    """
    # Not needed where nothing is parsed, and half a second to import.
    import sqlglot  # noqa: PLC0415
    from sqlglot import exp  # noqa: PLC0415
    from sqlglot.errors import SqlglotError  # noqa: PLC0415

    try:
        query = sqlglot.parse_one(sql, read="snowflake")
    except SqlglotError as error:
        raise UnreadableSqlError(str(error).split("\n", maxsplit=1)[0]) from error
    if not isinstance(query, exp.Query):
        raise UnreadableSqlError(f"it reads as {type(query).__name__.upper()}, not as a query")
    expressions = {cte.alias_or_name.upper() for cte in query.find_all(exp.CTE)}
    keys: set[Key] = set()
    for table in query.find_all(exp.Table):
        # A table function or a stage has no identifier: it is no table that somebody could build.
        if not isinstance(table.this, exp.Identifier):
            continue
        parts = tuple(part.name for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part)
        if len(parts) == 1 and parts[0].upper() in expressions:
            continue
        if len(parts) == 1:
            raise UnreadableSqlError(f"table {parts[0]} has no schema; write schema.{parts[0]}")
        keys.add(tuple(part.lower() for part in parts))
    return tuple(sorted(keys))


class Catalogue(Mapping[Key, AnalyticsTable]):
    """The declared tables by key, and what each of them reads.

    Attributes:
        upstream: For every table, the keys that its SQL reads: declared tables and others.
    """

    def __init__(self, tables: Iterable[AnalyticsTable], upstream: Mapping[Key, tuple[Key, ...]]) -> None:
        self._tables: dict[Key, AnalyticsTable] = {table.key: table for table in tables}
        self.upstream = dict(upstream)

    def __getitem__(self, key: Key) -> AnalyticsTable:
        """Return the table of a key."""
        return self._tables[key]

    def __iter__(self) -> Iterator[Key]:
        """Go through the keys in the order of the files."""
        return iter(self._tables)

    def __len__(self) -> int:
        """Return the number of tables."""
        return len(self._tables)

    @property
    def sources(self) -> tuple[Key, ...]:
        """Keys that are read but not declared, sorted."""
        return tuple(sorted({key for keys in self.upstream.values() for key in keys if key not in self._tables}))

    def parents(self, key: Key) -> tuple[Key, ...]:
        """Return the declared tables that a table reads."""
        return tuple(parent for parent in self.upstream[key] if parent in self._tables)


def load_tables(directory: Path, *, database: str | None = None) -> Catalogue:
    """Return every table below `directory/<schema>/<table>.sql`.

    Args:
        directory: The folder of table files.
        database: Name of the session's database: `database.schema.table` in SQL then means a declared table too.

    Raises:
        TableProblemsError: With all problems of all files; a bad file never hides another's.
    """
    tables: list[AnalyticsTable] = []
    problems: list[TableProblem] = []
    for path in _table_files(directory):
        try:
            tables.append(_load_table(directory, path))
        except TableProblemsError as error:
            problems += error.problems
    return catalogue(tables, database=database, known_problems=problems)


def catalogue(
    tables: Sequence[AnalyticsTable],
    *,
    database: str | None = None,
    known_problems: Sequence[TableProblem] = (),
) -> Catalogue:
    """Return the tables with their upstream tables, checked as a whole.

    Raises:
        TableProblemsError: Two tables share a target, SQL cannot be read, or tables depend on each other in a circle;
            `known_problems` come first.
    """
    problems = [*known_problems, *_duplicates(tables)]
    upstream: dict[Key, tuple[Key, ...]] = {}
    for table in tables:
        try:
            upstream[table.key] = _upstream_of(table, database)
        except TableProblemsError as error:
            problems += error.problems
    found = Catalogue(tables, upstream)
    if not problems:
        problems += _cycles(found)
    if problems:
        raise TableProblemsError(problems)
    return found


def _table_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        message = "RUN_ELT_TABLES_DIR requires a folder, got none here. Create it, or correct the variable."
        raise TableProblemsError([TableProblem(directory, 1, message)])
    files = sorted(path for path in directory.rglob("*.sql") if path.is_file())
    if not files:
        message = "a folder of tables requires <schema>/<table>.sql, got no SQL file. Add one."
        raise TableProblemsError([TableProblem(directory, 1, message)])
    return files


def _load_table(directory: Path, path: Path) -> AnalyticsTable:
    parts = path.relative_to(directory).with_suffix("").parts
    if len(parts) != 2:  # noqa: PLR2004 - schema and table
        message = (
            f"the path requires <schema>/<table>.sql below {directory}, got {path.relative_to(directory)}. Move it."
        )
        raise TableProblemsError([TableProblem(path, 1, message)])
    try:
        # newline="": the SQL runs byte for byte, its line ends included.
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        message = f"requires UTF-8, got byte {error.object[error.start]:#04x} at {error.start}. Save it as UTF-8."
        raise TableProblemsError([TableProblem(path, 1, message)]) from error
    return parse_table_file(path, text, schema=parts[0], table=parts[1])


def _upstream_of(table: AnalyticsTable, database: str | None) -> tuple[Key, ...]:
    stated = {_local(tuple(name.lower().split(".")), database) for name in table.upstream}
    try:
        read = {_local(key, database) for key in upstream_tables(table.sql)}
    except UnreadableSqlError as error:
        if not stated:
            message = (
                f"cannot tell which tables the SQL reads: {error}. Without them it could be built before its parents. "
                "Correct the SQL, or name them in the front matter, as in upstream: [raw_data.events]."
            )
            raise TableProblemsError([TableProblem(table.path, table.sql_line, message)]) from error
        read = set()
    if table.key in stated | read:
        message = f"{table.name} cannot read itself: a CTAS starts from nothing. Read its source instead."
        raise TableProblemsError([TableProblem(table.path, table.sql_line, message)])
    return tuple(sorted(stated | read))


def _local(key: Key, database: str | None) -> Key:
    return key[1:] if len(key) == 3 and database and key[0] == database.lower() else key  # noqa: PLR2004


def _duplicates(tables: Sequence[AnalyticsTable]) -> Iterator[TableProblem]:
    seen: dict[Key, AnalyticsTable] = {}
    for table in tables:
        first = seen.setdefault(table.key, table)
        if first is not table:
            message = (
                f"{table.name} requires one file, got a second: {first.path or 'table'} declares it too (Snowflake folds "
                "unquoted names to one case). Rename or remove one of them."
            )
            yield TableProblem(table.path, 1, message)


def _cycles(tables: Catalogue) -> Iterator[TableProblem]:
    try:
        graphlib.TopologicalSorter({key: tables.parents(key) for key in tables}).prepare()
    except graphlib.CycleError as error:
        circle: list[Key] = error.args[1][::-1]
        message = (
            f"tables cannot depend on each other in a circle, got {' -> '.join('.'.join(key) for key in circle)}. None "
            "of them could be built first. Take one of the reads out."
        )
        first = tables[circle[0]]
        yield TableProblem(first.path, first.sql_line, message)
