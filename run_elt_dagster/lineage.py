"""Which tables a SELECT reads, and which tables stand in a folder of SQL files, in an order that can be built."""

import difflib
import graphlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from run_elt_dagster.checks import TABLE_PLACEHOLDER
from run_elt_dagster.lineage_cache import LineageCache, cache_file
from run_elt_dagster.relation import shown
from run_elt_dagster.table import AnalyticsTable, TableProblem, TableProblemsError, parse_table_file

# What stands for the table under audit while the query of a check is read.
_UNDER_AUDIT = "run_elt_audit.table_under_audit"

Key = tuple[str, ...]
"""`(schema, table)` of a table, or `(database, schema, table)` of one in another database; lower case.

A name that Snowflake stores with small letters or signs stands in double quotes, as SQL has it.
"""


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
        parts = [part for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part]
        names = [part.name if part.quoted else part.name.upper() for part in parts]
        if len(names) == 1 and names[0].upper() in expressions:
            continue
        if len(names) == 1:
            raise UnreadableSqlError(f"table {parts[0].name} has no schema; write schema.{parts[0].name}")
        keys.add(key_of(names))
    return tuple(sorted(keys))


def key_of(names: Iterable[str]) -> Key:
    """Return the key of stored names: lower case, but quoted where Snowflake needs quotes."""
    return tuple(name.lower() if shown(name) == name else shown(name) for name in names)


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


def load_tables(directory: Path, *, database: str | None = None, cache_dir: Path | None = None) -> Catalogue:
    """Return every table below `directory/<schema>/<table>.sql`.

    Args:
        directory: The folder of table files.
        database: Name of the session's database: `database.schema.table` in SQL then means a declared table too.
        cache_dir: Where to remember which tables the SQL reads, None to parse it each time.

    Raises:
        TableProblemsError: With all problems of all files; a bad file never hides another's.
    """
    cache = LineageCache(cache_file(cache_dir, directory), upstream_tables)
    tables: list[AnalyticsTable] = []
    problems: list[TableProblem] = []
    for path in _table_files(directory):
        try:
            tables.append(_load_table(directory, path))
        except TableProblemsError as error:
            problems += error.problems
    found = catalogue(tables, database=database, known_problems=problems, read=cache)
    cache.save()
    return found


def load_table(directory: Path, name: str) -> AnalyticsTable:
    """Return one table. No other file is opened, so a wrong one elsewhere in the folder changes nothing.

    Args:
        directory: The folder of table files.
        name: `schema.table` or `schema/table`, in any case.

    Raises:
        TableProblemsError: With the problems of this file; or there is no folder, or two files declare the table.
        ValueError: No file declares it.
    """
    _require_folder(directory)
    wanted = name.lower().replace("/", ".")
    # By their names alone: `directory.rglob` would not go into a linked folder.
    files = {path: f"{path.parent.name}.{path.stem}".lower() for path in sorted(directory.glob("*/*"))}
    files = {path: each for path, each in files.items() if path.suffix.lower() == ".sql" and not _is_hidden(path)}
    found = [path for path, each in files.items() if each == wanted]
    if not found:
        near = difflib.get_close_matches(wanted, files.values(), n=1)
        known = f"Did you mean {near[0]}?" if near else f"Known tables: {', '.join(files.values()) or 'none'}."
        raise ValueError(
            f"run-elt requires a declared table, got {name}: {directory} has no file of it. Nothing was done. {known}"
        )
    if len(found) > 1:
        message = f"{wanted} requires one file, got a second: {found[0]} declares it too. Rename or remove one of them."
        raise TableProblemsError([TableProblem(found[1], 1, message)])
    return _load_table(directory, found[0])


def load_declared(directory: Path) -> tuple[dict[Key, AnalyticsTable], list[TableProblem]]:
    """Return the tables whose files can be read, and what is wrong with the others; no SQL is parsed.

    For looking at tables only: what is built comes from `load_tables`, where one wrong file is not left out.

    Raises:
        TableProblemsError: There is no folder, or no SQL file in it.
    """
    tables: dict[Key, AnalyticsTable] = {}
    problems: list[TableProblem] = []
    for path in _table_files(directory):
        try:
            table = _load_table(directory, path)
        except TableProblemsError as error:
            problems += error.problems
        else:
            tables[table.key] = table
    return tables, problems


def catalogue(
    tables: Sequence[AnalyticsTable],
    *,
    database: str | None = None,
    known_problems: Sequence[TableProblem] = (),
    read: Callable[[str], tuple[Key, ...]] = upstream_tables,
) -> Catalogue:
    """Return the tables with their upstream tables, checked as a whole.

    Args:
        tables: The declared tables.
        database: Name of the session's database.
        known_problems: What was found before.
        read: Returns the tables that a SQL text reads.

    Raises:
        TableProblemsError: Two tables share a target, SQL cannot be read, or tables depend on each other in a circle;
            `known_problems` come first.
    """
    problems = [*known_problems, *_duplicates(tables)]
    declared = {own_key(table): table.key for table in tables}
    upstream: dict[Key, tuple[Key, ...]] = {}
    for table in tables:
        try:
            upstream[table.key] = _upstream_of(table, database, declared, read)
        except TableProblemsError as error:
            problems += error.problems
    found = Catalogue(tables, upstream)
    if not problems:
        problems += _cycles(found)
    if problems:
        raise TableProblemsError(problems)
    return found


def _require_folder(directory: Path) -> None:
    if not directory.is_dir():
        message = "RUN_ELT_TABLES_DIR requires a folder, got none here. Create it, or correct the variable."
        raise TableProblemsError([TableProblem(directory, 1, message)])


def _table_files(directory: Path) -> list[Path]:
    _require_folder(directory)
    files = sorted(path for path in directory.rglob("*.sql") if path.is_file())
    if not files:
        message = "a folder of tables requires <schema>/<table>.sql, got no SQL file. Add one."
        raise TableProblemsError([TableProblem(directory, 1, message)])
    return files


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.parent.name.startswith(".")


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


def _upstream_of(
    table: AnalyticsTable,
    database: str | None,
    declared: Mapping[Key, Key],
    read_off: Callable[[str], tuple[Key, ...]],
) -> tuple[Key, ...]:
    stated = {tuple(name.lower().split(".")) for name in table.upstream}
    try:
        read = set(read_off(table.sql))
    except UnreadableSqlError as error:
        if not stated:
            message = (
                f"cannot tell which tables the SQL reads: {error}. Without them it could be built before its parents. "
                "Correct the SQL, or name them in the front matter, as in upstream: [raw_data.events]."
            )
            raise TableProblemsError([TableProblem(table.path, table.sql_line, message)]) from error
        read = set[Key]()
    if own_key(table) in {_local(key, database) for key in stated | read}:
        message = f"{table.name} cannot read itself: a CTAS starts from nothing. Read its source instead."
        raise TableProblemsError([TableProblem(table.path, table.sql_line, message)])
    keys = {_local(key, database) for key in stated | read | set(_read_by_checks(table, database, read_off))}
    return tuple(sorted({declared.get(key, key) for key in keys}))


def own_key(table: AnalyticsTable) -> Key:
    """Return the key under which SQL reads a table; another one than the table's where its name needs quotes."""
    return key_of((table.stored_schema, table.stored_table))


def _read_by_checks(
    table: AnalyticsTable, database: str | None, read_off: Callable[[str], tuple[Key, ...]]
) -> Iterator[Key]:
    """Yield the tables that the checks read: built before, or a check would compare with yesterday's."""
    for rule in table.checks.relationship.values():
        if _local(key_of(rule.table), database) != own_key(table):
            yield key_of(rule.table)
    for name, rule in table.checks.sql.items():
        try:
            keys = read_off(rule.query.replace(TABLE_PLACEHOLDER, _UNDER_AUDIT))
        except UnreadableSqlError as error:
            message = f"checks.sql.{name} requires a query that can be read, got one that cannot: {error}."
            raise TableProblemsError([TableProblem(table.path, 1, message)]) from error
        for key in keys:
            if _local(key, database) == own_key(table):
                message = (
                    f"checks.sql.{name} cannot read {table.name} by its name: that is what is published, not the candidate. "
                    f"Write {TABLE_PLACEHOLDER}."
                )
                raise TableProblemsError([TableProblem(table.path, 1, message)])
            if key != (_UNDER_AUDIT.split(".", maxsplit=1)[0], _UNDER_AUDIT.split(".")[1]):
                yield key


def _local(key: Key, database: str | None) -> Key:
    return key[1:] if len(key) == 3 and database and key[0] == database.lower() else key  # noqa: PLR2004


def _duplicates(tables: Sequence[AnalyticsTable]) -> Iterator[TableProblem]:
    seen: dict[Key, AnalyticsTable] = {}
    for table in tables:
        # By the asset key and by the target: two files must share neither.
        for key in {table.key, own_key(table)}:
            first = seen.setdefault(key, table)
            if first is not table:
                message = (
                    f"{table.name} requires one file, got a second: {first.path or 'table'} declares it too (Snowflake folds "
                    "unquoted names to one case). Rename or remove one of them."
                )
                yield TableProblem(table.path, 1, message)
                break


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
