"""Sessions with transactions, session parameters, roles and the results of earlier statements."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
from sqlglot import Expr, exp

from run_elt_dagster.dialect.errors import SqlError, missing_object
from run_elt_dagster.embedded import queries
from run_elt_dagster.embedded.engine import KINDS, Engine, EngineSession, roll_back
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.objects import Table
from run_elt_dagster.embedded.parameters import check_parameters
from run_elt_dagster.embedded.results import Result, result_of, status
from run_elt_dagster.embedded.sessions import Running, Session
from run_elt_dagster.embedded.statements import Query, Statement
from run_elt_dagster_tests.simulator.grants import SYSTEM_ROLES, grants_in
from run_elt_dagster_tests.simulator.query_history import bytes_of, scanned_tables
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
# What gives other rows when it runs again.
VOLATILE = re.compile(r"\b(NORMAL|RANDOM|RANDSTR|SAMPLE|TABLESAMPLE|UNIFORM|UUID_STRING|ZIPF)\b", re.IGNORECASE)


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
        self.scanned: Sequence[str] = ()
        self.bytes_scanned = 0
        self.started_at = datetime.now(UTC)
        self._clock = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the arrival."""
        return time.monotonic() - self._clock

    @property
    def is_in_duckdb(self) -> bool:
        """Whether DuckDB is working on it, neither a hook nor a lock."""
        return self.session.in_duck is self

    def wait(self, seconds: float) -> None:
        """Wait, as a test's hook may do, unless the statement is cancelled.

        Raises:
            SqlError: It was.
        """
        self._cancelled.wait(seconds)
        self.check()

    def look_around(self) -> None:
        """End, while it waits for a lock, the transactions of sessions that have done nothing for too long."""
        super().look_around()
        assert isinstance(self.session, SimulatedSession)
        self.session.abort_idle()


class SimulatedConnection(EngineSession):
    """A session of the engine with transactions.

    DuckDB's transaction begins with the first change, not with BEGIN. Until then each query reads what was committed before
    it, as on Snowflake, and no lock is held; afterwards nobody else writes, so the same is true.
    https://docs.snowflake.com/en/sql-reference/transactions#read-committed-isolation
    """

    kinds = KINDS | {"TAG"}
    accepted: tuple[type[Expr], ...] = (*EngineSession.accepted, exp.Set)
    alterations: tuple[type[Expr], ...] = (Expr,)

    def __init__(self, engine: Engine, database: str | None, schema: str | None, *, autocommit: bool) -> None:
        super().__init__(engine, database, schema)
        self.commits_each = autocommit
        # What the statement that is executed has scanned so far.
        self.scanned: list[Table] = []
        self.session: SimulatedSession | None = None
        self._begun = False
        self.has_changed = False
        self.lost = ""

    @property
    def in_transaction(self) -> bool:
        """Whether the session has begun a transaction that is still open."""
        return self._begun

    def begin(self) -> None:
        """Begin a transaction; a second BEGIN changes nothing: https://docs.snowflake.com/en/sql-reference/sql/begin."""
        self._begun = True

    def end(self, *, commit: bool) -> None:
        """Commit or roll back the open transaction, if there is one.

        Raises:
            SqlError: It cannot be committed, because its changes are lost.
        """
        failure = self.lost and lost_transaction(self.lost)
        self.macros = self.engine.macros
        has_changed, self._begun, self.has_changed, self.lost = self.has_changed, False, False, ""
        if commit and failure:
            raise failure
        if commit and has_changed:
            with rolled_back_on_failure(self.duck):
                self.duck.commit()
        elif has_changed:
            roll_back(self.duck)

    def lose(self, why: str) -> None:
        """Roll the open transaction's changes back, and refuse every statement until COMMIT or ROLLBACK."""
        roll_back(self.duck)
        self.has_changed, self.lost, self.macros = False, why, self.engine.macros

    def restart(self) -> None:
        """Roll the open transaction's changes back, to make them again."""
        roll_back(self.duck)
        self.begin_in_duck()

    def autocommit(self, mode: bool) -> None:
        """Commit what is open, then change the mode: https://docs.snowflake.com/en/sql-reference/transactions#autocommit."""
        try:
            self.end(commit=True)
        finally:
            self.commits_each = mode

    @contextmanager
    def atomically(self, *, ddl: bool) -> Generator[None]:
        """Make what happens inside one transaction.

        DDL first commits the session's open transaction, DML joins it:
        https://docs.snowflake.com/en/sql-reference/transactions#ddl
        """
        if ddl:
            self.end(commit=True)
        elif not self.commits_each:
            self.begin()
        if not self._begun:
            with super().atomically(ddl=ddl):
                yield
        elif self.has_changed:
            yield
        else:
            self.begin_in_duck()
            with rolled_back_on_failure(self.duck):
                yield
            self.has_changed = True

    @contextmanager
    def reading(self) -> Generator[None]:
        """Let the queries inside see one state of all tables; an open transaction stays open."""
        if self.has_changed:
            yield
        else:
            with super().atomically(ddl=False):
                yield

    def _ddl(self, expression: Expr, sql: str, kind: str) -> Result:
        self.end(commit=True)
        return super()._ddl(expression, sql, kind)

    def described(self, sql: str) -> Result:
        """Return the columns that a query gives, without its rows."""
        relation = queries.relation_of(self, sql)
        rows = queries.run(self, f"SELECT * FROM ({relation.sql}) LIMIT 0")
        return result_of(rows, [(column.name, column.type) for column in relation.columns], queries.SELECT)

    def prepared(self, sql: str) -> str:
        """Return a statement for sqlglot, the session's variables resolved; unlike in fakesnow, not inside strings."""
        return super().prepared(inlined_variables(sql, self.variables._variables))  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001

    def is_spoiled(self) -> bool:
        """Return whether DuckDB has given the open transaction up, as it does after most failures."""
        try:
            self.duck.execute("SELECT 1")
        except duckdb.TransactionException:
            return True
        return False


@contextmanager
def rolled_back_on_failure(duck: duckdb.DuckDBPyConnection) -> Generator[None]:
    try:
        yield
    except BaseException:
        roll_back(duck)
        raise


def lost_transaction(why: str) -> SqlError:
    return SqlError(
        f"The transaction requires {why}. All of it was rolled back. End it by ROLLBACK, then repeat its statements.",
        errno=9999,
        sqlstate="40000",
    )


@dataclass(frozen=True)
class _Change:
    """A change that an open transaction has made."""

    parsed: Statement
    statement: Running
    params: Any
    result: Result


@dataclass
class SimulatedSession(Session):
    """What a login opens."""

    last_query_id: str | None = None
    abort_idle: Callable[[], None] = lambda: None
    measures_bytes: bool = False
    _results: OrderedDict[str, Result] = field(default_factory=OrderedDict[str, Result])
    _changes: list[_Change] = field(default_factory=list[_Change])
    _holds_writing: bool = False
    _idle_since: float = field(default_factory=time.monotonic)

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

    def abort_if_idle(self, seconds: float) -> None:
        """Roll back what has been open for this time without a statement, and let others write."""
        if not self._holds_writing or not self._turn.acquire(blocking=False):
            return
        try:
            if self._holds_writing and time.monotonic() - self._idle_since >= seconds:
                self.own.lose(f"a statement at least every {seconds:g} s while others wait for its lock, got none")
                self._yield_writing()
        finally:
            self._turn.release()

    @contextmanager
    def _writing_if(self, parsed: Statement, statement: Running) -> Generator[None]:
        """Let nobody else write meanwhile; with changes that are not committed, until they are, as Snowflake locks them."""
        self._check_open()
        if parsed.writes and not self._holds_writing:
            statement.acquire(self.writing)
            self._holds_writing = True
        try:
            yield
        finally:
            self._yield_writing()
            self._idle_since = time.monotonic()

    def _keep(self, statement: Running, result: Result) -> None:
        self._results[statement.query_id] = result
        while len(self._results) > RESULTS_KEPT:
            self._results.popitem(last=False)

    def _yield_writing(self) -> None:
        if not self.own.has_changed:
            self._changes.clear()
        if self._holds_writing and not self.own.has_changed:
            self._holds_writing = False
            self.writing.release()

    def _dispatch(self, parsed: Statement, statement: Running, params: Any) -> Result:
        if self.own.lost and not isinstance(parsed, Transaction | AlterSession):
            raise lost_transaction(self.own.lost)
        self.own.scanned.clear()
        try:
            result = self._executed(parsed, statement, params)
        except BaseException:
            self._recover(statement)
            raise
        finally:
            self.last_query_id = statement.query_id
        self._note_scans(statement)
        if self.own.has_changed and parsed.writes:
            self._changes.append(_Change(parsed, statement, params, result))
        self._keep(statement, result)
        return result

    def _note_scans(self, statement: Running) -> None:
        assert isinstance(statement, SimulatedStatement)
        statement.scanned = tuple(map(str, self.own.scanned))
        if self.measures_bytes:
            statement.bytes_scanned = sum(bytes_of(self.own, table) for table in self.own.scanned)

    def _recover(self, statement: Running) -> None:
        """Make the open transaction's changes again if DuckDB has given them up: on an account they stay.

        https://docs.snowflake.com/en/sql-reference/transactions#failed-statements-within-a-transaction
        """
        if self.own.in_transaction and statement.parameter("TRANSACTION_ABORT_ON_ERROR", "false").lower() == "true":
            self.own.lose("that no statement fails while TRANSACTION_ABORT_ON_ERROR is TRUE, got one that did")
        if not self.own.has_changed or not self.own.is_spoiled():
            return
        self.own.restart()
        try:
            if all(self._repeated(change) for change in self._changes):
                return
        except (SqlError, duckdb.Error):
            pass
        self.own.lose("changes that can be made again after a failed statement, got others. An account would keep them")

    def _repeated(self, change: _Change) -> bool:
        if VOLATILE.search(change.statement.sql):
            return False
        return super()._dispatch(change.parsed, change.statement, change.params).table.equals(change.result.table)

    def _executed(self, parsed: Statement, statement: Running, params: Any) -> Result:
        describe_only = isinstance(statement, SimulatedStatement) and statement.describe_only
        if describe_only and parsed.writes:
            return status(SUCCESS)
        if describe_only and isinstance(parsed, Query) and describable(parsed.sql):
            self.connection.context = self._context(statement)
            return self.own.described(parsed.sql)
        return super()._dispatch(parsed, statement, params)

    def _context(self, statement: Running) -> dict[str, str | None]:
        return {**super()._context(statement), "last_query_id": self.last_query_id}

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
        """Change session parameters: https://docs.snowflake.com/en/sql-reference/sql/alter-session."""
        check_parameters(dict(parsed.settings))
        for name in parsed.unset:
            check_parameters({name: None})
        for name, value in parsed.settings:
            if name == "AUTOCOMMIT":
                self.own.autocommit(value.upper() == "TRUE")
            self.parameters[name] = value
        for name in parsed.unset:
            if name == "AUTOCOMMIT":
                self.own.autocommit(True)
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
        return {*SYSTEM_ROLES, *grants_in(self.connection, self.connection.engine.databases[0]).roles(), self.role}


def describable(sql: str) -> bool:
    """Return whether a query's columns can be told without executing it."""
    return sql.lstrip("(")[:6].strip().upper() in {"SELECT", "WITH", "VALUES"}


def _session(connection: EngineSession) -> SimulatedSession:
    assert isinstance(connection, SimulatedConnection)
    assert connection.session is not None
    return connection.session


def _note_scanned(connection: EngineSession, expression: Expr) -> Expr:
    assert isinstance(connection, SimulatedConnection)
    connection.scanned += scanned_tables(connection, expression)
    return expression


SESSIONS = Feature(
    heads=HEADS,
    rewrite=_note_scanned,
    handlers={
        AlterSession: lambda connection, parsed: _session(connection).alter(parsed),
        ResultScan: lambda connection, parsed: _session(connection).result_of(parsed),
        Transaction: lambda connection, parsed: _session(connection).transaction(parsed),
        UseObject: lambda connection, parsed: _session(connection).use(parsed),
    },
)
