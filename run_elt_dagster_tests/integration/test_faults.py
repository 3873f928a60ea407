"""A fault at every statement of every method of publishing: what readers see, what is said of it, and the run after it.

The matrix is printed at the end of the tests: a line for each statement, a column for each fault.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowflake.connector.errors import DatabaseError

from run_elt_dagster.embedded.errors import SqlError
from run_elt_dagster.embedded.server import StatementEvent
from run_elt_dagster.inspection import marker_in
from run_elt_dagster.lineage import catalogue
from run_elt_dagster.run_ctas import run_tables
from run_elt_dagster.sending import RunOptions
from run_elt_dagster.session import ConnectorSession, StatementError
from run_elt_dagster.table import AnalyticsTable
from run_elt_dagster.table_run import TableOutcome
from run_elt_dagster_tests.integration.embedded_fixtures import Account, In, Session, running_server

METHODS = ["clone", "swap", "overwrite"]
# (rows, value) of the tables of three runs; whatever mixes them gives another minimum and maximum.
OLD, NEW, NEXT = (3, 1), (5, 2), (7, 3)
AT_ONCE = 4
# Phase and Snowflake's error number, or what else happens to the statement.
FAULTS: Mapping[str, tuple[str, int | str]] = {
    "refused": ("before", 3001),
    "failed": ("before", 603),
    "answer lost": ("after", 603),
    "session lost": ("after", 390111),
    "hangs": ("before", "hang"),
    "killed": ("before", "kill"),
    "killed after": ("after", "kill"),
}
TRANSIENT = {"failed", "answer lost", "session lost"}


@dataclass
class Cell:
    """One run of one table that meets one fault at its statement number `index`; below 0, it meets none."""

    number: int
    publish: str
    first: bool
    fault: str = "refused"
    index: int = -1
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
        return f"{self.number:07d}B"

    def hook(self, event: StatementEvent, stage: str) -> None:
        phase, kind = FAULTS[self.fault]
        if event.phase == "before":
            self.statements.append(f"{stage}: {' '.join(event.sql.split()[:2])}")
        if event.phase != phase or len(self.statements) != self.index + 1 or self.met.is_set():
            return
        self.met.set()
        if kind == "hang":
            # Ends by the session's statement timeout.
            event.statement.wait(30)
        elif kind == "kill":
            assert self.started.wait(20)
            assert self.process is not None
            assert self.process.pid
            os.kill(self.process.pid, signal.SIGKILL)
            assert self.ended.wait(20)
        if kind != "hang":
            raise SqlError("a fault", errno=kind if isinstance(kind, int) else 3001, sqlstate="08001")


class Laboratory:
    """A server, the cells whose runs are on it, and a reader who never stops looking at their tables."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.cells: dict[str, Cell] = {}
        self.setting_up = threading.Lock()
        self.admin = account.session()
        for statement in ("create role consumer",):
            self.admin.sql(statement)

    def hook(self, event: StatementEvent) -> None:
        tag = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}")
        cell = self.cells.get(tag.get("run_id", ""))
        if cell is not None:
            cell.hook(event, tag["stage"])

    def set_up(self, cell: Cell) -> None:
        if cell.first:
            return
        rows, value = OLD
        with self.setting_up:
            self.admin.sql(
                f"create table analytics.{cell.table} comment = '[run_elt run 0 at 2026-01-01]' as "
                f"select seq4() as n, {value} as v from table(generator(rowcount => {rows}))"
            )
            self.admin.sql(f"grant select on table analytics.{cell.table} to role consumer")

    def seen(self, cell: Cell) -> tuple[Any, ...]:
        with self.setting_up:
            return look(self.admin, cell.table)

    def grantees(self, cell: Cell) -> set[str]:
        with self.setting_up:
            return {row[5] for row in self.admin.sql(f"show grants on table analytics.{cell.table}")}

    def comments(self, cell: Cell) -> dict[str, str]:
        with self.setting_up:
            rows = self.admin.sql(
                "select table_name, comment from information_schema.tables where table_schema = 'ANALYTICS' and "
                f"(table_name = '{cell.table.upper()}' or startswith(table_name, 'TEMP_{cell.table.upper()}__'))"
            )
        return {name: comment or "" for name, comment in rows}


def look(session: Session, table: str) -> tuple[Any, ...]:
    """Return rows, least and greatest value of a table; nothing if there is none."""
    try:
        ((rows, least, greatest),) = session.sql(f"select count(*), min(v), max(v) from analytics.{table}")
    except DatabaseError as error:
        assert error.errno == 2003, error
        return ()
    return (rows, least, greatest)


def content(version: tuple[int, int]) -> tuple[int, int, int]:
    return (version[0], version[1], version[1])


def run(
    arguments: Mapping[str, Any], table: str, publish: str, run_id: str, version: tuple[int, int], **options: Any
) -> TableOutcome:
    """Run one table in this process, whichever it is."""
    rows, value = version
    declared = AnalyticsTable.model_validate(
        {
            "schema": "analytics",
            "table": table,
            "publish": publish,
            "columns": {"n": {"type": "int", "description": "A number"}, "v": "int"},
            "sql": f"select seq4() as n, {value} as v from table(generator(rowcount => {rows}))",
        }
    )
    chosen = RunOptions(run_id=run_id, retry_seconds=(0, 0, 0), poll_seconds=0.02, **options)

    def connect() -> Any:
        return closing(snowflake.connector.connect(**arguments))

    with connect() as connection, ConnectorSession(connection, connect) as session:
        (outcome,) = run_tables(session, catalogue([declared]), [declared.key], options=chosen)
    return outcome


# A process of its own costs a second to import everything, so that one that has is forked for each.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "run_elt_dagster.run_ctas"])


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with running_server(tmp_path_factory.mktemp("faults")) as server:
        account = Account(server)
        with account.resources:
            laboratory = Laboratory(account)
            with account.hooked(laboratory.hook):
                yield laboratory


def run_cell(laboratory: Laboratory, cell: Cell) -> TableOutcome | None:
    """Run a cell, and return what its run said of it; None if it was killed, or failed before any table."""
    laboratory.set_up(cell)
    laboratory.cells[cell.run_id] = cell
    arguments = dict(laboratory.account.arguments)
    if cell.fault == "hangs":
        arguments["session_parameters"] = {"STATEMENT_TIMEOUT_IN_SECONDS": 1}
    if FAULTS[cell.fault][1] != "kill" or cell.index < 0:
        try:
            return run(arguments, cell.table, cell.publish, cell.run_id, NEW)
        except StatementError:
            return None
    cell.process = PROCESSES.Process(target=run, args=(arguments, cell.table, cell.publish, cell.run_id, NEW))
    cell.process.start()
    cell.started.set()
    cell.process.join(30)
    cell.ended.set()
    assert cell.process.exitcode == -signal.SIGKILL
    return None


def reader(laboratory: Laboratory, cells: Iterable[Cell], stop: threading.Event, problems: list[str]) -> int:
    """Look at the tables as their consumer does, without an end, and return how often."""
    session, looks = laboratory.account.session(role="consumer"), 0
    allowed = {content(version) for version in (OLD, NEW, NEXT)}
    published: set[int] = set()
    while not stop.is_set():
        for cell in cells:
            seen = look(session, cell.table)
            if seen:
                published.add(cell.number)
            if seen not in allowed and (seen or cell.number in published):
                problems.append(f"{cell}: the consumer saw {seen}")
            if seen and not cell.first:
                grants = session.sql(f"show grants on table analytics.{cell.table}")
                if ("SELECT", "CONSUMER") not in [(row[1], row[5]) for row in grants]:
                    problems.append(f"{cell}: the consumer could not read")
            looks += 1
            stop.wait(0.01)
    return looks


def verdict(laboratory: Laboratory, cell: Cell, outcome: TableOutcome | None) -> str:
    """Return which version readers see after the fault, and check that all that is said agrees with it."""
    old, seen = () if cell.first else content(OLD), laboratory.seen(cell)
    assert seen in (old, content(NEW)), cell
    is_new = seen == content(NEW)
    marker = marker_in(laboratory.comments(cell).get(cell.table.upper()))
    if outcome is not None:
        assert outcome.published is is_new, outcome.failure
        if outcome.failure is not None:
            unchanged = (
                "There is no published table yet." if cell.first else "Readers still see the previous table (3 rows"
            )
            assert outcome.failure.production.startswith(unchanged), cell
    if marker is not None and marker.state == "run":
        # What the alert looks at after a process was lost.
        assert (marker.run_id == cell.run_id) is is_new, cell
    else:
        # While rows are written over others, or their comment is lost with the run: the alert says unknown.
        assert seen == () or cell.publish == "overwrite", cell
    if not cell.first:
        assert "CONSUMER" in laboratory.grantees(cell), cell
    return "new" if is_new else "old"


@pytest.mark.parametrize("publish", METHODS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_at_any_statement_leaves_the_old_or_the_new_table_and_says_which(
    laboratory: Laboratory, record_property: Any, publish: str, first: bool, fault: str
) -> None:
    numbers = iter(range(len(laboratory.cells) * 100, 10**7))
    clean = Cell(next(numbers), publish, first)
    outcome = run_cell(laboratory, clean)
    assert outcome is not None
    assert outcome.published, outcome.failure
    cells = [Cell(next(numbers), publish, first, fault, index) for index in range(len(clean.statements))]
    problems: list[str] = []
    stop = threading.Event()
    looking = In(lambda: reader(laboratory, cells, stop, problems))

    def experiment(cell: Cell) -> str:
        outcome = run_cell(laboratory, cell)
        assert cell.met.is_set(), cell
        is_exchange = any(word in cell.statements[cell.index] for word in ("ALTER TABLE", "CREATE TABLE"))
        if fault in TRANSIENT and not (publish == "swap" and is_exchange):
            assert outcome is not None
            assert outcome.published, (cell, outcome.failure)
        seen = verdict(laboratory, cell, outcome)
        after = run(laboratory.account.arguments, cell.table, publish, f"{cell.number:07d}C", NEXT)
        assert after.published, (cell, after.failure)
        assert laboratory.seen(cell) == content(NEXT)
        left = {name: marker_in(text) for name, text in laboratory.comments(cell).items() if name[:4] == "TEMP"}
        # What failed stays for inspection, and what a swap put aside until it is swept; nobody waits for either.
        assert all(m is None or m.state == "failed" or m.run_id != cell.run_id for m in left.values()), (cell, left)
        return seen

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            verdicts = list(pool.map(experiment, cells))
    finally:
        stop.set()
        looks = looking.result()
    assert problems == []
    assert looks > 0
    titles = [cell.statements[cell.index] for cell in cells]
    record_property("faults", (f"{publish}, {'first' if first else 'again'}", fault, titles, verdicts, looks))
