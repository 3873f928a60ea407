"""A session on an embedded Snowflake of its own, for commands that need statements no run has."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_elt_dagster.embedded import start
from run_elt_dagster.settings import EMBEDDED_DATABASE
from run_elt_dagster.snowflake.connecting import with_session_parameters
from run_elt_dagster.snowflake.session import NO_PARAMETERS, ConnectorSession, Parameters

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

# How long another process that uses the directory is waited for.
_WAIT_SECONDS = 600.0


def server_session(
    resources: ExitStack,
    directory: Path,
    database: str,
    *,
    features: Sequence[Any],
    sample_data: bool,
    log: Callable[[str], None],
) -> ConnectorSession:
    """Start a server with features, and return a session on it; both end with the resources.

    Args:
        resources: What keeps them open.
        directory: The directory of the embedded Snowflake. No other user of this process may have it open.
        database: The database of the session.
        features: What the server can do besides, of the kind `embedded.features.Feature`.
        sample_data: Whether it is filled at first use.
        log: Called with what takes time.

    Raises:
        NotInstalledError: A library is missing.
        TimeoutError: Another process used the directory all the time.
        ValueError: The database is an environment that there is none of.
    """
    import snowflake.connector  # noqa: PLC0415 - half a second, and a wrong file or option needs none

    endpoint = start(
        resources,
        directory.resolve(),
        existing_database(directory, database),
        sample_data=sample_data,
        wait_seconds=_WAIT_SECONDS,
        log=log,
        features=features,
    )

    def connect(*, parameters: Parameters = NO_PARAMETERS) -> "closing[SnowflakeConnection]":
        return closing(snowflake.connector.connect(**with_session_parameters(endpoint.connection_args(), parameters)))

    return resources.enter_context(ConnectorSession(resources.enter_context(connect()), connect))


def existing_database(directory: Path, database: str | None) -> str:
    """Return the database of a session on the embedded Snowflake. Its own is made at first use, an environment is not.

    Raises:
        ValueError: There is no such environment.
    """
    name = (database or EMBEDDED_DATABASE).upper()
    if name != EMBEDDED_DATABASE and not (directory / f"{name}.db").is_file():
        raise ValueError(
            f"SNOWFLAKE_DATABASE requires an environment of the embedded Snowflake, got {name}: {directory} has none of this name. Nothing "
            "was executed. Make it with run-elt env create, or unset SNOWFLAKE_DATABASE."
        )
    return name
