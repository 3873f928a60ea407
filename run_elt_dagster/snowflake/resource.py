"""The Snowflake resource: sessions of an account, or of the embedded Snowflake behind the same interface."""

import base64
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from run_elt_dagster.embedded import embedded_snowflake
from run_elt_dagster.settings import STATEMENT_TIMEOUT_SECONDS, Settings, SnowflakeSettings, note_secrets
from run_elt_dagster.snowflake.answers import LIMIT_SECONDS, REPORT_AFTER_SECONDS, REPORT_AGAIN_SECONDS, Answers
from run_elt_dagster.snowflake.connecting import (
    LOGIN_TIMEOUT_SECONDS,
    close_connection,
    open_connection,
    with_session_parameters,
)
from run_elt_dagster.snowflake.env_vars import resolved
from run_elt_dagster.snowflake.server_session import existing_database
from run_elt_dagster.snowflake.session import NO_PARAMETERS, Connect, ConnectorSession, Parameters

if TYPE_CHECKING:
    from dagster_snowflake import SnowflakeResource
    from snowflake.connector import SnowflakeConnection

# The fields of dagster-snowflake's resource that have the same meaning here.
_SHARED = (
    *("account", "user", "role", "warehouse", "database", "password", "authenticator"),
    *("private_key", "private_key_path", "private_key_password"),
)
# Those that are arguments of the connector, and their names there. `autocommit`, `paramstyle` and what is for SQLAlchemy or ADBC
# are for statements of the user's own.
_ARGUMENTS = {
    "schema_": "schema",
    **{name: name for name in ("client_prefetch_threads", "client_session_keep_alive", "login_timeout")},
    **{name: name for name in ("network_timeout", "ocsp_response_cache_filename", "validate_default_parameters")},
    "timezone": "timezone",
}
# Arguments that a run decides: who it is in Snowflake's history, how long it waits, and that what it sends takes effect.
_OURS = ("application", "autocommit", "backoff_policy", "paramstyle")
# A `?` stands for a parameter, and Snowflake takes it apart from the text.
BOUND = "qmark"
# Names of arguments that hold a secret.
_SECRET = re.compile("secret|token|pass|pwd|private_key")
# How long a run waits for another process that uses the embedded Snowflake.
EMBEDDED_WAIT_SECONDS = 600.0


class Snowflake(dg.ConfigurableResource[None]):
    """Sessions of Snowflake, with the fields of dagster-snowflake's `SnowflakeResource`. `dagster_snowflake` makes that one.

    The connector is imported when a session is opened and not when the code location is loaded.
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
    statement_timeout_seconds: int = Field(
        default=STATEMENT_TIMEOUT_SECONDS, description="When Snowflake ends a statement by itself."
    )
    answer_timeout_seconds: float = Field(
        default=LIMIT_SECONDS, description="How long Snowflake may leave a request without an answer."
    )
    additional_arguments: dict[str, Any] = Field(
        default_factory=dict, description="Other arguments of the connector; these come before the fields."
    )
    embedded_dir: str = Field(default=".run_elt", description="Where the embedded Snowflake keeps its data.")
    sample_data: bool = Field(default=True, description="Whether the embedded Snowflake is filled at first use.")

    @classmethod
    def from_settings(cls, settings: Settings) -> "Snowflake":
        """Return the resource of a deployment; secrets stay in the environment until a session is opened."""
        common: dict[str, Any] = {
            "statement_timeout_seconds": settings.statement_timeout_seconds,
            "answer_timeout_seconds": settings.answer_timeout_seconds,
            "embedded_dir": str(settings.embedded_dir),
        }
        if settings.snowflake is None:
            return cls(**common, database=settings.embedded_database)
        return cls(**common, **_account_config(settings.snowflake))

    @classmethod
    def of(cls, resource: Any) -> "Snowflake":
        """Return the resource that signs in as another one does: one of this class itself, or dagster-snowflake's.

        A key pair, an authenticator, and what `additional_snowflake_connection_args` adds are kept. The connection is the connector's,
        whatever `connector` says, and commits by itself: a run begins its transactions on its own.

        Raises:
            TypeError: It is of another class.
            ValueError: It names no account. This class would take that for the embedded Snowflake.
        """
        if isinstance(resource, cls):
            return resource
        # Importing dagster-snowflake takes seconds. Who has a resource of it has imported it.
        module = sys.modules.get("dagster_snowflake")
        if module is None or not isinstance(resource, module.SnowflakeResource):
            raise TypeError(
                "the resource of Snowflake requires run_elt_dagster.Snowflake or dagster_snowflake.SnowflakeResource, got "
                f"{type(resource).__name__}. Nothing was sent to Snowflake. Pass one of the two."
            )
        return cls(**_fields_of(resource))

    def resolved(self) -> "Snowflake":
        """Return the resource with its secrets read from the environment, for use outside of Dagster's own injection."""
        return resolved(self)

    @property
    def is_embedded(self) -> bool:
        """Whether there is no account."""
        return self.account is None and not self.additional_arguments

    @contextmanager
    def connect(
        self,
        *,
        patience_seconds: int | None = None,
        log: Callable[[str], None] | None = None,
        answers: Answers | None = None,
        parameters: Parameters = NO_PARAMETERS,
        paramstyle: str | None = None,
    ) -> Generator["SnowflakeConnection"]:
        """Open a connection of the Snowflake connector; it is closed on every path.

        Args:
            patience_seconds: How long signing in, or another process's use of the embedded Snowflake may take, for somebody
                who only has a question; None for the work itself.
            log: Called with what takes time on the embedded Snowflake, as in who holds it; Dagster's logger by default.
            answers: Decide how long the connection waits for an answer; None for those of the settings.
            parameters: Session parameters that it signs in with, by name in upper case; they come before any others.
            paramstyle: How statements name their parameters; None as the connector does it, which puts them into the text.

        Raises:
            NotInstalledError: The embedded Snowflake's libraries are missing.
            snowflake.connector.errors.Error: Signing in failed.
            TimeoutError: Another process holds the embedded Snowflake.
            ValueError: It has no such environment.
        """
        given = self.additional_arguments
        note_secrets(
            self.password, self.private_key, self.private_key_password, *(given[n] for n in given if _SECRET.search(n))
        )
        answers = answers or Answers(limit_seconds=patience_seconds or self.answer_timeout_seconds)
        if not self.is_embedded:
            arguments = {"private_key": self._der_key(), **self._account_arguments(), "paramstyle": paramstyle}
            if patience_seconds is not None:
                arguments["login_timeout"] = patience_seconds
            with _connected(with_session_parameters(arguments, parameters), answers) as connection:
                yield connection
            return
        with embedded_snowflake(
            Path(self.embedded_dir),
            database=existing_database(Path(self.embedded_dir), self.database),
            sample_data=self.sample_data,
            wait_seconds=EMBEDDED_WAIT_SECONDS if patience_seconds is None else patience_seconds,
            log=log or dg.get_dagster_logger().info,
        ) as endpoint:
            arguments = {**endpoint.connection_args(), "warehouse": self.warehouse, "paramstyle": paramstyle}
            with _connected(with_session_parameters(arguments, parameters), answers) as connection:
                yield connection

    @contextmanager
    def session(
        self, *, patience_seconds: int | None = None, log: Callable[[str], None] | None = None
    ) -> Generator[ConnectorSession]:
        """Open a session for a run, or for a question. The log says where Snowflake does not answer.

        Args:
            patience_seconds: How long signing in, a statement, or another process's use of the embedded Snowflake may
                take, for somebody who only has a question; None for the work itself.
            log: Called with what is waited for; Dagster's logger by default.

        Raises:
            snowflake.connector.errors.Error: Signing in failed.
            TimeoutError: Another process holds the embedded Snowflake.
        """
        answers = Answers(limit_seconds=patience_seconds or self.answer_timeout_seconds)

        connect = partial(self.connect, patience_seconds=patience_seconds, log=log, answers=answers, paramstyle=BOUND)

        def connect_on(warehouse: str) -> Connect:
            return partial(self.model_copy(update={"warehouse": warehouse}).connect, answers=answers, paramstyle=BOUND)

        with (
            answers.reported(
                log or dg.get_dagster_logger().warning,
                after_seconds=REPORT_AFTER_SECONDS,
                again_seconds=REPORT_AGAIN_SECONDS,
            ),
            connect() as connection,
            ConnectorSession(connection, connect, connect_on) as session,
        ):
            yield session

    @contextmanager
    def get_connection(self, raw_conn: bool = True) -> Generator["SnowflakeConnection"]:  # noqa: ARG002, FBT001, FBT002
        """Open a connection, as dagster-snowflake's resource does it: an asset that asks for that one works with this one.

        https://docs.dagster.io/api/libraries/dagster-snowflake

        Args:
            raw_conn: Taken and not looked at: dagster-snowflake looks at it for SQLAlchemy alone.
        """
        with self.connect() as connection:
            yield connection

    def connect_and_execute(self, sql: str) -> None:
        """Run one statement on a connection of its own, as dagster-snowflake's resource does it."""
        with self.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute(sql)

    def dagster_snowflake(self) -> "SnowflakeResource":
        """Return dagster-snowflake's resource with the same account and sign-in, for its I/O managers and components.

        The run itself does without it: importing it takes 4 to 7 s and 150 MB, of which the connector is a tenth. And its
        `get_connection` does not close where something fails: https://github.com/dagster-io/dagster/pull/34147

        Raises:
            ValueError: There is no account.
        """
        from dagster_snowflake import SnowflakeResource  # noqa: PLC0415

        if self.is_embedded:
            raise ValueError(
                "dagster-snowflake's resource requires an account, got the embedded Snowflake. Set SNOWFLAKE_ACCOUNT."
            )
        key = {
            "private_key": self.private_key,
            "private_key_path": self.private_key_path,
            "private_key_password": self.private_key_password,
        }
        given = {name: value for name, value in {**self._account_arguments(), **key}.items() if value is not None}
        fields: dict[str, Any] = {n: given.pop(n) for n in list(given) if n in SnowflakeResource.model_fields}
        return SnowflakeResource(**fields, additional_snowflake_connection_args=given)

    def _account_arguments(self) -> dict[str, Any]:
        """Return the connector's arguments but for the private key; None where the connector decides."""
        more = {name: value for name, value in self.additional_arguments.items() if name not in _OURS}
        return {
            "account": self.account,
            "user": self.user,
            "role": self.role,
            "warehouse": self.warehouse,
            "database": self.database,
            "password": self.password,
            "authenticator": self.authenticator,
            "token_file_path": self.token_file_path,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
            "autocommit": True,
            "login_timeout": LOGIN_TIMEOUT_SECONDS,
            # https://docs.snowflake.com/en/sql-reference/parameters
            **more,
            "session_parameters": {
                "STATEMENT_TIMEOUT_IN_SECONDS": self.statement_timeout_seconds,
                # A run that lost its connection stops costing money.
                "ABORT_DETACHED_QUERY": True,
                **more.get("session_parameters", {}),
            },
        }

    def _der_key(self) -> bytes | None:
        """Return the private key as the connector takes it, None if another way of signing in is set.

        Raises:
            ValueError: It is no private key in PEM, or its password is wrong.
        """
        if self.private_key_path is not None:
            return _der(
                Path(self.private_key_path).read_bytes(), self.private_key_password, "SNOWFLAKE_PRIVATE_KEY_PATH"
            )
        if self.private_key is None:
            return None
        text = self.private_key.encode()
        pem = text if b"-----BEGIN" in text else base64.b64decode(text)
        return _der(pem, self.private_key_password, "SNOWFLAKE_PRIVATE_KEY")


def _der(pem: bytes, password: str | None, variable: str) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only where a key is used

    try:
        key = serialization.load_pem_private_key(pem, password.encode() if password else None)
    except (ValueError, TypeError) as error:
        # The error's own text may quote what it could not read.
        raise ValueError(
            f"{variable} requires a private key in PEM (or that in base64) that SNOWFLAKE_PRIVATE_KEY_PASSWORD opens, got "
            f"one that cannot be read ({type(error).__name__}). Nothing was sent to Snowflake. Correct one of the two.",
        ) from None
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@contextmanager
def _connected(arguments: dict[str, Any], answers: Answers) -> Generator["SnowflakeConnection"]:
    connection = open_connection(arguments, answers)
    try:
        yield connection
    finally:
        close_connection(connection, answers)


def _fields_of(resource: Any) -> dict[str, Any]:
    """Return the fields of a resource of dagster-snowflake; variables of the environment stay variables."""
    shared = {name: getattr(resource, name) for name in _SHARED}
    more = {argument: getattr(resource, name) for name, argument in _ARGUMENTS.items()}
    additional = {
        **{argument: value for argument, value in more.items() if value is not None},
        **(resource.additional_snowflake_connection_args or {}),
    }
    if shared["account"] is None and not {"account", "connection_name"} & additional.keys():
        raise ValueError(
            "the resource of Snowflake requires an account, got none. Nothing was sent to Snowflake. Pass account, or connection_name in "
            "additional_snowflake_connection_args."
        )
    return {**{name: value for name, value in shared.items() if value is not None}, "additional_arguments": additional}


def _account_config(account: SnowflakeSettings) -> dict[str, Any]:
    """Return the fields of an account; Dagster reads the secrets from the environment when a session is opened."""
    secrets = {name: dg.EnvVar(variable) for name, variable in account.secrets.items()}
    return {**account.model_dump(exclude=set(secrets), exclude_none=True), **secrets}
