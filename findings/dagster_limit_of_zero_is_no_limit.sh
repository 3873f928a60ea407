#!/usr/bin/env bash
# Guess: a query for at most 0 runs, or at most 0 events, answers with none.
# What happens: limit=0 is the same as no limit. The query answers with all of them. So does an empty
# list of statuses, while an empty list of run ids is refused. A job that keeps the newest 1,000 runs,
# and asks for the oldest count - 1000 to delete, deletes every run on the day when count is 1,000.
# Seen with dagster 1.13.27, of three runs and three materializations:
#   get_runs(limit=0)                    3
#   get_run_records(limit=0)             3
#   fetch_materializations(limit=0)      3
#   get_runs(RunsFilter(statuses=[]))    3
#   RunsFilter(run_ids=[])               CheckError
# What to do: do not ask when the number, or the list, is empty.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'PYTHON'
import dagster as dg


@dg.asset
def orders(): ...


with dg.instance_for_test() as instance:
    for _ in range(3):
        dg.materialize([orders], instance=instance)
    answers = {
        "get_runs(limit=1)": len(instance.get_runs(limit=1)),
        "get_runs(limit=0)": len(instance.get_runs(limit=0)),
        "get_run_records(limit=0)": len(instance.get_run_records(limit=0)),
        "fetch_materializations(limit=0)": len(instance.fetch_materializations(orders.key, limit=0).records),
        "get_runs(RunsFilter(statuses=[]))": len(instance.get_runs(dg.RunsFilter(statuses=[]))),
    }
    try:
        answers["RunsFilter(run_ids=[])"] = len(instance.get_runs(dg.RunsFilter(run_ids=[])))
    except Exception as error:
        answers["RunsFilter(run_ids=[])"] = type(error).__name__
for question, answer in answers.items():
    print(f"{question:<35} {answer}")
assert list(answers.values()) == [1, 3, 3, 3, 3, "CheckError"], f"CHANGED: {answers}"
PYTHON
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
