"""Reads many SQL texts in several processes: at the first start after a change of many files, parsing is most of the time.

A helper is a Python process that imports sqlglot alone, and it is only that: what it does not answer is read without it.
"""

import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from run_elt_dagster.model.file_cache import Reads, reads_from, written

# A helper takes 0.2 s of CPU to start, which is as long as parsing a hundred texts. It has to be worth it.
_TEXTS_FOR_A_HELPER = 500
_MOST_HELPERS = 3
_TEXTS_AT_ONCE = 20
# The last answer of a helper takes a tenth of a second. One that has stopped must not stop the load.
_PATIENCE_SECONDS = 30.0
# So many objects are made before Python looks for cycles among them, instead of its own 700: those of some files where SQL is parsed, whose
# trees are cycles of 0.3 MiB each. Where a folder is loaded that is remembered, nothing is in vain: to look took a tenth of the time.
_PARSED, _LOADED = 10_000, 200_000
# Without the working directory on its path (-P): a file in there must not stand for a module.
COMMAND = (sys.executable, "-P", "-m", __name__)

_Batches = SimpleQueue[Sequence[str]]


@contextmanager
def seldom_collected(*, parses: bool = False) -> Generator[None]:
    """Let Python look for garbage less often: https://docs.python.org/3.11/library/gc.html#gc.set_threshold.

    Args:
        parses: Whether much SQL is parsed meanwhile.
    """
    before = gc.get_threshold()
    # A process that has turned it off or up keeps that.
    if 0 < before[0] <= _LOADED:
        gc.set_threshold(_PARSED if parses else _LOADED, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def helpers_for(count: int) -> int:
    """Return how many helpers are worth it for so many texts, on the processors that this process may use."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_HELPERS, processors - 1, count // _TEXTS_FOR_A_HELPER)


@contextmanager
def started(helpers: int, *, command: Sequence[str] = COMMAND) -> Generator[list[subprocess.Popen[bytes]]]:
    """Start so many helpers, which import sqlglot while this process goes on; afterwards they are gone.

    Args:
        helpers: Number of processes besides this one.
        command: How a helper is started.

    Yields:
        Those that could be started.
    """
    # Their modules are those of this process, wherever they came from.
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109 - as Python means it
    processes: list[subprocess.Popen[bytes]] = []
    try:
        # No process more for this user, or no Python at this path.
        with contextlib.suppress(OSError):
            while len(processes) < helpers:
                processes.append(_process(command, path))
        yield processes
    finally:
        for process in processes:
            process.kill()
            # Closes the pipes and reaps the process.
            with contextlib.suppress(OSError, ValueError):
                process.communicate()


def _process(command: Sequence[str], path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this Python and a module of this package
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def read_many(
    texts: Sequence[str], read: Callable[[str], Reads], *, processes: Sequence[subprocess.Popen[bytes]]
) -> Mapping[str, Reads]:
    """Return what SQL texts read. Those that a helper has taken and not answered are left out.

    Args:
        texts: The texts.
        read: Returns what one of them reads; used in this process.
        processes: The helpers that take a part.
    """
    batches: _Batches = SimpleQueue()
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        batches.put(texts[start : start + _TEXTS_AT_ONCE])
    found: dict[str, Reads] = {}
    with ExitStack() as asked:
        for process in processes:
            asked.enter_context(_asked(process, batches, found))
        for batch in _taken(batches):
            found.update({text: read(text) for text in batch})
    return found


def _taken(batches: _Batches) -> Iterator[Sequence[str]]:
    with contextlib.suppress(Empty):
        while True:
            yield batches.get_nowait()


@contextmanager
def _asked(process: subprocess.Popen[bytes], batches: _Batches, found: dict[str, Reads]) -> Generator[None]:
    """Let a process read texts too, until there are none; at the end, wait for its last answer."""
    thread = threading.Thread(target=_ask, args=(process, batches, found), name="parallel-reads", daemon=True)
    thread.start()
    try:
        yield
        thread.join(_PATIENCE_SECONDS)
    finally:
        if thread.is_alive():
            process.kill()
            thread.join()


def _ask(process: subprocess.Popen[bytes], batches: _Batches, found: dict[str, Reads]) -> None:
    """Have a helper read batch after batch. If it ends or answers anything else, that is all it has done."""
    if process.stdin is None or process.stdout is None:
        return
    with contextlib.suppress(OSError, ValueError, TypeError):
        for batch in _taken(batches):
            process.stdin.write(json.dumps(batch).encode() + b"\n")
            process.stdin.flush()
            answers: list[Any] = json.loads(process.stdout.readline())
            # Whole or not at all.
            found.update(dict(zip(batch, map(reads_from, answers), strict=True)))


def serve() -> None:
    """Answer each line of texts with a line of what they read, until there are no more lines."""
    from run_elt_dagster.model.reads import reads_of  # noqa: PLC0415 - sqlglot, which the other side may not need

    with seldom_collected(parses=True):
        for line in sys.stdin.buffer:
            answers = [written(reads_of(text)) for text in json.loads(line)]
            sys.stdout.buffer.write(json.dumps(answers).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
