"""Signs of life of a run, on a history of a test's own: who gives them lives, who gives none any more is ended."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.orchestration.heartbeat import fail_runs_without_heartbeat, heartbeat, lost_runs_sensor
from run_elt_dagster.runs.tags import ALIVE, own
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.history import lay_empty_history


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(lay_empty_history(tmp_path))) as instance:
        yield instance


def in_a_run(instance: dg.DagsterInstance, body: Callable[[str], None]) -> dg.DagsterRun:
    """Call something while a run is started, and return the run after it."""

    @dg.op
    def calls(context: dg.OpExecutionContext) -> None:
        body(context.run_id)

    @dg.job
    def job() -> None:
        calls()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def sign(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return own(run, ALIVE) or ""


def wait_for_another(instance: dg.DagsterInstance, run_id: str, last: str) -> None:
    for _ in range(20 * PATIENCE_SECONDS):
        if sign(instance, run_id) != last:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"no heartbeat after {last}")


def test_run_that_gives_signs_of_life_goes_on_and_is_lost_once_it_gives_none(instance: dg.DagsterInstance) -> None:
    ended: list[list[str]] = []

    def body(run_id: str) -> None:
        seen: dict[str, tuple[str, int]] = {}
        with heartbeat(instance, run_id, beat_seconds=0.02):
            for _ in range(3):
                wait_for_another(instance, run_id, seen.get(run_id, ("", 0))[0])
                seen, lost = fail_runs_without_heartbeat(instance, seen, looks=1)
                assert (list(seen), lost) == ([run_id], [])
        last, seen = sign(instance, run_id), {}
        for _ in range(4):
            # The first look sees the last sign for the first time.
            seen, lost = fail_runs_without_heartbeat(instance, seen, looks=3)
            ended.append(lost)
        assert seen == {}
        assert sign(instance, run_id) == last

    run = in_a_run(instance, body)
    assert ended == [[], [], [], [run.run_id]]
    told = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)]
    assert [event and event.message for event in told] == [
        f"The process of this run is gone: its last heartbeat is of {own(run, ALIVE)}."
    ]


def test_run_without_any_sign_is_not_ours_to_end(instance: dg.DagsterInstance) -> None:
    def body(run_id: str) -> None:
        del run_id
        seen: dict[str, tuple[str, int]] = {}
        for _ in range(5):
            seen, lost = fail_runs_without_heartbeat(instance, seen, looks=1)
            assert (seen, lost) == ({}, [])

    assert in_a_run(instance, body).status is dg.DagsterRunStatus.SUCCESS


def test_run_that_was_ended_elsewhere_is_interrupted(instance: dg.DagsterInstance) -> None:
    interrupted: list[str] = []

    def body(run_id: str) -> None:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        try:
            with heartbeat(instance, run_id, beat_seconds=0.02):
                instance.report_run_failed(run, "ended elsewhere")
                threading.Event().wait(PATIENCE_SECONDS)
        except dg.DagsterExecutionInterruptedError:
            interrupted.append(run_id)

    run = in_a_run(instance, body)
    assert interrupted == [run.run_id]


def test_sensor_counts_its_looks_in_its_cursor(instance: dg.DagsterInstance) -> None:
    def body(run_id: str) -> None:
        sensor, cursor, said = lost_runs_sensor(lost_after_seconds=61), None, []
        with heartbeat(instance, run_id, beat_seconds=60):
            for _ in range(4):
                with dg.build_sensor_context(instance, cursor=cursor) as context:
                    answer = sensor(context)
                    cursor = context.cursor
                assert isinstance(answer, dg.SkipReason)
                said.append(answer.skip_message)
        one = "1 run lives, 0 lost ones ended: none"
        assert said == [one, one, one, f"0 runs live, 1 lost one ended: {run_id}"]

    in_a_run(instance, body)
