"""Sessions, the statements that run in them, and who waits for whom.

A session runs one statement at a time; statements that write wait for those of other sessions, so DuckDB never has
to refuse one of two writers. Reading never waits for another session.
"""

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb

from run_elt_dagster.embedded import grants, listings, policies, schemas, streams, tables, versions
from run_elt_dagster.embedded.engine import DEFAULT_SCHEMA, Engine, EngineSession, Result, status
from run_elt_dagster.embedded.errors import CancelledError, SqlError, from_duckdb, missing_object
from run_elt_dagster.embedded.policy_statements import CreatePolicy, DropPolicy, FreeRows, MaskColumn, RestrictRows
from run_elt_dagster.embedded.reader import Statement
from run_elt_dagster.embedded.schema_statements import CreateSchema, ManageSchema
from run_elt_dagster.embedded.statements import (
    AlterSession,
    CancelQueries,
    CloneTable,
    ClusterTable,
    CommentColumns,
    CommentTable,
    CreateRole,
    CreateTable,
    DropRole,
    DropTable,
    GetTag,
    Grant,
    InsertOverwrite,
    Query,
    RenameTable,
    ResultScan,
    ShowGrants,
    ShowTablesHistory,
    SwapTables,
    TagTable,
    Transaction,
    TruncateTable,
    UndropTable,
    UseObject,
    parse,
)
from run_elt_dagster.embedded.stream_statements import CreateStream, DropStream, ShowStreams

SUCCESS = "Statement executed successfully."
RESULTS_KEPT = 20
_POLL_SECONDS = 0.02
_ON_TABLES: dict[type[Statement], Callable[[EngineSession, Any], Result]] = {
    CreateTable: tables.create_table,
    CloneTable: tables.clone_table,
    ClusterTable: tables.cluster_table,
    SwapTables: tables.swap_tables,
    RenameTable: tables.rename_table,
    DropTable: tables.drop_table,
    UndropTable: versions.undrop_table,
    ShowTablesHistory: listings.show_tables_history,
    TruncateTable: tables.truncate_table,
    CommentColumns: tables.comment_columns,
    CommentTable: tables.comment_table,
    TagTable: tables.tag_table,
    GetTag: tables.get_tag,
    InsertOverwrite: tables.insert_overwrite,
    Grant: grants.grant,
    ShowGrants: grants.show_grants,
    CreateStream: streams.create_stream,
    DropStream: streams.drop_stream,
    ShowStreams: streams.show_streams,
    CreatePolicy: policies.create_policy,
    DropPolicy: policies.drop_policy,
    MaskColumn: policies.mask_column,
    RestrictRows: policies.restrict_rows,
    FreeRows: policies.free_rows,
    CreateSchema: schemas.create_schema,
    ManageSchema: schemas.manage_schema,
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
    """A statement between its arrival and its answer.

    Args:
        sql: Its text.
        session: Where it runs.
        request_id: The connector's id of the request, the same when it asks again.
        parameters: Parameters of this statement alone, by name in upper case.
        describe_only: Whether only the columns are wanted.
    """

    def __init__(
        self,
        sql: str,
        *,
        session: "Session",
        request_id: str = "",
        parameters: Mapping[str, str] | None = None,
        describe_only: bool = False,
    ) -> None:
        self.sql = sql
        self.session = session
        self.request_id = request_id
        self.describe_only = describe_only
        self.query_id = str(uuid.uuid4())
        self.started_at = datetime.now(UTC)
        self.finished = threading.Event()
        self._parameters = parameters or {}
        self._clock = time.monotonic()
        self._cancelled = threading.Event()
        self._reason: SqlError = CancelledError()

    @property
    def seconds(self) -> float:
        """Time since the arrival."""
        return time.monotonic() - self._clock

    @property
    def is_in_duckdb(self) -> bool:
        """Whether DuckDB is working on it, neither a hook nor a lock."""
        return self.session.executing is self

    @property
    def failure(self) -> SqlError | None:
        """Why the statement was cancelled, None if it was not."""
        return self._reason if self._cancelled.is_set() else None

    def parameter(self, name: str, default: str) -> str:
        """Return a parameter of the statement or, if it has none, of the session."""
        return self._parameters.get(name, self.session.parameters.get(name, default))

    def check(self) -> None:
        """Raise if the statement was cancelled.

        Raises:
            SqlError: It was, for this reason.
        """
        if self.failure is not None:
            raise self.failure

    def wait(self, seconds: float) -> None:
        """Wait, as a test's hook may do, unless the statement is cancelled.

        Raises:
            SqlError: It was.
        """
        self._cancelled.wait(seconds)
        self.check()

    def cancel(self, reason: SqlError | None = None) -> None:
        """Cancel the statement wherever it is: waiting for a lock, in a hook, or in DuckDB. Returns when it has ended."""
        self._reason = reason or self._reason
        self._cancelled.set()
        # An interrupt that arrives just before DuckDB begins is lost, so it is repeated until the statement ends.
        while not self.finished.wait(_POLL_SECONDS):
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

    def acquire(self, lock: threading.Lock) -> None:
        """Wait for a lock, unless the statement is cancelled or waits longer than it may.

        https://docs.snowflake.com/en/sql-reference/parameters#lock-timeout
        """
        timeout = float(self.parameter("LOCK_TIMEOUT", "43200"))
        deadline = time.monotonic() + timeout
        self.check()
        while not lock.acquire(timeout=_POLL_SECONDS):
            self.check()
            if time.monotonic() > deadline:
                text = f"Statement '{self.query_id}' was aborted because it waited {timeout:g} s for the lock of a transaction."
                raise SqlError(text, errno=625, sqlstate="57014")


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
    _results: OrderedDict[str, Result] = field(default_factory=OrderedDict[str, Result])
    _interrupting: threading.Lock = field(default_factory=threading.Lock)
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
        with statement.holding(self._turn), self._writing_if(parsed, statement), self._interruptible(statement):
            try:
                result = self._dispatch(parsed, statement, params)
            except CancelledError as error:
                # A timeout too reaches DuckDB as an interrupt.
                raise (statement.failure or CancelledError()) from error
            except duckdb.Error as error:
                raise (statement.failure or from_duckdb(error)) from error
            self._keep(statement, result)
            return result

    @property
    def executing(self) -> Running | None:
        """The statement that DuckDB is working on."""
        return self._in_duck

    def interrupt(self, statement: Running) -> None:
        """Interrupt a statement if it is the one that DuckDB is executing."""
        with self._interrupting:
            if self._in_duck is statement:
                self.connection.duck.interrupt()

    @contextmanager
    def _interruptible(self, statement: Running) -> Generator[None]:
        with self._interrupting:
            statement.check()
            self._in_duck = statement
        try:
            yield
        finally:
            with self._interrupting:
                self._in_duck = None
            self.last_query_id = statement.query_id

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

    def _yield_writing(self) -> None:
        if self._holds_writing and not self.connection.in_transaction:
            self._holds_writing = False
            self.writing.release()

    def _dispatch(self, parsed: Statement, statement: Running, params: Any) -> Result:
        self.connection.context = {**self._context(), "query_id": statement.query_id}
        if statement.describe_only and parsed.writes:
            return status(SUCCESS)
        if isinstance(parsed, Query) and statement.describe_only and parsed.describable:
            return self.connection.described(parsed.sql)
        if isinstance(parsed, Query):
            return self.connection.query(parsed.sql, params)
        own = self._own_statements().get(type(parsed))
        return own(parsed) if own else _ON_TABLES[type(parsed)](self.connection, parsed)

    def _own_statements(self) -> dict[type[Statement], Callable[[Any], Result]]:
        """Return what concerns the session itself."""
        return {
            AlterSession: self._alter,
            ResultScan: self._result_of,
            Transaction: self._transaction,
            UseObject: self._use,
        }

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

    def _result_of(self, parsed: ResultScan) -> Result:
        query_id = parsed.query_id or self.last_query_id or ""
        if query_id not in self._results:
            raise SqlError(f"Statement {query_id} not found", errno=709, sqlstate="02000")
        return self._results[query_id]

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
                self.connection.autocommit(value.upper() == "TRUE")
            self.parameters[name] = value
        for name in parsed.unset:
            self.parameters.pop(name, None)
        return status(SUCCESS)

    def _use(self, parsed: UseObject) -> Result:
        name = parsed.name.parts[-1]
        if parsed.kind == "ROLE":
            if name not in self._roles():
                raise missing_object(name)
            self.role = name
        elif parsed.kind == "WAREHOUSE":
            self.warehouse = name
        elif parsed.kind == "DATABASE":
            self.connection.use(name, DEFAULT_SCHEMA)
        elif parsed.kind == "SCHEMA":
            self.connection.use(*self._schema_named(parsed.name.parts))
        return status(SUCCESS)

    def _schema_named(self, parts: Sequence[str]) -> tuple[str, str]:
        *database, schema = parts
        return (database[0] if database else self.connection.database or ""), schema

    def _roles(self) -> set[str | None]:
        created = self.connection.register(self.engine.main_database).roles()
        return {*grants.SYSTEM_ROLES, *created, self.role}

    def _cancel(self, parsed: CancelQueries) -> Result:
        message = self.cancel(parsed)
        with self._turn:
            self._check_open()
            return self.connection.answer("SELECT ? AS status", [message])
