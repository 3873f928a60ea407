"""A fault at every statement that exchanges partitions, and runs that meet: what readers see, what is said, and the run after it."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.faults.kinds import FAULTS
from run_elt_dagster_tests.faults.laboratory import FaultLab, open_laboratory, run, tag_of
from run_elt_dagster_tests.faults.parts import run_cell, set_up, try_fault
from run_elt_dagster_tests.faults.slices import NEW, NEXT, WAYS, SliceCell, SliceInterleaving
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases, effort
from run_elt_dagster_tests.support.embedded import Background
from run_elt_dagster_tests.support.slices import THOUSAND, Seen, divided, notes, run_slice, states, thousand_days_before

USUAL = {("again", "reported as cancelled")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("slices")) as laboratory:
        yield laboratory


@pytest.fixture
def cell(lab: FaultLab) -> SliceCell:
    """A cell that meets no fault, of a table with days 1 to 4."""
    clean = SliceCell(900_000 + len(lab.cells), "clone", first=False)
    set_up(lab, clean)
    lab.cells[clean.run_id] = clean
    return clean


def seen_of(lab: FaultLab, cell: SliceCell) -> Seen:
    return cell.seen(lab)


# A thorough run tries each statement, of the usual pairs too.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("way", "fault"),
    cases(itertools.product(WAYS, FAULTS), usual=USUAL),
)
def test_fault_at_any_statement_leaves_the_old_or_the_new_slice_and_says_which(
    lab: FaultLab, way: str, fault: str
) -> None:
    try_fault(lab, partial(SliceCell, publish="clone", first=False, way=way), fault)


@pytest.mark.timeout(1200)
def test_two_runs_over_overlapping_days_leave_the_latest_snapshot_of_each(lab: FaultLab) -> None:
    # Numbers of its own: its runs are none of the laboratory's cells, by which the others number theirs.
    numbers = iter(range(5_000_000, 10**7))

    @settings(max_examples=effort(usual=2, thorough=100), deadline=None, suppress_health_check=list(HealthCheck))
    @given(turns=st.lists(st.integers(0, 1), max_size=60), first=st.booleans())
    def interleave(turns: list[int], first: bool) -> None:
        cell = SliceCell(next(numbers), "clone", first=first, way="first" if first else "again")
        set_up(lab, cell)
        table, days = cell.declared(NEW), {f"{cell.number:07d}C": (1, 3), f"{cell.number:07d}D": (2, 4)}
        versions = dict(zip(days, (NEW, NEXT), strict=True))
        order = SliceInterleaving(days, turns)

        def build(run_id: str) -> TableOutcome:
            try:
                return run_slice(lab.account.arguments, cell.declared(versions[run_id]), days[run_id], run_id)
            finally:
                order.ended(run_id)

        with lab.account.hooked(order.hook):
            runs = [Background(lambda run_id=run_id: build(run_id)) for run_id in days]
            outcomes = [one.result(PATIENCE_SECONDS) for one in runs]
        assert [outcome.failure for outcome in outcomes] == [None, None]
        with_rows = notes(lab.account.session(), table)
        one, other = with_rows[1][0], with_rows[4][0]
        assert (one, other) == tuple(days)
        # The days of both belong to the run that read last, whichever has published last.
        assert with_rows[2] == with_rows[3]
        owner = with_rows[2][0]
        assert seen_of(lab, cell) == {
            **versions[one].of(1),
            **versions[owner].of(2, 3),
            **versions[other].of(4),
        }
        superseded = {run_id: outcome for run_id, outcome in zip(days, outcomes, strict=True) if run_id != owner}
        ((_, loser),) = superseded.items()
        assert {states(loser)[day] for day in (2, 3)} <= {"superseded", "published"}
        assert {each.superseded_by for each in loser.partitions.values()} <= {None, owner}
        assert snapshots(lab, cell)[owner] == max(snapshots(lab, cell).values())

    interleave()
    lab.account.server.hook = lab.hook


def snapshots(lab: FaultLab, cell: SliceCell) -> dict[str, str]:
    rows = lab.sql(
        f"select distinct run_id, snapshot_at from analytics.run_elt_partitions where table_name = '{cell.table.upper()}' "
        "and partition_key is not null"
    )
    return dict(rows)


def test_lock_that_is_not_given_is_asked_for_again_without_building_again(lab: FaultLab, cell: SliceCell) -> None:
    refusals = iter([625, 625, 625])

    def refuse(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "before" and event.sql.startswith("UPDATE") and (number := next(refusals, None)):
            raise SqlError("too many wait", errno=number, sqlstate="57014")

    with lab.account.hooked(refuse):
        outcome = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id, retry_seconds=())
    lab.account.server.hook = lab.hook
    assert outcome.published, outcome.failure
    assert cell.statements.count("publish: BEGIN TRANSACTION") == 4
    assert cell.statements.count("build: CREATE OR") == 1
    assert seen_of(lab, cell) == cell.after(NEW)


def test_lock_that_is_never_given_fails_the_slice_and_keeps_its_candidate(lab: FaultLab, cell: SliceCell) -> None:
    """The run waits as long as its session's parameters say: a second, where it may not wait at all."""
    other, held = lab.account.session(), list[int]()

    def hold(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "before" and event.sql.startswith("BEGIN TRANSACTION NAME") and not held:
            held.append(1)
            other.sql("begin")
            other.sql("update analytics.run_elt_partitions set published_at = null where partition_key is null")
        if event.phase == "before" and event.sql.startswith("COMMENT"):
            # The candidate is marked as failed. On this server that waits for the same lock.
            other.sql("rollback")

    with lab.account.hooked(hold):
        failed = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id, wait_seconds=0)
    lab.account.server.hook = lab.hook
    assert failed.failure is not None
    assert failed.failure.errno == 625
    assert "Readers see what they saw before of partitions 2024-01-02, 2024-01-03." in failed.failure.message
    assert seen_of(lab, cell) == cell.before
    assert failed.candidate.name in lab.comments([cell.table])


def test_lost_answer_of_the_commit_is_looked_into_and_nothing_is_exchanged_twice(
    lab: FaultLab, cell: SliceCell
) -> None:
    lost: list[int] = []

    def lose(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "after" and event.sql == "COMMIT" and not lost:
            lost.append(1)
            raise SqlError("the session is gone", errno=390111, sqlstate="08001")

    with lab.account.hooked(lose):
        outcome = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id)
    lab.account.server.hook = lab.hook
    assert outcome.published, outcome.failure
    assert lost
    assert cell.statements.count("publish: DELETE FROM") == 1
    assert cell.statements.count("publish: COMMIT") == 1


def test_rows_that_somebody_writes_meanwhile_roll_the_exchange_back(lab: FaultLab, cell: SliceCell) -> None:
    """As if the writer's INSERT had waited for no lock, as on an account."""
    hidden: list[int] = []

    def write(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "before" and event.sql.startswith("BEGIN") and not hidden:
            hidden.append(1)
            lab.sql(f"delete from analytics.temp_{cell.table}__{cell.run_id} where n = 7")

    with lab.account.hooked(write):
        outcome = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id)
    lab.account.server.hook = lab.hook
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.TARGET_CHANGES
    assert "requires the 10 rows" in outcome.failure.message
    assert ", got 9." in outcome.failure.message
    assert seen_of(lab, cell) == cell.before


def test_run_that_fails_after_it_has_created_the_table_says_that_readers_see_it(lab: FaultLab, cell: SliceCell) -> None:
    first = SliceCell(cell.number + 50_000, "clone", first=False, way="first")

    def take_lock_away(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "before" and event.sql.startswith("UPDATE"):
            lab.sql(f"delete from analytics.run_elt_partitions where table_name = '{first.table.upper()}'")

    with lab.account.hooked(take_lock_away):
        outcome = run_cell(lab, first)
    lab.account.server.hook = lab.hook
    assert outcome is not None
    assert outcome.failure is not None
    assert "requires its lock in RUN_ELT.ANALYTICS.RUN_ELT_PARTITIONS" in outcome.failure.message
    assert "Readers see the new table." in outcome.failure.message
    assert set(states(outcome).values()) == {"published"}
    assert seen_of(lab, first) == first.after(NEW)
    after = run_slice(lab.account.arguments, first.declared(NEXT), first.days, f"{first.number:07d}C")
    assert after.published, after.failure
    assert seen_of(lab, first) == first.after(NEXT)


def test_grants_and_everything_else_on_the_table_stay(lab: FaultLab, cell: SliceCell) -> None:
    lab.sql(f"create stream analytics.changes_{cell.number} on table analytics.{cell.table}")
    assert run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id).published
    assert "CONSUMER" in lab.grantees(cell.table)
    (stream,) = lab.sql(f"show streams like 'CHANGES_{cell.number}' in schema analytics")
    assert "false" in stream
    assert "true" not in stream


def test_table_with_a_policy_is_refused_before_it_is_built(lab: FaultLab, cell: SliceCell) -> None:
    lab.sql("create row access policy if not exists analytics.some as (v int) returns boolean -> v > 0")
    lab.sql(f"alter table analytics.{cell.table} add row access policy analytics.some on (v)")
    outcome = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id)
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.PARTITION_POLICIES
    assert [sent for sent in cell.statements if not sent.startswith("inspect")] == []
    assert json.loads(json.dumps(outcome.failure.production.to_json()))["state"] == "unchanged"


def test_policy_that_is_set_during_the_build_is_seen_before_anything_is_deleted(lab: FaultLab, cell: SliceCell) -> None:
    lab.sql("create row access policy if not exists analytics.late as (v int) returns boolean -> v > 0")

    def set_policy(event: StatementEvent) -> None:
        lab.hook(event)
        if event.phase == "after" and tag_of(event).get("stage") == "audit":
            lab.sql(f"alter table analytics.{cell.table} add row access policy analytics.late on (v)")

    with lab.account.hooked(set_policy):
        outcome = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id)
    lab.account.server.hook = lab.hook
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.PARTITION_POLICIES
    assert "row access policy LATE on it" in outcome.failure.message
    assert [sent for sent in cell.statements if sent.startswith("publish")] == [
        "publish: SELECT (SELECT",
        "publish: COMMENT ON",
    ]
    assert seen_of(lab, cell) == cell.before


def test_policies_that_cannot_be_asked_for_with_the_catalogue_are_asked_for_alone(
    lab: FaultLab, cell: SliceCell
) -> None:
    """As where the table is gone for a moment, or where an account takes no table function there."""
    refused: list[int] = []

    def refuse(event: StatementEvent) -> None:
        lab.hook(event)
        is_meant = "ARRAY_AGG" in event.sql and "POLICY_REFERENCES" in event.sql
        if event.phase == "before" and is_meant:
            refused.append(1)
            raise SqlError("Unsupported subquery type", errno=2031, sqlstate="42601")

    with lab.account.hooked(refuse):
        outcome = run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id)
    lab.account.server.hook = lab.hook
    assert (outcome.failure, len(refused)) == (None, 1)
    publishing = [sent for sent in cell.statements if sent.startswith("publish")]
    assert publishing[:3] == ["publish: SELECT (SELECT", "publish: SELECT (SELECT", "publish: SELECT 0"]


# As many as a check may add: two keys that the day is no part of, and the number of rows of the day before.
DEMANDING: Mapping[str, Any] = {
    "primary_key": "n",
    "checks": {"unique": [["v", "n"]], "row_count_change": {"max_growth": "900%"}},
}


@pytest.mark.parametrize(
    "checks", [pytest.param({}, marks=pytest.mark.thorough), DEMANDING], ids=["plain", "demanding"]
)
def test_day_of_a_thousand_takes_at_most_twice_the_statements_of_a_whole_table_of_its_size(
    lab: FaultLab, checks: Mapping[str, Any]
) -> None:
    number, sent = 800_000 + len(checks), Counter[str]()
    sql = f"select dateadd(day, seq4() % {THOUSAND}, '2024-01-01'::date) as day, seq4() as n, 1 as v from table(generator(rowcount => {3 * THOUSAND}))"

    def count(event: StatementEvent) -> None:
        sent.update([tag_of(event).get("run_id", "")] if event.phase == "before" else [])

    daily = divided(sql, table=f"daily{number}", **checks)
    for statement in thousand_days_before(daily, rows=3):
        lab.sql(statement)
    with lab.account.hooked(count):
        assert run_slice(lab.account.arguments, daily, (2,), f"{number}A").failure is None
        for index, publish in enumerate(("clone", "overwrite", "swap")):
            given = {"schema": "analytics", "table": f"whole{number}{publish}", "publish": publish, **checks}
            whole = AnalyticsTable.model_validate({**given, "sql": f"select * from ({sql}) where day = '2024-01-02'"})
            for run_id in (f"{number}{index}C", f"{number}{index}D"):
                (outcome,) = run(lab.account.arguments, [whole], run_id)
                assert outcome.failure is None
    lab.account.server.hook = lab.hook
    # The second publish of each: the first one creates the table.
    wholes = [sent[f"{number}{index}D"] for index in range(3)]
    assert 0 < sent[f"{number}A"] <= 2 * min(wholes), (sent[f"{number}A"], wholes)


def test_statements_of_a_slice_are_few(lab: FaultLab, cell: SliceCell) -> None:
    """Whatever the number of days of the table; a whole table takes half as many."""
    assert run_slice(lab.account.arguments, cell.declared(NEW), cell.days, cell.run_id).published
    assert cell.statements == [
        *["inspect: SELECT CURRENT_ROLE(),", "inspect: SELECT 0", "build: CREATE OR", "audit: SELECT DATEDIFF('day',"],
        *["publish: SELECT (SELECT", "publish: BEGIN TRANSACTION"],
        *['publish: UPDATE "RUN_ELT"."ANALYTICS"."RUN_ELT_PARTITIONS"', "publish: SELECT TABLE_NAME,"],
        *["publish: DELETE FROM", "publish: INSERT INTO", "publish: MERGE INTO", "publish: COMMIT"],
        "clean-up: DROP TABLE",
    ]
