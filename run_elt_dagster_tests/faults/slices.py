"""Runs of some days of a partitioned table that meet faults, or each other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.faults.interleavings import Interleaving
from run_elt_dagster_tests.faults.laboratory import FaultLab, tag_of
from run_elt_dagster_tests.faults.parts import PartCell, Task
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.slices import Seen, Version, divided, published_before, run_slice, seen, states

OLD, NEW, NEXT = Version(3, 1), Version(5, 2), Version(7, 3)
# Which days are published before a run, and which it builds: the first ones ever, the next ones, or some again.
WAYS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "first": ((), (1, 2)),
    "next": ((1, 2), (3, 4)),
    "again": ((1, 2, 3, 4), (2, 3)),
}


@dataclass
class SliceCell(PartCell):
    """One run of some days that meets one fault at its statement number `index`; below 0, it meets none."""

    new: ClassVar[Version] = NEW
    next: ClassVar[Version] = NEXT

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

    def statements_before(self) -> Sequence[str]:
        """Return what leaves the days of before as an earlier run would have left them."""
        days = WAYS[self.way][0]
        return published_before(self.declared(OLD), OLD, days) if days else []

    def task(self, arguments: Any, version: Version, run_id: str) -> Task:
        return run_slice, (arguments, self.declared(version), self.days, run_id)

    def says_unknown(self, outcome: TableOutcome) -> bool:
        return "unknown" in states(outcome).values()

    def seen(self, lab: FaultLab) -> Seen:
        return seen(lab.account.session(), self.table)


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
        reads = ("SELECT", "BEGIN", "SHOW")
        return [
            run_id
            for run_id in sorted(self._waiting)
            if self._holder in (None, run_id) or self._pending[run_id].startswith(reads)
        ]
