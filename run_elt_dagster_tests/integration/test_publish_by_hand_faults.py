"""A fault at every statement of `run-elt publish`: what readers see, what is said of it, and the command after it."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from run_elt_dagster.model.candidate import by_hand_in, marker_in
from run_elt_dagster_tests.faults.kinds import TRANSIENT
from run_elt_dagster_tests.faults.laboratory import (
    METHODS,
    REJECTING,
    Cell,
    FaultLab,
    open_laboratory,
    problems_of,
    publish_by_hand,
    rejecting,
    run,
    run_cell,
    watched,
)
from run_elt_dagster_tests.faults.oracle import NEW, NEXT, OLD, Reader, declared
from run_elt_dagster_tests.support.effort import cases, effort

AT_ONCE = 4
EACH = ("failed", "answer lost", "timed out", "reported as failed", "reported as cancelled", "killed")
ALWAYS = {("answer lost", "overwrite")}
# What lets other runs wait for the candidate, and what readers see.
DECISIVE = ("audit: COMMENT ON", "publish: CREATE OR", "publish: INSERT OVERWRITE")
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("faults")) as laboratory:
        yield laboratory


def keep(lab: FaultLab, cell: Cell) -> None:
    """Leave a candidate behind that its run has rejected."""
    lab.set_up(cell)
    (outcome,) = run(lab.account.arguments, [rejecting(declared(cell.table, cell.publish, NEW))], cell.run_id)
    assert outcome.failure is not None
    assert lab.seen(cell.table) == OLD.content


@pytest.mark.parametrize(
    ("fault", "publish"),
    cases(itertools.product(EACH, METHODS), usual=ALWAYS),
)
def test_fault_leaves_the_old_or_the_new_table_and_the_next_command_ends_with_the_new_one(
    lab: FaultLab, fault: str, publish: str
) -> None:
    clean = Cell(next(NUMBERS), publish, first=False)
    keep(lab, clean)
    assert run_cell(lab, clean, publish_by_hand) is not None
    assert lab.seen(clean.table) == NEW.content
    chosen = [index for index, sent in enumerate(clean.statements) if effort(usual=sent in DECISIVE, thorough=True)]
    cells = [Cell(next(NUMBERS), publish, first=False, fault=fault, index=index) for index in chosen]
    for cell in cells:
        keep(lab, cell)
    with Reader(lab.consumer, [watched(cell) for cell in cells], pause_seconds=0.4) as reader:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(partial(run_cell, lab, send=publish_by_hand), cells))
        comments = lab.comments([cell.table for cell in cells])
        for cell, outcome in zip(cells, outcomes, strict=True):
            assert cell.met.is_set(), cell
            if fault in TRANSIENT:
                assert outcome is not None
                assert outcome.published, (cell, outcome.failure)
            assert problems_of(lab, cell, outcome, comments.get(cell.table.upper(), "")) == [], cell
            lab.cells.pop(cell.run_id)
            publish_by_hand(lab.account.arguments, [declared(cell.table, cell.publish, NEW)], cell.run_id)
            assert lab.seen(cell.table) == NEW.content
    assert reader.problems == []
    comments = lab.comments([cell.table for cell in cells])
    # Nothing is left beside the tables, and each says who has published it.
    assert set(comments) == {cell.table.upper() for cell in cells}
    for cell in cells:
        comment = comments[cell.table.upper()]
        marker, by_hand = marker_in(comment), by_hand_in(comment)
        assert (marker and (marker.state, marker.run_id)) == ("run", cell.run_id)
        assert by_hand is not None
        assert (by_hand.person, by_hand.waived) == ("ana", (REJECTING,))
    after = run(lab.account.arguments, [declared(cell.table, publish, NEXT) for cell in cells], f"{next(NUMBERS):07d}C")
    assert [outcome.failure for outcome in after] == [None] * len(cells)
