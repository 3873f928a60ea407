"""One query on given rows, in this process: no server, no folder, no session.

    with Memory() as memory:
        query = memory.translated("SELECT count(*) AS n FROM raw_data.a", find)
        rows = memory.rows(query, {"given 0": ["(1)"]}, now=None)

The SQL is translated as the server does it: `dialect` decides what it means, and refuses what is not known to be exact.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import duckdb
from sqlglot import exp

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.catalogue import with_macros
from run_elt_dagster.dialect.changes import stored
from run_elt_dagster.dialect.errors import SqlError, from_duckdb, unsupported
from run_elt_dagster.dialect.labels import labels_of
from run_elt_dagster.dialect.macros import Macros
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.parser import function_name, parsed
from run_elt_dagster.dialect.queries import Queries
from run_elt_dagster.dialect.scope import Column, Relation, distinct_columns, name_of
from run_elt_dagster.dialect.types import SEMI_STRUCTURED, Kind, Type
from run_elt_dagster.dialect.values import Value, literal_sql, macro
from run_elt_dagster.embedded.sql_files import sql_file

# What the SQL of a query is read from, by its name in DuckDB: the columns of each table of given rows.
Given = Mapping[str, Sequence[Column]]
TIME_FUNCTIONS = frozenset(
    {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "GETDATE", "LOCALTIME", "LOCALTIMESTAMP", "SYSDATE"}
    | {"SYSTIMESTAMP"}
)
# DuckDB's type of a column without any value.
_NOTHING_BUT_NULL = '"NULL"'
_WITHOUT_PARENTHESES: Mapping[type[exp.Expr], str] = {
    exp.CurrentDate: "CURRENT_DATE",
    exp.CurrentTime: "CURRENT_TIME",
    exp.CurrentTimestamp: "CURRENT_TIMESTAMP",
    exp.Localtime: "LOCALTIME",
    exp.Localtimestamp: "LOCALTIMESTAMP",
}


@dataclass(frozen=True)
class Translated:
    """A query of Snowflake's, ready for DuckDB.

    Attributes:
        sql: DuckDB's SQL.
        columns: What it gives, under Snowflake's names.
        time_functions: The functions in it that ask for the time.
    """

    sql: str
    columns: tuple[Column, ...]
    time_functions: frozenset[str] = frozenset()


class Memory:
    """A DuckDB in memory; for one thread, as a context manager."""

    def __init__(self) -> None:
        self._duck = duckdb.connect(":memory:", config={"lambda_syntax": "ENABLE_SINGLE_ARROW"})
        self._duck.execute(sql_file("settings"))
        # For so few rows, threads only wait for each other.
        self._duck.execute("SET threads = 1")
        # The place of the macros.
        self._duck.execute("ATTACH ':memory:' AS _fs_global; CREATE SCHEMA _fs_global._fs_information_schema")
        self._macros = Macros(self._duck)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything in it."""
        self._duck.close()

    def translated(self, sql: str, find: Callable[[tuple[str, ...]], Relation]) -> Translated:
        """Return a query for DuckDB.

        Args:
            sql: One SELECT of Snowflake's.
            find: Returns the table that a name means, given the name's parts as Snowflake stores them; "" is a part left out.

        Raises:
            SqlError: It breaks a rule of Snowflake's, also one of the table that it would make, or holds what is not known.
        """
        expression = parsed(sql)
        queries = Queries(lambda node: find(_parts(node)), labels=labels_of(sql) or ())
        relation = queries.relation(expression)
        _require_columns_of_a_table(relation.columns)
        return Translated(relation.sql, relation.columns, _asked_in(expression))

    def rows(
        self,
        query: Translated,
        given: Given,
        values: Mapping[str, Sequence[Sequence[Value]]],
        *,
        now: datetime | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return what a query gives on these rows, in its order, as DuckDB has the values.

        Args:
            query: The query.
            given: The tables that it reads.
            values: Their rows, by the table.
            now: The time for the functions that ask for it, with a time zone; None for that of the machine.

        Raises:
            SqlError: A value does not become one of its column, or the query fails.
        """
        try:
            with self._tables(given, values):
                self._macros.create(query.sql)
                self._set_time(now)
                rows = self._duck.execute(query.sql).fetchall()
                _require_types(query.columns, [str(column[1]) for column in self._duck.description or ()])
                return rows
        except duckdb.Error as error:
            raise from_duckdb(error) from error

    @contextmanager
    def _tables(self, given: Given, values: Mapping[str, Sequence[Sequence[Value]]]) -> Generator[None]:
        try:
            for name, columns in given.items():
                listed = ", ".join(f"{quoted(column.inner)} {column.type.stored}" for column in columns)
                self._duck.execute(f"CREATE TABLE {quoted(name)} ({listed})")
                self._insert(name, columns, values[name])
            yield
        finally:
            for name in given:
                self._duck.execute(f"DROP TABLE IF EXISTS {quoted(name)}")

    def _insert(self, name: str, columns: Sequence[Column], rows: Sequence[Sequence[Value]]) -> None:
        if not rows:
            return
        written = [", ".join(map(stored, row, columns)) for row in rows]
        sql = f"INSERT INTO {quoted(name)} VALUES {', '.join(f'({row})' for row in written)}"
        self._macros.create(sql)
        self._duck.execute(sql)

    def _set_time(self, now: datetime | None) -> None:
        moment = "now()" if now is None else f"TIMESTAMPTZ '{now.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
        self._duck.execute(with_macros(f"CREATE OR REPLACE MACRO @now() AS {moment}"))


def time_functions(sql: str) -> frozenset[str]:
    """Return the functions in a query that ask for the time.

    Raises:
        SqlError: It cannot be read.
    """
    return _asked_in(parsed(sql))


def given_table(name: str, columns: Sequence[tuple[str, Type]]) -> Relation:
    """Return a table of given rows, by its name in DuckDB and its columns under Snowflake's names."""
    return Relation(quoted(name), distinct_columns(columns, stored=True))


def json_value(text: str, kind: Type) -> Value:
    """Return a VARIANT, ARRAY or OBJECT by its JSON."""
    read = Value(macro("parse_json", literal_sql(text)), types.VARIANT)
    name = {Kind.ARRAY: "variant_to_array", Kind.OBJECT: "variant_to_object"}.get(kind.kind)
    return Value(macro(name, read.sql), kind) if name else read


def _parts(node: exp.Table) -> tuple[str, ...]:
    parts: list[Any] = [node.args.get("catalog"), node.args.get("db"), node.this]
    given = [part for part in parts if part is not None]
    # Given rows have no past: AT and BEFORE.
    if node.args.get("when") or not all(isinstance(part, exp.Identifier) for part in given if part):
        raise unsupported("read this", node.sql(dialect="snowflake"))
    return tuple(name_of(part) if part else "" for part in given)


def _asked_in(expression: exp.Expr) -> frozenset[str]:
    return frozenset(filter(None, map(_time_function, expression.walk())))


def _time_function(node: exp.Expr) -> str | None:
    name = _WITHOUT_PARENTHESES.get(type(node)) or function_name(node)
    return name if name in TIME_FUNCTIONS else None


def _require_columns_of_a_table(columns: Sequence[Column]) -> None:
    """Refuse a query that makes no table: CREATE TABLE wants names that differ."""
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            text = f"SQL compilation error:\nduplicate column name '{column.name}'"
            raise SqlError(text, errno=2025, sqlstate="42S21")
        seen.add(column.name)


def _require_types(columns: Sequence[Column], found: Sequence[str]) -> None:
    """Refuse rows in another type than the translation says: they could mean something else."""
    for column, duck in zip(columns, found, strict=True):
        actual, wanted = types.from_duck(duck), column.type
        is_json = actual.kind is Kind.VARIANT and wanted.kind in SEMI_STRUCTURED
        fits = wanted.kind is Kind.NULL or is_json or actual.kind is wanted.kind
        if duck == _NOTHING_BUT_NULL:
            continue
        if not fits or (wanted.kind is Kind.NUMBER and actual.scale != wanted.scale):
            raise unsupported("give a column of this type", f"{duck} where {wanted} was expected, for {column.name}")
