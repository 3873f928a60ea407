#!/usr/bin/env bash
# Guess: a run key makes a run happen once, also when two daemons on one storage evaluate the
# same schedule. That two daemons are not supported is logged, but the run key protects.
# What happens: the daemons wake at the same second, and both submit. Either both find no run with
# the key and create one each, or the second finds the first one's run still unsubmitted and
# submits that run again: one run with two RUN_ENQUEUED events.
# Seen with dagster 1.13.27, one tick of each kind:
#   runs with the key 2, submissions 2
#   runs with the key 1, submissions 2
# What to do: let one daemon run at a time (a deployment with "Recreate", not a rolling one). A run
# itself has to bear that another one does the same work at the same time.
set -euo pipefail

folder=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        for _ in {1..40}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
        kill -9 -- "-$pid" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27

mkdir "$folder/home"
export DAGSTER_HOME="$folder/home"
echo "telemetry: {enabled: false}" >"$DAGSTER_HOME/dagster.yaml"
cd "$folder"

cat >defs.py <<'PYTHON'
import dagster as dg


@dg.op
def work(): ...


@dg.job(executor_def=dg.in_process_executor)
def nightly():
    work()


@dg.schedule(job=nightly, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def each_minute(context):
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


defs = dg.Definitions(schedules=[each_minute])
PYTHON

cat >watch.py <<'PYTHON'
import time
from collections import Counter

import dagster as dg


def submissions(instance, run):
    return len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.PIPELINE_ENQUEUED))


with dg.DagsterInstance.get() as instance:
    for _ in range(120):
        runs, submitted = Counter(), Counter()
        for run in instance.get_runs():
            key = run.tags["dagster/run_key"]
            runs[key] += 1
            submitted[key] += submissions(instance, run)
        if any(count > 1 for count in submitted.values()):
            break
        time.sleep(2)
for key, count in submitted.items():
    print(f"runs with the key {runs[key]}, submissions {count}")
assert any(count > 1 for count in submitted.values()), "CHANGED: two daemons submit a run key once"
PYTHON

# Several processes that start at once do not agree on who creates the SQLite storage.
venv/bin/python -c "import dagster as dg; dg.DagsterInstance.get().dispose()"

set -m # each daemon gets a process group of its own
for number in 1 2; do
    venv/bin/dagster-daemon run -f defs.py >"daemon-$number.log" 2>&1 &
    pids+=($!)
done
timeout 280 venv/bin/python watch.py
