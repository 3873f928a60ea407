#!/usr/bin/env bash
# Guess: changing a tag of one run takes as long beside 2,000 runs as beside 200, since it names the run.
# What happens: on SQLite it takes in proportion to the runs that have a tag of that name. The statement
# asks for run_id and key, there is no index of both, and SQLite takes the one that begins with key.
# Seen with dagster 1.13.27:
#   200 runs: 14 hundred instructions
#   2000 runs: 104 hundred instructions
# What to do: on SQLite, change seldom a tag that all runs have, as for a heartbeat. On Postgres the
# planner takes the index that begins with run_id.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27

cd "$folder"
cat >tags.py <<'PYTHON'
import tempfile

import dagster as dg
import sqlalchemy
import sqlalchemy.event

steps = 0


def on_step() -> int:
    global steps
    steps += 1
    return 0


def on_connect(connection, _) -> None:
    connection.set_progress_handler(on_step, 100)


def add_runs(instance: dg.DagsterInstance, count: int) -> str:
    run_id = ""
    for _ in range(count):
        run_id = instance.add_run(dg.DagsterRun("daily", tags={"alive_at": "never"})).run_id
    return run_id


def taken(instance: dg.DagsterInstance, run_id: str) -> int:
    global steps
    steps = 0
    instance.add_run_tags(run_id, {"alive_at": "now"})
    return steps


with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
    run_id = add_runs(instance, 200)
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", on_connect)
    few = taken(instance, run_id)
    run_id = add_runs(instance, 1800)
    many = taken(instance, run_id)
print(f"200 runs: {few} hundred instructions")
print(f"2000 runs: {many} hundred instructions")
if many < 5 * few:
    raise SystemExit("CHANGED: it takes no longer beside more runs")
PYTHON
timeout 200 venv/bin/python tags.py 2>log || { grep CHANGED log >&2 || cat log >&2; exit 1; }
