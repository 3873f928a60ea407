"""Runs of some days of a partitioned table that meet faults, or each other, and what is wrong afterwards."""

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.faults.interleavings import Interleaving
from run_elt_dagster_tests.faults.kinds import FAULTS, KILLED
from run_elt_dagster_tests.faults.laboratory import PROCESSES, Cell, FaultLab, tag_of
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.slices import Seen, Version, divided, published_before, run_slice, states

OLD, NEW, NEXT = Version(3, 1), Version(5, 2), Version(7, 3)
# Which days are published before a run, and which it builds: the first ones ever, the next ones, or some again.
WAYS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "first": ((), (1, 2)),
    "next": ((1, 2), (3, 4)),
    "again": ((1, 2, 3, 4), (2, 3)),
}


@dataclass
class SliceCell(Cell):
    """One run of some days that meets one fault at its statement number `index`; below 0, it meets none."""

    way: str = field(default="again", kw_only=True)

    @property
    def days(self) -> tuple[int, ...]:
        """What the run builds."""
        return WAYS[self.way][1]

    @property
    def before(self) -> Seen:
        """What readers see before the run."""
        return OLD.of(*WAYS[self.way][0])

    def after(self, version: Version) -> Seen:
        """Return what readers see when the days of a run are published."""
        return {**self.before, **version.of(*self.days)}

    def declared(self, version: Version) -> AnalyticsTable:
        return divided(version, table=self.table)


def set_up(lab: FaultLab, cell: SliceCell) -> None:
    """Leave the days of before as an earlier run would have left them."""
    if days := WAYS[cell.way][0]:
        for statement in published_before(cell.declared(OLD), OLD, days):
            lab.sql(statement)


def run_cell(lab: FaultLab, cell: SliceCell) -> TableOutcome | None:
    """Run a cell, and return what its run said of it; None if it was killed, or failed before any table."""
    lab.cells[cell.run_id] = cell
    arguments = (lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id)
    if FAULTS[cell.fault] is not KILLED or cell.index < 0:
        try:
            return run_slice(*arguments)
        except StatementError:
            return None
    cell.process = PROCESSES.Process(target=run_slice, args=arguments)
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
    cell.ended.set()
    assert cell.process.exitcode == -signal.SIGKILL
    return None


def problems_of(cell: SliceCell, outcome: TableOutcome | None, found: Seen) -> list[str]:
    """Return what is wrong after a fault with what readers see, or with what is said of it."""
    if found not in (cell.before, cell.after(NEW)):
        return [f"a new session sees {found}"]
    if outcome is None:
        return []
    is_new, said = found == cell.after(NEW), states(outcome)
    problems = [] if outcome.published or outcome.failure is not None else ["nothing is said"]
    if outcome.published is not is_new and "unknown" not in said.values() and not _says_new(outcome, is_new=is_new):
        problems.append(f"published is {outcome.published}, a new session sees {found}: {outcome.failure}")
    if outcome.failure is not None:
        words = outcome.failure.message
        truths = {
            "Readers see the new rows": is_new,
            "Readers see the new table": is_new,
            "Readers see what they saw before": not is_new,
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


class SliceInterleaving(Interleaving):
    """Lets runs send one statement at a time; one that would wait for the lock of another run does not get the turn.

    A run holds the lock from the first change of its transaction to the end of that. Meanwhile others may read.
    """

    def __init__(self, run_ids: Iterable[str], turns: Iterable[int]) -> None:
        super().__init__(run_ids, turns)
        self._pending: dict[str, str] = {}
        self._holder: str | None = None

    def hook(self, event: StatementEvent) -> None:
        """Hold a statement until its run has the turn, and note who holds the lock."""
        run_id = tag_of(event).get("run_id", "")
        with self._changed:
            if event.phase == "after" and self._holder == run_id and event.sql.startswith(("COMMIT", "ROLLBACK")):
                self._holder = None
            self._pending[run_id] = event.sql
        super().hook(event)
        if event.phase == "before" and event.sql.startswith("UPDATE"):
            with self._changed:
                self._holder = self._holder or run_id

    def ended(self, run_id: str) -> None:
        """Wait for a run no longer."""
        with self._changed:
            self._holder = None if self._holder == run_id else self._holder
        super().ended(run_id)

    def _choices(self) -> Sequence[str]:
        reads = ("SELECT", "BEGIN", "ALTER SESSION", "SHOW")
        return [
            run_id
            for run_id in sorted(self._waiting)
            if self._holder in (None, run_id) or self._pending[run_id].startswith(reads)
        ]
