"""The Snowflake resource: an account through dagster-snowflake, or the embedded Snowflake behind the same interface."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from run_elt_dagster.embedded import embedded_snowflake
from run_elt_dagster.resources.environment import resolved
from run_elt_dagster.session import ConnectorSession
from run_elt_dagster.settings import Settings, SnowflakeSettings

if TYPE_CHECKING:
    from dagster_snowflake import SnowflakeResource
    from snowflake.connector import SnowflakeConnection

# How long a sign-in may take; it does not limit queries, as network_timeout would.
LOGIN_TIMEOUT_SECONDS = 60
# How long a run waits for another process that uses the embedded Snowflake.
EMBEDDED_WAIT_SECONDS = 600.0


class Snowflake(dg.ConfigurableResource[None]):
    """Sessions of Snowflake.

    It makes dagster-snowflake's `SnowflakeResource` when a session is opened and not when the code location is loaded,
    since importing that takes several times as long as importing Dagster.
    """

    account: str | None = Field(default=None, description="Account identifier; None is the embedded Snowflake.")
    user: str = Field(default="", description="Login name; empty for authenticators that need none.")
    role: str | None = Field(default=None, description="Role of the session.")
    warehouse: str | None = Field(default=None, description="Warehouse of the session.")
    database: str | None = Field(default=None, description="Database of the session.")
    password: str | None = Field(default=None, description="Password or programmatic access token.")
    private_key: str | None = Field(default=None, description="Private key in PEM, or that in base64.")
    private_key_path: str | None = Field(default=None, description="File of the private key.")
    private_key_password: str | None = Field(default=None, description="Password of the private key.")
    authenticator: str | None = Field(default=None, description="Another method of signing in.")
    token_file_path: str | None = Field(default=None, description="File of a token, for authenticators that read one.")
    host: str | None = Field(default=None, description="Server, if it is not the account's.")
    port: int | None = Field(default=None, description="Port of the server.")
    protocol: str | None = Field(default=None, description="https, or http in tests.")
    statement_timeout_seconds: int = Field(default=4 * 3600, description="When Snowflake ends a statement by itself.")
    embedded_dir: str = Field(default=".run_elt", description="Where the embedded Snowflake keeps its data.")
    sample_data: bool = Field(default=True, description="Whether the embedded Snowflake is filled at first use.")

    @classmethod
    def from_settings(cls, settings: Settings) -> "Snowflake":
        """Return the resource of a deployment; secrets stay in the environment until a session is opened."""
        common: dict[str, Any] = {
            "statement_timeout_seconds": settings.statement_timeout_seconds,
            "embedded_dir": str(settings.embedded_dir),
        }
        if settings.snowflake is None:
            return cls(**common)
        return cls(**common, **_account_config(settings.snowflake))

    def resolved(self) -> "Snowflake":
        """Return the resource with its secrets read from the environment, for use outside of Dagster's own injection."""
        return resolved(self)

    @property
    def is_embedded(self) -> bool:
        """Whether there is no account."""
        return self.account is None

    @contextmanager
    def connect(self, *, patience_seconds: int | None = None) -> Generator["SnowflakeConnection"]:
        """Open a connection of the Snowflake connector; it is closed on every path.

        Args:
            patience_seconds: How long signing in, a statement, or another process's use of the embedded Snowflake may
                take, for somebody who only has a question; None for the work itself.

        Raises:
            snowflake.connector.errors.Error: Signing in failed.
            TimeoutError: Another process holds the embedded Snowflake.
        """
        if not self.is_embedded:
            hurry: dict[str, Any] = {}
            if patience_seconds is not None:
                hurry = {"login_timeout": patience_seconds, "network_timeout": patience_seconds}
            with self._open(self._account_resource(hurry)) as connection:
                yield connection
            return
        log = dg.get_dagster_logger().info
        with embedded_snowflake(
            Path(self.embedded_dir),
            sample_data=self.sample_data,
            wait_seconds=EMBEDDED_WAIT_SECONDS if patience_seconds is None else patience_seconds,
            log=log,
        ) as endpoint:
            arguments = {**endpoint.connection_args(), "warehouse": self.warehouse}
            with self._open(self._resource(arguments)) as connection:
                yield connection

    @contextmanager
    def session(self) -> Generator[ConnectorSession]:
        """Open a session for `run_ctas`.

        Raises:
            snowflake.connector.errors.Error: Signing in failed.
            TimeoutError: Another process holds the embedded Snowflake.
        """

        def connect_on(warehouse: str) -> AbstractContextManager["SnowflakeConnection"]:
            return self.model_copy(update={"warehouse": warehouse}).connect()

        with self.connect() as connection, ConnectorSession(connection, self.connect, connect_on) as session:
            yield session

    @contextmanager
    def _open(self, resource: "SnowflakeResource") -> Generator["SnowflakeConnection"]:
        with resource.get_connection() as connection, closing(connection):
            # get_connection() closes only where nothing fails, and a connection left open keeps the process alive:
            # https://github.com/dagster-io/dagster/pull/34147
            yield connection

    def _account_resource(self, more: Mapping[str, Any]) -> "SnowflakeResource":
        return self._resource(
            {
                "account": self.account,
                "user": self.user,
                "role": self.role,
                "warehouse": self.warehouse,
                "database": self.database,
                "password": self.password,
                "private_key": self.private_key,
                "private_key_path": self.private_key_path,
                "private_key_password": self.private_key_password,
                "authenticator": self.authenticator,
                "token_file_path": self.token_file_path,
                "host": self.host,
                "port": self.port,
                "protocol": self.protocol,
                "login_timeout": LOGIN_TIMEOUT_SECONDS,
                # https://docs.snowflake.com/en/sql-reference/parameters
                "session_parameters": {
                    "STATEMENT_TIMEOUT_IN_SECONDS": self.statement_timeout_seconds,
                    # A run that lost its connection stops costing money.
                    "ABORT_DETACHED_QUERY": True,
                },
                **more,
            },
        )

    def _resource(self, arguments: dict[str, Any]) -> "SnowflakeResource":
        """Return the `SnowflakeResource` of connector arguments; those it has no field for go through as they are."""
        # 4 to 7 s to import.
        from dagster_snowflake import SnowflakeResource  # noqa: PLC0415

        given = {name: value for name, value in arguments.items() if value is not None}
        fields = {name: given.pop(name) for name in list(given) if name in SnowflakeResource.model_fields}
        return SnowflakeResource(**fields, autocommit=True, additional_snowflake_connection_args=given)


def _account_config(account: SnowflakeSettings) -> dict[str, Any]:
    secrets = {name.removeprefix("SNOWFLAKE_").lower(): dg.EnvVar(name) for name in account.secrets}
    plain = {name: value for name, value in vars(account).items() if name != "secrets" and value is not None}
    return {**plain, **secrets}
