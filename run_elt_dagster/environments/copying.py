"""Databases of the embedded Snowflake: CLONE copies the file of one, in one piece. Only the server of `run-elt env` has these statements.

    CREATE DATABASE copy CLONE source COMMENT = '...'
    SHOW DATABASES LIKE '...'
    DROP DATABASE IF EXISTS copy

https://docs.snowflake.com/en/sql-reference/sql/create-clone. A copied file has all that is known about its tables. Views name their tables
with the database: those of a copy are made to read the copy, as on an account.
"""

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import sqlglot
from duckdb import DuckDBPyConnection
from sqlglot import exp

from run_elt_dagster.dialect.errors import disk_failure, existing_object, missing_object, unsupported
from run_elt_dagster.dialect.names import literal, quoted
from run_elt_dagster.disk import disk_trouble
from run_elt_dagster.embedded.engine import Engine, EngineSession
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, HIDDEN_SCHEMA, Register
from run_elt_dagster.embedded.reader import Name, Reader, Statement
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.sql_files import listing_sql

# In the register of a copy, before a JSON object of its comment and of the moment when it was made.
_FACT = "database "
# https://docs.snowflake.com/en/sql-reference/sql/show-databases#output
_SHOWN = (
    "created_on",
    "name",
    "is_default",
    "is_current",
    "origin",
    "owner",
    "comment",
    "options",
    "retention_time",
    "bytes",
)


@dataclass(frozen=True)
class CloneDatabase(Statement):
    """CREATE DATABASE ... CLONE."""

    name: str
    source: str
    comment: str


@dataclass(frozen=True)
class DropDatabase(Statement):
    """DROP DATABASE."""

    name: str
    if_exists: bool


@dataclass(frozen=True)
class ShowDatabases(Statement):
    """SHOW DATABASES. `bytes` is a column of this server alone: how large the file is."""

    like: str
    writes: ClassVar[bool] = False


def _clone(reader: Reader) -> Statement | None:
    name = reader.name()
    if not reader.accept("CLONE"):
        # The server creates an empty one.
        return None
    source, comment = reader.name(), ""
    if reader.accept("COMMENT"):
        reader.expect("=")
        comment = reader.string()
    return CloneDatabase(_database(name), _database(source), comment)


def _drop(reader: Reader) -> Statement:
    name, if_exists = reader.existing()
    return DropDatabase(_database(name), if_exists)


def _show(reader: Reader) -> Statement:
    return ShowDatabases(reader.string() if reader.accept("LIKE") else "%")


def _database(name: Name) -> str:
    text = str(name)
    if not text.isidentifier() or not text.isascii():
        raise unsupported("keep a database with this name", repr(text))
    return text


def clone_database(session: EngineSession, statement: CloneDatabase) -> Result:
    """Copy a database. A process that is killed meanwhile leaves no database, and what it leaves is written over the next time.

    Raises:
        SqlError: There is no source, the name is taken, or the disk is full.
    """
    engine, draft = session.engine, _draft(session.engine, statement.name)
    if statement.source not in engine.databases:
        raise missing_object(statement.source)
    if statement.name in engine.databases:
        raise existing_object(statement.name)
    session.end(commit=True)
    session.duck.execute(f"CHECKPOINT {quoted(statement.source)}")
    try:
        with _on_disk(draft):
            for left in engine.directory.glob(".*.db.part*"):
                left.unlink()
            shutil.copyfile(_file(engine, statement.source), draft)
            with _attached(session.duck, draft, statement.name):
                _make_its_own(session.duck, statement)
            _wal(_file(engine, statement.name)).unlink(missing_ok=True)
            draft.replace(_file(engine, statement.name))
    except BaseException:
        _discard(draft)
        raise
    _adopt(engine, session.duck, statement.name)
    return status(f"Database {statement.name} successfully created.")


def drop_database(session: EngineSession, statement: DropDatabase) -> Result:
    """Drop a database: its file goes in one step, and then what is left of it."""
    engine, name = session.engine, statement.name
    if name not in engine.databases:
        if statement.if_exists:
            return status("Drop statement executed successfully.")
        raise missing_object(name)
    if name == session.database or name == engine.databases[0]:
        # DuckDB detaches no database that a session uses, and the first one has the views of them all.
        raise unsupported("drop the database of a session", name)
    session.end(commit=True)
    draft = _draft(engine, name)
    session.duck.execute(f"DETACH {quoted(name)}")
    engine.databases.remove(name)
    _refresh(engine, session.duck)
    with _on_disk(draft):
        _file(engine, name).replace(draft)
        _wal(_file(engine, name)).unlink(missing_ok=True)
        _discard(draft)
    return status(f"{name} successfully dropped.")


def show_databases(session: EngineSession, statement: ShowDatabases) -> Result:
    """List databases: https://docs.snowflake.com/en/sql-reference/sql/show-databases."""
    rows = [_row(session, name) for name in session.engine.databases]
    values = ", ".join(f"({', '.join('?' for _ in _SHOWN)})" for _ in rows)
    sql = f"SELECT * FROM (VALUES {values}) AS shown({', '.join(_SHOWN)}) WHERE name ILIKE ? ESCAPE '\\' ORDER BY name"
    return session.answer(sql, [*(value for row in rows for value in row), statement.like])


def _row(session: EngineSession, name: str) -> tuple[Any, ...]:
    known, size = _facts_of(session.register(name)), _file(session.engine, name).stat().st_size
    made_at = datetime.fromisoformat(known.get("made_at", "1970-01-01T00:00:00+00:00"))
    current = "Y" if name == session.database else "N"
    return (made_at, name, "N", current, "", DEFAULT_OWNER, known.get("comment", ""), "", "1", size)


def _facts_of(register: Register) -> dict[str, str]:
    row = register.duck.execute(
        f"SELECT fact FROM {register.part('facts')} WHERE starts_with(fact, ?)", [_FACT]
    ).fetchone()
    return json.loads(row[0].removeprefix(_FACT)) if row else {}


def _file(engine: Engine, name: str) -> Path:
    return engine.directory / f"{name}.db"


def _draft(engine: Engine, name: str) -> Path:
    # A server opens files that end in .db.
    return engine.directory / f".{name}.db.part"


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _discard(path: Path) -> None:
    for each in (path, _wal(path)):
        each.unlink(missing_ok=True)


@contextmanager
def _on_disk(path: Path) -> Generator[None]:
    """Turn an error of the operating system into the one of a statement that meets a full or broken disk."""
    try:
        yield
    except OSError as error:
        if (trouble := disk_trouble(error)) is None:
            raise
        raise disk_failure(trouble, f'file "{path}"') from error


@contextmanager
def _attached(duck: DuckDBPyConnection, path: Path, name: str) -> Generator[None]:
    duck.execute(f"ATTACH {literal(str(path))} AS {quoted(name)}")
    try:
        yield
        duck.execute(f"CHECKPOINT {quoted(name)}")
    finally:
        duck.execute(f"DETACH {quoted(name)}")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _make_its_own(duck: DuckDBPyConnection, statement: CloneDatabase) -> None:
    """Take out of a copy what names the database that it was copied from, and note its comment."""
    name, register = statement.name, Register(duck, statement.name)
    views = duck.execute(
        "SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE database_name = ? AND NOT internal",
        [name],
    ).fetchall()
    for schema, view, _, _ in views:
        duck.execute(f"DROP VIEW {quoted(name)}.{quoted(schema)}.{quoted(view)}")
    for schema, view, sql, comment in views:
        if schema != HIDDEN_SCHEMA:
            duck.execute(_view_of_copy(sql, source=statement.source, name=name))
            if comment:
                duck.execute(f"COMMENT ON VIEW {quoted(name)}.{quoted(schema)}.{quoted(view)} IS {literal(comment)}")
    duck.execute(f"DELETE FROM {register.part('facts')} WHERE starts_with(fact, ?)", [_FACT])
    facts = {"comment": statement.comment, "made_at": datetime.now(UTC).isoformat()}
    register.record(_FACT + json.dumps(facts))


def _view_of_copy(sql: str, *, source: str, name: str) -> str:
    view = sqlglot.parse_one(sql, dialect="duckdb")
    for table in view.find_all(exp.Table):
        if table.catalog == source:
            table.set("catalog", exp.to_identifier(name, quoted=True))
    target: Any = view.this
    target.set("catalog", exp.to_identifier(name, quoted=True))
    return view.sql(dialect="duckdb")


def _adopt(engine: Engine, duck: DuckDBPyConnection, name: str) -> None:
    duck.execute(f"ATTACH {literal(str(_file(engine, name)))} AS {quoted(name)}")
    engine.adopt(duck, name)


def _refresh(engine: Engine, duck: DuckDBPyConnection) -> None:
    """Create the views over all databases again: they name each of them."""
    duck.execute(listing_sql(engine.databases))


DATABASES = Feature(
    heads=(
        (("CREATE", "DATABASE"), _clone),
        (("DROP", "DATABASE"), _drop),
        (("SHOW", "DATABASES"), _show),
    ),
    handlers={CloneDatabase: clone_database, DropDatabase: drop_database, ShowDatabases: show_databases},
)
