#!/usr/bin/env bash
# Guess: a run-failure sensor that returns a SkipReason for a run that it does not want skips that run,
# as every other sensor does with a SkipReason.
# What happens: if the same tick has already handled another failed run, the whole tick fails. The cursor
# stays, so the next tick calls the function with the first run again, and posts its alert again. This
# goes on at every tick. With the unwanted run alone in its tick nothing of this shows.
# Seen with dagster 1.13.27:
#   unwanted run alone: calls 1, cursor moved, no error
#   wanted and then unwanted run: alerts after each of three ticks: 1 2 3, each tick with a CheckError
# What to do: return None for a run that the sensor does not want.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'PYTHON'
import dagster as dg

calls, alerts = [], []


@dg.op
def load():
    raise ValueError("no rows")


@dg.job
def nightly():
    load()


@dg.run_failure_sensor
def alert(context: dg.RunFailureSensorContext):
    calls.append(context.dagster_run.run_id)
    if context.dagster_run.tags.get("team") == "other":
        return dg.SkipReason("a run of another team")
    alerts.append(context.dagster_run.run_id)
    return None


repository = dg.Definitions(jobs=[nightly], sensors=[alert]).get_repository_def()


def tick(instance, cursor):
    """Returns the cursor after the tick, and the name of its error."""
    with dg.build_sensor_context(instance, cursor=cursor, repository_def=repository) as context:
        try:
            return alert.evaluate_tick(context).cursor, None
        except Exception as error:
            return cursor, type(error).__name__


with dg.instance_for_test() as instance:
    start, _ = tick(instance, None)
    nightly.execute_in_process(instance=instance, raise_on_error=False, tags={"team": "other"})
    cursor, error = tick(instance, start)
    print(f"unwanted run alone: calls {len(calls)}, cursor {'moved' if cursor != start else 'stayed'}, error {error}")
    assert (len(calls), cursor != start, error) == (1, True, None), "CHANGED: an unwanted run alone"

    nightly.execute_in_process(instance=instance, raise_on_error=False)
    nightly.execute_in_process(instance=instance, raise_on_error=False, tags={"team": "other"})
    seen = []
    for _ in range(3):
        cursor, error = tick(instance, cursor)
        seen.append((len(alerts), error))
    print("wanted and then unwanted run, alerts and error after each tick:", *seen)
    assert len(set(alerts)) == 1, f"CHANGED: {alerts}"
    assert seen == [(1, "CheckError"), (2, "CheckError"), (3, "CheckError")], f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
