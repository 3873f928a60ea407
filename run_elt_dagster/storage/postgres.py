"""Connections to the Postgres of a deployment, kept in each process that reads its dagster.yaml.

`params: {plugin: run_elt}` there loads this plugin of SQLAlchemy. https://docs.sqlalchemy.org/en/21/core/connections.html#sqlalchemy.engine.CreateEnginePlugin
"""

import hashlib
import os
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with the name of a variable
from sqlalchemy import URL, CreateEnginePlugin, Engine, event
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import NullPool

from run_elt_dagster.settings import keeps_storage_connections
from run_elt_dagster.storage.idle import IDLE, spoil, spoil_after_error


class KeptConnection(Connection):
    """A connection that is kept when its user closes it.

    Attributes:
        is_spoiled: Whether it met an error.
    """

    is_spoiled = False
    _key: bytes | None = None
    _pid = 0
    _is_idle = False

    def opened_as(self, key: bytes) -> None:
        """Note under which key it is kept."""
        self._key, self._pid = key, os.getpid()

    def close(self) -> None:
        """Keep it, or close it where that is not safe."""
        if self._is_idle:
            return
        if self._may_be_kept():
            self._is_idle = True
            IDLE.give(self._key, self)
        else:
            super().close()

    def close_now(self) -> None:
        """Close it for good."""
        super().close()

    def is_whole(self) -> bool:
        """Return whether it is open. Whether the server is there, `taken` finds out."""
        return not self.closed

    def taken(self) -> bool:
        """Make it as new for its next user: no transaction, and the session's own settings. Return whether it answered."""
        self._is_idle = False
        try:
            # https://www.psycopg.org/docs/connection.html#connection.reset
            self.reset()
        except psycopg2.Error:
            super().close()
            return False
        return True

    def _may_be_kept(self) -> bool:
        if self._key is None or self.is_spoiled or self.closed or os.getpid() != self._pid:
            return False
        return self.info.transaction_status == TRANSACTION_STATUS_IDLE


def connect(dialect: Dialect, record: Any, cargs: list[Any], cparams: dict[str, Any]) -> Any:
    """Return a connection that is kept, or a new one.

    Raises:
        psycopg2.Error: The server cannot be reached.
    """
    for other in dialect.dispatch.do_connect:
        # They would not be called any more, and may put in a token of their own: dagster-postgres does with `auth_provider`.
        if other is not connect and (made := other(dialect, record, cargs, cparams)) is not None:
            return made
    # No text of it: the password is in there.
    key = hashlib.sha256(repr((cargs, sorted(cparams.items()))).encode()).digest()
    while (kept := IDLE.take(key)) is not None:
        if kept.taken():
            return kept
    made = dialect.connect(*cargs, connection_factory=KeptConnection, **cparams)
    made.opened_as(key)
    return made


class KeepConnections(CreateEnginePlugin):
    """Keeps the connections of an engine that has no pool. Dagster's webserver has one, and is left alone."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        del kwargs
        if url.drivername != "postgresql+psycopg2":
            raise ValueError(
                f"the plugin run_elt requires the scheme postgresql+psycopg2, got {url.drivername}. Dagster cannot open its "
                "storage. Correct the scheme, or remove the plugin from dagster.yaml."
            )

    def update_url(self, url: URL) -> URL:
        """Return the URL as it is."""
        return url

    def handle_dialect_kwargs(self, dialect_cls: type[Dialect], dialect_args: dict[str, Any]) -> None:
        """Save a query for each connection that is opened or taken: no table of Dagster has a column of the type hstore."""
        del dialect_cls
        dialect_args.setdefault("use_native_hstore", False)

    def engine_created(self, engine: Engine) -> None:
        """Listen to what the engine opens."""
        if isinstance(engine.pool, NullPool) and keeps_storage_connections():
            event.listen(engine, "do_connect", connect)
            event.listen(engine, "handle_error", spoil_after_error)
            event.listen(engine, "invalidate", spoil)
