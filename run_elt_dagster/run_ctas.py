"""Build, audit and publish tables on one Snowflake session: parents first, independent tables at the same time."""

import graphlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal

from run_elt_dagster.audits import AuditOutcome, audit_sql, audits_of, judge, not_evaluated
from run_elt_dagster.lineage import Catalogue, Key
from run_elt_dagster.publish import (
    Existing,
    PublishRefusedError,
    build_sql,
    candidate_of,
    columns_sql,
    drop_sql,
    existing_sql,
    publish_sql,
    target_of,
)
from run_elt_dagster.relation import Relation
from run_elt_dagster.session import Answer, Session, StatementError
from run_elt_dagster.table import AnalyticsTable

Stage = Literal["build", "audit", "publish", "clean-up"]

# "Object already exists": somebody else published the table for the first time after this run had looked.
OBJECT_EXISTS = 2002
# "SQL compilation error": what an account without COPY TAGS answers to the clause.
SYNTAX_ERROR = 1003

CANCEL_ATTEMPTS = 10
CANCEL_INTERVAL_SECONDS = 2.0


class RunStoppedError(Exception):
    """The run was interrupted: no further statement is sent."""


@dataclass(frozen=True)
class RunOptions:
    """What a run is, and how it goes about its tables.

    Attributes:
        run_id: Dagster's id of the run; names the candidates.
        job: Name of the job, for the tag on every query.
        max_concurrent_tables: Tables that are built at the same time; 1 is strictly one after another.
        copy_tags: Whether publishing by clone keeps the tags of the table that it replaces.
    """

    run_id: str
    job: str = ""
    max_concurrent_tables: int = 8
    copy_tags: bool = True


@dataclass(frozen=True)
class Failure:
    """Why a table was not published.

    Attributes:
        stage: Where it failed.
        message: What failed, the state of production and the remedy. Without row values and secrets.
        query_id: The failed query, if there is one.
        errno: Snowflake's error number, if it gave one.
        cause: The exception, for the log.
        problem: The root cause alone, without the state of production and the remedy.
        production: What readers see now.
    """

    stage: Stage
    message: str
    query_id: str | None = None
    errno: int | None = None
    cause: Exception | None = None
    problem: str = ""
    production: str = ""


@dataclass(frozen=True)
class TableOutcome:
    """What became of a table.

    Attributes:
        table: The table.
        target: What readers see.
        candidate: What was built; still there if the table failed after its build.
        row_count: Rows of the candidate, None if they were not counted.
        audits: A verdict for every audit of the table; empty if its build failed or it was skipped.
        seconds: Duration of each stage that ran.
        query_ids: The last query of each stage that ran.
        warnings: What did not stop the publishing but should be looked at.
        failure: Why it was not published.
        skipped_because: The failed tables that it reads, directly or not; not empty if it was skipped.
    """

    table: AnalyticsTable
    target: Relation
    candidate: Relation
    row_count: int | None = None
    audits: tuple[AuditOutcome, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    query_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    skipped_because: tuple[Key, ...] = ()

    @property
    def published(self) -> bool:
        """Whether readers see the new table."""
        return self.failure is None and not self.skipped_because


class _TableRun:
    """One table on its way through the stages, in one thread."""

    def __init__(
        self,
        session: Session,
        table: AnalyticsTable,
        existing: Existing | None,
        options: RunOptions,
        stop: threading.Event,
    ) -> None:
        self._session = session
        self._stop = stop
        self._table = table
        self._existing = existing
        self._options = options
        self._target = target_of(table, database=session.database)
        self._candidate = candidate_of(table, database=session.database, run_id=options.run_id)
        self._audits: tuple[AuditOutcome, ...] = ()
        self._row_count: int | None = None
        self._seconds: dict[str, float] = {}
        self._query_ids: dict[str, str] = {}
        self._warnings: list[str] = []
        self._stage: Stage = "build"

    def run(self) -> TableOutcome:
        """Take the table as far as it gets."""
        try:
            self._build()
            self._audit()
            failure = self._failed_audit() or self._publish_and_clean_up()
        except StatementError as error:
            failure = self._failed_statement(error)
        except PublishRefusedError as error:
            failure = Failure(self._stage, str(error), problem=str(error), production=self._production())
        except Exception as error:  # noqa: BLE001 - it crosses to the main thread; lost here, the run would wait for ever
            problem = f"{type(error).__name__} in stage {self._stage}: {error}"
            failure = Failure(self._stage, problem, cause=error, problem=problem, production=self._production())
        return TableOutcome(
            table=self._table,
            target=self._target,
            candidate=self._candidate,
            row_count=self._row_count,
            audits=self._audits,
            seconds=self._seconds,
            query_ids=self._query_ids,
            warnings=tuple(self._warnings),
            failure=failure,
        )

    def _execute(self, sql: str) -> Answer:
        if self._stop.is_set():
            raise RunStoppedError(f"the run was interrupted before stage {self._stage}")
        tag = {
            "asset": "/".join(self._table.key),
            "run_id": self._options.run_id,
            "stage": self._stage,
            "job": self._options.job,
        }
        started = time.perf_counter()
        try:
            answer = self._session.execute(sql, tag=tag)
        finally:
            elapsed = time.perf_counter() - started
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + elapsed
        self._query_ids[self._stage] = answer.query_id
        return answer

    def _build(self) -> None:
        self._stage = "build"
        self._execute(build_sql(self._table, self._candidate, run_id=self._options.run_id))

    def _audit(self) -> None:
        self._stage = "audit"
        audits = audits_of(self._table)
        try:
            answer = self._execute(audit_sql(audits, self._candidate))
        except StatementError as error:
            self._audits = not_evaluated(audits, str(error), error.query_id)
            raise
        self._audits = judge(audits, answer.rows[0], answer.query_id)
        self._row_count = self._audits[0].got["rows"]

    def _failed_audit(self) -> Failure | None:
        failed = [outcome for outcome in self._audits if not outcome.passed]
        if not failed:
            return None
        problem, production = "; ".join(map(str, failed)), self._production()
        message = (
            f"{self._table.name} was not published: {problem} in {self._candidate} "
            f"(query {failed[0].query_id}). {production} Fix the SQL or the source, then materialize again; the "
            "candidate is kept for inspection."
        )
        return Failure("audit", message, query_id=failed[0].query_id, problem=problem, production=production)

    def _publish_and_clean_up(self) -> None:
        self._stage = "publish"
        try:
            self._publish()
        except StatementError as error:
            if error.errno != OBJECT_EXISTS or self._existing is not None:
                raise
            # Another run published it first. Look again and replace what stands there now.
            self._existing = find_existing(self._session, [self._table], options=self._options).get(self._table.key)
            self._publish()
        self._stage = "clean-up"
        try:
            self._execute(drop_sql(self._candidate))
        except StatementError as error:
            self._warnings.append(
                f"{self._table.name} is published, but {self._candidate} could not be dropped: {error}"
            )

    def _publish(self) -> None:
        existing, columns = self._existing, ()
        if existing is not None and self._table.publish == "overwrite":
            columns = self._columns(self._candidate)
            existing = Existing(existing.kind, existing.row_count, self._columns(self._target))
        for statement in publish_sql(
            self._table,
            target=self._target,
            candidate=self._candidate,
            existing=existing,
            columns=columns,
            copy_tags=self._options.copy_tags,
        ):
            self._execute(statement)

    def _columns(self, relation: Relation) -> tuple[str, ...]:
        return tuple(str(name) for (name,) in self._execute(columns_sql(relation)).rows)

    def _failed_statement(self, error: StatementError) -> Failure:
        remedy = "Read the query in Snowflake's history, fix the SQL or the grants, then materialize again."
        if error.errno == SYNTAX_ERROR and self._stage == "publish" and self._options.copy_tags:
            remedy = "If the account does not know COPY TAGS, set RUN_ELT_COPY_TAGS=false."
        unknown = self._stage == "publish" and not error.answered
        production = (
            f"Whether readers see the new table is unknown, since no answer came: look for {self._options.run_id} in "
            f"the comment of {self._target}."
            if unknown
            else self._production()
        )
        message = (
            f"{self._table.name} failed in stage {self._stage} (query {error.query_id}): {error} {production} {remedy}"
        )
        return Failure(
            self._stage,
            message,
            query_id=error.query_id,
            errno=error.errno,
            cause=error,
            problem=str(error),
            production=production,
        )

    def _production(self) -> str:
        if self._existing is None:
            return "There is no published table yet."
        rows = "" if self._existing.row_count is None else f" ({self._existing.row_count:,} rows)"
        return f"Readers still see the previous table{rows}."


def find_existing(
    session: Session,
    tables: Sequence[AnalyticsTable],
    *,
    options: RunOptions,
) -> dict[Key, Existing]:
    """Return what stands under the targets' names, by table; one query however many tables there are.

    Raises:
        StatementError: The query failed.
    """
    tag = {"run_id": options.run_id, "stage": "inspect", "job": options.job}
    answer = session.execute(existing_sql(session.database, [table.schema_name for table in tables]), tag=tag)
    return {
        (str(schema).lower(), str(name).lower()): Existing(str(kind), None if count is None else int(count))
        for schema, name, kind, count in answer.rows
        # "mau_summary" in quotes is another table than MAU_SUMMARY, which is the one that is built here.
        if str(schema) == str(schema).upper() and str(name) == str(name).upper()
    }


def run_tables(
    session: Session,
    catalogue: Catalogue,
    keys: Sequence[Key],
    *,
    options: RunOptions,
) -> Iterator[TableOutcome]:
    """Build, audit and publish tables, and yield each outcome as soon as it is known.

    A failed table skips its descendants only. Interrupting the iteration cancels the session's queries and waits for
    its threads, so that nothing is published afterwards. Repeating a run is safe: production is exchanged whole.

    Args:
        session: Shared by all threads, so that a child reads its parent's new version:
            https://docs.snowflake.com/en/sql-reference/parameters#read-consistency-mode
        catalogue: The declared tables.
        keys: Which of them to build.
        options: What the run is.

    Yields:
        An outcome for every key.

    Raises:
        StatementError: What exists in the target schemas could not be read; nothing was built.
    """
    existing = find_existing(session, [catalogue[key] for key in keys], options=options)
    stop = threading.Event()
    done: queue.SimpleQueue[TableOutcome] = queue.SimpleQueue()

    def build(key: Key) -> None:
        done.put(_TableRun(session, catalogue[key], existing.get(key), options, stop).run())

    futures: list[Future[None]] = []
    with ThreadPoolExecutor(options.max_concurrent_tables, thread_name_prefix="run_ctas") as pool:
        order = _Order(catalogue, keys)
        try:
            while order.is_active():
                for key in order.ready():
                    if failed := order.failed_ancestors(key):
                        yield order.finish(_skipped(session, catalogue[key], failed, options))
                    else:
                        futures.append(pool.submit(build, key))
                if order.is_waiting():
                    yield order.finish(done.get())
        finally:
            stop.set()
            _cancel_until_done(session, futures)


def audit_published(
    session: Session,
    table: AnalyticsTable,
    *,
    options: RunOptions,
) -> tuple[AuditOutcome, ...]:
    """Audit the table that readers see, as it stands, without building anything.

    Returns:
        A verdict for every audit of the table; failed ones with the reason where the query failed.
    """
    audits = audits_of(table)
    tag = {"asset": "/".join(table.key), "run_id": options.run_id, "stage": "audit", "job": options.job}
    try:
        answer = session.execute(audit_sql(audits, target_of(table, database=session.database)), tag=tag)
    except StatementError as error:
        return not_evaluated(audits, str(error), error.query_id)
    return judge(audits, answer.rows[0], answer.query_id)


class _Order:
    """Which tables can be built now, and which cannot be built any more."""

    def __init__(self, catalogue: Catalogue, keys: Sequence[Key]) -> None:
        chosen = set(keys)
        self._parents = {key: [parent for parent in catalogue.parents(key) if parent in chosen] for key in keys}
        self._sorter = graphlib.TopologicalSorter(self._parents)
        self._sorter.prepare()
        self._running = 0
        # For every table that was not published, the failed tables that are to blame.
        self._blame: dict[Key, tuple[Key, ...]] = {}

    def is_active(self) -> bool:
        return self._sorter.is_active()

    def ready(self) -> tuple[Key, ...]:
        keys = self._sorter.get_ready()
        self._running += len(keys)
        return keys

    def is_waiting(self) -> bool:
        return self._running > 0

    def failed_ancestors(self, key: Key) -> tuple[Key, ...]:
        return tuple(sorted({failed for parent in self._parents[key] for failed in self._blame.get(parent, ())}))

    def finish(self, outcome: TableOutcome) -> TableOutcome:
        key = outcome.table.key
        if not outcome.published:
            self._blame[key] = outcome.skipped_because or (key,)
        self._running -= 1
        self._sorter.done(key)
        return outcome


def _skipped(session: Session, table: AnalyticsTable, failed: tuple[Key, ...], options: RunOptions) -> TableOutcome:
    return TableOutcome(
        table=table,
        target=target_of(table, database=session.database),
        candidate=candidate_of(table, database=session.database, run_id=options.run_id),
        skipped_because=failed,
    )


def _cancel_until_done(session: Session, futures: Sequence[Future[None]]) -> None:
    """End what still runs after an interruption; without one, nothing does and nothing is sent.

    Once is not enough: a thread may send its next statement just after the cancelling. It sends no other, since it
    looks for the stop before each.
    """
    for future in futures:
        future.cancel()
    for _ in range(CANCEL_ATTEMPTS):
        if not wait(futures, timeout=0).not_done:
            return
        session.cancel()
        wait(futures, timeout=CANCEL_INTERVAL_SECONDS)
