#!/usr/bin/env bash
# Guess: AutomationCondition.on_missing() builds an asset that has never been built, and a day that is missing.
# What happens: it requests what becomes missing between two looks of the daemon. A new table is missing at the
# first look already, so it is not built, however long one waits. Of daily partitions it requests the newest
# alone: days that came up while the daemon was down stay missing. No run fails, so no sensor alerts.
# Seen with dagster 1.13.27, what each look requests:
#   a new table, 4 looks                            nothing
#   looks on the 5th, 6th and, after a stop, 9th    nothing, the 5th, the 8th (the 6th and 7th never)
#   missing(), a new table                          requested at each look
# What to do: build a new table once by hand, or use missing() & ~AutomationCondition.in_progress().
# Compare the partitions that are there with those that should be after each stop of the daemon.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'PYTHON'
from datetime import datetime, timezone

import dagster as dg


@dg.asset(automation_condition=dg.AutomationCondition.on_missing())
def new_table() -> None: ...


@dg.asset(automation_condition=dg.AutomationCondition.missing())
def other_table() -> None: ...


@dg.asset(
    partitions_def=dg.DailyPartitionsDefinition("2024-01-01"),
    automation_condition=dg.AutomationCondition.on_missing(),
)
def daily_table() -> None: ...


def requested(table: dg.AssetsDefinition, looks: list[datetime]) -> list[list[str | None]]:
    """Returns the partitions that each look requests, [None] for a whole table."""
    cursor, answers = None, []
    with dg.instance_for_test() as instance:
        for moment in looks:
            result = dg.evaluate_automation_conditions(
                dg.Definitions(assets=[table]), instance, cursor=cursor, evaluation_time=moment
            )
            cursor = result.cursor
            answers.append(sorted(result.get_requested_partitions(table.key)))
    return answers


days = [datetime(2024, 1, day, 1, tzinfo=timezone.utc) for day in (5, 6, 9, 10)]
seen = {
    "on_missing, a new table": requested(new_table, days),
    "missing, a new table": requested(other_table, days),
    "on_missing, daily, looks on the 5th, 6th, 9th and 10th": requested(daily_table, days),
}
for name, answers in seen.items():
    print(f"{name}: {answers}")
expected = [
    [[], [], [], []],
    [[None], [None], [None], [None]],
    [[], ["2024-01-05"], ["2024-01-08"], ["2024-01-09"]],
]
assert list(seen.values()) == expected, f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
