"""Open connections without a user, for the next user that would open the same."""

import atexit
import os
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import IntegrityError

# More than the threads of a run or of a daemon that write at the same moment. What comes on top closes the oldest.
MAX_IDLE = 8
# Firewalls forget a silent connection after some minutes. A run's heartbeat writes every 20 s.
MAX_IDLE_SECONDS = 60.0


class Kept(Protocol):
    """A connection that can be kept.

    Attributes:
        is_spoiled: Whether it met an error, and has to be closed when it is given back.
    """

    is_spoiled: bool

    def is_whole(self) -> bool:
        """Return whether what it is connected to is still there. It must not block."""
        ...

    def close_now(self) -> None:
        """Close it for good."""
        ...


@dataclass(frozen=True, eq=False)
class _Idle:
    key: Hashable
    connection: Any
    since: float


class IdleConnections:
    """Connections that are open and have no user. Threads may share it; a child process starts with none.

    Args:
        limit: How many there are at most.
        seconds: How long one is kept without being used.
        clock: Seconds that never go back.
    """

    def __init__(
        self, *, limit: int = MAX_IDLE, seconds: float = MAX_IDLE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._seconds, self._clock = limit, seconds, clock
        self._idle: list[_Idle] = []
        # Reentrant: a connection may be finalized, and so given back, wherever memory is allocated.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._idle)

    def take(self, key: Hashable) -> Any | None:
        """Return the connection that was given back last under a key, None without one. It is the caller's alone."""
        while (found := self._last(key)) is not None:
            # Only the one that is taken: looking at a file has a cost, and the next `give` looks at all of them.
            if found.is_whole():
                return found
            found.close_now()
        return None

    def give(self, key: Hashable, connection: Kept) -> None:
        """Keep a connection that its user has done with."""
        with self._lock:
            self._idle.append(_Idle(key, connection, self._clock()))
            closing = self._outdated()
        _close(closing)

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            closing, self._idle = self._idle, []
        _close(closing)

    def before_fork(self) -> None:
        """Close all, and hold what comes back until the child exists: two processes must not share a connection."""
        self._lock.acquire()
        self.close()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._lock.release()

    def _last(self, key: Hashable) -> Any | None:
        with self._lock:
            closing = self._overdue()
            found = next((each for each in reversed(self._idle) if each.key == key), None)
            if found is not None:
                self._idle.remove(found)
        _close(closing)
        return None if found is None else found.connection

    def _overdue(self) -> list[_Idle]:
        """Take out what waited too long. The one that was given back first comes first."""
        oldest = self._clock() - self._seconds
        count = sum(each.since < oldest for each in self._idle)
        leaving, self._idle = self._idle[:count], self._idle[count:]
        return leaving

    def _outdated(self) -> list[_Idle]:
        """Take out what waited too long, what is broken, and the oldest ones beyond the limit."""
        leaving = self._overdue()
        whole = [each for each in self._idle if each.connection.is_whole()]
        staying = whole[-self._limit :]
        leaving += [each for each in self._idle if each not in staying]
        self._idle = staying
        return leaving


def _close(idle: list[_Idle]) -> None:
    for each in idle:
        each.connection.close_now()


IDLE = IdleConnections()
"""The connections of this process."""

atexit.register(IDLE.close)
# https://docs.python.org/3/library/os.html#os.register_at_fork: `subprocess` and `spawn` do not pass through it, nor do open files.
os.register_at_fork(before=IDLE.before_fork, after_in_parent=IDLE.after_fork, after_in_child=IDLE.after_fork)


def spoil_after_error(context: ExceptionContext) -> None:
    """Let no connection be kept that met an error, except for a row that was there: Dagster tries to insert before it updates.

    https://docs.sqlalchemy.org/en/21/core/events.html#sqlalchemy.events.DialectEvents.handle_error
    """
    used = context.connection
    # One that is invalidated would connect again when it is asked for its connection, and has been spoiled by that.
    if used is None or used.closed or used.invalidated or isinstance(context.sqlalchemy_exception, IntegrityError):
        return
    spoil(used.connection.dbapi_connection)


def spoil(connection: Any, *_: Any) -> None:
    """Let a connection be closed when it is given back; one that is not kept is left alone."""
    if hasattr(connection, "is_spoiled"):
        connection.is_spoiled = True
