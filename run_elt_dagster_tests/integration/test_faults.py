"""A fault at every statement of every method of publishing: what readers see, what is said of it, and the run after it.

The matrix is printed at the end of the tests: a line for each statement, a column for each fault.
"""

import itertools
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
from typing import Any

import pytest
import snowflake.connector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowflake.connector.errors import ProgrammingError

from run_elt_dagster.embedded.errors import SqlError
from run_elt_dagster.embedded.server import StatementEvent
from run_elt_dagster.inspection import marker_in
from run_elt_dagster.lineage import catalogue
from run_elt_dagster.run_ctas import run_tables
from run_elt_dagster.sending import RunOptions
from run_elt_dagster.session import ConnectorSession, StatementError
from run_elt_dagster.table import AnalyticsTable
from run_elt_dagster.table_run import OBJECT_MISSING, TableOutcome
from run_elt_dagster_tests.effort import PATIENCE_SECONDS, effort
from run_elt_dagster_tests.integration.embedded_fixtures import Account, In, Session, running_server

METHODS = ["clone", "swap", "overwrite"]
# (rows, value) of the tables of three runs; whatever mixes them gives another minimum and maximum.
OLD, NEW, NEXT = (3, 1), (5, 2), (7, 3)
AT_ONCE = 4
# Phase and Snowflake's error number, or what else happens to the statement.
FAULTS: Mapping[str, tuple[str, int | str]] = {
    "failed": ("before", 603),
    # With its session, so that the run has to sign in again before it can look what became of the statement.
    "answer lost": ("after", 390111),
    "timed out": ("before", 630),
    # Snowflake says that it did not do what it did.
    "reported as failed": ("after", 603),
    "reported as cancelled": ("after", 604),
    "reported as timed out": ("after", 630),
    # After each statement is before the next one, too.
    "killed": ("after", "kill"),
}
TRANSIENT = {"failed", "answer lost"}


@dataclass
class Cell:
    """One run of one table that meets one fault at its statement number `index`; below 0, it meets none."""

    number: int
    publish: str
    first: bool
    fault: str = "failed"
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
        if kind == "kill":
            assert self.started.wait(PATIENCE_SECONDS)
            assert self.process is not None
            assert self.process.pid
            os.kill(self.process.pid, signal.SIGKILL)
            assert self.ended.wait(PATIENCE_SECONDS)
        raise SqlError("a fault", errno=kind if isinstance(kind, int) else 3001, sqlstate="08001")


class Laboratory:
    """A server, the cells whose runs are on it, and a reader who never stops looking at their tables."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.cells: dict[str, Cell] = {}
        self.setting_up = threading.Lock()
        self.admin = account.session()
        self.admin.sql("create role consumer")

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

    def comments(self, cells: Iterable[Cell]) -> dict[str, str]:
        """Return the comments of the cells' tables and of their candidates."""
        with self.setting_up:
            rows = self.admin.sql("show tables in schema analytics")
            columns = [column.lower() for column in self.admin.columns("show tables in schema analytics")]
        comments = {str(row[columns.index("name")]): str(row[columns.index("comment")] or "") for row in rows}
        ours = {cell.table.upper() for cell in cells}
        return {name: text for name, text in comments.items() if name.removeprefix("TEMP_").partition("__")[0] in ours}


def look(session: Session, table: str) -> tuple[Any, ...]:
    """Return rows, least and greatest value of a table; nothing if there is none."""
    try:
        (found,) = session.sql(f"select count(*), min(v), max(v) from analytics.{table}")
    except ProgrammingError as error:
        if error.errno == OBJECT_MISSING:
            return ()
        raise
    return found


def content(version: tuple[int, int]) -> tuple[int, int, int]:
    return (version[0], version[1], version[1])


def declared(table: str, publish: str, version: tuple[int, int]) -> AnalyticsTable:
    rows, value = version
    return AnalyticsTable.model_validate(
        {
            "schema": "analytics",
            "table": table,
            "publish": publish,
            "columns": {"n": {"type": "int", "description": "A number"}, "v": "int"},
            "sql": f"select seq4() as n, {value} as v from table(generator(rowcount => {rows}))",
        }
    )


def run(
    arguments: Mapping[str, Any],
    tables: Iterable[str],
    publish: str,
    run_id: str,
    version: tuple[int, int],
    **options: Any,
) -> list[TableOutcome]:
    """Run tables in this process, whichever it is."""
    chosen = RunOptions(run_id=run_id, retry_seconds=(0, 0, 0), poll_seconds=0.02, **options)

    def connect() -> Any:
        return closing(snowflake.connector.connect(**arguments))

    with connect() as connection, ConnectorSession(connection, connect) as session:
        known = catalogue([declared(table, publish, version) for table in tables])
        return list(run_tables(session, known, list(known), options=chosen))


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
    laboratory.cells[cell.run_id] = cell
    arguments = laboratory.account.arguments
    if FAULTS[cell.fault][1] != "kill" or cell.index < 0:
        try:
            (outcome,) = run(arguments, [cell.table], cell.publish, cell.run_id, NEW)
        except StatementError:
            return None
        return outcome
    cell.process = PROCESSES.Process(target=run, args=(arguments, [cell.table], cell.publish, cell.run_id, NEW))
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
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
            stop.wait(0.1)
    return looks


def verdict(laboratory: Laboratory, cell: Cell, outcome: TableOutcome | None, comment: str) -> str:
    """Return which version readers see after the fault, and check that all that is said agrees with it."""
    old, seen = () if cell.first else content(OLD), laboratory.seen(cell)
    assert seen in (old, content(NEW)), cell
    is_new = seen == content(NEW)
    marker = marker_in(comment)
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
        # Killed while rows are written over others, or before their comment says so: the alert says unknown.
        assert seen == () or (cell.publish == "overwrite" and cell.fault == "killed"), cell
    if not cell.first:
        assert "CONSUMER" in laboratory.grantees(cell), cell
    return "new" if is_new else "old"


# For the first time, overwrite does what clone does.
@pytest.mark.parametrize(("publish", "first"), [*itertools.product(METHODS, [False]), ("clone", True), ("swap", True)])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("failed", marks=pytest.mark.thorough),
        "answer lost",
        pytest.param("timed out", marks=pytest.mark.thorough),
        pytest.param("reported as failed", marks=pytest.mark.thorough),
        "reported as cancelled",
        pytest.param("reported as timed out", marks=pytest.mark.thorough),
        "killed",
    ],
)
def test_fault_at_any_statement_leaves_the_old_or_the_new_table_and_says_which(
    laboratory: Laboratory, record_property: Any, publish: str, first: bool, fault: str
) -> None:
    numbers = iter(range(len(laboratory.cells) * 100, 10**7))
    clean = Cell(next(numbers), publish, first)
    laboratory.set_up(clean)
    outcome = run_cell(laboratory, clean)
    assert outcome is not None
    assert outcome.published, outcome.failure
    # What comes before the publishing is the same for each method, and cannot change what readers see.
    begin = next(i for i, sent in enumerate(clean.statements) if sent.startswith("publish"))
    chosen = range(effort(usual=begin, thorough=0), len(clean.statements))
    cells = [Cell(next(numbers), publish, first, fault, index) for index in chosen]
    arguments, problems = laboratory.account.arguments, list[str]()
    for cell in cells:
        laboratory.set_up(cell)
    stop = threading.Event()
    looking = In(lambda: reader(laboratory, cells, stop, problems))

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(lambda cell: run_cell(laboratory, cell), cells))
        comments = laboratory.comments(cells)
        verdicts: list[str] = []
        for cell, outcome in zip(cells, outcomes, strict=True):
            assert cell.met.is_set(), cell
            if fault in TRANSIENT and not (publish == "swap" and "ALTER TABLE" in cell.statements[cell.index]):
                # Tried again; only a swap is not, since another one would undo it.
                assert outcome is not None
                assert outcome.published, (cell, outcome.failure)
            verdicts.append(verdict(laboratory, cell, outcome, comments.get(cell.table.upper(), "")))
        # The next run is clean: it publishes, and nobody waits for what the faults have left behind.
        after = run(arguments, [cell.table for cell in cells], publish, f"{clean.number:07d}C", NEXT)
        assert [outcome.failure for outcome in after] == [None] * len(cells)
        assert {laboratory.seen(cell) for cell in cells} == {content(NEXT)}
        left = {name: marker_in(text) for name, text in laboratory.comments(cells).items() if name[:4] == "TEMP"}
        # What failed stays for inspection, and what a swap put aside until it is swept.
        pending = {name for name, m in left.items() if m and m.state != "failed" and name.endswith(m.run_id)}
        assert pending == set()
    finally:
        stop.set()
        looks = looking.result()
    assert problems == []
    assert looks > 0
    titles = [cell.statements[cell.index] for cell in cells]
    title = f"{publish}, {'first' if first else 'again'}"
    record_property("faults", (title, chosen.start, fault, titles, verdicts, looks))


class Interleaving:
    """Lets two runs send one statement at a time, in an order that is chosen before; then both as they like."""

    def __init__(self, run_ids: Iterable[str], turns: Iterable[int]) -> None:
        self._waiting: dict[str, bool] = dict.fromkeys(run_ids, False)
        self._turns = iter(turns)
        self._turn: str | None = None
        self._changed = threading.Condition()
        self._is_free = False

    def hook(self, event: StatementEvent) -> None:
        run_id = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}").get("run_id")
        if event.phase != "before" or run_id not in self._waiting:
            return
        with self._changed:
            self._waiting[run_id] = True
            self._give_a_turn()
            assert self._changed.wait_for(lambda: self._is_free or self._turn == run_id, PATIENCE_SECONDS)
            self._turn, self._waiting[run_id] = None, False

    def ended(self, run_id: str) -> None:
        with self._changed:
            self._waiting.pop(run_id)
            self._give_a_turn()

    def _give_a_turn(self) -> None:
        """Choose as soon as every run that is left waits: then nothing else is going on."""
        if self._is_free or self._turn is not None or not self._waiting or not all(self._waiting.values()):
            return
        turn = next(self._turns, None)
        if turn is None:
            self._is_free = True
        else:
            self._turn = sorted(self._waiting)[turn % len(self._waiting)]
        self._changed.notify_all()


@pytest.mark.parametrize("publish", METHODS)
def test_two_runs_in_any_order_leave_the_newer_snapshot_and_nothing_behind(
    laboratory: Laboratory, publish: str
) -> None:
    numbers = iter(range(len(laboratory.cells) * 100, 10**7))

    @settings(
        max_examples=effort(usual=3, thorough=200),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(turns=st.lists(st.integers(0, 1), max_size=24), first=st.booleans())
    def interleave(turns: list[int], first: bool) -> None:
        cell = Cell(next(numbers), publish, first)
        laboratory.cells[cell.run_id] = cell
        laboratory.set_up(cell)
        versions = {f"{cell.number:07d}C": NEW, f"{cell.number:07d}D": NEXT}
        order = Interleaving(versions, turns)

        def build(run_id: str, version: tuple[int, int]) -> TableOutcome:
            try:
                (outcome,) = run(laboratory.account.arguments, [cell.table], publish, run_id, version)
                return outcome
            finally:
                order.ended(run_id)

        with laboratory.account.hooked(order.hook):
            runs = [In(lambda item=item: build(*item)) for item in versions.items()]
            outcomes = [one.result(PATIENCE_SECONDS) for one in runs]
        assert [outcome.failure for outcome in outcomes] == [None, None]
        comments = laboratory.comments([cell])
        marker = marker_in(comments[cell.table.upper()])
        assert marker is not None
        assert laboratory.seen(cell) == content(versions[marker.run_id])
        published = [outcome for outcome in outcomes if outcome.published]
        # Who was not published says by whom it was superseded, and that is what readers see.
        assert [outcome.superseded_by for outcome in outcomes if not outcome.published] in ([], [marker.run_id])
        assert published
        assert set(comments) == {cell.table.upper()}
        if not first:
            assert "CONSUMER" in laboratory.grantees(cell)

    interleave()
    # What was hooked before is the laboratory's own again.
    laboratory.account.server.hook = laboratory.hook
