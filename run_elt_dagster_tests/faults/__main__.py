"""Try faults, interleavings and killed processes for as long as somebody likes.

    python -m run_elt_dagster_tests.faults --for 10m
    python -m run_elt_dagster_tests.faults --only interleaving/577090037

Each sort of trials has a process of its own. The seed is printed at the start and chooses the trials; each problem is printed with the
command that repeats its trial alone. Ends with the figures by kind, and with 1 where there is a problem.
"""

import argparse
import contextlib
import itertools
import json
import os
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from run_elt_dagster_tests.faults.oracle import VERDICTS, Problem
from run_elt_dagster_tests.faults.sorts import NAMES, sort_of

# What a trial may take on a busy machine; one that takes longer has not ended.
TRIAL_SECONDS, START_SECONDS, END_SECONDS = 300, 300, 5
# After so many trials a sort gets a new process and an empty Snowflake: hours of them must not fill the disk.
TRIALS_PER_PROCESS = 200
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass
class Figures:
    """What came of the trials, by kind."""

    tried: Counter[str] = field(default_factory=Counter[str])
    passed: Counter[str] = field(default_factory=Counter[str])
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    void: int = 0
    seconds: float = 0

    def add(self, kind: str, problems: Sequence[Problem]) -> None:
        self.tried[kind] += 1
        self.passed[kind] += not problems
        for verdict in {problem.verdict for problem in problems}:
            self.verdicts[kind, verdict] += 1

    def lines(self) -> Iterator[str]:
        """Yield the figures as a table of Markdown."""
        titles = ["what is tried", "tried", "passed", *VERDICTS]
        yield f"| {' | '.join(titles)} |"
        yield f"| --- |{' ---: |' * (len(titles) - 1)}"
        for kind in sorted(self.tried):
            numbers = [self.tried[kind], self.passed[kind], *(self.verdicts[kind, verdict] for verdict in VERDICTS)]
            yield f"| {kind} | {' | '.join(f'{number:,}' for number in numbers)} |"
        totals = [self.tried.total(), self.passed.total(), *(self._total(verdict) for verdict in VERDICTS)]
        yield f"| **all** | {' | '.join(f'**{number:,}**' for number in totals)} |"

    def _total(self, verdict: str) -> int:
        return sum(number for (_, found), number in self.verdicts.items() if found == verdict)

    @property
    def has_problems(self) -> bool:
        return self.tried.total() != self.passed.total()


class Worker:
    """The process of one sort of trials, in a process group and a directory of its own."""

    _numbers = itertools.count()

    def __init__(self, sort: str, directory: Path) -> None:
        # Short, since the names of sockets below it may have about a hundred characters: man 7 unix.
        self._directory = directory / f"{sort[0]}{next(self._numbers)}"
        self._directory.mkdir()
        self._log = directory / f"{self._directory.name}.log"
        command = [sys.executable, "-m", f"{__package__}.worker", sort, str(self._directory)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self._directory), "PYTHONWARNINGS": "ignore"},
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, line: str, *, seconds: float) -> Any:
        """Return the answer to a line.

        Raises:
            TimeoutError: There is none in time.
            EOFError: The process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise EOFError(self._log.read_text(errors="replace")[-4000:])
        return json.loads(answer)

    def end(self) -> None:
        """End the process and all that it has started, and leave nothing behind; safe to repeat."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # What it has started is others' to reap, which takes a moment.
            for _ in range(END_SECONDS * 10):
                os.killpg(self._process.pid, 0)
                time.sleep(0.1)
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._log.unlink(missing_ok=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")


class Campaign:
    """All sorts of trials at once, until the time is over or so many are tried."""

    def __init__(self, seed: int, directory: Path, *, seconds: float, trials: int | None) -> None:
        self.figures = Figures()
        self._seed, self._directory, self._trials = seed, directory, trials
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._workers: dict[str, Worker] = {}

    def run(self) -> None:
        threads = [threading.Thread(target=self._try_all, args=(sort,), daemon=True) for sort in NAMES]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            self._stop.set()
            with self._lock:
                workers = list(self._workers.values())
            for worker in workers:
                worker.end()

    def only(self, name: str) -> None:
        """Try one trial."""
        sort = sort_of(name)
        try:
            self._try(sort, name)
        finally:
            self._end(sort)

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._until

    def _try_all(self, sort: str) -> None:
        names = list[str]()
        try:
            for number in itertools.count() if self._trials is None else range(self._trials):
                if self._is_over():
                    break
                if number % TRIALS_PER_PROCESS == 0:
                    self._end(sort)
                    names = self._names(sort, number + TRIALS_PER_PROCESS)[number:]
                self._try(sort, names[number % TRIALS_PER_PROCESS])
        except (TimeoutError, EOFError) as error:
            if self._stop.is_set():
                return
            self._tell("the trials themselves", sort, [Problem("did not end", f"{type(error).__name__}: {error}")])
        finally:
            self._end(sort)

    def _names(self, sort: str, count: int) -> list[str]:
        return self._worker(sort).ask(f"names {self._seed} {count}", seconds=START_SECONDS)

    def _try(self, sort: str, name: str) -> None:
        try:
            answer = self._worker(sort).ask(name, seconds=TRIAL_SECONDS)
        except (TimeoutError, EOFError) as error:
            if self._stop.is_set():
                return
            self._end(sort)
            problem = Problem("did not end", f"{type(error).__name__}: {error or f'{TRIAL_SECONDS} s'}")
            self._tell(name.partition("/")[0], name, [problem])
            return
        if answer["is_void"] and not answer["problems"]:
            self.figures.void += 1
            return
        self._tell(answer["kind"], name, [Problem(*problem) for problem in answer["problems"]])

    def _tell(self, kind: str, name: str, problems: Sequence[Problem]) -> None:
        with self._lock:
            self.figures.add(kind, problems)
            for problem in problems:
                print(f"{name}: {problem.verdict}: {problem.text}")
            if problems:
                print(f"  repeat it: make faults ONLY='{name}'", flush=True)

    def _worker(self, sort: str) -> Worker:
        with self._lock:
            if self._stop.is_set():
                raise EOFError("the trials are over")
            if sort not in self._workers:
                self._workers[sort] = Worker(sort, self._directory)
            return self._workers[sort]

    def _end(self, sort: str) -> None:
        with self._lock:
            worker = self._workers.pop(sort, None)
        if worker is not None:
            worker.end()


def duration(text: str) -> float:
    """Return seconds, from text as in 90s, 10m or 1h.

    Raises:
        argparse.ArgumentTypeError: It is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a duration requires a number and s, m or h, got {text!r}, as in 10m")
    return float(found[1]) * _UNITS[found[2]]


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every trial passed, 1 if not."""
    parser = argparse.ArgumentParser(prog="make faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--for", dest="seconds", type=duration, default="2m", help="how long, as in 90s, 10m or 1h")
    parser.add_argument("--seed", type=int, default=None, help="a number that chooses the trials")
    parser.add_argument("--trials", type=int, default=None, help="at most so many of each sort")
    parser.add_argument("--only", metavar="NAME", default=None, help="the one trial of this name")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, _interrupted)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        campaign = Campaign(seed, Path(directory), seconds=options.seconds, trials=options.trials)
        try:
            if options.only is not None:
                campaign.only(options.only)
            else:
                print(f"seed {seed}: make faults FOR={options.seconds:g}s SEED={seed} tries the same again", flush=True)
                campaign.run()
        except KeyboardInterrupt:
            print("interrupted")
    figures = campaign.figures
    print("\n".join(figures.lines()))
    print(f"{figures.tried.total():,} trials in {time.monotonic() - started:.0f} s; {figures.void:,} more met nothing")
    return int(figures.has_problems or not figures.tried.total())


if __name__ == "__main__":
    sys.exit(main())
