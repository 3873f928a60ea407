"""One Snowflake session that several threads share: a cursor for every statement, a tag on every query."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

# https://docs.snowflake.com/en/sql-reference/parameters#query-tag
QUERY_TAG_LIMIT = 2000

# What the connector reports itself: the network, time-outs and lost sessions. Snowflake's own numbers are elsewhere.
# https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api
CLIENT_ERRORS = range(250000, 300000)


@dataclass(frozen=True)
class Answer:
    """What a statement gave.

    Attributes:
        rows: Tuples in the order of the columns.
        query_id: Snowflake's id of the query.
        seconds: From sending the statement to having its rows.
    """

    rows: tuple[tuple[Any, ...], ...]
    query_id: str
    seconds: float


class StatementError(Exception):
    """A statement that Snowflake refused, or whose answer never came.

    Attributes:
        errno: Snowflake's error number, None if it gave none.
        query_id: Id of the failed query, None if it has none.
        answered: Whether Snowflake said so itself. Otherwise the statement may have taken effect.
    """

    def __init__(self, message: str, *, errno: int | None, query_id: str | None, answered: bool) -> None:
        super().__init__(message)
        self.errno = errno
        self.query_id = query_id
        self.answered = answered


class Session(Protocol):
    """What building a table needs of Snowflake."""

    @property
    def database(self) -> str:
        """The session's current database."""
        ...

    def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        """Run one statement; safe to call from several threads.

        Raises:
            StatementError: It failed.
        """
        ...

    def cancel(self) -> None:
        """End every statement that runs in the session; safe to call while other threads wait for one."""
        ...


class ConnectorSession:
    """A session of the Snowflake connector.

    Args:
        connection: An open connection, which the caller closes. The connector lets threads share it, each with its own
            cursor: https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api
        connect: Opens a second connection. A session that waits for a query cannot cancel it itself.
    """

    def __init__(
        self,
        connection: "SnowflakeConnection",
        connect: Callable[[], AbstractContextManager["SnowflakeConnection"]],
    ) -> None:
        self._connection = connection
        self._connect = connect

    @property
    def database(self) -> str:
        """The session's current database.

        Raises:
            ValueError: The session has none.
        """
        if not self._connection.database:
            raise ValueError(
                "a session requires a current database, got none. Nothing was built. Check that SNOWFLAKE_DATABASE "
                "exists and that the role has USAGE on it.",
            )
        return self._connection.database

    def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        """Run one statement on a cursor of its own.

        Raises:
            StatementError: It failed.
        """
        from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import

        started = time.perf_counter()
        with self._connection.cursor() as cursor:
            try:
                # No bind parameters: with them, a % in the author's LIKE would be read as one.
                cursor.execute(sql, _statement_params={"QUERY_TAG": query_tag(tag)})
                rows = tuple(tuple(row) for row in cursor.fetchall())
            except Error as error:
                answered = error.errno > 0 and error.errno not in CLIENT_ERRORS
                message = str(error.raw_msg or error.msg or error)
                raise StatementError(
                    message, errno=error.errno, query_id=error.sfqid or cursor.sfqid, answered=answered
                ) from error
            return Answer(rows=rows, query_id=cursor.sfqid or "", seconds=time.perf_counter() - started)

    def cancel(self) -> None:
        """End every statement of the session from a second one.

        https://docs.snowflake.com/en/sql-reference/functions/system_cancel_all_queries
        """
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({int(self._connection.session_id)})")


def query_tag(tag: Mapping[str, str]) -> str:
    """Return a tag as JSON; a long value is cut, since Snowflake refuses what is over its limit."""
    text = json.dumps(tag, ensure_ascii=False)
    if len(text) <= QUERY_TAG_LIMIT:
        return text
    longest = max(tag, key=lambda name: len(tag[name]))
    excess = len(text) - QUERY_TAG_LIMIT
    return query_tag({**tag, longest: tag[longest][: -excess - 1]})
