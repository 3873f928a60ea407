#!/usr/bin/env bash
# Guess: fakesnow takes a duplicate of a primary key and a row without its parent, as Snowflake does (page
# Overview of Constraints: a primary, unique or foreign key of a standard table is not enforced).
# What happens: DuckDB under it enforces PRIMARY KEY, UNIQUE and REFERENCES. A test that a second load of
# one file is refused is green, and in production the second load doubles the table. The error is one of
# DuckDB, which no "except" for the connector's errors catches.
# Seen with fakesnow 0.12.1 (duckdb 2.0.0, snowflake-connector-python 4.8.1):
#   the same row into a table with a PRIMARY KEY    duckdb ConstraintException
#   a row without its parent                        duckdb ConstraintException
# What to do: leave keys out of the tables of a test, and check for duplicates by a query.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fakesnow==0.12.1 duckdb==2.0.0 snowflake-connector-python==4.8.1
cd "$folder"

cat >experiment.py <<'PYTHON'
import duckdb
import fakesnow
import snowflake.connector

seen = []
with fakesnow.patch(), snowflake.connector.connect(database="db", schema="s") as connection:
    cursor = connection.cursor()
    cursor.execute("create table orders (id int primary key)")
    cursor.execute("create table items (order_id int references orders (id))")
    cursor.execute("insert into orders values (1)")
    for statement in ("insert into orders values (1)", "insert into items values (99)"):
        try:
            cursor.execute(statement)
        except Exception as error:
            of_connector = isinstance(error, snowflake.connector.errors.Error)
            seen.append((isinstance(error, duckdb.ConstraintException), of_connector))
            print(f"{statement}: {type(error).__module__}.{type(error).__name__}")
        else:
            seen.append("taken")
            print(f"{statement}: taken")
assert seen == [(True, False), (True, False)], f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
