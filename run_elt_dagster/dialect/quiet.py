"""Silence for sqlglot's remarks about a statement that is going to be refused for the same reason.

A module of its own: a logger outlives its users, and whatever its filters lead to would live as long as the interpreter.
DuckDB complains at exit about objects of its own that still do.
"""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager


class _QuietThreads(logging.Filter):
    """Drops the warnings of threads that asked for silence."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or not getattr(self.thread, "quiet", False)


_filter = _QuietThreads()
logging.getLogger("sqlglot").addFilter(_filter)


@contextmanager
def quietly() -> Generator[None]:
    """Keep sqlglot's warnings of this thread out of the log."""
    _filter.thread.quiet = True
    try:
        yield
    finally:
        _filter.thread.quiet = False
