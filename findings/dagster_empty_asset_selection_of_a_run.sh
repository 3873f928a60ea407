#!/usr/bin/env bash
# Guess: a run that has no selection has asset_selection None. An empty one means: build nothing,
# and dagster.materialize and execute_in_process record what they build, or None.
# What happens: all of them record frozenset(), and with it build all that the job has: everything,
# or nothing where the definition of the job matches nothing.
# Seen with dagster 1.13.27 (recorded selection, assets built):
#   dg.materialize without selection    frozenset() ['items', 'orders']
#   execute_in_process                  frozenset() ['items', 'orders']
#   RunRequest(asset_selection=[])      frozenset() ['items', 'orders']
#   a job that matches nothing          frozenset() []
# What to do: ask the job's own assets or the planned events what a run builds, not
# asset_selection. A sensor with nothing to ask for returns a SkipReason, not an empty list.
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


@dg.asset
def orders(): ...


@dg.asset
def items(): ...


both = dg.define_asset_job("both", selection="*", executor_def=dg.in_process_executor)
nothing = dg.define_asset_job("nothing", selection="tag:nosuch", executor_def=dg.in_process_executor)


@dg.sensor(job=both, default_status=dg.DefaultSensorStatus.RUNNING)
def nothing_to_ask_for():
    return dg.RunRequest(run_key="once", asset_selection=[])


defs = dg.Definitions(assets=[orders, items], jobs=[both, nothing], sensors=[nothing_to_ask_for])
PYTHON

cat >experiment.py <<'PYTHON'
import time

import dagster as dg
from defs import defs, items, orders


def built(instance, run_id):
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return sorted(entry.dagster_event.asset_key.to_user_string() for entry in entries)


with dg.DagsterInstance.get() as instance:
    for _ in range(120):
        runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        if runs:
            break
        time.sleep(1)
    assert runs, "the run of the sensor did not succeed"
    everything, jobs = ["items", "orders"], defs.resolve_job_def
    materialized = dg.materialize([orders, items], instance=instance)
    part = dg.materialize([orders, items], instance=instance, selection="orders")
    cases = [
        ("dg.materialize without selection", materialized.run_id, everything),
        ('dg.materialize(selection="orders")', part.run_id, ["orders"]),
        ("execute_in_process", jobs("both").execute_in_process(instance=instance).run_id, everything),
        ("RunRequest(asset_selection=[])", runs[0].run_id, everything),
        ("a job that matches nothing", jobs("nothing").execute_in_process(instance=instance).run_id, []),
    ]
    for name, run_id, expected in cases:
        recorded = instance.get_run_by_id(run_id).asset_selection
        print(f"{name:35} {recorded} {built(instance, run_id)}")
        assert recorded == frozenset(), f"CHANGED: {name} records {recorded}"
        assert built(instance, run_id) == expected, f"CHANGED: {name} builds {built(instance, run_id)}"
PYTHON

# Several processes that start at once do not agree on who creates the SQLite storage.
venv/bin/python -c "import dagster as dg; dg.DagsterInstance.get().dispose()"

set -m # the daemon gets a process group of its own
venv/bin/dagster-daemon run -f defs.py >daemon.log 2>&1 &
pids+=($!)
timeout 280 venv/bin/python experiment.py 2>error.log || { grep -v -E "DEBUG|INFO" error.log | tail -20 >&2; exit 1; }
