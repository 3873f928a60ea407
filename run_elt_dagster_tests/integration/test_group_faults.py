"""A fault at every statement that exchanges a group: at the end all tables are old or all are new, and what is said of them is true."""

import itertools
import signal
import threading
from collections.abc import Iterator, Sequence

import pytest

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.publish.group_recovery import EndedExchange, end_left_exchanges
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import NO_PATIENCE, RunContext, StatementRunner
from run_elt_dagster_tests.faults.groups import (
    IN_PARTS,
    GroupCell,
    Seen,
    create_policies,
    policies_of_group,
    publish_old_group,
    seen_of_group,
    tags_of_group,
)
from run_elt_dagster_tests.faults.kinds import FAULTS, KILLED
from run_elt_dagster_tests.faults.laboratory import (
    METHODS,
    PROCESSES,
    FaultLab,
    arguments_of,
    open_laboratory,
    open_session,
    run,
)
from run_elt_dagster_tests.faults.parts import dead_sessions_end
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

NEW: Seen = (2, 2)
# At the statements that readers notice alone; the matrix has all faults at all statements.
USUAL = (
    ("clone", "killed", False),
    ("overwrite", "answer dropped", False),
    # integration/test_groups_in_parts.py loses the answer to such a COMMIT.
    pytest.param("increment", "answer dropped", False, marks=pytest.mark.thorough),
    pytest.param("clone", "answer dropped", True, marks=pytest.mark.thorough),
    pytest.param("increment", "killed", True, marks=pytest.mark.thorough),
)
EXCHANGES = ("CREATE OR REPLACE TABLE", "ALTER TABLE", "INSERT OVERWRITE", "COMMIT")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("groups")) as laboratory:
        yield laboratory


NUMBERS = itertools.count(1)


def run_cell(
    lab: FaultLab, publish: str, fault: str = "failed", *, index: int = -1, first: bool = False, governed: bool = False
) -> GroupCell:
    """Run a cell on tables of its own, and check what readers see and what is said."""
    cell = GroupCell(next(NUMBERS), publish, first, fault=fault, index=index, governed=governed)
    if governed:
        create_policies(lab)
    if not first:
        publish_old_group(lab, cell)
    lab.cells[cell.run_id] = cell
    outcomes = _outcomes(lab, cell)
    # What ends the exchange sends statements in the name of the run.
    del lab.cells[cell.run_id]
    if cell.met.is_set():
        with dead_sessions_end(lab, fault):
            check(lab, cell, outcomes)
    return cell


def _outcomes(lab: FaultLab, cell: GroupCell) -> Sequence[TableOutcome]:
    arguments = lab.account.arguments
    if FAULTS[cell.fault] is not KILLED or cell.index < 0:
        return run(arguments, cell.declared(), cell.run_id, wait_seconds=0.5)
    cell.process = PROCESSES.Process(target=run, args=(arguments, cell.declared(), cell.run_id))
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
    cell.ended.set()
    assert cell.process.exitcode in (0, -signal.SIGKILL)
    return ()


def old_of(cell: GroupCell) -> Seen:
    return (None, None) if cell.first else (1, 1)


def look(lab: FaultLab, cell: GroupCell) -> list[EndedExchange]:
    """End what the run has left half done, as the next run, the alert and the doctor do."""
    tables = catalogue(cell.declared())
    with open_session(lab.account.arguments) as session:
        runner = StatementRunner(session, RunContext("look"), threading.Event(), patience=NO_PATIENCE)
        found = read_targets(runner, list(tables.values()), database=session.database, check_policies=False)
        return end_left_exchanges(runner, tables, found, database=session.database, options=PublishOptions())


def left_behind(lab: FaultLab, cell: GroupCell) -> list[str]:
    rows = lab.sql("select table_name from information_schema.tables where table_schema = 'ANALYTICS'")
    own = (f"KEPT_ORDERS_{cell.number}_", f"KEPT_TOTALS_{cell.number}_", cell.lock)
    return [name for (name,) in rows if name.startswith(own)]


def check(lab: FaultLab, cell: GroupCell, outcomes: Sequence[TableOutcome]) -> None:
    where = f"{cell.publish}, {cell.fault} at {cell.sent[cell.index]}"
    now, lock = seen_of_group(lab, cell), cell.lock
    assert now in (old_of(cell), NEW) or lock in left_behind(lab, cell), where
    readers_see = dict(zip(cell.names, zip(now, old_of(cell), strict=True), strict=True))
    # They come in the order in which they end.
    for outcome in outcomes:
        value, old = readers_see[outcome.table.table]
        assert outcome.published <= (now == NEW), where
        production = outcome.failure.production if outcome.failure else outcome.production
        told = {"unchanged": old, "none": None, "new": 2, "unknown": value}
        assert production is None or told[production.state] == value, where
    ended = [each for each in look(lab, cell) if each.note.group == cell.group]
    assert all(each.state != "open" for each in ended), where
    assert seen_of_group(lab, cell) in (
        {NEW} if any(each.state == "forward" for each in ended) else {old_of(cell), NEW}
    ), where
    assert not left_behind(lab, cell) or any(outcome.warnings for outcome in outcomes), where
    assert lock not in left_behind(lab, cell), where
    if cell.governed and None not in seen_of_group(lab, cell):
        # Old rows and new ones alike.
        assert policies_of_group(lab, cell) == [2, 2], where
    if cell.governed and any(each.state == "forward" for each in ended):
        assert tags_of_group(lab, cell) == ["sales", "sales"], where


@pytest.mark.parametrize(("publish", "fault", "governed"), USUAL)
def test_fault_in_the_exchange_leaves_all_tables_old_or_all_new(
    lab: FaultLab, publish: str, fault: str, *, governed: bool
) -> None:
    clean = run_cell(lab, publish, governed=governed)
    assert seen_of_group(lab, clean) == NEW
    exchanges = [
        index
        for index, sql in enumerate(clean.sent)
        if sql.startswith(EXCHANGES) and '."KEPT_' not in sql.split(" CLONE ")[0] and " SET " not in sql
    ]
    assert len(exchanges) == {"overwrite": 3, "increment": 2, "partition": 1}.get(publish, 2)
    for index in exchanges:
        assert run_cell(lab, publish, fault, index=index, governed=governed).met.is_set()


@pytest.mark.thorough
@pytest.mark.parametrize("governed", [False, True], ids=["bare", "governed"])
@pytest.mark.parametrize("first", [False, True], ids=["again", "first"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("publish", [*METHODS, *IN_PARTS])
def test_fault_at_any_statement_of_the_exchange(
    lab: FaultLab, publish: str, fault: str, *, first: bool, governed: bool
) -> None:
    for index in itertools.count():
        if not run_cell(lab, publish, fault, index=index, first=first, governed=governed).met.is_set():
            assert index > 3
            return


def test_next_run_ends_what_a_killed_one_has_begun_and_then_publishes(lab: FaultLab) -> None:
    cell = GroupCell(next(NUMBERS), "swap", first=False, fault="killed")
    publish_old_group(lab, cell)
    # Two looks, the lock, two looks, the grants of two tables, and who has the lock: then the first swap.
    cell.index = 10
    lab.cells[cell.run_id] = cell
    _outcomes(lab, cell)
    assert "SWAP WITH" in cell.sent[-1]
    assert seen_of_group(lab, cell) == (2, 1)
    del lab.cells[cell.run_id]
    told: list[str] = []
    tables = catalogue(cell.declared(3))
    with open_session(lab.account.arguments) as session:
        outcomes = list(run_tables(session, tables, list(tables), **arguments_of("0000000C"), warn=told.append))
    assert [outcome.published for outcome in outcomes] == [True, True]
    assert seen_of_group(lab, cell) == (3, 3)
    assert [
        f"Run {cell.run_id} ended while it published" in text and "the exchange is done now" in text for text in told
    ] == [True]
