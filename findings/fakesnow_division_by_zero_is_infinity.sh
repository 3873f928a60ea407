#!/usr/bin/env bash
# Guess: a division by zero fails on fakesnow, as it does on Snowflake (page DIV0: it is for a division that
# would be an error otherwise).
# What happens: the answer is infinity, also of two NUMBERs. Infinity is larger than each limit, so a filter or a
# check "ratio > 0.5" holds. A test with an empty day is green, and the build fails in production on the
# first day without rows. Only a remainder, MOD(1, 0), fails on both.
# Seen with fakesnow 0.12.1 (duckdb 2.0.0, snowflake-connector-python 4.8.1):
#   SELECT 1 / 0                                  inf
#   paid / orders > 0.5, both NUMBER(10, 2)       True
# What to do: write DIV0NULL(a, b) or a / NULLIF(b, 0), and test a day without rows on Snowflake once.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fakesnow==0.12.1 duckdb==2.0.0 snowflake-connector-python==4.8.1
cd "$folder"

cat >experiment.py <<'PYTHON'
import fakesnow
import snowflake.connector

PAID = "select 1::number(10, 2) as paid, 0::number(10, 2) as orders"
QUERIES = [
    "select 1 / 0",
    f"select paid / orders > 0.5 from ({PAID})",
    f"select count(*) from ({PAID}) where paid / orders > 0.5",
    f"select paid / nullif(orders, 0) from ({PAID})",
    f"select div0null(paid, orders) from ({PAID})",
]
with fakesnow.patch(), snowflake.connector.connect(database="db", schema="s") as connection:
    cursor = connection.cursor()
    seen = []
    for query in QUERIES:
        try:
            cursor.execute(query)
        except Exception as error:
            seen.append(type(error).__name__)
        else:
            seen.append(cursor.fetchone()[0])
        print(f"{query}: {seen[-1]}")
assert seen[:3] == [float("inf"), True, 1], f"CHANGED: {seen}"
assert seen[3] is None, f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
