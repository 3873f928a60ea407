"""The log of publishes of a run: opened with its session, written after its last publish, whatever became of it."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.orchestration.code_versions import code_version
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.runs.trigger import trigger_of
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession

if TYPE_CHECKING:
    # Loading the code location does without what only a run needs.
    from run_elt_dagster.publish.log import PublishLog
    from run_elt_dagster.publish.run import PublishedAudit


class RunLog:
    """What a run notes for the log of publishes; nothing where there is none."""

    def __init__(self, log: "PublishLog | None") -> None:
        self._log = log

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
                yield outcome

    def note_published(self, target: Relation, audit: "PublishedAudit") -> None:
        """Note what the checks of a published table have found, which nothing was built for."""
        if self._log is not None:
            self._log.note_published(target, audit.outcomes)

    def write(self) -> Iterator[str]:
        """Add what was noted, and yield what could not be added, in words."""
        if self._log is not None:
            yield from self._log.write()


@contextmanager
def publish_log(
    context: dg.AssetExecutionContext,
    session: ConnectorSession,
    run: RunContext,
    *,
    options: PublishOptions,
    warn: Callable[[str], None],
) -> Generator[RunLog]:
    """Open the log of a run. It is written when the block ends, also where that fails. An interrupted run logs nothing.

    Args:
        context: Of the op.
        session: Of the run.
        run: Who sends the statements.
        options: Where the log is.
        warn: Called with what could not be logged. That fails no run.
    """
    if not options.log_schema:
        yield RunLog(None)
        return
    from run_elt_dagster.publish.log import LoggedRun, PublishLog  # noqa: PLC0415 - only a run with such a log needs it

    launched_by = " ".join(trigger_of(context.run)).strip()
    facts = LoggedRun(context.run.run_id, context.run.job_name, launched_by, context.retry_number)
    log = RunLog(PublishLog(session, run, facts, schema=options.log_schema, creates=options.creates_schemas))
    try:
        yield log
    except Exception:
        _write(log, warn)
        raise
    _write(log, warn)


def _write(log: RunLog, warn: Callable[[str], None]) -> None:
    for problem in log.write():
        warn(problem)
