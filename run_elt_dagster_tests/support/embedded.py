"""An embedded Snowflake or a simulated account without Dagster around it, and sessions of the real connector on it."""

import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import DatabaseError

from run_elt_dagster.embedded import Endpoint
from run_elt_dagster.embedded.server import HOST, USER, EmbeddedServer
from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster.snowflake.connecting import with_session_parameters
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.session import NO_PARAMETERS, Connect, Parameters
from run_elt_dagster_tests.simulator import Hook, SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

Server = TypeVar("Server", bound=EmbeddedServer)
_numbers = itertools.count(1)


class Session:
    """A connection of the connector, with little to type."""

    def __init__(self, connection: SnowflakeConnection) -> None:
        self.connection = connection

    @property
    def id(self) -> int:
        return int(self.connection.session_id)

    def sql(self, statement: str, params: Any = None, **options: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(statement, params, **options).fetchall()]

    def value(self, query: str) -> Any:
        ((value,),) = self.sql(query)
        return value

    def columns(self, query: str) -> list[str]:
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            return [column.name for column in cursor.description]

    def error(self, statement: str, **options: Any) -> DatabaseError:
        with pytest.raises(DatabaseError) as failure:
            self.sql(statement, **options)
        return failure.value

    def refused(self, statement: str) -> int:
        return self.error(statement).errno


@dataclass
class Account:
    """A running server and the sessions that a test has opened on it."""

    server: SimulatedServer
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def arguments(self) -> dict[str, Any]:
        server = self.server
        endpoint = Endpoint(HOST, server.port, "http", "embedded", USER, server.password, "RUN_ELT")
        return {**endpoint.connection_args(), "paramstyle": "qmark"}

    def session(self, **arguments: Any) -> Session:
        connection = snowflake.connector.connect(**{**self.arguments, **arguments})
        return Session(self.resources.enter_context(closing(connection)))

    @contextmanager
    def hooked(self, hook: Hook) -> Generator[None]:
        before, self.server.hook = self.server.hook, hook
        try:
            yield
        finally:
            self.server.hook = before


@contextmanager
def running_server(directory: Path, kind: type[Server] = SimulatedServer) -> Generator[Server]:
    server = kind(directory)
    set_up_database(server.engine, "RUN_ELT", sample_data=False, log=print)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def simulated_account(server: EmbeddedServer) -> Snowflake:
    """Return the resource that signs in to a server as to an account."""
    return Snowflake(
        account="embedded",
        user=USER,
        password=server.password,
        role="SYSADMIN",
        warehouse="EMBEDDED",
        database="RUN_ELT",
        host=HOST,
        port=server.port,
        protocol="http",
    )


def account_variables(server: EmbeddedServer) -> dict[str, str]:
    """Return the environment variables with which other processes sign in to a server as to an account."""
    return {
        "SNOWFLAKE_ACCOUNT": "embedded",
        "SNOWFLAKE_USER": USER,
        "SNOWFLAKE_ROLE": "SYSADMIN",
        "SNOWFLAKE_WAREHOUSE": "EMBEDDED",
        "SNOWFLAKE_DATABASE": "RUN_ELT",
        "SNOWFLAKE_PASSWORD": server.password,
        "SNOWFLAKE_HOST": HOST,
        "SNOWFLAKE_PORT": str(server.port),
        "SNOWFLAKE_PROTOCOL": "http",
    }


@pytest.fixture(scope="module")
def shipped_server(tmp_path_factory: pytest.TempPathFactory) -> Iterable[EmbeddedServer]:
    """The server of the package; a module of tests imports it as `server`."""
    with running_server(tmp_path_factory.mktemp("embedded"), EmbeddedServer) as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterable[SimulatedServer]:
    with running_server(tmp_path_factory.mktemp("embedded")) as started:
        yield started


@pytest.fixture
def account(server: SimulatedServer) -> Iterable[Account]:
    account = Account(server)
    with account.resources:
        yield account


@pytest.fixture
def session(account: Account) -> Session:
    """A session in an empty schema of its own."""
    opened = account.session()
    opened.sql(f"create schema s{next(_numbers)}")
    return opened


def connecting(arguments: Mapping[str, Any]) -> Connect:
    """Return what opens connections with some arguments, as a session of a run asks for them."""

    def connect(*, parameters: Parameters = NO_PARAMETERS) -> Any:
        return closing(snowflake.connector.connect(**with_session_parameters(arguments, parameters)))

    return connect


class Background:
    """A call in another thread, whose outcome can be waited for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._call()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout_seconds: float = PATIENCE_SECONDS) -> Any:
        self._thread.join(timeout_seconds)
        assert self.done, f"still running after {timeout_seconds} s"
        if self._error is not None:
            raise self._error
        return self._outcome


class Gate:
    """A hook that holds statements with a certain text before they are executed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, event: StatementEvent) -> None:
        if event.phase == "before" and self._text in event.sql:
            self.reached.set()
            while not self.opened.is_set():
                event.statement.wait(0.01)
