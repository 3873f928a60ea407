#!/usr/bin/env bash
# Guess: "sqlfluff fix" changes how a query looks, and not what it answers. ST06, the rule that puts plain
# columns before calculations, leaves a subquery alone where the order of its columns has a meaning, as it
# does under INSERT, CREATE TABLE, UNION and ORDER BY 1.
# What happens: in "(a, b) IN (SELECT MAX(...), b ...)" it swaps the two columns of the subquery. The
# statement is still valid where the types agree, and answers something else. This is a common way to take
# the newest row of each key. The exit code is 0.
# Seen with sqlfluff 4.5.0, rules ST06, and duckdb 2.0.0:
#   before: (version, id) IN (SELECT MAX(version) AS version, id ...)   rows [(1, 7), (2, 3)]
#   after:  (version, id) IN (SELECT id, MAX(version) AS version ...)   rows []
# What to do: exclude_rules = ST06, or -- noqa: ST06 on such a subquery, or QUALIFY instead of it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlfluff==4.5.0 duckdb==2.0.0
cd "$folder"

cat >query.sql <<'SQL'
SELECT
    id,
    version
FROM orders
WHERE (version, id) IN (
    SELECT
        MAX(version) AS version,
        id
    FROM orders
    GROUP BY id
)
ORDER BY id
SQL
cp query.sql before.sql
code=0
timeout 120 venv/bin/sqlfluff fix --dialect snowflake --rules ST06 query.sql >fix.log 2>&1 || code=$?
echo "exit code of fix: $code"
diff before.sql query.sql || true
if cmp -s before.sql query.sql; then echo "CHANGED: the query is as it was" >&2; exit 1; fi
if [ "$code" != 0 ]; then echo "CHANGED: sqlfluff fix ended with exit code $code" >&2; exit 1; fi

venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import duckdb

connection = duckdb.connect()
connection.execute("CREATE TABLE orders AS FROM (VALUES (1, 6), (1, 7), (2, 3)) AS t(id, version)")
before, after = (connection.execute(Path(name).read_text()).fetchall() for name in ("before.sql", "query.sql"))
print("before:", before)
print("after: ", after)
assert before == [(1, 7), (2, 3)]
if after == before:
    sys.exit("CHANGED: the fixed query answers the same")
PYTHON
