"""How a run was launched."""

from typing import Literal

import dagster as dg

from run_elt_dagster.model.names import short_id

Trigger = Literal[
    "the schedule", "a sensor", "a backfill", "the UI", "the command line", "a re-execution", "an automatic retry"
]


def trigger_of(run: dg.DagsterRun) -> tuple[Trigger, str]:
    """Return how a run was launched, and the name of the schedule, the sensor or the user where one is known."""
    tags = run.tags
    if parent := tags.get("dagster/parent_run_id"):
        # It has the tags of the run that it repeats, of the schedule among them, though that has not launched it.
        # https://docs.dagster.io/deployment/execution/run-retries
        return (
            "an automatic retry" if "dagster/retry_number" in tags else "a re-execution",
            f"of run {short_id(parent)}",
        )
    for tag, trigger in (
        ("dagster/schedule_name", "the schedule"),
        ("dagster/sensor_name", "a sensor"),
        ("dagster/backfill", "a backfill"),
    ):
        if tag in tags:
            return trigger, tags[tag]  # type: ignore[return-value]
    # The command line builds its job itself, so its runs come from no loaded code location.
    return ("the command line", "") if run.remote_job_origin is None else ("the UI", tags.get("user", ""))
