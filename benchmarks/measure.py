"""What a command costs: wall and CPU time and memory of its processes, apart from those of the server it talks to."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.1
_MIB = 1024 * 1024


class CommandError(RuntimeError):
    """A measured command failed or took too long; what it printed last is in the message."""


def end_with_children() -> None:
    """Let a command that is asked to end (SIGTERM) end what it has started too; call it from the main thread."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        wall_seconds: From its start to its end.
        cpu_seconds: User and system time of the process and of those it waited for.
        peak_mib: Resident memory of the process and its descendants together, sampled ten times a second.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def run(
    command: Sequence[str], *, environment: Mapping[str, str], directory: Path, log: Path, timeout_seconds: float
) -> Cost:
    """Run a command to its end and return what it cost.

    Args:
        command: The command.
        environment: All of its variables.
        directory: Where it runs.
        log: What it prints goes there.
        timeout_seconds: When it is ended, with its descendants.

    Raises:
        CommandError: It failed or was ended.
    """
    started = time.monotonic()
    with log.open("wb") as output:
        # The caller's wait4 gives the process's own use of resources, so that nobody else may reap it.
        process = subprocess.Popen(
            command, env=dict(environment), cwd=directory, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        done = threading.Event()
        peak = _Peak(process.pid)
        watchdog = threading.Thread(
            target=_watch, args=(process.pid, peak, done), kwargs={"timeout_seconds": timeout_seconds}, daemon=True
        )
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            done.set()
        wall_seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    watchdog.join()
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise CommandError(
            f"{' '.join(command[:4])} requires exit code 0, got {process.returncode} after {wall_seconds:.0f} s of at most "
            f"{timeout_seconds:.0f}. It was not measured. It ended with:\n{tail}"
        )
    # Linux counts the largest process in KiB; the samples add processes up, and may miss a short peak.
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, max(peak.mib, usage.ru_maxrss / 1024))


class _Peak:
    """The largest sum of resident memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.mib = 0.0

    def sample(self) -> None:
        self.mib = max(self.mib, sum(map(_resident_mib, _family(self._pid))))


def _watch(pid: int, peak: _Peak, done: threading.Event, *, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not done.wait(_SAMPLE_SECONDS):
        peak.sample()
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            return


def _family(pid: int) -> list[int]:
    """Return a process and its descendants, as far as they still live: https://man7.org/linux/man-pages/man5/proc.5.html."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in _text(children).split()]
    return found


def _resident_mib(pid: int) -> float:
    fields = _text(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB if fields else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
