#!/usr/bin/env bash
# Guess: AutomationCondition.eager() asks for an asset as soon as an asset above it is new, whatever
# run made it. If that run failed before it reached the waiting asset, eager() makes up for it.
# What happens: eager() ignores an update by a run whose asset_selection has the waiting asset,
# whatever became of the run. The waiting asset keeps its old data until the next update.
# Seen with dagster 1.13.27, "orders" waits for "raw", and only "raw" was built (requests):
#   eager, run of raw                     1
#   eager, failed run of raw and orders   0
#   eager, failed run of the whole job    1   (records no asset_selection)
#   any_deps_match, failed run of both    1
# What to do: eager().replace("any_deps_updated",
#   any_deps_match(newly_updated() | will_be_requested())), or retry failed runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >experiment.py <<'PYTHON'
import dagster as dg

condition = dg.AutomationCondition
eager = condition.eager()
any_update = condition.any_deps_match(condition.newly_updated() | condition.will_be_requested())
replaced = eager.replace("any_deps_updated", any_update)


def requests(automation_condition, selection):
    """Count the requests for orders after a run of the selection in which orders fails."""

    @dg.asset
    def raw(): ...

    @dg.asset(deps=[raw], automation_condition=automation_condition)
    def orders(context):
        if "fail" in context.run.tags:
            raise dg.Failure("orders fails", allow_retries=False)

    job = dg.define_asset_job("job", executor_def=dg.in_process_executor)
    defs = dg.Definitions(assets=[raw, orders], jobs=[job])
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([raw, orders], instance=instance)
        seen = dg.evaluate_automation_conditions(defs, instance=instance)
        assert seen.total_requested == 0
        defs.resolve_job_def("job").execute_in_process(
            instance=instance, asset_selection=selection, tags={"fail": "yes"}, raise_on_error=False
        )
        [raw_event] = instance.fetch_materializations(dg.AssetKey("raw"), limit=1).records
        [orders_event] = instance.fetch_materializations(dg.AssetKey("orders"), limit=1).records
        assert raw_event.storage_id > orders_event.storage_id, "raw was not built, or orders was"
        count = 0
        for _ in range(3):
            seen = dg.evaluate_automation_conditions(defs, instance=instance, cursor=seen.cursor)
            count += seen.total_requested
        return count


raw, orders = dg.AssetKey("raw"), dg.AssetKey("orders")
cases = [
    ("eager, run of raw", eager, [raw], 1),
    ("eager, failed run of raw and orders", eager, [raw, orders], 0),
    ("eager, failed run of the whole job", eager, None, 1),
    ("any_deps_match, failed run of both", replaced, [raw, orders], 1),
]
for name, automation_condition, selection, expected in cases:
    count = requests(automation_condition, selection)
    print(f"{name:37} {count}")
    assert count == expected, f"CHANGED: {name} gave {count} requests, expected {expected}"
PYTHON
timeout 280 venv/bin/python experiment.py 2>error.log || { grep -v -E "DEBUG|INFO" error.log | tail -20 >&2; exit 1; }
