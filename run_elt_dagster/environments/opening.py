"""A session that can copy and drop databases."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from run_elt_dagster.embedded import require_installed
from run_elt_dagster.settings import EMBEDDED_DATABASE
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.server_session import server_session
from run_elt_dagster.snowflake.session import Session


@contextmanager
def databases_session(snowflake: Snowflake, *, log: Callable[[str], None]) -> Generator[Session]:
    """Open a session of an account, or of the embedded Snowflake with the statements of `environments.copying`.

    The embedded Snowflake is one of its own: where another process uses the directory, it is waited for.

    Args:
        snowflake: The resource, its secrets resolved.
        log: Called with what is waited for.

    Raises:
        snowflake.connector.errors.Error: Signing in failed.
        NotInstalledError: A library of the embedded Snowflake is missing.
        TimeoutError: Another process used the directory all the time.
    """
    if not snowflake.is_embedded:
        with snowflake.session(log=log) as session:
            yield session
        return
    require_installed()
    from run_elt_dagster.environments.copying import DATABASES  # noqa: PLC0415 - it needs what only an extra installs

    with ExitStack() as resources:
        yield server_session(
            resources,
            Path(snowflake.embedded_dir),
            EMBEDDED_DATABASE,
            features=[DATABASES],
            sample_data=snowflake.sample_data,
            log=log,
        )
