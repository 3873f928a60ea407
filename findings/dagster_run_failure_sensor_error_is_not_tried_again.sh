#!/usr/bin/env bash
# Guess: a run-failure sensor whose function raises, because the receiver of its alert is down, is called with the same run at
# its next tick, as a failed sensor of another kind is called again with the cursor that it had.
# What happens: the tick hands out a reaction with the error in it, and the cursor has moved past the failed run. No later
# tick calls the function with that run. An alert that failed once is lost.
# Seen with dagster 1.13.27:
#   calls after each of four ticks: 0 1 1 1
#   reactions of the second tick: RuntimeError: the receiver is down
# What to do: write down in a storage of one's own which runs were told, and look there at every tick.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'EOF'
import dagster as dg

calls, errors, after_each_tick = [], [], []


@dg.op
def load():
    raise ValueError("no rows")


@dg.job
def nightly():
    load()


@dg.run_failure_sensor
def alert(context: dg.RunFailureSensorContext):
    calls.append(context.dagster_run.run_id)
    raise RuntimeError("the receiver is down")


repository = dg.Definitions(jobs=[nightly], sensors=[alert]).get_repository_def()
cursor = None
with dg.instance_for_test() as instance:
    for tick in range(4):
        with dg.build_sensor_context(instance, cursor=cursor, repository_def=repository) as context:
            data = alert.evaluate_tick(context)
        cursor = data.cursor
        errors += [reaction.error.message.strip() for reaction in data.dagster_run_reactions]
        after_each_tick.append(len(calls))
        # The first tick only says from where on the sensor looks.
        if tick == 0:
            nightly.execute_in_process(instance=instance, raise_on_error=False)
print("calls after each of four ticks:", *after_each_tick)
print("reactions of the second tick:", *errors)
assert after_each_tick == [0, 1, 1, 1], f"CHANGED: {after_each_tick}"
assert errors == ["RuntimeError: the receiver is down"], f"CHANGED: {errors}"
EOF
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
