#!/usr/bin/env bash
# Guess: a reload that fails (a syntax error in a new version) leaves the old definitions in
# place, or turns the health check red and the orchestrator starts the last version again.
# What happens: neither. The code server gives up its old definitions, answers every question
# with the load error, and its gRPC health check still says that it serves, with exit code 0.
# Seen with dagster 1.13.27 (dagster code-server start, dagster api grpc-health-check):
#   before: 1 repository, health check 0; after: SyntaxError, health check 0
# What to do: a liveness or readiness probe needs a question of its own, for example whether the
# server lists its repositories. Load a new version in a process of its own before the reload
# (dagster definitions validate). The reload below is the call that the webserver makes.
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


defs = dg.Definitions(assets=[orders])
PYTHON

cat >ask.py <<'PYTHON'
import sys

from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import ListRepositoriesResponse
from dagster_shared.serdes import deserialize_value

client = DagsterGrpcClient(port=int(sys.argv[1]), host="127.0.0.1")
if sys.argv[2:] == ["reload"]:
    client.reload_code(timeout=120)
answer = deserialize_value(client.list_repositories())
if isinstance(answer, ListRepositoriesResponse):
    print(len(answer.repository_symbols), "repository")
else:
    print((answer.cause or answer).cls_name)
PYTHON

port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
healthy() { venv/bin/dagster api grpc-health-check --port "$port" --host 127.0.0.1 >/dev/null 2>&1; }

set -m # the code server gets a process group of its own
venv/bin/dagster code-server start -f defs.py --host 127.0.0.1 --port "$port" >server.log 2>&1 &
pids+=($!)
for _ in {1..60}; do if healthy; then break; fi; sleep 1; done
healthy || { cat server.log >&2; echo "the code server did not start" >&2; exit 1; }
before=$(venv/bin/python ask.py "$port")
echo "before: $before, health check 0"

echo "this is no Python" >defs.py
after=$(venv/bin/python ask.py "$port" reload)
code=0
healthy || code=$?
echo "after: $after, health check $code"

if [ "$before" != "1 repository" ] || [ "$after" != "SyntaxError" ]; then
    echo "CHANGED: a failed reload no longer gives up the old definitions" >&2
    exit 1
fi
if [ "$code" != 0 ]; then
    echo "CHANGED: the health check fails after a failed reload" >&2
    exit 1
fi
