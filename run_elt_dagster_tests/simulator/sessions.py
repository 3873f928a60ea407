"""Sessions with transactions, session parameters, roles and the results of earlier statements."""

import threading
import time
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
from fakesnow.statement_type import statement_type_id
from sqlglot import Expr, exp

from run_elt_dagster.embedded.engine import (
    KINDS,
    Engine,
    EngineSession,
    Result,
    roll_back,
    status,
    translated_errors,
)
from run_elt_dagster.embedded.errors import SqlError, missing_object
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.sessions import POLL_SECONDS, Running, Session
from run_elt_dagster.embedded.statements import Query, Statement
from run_elt_dagster_tests.simulator.grants import SYSTEM_ROLES, grants_in
from run_elt_dagster_tests.simulator.session_statements import (
    HEADS,
    AlterSession,
    ResultScan,
    Transaction,
    UseObject,
)
from run_elt_dagster_tests.simulator.variables import inlined_variables

SUCCESS = "Statement executed successfully."
RESULTS_KEPT = 20


@dataclass(frozen=True)
class StatementRecord:
    """A statement that was executed.

    Attributes:
        sql: Its text as it was sent.
        query_tag: The session's or the statement's QUERY_TAG, empty if there was none.
        session_id: Which session it ran in.
        role: The session's role at that moment.
        query_id: Its id.
        started_at: When it arrived, in UTC.
        seconds: How long it took, waiting included.
        error_code: Snowflake's error number, None for success.
    """

    sql: str
    query_tag: str
    session_id: int
    role: str | None
    query_id: str
    started_at: datetime
    seconds: float
    error_code: int | None


class SimulatedStatement(Running):
    """A statement that hooks may hold, with its times.

    Args:
        sql: Its text.
        describe_only: Whether only the columns are wanted.
        arguments: Of any statement.
    """

    def __init__(self, sql: str, *, describe_only: bool = False, **arguments: Any) -> None:
        super().__init__(sql, **arguments)
        self.describe_only = describe_only
        self.started_at = datetime.now(UTC)
        self._clock = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the arrival."""
        return time.monotonic() - self._clock

    @property
    def is_in_duckdb(self) -> bool:
        """Whether DuckDB is working on it, neither a hook nor a lock."""
        return self.session.executing is self

    def wait(self, seconds: float) -> None:
        """Wait, as a test's hook may do, unless the statement is cancelled.

        Raises:
            SqlError: It was.
        """
        self._cancelled.wait(seconds)
        self.check()

    def acquire(self, lock: threading.Lock) -> None:
        """Wait for a lock, unless the statement is cancelled or waits longer than it may.

        https://docs.snowflake.com/en/sql-reference/parameters#lock-timeout
        """
        timeout = float(self.parameter("LOCK_TIMEOUT", "43200"))
        deadline = time.monotonic() + timeout
        self.check()
        while not lock.acquire(timeout=POLL_SECONDS):
            self.check()
            if time.monotonic() > deadline:
                text = f"Statement '{self.query_id}' was aborted because it waited {timeout:g} s for the lock of a transaction."
                raise SqlError(text, errno=625, sqlstate="57014")


class SimulatedConnection(EngineSession):
    """A session of the engine with transactions that fakesnow does not keep track of."""

    kinds = KINDS | {"TAG"}
    accepted: tuple[type[Expr], ...] = (*EngineSession.accepted, exp.Set)
    alterations: tuple[type[Expr], ...] = (Expr,)

    def __init__(self, engine: Engine, database: str | None, schema: str | None, *, autocommit: bool) -> None:
        super().__init__(engine, database, schema)
        self._autocommit = autocommit
        self.session: SimulatedSession | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether the session has begun a transaction that is still open."""
        return self._in_transaction

    def begin(self) -> None:
        """Begin a transaction; a second BEGIN changes nothing: https://docs.snowflake.com/en/sql-reference/sql/begin."""
        if not self._in_transaction:
            self.duck.begin()
            self._in_transaction = True

    def end(self, *, commit: bool) -> None:
        """Commit or roll back the open transaction, if there is one.

        Raises:
            SqlError: It cannot be committed, because a statement in it has failed.
        """
        if not self._in_transaction:
            return
        self._in_transaction = False
        # DuckDB 2.0 reports success when a transaction is committed that it has given up, and keeps nothing of it.
        spoiled = self._is_spoiled()
        if commit and not spoiled:
            self.duck.commit()
            return
        roll_back(self.duck)
        if commit:
            raise SqlError(
                "The transaction requires that no statement in it fails, got one that did. All of it was rolled back. "
                "Snowflake would keep the other statements. Repeat the statements before it.",
                errno=9999,
                sqlstate="40000",
            )

    def autocommit(self, mode: bool) -> None:
        """Commit what is open, then change the mode: https://docs.snowflake.com/en/sql-reference/transactions#autocommit."""
        self.end(commit=True)
        self._autocommit = mode

    @contextmanager
    def atomically(self, *, ddl: bool) -> Generator[None]:
        """Make what happens inside one transaction.

        DDL first commits the session's open transaction, DML joins it:
        https://docs.snowflake.com/en/sql-reference/transactions#ddl
        """
        if ddl:
            self.end(commit=True)
        elif not self._autocommit:
            self.begin()
        if self._in_transaction:
            yield
            return
        self.duck.begin()
        try:
            yield
            self.duck.commit()
        except BaseException:
            roll_back(self.duck)
            raise

    def _ddl(self, expression: Expr, sql: str, params: Any, statement_type: int) -> Result:
        self.end(commit=True)
        # fakesnow would commit once more, which DuckDB refuses.
        autocommit, self._autocommit = self._autocommit, True
        try:
            return super()._ddl(expression, sql, params, statement_type)
        finally:
            self._autocommit = autocommit

    def described(self, sql: str) -> Result:
        """Return the columns that a query gives, without its rows."""
        (translated,) = self.duck_sql(sql)
        with translated_errors(sql):
            return self.answer(
                f"SELECT * FROM ({translated}) LIMIT 0", statement_type=statement_type_id(self.parsed(sql))
            )

    def prepared(self, sql: str) -> str:
        """Return a statement for sqlglot, the session's variables resolved; unlike in fakesnow, not inside strings."""
        return super().prepared(inlined_variables(sql, self.variables._variables))  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001

    def _is_spoiled(self) -> bool:
        """Return whether DuckDB has given the open transaction up."""
        try:
            self.duck.execute("SELECT 1")
        except duckdb.TransactionException:
            return True
        return False


@dataclass
class SimulatedSession(Session):
    """What a login opens."""

    last_query_id: str | None = None
    _results: OrderedDict[str, Result] = field(default_factory=OrderedDict[str, Result])
    _holds_writing: bool = False

    def __post_init__(self) -> None:
        self.own.session = self

    @property
    def own(self) -> SimulatedConnection:
        assert isinstance(self.connection, SimulatedConnection)
        return self.connection

    def close(self) -> None:
        """End the session: cancel what runs, roll back what is open."""
        for statement in list(self.running.values()):
            statement.cancel()
        with self._turn:
            if not self.closed:
                self.own.end(commit=False)
                self._yield_writing()
        super().close()

    @contextmanager
    def _writing_if(self, parsed: Statement, statement: Running) -> Generator[None]:
        """Let nobody else write meanwhile; with a transaction open, until it ends, as Snowflake locks what was written."""
        self._check_open()
        if parsed.writes and not self._holds_writing:
            statement.acquire(self.writing)
            self._holds_writing = True
        try:
            yield
        finally:
            self._yield_writing()

    def _keep(self, statement: Running, result: Result) -> None:
        self._results[statement.query_id] = result
        while len(self._results) > RESULTS_KEPT:
            self._results.popitem(last=False)

    def _yield_writing(self) -> None:
        if self._holds_writing and not self.own.in_transaction:
            self._holds_writing = False
            self.writing.release()

    def _dispatch(self, parsed: Statement, statement: Running, params: Any) -> Result:
        try:
            result = self._executed(parsed, statement, params)
        finally:
            self.last_query_id = statement.query_id
        self._keep(statement, result)
        return result

    def _executed(self, parsed: Statement, statement: Running, params: Any) -> Result:
        describe_only = isinstance(statement, SimulatedStatement) and statement.describe_only
        if describe_only and parsed.writes:
            return status(SUCCESS)
        if describe_only and isinstance(parsed, Query) and describable(parsed.sql):
            self.connection.context = self._context(statement)
            return self.own.described(parsed.sql)
        return super()._dispatch(parsed, statement, params)

    def _context(self, statement: Running) -> dict[str, str | None]:
        return {**super()._context(statement), "last_query_id": self.last_query_id, "query_id": statement.query_id}

    def result_of(self, parsed: ResultScan) -> Result:
        query_id = parsed.query_id or self.last_query_id or ""
        if query_id not in self._results:
            raise SqlError(f"Statement {query_id} not found", errno=709, sqlstate="02000")
        return self._results[query_id]

    def transaction(self, parsed: Transaction) -> Result:
        if parsed.action == "BEGIN":
            self.own.begin()
        else:
            self.own.end(commit=parsed.action == "COMMIT")
        return status(SUCCESS)

    def alter(self, parsed: AlterSession) -> Result:
        """Change session parameters: https://docs.snowflake.com/en/sql-reference/sql/alter-session.

        All are recorded; QUERY_TAG and AUTOCOMMIT have an effect. Instants are always shown in UTC.
        """
        for name, value in parsed.settings:
            if name == "AUTOCOMMIT":
                self.own.autocommit(value.upper() == "TRUE")
            self.parameters[name] = value
        for name in parsed.unset:
            self.parameters.pop(name, None)
        return status(SUCCESS)

    def use(self, parsed: UseObject) -> Result:
        name = parsed.name.parts[-1]
        if parsed.kind == "ROLE":
            if name not in self._roles():
                raise missing_object(name)
            self.role = name
        elif parsed.kind == "WAREHOUSE":
            self.warehouse = name
        return status(SUCCESS)

    def _roles(self) -> set[str | None]:
        return {*SYSTEM_ROLES, *grants_in(self.connection, self.engine.main_database).roles(), self.role}


def describable(sql: str) -> bool:
    """Return whether a query's columns can be told without executing it."""
    return sql.lstrip("(")[:6].strip().upper() in {"SELECT", "WITH", "VALUES"}


def _session(connection: EngineSession) -> SimulatedSession:
    assert isinstance(connection, SimulatedConnection)
    assert connection.session is not None
    return connection.session


SESSIONS = Feature(
    heads=HEADS,
    handlers={
        AlterSession: lambda connection, parsed: _session(connection).alter(parsed),
        ResultScan: lambda connection, parsed: _session(connection).result_of(parsed),
        Transaction: lambda connection, parsed: _session(connection).transaction(parsed),
        UseObject: lambda connection, parsed: _session(connection).use(parsed),
    },
)
