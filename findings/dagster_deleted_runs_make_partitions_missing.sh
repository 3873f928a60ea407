#!/usr/bin/env bash
# Guess: deleting an old run removes it from the list of runs. What is known of the tables that it built
# stays, as it does for a table without partitions.
# What happens: a partition that only deleted runs have built counts as missing, so code that builds what is
# missing builds it again: years of days after a clean-up. A table without partitions stays materialized,
# even with its only run deleted.
# Seen with dagster 1.13.27:
#   before:                      3 of 3 days materialized, the whole table too
#   two days' runs deleted:      1 of 3 days materialized
#   the whole table's deleted:   still materialized
# What to do: do not delete runs that built partitions, or report the partitions anew with
# report_runless_asset_event before deleting.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'PYTHON'
import dagster as dg

days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04")


@dg.asset(partitions_def=days)
def daily() -> None: ...


@dg.asset
def whole() -> None: ...


def whole_is_there(instance: dg.DagsterInstance) -> bool:
    return instance.get_latest_materialization_event(whole.key) is not None


with dg.instance_for_test() as instance:
    keys = days.get_partition_keys()
    runs = [dg.materialize([daily], instance=instance, partition_key=key).run_id for key in keys]
    whole_run = dg.materialize([whole], instance=instance).run_id
    before = sorted(instance.get_materialized_partitions(daily.key))
    print("before:", before, "whole:", whole_is_there(instance))
    assert before == keys
    assert whole_is_there(instance)

    # The same as "dagster run delete RUN_ID".
    for run_id in [*runs[:2], whole_run]:
        instance.delete_run(run_id)
    after = sorted(instance.get_materialized_partitions(daily.key))
    print("after:", after, "whole:", whole_is_there(instance))
    assert after == keys[2:], f"CHANGED: {after}"
    assert whole_is_there(instance), "CHANGED: the whole table is missing too"

    for key in keys[:2]:
        instance.report_runless_asset_event(dg.AssetMaterialization(daily.key, partition=key))
    reported = sorted(instance.get_materialized_partitions(daily.key))
    print("reported anew:", reported)
    assert reported == keys, f"CHANGED: {reported}"
PYTHON
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
