"""Build, audit and publish tables on one Snowflake session: parents first, independent tables at the same time."""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from run_elt_dagster.audit.partitioned import PartitionAuditRunner
from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.audit.runner import AuditRunner, Send
from run_elt_dagster.model.candidate import candidate_of, target_of
from run_elt_dagster.model.groups import groups_of, left_out
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.governance import not_applied
from run_elt_dagster.publish.group_lock import GroupNote
from run_elt_dagster.publish.group_recovery import end_exchange, end_left_exchanges
from run_elt_dagster.publish.group_run import GroupRun
from run_elt_dagster.publish.guards import server_instant
from run_elt_dagster.publish.increment_run import IncrementRun
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.preflight import create_schemas, drop_stale_candidates, read_targets
from run_elt_dagster.publish.progress import Progress
from run_elt_dagster.publish.scheduler import Builders, BuildOrder, GroupNode, Node, end_what_runs
from run_elt_dagster.publish.slice_run import SliceRun, without_partitions
from run_elt_dagster.publish.sources import held_back
from run_elt_dagster.publish.table_run import State, TableRun, clean_up
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import Patience, RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Session, StatementError


def run_tables(
    session: Session,
    catalogue: Catalogue,
    keys: Sequence[Key],
    *,
    run: RunContext,
    options: PublishOptions,
    patience: Patience | None = None,
    slices: Mapping[Key, Slice] | None = None,
    whole: Collection[Key] = (),
    seconds: Callable[[], Mapping[Key, float]] = dict,
    warn: Callable[[str], None] = lambda _: None,
    look: Callable[[Progress], None] = lambda _: None,
) -> Generator[TableOutcome]:
    """Build, audit and publish tables, and yield each outcome as soon as it is known.

    A failed table skips its descendants only. Once a table has passed its audits, the next one is built, since publishing by
    clone or swap takes no warehouse; once it is published, its children are, while its candidate is dropped. Where only one
    table is built at a time, all of that comes first. Interrupting the iteration cancels the session's queries and waits for
    its threads, for END_SECONDS and no longer, so nothing is published afterwards. It reports what is unknown. Repeating a run is safe: production is exchanged whole.

    Args:
        session: Shared by all threads, so a child reads its parent's new version:
            https://docs.snowflake.com/en/sql-reference/parameters#read-consistency-mode
        catalogue: The declared tables.
        keys: Which of them to build.
        run: Who builds them.
        options: How they are built and published.
        patience: How long is waited for what may pass; as usual by default.
        slices: The partitions to build, for each table that has some. The others of its partitions stay as they are.
        whole: The tables with increments that are built whole, and not from where they end.
        seconds: Returns how long tables took the last time, and is called after the first queries; where more are ready than can
            be built at the same time, those come first that the longest way to the end begins with.
        warn: Called with what concerns no single table and stops nothing.
        look: Called with how far the run is, before each outcome and each second while none comes; in the thread that iterates.

    Yields:
        An outcome for every key.

    Raises:
        StatementError: What exists in the target schemas could not be read; nothing was built.
        ValueError: There is a slice for a table without partitions, or one to build whole without increments, or some tables of a
            group without the others; nothing was sent.
    """
    slices = slices or {}
    _require_partitions(catalogue, slices)
    _require_increments(catalogue, whole)
    _require_groups(catalogue, keys)
    work = _Building(
        session, catalogue, run=run, options=options, patience=patience, slices=slices, whole=whole, warn=warn
    )
    work.look_around([catalogue[key] for key in keys])
    limit = options.max_concurrent_tables
    order = BuildOrder(catalogue, keys, seconds())
    progress = work.progress = Progress(len(set(keys)), lambda: order.ready)
    # Twice as many threads: one that publishes or drops a candidate builds no table any more.
    with ThreadPoolExecutor(2 * limit, thread_name_prefix="run_ctas") as pool:
        drop = partial(clean_up, work.runner)
        builders = Builders(pool, order, work.build, work.skip, drop, limit=limit)
        try:
            builders.begin()
            for outcome in builders.outcomes(len(set(keys)), lambda: look(progress)):
                yield outcome
                progress.end(outcome)
            for problem in builders.leftovers():
                warn(problem)
        finally:
            work.stop.set()
            end_what_runs(session, builders, warn=warn)


class _Building:
    """What the threads of one run share, and what each of them does.

    Attributes:
        runner: Sends the statements of the common session.
        stop: Set where the run is interrupted: nothing is sent any more.
        progress: Where the threads note how far they are.
    """

    progress: Progress

    def __init__(
        self,
        session: Session,
        catalogue: Catalogue,
        *,
        run: RunContext,
        options: PublishOptions,
        patience: Patience | None,
        slices: Mapping[Key, Slice],
        whole: Collection[Key],
        warn: Callable[[str], None],
    ) -> None:
        self._session, self._catalogue, self._options, self._patience = session, catalogue, options, patience
        self._slices, self._whole, self._warn = slices, whole, warn
        self.stop = threading.Event()
        self.runner = StatementRunner(session, run, self.stop, patience=patience)
        self._database = session.database
        self._groups: dict[str, GroupRun] = {}

    def look_around(self, tables: Sequence[AnalyticsTable]) -> None:
        """Read what stands under the targets' names, and end what dead runs have left behind.

        Raises:
            StatementError: What exists in the target schemas could not be read.
        """
        self._read_targets(tables)
        runner, options, database = self.runner, self._options, self._database
        ended = end_left_exchanges(runner, self._catalogue, self._inventory, database=database, options=options)
        if ended:
            self._read_targets(tables)
        problems = [each.words for each in ended]
        if options.creates_schemas:
            problems += create_schemas(runner, self._inventory, tables, database=database)
        problems += drop_stale_candidates(
            runner,
            self._inventory,
            self._catalogue.values(),
            database=database,
            older_than_hours=options.keep_candidates_hours,
        )
        if not options.applies_policies and (note := not_applied(tables)):
            problems.append(note)
        for problem in problems:
            self._warn(problem)
        self._groups = {
            name: GroupRun(
                runner, self._catalogue, keys, self._clock, database=database, end_exchange=self._end_exchange
            )
            for name, keys in groups_of(tables).items()
        }

    def build(self, node: Node, audited: Callable[[], None]) -> Sequence[TableOutcome]:
        """Build a table or publish a group, and return what became of it: nothing yet of a table that is held for its group."""
        if isinstance(node, GroupNode):
            return self._groups[node.name].publish()
        table = self._catalogue[node]
        with self.progress.at_work(node) as entered:
            if table.warehouse is None:
                outcome = self._through(self.runner, table, audited, entered)
            else:
                outcome = self._on_its_warehouse(table, audited, entered)
        group = self._group_of(table)
        if outcome is None:
            return []
        return [outcome if group is None else group.end(outcome)]

    def skip(self, key: Key, failed: tuple[Key, ...]) -> TableOutcome:
        """Return the outcome of a table that cannot be built, since others have failed."""
        table = self._catalogue[key]
        run, database = self.runner.run, self._database
        skipped = _skipped(table, failed, run, database=database, production=self._production(table))
        group = self._group_of(table)
        return skipped if group is None else group.end(skipped)

    def _read_targets(self, tables: Sequence[AnalyticsTable]) -> None:
        check_policies = self._options.check_policies
        self._inventory = read_targets(self.runner, tables, database=self._database, check_policies=check_policies)
        self._looked_at = time.monotonic()

    def _clock(self) -> str:
        return server_instant(self._inventory, elapsed_seconds=time.monotonic() - self._looked_at)

    def _end_exchange(self, lock: Relation, note: GroupNote) -> None:
        self._warn(end_exchange(self.runner, self._catalogue, lock, note, options=self._options).words)

    def _group_of(self, table: AnalyticsTable) -> GroupRun | None:
        return self._groups.get(table.publish_group or "")

    def _production(self, table: AnalyticsTable) -> Production:
        return self._inventory.production_at(target_of(table, database=self._database))

    def _on_its_warehouse(
        self, table: AnalyticsTable, audited: Callable[[], None], entered: Callable[[State], None]
    ) -> TableOutcome | None:
        def through(own: Session) -> TableOutcome | None:
            chosen = StatementRunner(own, self.runner.run, self.stop, patience=self._patience)
            return self._through(chosen, table, audited, entered)

        return _on_its_warehouse(self._session, table, through, self.runner.run, production=self._production(table))

    def _through(
        self,
        chosen: StatementRunner,
        table: AnalyticsTable,
        audited: Callable[[], None],
        entered: Callable[[State], None],
    ) -> TableOutcome | None:
        """Take one table as far as it gets, in the way that its file declares. A source that is too old holds its build back."""
        is_whole = table.key in self._whole
        if (group := self._group_of(table)) is not None:
            return group.take(table.key, partial(self._work, chosen), entered=entered, is_whole=is_whole)
        if held := held_back(self._work(chosen, table)):
            return held
        work = self._work(chosen, table)
        if work.part is not None:
            return SliceRun(work, work.part, self._clock).run(entered)
        if table.partitions is not None:
            return without_partitions(work)
        if table.increment is not None:
            return IncrementRun(work, self._clock, is_whole=is_whole).run(entered)
        return TableRun(work, self._clock).run(audited, entered)

    def _work(self, chosen: StatementRunner, table: AnalyticsTable) -> TableWork:
        database, options, part = self._database, self._options, self._slices.get(table.key)
        return TableWork(chosen, table, self._inventory, database=database, options=options, part=part)


@dataclass(frozen=True)
class PublishedAudit:
    """What an audit of a published table found.

    Attributes:
        outcomes: A verdict for every audit of the table, or of each partition; failed ones with the reason where the query failed.
        is_published: Whether there is a table; None if Snowflake did not answer.
    """

    outcomes: tuple[AuditOutcome, ...]
    is_published: bool | None


def audit_published(
    session: Session,
    table: AnalyticsTable,
    *,
    run: RunContext,
    part: Slice | None = None,
) -> PublishedAudit:
    """Audit the table that readers see, as it stands, without building anything.

    Args:
        session: Where it is asked.
        table: The table.
        run: Who asks.
        part: The partitions that are asked, each for itself; None for the whole table.
    """
    target = target_of(table, database=session.database)
    runner = StatementRunner(session, run, threading.Event())
    tag = {"asset": "/".join(table.key), "stage": "audit"}
    if part is not None:
        return _audit_partitions(lambda sql: runner.send(sql, tag=tag), table, target, part)
    auditor = AuditRunner(lambda sql: runner.send(sql, tag=tag), table, target=target, candidate=target)
    try:
        outcomes, inspection = auditor.evaluate()
    except StatementError as error:
        return PublishedAudit(auditor.unanswered(error), None)
    return PublishedAudit(outcomes, inspection.target is not None)


def _audit_partitions(send: Send, table: AnalyticsTable, target: Relation, part: Slice) -> PublishedAudit:
    now = datetime.now(UTC)
    auditor = PartitionAuditRunner(send, table, target=target, candidate=target, part=part, now=now)
    try:
        verdicts = auditor.evaluate()
    except StatementError as error:
        return PublishedAudit(_flat(auditor.unanswered(error)), None)
    return PublishedAudit(_flat(verdicts.outcomes), verdicts.inspection.target is not None)


def _flat(outcomes: Mapping[str, tuple[AuditOutcome, ...]]) -> tuple[AuditOutcome, ...]:
    return tuple(outcome for of_partition in outcomes.values() for outcome in of_partition)


def _require_partitions(catalogue: Catalogue, slices: Collection[Key]) -> None:
    if whole := [catalogue[key].name for key in slices if catalogue[key].partitions is None]:
        raise ValueError(f"a slice requires a table with partitions, got {', '.join(whole)}. Nothing was built.")


def _require_increments(catalogue: Catalogue, whole: Collection[Key]) -> None:
    if others := [catalogue[key].name for key in whole if catalogue[key].increment is None]:
        raise ValueError(f"a rebuild requires a table with increments, got {', '.join(others)}. Nothing was built.")


def _require_groups(catalogue: Catalogue, keys: Collection[Key]) -> None:
    for name, missing in left_out(catalogue, keys).items():
        raise ValueError(
            f"a run requires all tables of publish_group {name}, got it without {', '.join(map('.'.join, missing))}. Nothing was built."
        )


def _skipped(
    table: AnalyticsTable, failed: tuple[Key, ...], run: RunContext, *, database: str, production: Production
) -> TableOutcome:
    return TableOutcome(
        table=table,
        target=target_of(table, database=database),
        candidate=candidate_of(table, database=database, run_id=run.run_id),
        skipped_because=failed,
        production=production,
    )


def _on_its_warehouse(
    session: Session,
    table: AnalyticsTable,
    through: Callable[[Session], TableOutcome | None],
    run: RunContext,
    *,
    production: Production,
) -> TableOutcome | None:
    """Run a table in a session of its own, opened after its parents were published, so it sees them."""
    outcome: TableOutcome | None = None
    is_through = False
    try:
        with session.on_warehouse(table.warehouse or "") as own:
            outcome = through(own)
            is_through = True
    except Exception as error:  # noqa: BLE001 - lost in this thread, the run would wait for ever
        if is_through:
            # Only closing the session failed: what became of the table is known.
            return _refreshed(session, outcome)
        problem = f"no session on warehouse {table.warehouse}: {error}"
        reason = error.reason if isinstance(error, StatementError) else None
        message = (
            f"{table.name} was not built, got {problem}. {production.words} Check that the role may use the warehouse."
        )
        return TableOutcome(
            table=table,
            target=target_of(table, database=session.database),
            candidate=candidate_of(table, database=session.database, run_id=run.run_id),
            failure=Failure("build", message, production, cause=error, problem=problem, reason=reason),
        )
    return _refreshed(session, outcome)


def _refreshed(session: Session, outcome: TableOutcome | None) -> TableOutcome | None:
    """Let the common session see what another one has published: it builds the children.

    If it cannot, none of its statements is sent any more, so the children fail with that error.
    """
    with contextlib.suppress(StatementError):
        session.refresh()
    return outcome
