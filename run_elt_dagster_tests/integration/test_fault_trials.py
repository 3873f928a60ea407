"""Short runs of `make faults`, in processes of their own: one trial, and 30 of each sort where the tests are thorough."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

pytestmark = pytest.mark.thorough

COMMAND = [sys.executable, "-m", "run_elt_dagster_tests.faults"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, as the temporary directory of a machine is: sockets' names may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        yield Path(name)


def started(directory: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_in(directory: Path) -> list[str]:
    """Return the processes that know a directory, by what the kernel says of them."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(directory) in path.read_text(errors="replace"):
                found.append(path.parent.name)
        except OSError:
            # It has just ended, or is another user's.
            continue
    return found


def test_one_trial_keeps_what_is_promised_and_leaves_nothing_behind(directory: Path) -> None:
    command = started(directory, "--only", "interleaving/1")
    printed, _ = command.communicate(timeout=3 * PATIENCE_SECONDS)
    assert command.returncode == 0, printed
    assert re.search(r"^1 trials in \d+ s; 0 more", printed, re.MULTILINE), printed
    assert list(directory.iterdir()) == []
    assert processes_in(directory) == []


@pytest.mark.thorough
def test_trials_of_each_sort_keep_what_is_promised_and_leave_nothing_behind(directory: Path) -> None:
    trials = 30
    command = started(directory, "--seed", "1", "--trials", str(trials), "--for", "1h")
    printed, _ = command.communicate(timeout=3 * PATIENCE_SECONDS)
    assert command.returncode == 0, printed
    (tried, void) = re.findall(r"([\d,]+) trials in \d+ s; ([\d,]+) more", printed)[0]
    assert int(tried) + int(void) == 3 * trials
    assert {"fault" in printed or "rollback" in printed, "at once" in printed, "SIG" in printed} == {True}
    assert list(directory.iterdir()) == []
    assert processes_in(directory) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="the kernel lists its processes elsewhere")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.thorough), signal.SIGTERM])
def test_interrupted_trials_leave_nothing_behind(directory: Path, number: signal.Signals) -> None:
    command = started(directory, "--seed", "1", "--for", "1h")
    assert command.stdout is not None
    assert command.stdout.readline().startswith("seed 1: make faults")
    # The command itself, and a process of each sort.
    while len(processes_in(directory)) < 4:
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(0.1)
    command.send_signal(number)
    printed, _ = command.communicate(timeout=PATIENCE_SECONDS)
    assert "interrupted" in printed
    assert list(directory.iterdir()) == []
    assert processes_in(directory) == []
