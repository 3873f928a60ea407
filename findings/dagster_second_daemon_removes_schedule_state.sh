#!/usr/bin/env bash
# Guess: a second daemon on the same storage leaves a schedule alone that is off in its own
# workspace, or that its workspace does not have. At most it evaluates nothing.
# What happens: it removes the stored state of the schedule, in its first loop and once a minute.
# The first daemon makes the state anew in its next loop, with a new start, as if the schedule
# had just been switched on. Only a line in the log of the second daemon tells of it.
# Seen with dagster 1.13.27 (both for a schedule that is off and for another workspace):
#   Removing state for schedule daily that is no longer present in defs.py.
# What to do: give each daemon its own storage. A developer's daemon must never reach the
# storage of production, not even with all schedules off.
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
import os

import dagster as dg


@dg.op
def work(): ...


@dg.job
def nightly():
    work()


status = "RUNNING" if os.environ.get("SCHEDULES") == "on" else "STOPPED"
daily = dg.ScheduleDefinition(
    name="daily", job=nightly, cron_schedule="0 0 1 1 *", default_status=dg.DefaultScheduleStatus[status]
)
defs = dg.Definitions(schedules=[daily])
PYTHON

cat >other.py <<'PYTHON'
import dagster as dg

defs = dg.Definitions()
PYTHON

# Prints the start of each stored state of the schedule "daily" until there is, or is not, one.
cat >wait_for_state.py <<'PYTHON'
import sys
import time

import dagster as dg

wanted = int(sys.argv[1])
with dg.DagsterInstance.get() as instance:
    for _ in range(300):
        states = [state for state in instance.all_instigator_state() if state.instigator_name == "daily"]
        if len(states) == wanted:
            print(*(state.instigator_data.start_timestamp for state in states))
            sys.exit(0)
        time.sleep(0.3)
sys.exit(f"the schedule has {len(states)} stored states, expected {wanted}")
PYTHON

# Several processes that start at once do not agree on who creates the SQLite storage.
venv/bin/python -c "import dagster as dg; dg.DagsterInstance.get().dispose()"

set -m # each daemon gets a process group of its own
SCHEDULES=on venv/bin/dagster-daemon run -f defs.py >first.log 2>&1 &
pids+=($!)
before=$(venv/bin/python wait_for_state.py 1)

for workspace in defs.py other.py; do
    touch "second-$workspace.log"
    venv/bin/dagster-daemon run -f "$workspace" >"second-$workspace.log" 2>&1 &
    second=$!
    pids+=("$second")
    removed=no
    for _ in {1..180}; do
        if grep -q "Removing state for schedule daily" "second-$workspace.log"; then removed=yes; break; fi
        sleep 0.5
    done
    if [ "$removed" = no ]; then
        echo "CHANGED: the second daemon with $workspace left the state of the schedule alone" >&2
        exit 1
    fi
    grep -o "Removing state for schedule.*" "second-$workspace.log" | head -1
    kill -- "-$second"
    for _ in {1..60}; do kill -0 "$second" 2>/dev/null || break; sleep 0.5; done
    after=$(venv/bin/python wait_for_state.py 1)
    if [ "$before" = "$after" ]; then
        echo "CHANGED: the state of the schedule kept its start $before" >&2
        exit 1
    fi
    echo "the state started at $before, and starts at $after after a daemon with $workspace"
    before=$after
done
