"""Sessions, the statements that run in them, and who waits for whom.

A session runs one statement at a time; statements that write wait for those of other sessions, so DuckDB never has
to refuse one of two writers. Reading never waits for another session.
"""

import secrets
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from run_elt_dagster.dialect.errors import CancelledError, SqlError, from_duckdb, unsupported
from run_elt_dagster.embedded import listings, schemas, statements, tables, versions
from run_elt_dagster.embedded.engine import EngineSession, spoilt_transaction
from run_elt_dagster.embedded.features import Handler
from run_elt_dagster.embedded.parameters import check_parameters
from run_elt_dagster.embedded.reader import Statement
from run_elt_dagster.embedded.results import Result, status

SUCCESS = "Statement executed successfully."
POLL_SECONDS = 0.02
_HANDLERS: Mapping[type[Statement], Handler] = {
    statements.CreateTable: tables.create_table,
    statements.CloneTable: tables.clone_table,
    statements.SwapTables: tables.swap_tables,
    statements.RenameTable: tables.rename_table,
    statements.DropTable: tables.drop_table,
    statements.UndropTable: versions.undrop_table,
    statements.TruncateTable: tables.truncate_table,
    statements.CommentColumns: tables.comment_columns,
    statements.CommentTable: tables.comment_table,
    statements.InsertOverwrite: tables.insert_overwrite,
    statements.CreateSchema: schemas.create_schema,
    statements.UseSchema: schemas.use_schema,
    statements.Show: listings.show,
    statements.ShowColumns: listings.show_columns,
    statements.ShowGrants: listings.show_grants,
    statements.ShowTables: listings.show_tables,
}


def session_gone() -> SqlError:
    """Return the error for a session that has ended."""
    text = "Session no longer exists. New login required to access the service."
    return SqlError(text, errno=390111, sqlstate="08001")


@dataclass(eq=False)
class Running:
    """A statement, and its answer, kept for whoever asks again: the connector does with the same id of the request.

    The parameters are those of this statement alone, by name in upper case.
    """

    sql: str
    session: "Session"
    request_id: str
    parameters: Mapping[str, str]
    query_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: dict[str, Any] = field(default_factory=dict[str, Any])
    finished: threading.Event = field(default_factory=threading.Event)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _reason: SqlError = field(default_factory=CancelledError)

    @property
    def failure(self) -> SqlError | None:
        """Why the statement was cancelled, None if it was not."""
        return self._reason if self._cancelled.is_set() else None

    def parameter(self, name: str, default: str) -> str:
        """Return a parameter of the statement or, if it has none, of the session."""
        return self.parameters.get(name, self.session.parameters.get(name, default))

    def check(self) -> None:
        """Raise the reason if the statement was cancelled."""
        if self.failure is not None:
            raise self.failure

    def cancel(self, reason: SqlError | None = None) -> None:
        """Cancel the statement, whether it waits for a lock or DuckDB works on it. Returns when it has ended."""
        self._reason = reason or self._reason
        self._cancelled.set()
        # An interrupt that arrives just before DuckDB begins is lost, so it is repeated until the statement ends.
        while not self.finished.wait(POLL_SECONDS):
            self.session.interrupt(self)

    @contextmanager
    def limited(self) -> Generator[None]:
        """End the statement when its time is over.

        https://docs.snowflake.com/en/sql-reference/parameters#statement-timeout-in-seconds
        """
        seconds = float(self.parameter("STATEMENT_TIMEOUT_IN_SECONDS", "0"))
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            yield
            return
        text = f"Statement reached its statement or warehouse timeout of {seconds:g} second(s) and was canceled."
        timer = threading.Timer(seconds, self.cancel, [SqlError(text, errno=630, sqlstate="57014")])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def holding(self, lock: threading.Lock) -> Generator[None]:
        """Hold a lock; a cancelled statement stops waiting for it."""
        self.acquire(lock)
        try:
            yield
        finally:
            lock.release()

    def look_around(self) -> None:
        """Look, while it waits for a lock, whether it still may."""
        self.check()

    def acquire(self, lock: threading.Lock) -> None:
        """Wait for a lock, unless the statement is cancelled or waits longer than it may (000625).

        https://docs.snowflake.com/en/sql-reference/parameters#lock-timeout
        """
        seconds = float(self.parameter("LOCK_TIMEOUT", "43200"))
        deadline = time.monotonic() + seconds
        self.check()
        while not lock.acquire(timeout=POLL_SECONDS):
            self.look_around()
            if time.monotonic() > deadline:
                text = f"Statement '{self.query_id}' was aborted because it waited {seconds:g} s for the lock of a transaction."
                raise SqlError(text, errno=625, sqlstate="57014")


@dataclass
class Session:
    """What a login opens; its parameters have names in upper case."""

    user: str
    role: str | None
    warehouse: str | None
    connection: EngineSession
    writing: threading.Lock
    parameters: dict[str, str] = field(default_factory=dict[str, str])
    session_id: int = field(default_factory=lambda: secrets.randbelow(2**53))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    closed: bool = False
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    # The statement that DuckDB is working on.
    in_duck: Running | None = None
    cancel: Callable[[statements.CancelQueries], str] = lambda _: "0 statements canceled."
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _interrupting: threading.Lock = field(default_factory=threading.Lock)
    _holds_writing: bool = False

    def execute(self, statement: Running, params: Any = None) -> Result:
        """Run a statement when it is this session's turn; one that fails or is cancelled raises an SqlError."""
        engine = self.connection.engine
        parsed = statements.parse(statement.sql, engine.heads, engine.clauses)
        if isinstance(parsed, statements.CancelQueries):
            # A session cancels from outside its own turn.
            return self._cancel(parsed)
        with statement.holding(self._turn), self._writing_if(parsed, statement), self._interruptible(statement):
            try:
                return self._dispatch(parsed, statement, params)
            except CancelledError as error:
                # A timeout too reaches DuckDB as an interrupt.
                raise (statement.failure or CancelledError()) from error
            except duckdb.Error as error:
                raise (statement.failure or from_duckdb(error)) from error

    def interrupt(self, statement: Running) -> None:
        """Interrupt a statement if it is the one that DuckDB is executing."""
        with self._interrupting:
            if self.in_duck is statement:
                self.connection.duck.interrupt()

    @contextmanager
    def _interruptible(self, statement: Running) -> Generator[None]:
        with self._interrupting:
            statement.check()
            self.in_duck = statement
        try:
            yield
        finally:
            with self._interrupting:
                self.in_duck = None

    @contextmanager
    def _writing_if(self, parsed: Statement, statement: Running) -> Generator[None]:
        """Let nobody else write meanwhile; in a transaction, until it ends."""
        self._check_open()
        if parsed.writes and not self._holds_writing:
            statement.acquire(self.writing)
            self._holds_writing = True
        try:
            yield
        finally:
            self._yield_writing()

    def _yield_writing(self) -> None:
        if self._holds_writing and not self.connection.is_open:
            self._holds_writing = False
            self.writing.release()

    def close(self) -> None:
        """End the session: cancel what runs in it, roll back what is open."""
        for statement in list(self.running.values()):
            statement.cancel()
        with self._turn:
            if not self.closed:
                self.closed = True
                self.connection.end(commit=False)
                self._yield_writing()
                self.connection.close()

    def _check_open(self) -> None:
        if self.closed:
            raise session_gone()

    def _dispatch(self, parsed: Statement, statement: Running, params: Any) -> Result:
        self.connection.context = self._context(statement)
        if isinstance(parsed, statements.Transaction):
            return self._transact(parsed)
        if self.connection.is_spoilt:
            raise spoilt_transaction()
        try:
            return self._carried_out(parsed, params)
        except BaseException:
            self.connection.is_spoilt = self.connection.is_open
            raise

    def _transact(self, parsed: statements.Transaction) -> Result:
        if parsed.action == "BEGIN":
            self.connection.begin()
        else:
            self.connection.end(commit=parsed.action == "COMMIT")
        return status(SUCCESS)

    def _set(self, parsed: statements.SetParameters) -> Result:
        """Change session parameters: https://docs.snowflake.com/en/sql-reference/sql/alter-session."""
        settings = dict(parsed.settings)
        check_parameters(settings)
        if settings.get("AUTOCOMMIT", "TRUE").upper() != "TRUE":
            raise unsupported("keep a transaction open", "AUTOCOMMIT = FALSE")
        if "AUTOCOMMIT" in settings:
            # It commits what is open, whatever it was before: https://docs.snowflake.com/en/sql-reference/transactions#autocommit
            self.connection.end(commit=True)
        self.parameters.update(settings)
        return status(SUCCESS)

    def _carried_out(self, parsed: Statement, params: Any) -> Result:
        if isinstance(parsed, statements.Query):
            return self.connection.query(parsed.sql, params)
        if isinstance(parsed, statements.SetParameters):
            return self._set(parsed)
        handler = self.connection.engine.handlers.get(type(parsed)) or _HANDLERS[type(parsed)]
        return handler(self.connection, parsed)

    def _context(self, statement: Running) -> dict[str, str | None]:
        return {
            "account": "EMBEDDED",
            "database": self.connection.database,
            "query_id": statement.query_id,
            "region": "EMBEDDED",
            "role": self.role,
            "schema": self.connection.schema,
            "session_id": str(self.session_id),
            "user": self.user,
            "warehouse": self.warehouse,
        }

    def _cancel(self, parsed: statements.CancelQueries) -> Result:
        message = self.cancel(parsed)
        with self._turn:
            self._check_open()
            return self.connection.answer("SELECT ? AS status", [message])
