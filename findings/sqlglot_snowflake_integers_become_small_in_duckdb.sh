#!/usr/bin/env bash
# Guess: TRY_CAST(id AS INT), transpiled from Snowflake to DuckDB, keeps an id of ten digits. On Snowflake INT,
# SMALLINT and TINYINT are all NUMBER(38, 0) (page "Numeric data types").
# What happens: sqlglot keeps the names of the types, and DuckDB's INT has 32 bits, its TINYINT 8. TRY_CAST
# makes NULL of each value that does not fit, so a test on DuckDB sees ids vanish, or counts them as
# unreadable. NUMBER is translated to DECIMAL(38, 0), and is right.
# Seen with sqlglot 30.22.0 and duckdb 2.0.0:
#   TRY_CAST('3000000000' AS INT)      None
#   TRY_CAST('70000' AS SMALLINT)      None
#   TRY_CAST('300' AS TINYINT)         None
#   TRY_CAST('3000000000' AS NUMBER)   3000000000
# What to do: write NUMBER in SQL that is transpiled, or change the types in sqlglot's tree beforehand.
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
seen = []
for text, kind in (("3000000000", "INT"), ("70000", "SMALLINT"), ("300", "TINYINT"), ("3000000000", "NUMBER")):
    select = f"SELECT TRY_CAST('{text}' AS {kind})"
    (statement,) = sqlglot.transpile(select, read="snowflake", write="duckdb")
    (answer,) = connection.execute(statement).fetchone()
    seen.append(answer)
    print(f"{statement:<55} {answer}")
if seen != [None, None, None, 3000000000]:
    sys.exit(f"CHANGED: {seen}")
PYTHON
