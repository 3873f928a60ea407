#!/usr/bin/env bash
# Guess: `executemany` of one INSERT sends one statement with all rows, and so does INSERT OVERWRITE: the table then has the
# rows that were given.
# What happens: the connector joins the rows only where the statement begins with the words INSERT INTO. Every other one is
# executed once for each row. INSERT OVERWRITE INTO then replaces the row before: the last row is left, and `rowcount` is the
# number of all rows. A comment in front of INSERT INTO, as tools put one there to mark who asks, makes a statement of each row.
# Seen with snowflake-connector-python 4.8.1 on fakesnow 0.12.1's server:
#   insert into t values (%s)                    1 statement,  rowcount 3, 3 rows
#   /* nightly */ insert into t values (%s)      3 statements, rowcount 3, 3 rows
#   insert overwrite into t values (%s)          3 statements, rowcount 3, 1 row
# What to do: put INSERT INTO first. For INSERT OVERWRITE fill a temporary table, and overwrite by a SELECT from it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "fakesnow[server]==0.12.1" duckdb==2.0.0 snowflake-connector-python==4.8.1
cd "$folder"

cat >look.py <<'EOF'
import fakesnow
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

STATEMENTS = {
    "insert into t values (%s)": (1, 3, 3),
    "/* nightly */ insert into t values (%s)": (3, 3, 3),
    "insert overwrite into t values (%s)": (3, 3, 1),
}


class Counting(SnowflakeCursor):
    sent = 0

    def execute(self, *args, **kwargs):
        self.sent += 1
        return super().execute(*args, **kwargs)


with fakesnow.server() as address, snowflake.connector.connect(**address, database="db", schema="s") as connection:
    for statement, expected in STATEMENTS.items():
        connection.cursor().execute("create or replace table t (id int)")
        cursor = connection.cursor(Counting)
        cursor.executemany(statement, [(1,), (2,), (3,)])
        (rows,) = connection.cursor().execute("select count(*) from t").fetchone()
        seen = (cursor.sent, cursor.rowcount, rows)
        print(f"{statement}: {seen[0]} statements, rowcount {seen[1]}, {seen[2]} rows")
        assert seen == expected, f"CHANGED: {statement}: {seen}"
EOF
timeout 120 venv/bin/python -W ignore look.py 2>server.log >look.log && grep -v ^INFO look.log || { grep CHANGED server.log >&2 || tail -n 5 server.log >&2; exit 1; }
