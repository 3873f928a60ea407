"""Publish the candidate that a run had rejected and kept: a person has looked at what its checks found, and wants it.

It goes the way of a run from the audit on (`publish.table_run`), so its order, its locks and its looks after a lost answer are those of a
run. What a run does once, people may do twice at the same moment: a table with `publish: swap` is exchanged by a clone here, since a
second swap would bring the old rows back.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from run_elt_dagster.audit.catalogue import Inspection
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.audit.runner import AuditRunner
from run_elt_dagster.model.candidate import ByHand, Marker, by_hand_in, candidate_of, target_of
from run_elt_dagster.model.increment import Start
from run_elt_dagster.model.names import Relation, short_id
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.by_hand import (
    NOTHING_CHANGED,
    RAISE_THE_LIMIT,
    ByHandDesk,
    Person,
    kept_candidates,
    not_by_hand,
    require_alone,
    require_no_policies,
    the_one_kept,
    when_audited,
)
from run_elt_dagster.publish.guards import TargetInventory
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.table_run import State, TableRun, clean_up
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError


@dataclass(frozen=True)
class Kept:
    """A candidate that its run has rejected.

    Attributes:
        table: The table.
        marker: Its run, in the state `failed`; in the state `run` where an earlier command was ended while it published it.
        audited_at: When its audit had ended, by Snowflake's clock.
        version: What stands there.
        standing: What readers see.
        taken_up: Who was publishing it when a command was ended; None where nobody was.
        start: Where the increment begins that it has; None of a whole table.
        base: The run of the rows that the increment begins after; None where it is not known, and of a whole table.
    """

    table: AnalyticsTable
    marker: Marker
    audited_at: str
    version: TableVersion
    standing: TableVersion | None
    taken_up: ByHand | None = None
    start: Start | None = None
    base: Marker | None = None


@dataclass(frozen=True)
class Published:
    """What readers see already: the rows of the run.

    Attributes:
        table: The table.
        target: Where it is.
        version: What stands there.
        by_hand: Who has published it; None where its run has.
        candidate: What is left of the run's candidate; None where it is gone.
        is_part: Whether the rows were merged into those of other runs.
    """

    table: AnalyticsTable
    target: Relation
    version: TableVersion
    by_hand: ByHand | None
    candidate: Relation | None = None
    is_part: bool = False

    @property
    def run_id(self) -> str:
        """The run of the rows."""
        return self.version.marker.run_id if self.version.marker is not None else ""


def kept_or_published(
    table: AnalyticsTable, inventory: TargetInventory, run: str, *, database: str, with_group: bool = False
) -> Kept | Published:
    """Return the kept candidate of a run, or what readers see if it is published already.

    Args:
        table: The table.
        inventory: What its schema holds.
        run: The run's id, or how it begins.
        database: The session's database.
        with_group: Whether the other tables of its group are published with it.

    Raises:
        PublishRefusedError: There is neither, or the candidate was not rejected by an audit, or something newer is published.
    """
    if table.is_in_parts:
        # Its comment does not say whose rows readers see.
        got = f"one whose {table.method}s are exchanged in place"
        raise not_by_hand(table, "a table that is built whole", got, RAISE_THE_LIMIT)
    if not with_group:
        require_alone(table, run)
    require_no_policies(table)
    target = target_of(table, database=database)
    standing = inventory.at(target)
    kept = kept_candidates(table, inventory, run)
    if standing is not None and _is_of_run(standing.marker, run):
        left = next((candidate_of(table, database=database, run_id=marker.run_id) for _, marker in kept), None)
        return Published(table, target, standing, by_hand_in(standing.comment), left)
    version, marker = the_one_kept(table, kept, run)
    _require_nothing_newer(table, marker, standing)
    taken_up = by_hand_in(version.comment)
    return Kept(table, marker, when_audited(table, marker, version), version, standing, taken_up)


def _is_of_run(marker: Marker | None, run: str) -> bool:
    return marker is not None and marker.state == "run" and marker.run_id.startswith(run)


def _require_nothing_newer(table: AnalyticsTable, marker: Marker, standing: TableVersion | None) -> None:
    live = standing.marker if standing is not None else None
    if standing is None or live is None or live.order <= marker.order or live.state not in ("run", "rollback"):
        return
    got = f"run {short_id(live.run_id)} with a newer snapshot, {standing.words}"
    raise not_by_hand(table, "that nothing newer was published since", got, "Materialize the table again.")


class KeptRun(TableRun):
    """Takes a kept candidate from its audit on, as a run takes one that it has built.

    Args:
        kept: The candidate.
        person: Who publishes it.
    """

    def __init__(self, kept: Kept, person: Person) -> None:
        super().__init__(person.work, person.clock)
        self._kept, self._person = kept, person

    def _build(self) -> State:
        """Take the candidate as it stands."""
        work, kept = self.work, self._kept
        work.snapshot_at, work.audited_at = kept.marker.at, kept.audited_at
        self._is_built = True
        return State.AUDIT

    def _audit(self) -> State:
        state = super()._audit()
        if state is State.WAIT_FOR_NEWER:
            self._person.require_its_rows()
            self._person.signs(self._audits)
        return state

    def _evaluated(self, auditor: AuditRunner) -> tuple[tuple[AuditOutcome, ...], Inspection]:
        """Ask everything again: what other tables have, and how old the rows are, may be different by now."""
        outcomes, inspection = super()._evaluated(auditor)
        return self._person.waiving(outcomes), inspection


def by_clone(table: AnalyticsTable) -> AnalyticsTable:
    """Return a table that is exchanged by a clone in the place of a swap. In a group, its lock lets nobody exchange it twice."""
    return table.model_copy(update={"publish": "clone"}) if table.publish == "swap" else table


def require_checks(tables: Sequence[AnalyticsTable], names: Sequence[str]) -> None:
    """Require names of checks that one of some tables has.

    Raises:
        ValueError: One is none.
    """
    known = list(dict.fromkeys(audit.name for table in tables for audit in audits_of(table)))
    if others := [name for name in names if name not in known]:
        raise ValueError(
            f"run-elt publish --check requires checks of {', '.join(table.name for table in tables)}, got {', '.join(others)}. "
            f"{NOTHING_CHANGED} {'It has' if len(tables) == 1 else 'They have'} {', '.join(known)}."
        )


@dataclass(frozen=True)
class ByHandOutcome:
    """What became of a kept candidate.

    Attributes:
        outcome: As of a run.
        by_hand: Who has published it, None where it is not published.
        left: What could not be cleaned up, in words; None where nothing is left.
    """

    outcome: TableOutcome
    by_hand: ByHand | None
    left: str | None = None


class Publisher(ByHandDesk):
    """Publishes kept candidates of one table in one session. The arguments are those of a `ByHandDesk`, with one table."""

    def find(self, run: str) -> Kept | Published:
        """Return the kept candidate of a run, or what is published already; nothing is changed.

        Raises:
            PublishRefusedError: There is neither.
            StatementError: Snowflake does not answer.
        """
        (table,) = self._tables
        return kept_or_published(table, self._look(self._runner(run)), run, database=self.database)

    def publish(
        self,
        kept: Kept,
        *,
        person: str,
        waived: Collection[str],
        entered: Callable[[State], None] = lambda _: None,
        note: Callable[[ByHandOutcome], None] = lambda _: None,
    ) -> ByHandOutcome:
        """Publish a kept candidate, as far as it gets; its outcome says what readers see.

        Args:
            kept: The candidate.
            person: Who publishes it.
            waived: The names of the checks that may fail, besides `changes`.
            entered: Called with each state that is no end, as it begins.
            note: Called with what was published before the candidate is dropped: of an increment, it alone says who has published it.
        """
        with self._on_its_warehouse(kept.table) as session:
            runner = self._runner(kept.marker.run_id, session)
            table, looked = by_clone(kept.table), self._look_with_clock(runner)
            who = self._person(runner, table, looked, name=person, waived=waived, taken_up=kept.taken_up)
            outcome, by_hand = self._take(kept, who, entered), who.by_hand
            if outcome.published and kept.start is None:
                by_hand = self._named_to_readers(runner, kept) or by_hand
            done = ByHandOutcome(outcome, by_hand if outcome.published else None)
            if done.by_hand is not None:
                note(done)
            return replace(done, left=clean_up(runner, outcome) if outcome.in_production else None)

    def _named_to_readers(self, runner: StatementRunner, kept: Kept) -> ByHand | None:
        """Return who has published the rows by the comment that readers see; None if Snowflake does not tell.

        Two people may sign one candidate. The exchange of the one then carries the name of the other, and the log would have both.
        """
        with suppress(StatementError):
            standing = self._look(runner).at(self._target(kept.table))
            if standing is not None and _is_of_run(standing.marker, kept.marker.run_id):
                return by_hand_in(standing.comment)
        return None

    def _take(self, kept: Kept, person: Person, entered: Callable[[State], None]) -> TableOutcome:
        """Take a kept candidate as far as it gets."""
        return KeptRun(kept, person).run(lambda: None, entered)

    def drop_what_is_left(self, published: Published) -> str | None:
        """Drop the candidate of rows that readers see already; return why it is still there."""
        return self._drop(published.table, published.candidate, published.run_id)

    def _look(self, runner: StatementRunner) -> TargetInventory:
        (table,) = self._tables
        check_policies = self._options.check_policies
        return read_targets(runner, [by_clone(table)], database=self.database, check_policies=check_policies)
