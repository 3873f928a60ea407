from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Partitioning
from run_elt_dagster.orchestration.heartbeat import lost_runs_sensor
from run_elt_dagster.orchestration.jobs import TableJob
from run_elt_dagster.orchestration.schedule import requests_of, schedule_of, wanted
from run_elt_dagster.runs.partitions import RANGE_END, RANGE_START
from run_elt_dagster.settings import AlertSettings

JOB = TableJob("RunELT_Alert", "daily", "@daily", (("analytics", "orders"),), {}, is_main=True)


@pytest.fixture
def schedule() -> dg.ScheduleDefinition:
    return schedule_of(JOB)


def evaluate(schedule: dg.ScheduleDefinition, at: datetime) -> object:
    return schedule(dg.build_schedule_context(scheduled_execution_time=at))


def test_schedule_is_daily_in_utc_and_running(schedule: dg.ScheduleDefinition) -> None:
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("@daily", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_schedule_does_not_run_before_its_start(schedule: dg.ScheduleDefinition) -> None:
    assert isinstance(evaluate(schedule, datetime(2025, 1, 9, tzinfo=UTC)), dg.SkipReason)


def test_schedule_runs_from_its_start_on_and_keys_the_run_by_its_tick(schedule: dg.ScheduleDefinition) -> None:
    request = evaluate(schedule, datetime(2025, 1, 10, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "2025-01-10T00:00:00+00:00"


def test_schedule_and_sensors_are_off_where_they_are_not_to_run_by_themselves() -> None:
    assert schedule_of(JOB, is_running=False).default_status is dg.DefaultScheduleStatus.STOPPED
    alerts = Alerts(AlertSettings(), {}, ("j",))
    sensors = [*alert_sensors(alerts, is_running=False), lost_runs_sensor(lost_after_seconds=60, is_running=False)]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.STOPPED}


def days(**settings: Any) -> Partitioning:
    return Partitioning.model_validate({"by": "day", "column": "day", "start": date(2025, 1, 1), **settings})


A, B = ("analytics", "a"), ("analytics", "b")
NOW = datetime(2025, 1, 21, tzinfo=UTC)


def keys_of(*days_of_january: int) -> set[str]:
    return {f"2025-01-{day:02d}" for day in days_of_january}


def asked(tables: Mapping[Key, Partitioning], there: Mapping[Key, set[str]]) -> list[tuple[str, tuple[Key, ...], bool]]:
    return [
        (f"{each.part.keys[0]}...{each.part.keys[-1]}", each.tables, each.is_newest)
        for each in wanted(tables, there, now=NOW)
    ]


def test_tick_asks_for_the_newest_partition_with_its_lookback() -> None:
    there = keys_of(*range(1, 21))
    assert asked({A: days()}, {A: there}) == [("2025-01-20...2025-01-20", (A,), True)]
    assert asked({A: days(), B: days(lookback=2)}, {A: there, B: there}) == [("2025-01-18...2025-01-20", (A, B), True)]


def test_tick_catches_up_what_was_missed_in_one_run_if_it_is_adjacent() -> None:
    assert asked({A: days()}, {A: keys_of(*range(1, 17))}) == [("2025-01-17...2025-01-20", (A,), True)]


def test_tick_asks_for_a_gap_in_a_run_of_its_own_for_the_tables_that_lack_it() -> None:
    there = keys_of(*range(1, 20))
    assert asked({A: days(), B: days()}, {A: there, B: there - keys_of(5, 6)}) == [
        ("2025-01-20...2025-01-20", (A, B), True),
        ("2025-01-05...2025-01-06", (B,), False),
    ]


def test_table_that_was_never_built_is_not_caught_up() -> None:
    """Its history may be years: a backfill builds that."""
    assert asked({A: days()}, {}) == [("2025-01-20...2025-01-20", (A,), True)]


def test_run_has_max_per_run_partitions_at_most_and_always_what_is_due() -> None:
    assert asked({A: days(max_per_run=3)}, {A: keys_of(*range(1, 13))}) == [
        ("2025-01-18...2025-01-20", (A,), True),
        ("2025-01-15...2025-01-17", (A,), False),
        ("2025-01-13...2025-01-14", (A,), False),
    ]
    assert asked({A: days(max_per_run=2), B: days(lookback=3)}, {A: keys_of(*range(1, 20))}) == [
        ("2025-01-17...2025-01-20", (A, B), True)
    ]


def test_gap_older_than_the_last_hundred_partitions_is_left_alone() -> None:
    old = days(start=date(2024, 1, 1))
    there = {each.key for each in old.partitions(NOW)} - {"2024-10-11", "2024-10-13"}
    assert asked({A: old}, {A: there}) == [
        ("2025-01-20...2025-01-20", (A,), True),
        ("2024-10-13...2024-10-13", (A,), False),
    ]


def test_partitions_that_are_over_for_good_are_not_built_again_and_again() -> None:
    assert asked({A: days(end=date(2025, 1, 11))}, {A: keys_of(*range(1, 11))}) == []
    assert asked({A: days(end=date(2025, 1, 11))}, {A: keys_of(*range(1, 10))}) == [
        ("2025-01-10...2025-01-10", (A,), False)
    ]


def test_whole_tables_run_once_with_the_newest_partition_and_without_one_by_themselves() -> None:
    instance = dg.DagsterInstance.ephemeral()
    for key in keys_of(*range(1, 21)) - keys_of(7):
        instance.report_runless_asset_event(dg.AssetMaterialization(list(A), partition=key))
    running = replace(JOB, partitions={A: days()})
    newest, gap = requests_of(running, instance, at=NOW)
    assert (newest.asset_selection, newest.tags[RANGE_START], newest.tags[RANGE_END]) == (None, *2 * ["2025-01-20"])
    assert (gap.asset_selection, gap.tags[RANGE_START]) == ([dg.AssetKey(list(A))], "2025-01-07")
    assert len({newest.run_key, gap.run_key}) == 2
    ended = replace(JOB, partitions={A: days(end=date(2025, 1, 7))})
    (whole,) = requests_of(ended, instance, at=NOW)
    assert (whole.asset_selection, whole.tags.get(RANGE_START)) == ([dg.AssetKey(["analytics", "orders"])], None)


def test_schedule_of_other_partitions_has_nothing_to_do_before_the_first_one_is_over() -> None:
    job = TableJob(
        "RunELT_Alert_hour_2030010100",
        "hourly_2030010100",
        "0 * * * *",
        (),
        {A: days(by="hour", start=date(2030, 1, 1))},
    )
    assert requests_of(job, dg.DagsterInstance.ephemeral(), at=NOW) == []


def test_tick_of_a_daemon_asks_for_what_was_missed_after_a_downtime(tmp_path: Path) -> None:
    """As the daemon evaluates it, with a history: Dagster itself runs the latest missed tick alone."""
    running = replace(JOB, partitions={A: days(lookback=1)})
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for key in keys_of(3, 4, *range(6, 18)):
            instance.report_runless_asset_event(dg.AssetMaterialization(list(A), partition=key))
        # The context opens the instance once more, and closes it only here: left open, it would be the one of every test that follows.
        with dg.build_schedule_context(instance, scheduled_execution_time=NOW) as context:
            requests = schedule_of(running).evaluate_tick(context).run_requests
    assert [(each.tags[RANGE_START], each.tags[RANGE_END], each.asset_selection) for each in requests or ()] == [
        ("2025-01-18", "2025-01-20", None),
        ("2025-01-05", "2025-01-05", [dg.AssetKey(list(A))]),
    ]
