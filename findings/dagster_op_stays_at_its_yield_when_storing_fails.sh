#!/usr/bin/env bash
# Guess: where an event that an op has yielded cannot be stored, because the disk is full, the op gets the
# error at its yield. "except Exception" and "finally" around it run before the run is recorded as failed.
# What happens: Dagster leaves the op's generator standing at its yield, and records the failed run. "except
# Exception" never runs. "finally" runs when Python collects the generator, here at the end of the process:
# after a sensor may have started the next run, beside the lock or the temporary table of this one.
# Seen with dagster 1.13.27, in this order (a trigger in SQLite stands in for the full disk):
#   the temporary table is there
#   RUN_FAILURE
#   finally, on GeneratorExit: the temporary table is dropped
# What to do: clean up before the yield, and yield nothing while a lock is held.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
mkdir "$folder/home"
export DAGSTER_HOME="$folder/home"
echo "telemetry: {enabled: false}" >"$DAGSTER_HOME/dagster.yaml"
cd "$folder"

cat >defs.py <<'PYTHON'
import os
import sqlite3

import dagster as dg

FULL_DISK = """
    CREATE TRIGGER full_disk BEFORE INSERT ON event_logs
    WHEN NEW.dagster_event_type = 'ASSET_MATERIALIZATION'
    BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END
"""


@dg.asset
def orders(context: dg.AssetExecutionContext):
    with sqlite3.connect(f"{os.environ['DAGSTER_HOME']}/history/runs/{context.run_id}.db") as events:
        events.execute(FULL_DISK)
    print("op: table is there", flush=True)
    try:
        yield dg.MaterializeResult()
        print("op: went on", flush=True)
    except Exception:
        print("op: except Exception", flush=True)
        raise
    except GeneratorExit:
        print("op: GeneratorExit", flush=True)
        raise
    finally:
        print("op: table is dropped", flush=True)


defs = dg.Definitions(assets=[orders], jobs=[dg.define_asset_job("nightly")], executor=dg.in_process_executor)
PYTHON

timeout 120 venv/bin/python -W ignore venv/bin/dagster job execute -f defs.py -j nightly >run.log 2>&1 || true
seen=$(grep -oE '^op: .*|RUN_FAILURE' run.log)
echo "$seen"
expected="op: table is there
RUN_FAILURE
op: GeneratorExit
op: table is dropped"
if [ "$seen" != "$expected" ]; then echo "CHANGED: ${seen//$'\n'/, }" >&2; exit 1; fi
