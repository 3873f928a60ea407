"""How much Dagster's storage does while something is done: statements, and steps of SQLite or rows that Postgres reads."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy
import sqlalchemy.event

# https://www.sqlite.org/c3ref/progress_handler.html: called after so many instructions of a statement.
STEPS = 100


@dataclass
class Work:
    """What was done.

    Attributes:
        statements: Sent to the storage.
        steps: On SQLite, its instructions in hundreds. On Postgres, rows that it read from tables and indexes.
    """

    statements: int = 0
    steps: int = 0


@contextmanager
def work(rows_read: Callable[[], int] | None = None) -> Generator[Work]:
    """Count what the storage does while the block lasts.

    Args:
        rows_read: Returns how many rows Postgres has read so far; None on SQLite.
    """
    done, before = Work(), rows_read() if rows_read else 0
    over = threading.Event()

    def on_statement(*_: Any) -> None:
        done.statements += 1

    def on_step() -> int:
        # A connection may outlive the block.
        done.steps += not over.is_set()
        return 0

    def on_connect(connection: Any, _: Any) -> None:
        connection.set_progress_handler(on_step, STEPS)

    listeners = [("before_cursor_execute", on_statement), *([] if rows_read else [("connect", on_connect)])]
    for name, listener in listeners:
        sqlalchemy.event.listen(sqlalchemy.Engine, name, listener)
    try:
        yield done
    finally:
        over.set()
        for name, listener in listeners:
            sqlalchemy.event.remove(sqlalchemy.Engine, name, listener)
        if rows_read:
            done.steps = rows_read() - before


def rows_read_by(rows: Callable[[str], list[tuple[Any, ...]]]) -> int:
    """Return how many rows a Postgres database has read since it was made.

    https://www.postgresql.org/docs/current/monitoring-stats.html: a backend reports them when it ends, and Dagster ends its
    connection after each statement.
    """
    sql = "select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) from pg_stat_user_tables"
    return int(rows(sql)[0][0])
