"""Connections to the SQLite files of Dagster, kept in the process that runs the code location.

Dagster makes an engine for each event, so no engine can be told to keep them: SQLAlchemy's event `do_connect` is listened to for all.
https://docs.sqlalchemy.org/en/21/core/events.html#sqlalchemy.events.DialectEvents.do_connect
"""

import contextlib
import os
import re
import sqlite3
import weakref
from collections.abc import Hashable
from typing import Any

from sqlalchemy import Engine, event, make_url
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import NullPool

from run_elt_dagster.storage.idle import IDLE, spoil, spoil_after_error

# How Dagster 1.13 lays out its storage, below any base folder. https://docs.dagster.io/deployment/oss/oss-instance-configuration
_DAGSTERS_FILE = re.compile(r"/(?:history/runs|history/runs/[^/]*|schedules/schedules)\.db")
# The events of one run.
_RUNS_FILE = re.compile(r"/history/runs/(?!index\.db$)[^/]*\.db$")
# As long as Dagster 1.13.27 waits for a lock of the events, where it sets that. For the runs it leaves SQLite's 5 s, which a slow disk
# under many writers exceeds: the run would fail with "database is locked".
_LOCK_SECONDS = 30
# Dagster has some dozens.
_MOST_STATEMENTS = 500
_Stamp = tuple[int, int, int, int]


class KeptConnection(sqlite3.Connection):
    """A connection that is kept when its user closes it, if it is as it was when it was opened.

    Attributes:
        is_poolless: Whether the engine that uses it would close it, since it has no pool of its own.
        is_spoiled: Whether it met an error.
    """

    is_poolless = False
    is_spoiled = False
    _key: Hashable = None
    _file: tuple[int, int] | None = None
    _stamp: _Stamp | None = None
    _is_idle = False
    _is_relaxed = False
    _changes_told = 0

    def opened_as(self, key: Hashable, path: str, file: tuple[int, int] | None) -> None:
        """Note under which key it is kept.

        Args:
            key: Of all that it was opened with.
            path: Of the file.
            file: Device and inode of the file just before; None if there was none.
        """
        self._key, self._path, self._file, self._pid = key, path, file, os.getpid()
        self._usual_mode = self._mode()
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def taken(self) -> None:
        """Note that it has a user again, and leave it to SQLite when a file with a log ahead of it is forced to the disk.

        A commit then does not wait for the disk, and survives the end of any process. What a power cut may take are the newest
        commits, whole ones: the file stays sound. Without such a log it would not, and nothing is changed.
        https://www.sqlite.org/pragma.html#pragma_synchronous
        """
        self._is_idle = self.is_poolless = False
        if not self._is_relaxed and self.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            self.execute("PRAGMA synchronous = NORMAL")
            self._is_relaxed = True

    def cursor(self, *arguments: Any, **named: Any) -> Any:
        """Return a cursor, and remember it: one that is not read to its end holds a lock."""
        cursor = super().cursor(*arguments, **named)
        if self._key is not None:
            self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """Keep it, or close it where that is not safe."""
        if self._is_idle:
            return
        if self._may_be_kept():
            self._tell_watchers()
            self._is_idle = True
            IDLE.give(self._key, self)
        else:
            super().close()

    def close_now(self) -> None:
        """Close it for good. If another file has taken the place of its own, SQLite does not touch that one's log."""
        self._key = self._stamp = None
        super().close()

    def is_whole(self) -> bool:
        """Return whether the path still leads to the file that it has open, unchanged since it was given back."""
        return self._stamp is not None and _stamp(self._path) == self._stamp

    def _tell_watchers(self) -> None:
        """Note on a run's file itself that it has new events.

        The webserver of Dagster 1.13.27 watches that file for the page of the run. SQLite writes events beside it, and into it at the
        latest when the last connection is closed: with a kept one, the page would stand still until the run ends.
        """
        if self.total_changes == self._changes_told or not _RUNS_FILE.search(self._path):
            return
        self._changes_told = self.total_changes
        with contextlib.suppress(OSError):
            os.utime(self._path)
            self._stamp = _stamp(self._path)

    def _mode(self) -> tuple[Any, Any]:
        """Return how it begins transactions. Python 3.11 has one of the two attributes, 3.12 both."""
        return self.isolation_level, getattr(self, "autocommit", None)

    def _may_be_kept(self) -> bool:
        if self._key is None or not self.is_poolless or self.is_spoiled or os.getpid() != self._pid:
            return False
        try:
            for cursor in self._cursors:
                cursor.close()
            changed = self.in_transaction or self._mode() != self._usual_mode
        except sqlite3.ProgrammingError:
            # It is closed already.
            return False
        self._stamp = _stamp(self._path)
        return not changed and self._stamp is not None and self._stamp[:2] == self._file


def _stamp(path: str) -> _Stamp | None:
    """Return device, inode, size and time of change of a file; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - ten times for an event: Path takes three times as long
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def connect(dialect: Dialect, record: object, cargs: list[Any], cparams: dict[str, Any]) -> KeptConnection | None:
    """Return a connection to one of Dagster's files, None for any other database: then SQLAlchemy opens it.

    Raises:
        sqlite3.Error: The file cannot be opened.
    """
    del record
    if dialect.name != "sqlite" or dialect.driver != "pysqlite" or not _is_dagsters(cargs, cparams):
        return None
    path = str(cargs[0])
    cparams = {"timeout": _LOCK_SECONDS, **cparams}
    key = ("sqlite", path, repr(sorted(cparams.items())))
    kept: Any = IDLE.take(key)
    if kept is None:
        before = _stamp(path)
        kept = dialect.connect(*cargs, factory=KeptConnection, **cparams)
        # A file that was exchanged meanwhile has another inode now: such a connection is not kept.
        kept.opened_as(key, path, before[:2] if before is not None else None)
    kept.taken()
    return kept


def _is_dagsters(cargs: list[Any], cparams: dict[str, Any]) -> bool:
    """Return whether it is one of Dagster's files, opened for any thread as SQLAlchemy does."""
    is_for_any_thread = sqlite3.threadsafety > 0 and cparams.get("check_same_thread") is False
    is_plain = "factory" not in cparams and not cparams.get("uri")
    return len(cargs) == 1 and is_for_any_thread and is_plain and bool(_DAGSTERS_FILE.search(str(cargs[0])))


class _Statements(dict[Any, Any]):
    """Compiled statements for all engines of Dagster's files: an engine lives for an event, and has none of its own yet.

    SQLAlchemy asks with a tuple that begins with the engine's dialect. These differ in nothing but being another object.
    https://docs.sqlalchemy.org/en/21/core/connections.html#sqlalchemy.engine.Connection.execution_options.params.compiled_cache
    """

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        """Return a compiled statement."""
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        if len(self) >= _MOST_STATEMENTS:
            self.clear()
        super().__setitem__((type(key[0]), *key[1:]), compiled)


_STATEMENTS = _Statements()


class SharingDialect(SQLiteDialect_pysqlite):
    """SQLAlchemy's dialect. Engines of Dagster's files get the statements that others have compiled.

    A listener of the event `engine_connect` could do that too. SQLAlchemy would then look for listeners of every event of each connection:
    a tenth of the time of an event.
    """

    supports_statement_cache = True

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Let an engine share: https://docs.sqlalchemy.org/en/21/core/internals.html#sqlalchemy.engine.Dialect.engine_created."""
        if isinstance(engine.pool, NullPool) and _DAGSTERS_FILE.search(str(engine.url.database)):
            engine.update_execution_options(compiled_cache=_STATEMENTS)


def _share_statements() -> None:
    """Take the place of SQLAlchemy's dialect, and of no other one.

    https://docs.sqlalchemy.org/en/21/core/connections.html#registering-new-dialects
    """
    if make_url("sqlite://").get_dialect() is SQLiteDialect_pysqlite:
        registry.register("sqlite", __name__, SharingDialect.__name__)


def _note_no_pool(connection: object, record: object) -> None:
    del record
    if isinstance(connection, KeptConnection):
        connection.is_poolless = True


LISTENERS = (
    (Engine, "do_connect", connect),
    (NullPool, "connect", _note_no_pool),
    (NullPool, "invalidate", spoil),
    (Engine, "handle_error", spoil_after_error),
)


def listen() -> None:
    """Keep the connections of this process from now on. Safe to repeat."""
    for target, name, function in LISTENERS:
        if not event.contains(target, name, function):
            event.listen(target, name, function)
    _share_statements()
