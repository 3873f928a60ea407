from datetime import UTC, datetime

import dagster as dg
import pytest

from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.orchestration.heartbeat import lost_runs_sensor
from run_elt_dagster.orchestration.schedule import daily_schedule
from run_elt_dagster.settings import AlertSettings


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


def test_schedule_and_sensors_are_off_where_they_are_not_to_run_by_themselves() -> None:
    assert daily_schedule(job_name="j", is_running=False).default_status is dg.DefaultScheduleStatus.STOPPED
    alerts = Alerts(AlertSettings(), {}, ("j",))
    sensors = [*alert_sensors(alerts, is_running=False), lost_runs_sensor(lost_after_seconds=60, is_running=False)]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.STOPPED}
