"""The log of publishes of a run: opened with its session, written after its last publish, whatever became of it.

A run that is interrupted writes nothing: who ends a run waits for its end. A tag says so, and the next run writes it.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.orchestration.code_versions import code_version
from run_elt_dagster.orchestration.unlogged import interrupted_rows, unlogged_runs
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.runs.history import whole_run_id
from run_elt_dagster.runs.tags import UNLOGGED
from run_elt_dagster.runs.trigger import trigger_of
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession

if TYPE_CHECKING:
    # Loading the code location does without what only a run needs.
    from run_elt_dagster.publish.log import PublishLog, Row
    from run_elt_dagster.publish.run import PublishedAudit


class RunLog:
    """What a run notes for the log of publishes; nothing where there is none."""

    def __init__(self, log: "PublishLog | None", instance: dg.DagsterInstance) -> None:
        self._log, self._instance = log, instance

    def noting(self, outcomes: Generator[TableOutcome], slices: Mapping[Key, Slice]) -> Generator[TableOutcome]:
        """Yield outcomes and note each.

        Args:
            outcomes: They are closed with the iteration.
            slices: The partitions to build, for each table that has some.
        """
        with closing(outcomes):
            for outcome in outcomes:
                if self._log is not None:
                    part = slices.get(outcome.table.key)
                    keys = part.keys if part is not None else ()
                    self._log.note(outcome, code_version=code_version(outcome.table), keys=keys)
                    path = outcome.table.asset_path
                    self._log.note_before(outcome, partial(whole_run_id, self._instance, path))
                yield outcome

    def note_published(self, target: Relation, audit: "PublishedAudit") -> None:
        """Note what the checks of a published table have found, which nothing was built for."""
        if self._log is not None:
            self._log.note_published(target, audit.outcomes)


@contextmanager
def publish_log(
    context: dg.AssetExecutionContext,
    session: ConnectorSession,
    run: RunContext,
    *,
    tables: Catalogue,
    options: PublishOptions,
    warn: Callable[[str], None],
) -> Generator[RunLog]:
    """Open the log of a run. It is written when the block ends, also where that fails. An interrupted run logs nothing.

    Args:
        context: Of the op.
        session: Of the run.
        run: Who sends the statements.
        tables: The declared tables.
        options: Where the log is.
        warn: Called with what could not be logged. That fails no run.
    """
    if not options.log_schema:
        yield RunLog(None, context.instance)
        return
    from run_elt_dagster.publish.log import PUBLISHES, LoggedRun, PublishLog, log_table  # noqa: PLC0415 - only a run with such a log needs it

    launched_by = " ".join(trigger_of(context.run)).strip()
    facts = LoggedRun(context.run.run_id, context.run.job_name, launched_by, context.retry_number)
    log = PublishLog(session, run, facts, schema=options.log_schema, creates=options.creates_schemas)
    place = str(log_table(PUBLISHES, options.log_schema, database=session.database))
    unlogged = _Unlogged(context.instance, f"{session.database} {place}", context.run.run_id)
    unlogged.begin()
    try:
        yield RunLog(log, context.instance)
    except Exception:
        _write(log, unlogged, tables, session.database, warn)
        raise
    _write(log, unlogged, tables, session.database, warn)


class _Unlogged:
    """The tags of runs that have not written a log. Where Dagster's storage is away, no later run writes it."""

    def __init__(self, instance: dg.DagsterInstance, log: str, run_id: str) -> None:
        self._instance, self._log, self._run_id = instance, log, run_id
        self._found: list[dg.RunRecord] = []

    def begin(self) -> None:
        """Say that this run has not written it."""
        with contextlib.suppress(Exception):
            self._instance.add_run_tags(self._run_id, {UNLOGGED: self._log})

    def rows(self, tables: Catalogue, *, database: str) -> "list[Row]":
        """Return the rows of the runs that were interrupted before they wrote it."""
        rows: list[Row] = []
        with contextlib.suppress(Exception):
            for record in unlogged_runs(self._instance, self._log, now=self._run_id):
                rows += list(interrupted_rows(self._instance, record, tables, database=database))
                self._found.append(record)
        return rows

    def end(self, *, is_written: bool) -> None:
        """Say that it is written, of this run whatever came of it, and of the others only if their rows are there."""
        others = [record.dagster_run.run_id for record in self._found] if is_written else []
        with contextlib.suppress(Exception):
            for run_id in (self._run_id, *others):
                self._instance.add_run_tags(run_id, {UNLOGGED: ""})


def _write(
    log: "PublishLog", unlogged: _Unlogged, tables: Catalogue, database: str, warn: Callable[[str], None]
) -> None:
    log.add(unlogged.rows(tables, database=database))
    problems = list(log.write())
    unlogged.end(is_written=not problems)
    for problem in problems:
        warn(problem)
