"""Open and close connections of the Snowflake connector in bounded time."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from run_elt_dagster.snowflake.answers import Answers, NoAnswerError
from run_elt_dagster.snowflake.session import Parameters

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

# What Snowflake's history of sessions calls the client.
APPLICATION = "run_elt_dagster"
# How long a sign-in is tried; it does not limit queries, as network_timeout would.
LOGIN_TIMEOUT_SECONDS = 60
# The connector looks at its own limit only between two tries; one that stays without an answer takes up to 60 s.
SIGN_IN_SECONDS = 2 * LOGIN_TIMEOUT_SECONDS
# The first major release with another driver: docs/decisions/0025-connector-of-release-4.md
_ANOTHER_DRIVER = 5


class ConnectorReleaseError(ImportError):
    """The installed connector has another driver, whose waits nothing here can bound."""

    def __init__(self, version: str) -> None:
        super().__init__(
            f"The connection requires snowflake-connector-python before {_ANOTHER_DRIVER}, got {version}. Nothing was executed. Run "
            f"pip install 'snowflake-connector-python<{_ANOTHER_DRIVER}'."
        )


def require_known_release(version: str) -> None:
    """Raise ConnectorReleaseError for a version of the connector that nothing here was tried with."""
    if int(version.partition(".")[0]) >= _ANOTHER_DRIVER:
        raise ConnectorReleaseError(version)


def open_connection(arguments: Mapping[str, Any], answers: Answers) -> "SnowflakeConnection":
    """Sign in.

    Args:
        arguments: Those of the connector; None where the connector decides.
        answers: Decide how long it waits for an answer, here and in all that is asked of the connection.

    Raises:
        snowflake.connector.errors.Error: It failed, or Snowflake did not answer.
        ConnectorReleaseError: The connector is of a release with another driver.
    """
    import snowflake.connector  # noqa: PLC0415 - half a second to import, and only needed for a session

    require_known_release(snowflake.connector.__version__)
    from snowflake.connector.errorcode import ER_FAILED_TO_CONNECT_TO_DB  # noqa: PLC0415

    given = {name: value for name, value in arguments.items() if value is not None}

    def connect() -> "SnowflakeConnection":
        connection = snowflake.connector.connect(**given, application=APPLICATION, backoff_policy=answers.pauses)
        answers.adopt(connection)
        _note_query_ids(connection, answers)
        return connection

    limit = min(answers.limit_seconds, SIGN_IN_SECONDS)
    try:
        return answers.ask("signing in", connect, limit_seconds=limit, discard=lambda late: late.close(retry=False))
    except NoAnswerError as error:
        raise snowflake.connector.errors.OperationalError(msg=str(error), errno=ER_FAILED_TO_CONNECT_TO_DB) from error


def with_session_parameters(arguments: Mapping[str, Any], parameters: Parameters) -> dict[str, Any]:
    """Return the connector's arguments with session parameters that stand whatever the arguments set.

    https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-connect#setting-session-parameters

    Args:
        arguments: Those of the connector. Their own session parameters have names in either case.
        parameters: By name in upper case.
    """
    given = arguments.get("session_parameters") or {}
    others = {name: value for name, value in given.items() if name.upper() not in parameters}
    return {**arguments, "session_parameters": {**others, **parameters}}


def close_connection(connection: "SnowflakeConnection", answers: Answers) -> None:
    """Close a connection; one that is left open would keep the process alive."""
    answers.close(connection.close)


def _note_query_ids(connection: "SnowflakeConnection", answers: Answers) -> None:
    """Note the id of a query that Snowflake says to be running: the connector names it only when it has ended.

    As of connector 4.8 there is no other way to learn it.
    """
    rest: Any = connection.rest
    fetch = rest.fetch

    def noting(*args: Any, **kwargs: Any) -> Any:
        answer = fetch(*args, **kwargs)
        answers.note_query_id(answer)
        return answer

    rest.fetch = noting
