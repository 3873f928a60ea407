"""A fault at every statement that merges an increment, and runs that meet: what readers see, what is said, and the run after it."""

import itertools
import json
import logging
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_elt_dagster.alerts.production import look_at_production
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.faults.increments import NEW, OLD, WAYS, IncrementCell
from run_elt_dagster_tests.faults.kinds import FAULTS
from run_elt_dagster_tests.faults.laboratory import FaultLab, open_laboratory, tag_of
from run_elt_dagster_tests.faults.parts import run_cell, set_up, try_fault
from run_elt_dagster_tests.faults.slices import SliceInterleaving
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases, effort
from run_elt_dagster_tests.support.embedded import Background, simulated_account
from run_elt_dagster_tests.support.increments import Rows, growing, note, run_increment

USUAL = {("next", "answer lost")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("increments")) as laboratory:
        yield laboratory


@pytest.fixture
def cell(lab: FaultLab) -> IncrementCell:
    """A cell that meets no fault, of a table that is there."""
    clean = IncrementCell(900_000 + len(lab.cells), "clone", first=False, way="next")
    set_up(lab, clean)
    return clean


# A thorough run tries each statement, of the usual pairs too.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("way", "fault"),
    cases(itertools.product(WAYS, FAULTS), usual=USUAL),
)
def test_fault_at_any_statement_leaves_the_table_of_before_or_the_merged_one_and_says_which(
    lab: FaultLab, way: str, fault: str
) -> None:
    try_fault(lab, partial(IncrementCell, publish="clone", first=False, way=way), fault)


def test_statements_of_an_increment_are_few_and_keep_what_hangs_on_the_table(
    lab: FaultLab, cell: IncrementCell
) -> None:
    lab.sql(f"create stream analytics.changes_{cell.number} on table analytics.{cell.table}")
    outcome = run_cell(lab, cell)
    assert outcome is not None
    assert outcome.published, outcome.failure
    assert "CONSUMER" in lab.grantees(cell.table)
    (stream,) = lab.sql(f"show streams like 'CHANGES_{cell.number}' in schema analytics")
    assert "true" not in stream
    assert cell.statements == [
        *[
            "inspect: SELECT CURRENT_ROLE(),",
            "inspect: SELECT 0",
            "build: SELECT TABLE_NAME,",
            'build: SELECT MAX("AT")',
        ],
        *["build: CREATE OR", "audit: SELECT COUNT(*),", "audit: SELECT COUNT(*)"],
        *["publish: SELECT (SELECT", "publish: BEGIN TRANSACTION"],
        *['publish: UPDATE "RUN_ELT"."ANALYTICS"."RUN_ELT_PARTITIONS"', "publish: SELECT TABLE_NAME,"],
        *["publish: DELETE FROM", "publish: INSERT INTO", "publish: SELECT (SELECT", "publish: DELETE FROM"],
        *["publish: MERGE INTO", "publish: COMMIT", "clean-up: DROP TABLE"],
    ]


def test_table_with_a_policy_is_refused_before_it_is_built(lab: FaultLab, cell: IncrementCell) -> None:
    lab.sql("create row access policy if not exists analytics.some as (v int) returns boolean -> v > 0")
    lab.sql(f"alter table analytics.{cell.table} add row access policy analytics.some on (v)")
    outcome = run_cell(lab, cell)
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.PARTITION_POLICIES
    assert "with increments requires a table without policies" in outcome.failure.message
    assert [sent for sent in cell.statements if not sent.startswith("inspect")] == []


def test_lost_process_is_judged_by_what_is_noted_and_not_by_the_comment(lab: FaultLab, cell: IncrementCell) -> None:
    """The comment names the run that has created the table."""
    table = cell.declared(NEW)

    def looked_up() -> Marker | None:
        resource = simulated_account(lab.account.server)
        found = look_at_production(lambda: resource, catalogue([table]), [table.name], logging.getLogger())
        assert found is not None
        return found[table.name]

    before = looked_up()
    assert before is not None
    assert before.run_id == "0"
    assert run_increment(lab.account.arguments, table, cell.run_id).published
    after = looked_up()
    assert after is not None
    assert (after.run_id, after.state) == (cell.run_id, "run")


@pytest.mark.parametrize("becomes", cases(("gone", "older"), usual=["older"]))
def test_increment_is_merged_into_the_table_alone_that_it_begins_after(
    lab: FaultLab, cell: IncrementCell, becomes: str
) -> None:
    """Merged into older rows, or as a table of its own, it would leave a gap that no later run fills."""
    table, done = f"analytics.{cell.table}", list[int]()

    def replace(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "before" and tag_of(event).get("stage") == "publish" and not done:
            done.append(1)
            lab.sql(f"drop table {table}")
            if becomes == "older":
                lab.sql(
                    f"create table {table} comment = '[run_elt run 00 at 2025-01-01]' as {growing({1: (1, 1)}).sql}"
                )

    with lab.account.hooked(replace):
        outcome = run_cell(lab, cell)
    lab.account.server.hook = lab.hook
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.TARGET_CHANGES
    assert "requires the table that its increment begins after" in outcome.failure.message
    assert cell.seen(lab) == ({1: (1, 1)} if becomes == "older" else {})
    # The next run looks anew where to begin.
    assert run_increment(lab.account.arguments, cell.declared(NEW), f"{cell.number:07d}C").published
    assert cell.seen(lab) == ({**NEW, 1: (9, 1)} if becomes == "older" else NEW)


def test_key_that_another_run_has_published_meanwhile_fails_its_check_and_rolls_back(
    lab: FaultLab, cell: IncrementCell
) -> None:
    """The audit was asked before; under the lock it is asked again."""
    table = growing({5: (7, 5)}, table=cell.table, checks={"unique": "v"})
    done: list[int] = []

    def write(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "before" and tag_of(event).get("stage") == "publish" and not done:
            done.append(1)
            lab.sql(f"update analytics.{cell.table} set v = 7 where id = 1")

    lab.cells[cell.run_id] = cell
    with lab.account.hooked(write):
        outcome = run_increment(lab.account.arguments, table, cell.run_id)
    lab.account.server.hook = lab.hook
    assert outcome.failure is not None
    assert "check unique_v found 1 row with a key of a row that stays" in outcome.failure.message
    assert cell.seen(lab) == {**OLD, 1: (7, 1)}


class History:
    """What a source has had, one change after another: each with a later time than all before it."""

    def __init__(self, lab: FaultLab, name: str) -> None:
        self._lab, self._name = lab, f"raw_data.{name}"
        self.states: list[Rows] = [OLD]
        lab.sql(f"create or replace table {self._name} as {growing(OLD).sql}")

    @property
    def sql(self) -> str:
        return f"select id, v, at from {self._name}"

    def changes(self) -> Iterator[str]:
        """Yield the statements that change it. A state counts when the next one is asked for."""
        for hour in range(10, 16):
            changed = {hour % 4 + 1: (hour, hour), 100 + hour: (1, hour)}
            at = f"dateadd(hour, {hour}, '2024-01-01'::timestamp_ntz)"
            yield (
                f"merge into {self._name} as t using (select column1 as id, column2 as v from values "
                f"({hour % 4 + 1}, {hour}), ({100 + hour}, 1)) as s on t.id = s.id "
                f"when matched then update set v = s.v, at = {at} when not matched then insert (id, v, at) values (s.id, s.v, {at})"
            )
            self.states.append({**self.states[-1], **changed})


@pytest.mark.timeout(1200)
def test_two_runs_while_the_source_grows_leave_what_the_latest_one_has_read(lab: FaultLab) -> None:
    """Whichever comes first: nothing is lost, nothing is older than before, and a reader sees a state that the source has had."""
    numbers = iter(range(5_000_000, 10**7))

    @settings(max_examples=effort(usual=2, thorough=100), deadline=None, suppress_health_check=list(HealthCheck))
    @given(turns=st.lists(st.integers(0, 2), max_size=60), way=st.sampled_from(list(WAYS)))
    def interleave(turns: list[int], way: str) -> None:
        cell = IncrementCell(next(numbers), "clone", first=False, way=way)
        set_up(lab, cell)
        history = History(lab, f"source_{cell.number}")
        table = growing(history.sql, table=cell.table)
        runs = [f"{cell.number:07d}{letter}" for letter in "CD"]
        order = SliceInterleaving([*runs, "writer"], turns)
        built: dict[str, tuple[int, int]] = {}

        def hook(event: StatementEvent) -> None:
            run_id = tag_of(event).get("run_id", "")
            order.hook(event)
            if run_id in runs and event.sql.startswith("CREATE OR REPLACE"):
                # The state that it has read lies between: a change may be under way at the same time.
                first = built.get(run_id, (len(history.states) - 1, 0))[0]
                built[run_id] = (first, len(history.states))

        def build(run_id: str) -> TableOutcome:
            try:
                return run_increment(lab.account.arguments, table, run_id, is_whole=WAYS[way][1] and run_id == runs[0])
            finally:
                order.ended(run_id)

        def write() -> None:
            tag = json.dumps({"run_id": "writer"})
            session = lab.account.session(session_parameters={"QUERY_TAG": tag})
            try:
                for change in history.changes():
                    session.sql(change)
            finally:
                order.ended("writer")

        with lab.account.hooked(hook):
            background = [Background(lambda run_id=run_id: build(run_id)) for run_id in runs]
            writer = Background(write)
            outcomes = [one.result(PATIENCE_SECONDS) for one in background]
            writer.result(PATIENCE_SECONDS)
        assert [outcome.failure for outcome in outcomes] == [None, None]
        found = cell.seen(lab)
        owner = note(lab.account.session(), table)[0]
        first, last = built.get(owner, (0, 1))
        assert found in history.states[first : last + 1], (found, owner, built)
        superseded = [run_id for run_id, outcome in zip(runs, outcomes, strict=True) if outcome.superseded_by]
        assert owner not in superseded
        # A clean run finds all the rest.
        assert run_increment(lab.account.arguments, table, f"{cell.number:07d}E").published
        assert cell.seen(lab) == history.states[-1]

    interleave()
    lab.account.server.hook = lab.hook
