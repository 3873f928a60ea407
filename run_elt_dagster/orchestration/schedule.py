"""The daily schedule of the former Airflow DAG."""

from datetime import UTC, datetime

import dagster as dg

JOB_NAME = "RunELT_Alert"
START = datetime(2025, 1, 10, tzinfo=UTC)


def daily_schedule(*, job_name: str, is_running: bool = True) -> dg.ScheduleDefinition:
    """Return the schedule of a job: daily at 00:00 UTC from 2025-01-10 on.

    Without partitions there is nothing to catch up: after days of downtime the daemon runs the latest missed tick.
    https://docs.dagster.io/guides/automate/schedules

    Args:
        job_name: The job that it launches.
        is_running: Whether it runs until a person switches it in the UI. Dagster then keeps that.
    """

    @dg.schedule(
        name="daily",
        job_name=job_name,
        cron_schedule="@daily",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
        description="Every day at 00:00 UTC, from 2025-01-10 on. After a downtime, one run makes up for all missed days.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time
        if at < START:
            return dg.SkipReason(f"the schedule starts on {START:%Y-%m-%d}, and this tick is of {at:%Y-%m-%d}")
        # The key is for one daemon that was killed between launching a run and noting it: it launches no second one. Two
        # daemons on one storage launch the same run twice all the same (Dagster 1.13.27).
        return dg.RunRequest(run_key=at.isoformat())

    return daily
