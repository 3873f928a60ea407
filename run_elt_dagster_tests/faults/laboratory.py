"""A server in this process whose statements meet faults, and runs on it, without Dagster around them."""

import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import snowflake.connector

from run_elt_dagster.model.candidate import marker_in
from run_elt_dagster.model.checks import Checks
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.kept import Published, Publisher
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError
from run_elt_dagster_tests.faults.kinds import FAULTS, KILLED, meet
from run_elt_dagster_tests.faults.oracle import (
    BEFORE,
    NEW,
    NEXT,
    OLD,
    SCHEMA,
    Content,
    Problem,
    Watched,
    declared,
    look,
    said_of,
    says_unknown,
    untrue,
)
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import Account, Session, connecting, running_server
from run_elt_dagster_tests.support.run_arguments import run_arguments

METHODS = ("clone", "swap", "overwrite")
# A check that rejects what is built, and that a person waives.
REJECTING = "row_count"
# For the first time, overwrite does what clone does.
WAYS = (*itertools.product(METHODS, [False]), ("clone", True), ("swap", True))


@dataclass
class Cell:
    """One run of one table that meets one fault at its statement number `index`; below 0, it meets none."""

    number: int
    publish: str
    first: bool
    fault: str = "failed"
    index: int = -1
    letter: str = "B"
    statements: list[str] = field(default_factory=list)
    met: threading.Event = field(default_factory=threading.Event)
    process: BaseProcess | None = None
    started: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def table(self) -> str:
        return f"mau_{self.number}"

    @property
    def run_id(self) -> str:
        return f"{self.number:07d}{self.letter}"

    @property
    def old(self) -> Content:
        """What readers see before the run."""
        return () if self.first else OLD.content

    def hook(self, event: StatementEvent, stage: str) -> None:
        """Let the statement whose turn it is meet the fault."""
        fault = FAULTS[self.fault]
        if event.phase == "before":
            self.statements.append(f"{stage}: {' '.join(event.sql.split()[:2])}")
        number = len(self.statements)
        is_due = number == self.index + 1 or (fault.lasts and number > self.index >= 0)
        if event.phase != fault.phase or not is_due or (self.met.is_set() and not fault.lasts):
            return
        self.met.set()
        if fault is KILLED:
            self._kill()
        meet(fault)

    def _kill(self) -> None:
        assert self.started.wait(PATIENCE_SECONDS)
        assert self.process is not None
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.ended.wait(PATIENCE_SECONDS)


class FaultLab:
    """A server, and the cells whose runs are on it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.cells: dict[str, Cell] = {}
        self._admin_is_free = threading.Lock()
        self._admin = account.session()
        self._admin.sql("create role consumer")

    def hook(self, event: StatementEvent) -> None:
        tag = tag_of(event)
        cell = self.cells.get(tag.get("run_id", ""))
        if cell is not None:
            cell.hook(event, tag["stage"])

    def consumer(self) -> Session:
        """Open a session of who reads the tables."""
        return self.account.session(role="consumer")

    def set_up(self, cell: Cell) -> None:
        if not cell.first:
            self.publish_old(cell.table)

    def publish_old(self, table: str) -> None:
        """Create a table that readers may read, as two runs before would have left it."""
        for run_id, version in (("00", BEFORE), ("0", OLD)):
            self.sql(
                f"create or replace table {SCHEMA}.{table} comment = '[run_elt run {run_id} at 2026-01-01]' as {version.sql}"
            )
        self.grant(table)

    def grant(self, table: str) -> None:
        self.sql(f"grant select on table {SCHEMA}.{table} to role consumer")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self._admin_is_free:
            return self._admin.sql(statement)

    def seen(self, table: str) -> Content:
        """Return what a new session sees."""
        with closing(snowflake.connector.connect(**self.account.arguments)) as connection:
            return look(Session(connection), table)

    def grantees(self, table: str) -> set[str]:
        return {row[5] for row in self.sql(f"show grants on table {SCHEMA}.{table}")}

    def comments(self, tables: Iterable[str]) -> dict[str, str]:
        """Return the comments of tables and of their candidates."""
        wanted = {table.upper() for table in tables}
        rows = self.sql(
            f"select table_name, comment from information_schema.tables where table_schema = '{SCHEMA.upper()}'"
        )
        return {name: str(text or "") for name, text in rows if name.removeprefix("TEMP_").partition("__")[0] in wanted}

    def pending(self, tables: Iterable[str]) -> set[str]:
        """Return the candidates that some run may still publish."""
        found = {name: marker_in(text) for name, text in self.comments(tables).items() if name.startswith("TEMP_")}
        return {name for name, m in found.items() if m and m.state in ("run", "publishing") and name.endswith(m.run_id)}

    def drop(self, tables: Iterable[str]) -> None:
        """Drop tables and their candidates: a trial leaves nothing to the next one."""
        for name in self.comments(tables):
            self.sql(f'drop table {SCHEMA}."{name}"')


@contextmanager
def open_laboratory(directory: Path) -> Generator[FaultLab]:
    with running_server(directory) as server:
        account = Account(server)
        with account.resources:
            lab = FaultLab(account)
            with account.hooked(lab.hook):
                yield lab


def tag_of(event: StatementEvent) -> dict[str, str]:
    """Return what a run says of its statement."""
    return json.loads(event.statement.parameter("QUERY_TAG", "") or "{}")


@contextmanager
def open_session(arguments: Mapping[str, Any]) -> Generator[ConnectorSession]:
    connect = connecting(arguments)
    with connect() as connection, ConnectorSession(connection, connect) as session:
        yield session


def arguments_of(run_id: str, **more: Any) -> dict[str, Any]:
    return run_arguments(run_id, retry_seconds=(0, 0, 0), poll_seconds=0.02, **more)


def run(
    arguments: Mapping[str, Any], tables: Sequence[AnalyticsTable], run_id: str, **options: Any
) -> list[TableOutcome]:
    """Run tables in this process, whichever it is."""
    known = catalogue(tables)
    # Of a table with partitions, the first one.
    slices = {
        table.key: table.part(table.partitions.start.strftime(table.partitions.key_format))
        for table in tables
        if table.partitions is not None
    }
    with open_session(arguments) as session:
        return list(run_tables(session, known, list(known), slices=slices, **arguments_of(run_id, **options)))


@contextmanager
def open_rollback(
    arguments: Mapping[str, Any], table: AnalyticsTable, run_id: str = "rollback", **options: Any
) -> Generator[Rollback]:
    with open_session(arguments) as session:
        given = arguments_of(run_id, **options)
        runner = StatementRunner(session, given["run"], threading.Event(), patience=given["patience"])
        yield Rollback(runner, table, database="RUN_ELT")


# A process of its own costs a second to import everything, so that one that has is forked for each.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "run_elt_dagster.publish.run"])


def rejecting(table: AnalyticsTable) -> AnalyticsTable:
    """Return a table with a check that rejects each version of more than one row."""
    return table.model_copy(update={"checks": Checks.model_validate({REJECTING: {"max": 1}})})


def publish_by_hand(arguments: Mapping[str, Any], tables: Sequence[AnalyticsTable], run_id: str) -> list[TableOutcome]:
    """Publish the kept candidate of a run of one table; nothing where readers see its rows already."""
    (table,) = tables
    given = arguments_of(run_id)
    with open_session(arguments) as session:
        publisher = Publisher(session, rejecting(table), options=given["options"], patience=given["patience"])
        found = publisher.find(run_id)
        if isinstance(found, Published):
            publisher.drop_what_is_left(found)
            return []
        return [publisher.publish(found, person="ana", waived=[REJECTING]).outcome]


def run_cell(lab: FaultLab, cell: Cell, send: Callable[..., list[TableOutcome]] = run) -> TableOutcome | None:
    """Run a cell, and return what its run said of it; None if it was killed, or failed before any table.

    Args:
        lab: Where it runs.
        cell: What it is.
        send: A function of this module that sends its statements.
    """
    lab.cells[cell.run_id] = cell
    arguments, tables = lab.account.arguments, [declared(cell.table, cell.publish, NEW)]
    if FAULTS[cell.fault] is not KILLED or cell.index < 0:
        try:
            (outcome,) = send(arguments, tables, cell.run_id)
        except StatementError:
            return None
        return outcome
    cell.process = PROCESSES.Process(target=send, args=(arguments, tables, cell.run_id))
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
    cell.ended.set()
    assert cell.process.exitcode == -signal.SIGKILL
    return None


def watched(cell: Cell) -> Watched:
    return Watched(cell.table, (OLD, NEW, NEXT), keeps_grant=not cell.first)


def problems_of(lab: FaultLab, cell: Cell, outcome: TableOutcome | None, comment: str) -> list[Problem]:
    """Return what is wrong after a fault with what readers see, or with what is said of it."""
    seen = lab.seen(cell.table)
    if seen not in (cell.old, NEW.content):
        return [Problem("wrong", f"a new session sees {seen}")]
    is_new, marker, found = seen == NEW.content, marker_in(comment), list[Problem]()
    if outcome is not None:
        found += untrue(said_of(outcome), [seen], NEW)
        # Snowflake may answer nothing at all: then the run says that it is unknown.
        if outcome.published is not is_new and not says_unknown(outcome):
            found.append(Problem("untrue", f"published is {outcome.published}, a new session sees {seen}"))
        if outcome.failure is not None and not outcome.failure.production.words:
            found.append(Problem("failed", f"nothing is said of what readers see: {outcome.failure.message}"))
    if marker is not None and marker.state == "run":
        # What an alert looks at after a process was lost.
        if (marker.run_id == cell.run_id) is not is_new:
            found.append(Problem("untrue", f"the comment says {marker}, a new session sees {seen}"))
    elif seen and not _may_leave_open(cell):
        found.append(Problem("untrue", f"the comment leaves open whose rows these are: {comment!r}"))
    if not cell.first and "CONSUMER" not in lab.grantees(cell.table):
        found.append(Problem("wrong", "the grant of the consumer is gone"))
    return found


def _may_leave_open(cell: Cell) -> bool:
    """Tell whether the comment may stay at `publishing`: rows are overwritten, and no later statement gets through."""
    fault = FAULTS[cell.fault]
    return cell.publish == "overwrite" and (fault is KILLED or fault.lasts)
