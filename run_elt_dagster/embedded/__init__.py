"""A local stand-in for Snowflake, for trying and testing: DuckDB behind the protocol of the Snowflake connector.

    with embedded_snowflake(Path(".run_elt"), log=print) as endpoint:
        connection = snowflake.connector.connect(**endpoint.connection_args())

`translation` turns Snowflake's queries into DuckDB's: what is known to be exact, and nothing else. fakesnow
(https://github.com/tekumara/fakesnow) answers SHOW and DESCRIBE, and creates schemas and databases. The other modules add the protocol
and what hangs on a table. What cannot be done fails loudly; docs/embedded.md lists what is known. Known differences from an account:

- It has no grants, roles, policies, streams, tags, stages and tasks, no other kinds of tables, and no session parameters and
  variables: their statements are refused. SHOW GRANTS lists the owner alone; nothing else hangs on a table.
- A session parameter that would change a value is refused at the login and in a statement, unless it says what holds here.
- SHOW lists tables, columns of a table, streams and grants, and nothing else. DESCRIBE is for tables and views. A clause that would have
  no effect is refused, such as a masking policy of a column or CLONE of a schema. MERGE deletes no row for several of its source.
- Every statement is a transaction of its own: BEGIN is refused.
- Time Travel: UNDROP TABLE knows the last three versions of a name for a day, fifty tables in all, and none of a dropped
  schema. AT and BEFORE are refused.
- Names that differ by case alone cannot exist side by side, not even quoted.
- Instants have microseconds: a seventh digit that is not 0 is refused. The session's time zone is UTC.
- NUMBER has 38 digits, quotients and averages Snowflake's scale; their precision is 38 where an account lists fewer digits.
- A TIMESTAMP_TZ keeps its offset. It is refused where several rows become one, as in GROUP BY.
- The length of a VARCHAR(n) column is enforced and listed where CREATE TABLE declares it, not where only a query gives it.
- One statement at a time writes; a session runs one statement at a time.

Importing this module is cheap: DuckDB and fakesnow are only imported when a server starts.
"""

import importlib.util
import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What the extra `embedded` of this package installs, and how it is asked for: no registry has the package.
INSTALL = "pip install -c constraints.txt -e '.[embedded]' in the project's folder"
LIBRARIES = ("fakesnow", "duckdb", "filelock", "pyarrow")


class NotInstalledError(ImportError):
    """The libraries of the embedded Snowflake are not all there: this package was installed without them.

    Attributes:
        missing: Which.
    """

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__(
            f"The embedded Snowflake requires {', '.join(LIBRARIES)}, got no {', no '.join(missing)}. Nothing was executed. "
            f"Run {INSTALL}, or set the SNOWFLAKE_ variables of an account."
        )


def require_installed() -> None:
    """Look whether the libraries of the embedded Snowflake are there, without importing them.

    Raises:
        NotInstalledError: One is not.
    """
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise NotInstalledError(missing)


@dataclass(frozen=True)
class Endpoint:
    """Where an embedded Snowflake answers, and how to log in.

    Attributes:
        host: Always the loopback address.
        port: A free port that the operating system chose.
        protocol: Plain `http`.
        account: The account's name.
        user: Who logs in.
        password: Made up for this server, and known to no other process.
        database: The database that sessions start in.
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
        return {
            "account": self.account,
            "user": self.user,
            "password": self.password,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
            "database": self.database,
            "login_timeout": 30,
            "platform_detection_timeout_seconds": 0.0,
            "session_parameters": {"CLIENT_TELEMETRY_ENABLED": False},
        }


@dataclass
class _Shared:
    """What the users of one directory in this process share.

    Attributes:
        users: How many there are, guarded by `_lock`.
        changing: Held while the server starts or stops.
        endpoint: Where the server answers; None while there is none.
        resources: What has to be given back when the last user leaves.
    """

    users: int = 0
    changing: threading.Lock = field(default_factory=threading.Lock)
    endpoint: Endpoint | None = None
    resources: ExitStack = field(default_factory=ExitStack)

    def stop(self) -> None:
        self.endpoint = None
        self.resources.close()


_shared: dict[tuple[int, Path], _Shared] = {}
_lock = threading.Lock()


def _joined(key: tuple[int, Path]) -> _Shared:
    with _lock:
        shared = _shared.setdefault(key, _Shared())
        shared.users += 1
        return shared


def _leave(shared: _Shared) -> None:
    """Stop the server with its last user; whoever joins in between starts another one."""
    with shared.changing:
        with _lock:
            shared.users -= 1
            is_last = not shared.users
        if is_last:
            shared.stop()


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
        sample_data: Whether to fill RAW_DATA at first use; whoever starts the server decides.
        wait_seconds: How long to wait for another process that uses the directory.
        log: Called with what takes time: waiting, and loading the sample data.

    Yields:
        Where it answers.

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
    shared = _joined((os.getpid(), place))
    try:
        with shared.changing:
            if shared.endpoint is None:
                with ExitStack() as resources:
                    shared.endpoint = _start(
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


def _start(
    resources: ExitStack,
    directory: Path,
    database: str,
    *,
    sample_data: bool,
    wait_seconds: float,
    log: Callable[[str], None],
) -> Endpoint:
    try:
        from run_elt_dagster.embedded.disk import opening  # noqa: PLC0415 - cheap import of the package
        from run_elt_dagster.embedded.lock import directory_lock  # noqa: PLC0415
        from run_elt_dagster.embedded.proxy import without_proxy_for  # noqa: PLC0415
        from run_elt_dagster.embedded.server import HOST, USER, EmbeddedServer  # noqa: PLC0415
        from run_elt_dagster.embedded.set_up import set_up_database  # noqa: PLC0415
    except ImportError as error:
        # A library is there, and one that it needs is not; or it is another version.
        raise NotInstalledError([error.name or str(error)]) from error

    with opening(directory):
        directory.mkdir(parents=True, exist_ok=True)
        resources.enter_context(directory_lock(directory, wait_seconds=wait_seconds, log=log))
        server = EmbeddedServer(directory, databases=[database])
        resources.callback(server.stop)
        resources.enter_context(without_proxy_for(HOST))
        set_up_database(server.engine, database, sample_data=sample_data, log=log)
    server.start()
    return Endpoint(HOST, server.port, "http", "embedded", USER, server.password, database)
