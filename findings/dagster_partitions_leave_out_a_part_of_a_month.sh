#!/usr/bin/env bash
# Guess: MonthlyPartitionsDefinition(start_date="2024-01-16") begins with a partition of January, whole or from
# the 16th, or raises. With end_date="2024-03-31" the last one is March.
# What happens: the first partition is the first whole month behind the start, and the last one the last whole
# month that ends by the end_date, which is itself left out. Rows of 16 to 31 January and of March are in no
# partition. A backfill of all partitions is complete in the UI, and the table lacks them. Weeks do the same.
# Seen with dagster 1.13.27, from 2024-01-16 to 2024-03-31:
#   monthly   2024-02-01 to 2024-03-01
#   weekly    2024-01-21 to 2024-03-31
#   daily     2024-01-16 to 2024-03-31 (the end of the window, so 30 March is the last day)
# What to do: start at the first day of a month or of a week (Sunday), and end at the day behind the last one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >experiment.py <<'PYTHON'
from datetime import date

import dagster as dg

seen = {}
for name, kind in {
    "monthly": dg.MonthlyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
}.items():
    partitions = kind(start_date="2024-01-16", end_date="2024-03-31")
    keys = partitions.get_partition_keys()
    first, last = (partitions.time_window_for_partition_key(key) for key in (keys[0], keys[-1]))
    seen[name] = (str(first.start.date()), str(last.end.date()))
    lost = (first.start.date() - date(2024, 1, 16)).days
    print(f"{name}: {seen[name][0]} to {seen[name][1]}, {lost} days at the start are in no partition")
expected = {
    "monthly": ("2024-02-01", "2024-03-01"),
    "weekly": ("2024-01-21", "2024-03-31"),
    "daily": ("2024-01-16", "2024-03-31"),
}
assert seen == expected, f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
