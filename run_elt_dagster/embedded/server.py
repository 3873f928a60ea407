"""The embedded Snowflake's HTTP server: what the Snowflake connector asks for, on 127.0.0.1 only.

The protocol is the one of the connector, whose source is its documentation:
https://github.com/snowflakedb/snowflake-connector-python. A failed statement is always an answer, never an HTTP error,
since the connector retries those until its timeout.
"""

import contextlib
import gzip
import json
import logging
import re
import secrets
import socket
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
from fakesnow.arrow import to_ipc, to_sf
from fakesnow.converter import from_binding
from fakesnow.expr import normalise_ident
from fakesnow.statement_type import DML_TYPE_IDS
from fakesnow.transforms import SERVER_VERSION

from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.lexer import located
from run_elt_dagster.embedded.engine import Engine, EngineSession
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.parameters import check_parameters
from run_elt_dagster.embedded.results import Result
from run_elt_dagster.embedded.sessions import Running, Session, session_gone
from run_elt_dagster.embedded.statements import CancelQueries

HOST = "127.0.0.1"
USER = "EMBEDDED"
ANSWERS_KEPT = 50
# Snowflake answers "in progress" before the connector's socket times out after 60 s, and the connector asks again.
ANSWER_WITHIN_SECONDS = 40.0
IN_PROGRESS = "333333"
# What stands for UTC in the connector's format of a TIMESTAMP_TZ.
_NO_OFFSET = 1440
logger = logging.getLogger(__name__)

Answer = dict[str, Any]


class EmbeddedServer:
    """The embedded Snowflake of one directory.

    Args:
        directory: Where the database files are. Only one server at a time may use it.
        databases: Databases that exist from the start; the first one holds what belongs to the account.
        features: What it can do besides.
    """

    def __init__(
        self, directory: Path, *, databases: Sequence[str] = ("RUN_ELT",), features: Sequence[Feature] = ()
    ) -> None:
        found = [path.stem for path in sorted(directory.glob("*.db")) if _is_database(path)]
        self.engine = Engine(directory, list(dict.fromkeys([*databases, *found])), features)
        self.password = secrets.token_urlsafe(24)
        self.answer_within_seconds = ANSWER_WITHIN_SECONDS
        self._sessions: dict[str, Session] = {}
        self._statements: OrderedDict[str, Running] = OrderedDict()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._http = _HttpServer()
        self._http.embedded = self
        serve = self._http.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.05,), name="embedded-snowflake", daemon=True)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._http.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End all sessions, write everything into the database files and let go of them."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self._close_sessions()
        self._http.hang_up()
        # Somebody may have logged in between.
        self._close_sessions()
        self.engine.close()

    def _close_sessions(self) -> None:
        for session in list(self._sessions.values()):
            session.close()

    def running(self) -> list[Running]:
        """Return the statements that have not been answered yet."""
        with self._lock:
            sessions = list(self._sessions.values())
        return [statement for session in sessions for statement in list(session.running.values())]

    def respond(self, path: str, query: Mapping[str, str], token: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer to a request; whatever goes wrong is an answer too."""
        try:
            return self._route(path, query, token, body)
        except Exception as error:
            logger.debug("request %s failed", path, exc_info=True)
            return _failure(error)

    def _route(self, path: str, query: Mapping[str, str], token: str, body: Mapping[str, Any]) -> Answer:
        if path == "/session/v1/login-request":
            return self._login(query, body)
        if path.startswith("/telemetry"):
            return success(None)
        session = self._session(token)
        if path == "/queries/v1/query-request":
            return self._query(session, query.get("requestId", ""), body)
        if path == "/queries/v1/abort-request":
            self._cancel_all(lambda statement: statement.request_id == body.get("requestId"))
        elif (match := re.fullmatch(r"/queries/([^/]+)/result", path)) and match[1] in self._statements:
            return self._answer_of(self._statements[match[1]])
        elif path == "/session" and query.get("delete"):
            self._end(session)
        return success(None)

    def _login(self, query: Mapping[str, str], body: Mapping[str, Any]) -> Answer:
        data = body["data"]
        if not secrets.compare_digest(str(data.get("PASSWORD", "")), self.password):
            raise SqlError("Incorrect username or password was specified.", errno=390100, sqlstate="08001")
        parameters = parameters_of(data, "SESSION_PARAMETERS")
        check_parameters(parameters)
        role, warehouse, database, schema = (
            normalise_ident(query[name]) if query.get(name) else None
            for name in ("roleName", "warehouse", "databaseName", "schemaName")
        )
        session = self._opened(
            user=str(data.get("LOGIN_NAME") or USER).upper(),
            role=role or "SYSADMIN",
            warehouse=warehouse,
            connection=self._connection(database, schema, parameters),
            writing=self._writing,
            parameters=parameters,
            cancel=self._cancel,
        )
        with self._lock:
            self._sessions[session.token] = session
        return success(_login_data(session, autocommit=parameters.get("AUTOCOMMIT", "true") == "true"))

    def _opened(self, **arguments: Any) -> Session:
        return Session(**arguments)

    def _connection(self, database: str | None, schema: str | None, parameters: Mapping[str, str]) -> EngineSession:
        if parameters.get("AUTOCOMMIT", "true") != "true":
            raise unsupported("keep a transaction open", "AUTOCOMMIT = FALSE")
        return EngineSession(self.engine, database, schema)

    def _session(self, token: str) -> Session:
        session = self._sessions.get(token)
        if session is None:
            raise session_gone()
        return session

    def _end(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop(session.token, None)
            self._forget_old_answers(session, kept=0)
        session.close()

    def _query(self, session: Session, request_id: str, body: Mapping[str, Any]) -> Answer:
        for option, what in (("asyncExec", "run a statement asynchronously"), ("describeOnly", "describe a statement")):
            if body.get(option):
                raise unsupported(what, repr(str(body["sqlText"])[:200]))
        return self._answer_of(self._begun(session, request_id, body))

    def _begun(self, session: Session, request_id: str, body: Mapping[str, Any]) -> Running:
        """Begin to execute a statement in a thread of its own, or return the one that came with the same request id."""
        with self._lock:
            if request_id in self._statements:
                return self._statements[request_id]
            statement = self._statement(session, request_id, body)
            session.running[statement.query_id] = statement
            for key in filter(None, (request_id, statement.query_id)):
                self._statements[key] = statement
            self._forget_old_answers(session)
        name = f"query-{statement.query_id}"
        threading.Thread(target=self._run, args=(statement, body), name=name, daemon=True).start()
        return statement

    def _statement(self, session: Session, request_id: str, body: Mapping[str, Any]) -> Running:
        return Running(str(body["sqlText"]), session=session, request_id=request_id, parameters=parameters_of(body))

    def _forget_old_answers(self, session: Session, *, kept: int = ANSWERS_KEPT) -> None:
        """Keep a session's latest answers for whoever asks again, and every statement that still runs.

        Others may send a thousand statements until a lost answer is asked for again: executed anew, a swap would be undone.
        """
        finished = [
            key
            for key, statement in self._statements.items()
            if statement.session is session and statement.finished.is_set()
        ]
        for key in finished[: max(len(finished) - kept, 0)]:
            del self._statements[key]

    def _answer_of(self, statement: Running) -> Answer:
        if not statement.finished.wait(self.answer_within_seconds):
            return in_progress(statement, IN_PROGRESS)
        return statement.answer

    def _run(self, statement: Running, body: Mapping[str, Any]) -> None:
        try:
            statement.answer = self._outcome(statement, body)
        finally:
            statement.session.running.pop(statement.query_id, None)
            statement.finished.set()

    def _outcome(self, statement: Running, body: Mapping[str, Any]) -> Answer:
        try:
            with statement.limited():
                check_parameters(parameters_of(body))
                result = self._result(statement, body)
            return success(_query_data(result, statement))
        except Exception as error:  # noqa: BLE001 - it becomes the statement's answer
            return _failure(error, statement)

    def _result(self, statement: Running, body: Mapping[str, Any]) -> Result:
        bindings = body.get("bindings")
        if not bindings:
            return statement.session.execute(statement)
        if any(isinstance(binding["value"], list) for binding in bindings.values()):
            raise SqlError("Unsupported feature 'array binding'.", errno=2, sqlstate="0A000")
        params = [from_binding(bindings[str(index)]) for index in range(1, len(bindings) + 1)]
        return statement.session.execute(statement, params)

    def _cancel(self, order: CancelQueries) -> str:
        """Cancel statements: https://docs.snowflake.com/en/sql-reference/functions/system_cancel_all_queries."""
        count = self._cancel_all(lambda statement: statement.session.session_id == order.session_id)
        return f"{count} statements canceled."

    def _cancel_all(self, is_meant: Callable[[Running], bool]) -> int:
        meant = [statement for statement in self.running() if is_meant(statement)]
        threads = [threading.Thread(target=statement.cancel, daemon=True) for statement in meant]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(meant)


class _HttpServer(ThreadingMixIn, TCPServer):
    """A server for HTTP without what `http.server` adds: it asks DNS for the name of the machine."""

    daemon_threads = True
    request_queue_size = 128
    embedded: EmbeddedServer

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self._clients: dict[threading.Thread, socket.socket] = {}

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection until one side closes it."""
        self._clients[threading.current_thread()] = request
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._clients.pop(threading.current_thread(), None)

    def hang_up(self) -> None:
        """Close the connections that clients keep open, and wait until nobody serves them any more.

        A thread that still lives when the interpreter ends would keep DuckDB's objects, which DuckDB complains about.
        """
        for thread, client in list(self._clients.items()):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Stay quiet: a client that goes away is nothing to tell the console about."""
        logger.debug("connection of %s failed", client_address)


class _Handler(BaseHTTPRequestHandler):
    """Requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    # An answer leaves in one piece; header and body apart would wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Keep requests out of the console."""

    def _body(self) -> dict[str, Any]:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _HttpServer)  # noqa: S101 - it is the only one that uses this handler
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        token = re.search(r'Token="(.*?)"', self.headers.get("Authorization") or "")
        answer = server.embedded.respond(url.path, query, token[1] if token else "", self._body())
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815 - the name that `http.server` looks for


def _is_database(path: Path) -> bool:
    """Tell a DuckDB file from other files that are called *.db: https://duckdb.org/docs/stable/internals/storage."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK" and path.stem.isidentifier()


def success(data: Any) -> Answer:
    """Return the answer to a request that has succeeded."""
    return {"data": data, "code": None, "message": None, "success": True}


def _failure(error: Exception, statement: Running | None = None) -> Answer:
    if not isinstance(error, SqlError):
        text = f"The embedded Snowflake cannot run this statement, got {type(error).__name__}: {error}."
        error = SqlError(f"{text} Run the statement on a Snowflake account.", errno=9999, sqlstate="99999")
    if statement is not None:
        error = located(error, statement.sql)
    code = f"{error.errno:06d}"
    data = {"errorCode": code, "sqlState": error.sqlstate, "queryId": statement.query_id if statement else None}
    return {"data": data, "code": code, "message": error.message, "success": False}


def in_progress(statement: Running, code: str) -> Answer:
    """Return the answer that makes the connector ask again."""
    url = f"/queries/{statement.query_id}/result"
    data = {"queryId": statement.query_id, "getResultUrl": url, "queryAbortsAfterSecs": 300, "progressDesc": None}
    return {"data": data, "code": code, "message": None, "success": True}


def _login_data(session: Session, *, autocommit: bool) -> Answer:
    return {
        "token": session.token,
        # Without one the connector never ends its session.
        "masterToken": session.token,
        "validityInSeconds": 3600,
        "masterValidityInSeconds": 14400,
        "sessionId": session.session_id,
        "serverVersion": SERVER_VERSION,
        "parameters": [
            {"name": "AUTOCOMMIT", "value": autocommit},
            {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
            {"name": "CLIENT_TELEMETRY_ENABLED", "value": False},
            {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
            {"name": "TIMEZONE", "value": "Etc/UTC"},
        ],
        "sessionInfo": {
            "databaseName": session.connection.database,
            "schemaName": session.connection.schema,
            "warehouseName": session.warehouse,
            "roleName": session.role,
        },
    }


def _query_data(result: Result, statement: Running) -> Answer:
    connection = statement.session.connection
    return {
        "parameters": [{"name": "TIMEZONE", "value": "Etc/UTC"}],
        "rowtype": result.rowtype,
        "total": result.table.num_rows,
        "returned": result.table.num_rows,
        "queryId": statement.query_id,
        "statementTypeId": result.statement_type,
        "finalDatabaseName": connection.database,
        "finalSchemaName": connection.schema,
        **_rows(result),
    }


def _rows(result: Result) -> Answer:
    if result.statement_type in DML_TYPE_IDS:
        # The connector reads the counts of DML from JSON.
        columns = [
            [None if value is None else str(value) for value in column.to_pylist()] for column in result.table.columns
        ]
        return {"queryResultFormat": "json", "rowset": list(zip(*columns, strict=True))}
    # An account sends no content for no rows: a stream without a batch is an error in the connector's fetch_arrow_all.
    content = to_ipc(_as_read(result)) if result.table.num_rows else b""
    return {"queryResultFormat": "arrow", "rowsetBase64": b64encode(content).decode()}


def _as_read(result: Result) -> Any:
    """Return the rows as the connector reads them."""
    offsets: dict[int, Any] = {}
    plain = result.table
    for index, described in enumerate(result.rowtype):
        field, column = plain.schema.field(index), plain.column(index)
        if described["type"] == "timestamp_ltz":
            # An instant in UTC without an offset.
            plain = plain.set_column(index, field.name, column.cast(pa.timestamp("us")))
        elif pa.types.is_struct(column.type):
            utc, offsets[index] = column.combine_chunks().flatten()
            plain = plain.set_column(index, field.name, utc.cast(pa.timestamp("us", "UTC")))
    converted = to_sf(plain, result.rowtype)
    for index, column in enumerate(plain.columns):
        if pa.types.is_timestamp(column.type) and (column.null_count or index in offsets):
            instants = _instants(converted.column(index), column, offsets.get(index))
            converted = converted.set_column(index, converted.schema.field(index), instants)
    return converted


def _instants(converted: Any, column: Any, offsets: Any) -> Any:
    """Return instants as fakesnow converts them, and what it leaves out.

    Each TIMESTAMP_TZ has its offset, which the connector wants in minutes from -1440. What is missing is missing: as of
    fakesnow 0.12 it would arrive as 1970-01-01.
    """
    parts = converted.combine_chunks()
    fields = parts.flatten()
    if offsets is not None:
        fields[2] = pa.array([(minutes or 0) + _NO_OFFSET for minutes in offsets.to_pylist()], type=pa.int32())
    return pa.StructArray.from_arrays(fields, fields=list(parts.type), mask=column.is_null().combine_chunks())


def parameters_of(body: Mapping[str, Any], key: str = "parameters") -> dict[str, str]:
    """Return parameters by name in upper case, as text."""
    return {
        str(name).upper(): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (body.get(key) or {}).items()
    }
