"""Trials of one sort in a process of its own, with all that they start: whoever ends its process group ends everything.

    python -m run_elt_dagster_tests.faults.worker SORT DIRECTORY

tries the trial whose name it reads from a line, and answers with a line of JSON. A line `names SEED COUNT` is answered with as many
names.
"""

import itertools
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run_elt_dagster_tests.faults.interleavings import Interleavings
from run_elt_dagster_tests.faults.laboratory import open_laboratory
from run_elt_dagster_tests.faults.matrix import Matrix
from run_elt_dagster_tests.faults.oracle import Problem
from run_elt_dagster_tests.faults.processes import Processes
from run_elt_dagster_tests.faults.trials import Outcome, Trials


@contextmanager
def _matrix(directory: Path) -> Generator[Trials]:
    with open_laboratory(directory) as laboratory:
        yield Matrix(laboratory)


@contextmanager
def _interleavings(directory: Path) -> Generator[Trials]:
    with open_laboratory(directory) as laboratory:
        yield Interleavings(laboratory)


SORTS: Mapping[str, Callable[[Path], Any]] = {
    "matrix": _matrix,
    "interleavings": _interleavings,
    "processes": Processes,
}


def main(sort: str, directory: Path) -> None:
    # Only the answers go where answers are read: libraries print, too.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Ctrl-C is for whoever has started this process; it ends the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = _lines()
    with SORTS[sort](directory) as trials:
        while line := asked.get():
            command, *rest = line.split()
            if command == "names":
                seed, count = rest
                answer: Any = list(itertools.islice(trials.names(int(seed)), int(count)))
            else:
                answer = _tried(trials, line)
            answers.write(json.dumps(answer) + "\n")


def _tried(trials: Trials, name: str) -> dict[str, Any]:
    started = time.monotonic()
    try:
        outcome = trials.run(name)
    except BaseException:  # noqa: BLE001 - whatever it is, it is what the trial found
        outcome = Outcome("the trial itself", (Problem("failed", traceback.format_exc()),))
    seconds = round(time.monotonic() - started, 2)
    return {"kind": outcome.kind, "problems": outcome.problems, "is_void": outcome.is_void, "seconds": seconds}


def _lines() -> "queue.SimpleQueue[str]":
    """Return the lines that come in; where nobody is left to send any, a trial that is under way is ended with this process."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
