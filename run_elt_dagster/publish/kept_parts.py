"""Publish the partitions that a run had rejected and kept: a person has looked at what their checks found, and wants them.

They go the way of a slice from the audit on (`publish.slice_run`). The notes in `RUN_ELT_PARTITIONS` say which of them readers see
already, and which a newer run has published since. So a repeated command changes nothing.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from run_elt_dagster.model.candidate import ByHand, Marker, by_hand_in, candidate_of, pieces_in
from run_elt_dagster.model.names import Relation, short_id
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import TableVersion, partition_words
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.by_hand import (
    ByHandDesk,
    Person,
    kept_candidates,
    not_by_hand,
    require_alone,
    require_no_policies,
    the_one_kept,
    when_audited,
)
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.partitions import PublishedPartition, notes_sql, published_sql
from run_elt_dagster.publish.slice_run import SliceRun
from run_elt_dagster.publish.table_run import State, clean_up
from run_elt_dagster.snowflake.runner import StatementRunner


@dataclass(frozen=True)
class KeptPartitions:
    """The partitions of a candidate, and what readers see of them.

    Attributes:
        table: The table.
        candidate: Where the rows are.
        marker: Their run.
        audited_at: When its audit had ended, by Snowflake's clock.
        version: What stands there.
        part: All partitions of the candidate.
        notes: What is noted of them, by key.
        taken_up: Who was publishing them when a command was ended; None where nobody was.
    """

    table: AnalyticsTable
    candidate: Relation
    marker: Marker
    audited_at: str
    version: TableVersion
    part: Slice
    notes: Mapping[str, PublishedPartition]
    taken_up: ByHand | None = None

    @property
    def published(self) -> tuple[str, ...]:
        """The keys of those that readers see already."""
        own = self.marker.order
        return tuple(key for key in self.part.keys if key in self.notes and self.notes[key].marker.order == own)

    @property
    def superseded(self) -> Mapping[str, str]:
        """The runs with newer snapshots that have published the others since, by key."""
        newer = {key: note.marker for key, note in self.notes.items() if note.marker.order > self.marker.order}
        return {key: marker.run_id for key, marker in newer.items()}

    @property
    def wanted(self) -> tuple[str, ...]:
        """The keys of those that are published."""
        done = {*self.published, *self.superseded}
        return tuple(key for key in self.part.keys if key not in done)

    @property
    def unnoted(self) -> "PublishedPartitions | None":
        """What a command has published of them that was ended before it could note it elsewhere; None where nothing says so."""
        if self.taken_up is None:
            return None
        began = datetime.fromisoformat(self.taken_up.at)
        found = tuple(self.notes[key] for key in self.published if self.notes[key].published_at >= began)
        target = Relation(self.candidate.database, self.candidate.schema, self.table.stored_table)
        return PublishedPartitions(self.table, target, self.marker.run_id, found, self.taken_up) if found else None


@dataclass(frozen=True)
class PublishedPartitions:
    """Partitions of a run that readers see already.

    Attributes:
        table: The table.
        target: Where it is.
        run_id: The run.
        notes: What is noted of them, in order.
        by_hand: Who has published them, where the run's candidate still says so.
        candidate: What is left of it; None where it is gone.
    """

    table: AnalyticsTable
    target: Relation
    run_id: str
    notes: tuple[PublishedPartition, ...]
    by_hand: ByHand | None = None
    candidate: Relation | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(note.key for note in self.notes)


class KeptSliceRun(SliceRun):
    """Takes the partitions of a kept candidate from their audit on, as a run takes those that it has built.

    Args:
        kept: The partitions.
        person: Who publishes them.
    """

    def __init__(self, kept: KeptPartitions, person: Person) -> None:
        super().__init__(person.work, kept.part, person.clock)
        self._kept, self._person, self._wanted = kept, person, kept.wanted

    @property
    def theirs(self) -> frozenset[str]:
        """The keys of those that another person has published at the same time."""
        return self._exchanged.found

    def _build(self) -> None:
        """Take the candidate as it stands."""
        self.work.snapshot_at, self.work.audited_at = self._kept.marker.at, self._kept.audited_at
        self._is_built = True

    def _audit(self) -> None:
        super()._audit()
        verdicts = self._verdicts
        assert verdicts is not None  # noqa: S101 - the audit has just set it
        outcomes = {key: self._person.waiving(found) for key, found in verdicts.outcomes.items()}
        self._verdicts = replace(verdicts, outcomes=outcomes)
        wanted = [each for key in self._wanted for each in outcomes[key]]
        if not all(any(each.blocks for each in outcomes[key]) for key in self._wanted):
            self._person.require_its_rows()
            self._person.signs(wanted)


@dataclass(frozen=True)
class PartitionsByHand:
    """What became of kept partitions.

    Attributes:
        outcome: As of a run.
        by_hand: Who has published them, None where none is published.
        left: What could not be cleaned up, in words; None where nothing is left.
        theirs: The keys of those that another person has published at the same time, with the same rows.
    """

    outcome: TableOutcome
    by_hand: ByHand | None
    left: str | None = None
    theirs: frozenset[str] = frozenset()

    @property
    def published(self) -> tuple[str, ...]:
        """The keys of those that this command has published."""
        found = self.outcome.partitions.items()
        return tuple(key for key, part in found if part.state == "published" and key not in self.theirs)

    def by_hand_of(self, key: str) -> ByHand | None:
        """Return who has published one of them, with the checks that were waived for it and not for another one."""
        if self.by_hand is None or key in self.theirs:
            return None
        audits = self.outcome.partitions[key].audits
        return replace(self.by_hand, waived=tuple(dict.fromkeys(each.audit.name for each in audits if each.is_waived)))


class PartitionPublisher(ByHandDesk):
    """Publishes kept partitions of one table in one session. The arguments are those of a `ByHandDesk`, with one table."""

    def find(self, run: str) -> KeptPartitions | PublishedPartitions:
        """Return the kept partitions of a run, or what is published already; nothing is changed.

        Args:
            run: The run's id, or how it begins.

        Raises:
            PublishRefusedError: There is neither, or no audit has rejected them, or newer runs have published all of them.
            StatementError: Snowflake does not answer.
        """
        (table,), runner = self._tables, self._runner(run)
        require_alone(table, run)
        require_no_policies(table)
        kept = kept_candidates(table, self._look(runner), run)
        if not kept and (noted := self._published(runner, run)):
            return PublishedPartitions(table, self._target(table), noted[0].marker.run_id, noted)
        found = self._kept(runner, *the_one_kept(table, kept, run))
        if found.wanted:
            return found
        if found.published:
            noted = tuple(found.notes[key] for key in found.published)
            run_id = found.marker.run_id
            return PublishedPartitions(table, self._target(table), run_id, noted, found.taken_up, found.candidate)
        runs = ", ".join(sorted({short_id(run_id) for run_id in found.superseded.values()}))
        got = f"newer rows of {partition_words(found.part.keys)}, of run {runs}"
        raise not_by_hand(table, "that nothing newer was published since", got, "Materialize the partitions again.")

    def _kept(self, runner: StatementRunner, version: TableVersion, marker: Marker) -> KeptPartitions:
        (table,) = self._tables
        audited_at, part = when_audited(table, marker, version), _slice_of(table, version)
        candidate = candidate_of(table, database=self.database, run_id=marker.run_id)
        noted = self._noted(runner, table, notes_sql(self._target(table), part.keys))
        notes = {note.key: note for note in noted.partitions}
        return KeptPartitions(table, candidate, marker, audited_at, version, part, notes, by_hand_in(version.comment))

    def _published(self, runner: StatementRunner, run: str) -> tuple[PublishedPartition, ...]:
        """Return what readers see of a run that has left no candidate."""
        (table,) = self._tables
        noted = self._noted(runner, table, published_sql(self._target(table))).partitions
        return tuple(note for note in noted if note.marker.run_id.startswith(run))

    def publish(
        self,
        kept: KeptPartitions,
        *,
        person: str,
        waived: Collection[str],
        entered: Callable[[State], None] = lambda _: None,
        note: Callable[[PartitionsByHand], None] = lambda _: None,
    ) -> PartitionsByHand:
        """Publish kept partitions, as far as they get; the outcome says what readers see.

        Args:
            kept: The partitions.
            person: Who publishes them.
            waived: The names of the checks that may fail, besides `changes`.
            entered: Called with each state that is no end, as it begins.
            note: Called with what was published before the candidate is dropped: it alone says who has published them.
        """
        with self._on_its_warehouse(kept.table) as session:
            runner = self._runner(kept.marker.run_id, session)
            looked = self._look_with_clock(runner)
            who = self._person(
                runner, kept.table, looked, name=person, waived=waived, taken_up=kept.taken_up, part=kept.part
            )
            run = KeptSliceRun(kept, who)
            outcome = run.run(entered)
            done = PartitionsByHand(outcome, who.by_hand, theirs=run.theirs)
            done = done if done.published else replace(done, by_hand=None)
            if done.by_hand is not None:
                note(done)
            return replace(done, left=clean_up(runner, outcome) if outcome.in_production else None)

    def drop_what_is_left(self, published: PublishedPartitions) -> str | None:
        """Drop the candidate of rows that readers see already; return why it is still there."""
        return self._drop(published.table, published.candidate, published.run_id)


def _slice_of(table: AnalyticsTable, version: TableVersion) -> Slice:
    """Return the partitions of a candidate, by its comment.

    Raises:
        PublishRefusedError: It names none, or others than the file has now.
    """
    pieces = pieces_in(version.comment)
    if table.partitions is not None and pieces is not None and len(pieces) == 1:
        start, end = pieces[0]
        found = [each for each in table.partitions.partitions(end) if each.start >= start and each.end <= end]
        if found and (found[0].start, found[-1].end) == (start, end):
            return Slice(tuple(found))
    raise not_by_hand(
        table,
        "a candidate whose comment names partitions as its file has them",
        "others" if pieces else "none",
        "Materialize the partitions again.",
    )
