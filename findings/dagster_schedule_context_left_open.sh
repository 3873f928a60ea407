#!/usr/bin/env bash
# Guess: build_schedule_context(instance) uses the instance that it is given, and what a test of a schedule leaves behind is
# garbage. A later test that loads definitions knows nothing of it.
# What happens: given an instance with a folder, the context opens another one when its `instance` is first asked for, and
# that one becomes the place of stored state for the whole process. Nobody closes it where the context is used without
# `with`. Once it is collected, no definitions can be loaded in the process any more.
# Seen with dagster 1.13.27:
#   without with: DagsterInvariantViolationError: Attempted to resolve undefined DagsterInstance weakref.
#   by with: loaded
# What to do: `with dg.build_schedule_context(...) as context:`, also where nothing is asked of it afterwards.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'EOF'
import gc
import sys
import tempfile

import dagster as dg


def look(closes: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        context = dg.build_schedule_context(instance)
        if closes:
            with context:
                assert context.instance.get_runs_count() == 0
        else:
            assert context.instance.get_runs_count() == 0


look(closes=sys.argv[1] == "by with")
gc.collect()


@dg.asset
def orders() -> None: ...


try:
    dg.Definitions(assets=[orders]).resolve_implicit_global_asset_job_def()
except Exception as error:
    print(f"{sys.argv[1]}: {type(error).__name__}: {error}")
else:
    print(f"{sys.argv[1]}: loaded")
EOF

left=$(timeout 120 venv/bin/python -W ignore look.py "without with")
closed=$(timeout 120 venv/bin/python -W ignore look.py "by with")
printf '%s\n' "$left" "$closed"
expected="without with: DagsterInvariantViolationError: Attempted to resolve undefined DagsterInstance weakref."
if [ "$left" != "$expected" ] || [ "$closed" != "by with: loaded" ]; then
    echo "CHANGED: $left; $closed" >&2
    exit 1
fi
