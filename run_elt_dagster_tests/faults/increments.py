"""Runs of a table with increments that meet faults."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from run_elt_dagster.model.candidate import Marker, comment_of, target_of
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish import partitions
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.faults.laboratory import FaultLab
from run_elt_dagster_tests.faults.parts import PartCell, Task
from run_elt_dagster_tests.support.increments import Rows, growing, run_increment, seen

# What the source has: the value and the hour of each row. The values of rows 1 and 2 change without another hour.
OLD: Rows = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (1, 4)}
NEW: Rows = {1: (9, 1), 2: (9, 2), 3: (2, 5), 4: (1, 4), 5: (2, 5), 6: (2, 6)}
NEXT: Rows = {1: (9, 1), 2: (9, 2), 3: (3, 7), 4: (1, 4), 5: (2, 5), 6: (3, 7), 7: (3, 7)}
# Whether there is a table before a run, and whether the run builds it whole.
WAYS: Mapping[str, tuple[bool, bool]] = {"first": (False, False), "next": (True, False), "whole": (True, True)}


@dataclass
class IncrementCell(PartCell):
    """One run of an increment that meets one fault at its statement number `index`; below 0, it meets none."""

    new: ClassVar[Rows] = NEW
    next: ClassVar[Rows] = NEXT

    @property
    def before(self) -> Rows:
        """What readers see before the run."""
        return OLD if WAYS[self.way][0] else {}

    def after(self, version: Rows) -> Rows:
        """Return what readers see when a version is merged: an increment finds no change without another hour."""
        return {**version, 1: OLD[1], 2: OLD[2]} if self.way == "next" else version

    def declared(self, version: Rows) -> AnalyticsTable:
        return growing(version, table=self.table)

    def statements_before(self) -> Iterable[str]:
        """Return what leaves a table as a run of long ago would have left it, with a grant to a consumer."""
        if not self.before:
            return []
        table, marker = self.declared(OLD), Marker("run", "0", "2026-01-01")
        target = target_of(table, database="RUN_ELT")
        note = partitions.record_sql(
            target, [partitions.increment_note(None)], {partitions.INCREMENT_KEY: len(OLD)}, marker
        )
        return [
            f"create or replace table {target.sql} comment = '{comment_of(table, marker)}' as {table.sql}",
            f"grant select on table {target.sql} to role consumer",
            partitions.create_table_sql(target),
            partitions.create_lock_sql(target),
            partitions.remember_first_sql(target, marker),
            note,
        ]

    def task(self, arguments: Any, version: Rows, run_id: str) -> Task:
        return run_way, (arguments, self.declared(version), run_id, self.way)

    def says_unknown(self, outcome: TableOutcome) -> bool:
        return outcome.failure is not None and outcome.failure.production.state == "unknown"

    def seen(self, lab: FaultLab) -> Rows:
        return seen(lab.account.session(), self.table)


def run_way(arguments: Mapping[str, Any], table: AnalyticsTable, run_id: str, way: str) -> TableOutcome:
    return run_increment(arguments, table, run_id, is_whole=WAYS[way][1])
