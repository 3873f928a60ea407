#!/usr/bin/env bash
# Guess: a CASE with error('...') in a branch that no row reaches changes no result.
# What happens: in a correlated subquery with COUNT behind "FROM a, b WHERE ..." the comparison with
# the subquery is dropped, so every row passes. random() in the branch does the same, so the cause
# is a function that DuckDB takes for volatile. 0 in the branch, or a cast that fails, does not.
# Seen with duckdb 2.0.0, rows that pass:
#   0                          298
#   error('never')             600, all
#   random()                   600, all
#   CAST('never' AS TINYINT)   298
#   error('never') and disabled_optimizers = 'statistics_propagation'   298
# What to do: SET disabled_optimizers = 'statistics_propagation', or fail with a cast.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.0

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import duckdb

connection = duckdb.connect()
connection.execute("CREATE TABLE lines AS SELECT (i % 20)::BIGINT AS k, (hash(i) % 50 + 1)::DECIMAL(12, 2) AS q FROM range(600) AS t(i)")
connection.execute("CREATE TABLE parts AS SELECT i::BIGINT AS k FROM range(20) AS t(i)")


def passing(branch: str) -> int:
    query = f"""
        SELECT count(*) FROM lines, parts
        WHERE parts.k = lines.k AND lines.q < (
            SELECT CASE WHEN count(*) = 0 THEN {branch} ELSE sum(q) / count(*) END
            FROM lines AS others WHERE others.k = parts.k
        )"""
    return connection.execute(query).fetchone()[0]


right = passing("0")
seen = {branch: passing(branch) for branch in ("error('never')::DOUBLE", "random()", "CAST('never' AS TINYINT)")}
connection.execute("SET disabled_optimizers = 'statistics_propagation'")
seen["without the optimizer"] = passing("error('never')::DOUBLE")
print(f"0: {right}", *(f"{branch}: {rows}" for branch, rows in seen.items()), sep="\n")
if list(seen.values()) != [600, 600, right, right] or right == 600:
    sys.exit("CHANGED: " + str(seen))
PYTHON
