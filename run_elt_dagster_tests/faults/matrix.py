"""Every kind of fault at every statement of every way of publishing, and of rolling back."""

import itertools
import random
from collections.abc import Iterator, Sequence

from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.faults.kinds import FAULTS, KILLED
from run_elt_dagster_tests.faults.laboratory import (
    METHODS,
    PROCESSES,
    WAYS,
    Cell,
    FaultLab,
    open_rollback,
    problems_of,
    run,
    run_cell,
    watched,
)
from run_elt_dagster_tests.faults.oracle import NEW, NEXT, OLD, Problem, Reader, Watched, declared, untrue
from run_elt_dagster_tests.faults.trials import Outcome
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

_FIRST = {True: "first", False: "again"}


class Matrix:
    """Trials named `fault/<publish>/<first or again>/<fault>/<statement>` and `rollback/<publish>/<fault>/<statement>`."""

    def __init__(self, lab: FaultLab) -> None:
        self._laboratory = lab
        self._numbers = itertools.count(1)

    def names(self, seed: int) -> Iterator[str]:
        """Yield every trial in a random order, and again in another one, without an end."""
        names = [*self._fault_names(), *self._rollback_names()]
        order = random.Random(seed)  # noqa: S311 - no secret
        while True:
            yield from order.sample(names, len(names))

    def run(self, name: str) -> Outcome:
        kind, publish, *rest = name.split("/")
        if kind == "rollback":
            fault, index = rest
            return self._roll_back(publish, fault, int(index))
        first, fault, index = rest
        return self._fault(Cell(next(self._numbers), publish, first == _FIRST[True], fault, int(index)))

    def _fault_names(self) -> Iterator[str]:
        for publish, first in WAYS:
            clean = Cell(next(self._numbers), publish, first)
            self._laboratory.set_up(clean)
            run_cell(self._laboratory, clean)
            for fault, index in itertools.product(FAULTS, range(len(clean.statements))):
                yield f"fault/{publish}/{_FIRST[first]}/{fault}/{index}"

    def _rollback_names(self) -> Iterator[str]:
        for publish in METHODS:
            clean = Cell(next(self._numbers), publish, first=False, letter="R")
            self._publish_twice(clean)
            roll_back(self._laboratory, clean)
            for fault, index in itertools.product(FAULTS, range(len(clean.statements))):
                yield f"rollback/{publish}/{fault}/{index}"

    def _fault(self, cell: Cell) -> Outcome:
        laboratory = self._laboratory
        laboratory.set_up(cell)
        with Reader(laboratory.consumer, [watched(cell)], pause_seconds=0.03) as reader:
            outcome = run_cell(laboratory, cell)
            comment = laboratory.comments([cell.table]).get(cell.table.upper(), "")
            problems = problems_of(laboratory, cell, outcome, comment)
            problems += self._next_run(cell)
        laboratory.drop([cell.table])
        return Outcome(f"fault: {cell.fault}", (*reader.problems, *problems), is_void=not cell.met.is_set())

    def _next_run(self, cell: Cell) -> list[Problem]:
        """Publish without a fault: what the fault has left behind holds nobody up."""
        (after,) = run(
            self._laboratory.account.arguments, [declared(cell.table, cell.publish, NEXT)], f"{cell.number:07d}C"
        )
        if after.failure is not None:
            return [Problem("failed", f"the next run: {after.failure.message}")]
        seen, pending = self._laboratory.seen(cell.table), self._laboratory.pending([cell.table])
        problems = [Problem("wrong", f"after the next run a new session sees {seen}")] * (seen != NEXT.content)
        return problems + [Problem("failed", f"candidates are still pending: {sorted(pending)}")] * bool(pending)

    def _publish_twice(self, cell: Cell) -> None:
        self._laboratory.publish_old(cell.table)
        run(self._laboratory.account.arguments, [declared(cell.table, cell.publish, NEW)], f"{cell.number:07d}B")

    def _roll_back(self, publish: str, fault: str, index: int) -> Outcome:
        laboratory = self._laboratory
        cell = Cell(next(self._numbers), publish, first=False, fault=fault, index=index, letter="R")
        self._publish_twice(cell)
        table = Watched(cell.table, (OLD, NEW, NEXT), may_be_missing=publish == "clone", keeps_grant=publish != "clone")
        with Reader(laboratory.consumer, [table], pause_seconds=0.03) as reader:
            said, _ = roll_back(laboratory, cell)
            problems = self._after_rollback(cell, said)
            # Also after one that was complete: its answer may not have reached anybody.
            repeated, is_done = roll_back(laboratory, Cell(cell.number, publish, first=False, letter="S"))
            problems += self._after_rollback(cell, repeated)
            problems += [] if is_done else [Problem("failed", f"the repeated command: {repeated}")]
            problems += self._at_the_end(cell)
            problems += self._next_run(cell)
        laboratory.drop([cell.table])
        return Outcome(f"rollback: {fault}", (*reader.problems, *problems), is_void=not cell.met.is_set())

    def _comments(self, cell: Cell) -> Sequence[str]:
        return tuple(self._laboratory.comments([cell.table]).values())

    def _after_rollback(self, cell: Cell, said: str) -> list[Problem]:
        seen = self._laboratory.seen(cell.table)
        allowed = [OLD.content, NEW.content, *([()] if cell.publish == "clone" else [])]
        if seen not in allowed:
            return [Problem("wrong", f"a new session sees {seen} after: {said}")]
        return untrue(said, [seen], NEW)

    def _at_the_end(self, cell: Cell) -> list[Problem]:
        """Check that readers see the version before, with the grants of the last one, and that nothing is left half done."""
        seen = self._laboratory.seen(cell.table)
        if seen != OLD.content:
            return [Problem("wrong", f"a new session sees {seen}, not the version before")]
        problems: list[Problem] = []
        if "CONSUMER" not in self._laboratory.grantees(cell.table):
            problems.append(Problem("wrong", "the grant of the consumer is gone"))
        half_done = [text for text in self._comments(cell) if "[run_elt rollback " in text]
        return problems + [Problem("failed", f"left half done: {half_done}")] * bool(half_done)


def roll_back(lab: FaultLab, cell: Cell) -> tuple[str, bool]:
    """Roll the table of a cell back, and return what was said and whether all is done; nothing is said by a killed command."""
    lab.cells[cell.run_id] = cell
    arguments = (lab.account.arguments, cell.table, cell.publish, cell.run_id)
    if FAULTS[cell.fault] is not KILLED or cell.index < 0:
        return _command(*arguments)
    cell.process = PROCESSES.Process(target=_command, args=arguments)
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
    cell.ended.set()
    return "", False


def _command(arguments: dict[str, object], table: str, publish: str, run_id: str) -> tuple[str, bool]:
    try:
        with open_rollback(arguments, declared(table, publish, NEW), run_id) as rollback:
            plan = rollback.plan()
            left = rollback.carry_out(plan)
    except (StatementError, PublishRefusedError) as error:
        return str(error), False
    return "\n".join([f"{plan.target} is back at {plan.previous.words}", *left]), not left
