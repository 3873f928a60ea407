"""Which tables stand in a folder of SQL files, what they read, and in what order they can be built."""

import graphlib
import re
import subprocess
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import partial
from pathlib import Path

from run_elt_dagster.model.broken import BrokenTable, broken_tables
from run_elt_dagster.model.checks import TABLE_PLACEHOLDER, SqlCheck
from run_elt_dagster.model.file_cache import FileCache, Reads, Unclear, cache_file
from run_elt_dagster.model.groups import UNDER_AUDIT, fixed_reads, groups_of, problems_of_groups
from run_elt_dagster.model.names import Key, key_of, stored_name, stored_names
from run_elt_dagster.model.near_misses import NearMisses
from run_elt_dagster.model.parallel_reads import helpers_for, read_many, seldom_collected, started
from run_elt_dagster.model.problems import TableProblem, TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.model.table_files import load_files, table_paths
from run_elt_dagster.model.templates import template_in

# So many circles are told apart, even if they share tables.
_CIRCLES_APART = 100


def read_sql(sql: str) -> Reads:
    """Return what a SELECT reads."""
    # sqlglot takes half a second to import, and is not needed where everything is remembered.
    from run_elt_dagster.model.reads import reads_of  # noqa: PLC0415

    return reads_of(sql)


def _read_many(texts: Sequence[str], ready: Sequence[subprocess.Popen[bytes]]) -> Mapping[str, Reads]:
    """Return what SELECTs read, parsed by several processes if they are many; nothing where one process is enough."""
    if (helpers := helpers_for(len(texts))) <= 0:
        return {}
    with started(helpers - len(ready)) as more:
        return read_many(texts, read_sql, processes=[*ready, *more])


class Catalogue(Mapping[Key, AnalyticsTable]):
    """The declared tables by key, and what each of them reads.

    Attributes:
        upstream: For every table, the keys that its SQL reads: declared tables, broken ones and others.
        broken: The files that cannot be used, by key. They are no tables here: none of them can be built.
        problems: What is wrong with them, in the order of the files.
    """

    def __init__(
        self,
        tables: Iterable[AnalyticsTable],
        upstream: Mapping[Key, tuple[Key, ...]],
        *,
        broken: Iterable[BrokenTable] = (),
        problems: Sequence[TableProblem] = (),
    ) -> None:
        self._tables: dict[Key, AnalyticsTable] = {table.key: table for table in tables}
        self.upstream = dict(upstream)
        self.broken: dict[Key, BrokenTable] = {each.key: each for each in broken}
        self.problems = tuple(problems)
        self._prefix: Key = ()
        self._elsewhere: Mapping[Key, Key] = {}

    def placed(self, *, prefix: Key, elsewhere: Mapping[Key, Key] | None = None) -> "Catalogue":
        """Return the same tables as one folder of several in a code location.

        Args:
            prefix: What stands before the keys of their assets.
            elsewhere: The keys of the assets of tables that other folders declare.
        """
        tables = [table.behind(prefix) for table in self.values()] if prefix else self.values()
        placed = Catalogue(tables, self.upstream, broken=self.broken.values(), problems=self.problems)
        placed._prefix, placed._elsewhere = prefix, dict(elsewhere or {})
        return placed

    def asset_path(self, key: Key) -> Key:
        """Return the key of the asset of a table that is declared here or elsewhere, or that something else loads."""
        return (*self._prefix, *key) if key in self._tables or key in self.broken else self._elsewhere.get(key, key)

    def is_declared_elsewhere(self, key: Key) -> bool:
        """Return whether another folder of the code location declares a table."""
        return key in self._elsewhere

    def __getitem__(self, key: Key) -> AnalyticsTable:
        """Return the table of a key."""
        return self._tables[key]

    def __iter__(self) -> Iterator[Key]:
        """Go through the keys in the order of the files."""
        return iter(self._tables)

    def __len__(self) -> int:
        """Return the number of tables."""
        return len(self._tables)

    def items(self) -> ItemsView[Key, AnalyticsTable]:
        """Return the keys with their tables: those of a Mapping look each one up."""
        return self._tables.items()

    def values(self) -> ValuesView[AnalyticsTable]:
        """Return the tables in the order of the files."""
        return self._tables.values()

    @property
    def sources(self) -> tuple[Key, ...]:
        """Keys that are read but not declared, sorted."""
        read = {key for keys in self.upstream.values() for key in keys}
        read |= {key for each in self.broken.values() for key in each.upstream}
        return tuple(sorted(read - self._tables.keys() - self.broken.keys()))

    def parents(self, key: Key) -> tuple[Key, ...]:
        """Return the declared tables that a table reads."""
        return tuple(parent for parent in self.upstream[key] if parent in self._tables)

    def broken_parents(self, key: Key) -> tuple[Key, ...]:
        """Return the broken files that a table reads the table of."""
        return tuple(parent for parent in self.upstream[key] if parent in self.broken)


def load_tables(
    directory: Path, *, database: str | None = None, cache_dir: Path | None = None, keeps_broken: bool = False
) -> Catalogue:
    """Return every table below `directory/<schema>/<table>.sql`.

    Args:
        directory: The folder of table files.
        database: Name of the session's database: `database.schema.table` in SQL then means a declared table too.
        cache_dir: Where to remember what the files say, None to parse them each time.
        keeps_broken: Whether files with problems are left out of the tables, and kept in `broken`.

    Raises:
        TableProblemsError: With all problems of all files; a bad file never hides another's. With `keeps_broken`, only if the
            folder itself cannot be read, or has no SQL file.
    """
    cache = FileCache(cache_file(cache_dir, directory), read_sql)
    # Where nothing is remembered, helpers are ready when the files are read.
    early = 0 if cache.remembers else helpers_for(len(table_paths(directory)))
    with seldom_collected(parses=not cache.remembers), started(early) as ready:
        tables, problems = load_files(directory, read=cache.settings)
        cache.read_ahead(_texts(tables), partial(_read_many, ready=ready))
        found = _Folder(tables, database=database, known_problems=problems, read=cache)
    cache.save()
    if not keeps_broken or any(problem.path == directory for problem in problems):
        return found.catalogue()
    return found.usable(directory)


def load_declared(directory: Path) -> tuple[dict[Key, AnalyticsTable], list[TableProblem]]:
    """Return the tables whose files can be read, and what is wrong with the others; no SQL is parsed.

    For looking at tables only: what is built comes from `load_tables`, where one wrong file is not left out.

    Raises:
        TableProblemsError: There is no folder, or no SQL file in it.
    """
    tables, problems = load_files(directory)
    return {table.key: table for table in tables}, problems


def catalogue(
    tables: Sequence[AnalyticsTable],
    *,
    database: str | None = None,
    known_problems: Sequence[TableProblem] = (),
    read: Callable[[str], Reads] = read_sql,
) -> Catalogue:
    """Return the tables with their upstream tables, checked as a whole.

    Args:
        tables: The declared tables.
        database: Name of the session's database.
        known_problems: What was found before.
        read: Returns what a SQL text reads.

    Raises:
        TableProblemsError: Two tables share a target, SQL cannot be read, or tables depend on each other in a circle;
            `known_problems` come first.
    """
    return _Folder(tables, database=database, known_problems=known_problems, read=read).catalogue()


class _Folder:
    """Tables that were read together, and everything that is wrong with them.

    Attributes:
        problems: What is wrong: what was known before comes first.
    """

    def __init__(
        self,
        tables: Sequence[AnalyticsTable],
        *,
        database: str | None,
        known_problems: Sequence[TableProblem],
        read: Callable[[str], Reads],
    ) -> None:
        self._tables = tables
        self._names = {own_key(table): table.key for table in tables}
        database = _part_of_a_key(database) if database else None
        readings = [_TableReading(table, database, read) for table in tables]
        self._lines = {
            reading.table.key: {self._names.get(key, key): line for key, line in reading.tables.items()}
            for reading in readings
        }
        self.problems = [*known_problems, *_duplicates(tables)]
        for reading in readings:
            self.problems += sorted(reading.problems(self._names), key=lambda problem: problem.line)
        self.problems += _misspelt(readings, self._names, self.problems)
        self.problems += _misnamed(readings, self._names)
        circles = list(_circles(self._lines))
        self.problems += sorted(
            self._problems_of_groups(readings), key=lambda problem: (str(problem.path), problem.line)
        )
        self._in_circles = {key for circle in circles for key in circle}
        self.problems += _circle_problems(circles, {table.key: table for table in tables}, self._lines)
        if not circles and any(table.policies is not None and table.policies.projection for table in tables):
            # It reads all columns of the SQL, so it is imported where a file asks for it.
            from run_elt_dagster.model.projected import problems_of_projection  # noqa: PLC0415

            self.problems += problems_of_projection(Catalogue(tables, self._upstream), self._lines)

    def catalogue(self) -> Catalogue:
        """Return the tables.

        Raises:
            TableProblemsError: Something is wrong with one of them.
        """
        if self.problems:
            raise TableProblemsError(self.problems)
        return Catalogue(self._tables, self._upstream)

    def usable(self, directory: Path) -> Catalogue:
        """Return the tables that nothing is wrong with, and the broken files of a folder beside them."""
        if not self.problems:
            return self.catalogue()
        known = {key: reads for key, reads in self._upstream.items() if key not in self._in_circles}
        broken = broken_tables(directory, self._tables, self.problems, names=self._names, upstream=known)
        keys = {each.key for each in broken}
        tables = [table for table in self._tables if table.key not in keys]
        upstream = {table.key: _renamed(self._upstream[table.key], self._lines.keys(), broken) for table in tables}
        return Catalogue(tables, upstream, broken=broken, problems=self.problems)

    def _problems_of_groups(self, readings: "Sequence[_TableReading]") -> Iterator[TableProblem]:
        groups = groups_of(self._tables)
        if not groups:
            return
        yield from problems_of_groups({table.key: table for table in self._tables}, self._lines)
        own_keys = {key: own for own, key in self._names.items()}
        for reading in readings:
            if (name := reading.table.publish_group) is not None:
                others = {own_keys[key] for key in groups[name] if key != reading.table.key and key in own_keys}
                yield from reading.problems_in_group(name, others)

    @property
    def _upstream(self) -> dict[Key, tuple[Key, ...]]:
        return {key: tuple(sorted(reads)) for key, reads in self._lines.items()}


def _renamed(reads: Iterable[Key], declared: Collection[Key], broken: Sequence[BrokenTable]) -> tuple[Key, ...]:
    """Return keys that SQL reads, with the key of the broken file for each undeclared name that may be its table's."""
    found: set[Key] = set()
    for key in reads:
        meant = () if key in declared else [each.key for each in broken if each.may_be(key)]
        found |= set(meant or [key])
    return tuple(sorted(found))


def own_key(table: AnalyticsTable) -> Key:
    """Return the key that SQL reads a table by; another one than the table's if its name needs quotes."""
    return key_of((table.stored_schema, table.stored_table)) if table.identifier else table.key


class _TableReading:
    """What the SQL, the checks and `upstream` of one table read, and what is wrong with it.

    Attributes:
        table: The table.
        read: The tables that its SQL and its checks read, each with the first line of the file that does.
        stated: The tables in `upstream`, as they are written there, each with its line.
    """

    def __init__(self, table: AnalyticsTable, database: str | None, read: Callable[[str], Reads]) -> None:
        self.table = table
        self._own = own_key(table)
        self._database = database
        self._sql = read(table.readable_sql)
        self._checks = {name: read(_query_of(rule)) for name, rule in table.checks.sql.items()}
        self.stated = {
            key_of(stored_names(name)): table.line_of("upstream", at) for at, name in enumerate(table.upstream)
        }
        self._in_sql = {self._local(key): table.sql_line + line - 1 for key, line in self._sql.tables.items()}
        self.read = {**dict(self._read_by_checks()), **self._in_sql}

    @property
    def tables(self) -> dict[Key, int]:
        """The tables that are built before it, each with a line of the file that names it."""
        return {**{self._local(key): line for key, line in self.stated.items()}, **self.read}

    def problems(self, declared: Collection[Key]) -> Iterator[TableProblem]:
        """Yield what cannot be read, and what must not be."""
        for place in self._sql.unclear:
            if not self._is_stated(place):
                yield self.problem(self.table.sql_line + place.line - 1, _unclear(place, "the SQL", declared))
        own = [line for key, line in self.stated.items() if self._local(key) == self._own]
        for line in [self._in_sql[self._own]] if self._own in self._in_sql else own:
            yield self.problem(
                line, f"{self.table.name} cannot read itself: a CTAS starts from nothing. Read its source instead."
            )
        for name in self.table.checks.source_freshness:
            yield from self._problems_of_source(name, declared)
        for name, reads in self._checks.items():
            yield from self._problems_of_check(name, reads, declared)

    def problems_in_group(self, name: str, others: Collection[Key]) -> Iterator[TableProblem]:
        """Yield the reads of other tables of its group that cannot become reads of their candidates.

        Args:
            name: Of the group.
            others: Its other tables, as SQL names them.
        """
        fixed = {self._local(key): (self.table.sql_line + at - 1, why) for key, (at, why) in self._sql.fixed.items()}
        for check, reads in self._checks.items():
            line = self.table.line_of("checks", "sql", check, "query")
            fixed |= {self._local(key): (line, why) for key, (_, why) in reads.fixed.items()}
        for key, line in self.stated.items():
            if self._local(key) not in self._in_sql:
                fixed.setdefault(self._local(key), (line, "upstream names it, and no FROM or JOIN of the SQL does"))
        for line, message in fixed_reads(name, others, fixed):
            yield self.problem(line, message)

    def problem(self, line: int, message: str) -> TableProblem:
        """Return a problem of the table's file."""
        return TableProblem(self.table.path, line, message)

    def _problems_of_source(self, name: str, declared: Collection[Key]) -> Iterator[TableProblem]:
        key, line = self._local(key_of(stored_names(name))), self.table.line_of("checks", "source_freshness", name)
        if key in declared:
            message = f"requires a table that something else loads, got {name}: a run builds it before. Declare fresh_within in its file."
        elif key not in self.tables:
            message = f"requires a table that the SQL or upstream names, got {name}. Correct the name, or remove it."
        else:
            return
        yield self.problem(line, f"checks.source_freshness {message}")

    def _problems_of_check(self, name: str, reads: Reads, declared: Collection[Key]) -> Iterator[TableProblem]:
        line = self.table.line_of("checks", "sql", name, "query")
        if template := template_in(self.table.checks.sql[name].query):
            message = (
                f"checks.sql.{name} cannot hold templates, got {template[0]}. Nothing fills them in here. Write schema.table for a "
                f"table, and {TABLE_PLACEHOLDER} for the candidate."
            )
            yield self.problem(line, message)
            return
        for place in reads.unclear:
            if not self._is_stated(place):
                yield self.problem(line, _unclear(place, f"checks.sql.{name}", declared))
        if UNDER_AUDIT not in reads.tables and not reads.unclear:
            message = (
                f"checks.sql.{name} requires {TABLE_PLACEHOLDER} behind FROM or JOIN, got it elsewhere. It would ask nothing of "
                f"the candidate. Read {TABLE_PLACEHOLDER} in the query."
            )
            yield self.problem(line, message)
        if self._own in map(self._local, reads.tables):
            message = (
                f"checks.sql.{name} cannot read {self.table.name} by its name: that is what is published, not the candidate. "
                f"Write {TABLE_PLACEHOLDER}."
            )
            yield self.problem(line, message)

    def _read_by_checks(self) -> Iterator[tuple[Key, int]]:
        """Yield the tables that the checks read: built before, or a check would compare with yesterday's."""
        for column, rule in self.table.checks.relationship.items():
            if (key := self._local(key_of(rule.table))) != self._own:
                yield key, self.table.line_of("checks", "relationship", column)
        for name, reads in self._checks.items():
            for key in map(self._local, reads.tables):
                if key not in (self._own, UNDER_AUDIT):
                    yield key, self.table.line_of("checks", "sql", name, "query")

    def _is_stated(self, place: Unclear) -> bool:
        """Return whether `upstream` stands in for a place that does not name its table: by name, if it has one."""
        return any(place.name in (None, key[-1]) for key in self.stated)

    def _local(self, key: Key) -> Key:
        return key[1:] if len(key) == 3 and key[0] == self._database else key  # noqa: PLR2004 - with a database


def _part_of_a_key(database: str) -> str:
    """Return the session's database as keys have it; a setting that is no name, as Snowflake reads it, stays as it is."""
    try:
        return key_of([stored_name(database)])[0]
    except ValueError:
        return key_of([database])[0]


def _query_of(check: SqlCheck) -> str:
    return check.query.replace(TABLE_PLACEHOLDER, ".".join(UNDER_AUDIT))


def _texts(tables: Iterable[AnalyticsTable]) -> Iterator[str]:
    """Yield every SQL text that is read for what it reads."""
    for table in tables:
        yield table.readable_sql
        yield from map(_query_of, table.checks.sql.values())


def _unclear(place: Unclear, subject: str, declared: Collection[Key]) -> str:
    named = [key for key in declared if place.name is not None and key[-1] == place.name]
    remedy = f"Write {' or '.join(map('.'.join, sorted(named)))}" if named else place.remedy
    reason = re.sub("|".join(UNDER_AUDIT), TABLE_PLACEHOLDER, place.reason)
    return (
        f"cannot tell which tables {subject} reads: {reason}. Without them the table could be built before its parents. "
        f"{remedy}."
    )


def _misspelt(
    readings: Sequence[_TableReading], declared: Mapping[Key, Key], known: Sequence[TableProblem]
) -> Iterator[TableProblem]:
    """Yield the names that no file declares and that are close to one that a file does.

    A table that something else builds may have such a name. So it is no slip where `upstream` names it too, in any file; and in
    `upstream` itself, where SQL reads it too, or where its database is written with it.
    """
    read = {key for reading in readings for key in reading.read}
    stated = {key for reading in readings for key in reading.stated}
    # What a file declares that has another problem is no slip either.
    failed = {(problem.path.parent.name.lower(), problem.path.stem.lower()) for problem in known if problem.path}
    meant_so = {key[-2:] for key in stated}
    near = NearMisses(declared)
    slips = {
        key: near.of(key) for key in {*(read - meant_so), *(stated - read)} - {*declared, *declared.values(), *failed}
    }
    for reading in readings:
        for key, line in (*reading.read.items(), *reading.stated.items()):
            meant = slips.get(key)
            if meant and meant != own_key(reading.table):
                yield reading.problem(line, _slip(".".join(key), ".".join(meant), is_stated=key in stated))


def _misnamed(readings: Sequence[_TableReading], declared: Mapping[Key, Key]) -> Iterator[TableProblem]:
    """Yield the reads of a table by the name of its file, where `identifier` gives it another one in Snowflake."""
    names = {key: own for own, key in declared.items() if key not in declared}
    for reading in readings:
        for key, line in reading.tables.items():
            if key in names:
                message = (
                    f"table {'.'.join(key)} requires its name in Snowflake, got the name of its file. The file has an identifier. "
                    f"Snowflake would look for another table. Write {'.'.join(names[key])}."
                )
                yield reading.problem(line, message)


def _slip(name: str, meant: str, *, is_stated: bool) -> str:
    # A name in quotes stands in quotes of YAML.
    entry = f"{'my_database.' if is_stated else ''}{name}"
    entry = f"'{entry}'" if '"' in entry else entry
    if is_stated:
        rule = f"upstream: {name} requires a file that declares it or SQL that reads it, got neither"
        remedy = f"write it with its database, as in upstream: [{entry}]"
    else:
        rule = f"table {name} requires a file that declares it, or to be named in upstream, got neither"
        remedy = f"name it in the front matter: upstream: [{entry}]"
    return f"{rule}. Did you mean {meant}? If something else builds {name}, {remedy}."


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
                yield TableProblem(table.path, 1, message, others=(first.path,) if first.path else ())
                break


def _circles(reads: Mapping[Key, Collection[Key]]) -> Iterator[list[Key]]:
    """Yield circles until there is none without the first read of each; the first key of a circle is its last one too.

    Where there are very many, the first table of each further one counts as without any reads: then it ends.
    """
    found = 0
    left = {key: {read for read in each if read in reads and read != key} for key, each in reads.items()}
    while True:
        try:
            graphlib.TopologicalSorter(left).prepare()
        except graphlib.CycleError as error:
            circle: list[Key] = error.args[1][::-1]
            found += 1
            if found < _CIRCLES_APART:
                left[circle[0]].discard(circle[1])
            else:
                left[circle[0]].clear()
            yield circle
        else:
            return


def _circle_problems(
    circles: Iterable[Sequence[Key]], tables: Mapping[Key, AnalyticsTable], lines: Mapping[Key, Mapping[Key, int]]
) -> Iterator[TableProblem]:
    for circle in circles:
        message = (
            f"tables cannot depend on each other in a circle, got {' -> '.join('.'.join(key) for key in circle)}. None "
            "of them could be built first. Take one of the reads out."
        )
        others = tuple(path for key in circle[1:-1] if (path := tables[key].path) is not None)
        yield TableProblem(tables[circle[0]].path, lines[circle[0]][circle[1]], message, others=others)
