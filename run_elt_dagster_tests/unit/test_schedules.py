from datetime import UTC, datetime

import dagster as dg
import pytest

from run_elt_dagster.schedules import daily_schedule


@pytest.fixture
def schedule() -> dg.ScheduleDefinition:
    return daily_schedule(job_name="RunELT_Alert")


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
