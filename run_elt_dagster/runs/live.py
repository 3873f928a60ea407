"""Which runs are going on in a deployment."""

import dagster as dg


def is_live(instance: dg.DagsterInstance, start: str) -> bool:
    """Return whether a run whose id starts with these characters, hyphens left out, is going on in this deployment."""
    active = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    wanted = start.replace("-", "").lower()
    return any(
        run.run_id.replace("-", "").lower().startswith(wanted)
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=active))
    )
