"""Runs of a table in parts that meet faults, and what is wrong afterwards."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.faults.kinds import FAULTS, KILLED, TRANSIENT
from run_elt_dagster_tests.faults.laboratory import PROCESSES, Cell, FaultLab
from run_elt_dagster_tests.simulator.server import ABORT_IDLE_SECONDS
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, effort

AT_ONCE = 4
# What changes what readers see: a short matrix is tried at these.
DECISIVE = ("publish: CREATE TABLE", "publish: COMMIT")
# A function of a module, and its arguments: what another process can be given.
Task = tuple[Callable[..., TableOutcome], tuple[Any, ...]]


@dataclass
class PartCell(Cell, ABC):
    """One run that meets one fault at its statement number `index`; below 0, it meets none.

    Attributes:
        new: What the run builds.
        next: What the run after it builds.
    """

    new: ClassVar[Any]
    next: ClassVar[Any]
    way: str = field(default="again", kw_only=True)

    @property
    @abstractmethod
    def before(self) -> Any:
        """What readers see before the run."""

    @abstractmethod
    def after(self, version: Any) -> Any:
        """Return what readers see when a version is published."""

    @abstractmethod
    def statements_before(self) -> Iterable[str]:
        """Return what leaves the table as an earlier run would have left it."""

    @abstractmethod
    def task(self, arguments: Any, version: Any, run_id: str) -> Task:
        """Return what runs a version."""

    @abstractmethod
    def says_unknown(self, outcome: TableOutcome) -> bool:
        """Return whether an outcome leaves open what readers see."""

    @abstractmethod
    def seen(self, lab: FaultLab) -> Any:
        """Return what a new session sees."""


def set_up(lab: FaultLab, cell: PartCell) -> None:
    """Leave the table of before as an earlier run would have left it."""
    for statement in cell.statements_before():
        lab.sql(statement)


def run_cell(lab: FaultLab, cell: PartCell) -> TableOutcome | None:
    """Run a cell, and return what its run said of it; None if it was killed, or failed before any table."""
    lab.cells[cell.run_id] = cell
    function, arguments = cell.task(lab.account.arguments, cell.new, cell.run_id)
    if FAULTS[cell.fault] is not KILLED or cell.index < 0:
        try:
            return function(*arguments)
        except StatementError:
            return None
    cell.process = PROCESSES.Process(target=function, args=arguments)
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
    cell.ended.set()
    assert cell.process.exitcode == -signal.SIGKILL
    return None


def problems_of(cell: PartCell, outcome: TableOutcome | None, found: Any) -> list[str]:
    """Return what is wrong after a fault with what readers see, or with what is said of it."""
    if found not in (cell.before, cell.after(cell.new)):
        return [f"a new session sees {found}"]
    if outcome is None:
        return []
    is_new = found == cell.after(cell.new)
    problems = [] if outcome.published or outcome.failure is not None else ["nothing is said"]
    if outcome.published is not is_new and not cell.says_unknown(outcome) and not _says_new(outcome, is_new=is_new):
        problems.append(f"published is {outcome.published}, a new session sees {found}: {outcome.failure}")
    if outcome.failure is not None:
        words = outcome.failure.message
        truths = {
            "Readers see the new rows": is_new,
            "Readers see the new table": is_new,
            "Readers see what they saw before": not is_new,
            "Readers still see the previous table": not is_new,
            "There is no published table yet": not found,
        }
        problems += [
            f"said {text!r}, a new session sees {found}"
            for text, is_true in truths.items()
            if text in words and not is_true
        ]
        problems += (
            [] if any(text in words for text in (*truths, "is unknown")) else [f"says nothing of readers: {words}"]
        )
    return problems


def _says_new(outcome: TableOutcome, *, is_new: bool) -> bool:
    return is_new and outcome.failure is not None and outcome.failure.production.state == "new"


def try_fault(lab: FaultLab, make: Callable[..., PartCell], fault: str) -> None:
    """Let runs meet a fault, each at another statement, and then a clean run of each.

    Args:
        lab: The server.
        make: Makes a cell of a number, and of `fault` and `index`.
        fault: Which.
    """
    numbers = iter(range(len(lab.cells) * 100, 10**7))
    clean = make(next(numbers))
    set_up(lab, clean)
    outcome = run_cell(lab, clean)
    assert outcome is not None
    assert outcome.published, outcome.failure
    whole = effort(usual=0, thorough=1)
    chosen = [n for n, sent in enumerate(clean.statements) if whole or sent.startswith(DECISIVE)]
    cells = [make(next(numbers), fault=fault, index=index) for index in chosen]
    for each in cells:
        set_up(lab, each)
    at_once = 1 if FAULTS[fault] is KILLED else AT_ONCE
    with dead_sessions_end(lab, fault), ThreadPoolExecutor(at_once) as pool:
        outcomes = list(pool.map(partial(run_cell, lab), cells))
        for each, outcome in zip(cells, outcomes, strict=True):
            assert each.met.is_set(), each
            if fault in TRANSIENT and each.statements[each.index].startswith("publish"):
                assert outcome is not None
                assert outcome.published, (each, outcome.failure)
            assert problems_of(each, outcome, each.seen(lab)) == [], each
            each.index = -1
            # The next run is clean: it publishes, and nobody waits for what the fault has left behind.
            function, arguments = each.task(lab.account.arguments, each.next, f"{each.number:07d}C")
            after = function(*arguments)
            assert after.published, after.failure
            assert each.seen(lab) == each.after(each.next)


@contextmanager
def dead_sessions_end(lab: FaultLab, fault: str) -> Generator[None]:
    """Let whoever waits take the lock of a killed process at once, and not after five minutes."""
    server = lab.account.server
    if FAULTS[fault] is KILLED:
        server.abort_idle_seconds = 0
    yield
    server.abort_idle_seconds = ABORT_IDLE_SECONDS
