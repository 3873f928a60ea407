"""Sessions, the statements that run in them, and who waits for whom.

A session runs one statement at a time; statements that write wait for those of other sessions, so that DuckDB never has
to refuse one of two writers. Reading never waits for another session.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from run_elt_dagster.embedded import grants, tables
from run_elt_dagster.embedded.engine import Engine, EngineSession, Result
from run_elt_dagster.embedded.errors import CancelledError, SqlError, missing_object
from run_elt_dagster.embedded.statements import (
    AlterSession,
    CancelQueries,
    CloneTable,
    CommentTable,
    CreateRole,
    CreateTable,
    DropRole,
    DropTable,
    Grant,
    InsertOverwrite,
    Query,
    RenameTable,
    ShowGrants,
    ShowNothing,
    Statement,
    SwapTables,
    TagTable,
    Transaction,
    TruncateTable,
    UseObject,
    parse,
)

SUCCESS = "Statement executed successfully."
_POLL_SECONDS = 0.02
# Microseconds that DuckDB and Snowflake agree on; the names under which a session may change its time zone.
_ON_TABLES: dict[type[Statement], Callable[[EngineSession, Any], Result]] = {
    CreateTable: tables.create_table,
    CloneTable: tables.clone_table,
    SwapTables: tables.swap_tables,
    RenameTable: tables.rename_table,
    DropTable: tables.drop_table,
    TruncateTable: tables.truncate_table,
    CommentTable: tables.comment_table,
    TagTable: tables.tag_table,
    InsertOverwrite: tables.insert_overwrite,
    Grant: grants.grant,
    ShowGrants: grants.show_grants,
    ShowNothing: grants.show_nothing,
    CreateRole: grants.create_role,
    DropRole: grants.drop_role,
}


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


class Running:
    """A statement between its arrival and its answer."""

    def __init__(self, sql: str, *, session: "Session", request_id: str = "", tag: str = "") -> None:
        self.sql = sql
        self.session = session
        self.request_id = request_id
        self.tag = tag
        self.query_id = str(uuid.uuid4())
        self.started_at = datetime.now(UTC)
        self.finished = threading.Event()
        self._cancelled = threading.Event()
        self._clock = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the arrival."""
        return time.monotonic() - self._clock

    def check(self) -> None:
        """Raise if the statement was cancelled.

        Raises:
            CancelledError: It was.
        """
        if self._cancelled.is_set():
            raise CancelledError

    def wait(self, seconds: float) -> None:
        """Wait, as a test's hook may do, unless the statement is cancelled.

        Raises:
            CancelledError: It was.
        """
        self._cancelled.wait(seconds)
        self.check()

    def cancel(self) -> None:
        """Cancel the statement wherever it is: waiting for a lock, in a hook, or in DuckDB."""
        self._cancelled.set()
        # An interrupt that arrives just before DuckDB begins is lost, so that it is repeated until the statement ends.
        while not self.finished.wait(_POLL_SECONDS):
            self.session.interrupt(self)

    @contextmanager
    def holding(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock; a cancelled statement stops waiting for it."""
        self.acquire(lock)
        try:
            yield
        finally:
            lock.release()

    def acquire(self, lock: threading.Lock) -> None:
        """Wait for a lock unless the statement is cancelled."""
        self.check()
        while not lock.acquire(timeout=_POLL_SECONDS):
            self.check()


@dataclass
class Session:
    """What a login opens.

    Attributes:
        session_id: Snowflake's number of the session.
        parameters: Session parameters by name in upper case.
    """

    session_id: int
    token: str
    user: str
    role: str | None
    warehouse: str | None
    engine: Engine
    connection: EngineSession
    writing: threading.Lock
    parameters: dict[str, str] = field(default_factory=dict[str, str])
    last_query_id: str | None = None
    closed: bool = False
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    cancel: Callable[[CancelQueries], str] = lambda _: "0 statements canceled."
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _in_duck: Running | None = None
    _holds_writing: bool = False

    def execute(self, statement: Running, params: Any = None) -> Result:
        """Run a statement when it is this session's turn.

        Raises:
            SqlError: The statement failed or was cancelled.
        """
        parsed = parse(statement.sql)
        if isinstance(parsed, CancelQueries):
            # A session cancels from outside its own turn.
            return self._cancel(parsed)
        with statement.holding(self._turn):
            self._check_open()
            self._take_writing(parsed, statement)
            self._in_duck = statement
            try:
                statement.check()
                return self._dispatch(parsed, params)
            finally:
                self._in_duck = None
                self.last_query_id = statement.query_id
                self._yield_writing()

    def interrupt(self, statement: Running) -> None:
        """Interrupt a statement if it is the one that DuckDB is executing."""
        if self._in_duck is statement:
            self.connection.duck.interrupt()

    def close(self) -> None:
        """End the session: cancel what runs, roll back what is open."""
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
            raise SqlError(
                "Session no longer exists. New login required to access the service.", errno=390111, sqlstate="08001"
            )

    def _take_writing(self, parsed: Statement, statement: Running) -> None:
        if parsed.writes and not self._holds_writing:
            statement.acquire(self.writing)
            self._holds_writing = True

    def _yield_writing(self) -> None:
        """Let others write, unless a transaction is open: on Snowflake too it locks what it has written."""
        if self._holds_writing and not self.connection.in_transaction:
            self._holds_writing = False
            self.writing.release()

    def _dispatch(self, parsed: Statement, params: Any) -> Result:
        self.connection.context = self._context()
        if isinstance(parsed, Query):
            return self.connection.query(parsed.sql, params)
        if isinstance(parsed, Transaction):
            return self._transaction(parsed)
        if isinstance(parsed, AlterSession):
            return self._alter(parsed)
        if isinstance(parsed, UseObject):
            return self._use(parsed)
        return _ON_TABLES[type(parsed)](self.connection, parsed)

    def _context(self) -> dict[str, str | None]:
        return {
            "account": "EMBEDDED",
            "database": self.connection.database,
            "last_query_id": self.last_query_id,
            "region": "EMBEDDED",
            "role": self.role,
            "schema": self.connection.schema,
            "session_id": str(self.session_id),
            "user": self.user,
            "warehouse": self.warehouse,
        }

    def _transaction(self, parsed: Transaction) -> Result:
        if parsed.action == "BEGIN":
            self.connection.begin()
        else:
            self.connection.end(commit=parsed.action == "COMMIT")
        return status(SUCCESS)

    def _alter(self, parsed: AlterSession) -> Result:
        """Change session parameters: https://docs.snowflake.com/en/sql-reference/sql/alter-session.

        All are recorded; QUERY_TAG and AUTOCOMMIT have an effect. Instants are always shown in UTC.
        """
        for name, value in parsed.settings:
            if name == "AUTOCOMMIT":
                self.connection.end(commit=True)
                self.connection.autocommit(value.upper() == "TRUE")
            self.parameters[name] = value
        for name in parsed.unset:
            self.parameters.pop(name, None)
        return status(SUCCESS)

    def _use(self, parsed: UseObject) -> Result:
        if parsed.kind == "ROLE":
            known = self.engine_roles()
            if parsed.name not in known:
                raise missing_object(parsed.name)
            self.role = parsed.name
        else:
            self.warehouse = parsed.name
        return status(SUCCESS)

    def engine_roles(self) -> set[str | None]:
        """Return the roles that the session may use."""
        created = self.connection.register(self.engine.main_database).roles()
        return {*grants.SYSTEM_ROLES, *created, self.role}

    def _cancel(self, parsed: CancelQueries) -> Result:
        message = self.cancel(parsed)
        with self._turn:
            self._check_open()
            return self.connection.answer("SELECT ? AS status", [message])
