#!/usr/bin/env bash
# Guess: the ready-made sensor of dagster-slack posts about any failed run: its message says what failed, in short.
# What happens: the message names every failed step in one block of text. Slack documents at most 3,000 characters for such a
# block, and slack_sdk's own model of it refuses more. With 200 failed ops of an ordinary name the text has 5,867: of the
# worst morning nobody hears.
# Seen with dagster 1.13.27, dagster-slack 0.29.27, slack_sdk 3.47.0:
#   10 failed ops: 357 characters, fits
#   200 failed ops: 5867 characters, text attribute cannot exceed 3000 characters
# What to do: give `make_slack_on_run_failure_sensor` a `text_fn` or `blocks_fn` that cuts its text.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 dagster-slack==0.29.27 slack_sdk==3.47.0
cd "$folder"

cat >look.py <<'EOF'
import sys

import dagster as dg
import slack_sdk
from dagster_slack import make_slack_on_run_failure_sensor
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

posted = []
slack_sdk.WebClient.chat_postMessage = lambda self, **message: posted.append(message)
sensor = make_slack_on_run_failure_sensor("#alerts", "token")


def failing(number):
    @dg.op(name=f"load_orders_of_region_{number:03}")
    def load():
        raise ValueError("no rows")

    return load


@dg.job
def nightly():
    for number in range(int(sys.argv[1])):
        failing(number)()


with dg.instance_for_test() as instance:
    run = nightly.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = [event for event in run.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    context = dg.build_run_status_sensor_context("slack", event, instance, run.dagster_run)
    sensor(context.for_run_failure())

(message,) = posted
longest = max(message["blocks"], key=lambda block: len(block["text"]["text"]))
said = "fits"
try:
    Block.parse(longest).validate_json()
except SlackObjectFormationError as error:
    said = str(error)
print(f"{len(longest['text']['text'])} characters, {said}")
EOF
for expected in "10:357 characters, fits" "200:5867 characters, text attribute cannot exceed 3000 characters"; do
    seen=$(timeout 200 venv/bin/python -W ignore look.py "${expected%%:*}" 2>run.log) || { tail -n 5 run.log >&2; exit 1; }
    echo "${expected%%:*} failed ops: $seen"
    if [ "$seen" != "${expected#*:}" ]; then
        echo "CHANGED: ${expected%%:*} failed ops: $seen" >&2
        exit 1
    fi
done
