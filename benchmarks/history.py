"""What a long history costs: `python -m benchmarks.history`, on SQLite and on a Postgres of its own.

Each tick of a sensor and of the schedule, the doctor's part of Dagster and the records of `run-elt show` are timed with a
history of 100,000 runs, one in ten of them failed and alerted of. Each look is taken twice, and the second one is printed: the
first one of a process imports more. The verdict is about CPU seconds, those of the storage among them: on a busy machine the
others say little.
"""

import argparse
import logging
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report import rendered
from benchmarks.run import machine
from run_elt_dagster_tests.support.empty_history import STORAGES, Server, empty_history
from run_elt_dagster_tests.support.long_history import Size, fill
from run_elt_dagster_tests.support.looks import Looks
from run_elt_dagster_tests.support.storage_work import work

TARGET_SECONDS = 2.0
_HEADINGS = ("storage", "look", "wall s", "CPU s", "statements", "steps or rows", "peak MiB", "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--days", type=float, default=30, help="over how many days they are spread")
    parser.add_argument("--open", type=int, default=50, help="incidents that are not over, of one table each")
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=STORAGES)
    chosen = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    size = Size(runs=chosen.runs, open_incidents=chosen.open, days=chosen.days)
    print(machine(), flush=True)
    for storage in chosen.storages:
        with (
            tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
            empty_history(Path(folder), storage) as (harness, server),
        ):
            began = time.monotonic()
            fill(harness, size)
            print(f"{storage}: {size.runs:,} runs written in {time.monotonic() - began:.0f} s", flush=True)
            rows = [(storage, *row) for row in measured(Looks(harness, Path(folder)), server)]
        print(rendered(_HEADINGS, rows), flush=True)


def measured(looks: Looks, server: Server | None) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each look."""
    for name, prepare in looks.all.items():
        prepare()()
        look = prepare()
        wall, cpu = time.monotonic(), _cpu_seconds(server)
        look()
        wall, cpu = time.monotonic() - wall, _cpu_seconds(server) - cpu
        # Counted apart, since counting takes time too.
        look = prepare()
        with work(server.rows_read if server else None) as done:
            look()
        verdict = "met" if cpu <= TARGET_SECONDS else "not met"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield name, f"{wall:.2f}", f"{cpu:.2f}", str(done.statements), f"{done.steps:,}", f"{peak:.0f}", verdict


def _cpu_seconds(server: Server | None) -> float:
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return own + (server.cpu_seconds() if server else 0)


if __name__ == "__main__":
    main()
