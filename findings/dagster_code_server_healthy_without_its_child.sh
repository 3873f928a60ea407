#!/usr/bin/env bash
# Guess: "dagster code-server start" watches the child process that holds the code. When the child
# dies (say of too little memory), it starts a new one, or ends itself, or says so when asked.
# What happens: nothing of these. It starts no child, and its health check still says that it
# serves, with exit code 0, while no question about the code gets an answer. The first reload
# answers with an error, though it starts a new child that answers. The second reload works.
# Seen with dagster 1.13.27:
#   20 s after: children 0, health check 0, a question: DagsterUserCodeUnreachableError
#   first reload: DagsterUserCodeUnreachableError, a question: answered
# What to do: probe with a question that the child must answer, or run "dagster api grpc": it holds
# the code itself, and the container platform sees its end.
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
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 psutil==7.2.2

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

cat >experiment.py <<'PYTHON'
import subprocess
import sys
import time

import psutil
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import ListRepositoriesResponse
from dagster_shared.serdes import deserialize_value

server, port = psutil.Process(int(sys.argv[1])), int(sys.argv[2])
client = DagsterGrpcClient(port=port, host="127.0.0.1")


def holders():
    """Give the processes below the server that hold the code."""
    return [child for child in server.children() if "grpc" in child.cmdline()]


def health_check():
    command = ["venv/bin/dagster", "api", "grpc-health-check", "--port", str(port), "--host", "127.0.0.1"]
    return subprocess.run(command, capture_output=True, timeout=60).returncode


def answer_of(question):
    try:
        answer = deserialize_value(question())
    except Exception as error:
        return type(error).__name__
    return "answered" if isinstance(answer, ListRepositoriesResponse) else "load error"


def reload():
    try:
        client.reload_code(timeout=120)
    except Exception as error:
        return type(error).__name__
    return "done"


for _ in range(60):
    if answer_of(client.list_repositories) == "answered":
        break
    time.sleep(1)
[child] = holders()
print("before, a question:", answer_of(client.list_repositories))

child.kill()
child.wait(30)
time.sleep(20)
seen = len(holders()), health_check(), answer_of(client.list_repositories)
print("20 s after: children {}, health check {}, a question: {}".format(*seen))
assert seen[:2] == (0, 0), "CHANGED: the server starts a child, or the health check fails"
assert seen[2] != "answered", "CHANGED: questions get an answer without a child"

for count in ("first", "second"):
    outcome = reload(), answer_of(client.list_repositories)
    print("{} reload: {}, a question: {}".format(count, *outcome))
    assert outcome[1] == "answered", "CHANGED: a reload starts no child"
    assert (outcome[0] == "done") == (count == "second"), "CHANGED: another reload answers with an error"
PYTHON

port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
set -m # the code server gets a process group of its own
venv/bin/dagster code-server start -f defs.py --host 127.0.0.1 --port "$port" >server.log 2>&1 &
pids+=($!)
timeout 300 venv/bin/python experiment.py "${pids[0]}" "$port"
