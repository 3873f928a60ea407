"""Runs a case on an account: the given rows in temporary tables of a scratch schema, the table's SQL with their names.

A temporary table belongs to the session alone, and needs no right but USAGE of the schema:
https://docs.snowflake.com/en/user-guide/tables-temp-transient
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.dialect.types import FLOAT, NTZ, SEMI_STRUCTURED, TEXT, VARIANT, Kind, Type
from run_elt_dagster.model.names import Key, quote_identifier, quote_literal, stored_names
from run_elt_dagster.snowflake.session import Answer, Session, StatementError
from run_elt_dagster.testing.bound import TableTests
from run_elt_dagster.testing.files import Case
from run_elt_dagster.testing.memory import time_functions
from run_elt_dagster.testing.runner import Answered, CaseError, case_sql
from run_elt_dagster.testing.values import Json, Zoned, got, meant

_READING_FUNCTIONS = frozenset({"error_table", "system$reference", "system$query_reference", "to_query"})
_FIXED = re.compile(r"FIXED\((\d+),(\d+)\)")
_TYPES = {"REAL": FLOAT, "TEXT": TEXT, "TIMESTAMP": NTZ, **{kind.value: Type(kind) for kind in Kind}}


@dataclass(frozen=True)
class Place:
    """Where a name of a table stands in a SQL text.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last one.
        key: The table.
        alias: What columns of it may have before them, where the SQL gives it no alias of its own; empty otherwise.
    """

    start: int
    end: int
    key: Key
    alias: str


class OnAccount:
    """Runs cases on a session of an account, one after another.

    Args:
        session: The session.
        schema: The scratch schema, as SQL names it: `schema` or `database.schema`.
    """

    def __init__(self, session: Session, schema: str) -> None:
        self._session = session
        self._schema = ".".join(map(quote_identifier, stored_names(schema)))
        self._is_in_schema = False

    def answer(self, tests: TableTests, case: Case) -> Answered:
        """Return what the SQL gives. Safe to repeat: no table stays.

        Raises:
            CaseError: It fails there, or cannot be given other rows than those of the account.
        """
        if functions := _time_functions(tests, case_sql(tests, case)):
            raise CaseError(
                f"{tests.table.path}:{tests.table.sql_line}: a case with account: true cannot freeze the time, got "
                f"{', '.join(sorted(functions))}. An account has a clock of its own. Test the table without account: true."
            )
        sql = case_sql(tests, case)
        execute, found = partial(self._execute, tests), places(tests, sql)
        if not self._is_in_schema:
            execute(f"USE SCHEMA {self._schema}")
            self._is_in_schema = True
        names = {key: _new_name() for key in tests.upstream}
        for key, name in names.items():
            execute(given_sql(tests, case, key, name))
        answer = execute(with_names(sql, found, names))
        for name in names.values():
            # After a failure they go with the session: another statement could only hide why.
            execute(f"DROP TABLE {name}")
        columns = tuple(zip(answer.columns, map(_type, answer.types), strict=True))
        _require_columns_that_differ(tests, answer.columns)
        rows = [tuple(_got(value, kind) for value, (_, kind) in zip(row, columns, strict=True)) for row in answer.rows]
        return Answered(columns, rows)

    def _execute(self, tests: TableTests, sql: str) -> Answer:
        try:
            return self._session.execute(sql, tag={"stage": "test", "asset": "/".join(tests.table.key)})
        except StatementError as error:
            raise CaseError(
                f"{tests.table.path}:{tests.table.sql_line}: a test of {tests.table.name} fails on the account: {error}"
            ) from error


def _new_name() -> str:
    return f'"RUN_ELT_TEST_{uuid.uuid4().hex.upper()}"'


def _time_functions(tests: TableTests, sql: str) -> frozenset[str]:
    try:
        return time_functions(sql)
    except SqlError as error:
        raise _unplaced(tests, "SQL that is newer than the reader") from error


def places(tests: TableTests, sql: str) -> list[Place]:
    """Return where the table's SQL names the tables that it reads.

    Raises:
        CaseError: It names one in a way that no other name can be put into: it would read the rows of the account.
    """
    try:
        query = sqlglot.parse_one(sql, read="snowflake")
    except (SqlglotError, RecursionError) as error:
        raise _unplaced(tests, "SQL that is newer than the reader") from error
    if any(True for _ in query.find_all(exp.DynamicIdentifier, exp.Parameter, exp.Placeholder)):
        raise _unplaced(tests, "a table by identifier(...) or by a variable")
    found = [place for node in query.find_all(exp.Table) if (place := _place(tests, node)) is not None]
    if any(map(_reads_by_function, query.walk())) or not set(tests.upstream) >= {place.key for place in found}:
        raise _unplaced(tests, "a table by table(...) or another function")
    return sorted(found, key=lambda place: place.start)


def _reads_by_function(node: exp.Expr) -> bool:
    is_rows_of_a_table = isinstance(node, exp.TableFromRows) and not isinstance(node.this, exp.Func)
    return is_rows_of_a_table or (isinstance(node, exp.Anonymous) and node.name.lower() in _READING_FUNCTIONS)


def _place(tests: TableTests, node: exp.Table) -> Place | None:
    parts: list[Any] = [node.args.get("catalog"), node.args.get("db"), node.this]
    given = [part for part in parts if part is not None]
    if len(given) == 1 or not isinstance(node.this, exp.Identifier):
        return None
    stored = ["" if not part else part.name if part.args.get("quoted") else part.name.upper() for part in given]
    marks = [part.meta for part in given if part]
    alias = "" if node.alias or node.args.get("pivots") else quote_identifier(stored[-1])
    return Place(marks[0]["start"], marks[-1]["end"] + 1, tests.key_of_parts(stored), alias)


def _unplaced(tests: TableTests, got: str) -> CaseError:
    return CaseError(
        f"{tests.table.path}:{tests.table.sql_line}: a case with account: true requires schema.table for each table that the SQL "
        f"reads, got {got}. It would read the rows of the account. Write schema.table."
    )


def with_names(sql: str, found: Sequence[Place], names: Mapping[Key, str]) -> str:
    """Return SQL that reads other tables; everything else is as it was."""
    parts: list[str] = []
    done = 0
    for place in found:
        parts += [sql[done : place.start], names[place.key], f" AS {place.alias}" if place.alias else ""]
        done = place.end
    return "".join([*parts, sql[done:]])


def given_sql(tests: TableTests, case: Case, key: Key, name: str) -> str:
    """Return the statement that creates the table of an upstream table's rows."""
    columns = tests.upstream[key].columns
    listed = ", ".join(f"{quote_identifier(column)} {kind}" for column, kind in columns.items())
    rows = [
        "SELECT "
        + ", ".join(_literal(row[column].value if column in row else None, kind) for column, kind in columns.items())
        for row in case.given[key]
    ]
    # With functions, such as PARSE_JSON, VALUES is refused: https://docs.snowflake.com/en/sql-reference/sql/insert
    query = "\nUNION ALL ".join(rows)
    return f"CREATE TEMPORARY TABLE {name} ({listed})" + (f" AS\n{query}" if rows else "")


def _literal(value: Any, kind: Type) -> str:
    found = meant(value, kind)
    if found is None:
        return f"NULL::{kind}"
    if isinstance(found, Json):
        return f"PARSE_JSON({quote_literal(found.text)})::{kind}"
    if isinstance(found, bytes):
        return f"TO_BINARY('{found.hex()}', 'HEX')"
    if isinstance(found, datetime):
        found = found.isoformat(sep=" ")
    text = f"{found:f}" if isinstance(found, Decimal) else str(found)
    return f"{quote_literal(text)}::{kind}"


def _require_columns_that_differ(tests: TableTests, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        place = f"{tests.table.path}:{tests.table.sql_line}"
        raise CaseError(f"{place}: a table requires columns that differ, got {twice} twice. Give one of them an alias.")


def _type(text: str) -> Type:
    """Return the type of a result's column; what only an account has is compared as the JSON that it shows."""
    if match := _FIXED.fullmatch(text):
        return Type(Kind.NUMBER, int(match[1]), int(match[2]))
    return _TYPES.get(text, VARIANT)


def _got(value: Any, kind: Type) -> Any:
    if value is None:
        return None
    if kind.kind in SEMI_STRUCTURED and not isinstance(value, str):
        raise CaseError(f"a value of this type cannot be compared, got {type(value).__name__}. Convert it in the SQL.")
    if kind.kind is Kind.TZ and isinstance(value, datetime):
        offset = value.utcoffset()
        return Zoned(value.astimezone(UTC).replace(tzinfo=None), int(offset.total_seconds() // 60) if offset else 0)
    return got(bytes(value) if isinstance(value, bytearray) else value, kind)
