#!/usr/bin/env bash
# Guess: Ctrl-C (SIGINT) on "dagster job execute" ends the run. A RetryPolicy is for errors.
# What happens: an op with a RetryPolicy takes the interrupt for a failure that it may try again. The op
# starts anew at once, the run ends as a success, and the command ends with exit code 0. The statement that
# was to be stopped runs twice, and neither the run nor the command reports an interrupt.
# Seen with dagster 1.13.27:
#   no RetryPolicy:               attempts 0      exit code 1   FAILURE
#   RetryPolicy(max_retries=1):   attempts 0, 1   exit code 0   SUCCESS
# What to do: no RetryPolicy on ops that must be stoppable. Catch the errors worth another attempt inside
# the op, and raise RetryRequested for those alone.
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
import threading

import dagster as dg


def build(context: dg.OpExecutionContext) -> None:
    print(f"attempt {context.retry_number}", flush=True)
    if context.retry_number == 0:
        threading.Event().wait(60)


once = dg.op(name="once")(build)
twice = dg.op(name="twice", retry_policy=dg.RetryPolicy(max_retries=1))(build)


@dg.job(executor_def=dg.in_process_executor)
def no_policy():
    once()


@dg.job(executor_def=dg.in_process_executor)
def with_policy():
    twice()


defs = dg.Definitions(jobs=[no_policy, with_policy])
PYTHON

cat >interrupt.py <<'PYTHON'
import signal
import subprocess
import sys

import dagster as dg


def interrupted(job: str) -> tuple[list[int], int, str]:
    """Returns the attempts, the exit code and the status of a run that got SIGINT in its first attempt."""
    command = [sys.argv[1], "job", "execute", "-f", "defs.py", "-j", job]
    attempts = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            if line.startswith("attempt "):
                attempts.append(int(line.split()[1]))
                if len(attempts) == 1:
                    process.send_signal(signal.SIGINT)
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name=job))
    return attempts, process.returncode, run.status.value


seen = {job: interrupted(job) for job in ("no_policy", "with_policy")}
for job, outcome in seen.items():
    print(f"{job}: attempts {outcome[0]}, exit code {outcome[1]}, {outcome[2]}")
assert seen["no_policy"][0] == [0], f"CHANGED: {seen}"
assert seen["no_policy"][1] != 0, f"CHANGED: {seen}"
assert seen["with_policy"] == ([0, 1], 0, "SUCCESS"), f"CHANGED: {seen}"
PYTHON
timeout 180 venv/bin/python -W ignore interrupt.py venv/bin/dagster 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
