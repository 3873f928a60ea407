"""A local stand-in for Snowflake, for trying and testing: DuckDB behind the protocol of the Snowflake connector.

    with embedded_snowflake(Path(".run_elt"), log=print) as endpoint:
        connection = snowflake.connector.connect(**endpoint.connection_args())

fakesnow (https://github.com/tekumara/fakesnow) translates Snowflake's SQL; what it lacks is added in the modules of this
package. What cannot be done fails loudly. Known differences from an account:

- Privileges, masking and row access policies are not enforced; there is no Time Travel, no stream, no stage, no task.
- Names that differ by case alone cannot exist side by side, not even quoted.
- Integers have 64 bits; averages and quotients are floating point numbers.
- One statement at a time writes; a session runs one statement at a time.
- A failed statement inside BEGIN ... COMMIT ends the transaction.

Importing this module is cheap: DuckDB and fakesnow are only imported when a server starts.
"""

import os
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """Where an embedded Snowflake answers, and how to log in.

    Attributes:
        host: Always the loopback address.
        port: A free port that the operating system chose.
        protocol: Plain `http`.
        account: The account's name.
        user: Who logs in.
        password: Made up for this server; nobody else on the machine knows it.
        database: The database that sessions start in.
    """

    host: str
    port: int
    protocol: str
    account: str
    user: str
    password: str
    database: str

    def connection_args(self) -> dict[str, Any]:
        """Return the arguments for `snowflake.connector.connect`.

        They keep the connector on this machine: no proxy, no telemetry, no look-up of the cloud it runs on. There is no
        network timeout, since it would end long queries too.
        """
        return {
            "account": self.account,
            "user": self.user,
            "password": self.password,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
            "database": self.database,
            "no_proxy": self.host,
            "login_timeout": 30,
            "platform_detection_timeout_seconds": 0.0,
            "session_parameters": {"CLIENT_TELEMETRY_ENABLED": False},
        }


@dataclass
class _Shared:
    """A server that several users in this process share."""

    endpoint: Endpoint
    resources: ExitStack
    users: int = 0


_shared: dict[tuple[int, Path], _Shared] = {}
_lock = threading.Lock()


@contextmanager
def embedded_snowflake(
    directory: Path,
    *,
    database: str = "RUN_ELT",
    sample_data: bool = True,
    wait_seconds: float = 600.0,
    log: Callable[[str], None],
) -> Generator[Endpoint]:
    """Run an embedded Snowflake while the context lasts; inside one process the same directory shares one server.

    Args:
        directory: Where everything is kept, one DuckDB file for each Snowflake database; created if missing.
        database: The database that sessions start in, a plain identifier. It has the schemas RAW_DATA and ANALYTICS.
        sample_data: Whether to fill RAW_DATA at first use.
        wait_seconds: How long to wait for another process that uses the directory.
        log: Told what takes time: waiting, and loading the sample data.

    Yields:
        Where it answers.

    Raises:
        TimeoutError: Another process used the directory all the time.
        ValueError: The database's name is no plain identifier.
    """
    # A forked child has the parent's memory but not its threads.
    key = (os.getpid(), directory.resolve())
    with _lock:
        if key not in _shared:
            _shared[key] = _start(
                directory.resolve(),
                database=database.upper(),
                sample_data=sample_data,
                wait_seconds=wait_seconds,
                log=log,
            )
        shared = _shared[key]
        shared.users += 1
    try:
        yield shared.endpoint
    finally:
        with _lock:
            shared.users -= 1
            if not shared.users:
                del _shared[key]
                shared.resources.close()


def _start(
    directory: Path,
    *,
    database: str,
    sample_data: bool,
    wait_seconds: float,
    log: Callable[[str], None],
) -> _Shared:
    from run_elt_dagster.embedded.lock import directory_lock  # noqa: PLC0415 - cheap import of the package
    from run_elt_dagster.embedded.server import HOST, USER, EmbeddedServer  # noqa: PLC0415
    from run_elt_dagster.embedded.set_up import set_up_database  # noqa: PLC0415

    if not database.isidentifier() or not database.isascii():
        raise ValueError(
            f"The embedded Snowflake's database requires a plain identifier as its name, got {database!r}. Nothing was "
            "started. Use letters, digits and underscores."
        )
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(directory_lock(directory, wait_seconds=wait_seconds, log=log))
        server = EmbeddedServer(directory, databases=[database])
        stack.callback(server.stop)
        set_up_database(server.engine, database, sample_data=sample_data, log=log)
        server.start()
        endpoint = Endpoint(HOST, server.port, "http", "embedded", USER, server.password, database)
        return _Shared(endpoint, stack.pop_all())
