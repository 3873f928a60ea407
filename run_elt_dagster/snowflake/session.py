"""One Snowflake session that several threads share: a cursor for every statement, a tag on every query."""

import json
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

from run_elt_dagster.model.names import session_name
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.snowflake.answers import Answers, NoAnswerError
from run_elt_dagster.snowflake.errors import Sentence, sentences

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

# https://docs.snowflake.com/en/sql-reference/parameters#query-tag
QUERY_TAG_LIMIT = 2000

# What the connector reports itself: the network, time-outs and lost sessions. Snowflake's own numbers are elsewhere.
# https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api
CLIENT_ERRORS = range(250000, 300000)


# The session is gone, or its token: a new one goes on.
LOST_SESSION = frozenset({250002, 390111, 390112, 390114})
# A request that never got through, and Snowflake's own trouble: the same statement may work in a moment.
REQUEST_FAILED = 250003
HTTP_ERRORS = range(290000, 300000)
INTERNAL_ERROR = 603
# Five failed sign-ins lock the user: https://docs.snowflake.com/en/user-guide/admin-user-management
MOST_FAILED_SIGN_INS = 2
# What cancelling may take, a sign-in included: who interrupts a run waits for its end.
CANCEL_SECONDS = 8.0
# Session parameters by name in upper case: https://docs.snowflake.com/en/sql-reference/parameters
Parameters = Mapping[str, str | int | bool]
NO_PARAMETERS: Parameters = MappingProxyType({})


@dataclass(frozen=True)
class Answer:
    """What a statement gave.

    Attributes:
        rows: Tuples in the order of the columns.
        query_id: Snowflake's id of the query.
        seconds: From sending the statement to having its rows.
        columns: Names of the columns.
        types: Their types, as in `FIXED(38,0)`, `TEXT` or `TIMESTAMP_NTZ`.
    """

    rows: tuple[tuple[Any, ...], ...]
    query_id: str
    seconds: float
    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


class StatementError(Exception):
    """A statement that Snowflake refused or never answered.

    Attributes:
        problem: What is wrong, on the first line; without row values, without where it is.
        errno: Snowflake's error number, None if it gave none.
        query_id: Id of the failed query, None if it has none.
        answered: Whether Snowflake said so itself. Otherwise the statement may have taken effect.
        session: Number of the session that it was sent on, for `Session.renew`.
        line: Line of the statement, from 1; None if Snowflake names none.
        position: Position in that line, from 0; None if Snowflake names none.
        where: Where it is, in words or as `path:line:column`; empty if unknown.
        note: What was found out about it afterwards, empty if nothing.
        reason: Why, where Snowflake has no number for it.
    """

    def __init__(
        self,
        problem: str,
        *,
        errno: int | None,
        query_id: str | None,
        answered: bool,
        session: int = 0,
        line: int | None = None,
        position: int | None = None,
        where: str = "",
        note: str = "",
        reason: Reason | None = None,
    ) -> None:
        if not where and line is not None:
            where = f"line {line} at position {position} of the statement"
        super().__init__(f"{problem}{f' ({where})' if where else ''}{f' ({note})' if note else ''}")
        self.problem = problem
        self.errno = errno
        self.query_id = query_id
        self.answered = answered
        self.session = session
        self.line = line
        self.position = position
        self.where = where
        self.note = note
        self.reason = reason

    def with_changes(self, **changes: Any) -> "StatementError":
        """Return the same error with other attributes."""
        return StatementError(**{**vars(self), **changes})

    @property
    def lost_session(self) -> bool:
        """Whether only a new session can go on."""
        return self.errno in LOST_SESSION

    @property
    def transient(self) -> bool:
        """Whether the same statement may work in a moment; never for a cancelled one, a time-out, a budget or a sign-in."""
        errno = self.errno or 0
        return self.lost_session or errno in (REQUEST_FAILED, INTERNAL_ERROR) or errno in HTTP_ERRORS


class Connect(Protocol):
    """Opens a connection of the connector that its `with` closes."""

    def __call__(self, *, parameters: Parameters = NO_PARAMETERS) -> AbstractContextManager["SnowflakeConnection"]:
        """Open one whose session has these parameters from its sign-in on, besides those of the resource."""
        ...


class NoDatabaseError(ValueError):
    """A session has no current database: it does not exist, or the role may not use it."""


class Session(Protocol):
    """What building a table needs of Snowflake."""

    @property
    def database(self) -> str:
        """The stored name of the session's current database."""
        ...

    def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        """Run one statement; safe to call from several threads.

        Raises:
            StatementError: It failed.
        """
        ...

    def renew(self, number: int) -> None:
        """Sign in again in the place of the session with this number, unless another thread has done so already.

        Raises:
            StatementError: Signing in failed. It is not tried again: five failures lock the user.
        """
        ...

    def refresh(self) -> None:
        """Sign in again, so what is sent from now on sees what other sessions have published.

        Raises:
            StatementError: Signing in failed.
        """
        ...

    def on_warehouse(self, name: str) -> AbstractContextManager["Session"]:
        """Open a session on another warehouse; `cancel` ends its statements too.

        Raises:
            StatementError: Signing in failed.
        """
        ...

    def fresh(self, parameters: Parameters = NO_PARAMETERS) -> AbstractContextManager["Session"]:
        """Open a session that sees what every other one has committed; `cancel` ends its statements too.

        Args:
            parameters: What it signs in with.

        Raises:
            StatementError: Signing in failed.
        """
        ...

    def cancel(self) -> None:
        """End every statement that runs in the session; safe to call while other threads wait for one."""
        ...

    def give_up(self) -> None:
        """Let no caller wait for an answer any longer, and send nothing any more; what is under way may still take effect."""
        ...


class ConnectorSession:
    """A session of the Snowflake connector; `close` it, or use it in a `with`.

    Args:
        connection: An open connection. The caller closes it. The connector lets threads share it, each with its own
            cursor: https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api
        connect: Opens a second connection. A session that waits for a query cannot cancel it itself.
        connect_on: Returns what opens one on another warehouse.
        session_ids: The sessions of a run that this one belongs to; cancelling the run ends the statements of all.
    """

    def __init__(
        self,
        connection: "SnowflakeConnection",
        connect: Connect,
        connect_on: Callable[[str], Connect] | None = None,
        session_ids: list[int] | None = None,
    ) -> None:
        self._connection = connection
        self._connect = connect
        self._connect_on = connect_on
        # Sessions of this run that may have a running statement.
        self._session_ids: list[int] = [] if session_ids is None else session_ids
        self._session_ids.append(int(connection.session_id))
        self._answers = Answers.of(connection)
        self._number = 0
        # Connections with a request that Snowflake has left without an answer: nothing else is sent there.
        self._silent: set[int] = set()
        # Whether a statement's caller was interrupted while it waited.
        self._interrupted = False
        self._renewing = threading.Lock()
        self._sign_in_error: StatementError | None = None
        self._failed_sign_ins: list[StatementError] = []
        self._opened = ExitStack()
        self._canceller: SnowflakeConnection | None = None

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what the session has opened itself; a statement whose caller was interrupted is cancelled."""
        try:
            if self._interrupted:
                self.cancel()
        except BaseException as error:
            self.give_up()
            if not isinstance(error, Exception):
                raise
        finally:
            self._opened.close()

    @property
    def database(self) -> str:
        """The stored name of the session's current database.

        Raises:
            NoDatabaseError: The session has none.
        """
        if not self._connection.database:
            raise NoDatabaseError(
                "a session requires a current database, got none. Nothing was built. Check that SNOWFLAKE_DATABASE "
                "exists and that the role has USAGE on it.",
            )
        return session_name(self._connection.database)

    def execute(
        self, sql: str, *, tag: Mapping[str, str], parameters: Sequence[str] = (), most_rows: int | None = None
    ) -> Answer:
        """Run one statement on a cursor of its own; where Snowflake does not answer, not for ever.

        Args:
            sql: The statement.
            tag: What its query tag says.
            parameters: What stands for each `?` in it. Snowflake takes them apart from the text, if the connection was opened with
                `paramstyle="qmark"`: https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-example
            most_rows: How many rows are fetched, None for all; Snowflake computes all of them.

        Raises:
            StatementError: It failed.
        """
        if self._number in self._silent:
            self.renew(self._number)
        number = self._number
        try:
            return self._answers.ask(
                _words(tag), lambda: self._execute(sql, tag=tag, parameters=parameters, most_rows=most_rows)
            )
        except NoAnswerError as error:
            self._silent.add(number)
            raise StatementError(
                str(error),
                errno=None,
                query_id=error.query_id,
                answered=False,
                session=number,
                reason=Reason.NO_ANSWER,
            ) from error
        except Exception:
            raise
        except BaseException:
            self._interrupted = True
            raise

    def _execute(self, sql: str, *, tag: Mapping[str, str], parameters: Sequence[str], most_rows: int | None) -> Answer:
        from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import

        if self._sign_in_error is not None:
            # The session is lost, or has missed what another one has published: nothing may be built on it.
            raise self._sign_in_error
        number, connection = self._number, self._connection
        started, query_id = time.perf_counter(), None
        try:
            with connection.cursor() as cursor:
                try:
                    # None with an author's SQL: a ? or a % in it is the author's.
                    cursor.execute(sql, parameters or None, _statement_params={"QUERY_TAG": query_tag(tag)})
                    fetched = cursor.fetchall() if most_rows is None else cursor.fetchmany(most_rows)
                    rows = tuple(tuple(row) for row in fetched)
                finally:
                    query_id = cursor.sfqid
                described = cursor.description or ()
                columns, types = tuple(str(column.name) for column in described), tuple(map(_type_of, described))
                return Answer(rows, query_id or "", time.perf_counter() - started, columns, types)
        except Error as error:
            failure = _statement_error(error, query_id, session=number)
        # Raised here: as the context of this one, the connector's error would take the row that it quotes along.
        raise failure

    def renew(self, number: int) -> None:
        """Sign in again in the place of the session with this number, unless another thread has done so already.

        Raises:
            StatementError: Signing in failed. It is not tried again: five failures lock the user.
        """
        from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import

        with self._renewing:
            if self._sign_in_error is not None:
                raise self._sign_in_error
            if number != self._number:
                return
            try:
                self._connection = self._opened.enter_context(self._connect())
            except Error as error:
                self._sign_in_error = _sign_in_error(error)
            if self._sign_in_error is not None:
                raise self._sign_in_error
            self._session_ids.append(int(self._connection.session_id))
            self._number += 1

    def refresh(self) -> None:
        """Sign in again, so what is sent from now on sees what other sessions have published.

        By default an open session may see an older version for a moment:
        https://docs.snowflake.com/en/sql-reference/parameters#read-consistency-mode

        Raises:
            StatementError: Signing in failed.
        """
        self.renew(self._number)

    @contextmanager
    def on_warehouse(self, name: str) -> Generator["Session"]:
        """Open a session on another warehouse: all threads of one session share its warehouse.

        Raises:
            StatementError: Signing in failed.
        """
        if self._connect_on is None:
            raise ValueError(f"a session on warehouse {name} requires a way to open it, got none")
        with self._another(self._connect_on(name)) as session:
            yield session

    @contextmanager
    def fresh(self, parameters: Parameters = NO_PARAMETERS) -> Generator["Session"]:
        """Open a session that sees what every other one has committed.

        An open session may see an older version for a moment:
        https://docs.snowflake.com/en/sql-reference/parameters#read-consistency-mode

        Args:
            parameters: What it signs in with; a session that takes its place has them too.

        Raises:
            StatementError: Signing in failed, now or MOST_FAILED_SIGN_INS times before.
        """
        if len(self._failed_sign_ins) >= MOST_FAILED_SIGN_INS:
            raise self._failed_sign_ins[-1]
        with ExitStack() as opened:
            try:
                session = opened.enter_context(self._another(_with(self._connect, parameters)))
            except StatementError as error:
                self._failed_sign_ins.append(error)
                raise
            yield session

    @contextmanager
    def _another(self, connect: Connect) -> Generator["ConnectorSession"]:
        from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import

        with ExitStack() as opened:
            try:
                connection = opened.enter_context(connect())
            except Error as error:
                raise _sign_in_error(error) from None
            yield opened.enter_context(ConnectorSession(connection, connect, session_ids=self._session_ids))

    def cancel(self) -> None:
        """End every statement of the run's sessions from another one. That stays open: it may be asked again.

        https://docs.snowflake.com/en/sql-reference/functions/system_cancel_all_queries
        """
        self._answers.ask("cancelling", self._cancel, limit_seconds=CANCEL_SECONDS)

    def give_up(self) -> None:
        """Let no caller wait for an answer any longer, and send nothing any more; what is under way may still take effect."""
        self._answers.give_up()

    def _cancel(self) -> None:
        if self._canceller is None:
            self._canceller = self._opened.enter_context(self._connect())
        with self._canceller.cursor() as cursor:
            for number in list(self._session_ids):
                cursor.execute(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({number})")


def _with(connect: Connect, own: Parameters) -> Connect:
    """Return what opens a connection with some parameters, besides those that it is asked for."""

    def connect_with(*, parameters: Parameters = NO_PARAMETERS) -> AbstractContextManager["SnowflakeConnection"]:
        return connect(parameters={**own, **parameters})

    return connect_with


def _type_of(column: Any) -> str:
    """Return the type of a result's column.

    https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api#type-codes
    """
    from snowflake.connector.constants import FIELD_ID_TO_NAME  # noqa: PLC0415 - imported with the connector

    name = FIELD_ID_TO_NAME[column.type_code]
    return f"{name}({column.precision},{column.scale})" if name == "FIXED" else name


def _sign_in_error(error: Any) -> StatementError:
    problem = f"signing in again failed: {told(error)}"
    return StatementError(problem, errno=None, query_id=None, answered=False, reason=Reason.PASSING_TROUBLE)


def told(error: Any) -> str:
    """Return what an error of the connector says, the cause first, without row values."""
    return "\n".join(sentence.told for sentence in _sentences_of(error)) or type(error).__name__


def _sentences_of(error: Any) -> tuple[Sentence, ...]:
    return sentences(str(error.raw_msg or error.msg or error), error.errno)


def _statement_error(error: Any, query_id: str | None, *, session: int) -> StatementError:
    errno: int = error.errno
    first = next(iter(_sentences_of(error)), Sentence(""))
    return StatementError(
        told(error),
        errno=errno,
        query_id=error.sfqid or query_id,
        answered=errno > 0 and errno not in CLIENT_ERRORS and errno not in LOST_SESSION and errno != INTERNAL_ERROR,
        session=session,
        line=first.line,
        position=first.position,
    )


def query_tag(tag: Mapping[str, str]) -> str:
    """Return a tag as JSON; a long value is cut, since Snowflake refuses what is over its limit."""
    text = json.dumps(tag, ensure_ascii=False)
    if len(text) <= QUERY_TAG_LIMIT:
        return text
    longest = max(tag, key=lambda name: len(tag[name]))
    excess = len(text) - QUERY_TAG_LIMIT
    return query_tag({**tag, longest: tag[longest][: -excess - 1]})


def _words(tag: Mapping[str, str]) -> str:
    """Return what a statement is for, as the log says it."""
    stage, asset = tag.get("stage", "a statement"), tag.get("asset", "").replace("/", ".")
    return f"{stage} of {asset}" if asset else stage
