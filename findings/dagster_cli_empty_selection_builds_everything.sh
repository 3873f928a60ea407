#!/usr/bin/env bash
# Guess: "dagster asset materialize --select tag:nosuch" builds nothing, or ends with an error as
# "--select nosuch" does, the key of no asset.
# What happens: a selection that matches nothing builds every asset, with exit code 0. The sister
# command "dagster asset list" with the same selection lists nothing.
# Seen with dagster 1.13.27:
#   --select tag:nosuch    exit code 0, built: items orders
#   --select group:nosuch  exit code 0, built: items orders
#   --select nosuch        exit code 1, built:
# What to do: run "dagster asset list" with the same selection first, and go on only if it lists
# something. A typing error in a tag must not rebuild the warehouse.
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


@dg.asset
def orders(): ...


@dg.asset
def items(): ...


defs = dg.Definitions(assets=[orders, items], executor=dg.in_process_executor)
PYTHON

materialize() {
    local code=0 built
    timeout 120 venv/bin/dagster asset materialize -f defs.py --select "$1" >log 2>&1 || code=$?
    built=$(grep -o "Materialized value [a-z]*" log | cut -d" " -f3 | sort | xargs || true)
    echo "--select $1: exit code $code, built: $built"
}

changed=no
for selection in tag:nosuch group:nosuch; do
    listed=$(timeout 120 venv/bin/dagster asset list -f defs.py --select "$selection" 2>/dev/null)
    [ -z "$listed" ] || changed="asset list lists $listed"
    outcome=$(materialize "$selection")
    echo "$outcome"
    [ "$outcome" = "--select $selection: exit code 0, built: items orders" ] || changed=$outcome
done
outcome=$(materialize nosuch)
echo "$outcome"
[ "$outcome" = "--select nosuch: exit code 1, built: " ] || changed=$outcome
if [ "$changed" != no ]; then
    echo "CHANGED: $changed" >&2
    exit 1
fi
