"""Run Dagster's command line and write down what its storage cost by kind of event: `python -m benchmarks.timed FILE ARGUMENT...`.

The file gets a JSON object: for each kind, the times that it was stored, the seconds and CPU seconds that took, and the statements and new
connections to the storage. What is read or written for anything but an event is under its own name, with the seconds of its
statements alone and no CPU seconds.
"""

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
import sqlalchemy.event
import sqlalchemy.pool

LOG_LINE, NO_EVENT = "a line of the log", "anything but an event"


@dataclass
class Spent:
    """What one kind of event has cost.

    Attributes:
        count: How often it was stored.
        seconds: How long that took, without events stored meanwhile by the same thread.
        cpu_seconds: Of the thread meanwhile, likewise.
        statements: Statements sent to the storage.
        connections: Connections opened to the storage.
    """

    count: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    statements: int = 0
    connections: int = 0


class Book:
    """What has been spent, by kind."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = defaultdict(Spent)
        self._lock = threading.Lock()
        self._of_thread = threading.local()
        # Kept, since another connection could get the id of one that is gone.
        self._connections: dict[int, object] = {}

    @property
    def _open(self) -> list[list[Any]]:
        """The events that this thread is storing, each with the seconds and CPU seconds of those within it."""
        return self._of_thread.__dict__.setdefault("open", [])

    @property
    def kind(self) -> str:
        """The kind of event that this thread is storing."""
        return self._open[-1][0] if self._open else NO_EVENT

    @contextmanager
    def storing(self, kind: str) -> Generator[None]:
        """Note an event while the block lasts."""
        self._open.append([kind, 0.0, 0.0])
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            seconds, cpu_seconds = time.perf_counter() - began, time.thread_time() - cpu_began
            _, within, cpu_within = self._open.pop()
            if self._open:
                self._open[-1][1] += seconds
                self._open[-1][2] += cpu_seconds
            self.note(kind, count=1, seconds=seconds - within, cpu_seconds=cpu_seconds - cpu_within)

    def note(self, kind: str, **more: float) -> None:
        """Add to what a kind has cost."""
        with self._lock:
            spent = self.spent[kind]
            for name, value in more.items():
                setattr(spent, name, getattr(spent, name) + value)

    def connected(self, connection: object) -> None:
        """Note a connection; one that comes again had been kept open."""
        with self._lock:
            is_new = id(connection) not in self._connections
            self._connections[id(connection)] = connection
        if is_new:
            self.note(self.kind, connections=1)


def watch(book: Book) -> None:
    """Note what every instance of Dagster in this process stores from now on."""
    stored = dg.DagsterInstance.handle_new_event

    def handle_new_event(self: dg.DagsterInstance, event: Any, **arguments: Any) -> None:
        kind = event.dagster_event_type
        with book.storing(kind.value if kind else LOG_LINE):
            stored(self, event, **arguments)

    dg.DagsterInstance.handle_new_event = handle_new_event
    began = threading.local()

    def before(*_: object) -> None:
        began.at = time.perf_counter()

    def after(*_: object) -> None:
        kind = book.kind
        seconds = time.perf_counter() - began.at
        book.note(kind, statements=1, **({"seconds": seconds, "count": 1} if kind == NO_EVENT else {}))

    def connected(connection: object, _: object) -> None:
        book.connected(connection)

    # https://docs.sqlalchemy.org/en/21/core/events.html
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", before)
    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", after)
    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "connect", connected)


def main() -> None:
    """Run the command line in this process, and write the file at its end."""
    file, *arguments = sys.argv[1:]
    book = Book()
    watch(book)
    (dagster,) = entry_points(group="console_scripts", name="dagster")
    sys.argv = ["dagster", *arguments]
    try:
        dagster.load()()
    finally:
        Path(file).write_text(json.dumps({kind: asdict(spent) for kind, spent in book.spent.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
