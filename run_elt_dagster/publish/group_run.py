"""The tables of one group in one run: each is built and audited by itself, and then they are published together or not at all."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from run_elt_dagster.model.candidate import Marker, candidate_of
from run_elt_dagster.model.groups import reading_candidates
from run_elt_dagster.model.lineage import Catalogue, own_key
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.building import mark_as_failed
from run_elt_dagster.publish.failures import failure_of
from run_elt_dagster.publish.group_exchange import (
    GroupExchange,
    TableOfGroupError,
    about,
    is_exchanged,
    is_overtaken,
    of_another_run,
)
from run_elt_dagster.publish.group_lock import Act, GroupLock, GroupNote, lock_of
from run_elt_dagster.publish.group_recovery import EndExchange
from run_elt_dagster.publish.group_transaction import GroupTransaction, is_in_one_transaction
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.increment_run import IncrementRun
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.rivals import SupersededError, newer_builds, wait_for_newer_builds
from run_elt_dagster.publish.slice_run import SliceRun, without_partitions
from run_elt_dagster.publish.sources import held_back
from run_elt_dagster.publish.table_run import EXCHANGES, State, TableRun, take_another_target
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError

Held = TableRun | SliceRun | IncrementRun
"""A table that is audited, and waits for the others."""


def in_group(catalogue: Catalogue, key: Key, group: Sequence[Key], *, database: str, run_id: str) -> AnalyticsTable:
    """Return a table as a run builds it: its SQL reads the candidates of those of its group that it reads.

    Args:
        catalogue: The declared tables.
        key: The table.
        group: The tables of its group.
        database: Stored name of the session's database.
        run_id: The run.

    Raises:
        ValueError: Its SQL would still read what is published.
    """
    parents = [catalogue[parent] for parent in catalogue.parents(key) if parent in group]
    candidates = {own_key(parent): candidate_of(parent, database=database, run_id=run_id) for parent in parents}
    return reading_candidates(catalogue[key], candidates)


class GroupRun:
    """One group in one run. Its tables are held one by one, from any thread; then one thread publishes them.

    Args:
        runner: Sends the statements of the common session.
        catalogue: The declared tables.
        keys: The tables of the group, all of them.
        clock: Returns Snowflake's time as markers have it.
        database: Stored name of the session's database.
        end_exchange: Ends what a dead run has begun in the place of its note.
        by: Who publishes it by hand; empty for the run itself.
    """

    def __init__(
        self,
        runner: StatementRunner,
        catalogue: Catalogue,
        keys: Sequence[Key],
        clock: Callable[[], str],
        *,
        database: str,
        end_exchange: EndExchange = lambda _lock, _note: None,
        by: str = "",
    ) -> None:
        self._by = by
        self._runner, self._catalogue, self._database = runner, catalogue, database
        self._tables = [catalogue[key] for key in keys]
        self.name = self._tables[0].publish_group or ""
        self._clock, self._began_at = clock, ""
        self._lock = threading.Lock()
        self._held: dict[Key, Held] = {}
        self._is_in_one_transaction = is_in_one_transaction(self._tables)
        self._ended: dict[Key, TableOutcome] = {}
        self._end_exchange = end_exchange
        # Broken files of the group: none of its tables is published while one of them cannot be built.
        self._unprotected: Mapping[Key, PublishRefusedError] = {}
        self._broken = tuple(key for key, broken in catalogue.broken.items() if broken.publish_group == self.name)

    def clock(self) -> str:
        """Return when the first table of the group began: all of them have one snapshot, so two runs agree which is newer."""
        with self._lock:
            self._began_at = self._began_at or self._clock()
            return self._began_at

    def table(self, key: Key) -> AnalyticsTable:
        """Return a table whose SQL reads the candidates of those of its group that it reads.

        Raises:
            ValueError: Its SQL would still read what is published.
        """
        keys = [table.key for table in self._tables]
        return in_group(self._catalogue, key, keys, database=self._database, run_id=self._runner.run.run_id)

    def take(
        self,
        key: Key,
        work_on: Callable[[AnalyticsTable], TableWork],
        *,
        entered: Callable[[State], None],
        is_whole: bool = False,
    ) -> TableOutcome | None:
        """Build and audit a table, and hold it for the others.

        Args:
            key: The table.
            work_on: Returns what is known of a table before anything is done for it.
            entered: Called with each state that is no end, as it begins.
            is_whole: Whether a table with increments is built whole.

        Returns:
            What became of it where it cannot be published; None where it is held.
        """
        try:
            table, problem = self.table(key), None
        except ValueError as error:
            table, problem = self._catalogue[key], error
        if held := held_back(work_on(self._catalogue[key])):
            return held
        work = work_on(table)
        if table.partitions is not None and work.part is None:
            return without_partitions(work)
        run = self._run(work, is_whole=is_whole)
        run.work.is_read_in_group = any(key in self._catalogue.parents(other.key) for other in self._tables)
        run.work.is_in_one_transaction = self._is_in_one_transaction
        if problem is not None:
            return replace(run.outcome(), failure=failure_of(run.work, problem))
        return self.hold(key, run, entered)

    def _run(self, work: TableWork, *, is_whole: bool) -> Held:
        if work.part is not None:
            return SliceRun(work, work.part, self.clock)
        if work.table.increment is not None:
            return IncrementRun(work, self.clock, is_whole=is_whole)
        return TableRun(work, self.clock)

    def hold(self, key: Key, run: Held, entered: Callable[[State], None]) -> TableOutcome | None:
        """Take a table to the end of its audit, and hold it for the others. It returns what `take` does."""
        outcome = run.hold(entered)
        if outcome is None:
            with self._lock:
                self._held[key] = run
        return outcome

    def end(self, outcome: TableOutcome) -> TableOutcome:
        """Note a table that cannot be published, and return what became of it, with the table as it is declared."""
        with self._lock:
            self._ended[outcome.table.key] = outcome
        return replace(outcome, table=self._catalogue[outcome.table.key])

    def publish(self) -> list[TableOutcome]:
        """Publish the held tables, or say why not; nothing is raised.

        Returns:
            An outcome for each of them, parents first.
        """
        works = [held.work for held in self._held.values()]
        for work in works:
            work.runner, work.stage = self._runner, "publish"
        if blamed := self._blamed():
            return self._held_back(blamed)
        if not works:
            # A newer run has published each of them while it was audited.
            return []
        try:
            if self._is_in_one_transaction:
                broken = self._publish_in_one_transaction(works)
                failures = {key: self._held[key].failed_by(error) for key, error in broken.items()}
                return [replace(each, failure=failures.get(key)) for key, each in self._outcomes().items()]
            superseded = self._publish(works)
        except TableOfGroupError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - it crosses to the main thread; lost here, the run would wait for ever
            return self._failed(TableOfGroupError(works[0], error))
        return [
            replace(
                outcome,
                superseded_by=superseded[key].run_id if key in superseded else None,
                failure=self._failure_after(key),
            )
            for key, outcome in self._outcomes().items()
        ]

    def _failure_after(self, key: Key) -> Failure | None:
        """Return the failure of a table that was published, and lacks its policies."""
        error = self._unprotected.get(key)
        return failure_of(self._held[key].work, error) if error is not None else None

    def _blamed(self) -> tuple[Key, ...]:
        """Return the failed tables and the broken files that keep the group from being published."""
        blamed = dict.fromkeys(self._broken)
        for key, outcome in self._ended.items():
            if not outcome.in_production:
                blamed.update(dict.fromkeys(outcome.blamed or (key,)))
        return tuple(sorted(blamed))

    def _publish(self, works: Sequence[TableWork]) -> Mapping[Key, Marker]:
        """Publish, and return the tables that a newer run has published instead.

        Raises:
            TableOfGroupError: One of them could not be published.
        """
        for _ in range(EXCHANGES):
            if superseded := self._let_newer_go_first(works):
                return superseded
            lock, is_done = self._taken_lock(works[0]), False
            try:
                if is_done := self._stand_still(works):
                    self._exchange(works, lock)
            finally:
                was_held = self._release(lock, works)
            if is_done and not was_held:
                self._require_published(works, lock)
            if is_done:
                return {}
        raise TableOfGroupError(works[0], self._moving(works[0]))

    def _publish_in_one_transaction(self, works: Sequence[TableWork]) -> Mapping[Key, Exception]:
        """Publish tables whose rows are exchanged in one transaction. Their notes keep the order of runs, so nobody waits for a newer one.

        Returns:
            What was raised after the commit, by the table.

        Raises:
            TableOfGroupError: They could not be published.
        """
        if newer := next((each.superseded_by for each in self._ended.values() if each.superseded_by), None):
            raise TableOfGroupError(works[0], of_another_run(works[0], Marker("run", newer)))
        lock = self._taken_lock(works[0])
        exchange = GroupTransaction(self._runner.unstoppable(), list(self._held.values()), lock)
        try:
            exchange.publish()
        finally:
            self._is_open = exchange.is_open
            self._release(lock, works)
        return exchange.broken_after

    def _let_newer_go_first(self, works: Sequence[TableWork]) -> dict[Key, Marker]:
        superseded: dict[Key, Marker] = {}
        ended = [outcome.superseded_by for outcome in self._ended.values() if outcome.superseded_by is not None]
        for work in works:
            with about(work):
                work.inspect()
                take_another_target(work)
                try:
                    wait_for_newer_builds(work)
                except SupersededError as error:
                    superseded[work.table.key] = error.marker
        newer = next(iter(superseded.values()), None) or (Marker("run", ended[0]) if ended else None)
        if newer is not None and (left := [work for work in works if work.table.key not in superseded]):
            raise TableOfGroupError(left[0], of_another_run(left[0], newer))
        return superseded

    def _taken_lock(self, work: TableWork) -> GroupLock:
        """Take the lock of the group, as soon as nobody else has it.

        Raises:
            TableOfGroupError: Somebody does not give it back.
        """
        lock = self._new_lock(work)
        with about(work):
            while (holder := lock.take()) is not None:
                self._waited = self._give_way(work, lock, holder, waited=self._waited)
        return lock

    # How long all of it was waited for the lock, in seconds.
    _waited = 0.0

    def _new_lock(self, work: TableWork) -> GroupLock:
        names = tuple(table.name for table in self._tables)
        since = self._clock() if self._by else ""
        act: Act = "writes" if self._is_in_one_transaction else "exchanges"
        note = GroupNote(self.name, self._runner.run.run_id, work.snapshot_at, names, act, self._by, since)
        relation = lock_of(self.name, self._tables, database=self._database)
        return GroupLock(self._runner.unstoppable(), relation, note)

    def _give_way(self, work: TableWork, lock: GroupLock, holder: GroupNote, *, waited: float) -> float:
        """Wait for who exchanges the group; where a run is dead, end what it has begun. Return how long all of it was waited.

        Raises:
            PublishRefusedError: It does not end.
        """
        if holder.is_over(self._runner.run.is_live, now=self._clock()):
            self._end_exchange(lock.relation, holder)
            left = lock.holder()
            if left is not None and left.exchange == holder.exchange:
                # It could not be ended. This run exchanges all of the tables, so what was half done is whole afterwards.
                lock.release(left)
            return waited
        if waited >= work.patience.wait_seconds:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires that one run at a time publishes publish_group {self.name}",
                    f"{holder.holder} that has held {lock.relation} for {waited:g} s",
                    "Repeat that command if it was killed, then materialize again."
                    if holder.by
                    else f"Look what that run does. Where it is over, drop {lock.relation}, then materialize again.",
                    reason=Reason.NEWEST_LAST,
                )
            )
        self._runner.wait(work.patience.poll_seconds)
        return waited + work.patience.poll_seconds

    def _stand_still(self, works: Sequence[TableWork]) -> bool:
        """Look again under the lock, and return whether nothing has come in between.

        Raises:
            TableOfGroupError: A candidate is gone, and no newer run is to blame; or the rows are published already.
        """
        for work in works:
            with about(work):
                work.inspect()
                if is_exchanged(work):
                    raise self._published_by_another(work)
                try:
                    if newer_builds(work) or work.has_target_come_or_gone:
                        return False
                except SupersededError:
                    return False
                if not work.has_candidate:
                    raise self._moving(work)
        return True

    def _exchange(self, works: Sequence[TableWork], lock: GroupLock) -> None:
        firsts = [work for work in works if work.existing is None]
        exchange = GroupExchange(self._runner.unstoppable(), works, lock, firsts=firsts)
        try:
            exchange.publish()
        finally:
            self._is_open, self._unprotected = exchange.is_open, exchange.unprotected

    # Whether some tables may be exchanged and others not.
    _is_open = False

    def _release(self, lock: GroupLock, works: Sequence[TableWork]) -> bool:
        """Give the lock back; return whether this run had it until then."""
        if self._is_open:
            return True
        try:
            return lock.release()
        except StatementError as error:
            works[0].warnings.append(
                f"publish_group {self.name}: {lock.relation} could not be dropped: {error}. The next run of the group drops it."
            )
        return True

    def _require_published(self, works: Sequence[TableWork], lock: GroupLock) -> None:
        """Require that readers see the rows of this run, or newer ones, where somebody has taken its lock while it published.

        Raises:
            TableOfGroupError: They do not, or Snowflake does not say.
        """
        for work in works:
            with about(work):
                work.is_unknown = True
                work.inspect()
                work.is_unknown = False
        if lost := [work for work in works if not (is_exchanged(work) or is_overtaken(work))]:
            self._is_open = True
            raise TableOfGroupError(lost[0], PublishRefusedError(lock.lost()))

    def _moving(self, work: TableWork) -> PublishRefusedError:
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} requires that nobody else changes the tables of publish_group {self.name} while they are published",
                f"no {work.candidate}"
                if not work.has_candidate
                else f"targets that have come or gone {EXCHANGES} times",
                "Find in Snowflake's history who does, then materialize again.",
                seen=work.production.words,
                reason=Reason.TARGET_CHANGES,
            )
        )

    def _published_by_another(self, work: TableWork) -> PublishRefusedError:
        """Return why the same candidates must not be published twice: a second swap would bring the old rows back."""
        rule, remedy = "that nobody ends its exchange while it goes on", "Nothing is left to do: readers see its rows."
        subject = f"run {self._runner.run.run_id} of publish_group {self.name}"
        if self._by:
            subject, rule = f"publishing publish_group {self.name} by hand", "that nobody else does at the same time"
            remedy = "Repeat the command: it says what readers see."
        return PublishRefusedError(
            Refusal(
                f"{subject} requires {rule}",
                f"the rows of run {self._runner.run.run_id} in {work.target} already",
                remedy,
                seen=work.production.words,
                reason=Reason.TARGET_CHANGES,
            )
        )

    def _outcomes(self) -> dict[Key, TableOutcome]:
        return {key: replace(held.outcome(), table=self._catalogue[key]) for key, held in self._held.items()}

    def _held_back(self, blamed: tuple[Key, ...]) -> list[TableOutcome]:
        for held in self._held.values():
            mark_as_failed(held.work)
        return [
            replace(outcome, held_back_by=blamed, production=self._held[key].production)
            for key, outcome in self._outcomes().items()
        ]

    def _failed(self, error: TableOfGroupError) -> list[TableOutcome]:
        """Return the outcomes after an exchange that failed: the failure of one table, and the others held back because of it."""
        blamed = error.work.table.key
        failure = self._held[blamed].failed_by(error.cause)
        if self._is_open:
            # Their candidates are what the next look goes on with.
            return [
                replace(outcome, failure=self._half(self._held[key], failure))
                for key, outcome in self._outcomes().items()
            ]
        outcomes = {outcome.table.key: outcome for outcome in self._held_back((blamed,))}
        outcomes[blamed] = replace(outcomes[blamed], failure=failure, held_back_by=(), production=None)
        return list(outcomes.values())

    def _half(self, held: Held, failure: Failure) -> Failure:
        work, seen = held.work, held.production
        done = "is published" if is_exchanged(work) else "is not published, or may not be"
        problem = f"publish_group {self.name} is published in part, and {work.table.name} {done}: {failure.problem}"
        if self._is_in_one_transaction:
            problem = f"publish_group {self.name} is published in one transaction, and whether it was committed is unknown: {failure.problem}"
        remedy = "The next run, the next look of the daemon or run-elt doctor ends it: all tables passed their checks."
        return replace(
            failure,
            message=f"{problem} {seen.words} {remedy}",
            problem=problem,
            production=seen,
            reason=Reason.GROUP_HALF_PUBLISHED,
        )
