#!/usr/bin/env bash
# Guess: declaring a multi-asset of n tables with a check each takes time in proportion to n.
# What happens: each check's table is looked for in a list of all tables, key by key. That is n * (n - 1) / 2
# comparisons of keys, in each process that imports the definitions: code server, run worker, command.
# Seen with dagster 1.13.27, comparisons of keys while the decorator runs:
#    100 tables    4950
#    200 tables   19900
#    400 tables   79800
#    400 tables without checks   0
# What to do: split the tables into several multi-assets of some hundred tables.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >count.py <<'PYTHON'
import dagster as dg

comparisons = 0


class CountedKey(dg.AssetKey):
    def __eq__(self, other: object) -> bool:
        global comparisons
        comparisons += 1
        return super().__eq__(other)

    __hash__ = dg.AssetKey.__hash__


def comparisons_of(tables: int, *, with_checks: bool = True) -> int:
    global comparisons
    specs = [dg.AssetSpec(CountedKey(f"table_{number}")) for number in range(tables)]
    checks = [dg.AssetCheckSpec("unique", asset=spec.key) for spec in specs] if with_checks else []
    comparisons = 0

    @dg.multi_asset(specs=specs, check_specs=checks)
    def build(): ...

    return comparisons


seen = {tables: comparisons_of(tables) for tables in (100, 200, 400)}
for tables, count in seen.items():
    print(f"{tables} tables: {count} comparisons")
without = comparisons_of(400, with_checks=False)
print(f"400 tables without checks: {without} comparisons")
assert all(count >= n * (n - 1) / 2 for n, count in seen.items()), f"CHANGED: {seen}"
assert without < 4 * 400
PYTHON
timeout 120 venv/bin/python -W ignore count.py 2>run.log || { sed -n 's/^AssertionError: //p' run.log >&2; tail -n 5 run.log >&2; exit 1; }
