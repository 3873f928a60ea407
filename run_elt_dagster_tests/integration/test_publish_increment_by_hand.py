"""`run-elt publish` of a table with increments: what a run has rejected is merged by a person, once, or not at all."""

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.candidate import Marker, after_note, audited_note, candidate_of, comment_of
from run_elt_dagster.model.increment import start_of
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import built_version
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept import ByHandOutcome, Kept, Published
from run_elt_dagster.publish.kept_increment import IncrementPublisher
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.part_rollback import put_back
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlanner, last_increment
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import Patience, StatementRunner
from run_elt_dagster_tests.faults.increments import NEW, IncrementCell
from run_elt_dagster_tests.faults.laboratory import FaultLab, open_laboratory, open_session
from run_elt_dagster_tests.faults.parts import Task, try_fault
from run_elt_dagster_tests.support.by_hand import RUN, overtaken_in_its_exchange
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.increments import Rows, growing, note, run_increment, seen
from run_elt_dagster_tests.support.local_server import LocalServer
from run_elt_dagster_tests.support.run_arguments import run_arguments

PATIENCE = Patience(retry_seconds=(0, 0, 0), poll_seconds=0.02)
# An answer before, one after, one that never comes, and no one any more who waits for it.
EACH = ("failed", "answer lost", "reported as refused", "session lost from here on", "killed")
NEXT: Rows = {2: (2, 4), 3: (3, 5)}
MERGED: Rows = {1: (1, 1), **NEXT}


def rejecting(source: Rows, *, most_rows: int = 9, table: str = "orders") -> AnalyticsTable:
    return growing(source, table=table, checks={"changes": {"max_changed": 0}, "row_count": {"max": most_rows}})


@contextmanager
def publishing(arguments: Mapping[str, Any], table: AnalyticsTable | None = None) -> Generator[IncrementPublisher]:
    with open_session(arguments) as session:
        chosen = table or rejecting({})
        yield IncrementPublisher(session, chosen, options=PublishOptions(), patience=PATIENCE)


def by_hand(publisher: IncrementPublisher, *waived: str) -> ByHandOutcome:
    found = publisher.find(RUN[:8])
    assert isinstance(found, Kept)
    return publisher.publish(found, person="ana", waived=waived)


def rejected(local_server: LocalServer) -> None:
    """Publish two rows, and let a run reject an increment that changes one of them."""
    arguments = local_server.account.arguments
    assert run_increment(arguments, growing({1: (1, 1), 2: (1, 2)}), "0000000A").published
    outcome = run_increment(arguments, rejecting(NEXT), RUN)
    assert outcome.failure is not None
    assert outcome.failure.if_wanted == f"run-elt publish analytics.orders --run {RUN[:8]}"


def roll_back(local_server: LocalServer, *, further: bool = False) -> None:
    with open_session(local_server.account.arguments) as session:
        given = run_arguments("rollback", retry_seconds=(0, 0, 0))
        runner = StatementRunner(session, given["run"], threading.Event(), patience=given["patience"])
        planner = PartRollbackPlanner(runner, growing({}), last_increment(), database="RUN_ELT")
        put_back(runner, planner.plan(further=further))


def test_kept_increment_is_merged_once_and_the_other_rows_stay(local_server: LocalServer) -> None:
    rejected(local_server)
    with publishing(local_server.account.arguments) as publisher:
        found = publisher.find(RUN[:8])
        assert isinstance(found, Kept)
        assert found.start is not None
        assert found.start.words == "2024-01-01 02:00:00"
        assert found.base is not None
        assert found.base.run_id == "0000000A"
        # The candidate alone says who has published it: it goes when that is noted elsewhere.
        noted: list[tuple[ByHandOutcome, bool]] = []
        candidate = f"TEMP_ORDERS__{RUN[:8].upper()}"
        done = publisher.publish(
            found, person="ana", waived=(), note=lambda done: noted.append((done, candidate in local_server.tables()))
        )
        assert noted == [(done, True)]
        assert done.outcome.failure is None, done.outcome.failure
        assert done.by_hand is not None
        assert (done.by_hand.person, done.by_hand.waived) == ("ana", ("changes",))
        assert seen(local_server.reader) == MERGED
        assert note(local_server.reader, rejecting({}))[0] == RUN
        assert local_server.tables() == {"ORDERS", "RUN_ELT_PARTITIONS"}
        again = publisher.find(RUN[:8])
        assert isinstance(again, Published)
        assert (again.run_id, again.version.rows, again.is_part) == (RUN, 3, True)


@pytest.mark.thorough
def test_increment_is_refused_after_a_newer_publish_and_after_another_failed_check(
    local_server: LocalServer,
) -> None:
    rejected(local_server)
    arguments = local_server.account.arguments
    with publishing(arguments, rejecting({}, most_rows=2)) as other:
        failed = by_hand(other)
        assert failed.by_hand is None
        assert failed.outcome.failure is not None
        assert "check row_count" in failed.outcome.failure.problem
    with publishing(arguments) as publisher:
        early = publisher.find(RUN[:8])
        assert isinstance(early, Kept)
        assert run_increment(arguments, growing({4: (4, 6)}), "0000000C").published
        with pytest.raises(PublishRefusedError, match="that nothing newer was published since, got run 0000000C"):
            publisher.find(RUN[:8])
        late = publisher.publish(early, person="ana", waived=())
        assert (late.by_hand, late.outcome.superseded_by) == (None, "0000000C")
    assert seen(local_server.reader) == {1: (1, 1), 2: (1, 2), 4: (4, 6)}


@pytest.mark.thorough
def test_increment_after_rows_that_were_taken_back_is_refused(local_server: LocalServer) -> None:
    """Merged into older rows, it would leave a gap that no later run fills."""
    arguments = local_server.account.arguments
    assert run_increment(arguments, growing({1: (1, 1)}), "0000000A").published
    assert run_increment(arguments, growing({2: (1, 2)}), "0000000B").published
    assert run_increment(arguments, rejecting(NEXT), RUN).failure is not None
    roll_back(local_server)
    refused = r"the rows that the increment begins after, built .* by run 0000000B"
    with publishing(arguments) as publisher, pytest.raises(PublishRefusedError, match=refused):
        publisher.find(RUN[:8])
    assert seen(local_server.reader) == {1: (1, 1)}


@pytest.mark.thorough
def test_increment_after_rows_that_a_further_rollback_has_taken_back_is_refused(local_server: LocalServer) -> None:
    """Both rollbacks take the place of the same run. The row of the second hour would be missing for good."""
    arguments = local_server.account.arguments
    for run_id, rows in (("0000000A", {1: (1, 1)}), ("0000000B", {2: (1, 2), 3: (1, 3)}), ("0000000C", {4: (1, 4)})):
        assert run_increment(arguments, growing(rows), run_id).published
    roll_back(local_server)
    assert run_increment(arguments, rejecting({3: (2, 3), 5: (1, 5)}), RUN).failure is not None
    roll_back(local_server, further=True)
    with publishing(arguments) as publisher, pytest.raises(PublishRefusedError, match="the rows that the increment"):
        publisher.find(RUN[:8])
    assert seen(local_server.reader) == {1: (1, 1)}


@pytest.mark.thorough
def test_increment_after_a_table_that_somebody_has_replaced_is_refused(local_server: LocalServer) -> None:
    """The new table has no mark, and the notes of the old one would be taken for its own."""
    rejected(local_server)
    other = "select 1 as id, 1 as v, '2024-01-01'::timestamp_ntz as at"
    local_server.reader.sql(f"create or replace table analytics.orders as {other}")
    refused = "the table that the increment begins after, got one that somebody has created since"
    with publishing(local_server.account.arguments) as publisher, pytest.raises(PublishRefusedError, match=refused):
        publisher.find(RUN[:8])
    assert seen(local_server.reader) == {1: (1, 0)}


@pytest.mark.thorough
def test_whole_build_that_was_rejected_comes_in_the_place_of_all_rows(local_server: LocalServer) -> None:
    arguments = local_server.account.arguments
    assert run_increment(arguments, growing({1: (1, 1), 2: (1, 2)}), "0000000A").published
    assert run_increment(arguments, rejecting(NEXT), RUN, is_whole=True).failure is not None
    with publishing(arguments) as publisher:
        assert by_hand(publisher).by_hand is not None
        again = publisher.find(RUN[:8])
        assert isinstance(again, Published)
        assert not again.is_part
    assert seen(local_server.reader) == NEXT


@pytest.mark.thorough
def test_of_two_people_at_the_same_time_the_first_one_has_published(local_server: LocalServer) -> None:
    rejected(local_server)
    arguments, firsts = local_server.account.arguments, list[ByHandOutcome]()

    def publish_first() -> None:
        with publishing(arguments) as other:
            firsts.append(by_hand(other))

    is_overtaken = overtaken_in_its_exchange(local_server.account, publish_first)
    with publishing(arguments) as publisher:
        found = publisher.find(RUN[:8])
        assert isinstance(found, Kept)
        second = publisher.publish(found, person="ben", waived=(), entered=is_overtaken)
        assert firsts[0].by_hand is not None
        assert second.by_hand is None
        assert second.outcome.failure is not None
        assert "that nobody else does at the same time" in second.outcome.failure.message
        assert isinstance(publisher.find(RUN[:8]), Published)
    assert seen(local_server.reader) == MERGED


@pytest.mark.thorough
def test_increment_without_rows_is_refused_since_nothing_would_be_published(local_server: LocalServer) -> None:
    arguments = local_server.account.arguments
    assert run_increment(arguments, growing({1: (1, 1)}), "0000000A").published
    few = growing({}, checks={"row_count": {"min": 5}})
    assert run_increment(arguments, few, RUN).failure is not None
    with publishing(arguments, few) as publisher:
        done = by_hand(publisher, "row_count")
    assert done.by_hand is None
    assert done.outcome.failure is not None
    assert "requires an increment with rows, got an empty one" in done.outcome.failure.message


@pytest.mark.thorough
def test_command_publishes_records_and_logs_with_the_code_of_the_rows_that_stay(
    commanded_project: DagsterProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_ELT_LOG_SCHEMA", "RUN_ELT")
    project = commanded_project
    asset = dg.AssetKey(["analytics", "orders"])
    head = "/* elt\nincrement: {column: at, key: [id]}\nchecks: {changes: {max_changed: 0}}\nelt */ "
    for value in (1, 2):
        project.declare(orders=f"{head}select 1 as id, {value} as v, '2024-01-01'::date as at")
        run_id = project.materialize().run_id
        built = built_version(project.instance, asset)
    capsys.readouterr()
    arguments = ["publish", "analytics.orders", "--run", run_id[:8]]
    assert main(arguments) == 1
    assert "Pass --yes" in capsys.readouterr().err
    assert main([*arguments, "--yes"]) == 0
    assert f"analytics.orders: 1 row of run {run_id[:8]}, published by" in capsys.readouterr().out
    assert project.sql("select v from analytics.orders") == [(2,)]
    (record,) = project.instance.fetch_materializations(asset, limit=1).records
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["checks_waived"].value == "changes"
    assert record.asset_materialization.metadata["increment_start"].value == "2024-01-01"
    assert built is not None
    assert built_version(project.instance, asset) == built
    assert main([*arguments, "--yes"]) == 0
    assert "is published already" in capsys.readouterr().out
    assert len(project.instance.fetch_materializations(asset, limit=9).records) == 2
    logged = "select job, state, row_count, waived_checks, run_id from run_elt.run_elt.publishes"
    assert project.sql(logged) == [("run-elt publish", "published", 1, "changes", run_id)]


@dataclass
class KeptCell(IncrementCell):
    """A command that meets one fault, and after it the same command and a run."""

    def statements_before(self) -> Iterable[str]:
        yield from super().statements_before()
        table, start, at = self.declared(NEW), start_of("2024-01-01 04:00:00"), "2026-02-01T00:00:00.000000Z"
        candidate = candidate_of(table, database="RUN_ELT", run_id=self.run_id).sql
        yield f"create table {candidate} as select * from ({table.sql}) where at >= {start.literal}"
        # As its run would have left it: its audit had ended when it was there.
        notes = [audited_note(datetime.now(UTC).isoformat()), after_note(Marker("run", "0", "2026-01-01"))]
        comment = comment_of(table, Marker("failed", self.run_id, at), start=start, notes=notes)
        yield f"comment on table {candidate} is '{comment}'"

    def task(self, arguments: Any, version: Rows, run_id: str) -> Task:
        kept = rejecting(NEW, table=self.table)
        if version is NEW:
            return publish_kept, (arguments, kept, run_id)
        return repeat_and_run, (arguments, kept, self.declared(version), self.run_id, run_id)


def publish_kept(arguments: Mapping[str, Any], table: AnalyticsTable, run_id: str) -> TableOutcome:
    with publishing(arguments, table) as publisher:
        found = publisher.find(run_id)
        assert isinstance(found, Kept)
        return publisher.publish(found, person="ana", waived=()).outcome


def repeat_and_run(
    arguments: Mapping[str, Any], kept: AnalyticsTable, table: AnalyticsTable, run_id: str, next_run: str
) -> TableOutcome:
    with publishing(arguments, kept) as publisher:
        found = publisher.find(run_id)
        if isinstance(found, Kept):
            assert publisher.publish(found, person="ana", waived=()).by_hand is not None
        else:
            assert publisher.drop_what_is_left(found) is None
    return run_increment(arguments, table, next_run)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("increments")) as laboratory:
        yield laboratory


@pytest.mark.thorough
@pytest.mark.parametrize("fault", EACH)
def test_fault_at_any_statement_leaves_all_or_nothing_and_the_repeated_command_ends_it(
    lab: FaultLab, fault: str
) -> None:
    try_fault(lab, partial(KeptCell, publish="clone", first=False, way="next"), fault)


def test_waived_key_of_rows_that_stay_is_merged_and_not_only_said_to_be(local_server: LocalServer) -> None:
    """The check is asked once more in the transaction: a person who waives it waives that, too."""
    arguments, checks = local_server.account.arguments, {"unique": ["v"]}
    assert run_increment(arguments, growing({1: (1, 1), 2: (2, 2)}, checks=checks), "0000000A").published
    table = growing({3: (1, 3)}, checks=checks)
    outcome = run_increment(arguments, table, RUN)
    assert outcome.failure is not None
    assert "check unique_v" in outcome.failure.problem
    with publishing(arguments, table) as publisher:
        done = by_hand(publisher, "unique_v")
        assert done.outcome.failure is None, done.outcome.failure
        assert done.by_hand is not None
        assert done.by_hand.waived == ("unique_v",)
        assert seen(local_server.reader) == {1: (1, 1), 2: (2, 2), 3: (1, 3)}
        assert note(local_server.reader, table)[0] == RUN
