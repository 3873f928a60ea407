#!/usr/bin/env bash
# Guess: a MERGE from a source with two rows for one row of the target fails on fakesnow, as it does on
# Snowflake (page MERGE: ERROR_ON_NONDETERMINISTIC_MERGE is true by default).
# What happens: it reports 2 rows updated, and keeps the first. A test for a source that lacks its
# de-duplication is green, and the statement fails in production.
# Seen with fakesnow 0.12.1 (duckdb 2.0.0, snowflake-connector-python 4.8.1):
#   rows updated: 2, the table: [(1, 'first')]
# What to do: check the source's keys for duplicates in the test, before the MERGE.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fakesnow==0.12.1 duckdb==2.0.0 snowflake-connector-python==4.8.1
cd "$folder"

cat >merge.py <<'PYTHON'
import fakesnow
import snowflake.connector

MERGE = """
    merge into orders using (
        select column1 as id, column2 as state from values (1, 'first'), (1, 'second')
    ) as source on orders.id = source.id
    when matched then update set state = source.state
"""

with fakesnow.patch(), snowflake.connector.connect(database="db", schema="s") as connection:
    cursor = connection.cursor()
    cursor.execute("create table orders (id int, state varchar)")
    cursor.execute("insert into orders values (1, 'new')")
    try:
        cursor.execute(MERGE)
    except snowflake.connector.errors.ProgrammingError as error:
        raise SystemExit("CHANGED: the MERGE fails") from error
    updated = int(cursor.fetchone()[0])
    rows = cursor.execute("select * from orders").fetchall()
print(f"rows updated: {updated}, the table: {rows}")
assert updated == 2, f"CHANGED: {updated} rows updated"
assert rows in ([(1, "first")], [(1, "second")]), f"CHANGED: {rows}"
PYTHON
timeout 120 venv/bin/python -W ignore merge.py
