"""The simulated account: the embedded Snowflake with all features, hooks around each statement, and a history."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlglot import exp

from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.server import Answer, EmbeddedServer, in_progress, parameters_of, success
from run_elt_dagster.embedded.sessions import Running, Session
from run_elt_dagster.embedded.statements import CancelQueries
from run_elt_dagster.environments.copying import DATABASES
from run_elt_dagster_tests.simulator.grants import GRANTS
from run_elt_dagster_tests.simulator.kinds import KINDS_OF_TABLES
from run_elt_dagster_tests.simulator.policies import POLICIES
from run_elt_dagster_tests.simulator.query_history import StatementRecord, history_sql
from run_elt_dagster_tests.simulator.schemas import SCHEMAS
from run_elt_dagster_tests.simulator.session_statements import CancelQuery
from run_elt_dagster_tests.simulator.sessions import (
    SESSIONS,
    SimulatedConnection,
    SimulatedSession,
    SimulatedStatement,
)
from run_elt_dagster_tests.simulator.streams import STREAMS
from run_elt_dagster_tests.simulator.tags import TAGS

FEATURES = (DATABASES, SESSIONS, GRANTS, SCHEMAS, POLICIES, STREAMS, TAGS, KINDS_OF_TABLES)
HISTORY_KEPT = 10_000
IN_PROGRESS_ASYNC = "333334"
# https://docs.snowflake.com/en/sql-reference/transactions#aborting-transactions
ABORT_IDLE_SECONDS = 300.0
# Stands for an answer that never arrives.
_DROPPED: Answer = {}


class DropAnswerError(Exception):
    """Raised by a hook after a statement: the statement may have taken effect, but its answer never arrives."""


@dataclass(frozen=True)
class StatementEvent:
    """What a hook is told.

    Attributes:
        phase: `before` the statement is executed or `after`.
        attempt: How often its answer has been asked for, from 1; the connector asks again with the same request id.
        statement: The statement; its `wait` waits until it is cancelled.
    """

    phase: str
    attempt: int
    statement: SimulatedStatement

    @property
    def sql(self) -> str:
        """The statement's text."""
        return self.statement.sql


Hook = Callable[[StatementEvent], None]


class SimulatedServer(EmbeddedServer):
    """The embedded Snowflake with what tests of guards and faults need.

    Args:
        directory: Where the database files are.
        databases: Databases that exist from the start.
        features: What it can do besides.
        hook: Called before and after each statement, outside of all locks. What it raises is the statement's answer.

    Attributes:
        abort_idle_seconds: How long a session may leave changes uncommitted without a statement while others wait to write.
        history: The statements that have ended, the newest last.
        measures_bytes: Whether the sessions to come measure what a statement scans. It costs a query for each scan.
    """

    def __init__(
        self,
        directory: Path,
        *,
        databases: Sequence[str] = ("RUN_ELT",),
        features: Sequence[Feature] = FEATURES,
        hook: Hook | None = None,
    ) -> None:
        history = Feature(table_functions={"QUERY_HISTORY": self._history})
        super().__init__(directory, databases=databases, features=(*features, history))
        self.hook = hook
        self.abort_idle_seconds = ABORT_IDLE_SECONDS
        self.history: deque[StatementRecord] = deque(maxlen=HISTORY_KEPT)
        self.measures_bytes = False
        self.logins = 0
        self._asked: Counter[str] = Counter()

    @property
    def open_sessions(self) -> int:
        """How many sessions have logged in and not been closed."""
        return len(self._sessions)

    def respond(self, path: str, query: Mapping[str, str], token: str, body: Mapping[str, Any]) -> Answer:
        answer = super().respond(path, query, token, body)
        if answer is _DROPPED:
            # The connection is closed without a word.
            raise ConnectionAbortedError
        return answer

    def _route(self, path: str, query: Mapping[str, str], token: str, body: Mapping[str, Any]) -> Answer:
        _, *parts = path.removeprefix("/monitoring").split("/")
        if parts[0] != "queries" or parts[1] == "v1" or parts[2:] == ["result"]:
            return super()._route(path, query, token, body)
        self._session(token)
        if parts[2:] == ["abort-request"]:
            self._cancel_all(lambda statement: statement.query_id == parts[1])
            return success(None)
        statement = self._statements.get(parts[1])
        return success({"queries": [] if statement is None else [_status_of(statement)]})

    def _opened(self, **arguments: Any) -> Session:
        with self._lock:
            self.logins += 1
        return SimulatedSession(**arguments, abort_idle=self._abort_idle, measures_bytes=self.measures_bytes)

    def _abort_idle(self) -> None:
        for session in list(self._sessions.values()):
            assert isinstance(session, SimulatedSession)
            session.abort_if_idle(self.abort_idle_seconds)

    def _connection(self, database: str | None, schema: str | None, parameters: Mapping[str, str]) -> EngineSession:
        autocommit = parameters.get("AUTOCOMMIT", "true") == "true"
        return SimulatedConnection(self.engine, database, schema, autocommit=autocommit)

    def _query(self, session: Session, request_id: str, body: Mapping[str, Any]) -> Answer:
        statement = self._begun(session, request_id, body)
        if body.get("asyncExec"):
            return in_progress(statement, IN_PROGRESS_ASYNC)
        return self._answer_of(statement)

    def _statement(self, session: Session, request_id: str, body: Mapping[str, Any]) -> Running:
        return SimulatedStatement(
            str(body["sqlText"]),
            session=session,
            request_id=request_id,
            parameters=parameters_of(body),
            describe_only=bool(body.get("describeOnly")),
        )

    def _answer_of(self, statement: Running) -> Answer:
        with self._lock:
            self._asked[statement.query_id] += 1
            attempt = self._asked[statement.query_id]
        answer = super()._answer_of(statement)
        if self.hook is None or answer is not statement.answer:
            return answer
        try:
            self._tell("after", statement, attempt)
        except DropAnswerError:
            return _DROPPED
        return answer

    def _tell(self, phase: str, statement: Running, attempt: int = 1) -> None:
        if self.hook is not None:
            assert isinstance(statement, SimulatedStatement)
            self.hook(StatementEvent(phase, attempt, statement))

    def _outcome(self, statement: Running, body: Mapping[str, Any]) -> Answer:
        assert isinstance(statement, SimulatedStatement)
        answer = super()._outcome(statement, body)
        self.history.append(
            StatementRecord(
                sql=statement.sql,
                query_tag=statement.parameter("QUERY_TAG", ""),
                session_id=statement.session.session_id,
                role=statement.session.role,
                query_id=statement.query_id,
                started_at=statement.started_at,
                seconds=statement.seconds,
                error_code=None if answer["success"] else int(answer["code"]),
                user=statement.session.user,
                warehouse=statement.session.warehouse,
                scanned=tuple(statement.scanned),
                bytes_scanned=statement.bytes_scanned,
            )
        )
        return answer

    def _history(self, session: EngineSession, call: exp.Anonymous) -> str:
        return history_sql(session, call, list(self.history))

    def _result(self, statement: Running, body: Mapping[str, Any]) -> Any:
        self._tell("before", statement)
        return super()._result(statement, body)

    def _cancel(self, order: CancelQueries) -> str:
        """Cancel statements: https://docs.snowflake.com/en/sql-reference/functions/system_cancel_query."""
        if not isinstance(order, CancelQuery):
            return super()._cancel(order)
        count = self._cancel_all(lambda statement: statement.query_id == order.query_id)
        return (
            f"query [{order.query_id}] terminated." if count else "Identified SQL statement is not currently executing."
        )


def _status_of(statement: Running) -> Mapping[str, str]:
    query_id, answer = statement.query_id, statement.answer
    if not statement.finished.is_set() or not answer:
        return {"id": query_id, "status": "RUNNING"}
    if answer["success"]:
        return {"id": query_id, "status": "SUCCESS"}
    return {
        "id": query_id,
        "status": "FAILED_WITH_ERROR",
        "errorCode": answer["code"],
        "errorMessage": answer["message"],
    }
