"""A fault at every statement of every method of publishing: what readers see, what is said of it, and the run after it.

The matrix is printed at the end of the tests: a line for each statement, a column for each fault. `make faults` tries more kinds of
faults, for as long as somebody likes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_elt_dagster.model.candidate import marker_in
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.faults.interleavings import Interleaving
from run_elt_dagster_tests.faults.kinds import TRANSIENT
from run_elt_dagster_tests.faults.laboratory import (
    METHODS,
    WAYS,
    Cell,
    FaultLab,
    open_laboratory,
    problems_of,
    run,
    run_cell,
    watched,
)
from run_elt_dagster_tests.faults.oracle import NEW, NEXT, Reader, Version, declared
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases, effort
from run_elt_dagster_tests.support.embedded import Background

AT_ONCE = 4
# Between two rounds of looks, each of which takes a tenth of a second of CPU.
LOOK_SECONDS = 0.4
EACH = (
    "failed",
    "answer lost",
    "timed out",
    "reported as failed",
    "reported as cancelled",
    "reported as timed out",
    "killed",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("faults")) as laboratory:
        yield laboratory


# Each way of publishing and each kind of fault, but not each pair of them.
ALWAYS = {
    ("answer lost", "overwrite", False),
    ("answer lost", "swap", True),
    ("reported as cancelled", "clone", True),
    ("killed", "clone", False),
}


@pytest.mark.parametrize(
    ("fault", "publish", "first"),
    cases(((fault, *way) for fault in EACH for way in WAYS), usual=ALWAYS),
)
def test_fault_at_any_statement_leaves_the_old_or_the_new_table_and_says_which(
    lab: FaultLab, record_property: Any, fault: str, publish: str, first: bool
) -> None:
    numbers = iter(range(len(lab.cells) * 100, 10**7))
    clean = Cell(next(numbers), publish, first)
    lab.set_up(clean)
    outcome = run_cell(lab, clean)
    assert outcome is not None
    assert outcome.published, outcome.failure
    # What comes before the publishing is the same for each method, and cannot change what readers see.
    begin = next(i for i, sent in enumerate(clean.statements) if sent.startswith("publish"))
    chosen = range(effort(usual=begin, thorough=0), len(clean.statements))
    cells = [Cell(next(numbers), publish, first, fault, index) for index in chosen]
    arguments, tables = lab.account.arguments, [cell.table for cell in cells]
    for cell in cells:
        lab.set_up(cell)

    with Reader(lab.consumer, [watched(cell) for cell in cells], pause_seconds=LOOK_SECONDS) as reader:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(lambda cell: run_cell(lab, cell), cells))
        comments = lab.comments(tables)
        verdicts: list[str] = []
        for cell, outcome in zip(cells, outcomes, strict=True):
            assert cell.met.is_set(), cell
            if fault in TRANSIENT and not (publish == "swap" and "ALTER TABLE" in cell.statements[cell.index]):
                # Tried again; only a swap is not, since another one would undo it.
                assert outcome is not None
                assert outcome.published, (cell, outcome.failure)
            assert problems_of(lab, cell, outcome, comments.get(cell.table.upper(), "")) == [], cell
            verdicts.append("new" if lab.seen(cell.table) == NEW.content else "old")
        # The next run is clean: it publishes, and nobody waits for what the faults have left behind.
        after = run(arguments, [declared(table, publish, NEXT) for table in tables], f"{clean.number:07d}C")
        assert [outcome.failure for outcome in after] == [None] * len(cells)
        assert {lab.seen(table) for table in tables} == {NEXT.content}
        assert lab.pending(tables) == set()
    assert reader.problems == []
    titles = [cell.statements[cell.index] for cell in cells]
    title = f"{publish}, {'first' if first else 'again'}"
    record_property("faults", (title, chosen.start, fault, titles, verdicts, reader.looks))


@pytest.mark.parametrize("publish", cases(METHODS, usual=["clone"]))
def test_two_runs_in_any_order_leave_the_newer_snapshot_and_nothing_behind(lab: FaultLab, publish: str) -> None:
    numbers = iter(range(len(lab.cells) * 100, 10**7))

    @settings(
        max_examples=effort(usual=2, thorough=200),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(turns=st.lists(st.integers(0, 1), max_size=24), first=st.booleans())
    def interleave(turns: list[int], first: bool) -> None:
        cell = Cell(next(numbers), publish, first)
        lab.cells[cell.run_id] = cell
        lab.set_up(cell)
        versions = {f"{cell.number:07d}C": NEW, f"{cell.number:07d}D": NEXT}
        order = Interleaving(versions, turns)

        def build(run_id: str, version: Version) -> TableOutcome:
            try:
                (outcome,) = run(lab.account.arguments, [declared(cell.table, publish, version)], run_id)
                return outcome
            finally:
                order.ended(run_id)

        with lab.account.hooked(order.hook):
            runs = [Background(lambda item=item: build(*item)) for item in versions.items()]
            outcomes = [one.result(PATIENCE_SECONDS) for one in runs]
        assert [outcome.failure for outcome in outcomes] == [None, None]
        comments = lab.comments([cell.table])
        marker = marker_in(comments[cell.table.upper()])
        assert marker is not None
        assert lab.seen(cell.table) == versions[marker.run_id].content
        published = [outcome for outcome in outcomes if outcome.published]
        # Who was not published says by whom it was superseded, and that is what readers see.
        assert [outcome.superseded_by for outcome in outcomes if not outcome.published] in ([], [marker.run_id])
        assert published
        assert set(comments) == {cell.table.upper()}
        if not first:
            assert "CONSUMER" in lab.grantees(cell.table)

    interleave()
    # What was hooked before is the laboratory's own again.
    lab.account.server.hook = lab.hook
