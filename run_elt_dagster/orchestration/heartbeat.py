"""Lost runs: a run writes heartbeats while it lives. One without a new heartbeat is failed, so it alerts.

Dagster sees a worker die only as long as its code server lives. A run whose machine, container or command line was killed
stays "started", and no alert comes.
"""

import contextlib
import json
import signal
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.model.counted import counted
from run_elt_dagster.runs.code_location import Place, started_from
from run_elt_dagster.runs.tags import ALIVE, STARTED_FROM, bound, copies, own

BEAT_SECONDS, INTERVAL_SECONDS = 20, 30
_JOIN_SECONDS = 5
_ENDED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS)


@contextmanager
def heartbeat(
    instance: dg.DagsterInstance, run_id: str, *, beat_seconds: float = BEAT_SECONDS, place: Place | None = None
) -> Generator[None]:
    """Write a run's heartbeat into its tags, at once and until the block ends.

    A run that was ended meanwhile, as lost or by a person who forced it, is interrupted: it must not publish after
    an alert said that it did not.

    Args:
        instance: Where the run is recorded.
        run_id: The run.
        beat_seconds: How often.
        place: What the code location builds, and where; None for what the environment says.
    """
    ended, caller = threading.Event(), threading.current_thread()

    def beat() -> None:
        while not ended.wait(beat_seconds):
            # Where Dagster's storage is away, the run's own events fail too, and say so; a missed heartbeat is no harm.
            with contextlib.suppress(Exception):
                run = instance.get_run_by_id(run_id)
                if run is None or run.status in _ENDED:
                    # A signal, since only that wakes a thread that waits. Python takes them in the main thread alone.
                    if caller is threading.main_thread() and caller.ident is not None:
                        signal.pthread_kill(caller.ident, signal.SIGINT)
                    return
                _beat(instance, run_id)

    _begin(instance, run_id, place)
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # Not for ever: a storage that is away must not keep the run's failure from being said.
        thread.join(_JOIN_SECONDS)


def _begin(instance: dg.DagsterInstance, run_id: str, place: Place | None) -> None:
    """Write the first heartbeat, and take away what the run, as a re-execution, has copied of another run's alert."""
    run = instance.get_run_by_id(run_id)
    copied = copies(run) if run is not None else {}
    instance.add_run_tags(run_id, {**_sign(run_id), STARTED_FROM: bound(run_id, started_from(place)), **copied})


def _beat(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.add_run_tags(run_id, _sign(run_id))


def _sign(run_id: str) -> dict[str, str]:
    return {ALIVE: bound(run_id, datetime.now(UTC).isoformat(timespec="milliseconds"))}


def lost_runs_sensor(*, lost_after_seconds: int, is_running: bool = True) -> dg.SensorDefinition:
    """Return the sensor that ends lost runs.

    Args:
        lost_after_seconds: How long a live run may go without a heartbeat.
        is_running: Whether it runs until a person switches it in the UI.
    """
    looks = -(-lost_after_seconds // INTERVAL_SECONDS)

    @dg.sensor(
        name="lost_runs",
        default_status=dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Fails runs without a heartbeat. They alert, and a deployment launches them once more.",
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen = {run_id: (str(sign), int(count)) for run_id, (sign, count) in json.loads(context.cursor or "{}").items()}
        seen, ended = fail_runs_without_heartbeat(context.instance, seen, looks=looks)
        context.update_cursor(json.dumps(seen))
        return dg.SkipReason(
            f"{counted(len(seen), 'runs live', 'run lives')}, {counted(len(ended), 'lost ones', 'lost one')} ended: {', '.join(ended) or 'none'}"
        )

    return lost_runs


def fail_runs_without_heartbeat(
    instance: dg.DagsterInstance, seen: Mapping[str, tuple[str, int]], *, looks: int
) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """Fail the runs with a heartbeat that has not changed in so many looks.

    Looks are counted, not seconds: a machine that slept, or a daemon that was away, finds its runs as it left them, and
    clocks of several machines differ.

    Args:
        instance: Where runs are recorded.
        seen: What the last look has returned: by run, its heartbeat, and how often that was seen again.
        looks: How often makes a run lost.

    Returns:
        What was seen now, and the ids of the runs that were ended.
    """
    now: dict[str, tuple[str, int]] = {}
    ended: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        # A copy says nothing: the run that has it may not have written its own first heartbeat yet.
        sign = own(run, ALIVE)
        if sign is None:
            continue
        last, count = seen.get(run.run_id, ("", 0))
        count = count + 1 if sign == last else 0
        if count < looks:
            now[run.run_id] = (sign, count)
            continue
        instance.report_run_failed(run, f"The process of this run is gone: its last heartbeat is of {sign}.")
        ended.append(run.run_id)
    return now, ended
