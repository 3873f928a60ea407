"""A local stand-in for Snowflake, for trying and testing: DuckDB behind the protocol of the Snowflake connector.

    with embedded_snowflake(Path(".run_elt"), log=print) as endpoint:
        connection = snowflake.connector.connect(**endpoint.connection_args())

`dialect` turns Snowflake's queries into DuckDB's: what is known to be exact, and nothing else. fakesnow
(https://github.com/tekumara/fakesnow) answers SHOW and DESCRIBE, and creates schemas and databases. The other modules add the protocol
and what hangs on a table. What cannot be done fails loudly; docs/embedded.md lists what is known, and what differs from an account.
Importing this module is cheap: DuckDB and fakesnow are only imported when a server starts.
"""

import importlib.util
import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What the extra `embedded` of this package installs, and how it is asked for: no registry has the package.
INSTALL = "pip install -c constraints.txt -e '.[embedded]' in the project's folder"
LIBRARIES = ("fakesnow", "duckdb", "filelock", "pyarrow")


class NotInstalledError(ImportError):
    """The libraries of the embedded Snowflake are not all there: this package was installed without some, the `missing` ones."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__(
            f"The embedded Snowflake requires {', '.join(LIBRARIES)}, got no {', no '.join(missing)}. Nothing was executed. "
            f"Run {INSTALL}, or set the SNOWFLAKE_ variables of an account."
        )


def require_installed() -> None:
    """Raise NotInstalledError if a library is missing. None is imported."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise NotInstalledError(missing)


@dataclass(frozen=True)
class Endpoint:
    """Where an embedded Snowflake answers, and how to log in.

    The host is the loopback address, the port one that was free, the protocol plain `http`. The password was made up for this
    server, and no other process knows it. Sessions start in the database.
    """

    host: str
    port: int
    protocol: str
    account: str
    user: str
    password: str = field(repr=False)
    database: str

    def connection_args(self) -> dict[str, Any]:
        """Return the arguments for `snowflake.connector.connect`.

        They keep the connector on this machine: no telemetry, no look-up of the cloud it runs on. There is no network
        timeout, since it would end long queries too.
        """
        offline = {"platform_detection_timeout_seconds": 0.0, "session_parameters": {"CLIENT_TELEMETRY_ENABLED": False}}
        # Else a sign-in lists all modules of the process for that telemetry.
        return {**asdict(self), "login_timeout": 30, "log_imported_packages_in_telemetry": False, **offline}


@dataclass
class _Shared:
    """What the users of one directory in this process share."""

    # Guarded by `_lock`.
    users: int = 0
    # Held while the server starts or stops.
    changing: threading.Lock = field(default_factory=threading.Lock)
    endpoint: Endpoint | None = None
    resources: ExitStack = field(default_factory=ExitStack)


_shared: dict[tuple[int, Path], _Shared] = {}
_lock = threading.Lock()


def _leave(shared: _Shared) -> None:
    """Stop the server with its last user; whoever joins in between starts another one."""
    with shared.changing:
        with _lock:
            shared.users -= 1
            is_last = not shared.users
        if is_last:
            shared.endpoint = None
            shared.resources.close()


@contextmanager
def embedded_snowflake(
    directory: Path,
    *,
    database: str = "RUN_ELT",
    sample_data: bool = True,
    wait_seconds: float = 600.0,
    log: Callable[[str], None],
) -> Generator[Endpoint]:
    """Run an embedded Snowflake while the context lasts, and yield where it answers; a process has one server for a directory.

    Args:
        directory: Where everything is kept, one DuckDB file for each Snowflake database; created if missing.
        database: The database that sessions start in, a plain identifier. It has the schemas RAW_DATA and ANALYTICS.
        sample_data: Whether to fill RAW_DATA at first use; whoever starts the server decides.
        wait_seconds: How long to wait for another process that uses the directory.
        log: Called with what takes time: waiting, and loading the sample data.

    Raises:
        DiskError: The directory or a file in it cannot be used.
        NotInstalledError: A library is missing.
        TimeoutError: Another process used the directory all the time.
        ValueError: The database's name is no plain identifier, or another user in this process has another database.
    """
    if not database.isidentifier() or not database.isascii():
        raise ValueError(
            f"The embedded Snowflake's database requires a plain identifier as its name, got {database!r}. Nothing was "
            "started. Use letters, digits and underscores."
        )
    require_installed()
    place = directory.resolve()
    # A forked child has the parent's memory but not its threads.
    with _lock:
        shared = _shared.setdefault((os.getpid(), place), _Shared())
        shared.users += 1
    try:
        with shared.changing:
            if shared.endpoint is None:
                with ExitStack() as resources:
                    shared.endpoint = start(
                        resources, place, database.upper(), sample_data=sample_data, wait_seconds=wait_seconds, log=log
                    )
                    shared.resources = resources.pop_all()
            endpoint = shared.endpoint
        if endpoint.database != database.upper():
            raise ValueError(
                f"The embedded Snowflake in {place} requires one database for all its users in a process, got {database!r} "
                f"beside {endpoint.database!r}. The other users are not disturbed. Use another directory."
            )
        yield endpoint
    finally:
        _leave(shared)


def start(
    resources: ExitStack,
    directory: Path,
    database: str,
    *,
    sample_data: bool,
    wait_seconds: float,
    log: Callable[[str], None],
    features: Sequence[Any] = (),
) -> Endpoint:
    """Start a server of one user, with features; otherwise as `embedded_snowflake`. The directory is absolute."""
    try:
        from run_elt_dagster.embedded import disk, lock, proxy, server, set_up  # noqa: PLC0415 - the package imports cheaply
    except ImportError as error:
        # A library is there, and one that it needs is not; or it is another version.
        name = error.name or str(error)
        of = " (snowflake-connector-python before 5 has it)" if name.startswith("snowflake.connector") else ""
        raise NotInstalledError([name + of]) from error

    with disk.opening(directory):
        directory.mkdir(parents=True, exist_ok=True)
        resources.enter_context(lock.directory_lock(directory, wait_seconds=wait_seconds, log=log))
        started = server.EmbeddedServer(directory, databases=[database], features=features)
        resources.callback(started.stop)
        resources.enter_context(proxy.without_proxy_for(server.HOST))
        set_up.set_up_database(started.engine, database, sample_data=sample_data, log=log)
    started.start()
    return Endpoint(server.HOST, started.port, "http", "embedded", server.USER, started.password, database)
