"""Runs of partitioned tables on the embedded Snowflake: what is built, what Dagster records of it, and what is refused."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.retry import retry_of
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.slice_run import SliceRun
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text

DAYS, TOTAL = dg.AssetKey(["analytics", "days"]), dg.AssetKey(["analytics", "total"])
RANGE = "2024-01-01...2024-01-03"
FIRST, SECOND, THIRD = "2024-01-01", "2024-01-02", "2024-01-03"


@pytest.fixture
def days(project: DagsterProject) -> DagsterProject:
    """A whole table, days that read it, and a whole table that reads the days."""
    project.sql(
        "create table raw_data.e as select column1::date as day, column2::int as n from values "
        "('2024-01-01', 1), ('2024-01-01', 2), ('2024-01-02', 3), ('2024-01-03', 4), ('2024-01-03', 5), ('2024-01-04', 6)"
    )
    project.declare(
        source="select day, n from raw_data.e",
        days="/* elt\npartitions: {by: day, column: day, start: 2024-01-01}\nprimary_key: [day, n]\nelt */\n"
        "select day, n from analytics.source",
        total="select count(*) as n from analytics.days",
    )
    return project


def materialized(project: DagsterProject, run_id: str) -> list[tuple[str, str | None]]:
    return [
        (event.asset_materialization.asset_key.path[-1], event.asset_materialization.partition)
        for event in project.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if event.asset_materialization is not None
    ]


def evaluations(project: DagsterProject, run_id: str) -> list[dg.AssetCheckEvaluation]:
    events = project.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [each for event in events if (each := event.asset_check_evaluation) is not None]


def of_days(found: Sequence[dg.AssetCheckEvaluation], check: str) -> dict[str | None, tuple[bool, Any]]:
    """Return by partition whether a check of the days passed, and which materialization it is about."""
    return {
        each.partition: (each.passed, data.storage_id if (data := each.target_materialization_data) else None)
        for each in found
        if each.asset_key == DAYS and each.check_name == check
    }


def latest(project: DagsterProject) -> dict[str | None, int]:
    records = project.instance.fetch_materializations(DAYS, limit=100, ascending=True).records
    return {record.partition_key: record.storage_id for record in records}


def test_range_is_one_run_and_each_partition_has_its_event_and_its_checks(days: DagsterProject) -> None:
    """Whole tables before and after the partitions are built in the same step, parents first."""
    result = days.materialize(partitions=RANGE)
    assert result.success
    assert materialized(days, result.run_id) == [
        ("source", None),
        ("days", FIRST),
        ("days", SECOND),
        ("days", THIRD),
        ("total", None),
    ]
    rows = {
        record.partition_key: record.asset_materialization.metadata["dagster/partition_row_count"].value
        for record in days.instance.fetch_materializations(DAYS, limit=10).records
        if record.asset_materialization is not None
    }
    assert rows == {FIRST: 2, SECOND: 1, THIRD: 2}
    assert days.sql("select n from analytics.total") == [(5,)]
    found, about = evaluations(days, result.run_id), latest(days)
    for check in ("row_count", "primary_key", "partition"):
        assert of_days(found, check) == {day: (True, about[day]) for day in (FIRST, SECOND, THIRD)}


def test_partition_that_fails_keeps_its_rows_and_the_others_are_recorded(days: DagsterProject) -> None:
    """A green run with a partition left out would fail a backfill without an alert: the run fails."""
    assert days.materialize(partitions=RANGE).success
    before = latest(days)
    days.sql("insert into raw_data.e values ('2024-01-02', 3), ('2024-01-01', 7)")
    result = days.materialize(partitions=RANGE)
    assert not result.success
    assert materialized(days, result.run_id) == [("source", None), ("days", FIRST), ("days", THIRD)]
    assert days.sql("select day::varchar, count(*) from analytics.days group by 1 order by 1") == [
        (FIRST, 3),
        (SECOND, 1),
        (THIRD, 2),
    ]
    verdicts = of_days(evaluations(days, result.run_id), "primary_key")
    # What pages show for the rejected partition is about the rows that readers still see.
    assert verdicts == {
        FIRST: (True, latest(days)[FIRST]),
        SECOND: (False, before[SECOND]),
        THIRD: (True, latest(days)[THIRD]),
    }
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    facts = failure.step_failure_data.user_failure_data.metadata["facts"].value
    assert [(fact["table"], fact["partitions"], fact["partitions_published"]) for fact in facts] == [
        ("analytics.days", [SECOND], 2)
    ]
    assert SECOND in failure_text(result)


@pytest.mark.thorough
def test_one_partition_is_built_by_its_key(days: DagsterProject) -> None:
    result = days.materialize("source", "days", partitions=SECOND)
    assert result.success
    assert materialized(days, result.run_id) == [("source", None), ("days", SECOND)]
    assert of_days(evaluations(days, result.run_id), "row_count") == {SECOND: (True, latest(days)[SECOND])}


@pytest.mark.parametrize(("asked", "got"), [(None, "got none"), (f"{THIRD}...{FIRST}", f"got {THIRD}...{FIRST}")])
def test_run_without_a_partition_or_with_a_range_the_wrong_way_round_builds_nothing(
    days: DagsterProject, asked: str | None, got: str
) -> None:
    """Dagster would end both in green, and record a table without a partition."""
    result = days.materialize(partitions=asked)
    assert not result.success
    assert got in failure_text(result)
    assert "This run is refused, nothing was built" in failure_text(result)
    assert materialized(days, result.run_id) == []
    assert days.tables() == set()


@pytest.mark.thorough
def test_whole_tables_run_without_a_partition_beside_partitioned_ones(days: DagsterProject) -> None:
    result = days.materialize("source")
    assert (result.success, materialized(days, result.run_id)) == (True, [("source", None)])


def test_check_by_itself_audits_the_published_partition_that_is_asked_for(days: DagsterProject) -> None:
    assert days.materialize(partitions=RANGE).success
    days.sql("insert into analytics.days values ('2024-01-03', 5)")
    selection = dg.AssetSelection.checks(dg.AssetCheckKey(DAYS, "primary_key"))
    passing = days.materialize(selection=selection, partitions=FIRST)
    assert passing.success
    assert of_days(evaluations(days, passing.run_id), "primary_key") == {FIRST: (True, latest(days)[FIRST])}
    failing = days.materialize(selection=selection, partitions=f"{SECOND}...{THIRD}")
    assert not failing.success
    assert of_days(evaluations(days, failing.run_id), "primary_key") == {
        SECOND: (True, latest(days)[SECOND]),
        THIRD: (False, latest(days)[THIRD]),
    }


@pytest.mark.filterwarnings("ignore:Parameter `backfill_policy` of function `asset` is currently in beta")
def test_others_wait_for_partitions_and_run_if_every_one_is_published(days: DagsterProject) -> None:
    """A result records every partition of the run: it is given only where that is true."""

    @dg.asset(deps=[DAYS], backfill_policy=dg.BackfillPolicy.single_run())
    def report() -> None: ...

    result = days.materialize(partitions=RANGE, others=[report])
    assert result.success
    assert sorted(materialized(days, result.run_id), key=str) == sorted(
        [("source", None), *(("days", day) for day in (FIRST, SECOND, THIRD)), ("total", None), ("report", None)],
        key=str,
    )
    days.sql("insert into raw_data.e values ('2024-01-02', 3)")
    partly = days.materialize("source", "days", partitions=RANGE, others=[report])
    assert not partly.success
    assert materialized(days, partly.run_id) == [("source", None), ("days", FIRST), ("days", THIRD)]


def test_retry_builds_the_partitions_that_a_run_left(days: DagsterProject) -> None:
    days.sql("insert into raw_data.e values ('2024-01-02', 3)")
    result = days.materialize(partitions=RANGE)
    assert not result.success
    catalogue = load_tables(days.directory / "tables")
    specs = list(analytics_assets(catalogue, PublishOptions()).specs)
    left = retry_of(days.instance, specs)
    assert (left.run_id, [key.path[-1] for key in left.keys]) == (result.run_id, ["days", "total"])
    assert left.command(())[2:6] == [
        "--select",
        "analytics/days,analytics/total",
        "--partition-range",
        f"{SECOND}...{SECOND}",
    ]


@pytest.mark.thorough
def test_tables_with_other_partitions_run_by_themselves_with_whole_tables_around_them(days: DagsterProject) -> None:
    """One op has them all; Dagster runs one kind of partitions at a time."""
    days.declare(
        hours="/* elt\npartitions: {by: hour, column: at, start: 2024-01-01}\nelt */\n"
        "select dateadd(hour, n, day::timestamp_ntz) as at, n from analytics.source",
        total="select count(*) as n from analytics.hours",
    )
    result = days.materialize("source", "hours", "total", partitions="2024-01-01-01:00...2024-01-01-02:00")
    assert result.success
    assert materialized(days, result.run_id) == [
        ("source", None),
        ("hours", "2024-01-01-01:00"),
        ("hours", "2024-01-01-02:00"),
        ("total", None),
    ]
    assert days.sql("select n from analytics.total") == [(2,)]


def superseded(day: str) -> Callable[..., TableOutcome]:
    """Let a partition end as it does when a newer run has published it, which takes two runs and a pause to happen."""
    run = SliceRun.run

    def ended(self: SliceRun, *args: Any) -> TableOutcome:
        outcome = run(self, *args)
        part = dataclasses.replace(outcome.partitions[day], state="superseded", superseded_by="newer")
        return dataclasses.replace(outcome, partitions={**outcome.partitions, day: part})

    return ended


def test_partition_that_a_newer_run_has_published_is_not_recorded_again_and_fails_nothing(
    days: DagsterProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SliceRun, "run", superseded(SECOND))
    result = days.materialize(partitions=RANGE)
    assert result.success
    assert materialized(days, result.run_id) == [("source", None), ("days", FIRST), ("days", THIRD), ("total", None)]
    # The verdict on rows that no reader sees is in the history, and is shown for none.
    verdicts = of_days(evaluations(days, result.run_id), "row_count")
    assert verdicts == {FIRST: (True, latest(days)[FIRST]), SECOND: (True, None), THIRD: (True, latest(days)[THIRD])}
