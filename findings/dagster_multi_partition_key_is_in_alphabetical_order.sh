#!/usr/bin/env bash
# Guess: a key of two dimensions, "eu|us", has its parts in the order in which the dimensions were declared.
# What happens: the parts are in the alphabetical order of the names of the dimensions. Where both
# dimensions have a part of that name, such as two regions or two dates, a key that was written the other way
# round is valid and builds another partition. A renamed dimension can swap the parts of all keys.
# Seen with dagster 1.13.27:
#   dimensions source, destination, partition "eu|us"   source us, destination eu
#   dimensions source, target, partition "eu|us"        source eu, target us
# What to do: write dg.MultiPartitionKey({"source": "eu", "destination": "us"}), and print that for the
# command line.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >experiment.py <<'PYTHON'
import dagster as dg

REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])


def built(*dimensions: str, partition: str) -> dict[str, str]:
    """Returns the parts of the partition that an asset with these dimensions builds."""
    seen = []

    @dg.asset(partitions_def=dg.MultiPartitionsDefinition({name: REGIONS for name in dimensions}))
    def copies(context: dg.AssetExecutionContext) -> None:
        seen.append(dict(context.partition_key.keys_by_dimension))

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([copies], partition_key=partition, instance=instance).success
    print("dimensions:", *dimensions, "partition:", partition, "builds:", seen[0])
    return seen[0]


before = built("source", "target", partition="eu|us")
renamed = built("source", "destination", partition="eu|us")
key = str(dg.MultiPartitionKey({"source": "eu", "destination": "us"}))
print("MultiPartitionKey of source eu, destination us:", key)
assert before == {"source": "eu", "target": "us"}, f"CHANGED: {before}"
assert renamed == {"source": "us", "destination": "eu"}, f"CHANGED: {renamed}"
assert key == "us|eu", f"CHANGED: {key}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
