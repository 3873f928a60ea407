#!/usr/bin/env bash
# Guess: "dagster asset materialize --partition-range 2024-01-03...2024-01-01" is refused, since the range ends before it begins.
# What happens: it is a successful run of no partition, with exit code 0. An op that returns a result records one materialization
# without a partition, and each partition stays missing.
# Seen with dagster 1.13.27:
#   2024-01-01...2024-01-03  exit code 0, partitions of the run: 3, materializations: 3
#   2024-01-03...2024-01-01  exit code 0, partitions of the run: 0, materializations: 1
# What to do: let the op refuse a run with an empty "context.partition_keys".
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
import dagster as dg

days = dg.DailyPartitionsDefinition("2024-01-01")


@dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def orders(context) -> dg.MaterializeResult:
    print(f"partitions of the run: {len(context.partition_keys)}")
    return dg.MaterializeResult()


defs = dg.Definitions(assets=[orders], executor=dg.in_process_executor)
PYTHON

materialize() {
    local code=0 built
    timeout 120 venv/bin/dagster asset materialize -f defs.py --select orders --partition-range "$1" >log 2>&1 || code=$?
    built=$(grep -c "ASSET_MATERIALIZATION - Materialized" log || true)
    echo "$1  exit code $code, $(grep -o "partitions of the run: [0-9]*" log || true), materializations: $built"
}

changed=no
for expected in \
    "2024-01-01...2024-01-03  exit code 0, partitions of the run: 3, materializations: 3" \
    "2024-01-03...2024-01-01  exit code 0, partitions of the run: 0, materializations: 1"; do
    outcome=$(materialize "${expected%%  *}")
    echo "$outcome"
    [ "$outcome" = "$expected" ] || changed=$outcome
done
if [ "$changed" != no ]; then
    echo "CHANGED: $changed" >&2
    exit 1
fi
