#!/usr/bin/env bash
# Guess: LISTAGG(x), transpiled from Snowflake to DuckDB, joins the texts with nothing between them, as it
# does on Snowflake (page LISTAGG: without a delimiter, the empty string is used).
# What happens: sqlglot writes a comma. The query runs, and each text has commas that production does not
# have. Of no rows the answer is NULL, where Snowflake's page documents the empty string.
# Seen with sqlglot 30.22.0 and duckdb 2.0.0, of 'a' and 'b':
#   LISTAGG(x)       a,b
#   LISTAGG(x, '')   ab
# What to do: write the delimiter, LISTAGG(x, ''), and COALESCE where no row is possible.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlglot==30.22.0 duckdb==2.0.0

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import duckdb
import sqlglot

connection = duckdb.connect()
connection.execute("CREATE TABLE codes AS FROM (VALUES ('a'), ('b')) AS t(x)")


def answer(select: str) -> str | None:
    (statement,) = sqlglot.transpile(select, read="snowflake", write="duckdb")
    print(statement)
    return connection.execute(statement).fetchone()[0]


seen = [
    answer("SELECT LISTAGG(x) WITHIN GROUP (ORDER BY x) FROM codes"),
    answer("SELECT LISTAGG(x, '') WITHIN GROUP (ORDER BY x) FROM codes"),
    answer("SELECT LISTAGG(x, '') FROM codes WHERE x = 'none'"),
]
print(seen)
if seen != ["a,b", "ab", None]:
    sys.exit(f"CHANGED: {seen}")
PYTHON
