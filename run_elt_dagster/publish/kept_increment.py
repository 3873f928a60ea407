"""Publish the increment that a run had rejected and kept: a person has looked at what its checks found, and wants it.

It goes the way of an increment from its audit on (`publish.increment_run`): it is merged by key in one transaction. The note in
`RUN_ELT_PARTITIONS` says whether readers see it already, and whether they still see the rows that it begins after. A rejected build of
the whole table goes the same way.
"""

from collections.abc import Callable, Sequence

from run_elt_dagster.audit.increment import rows_to_merge
from run_elt_dagster.model.candidate import Marker, base_in, by_hand_in, candidate_of, start_in
from run_elt_dagster.model.increment import BEGINNING
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.publish.by_hand import (
    Person,
    kept_candidates,
    not_by_hand,
    require_alone,
    require_no_policies,
    the_one_kept,
    when_audited,
)
from run_elt_dagster.publish.guards import InventoryTable
from run_elt_dagster.publish.increment_exchange import is_base_there
from run_elt_dagster.publish.increment_run import IncrementRun, with_marker
from run_elt_dagster.publish.kept import Kept, Published, Publisher
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.partitions import INCREMENT_KEY, PublishedPartition, all_markers_sql, newest_of
from run_elt_dagster.publish.table_run import State

_AGAIN = "Materialize again: the next run looks anew where to begin."


class KeptIncrementRun(IncrementRun):
    """Takes a kept increment from its audit on, as a run takes one that it has built.

    Args:
        kept: The increment.
        person: Who publishes it.
    """

    def __init__(self, kept: Kept, person: Person) -> None:
        super().__init__(person.work, person.clock)
        self._kept, self._person = kept, person

    def _build(self) -> None:
        """Take the candidate as it stands."""
        work, kept = self.work, self._kept
        work.snapshot_at, work.audited_at = kept.marker.at, kept.audited_at
        work.start, work.base = kept.start, kept.base
        self._is_built = True

    def _audit(self) -> None:
        super()._audit()
        self._audits = self._person.waiving(self._audits)
        if not any(each.blocks for each in self._audits):
            self._require_rows()
            self._person.require_its_rows()
            self._person.signs(self._audits)

    def _require_rows(self) -> None:
        """Require rows: without any, nothing would be merged, and nothing noted that a repeated command could find.

        Raises:
            PublishRefusedError: There are none.
        """
        if self._kept.start is not None and not rows_to_merge(self._audits):
            remedy = "Nothing is left to do: readers see all rows that there are."
            raise not_by_hand(self._kept.table, "an increment with rows", "an empty one", remedy)

    def _publish(self) -> None:
        super()._publish()
        if self._merged is not None and self._merged.is_found:
            got = f"the rows of run {short_id(self.work.run.run_id)} in {self.work.target} already"
            remedy = "Repeat the command: it says what readers see."
            raise not_by_hand(self._kept.table, "that nobody else does at the same time", got, remedy)


class IncrementPublisher(Publisher):
    """Publishes kept increments of one table in one session. The arguments are those of a `Publisher`."""

    def find(self, run: str) -> Kept | Published:
        """Return the kept increment of a run, or what readers see if it is published already; nothing is changed.

        Args:
            run: The run's id, or how it begins.

        Raises:
            PublishRefusedError: There is neither, or no audit has rejected it, or something else was published or rolled back since.
            StatementError: Snowflake does not answer.
        """
        (table,), runner = self._tables, self._runner(run)
        require_alone(table, run)
        require_no_policies(table)
        inventory = self._look(runner)
        kept, existing = kept_candidates(table, inventory, run), inventory.at(self._target(table))
        noted = self._noted(runner, table, all_markers_sql(self._target(table)))
        newest = newest_of(noted, existing)
        standing = with_marker(existing, newest)
        if standing is not None and newest is not None and newest.run_id.startswith(run):
            is_part = any(note.key == INCREMENT_KEY and note.start > BEGINNING for note in noted.partitions)
            return self._published(standing, existing, kept, newest, is_part=is_part)
        return self._kept(
            *the_one_kept(table, kept, run), standing, newest, is_replaced=_is_replaced(existing, noted.partitions)
        )

    def _published(
        self,
        standing: TableVersion,
        existing: TableVersion | None,
        kept: list[tuple[TableVersion, Marker]],
        newest: Marker,
        *,
        is_part: bool,
    ) -> Published:
        """Return what readers see. The candidate says who has published it, or the table itself where it was the first one."""
        (table,) = self._tables
        left = candidate_of(table, database=self.database, run_id=newest.run_id) if kept else None
        first = existing if existing is not None and existing.marker == newest else None
        comments = [version.comment for version in (*(version for version, _ in kept), first) if version is not None]
        by_hand = next((found for comment in comments if (found := by_hand_in(comment)) is not None), None)
        return Published(table, self._target(table), standing, by_hand, left, is_part=is_part)

    def _kept(
        self,
        version: TableVersion,
        marker: Marker,
        standing: TableVersion | None,
        newest: Marker | None,
        *,
        is_replaced: bool,
    ) -> Kept:
        (table,) = self._tables
        start, base = start_in(version.comment), base_in(version.comment)
        audited_at = when_audited(table, marker, version)
        if standing is not None and newest is not None and newest.order > marker.order:
            got = f"run {short_id(newest.run_of_rows)} with a newer snapshot, {standing.words}"
            raise not_by_hand(table, "that nothing newer was published since", got, "Materialize the table again.")
        if start is not None and not (standing is not None and is_base_there(newest, base)):
            rule = f"the rows that the increment begins after, {base.published if base is not None else 'of before'}"
            got = standing.words if standing is not None else "no table"
            raise not_by_hand(table, rule, got, _AGAIN)
        if start is not None and is_replaced:
            got = "one that somebody has created since"
            raise not_by_hand(table, "the table that the increment begins after", got, _AGAIN)
        taken_up = by_hand_in(version.comment)
        return Kept(table, marker, audited_at, version, standing, taken_up, start=start, base=base)

    def _take(self, kept: Kept, person: Person, entered: Callable[[State], None]) -> TableOutcome:
        return KeptIncrementRun(kept, person).run(entered)


def _is_replaced(existing: InventoryTable | None, noted: Sequence[PublishedPartition]) -> bool:
    """Return whether somebody has put another table in the place of the published one: none of the notes is true of it."""
    if existing is None or existing.marker is not None or existing.created_at is None:
        return False
    return bool(noted) and existing.created_at > max(note.published_at for note in noted)
