#!/usr/bin/env bash
# Guess: in strftime %n is the nanoseconds of a TIMESTAMP, nine digits, and what follows in the format comes behind them.
# What happens: %n at the end of a format is right. Before anything else it writes three digits too few: what follows
# stands too early, and the text ends with three characters of something else, a NUL among them.
# Seen with DuckDB 2.0.0:
#   strftime(TIMESTAMP '2024-01-02 10:11:12.345678', '%n|')   345678|00 and a NUL, not 345678000|
# What to do: use %f, the microseconds, and write the zeros: '%f000|'.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.0
cd "$folder"

timeout 120 venv/bin/python - <<'PYTHON'
import duckdb


def written(template):
    sql = f"SELECT strftime(TIMESTAMP '2024-01-02 10:11:12.345678', '{template}')"
    return duckdb.connect().execute(sql).fetchall()[0][0]


for template in ("%n|", "%f000|"):
    print(template, "->", repr(written(template)))
assert written("%f000|") == "345678000|", "CHANGED: %f is another"
assert written("%n|").startswith("345678|"), "CHANGED: %n is followed by the rest"
PYTHON
