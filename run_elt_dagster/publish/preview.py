"""Build a table's candidate as its file stands, to look at it. Nothing publishes it, and it is dropped at the end.

Its comment has the state `preview`: no run waits for it, and what a killed process leaves is dropped like every old candidate.
"""

import contextlib
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager

from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.building import in_the_file
from run_elt_dagster.publish.failures import failed_statement
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.guards import PublishRefusedError, inventory_of, inventory_sql, server_instant
from run_elt_dagster.publish.increment_run import find_start, increment_auditor
from run_elt_dagster.publish.preflight import create_schemas
from run_elt_dagster.publish.slice_run import partition_auditor
from run_elt_dagster.publish.statements import build_sql, drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Answer, Session, StatementError

_NEVER_PUBLISHED = "Nothing publishes it, so it would never get them."


@contextmanager
def built(
    session: Session,
    table: AnalyticsTable,
    *,
    job: str,
    options: PublishOptions,
    part: Slice | None = None,
    is_whole: bool = False,
    keep: bool = False,
    warn: Callable[[str], None],
) -> Generator[TableWork]:
    """Yield the work on a table's candidate, as the table's file stands; the tables that it reads are the published ones.

    The candidate is dropped at the end, also after an interruption.

    Args:
        session: An open session.
        table: The table.
        job: The command, for the tag on the queries.
        options: How tables are built.
        part: The partitions that are built; None for a table without them.
        is_whole: Whether a table with increments is built whole, and not from where it ends.
        keep: Whether the candidate stays.
        warn: Called where the candidate could not be dropped.

    Raises:
        ValueError: The candidate could not be built; readers see what they saw.
        StatementError: What exists in the target schema could not be read.
    """
    run = RunContext(str(uuid.uuid4()), job)
    with _on_its_warehouse(session, table) as own:
        runner = StatementRunner(own, run, threading.Event())
        work = _work(runner, table, part, database=own.database, options=options)
        try:
            _build(work, is_whole=is_whole)
            yield work
        except Exception:
            raise
        except BaseException:
            # Otherwise its CTAS could end after the candidate was dropped.
            with contextlib.suppress(Exception):
                session.cancel()
            raise
        finally:
            if not keep:
                _drop(work, warn)


def audit(work: TableWork) -> tuple[AuditOutcome, ...]:
    """Return a verdict on every check of the table, asked of its candidate; of each partition, where some were built.

    Raises:
        StatementError: Not even the catalogue answers.
    """
    work.stage = "audit"
    if work.part is not None:
        verdicts = partition_auditor(work, work.part).evaluate()
        work.inspection = verdicts.inspection
        return tuple(outcome for outcomes in verdicts.outcomes.values() for outcome in outcomes)
    outcomes, work.inspection = increment_auditor(work).evaluate()
    return outcomes


def first_rows(work: TableWork, rows: int) -> Answer:
    """Return the first rows of the candidate by its first column.

    Raises:
        StatementError: They could not be read.
    """
    return work.send(f"SELECT * FROM {work.candidate.sql} ORDER BY 1 LIMIT {rows}")


@contextmanager
def _on_its_warehouse(session: Session, table: AnalyticsTable) -> Generator[Session]:
    if table.warehouse is None:
        yield session
        return
    with session.on_warehouse(table.warehouse) as own:
        yield own


def _work(
    runner: StatementRunner, table: AnalyticsTable, part: Slice | None, *, database: str, options: PublishOptions
) -> TableWork:
    # Nothing is replaced, so nothing that hangs on the target is asked for.
    answer = runner.send(inventory_sql(database, [table.stored_schema]), tag={"stage": "inspect"})
    inventory = inventory_of(answer.rows)
    if options.creates_schemas:
        create_schemas(runner, inventory, [table], database=database)
    work = TableWork(runner, table, inventory, database=database, options=options, part=part)
    work.snapshot_at = server_instant(inventory, elapsed_seconds=0)
    return work


def _build(work: TableWork, *, is_whole: bool) -> None:
    statement = ""
    try:
        Governance(work).require_no_other_readers(_NEVER_PUBLISHED)
        if not is_whole:
            find_start(work)
        statement = build_sql(
            work.table, work.candidate, marker=work.marker("preview"), part=work.part, start=work.start
        )
        work.send(statement)
    except StatementError as error:
        failure = failed_statement(work, in_the_file(work.table, error, statement))
        raise ValueError(failure.message) from error
    except PublishRefusedError as error:
        raise ValueError(str(error)) from error


def _drop(work: TableWork, warn: Callable[[str], None]) -> None:
    try:
        work.runner.send(drop_sql(work.candidate), tag={"asset": "/".join(work.table.key), "stage": "clean-up"})
    except StatementError as error:
        warn(f"{work.candidate} could not be dropped, got {error}. A run drops it when it is old enough.")
