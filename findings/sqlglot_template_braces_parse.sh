#!/usr/bin/env bash
# Guess: a template that was never rendered is a syntax error, so to parse a query is enough to
# find a left-over {{ ds }}.
# What happens: where a value may stand, braces are read as a struct in a struct, the pipe of a
# filter as a bitwise or, and the query is written out as other SQL. In the place of a table the
# same braces are an error.
# Seen with sqlglot 30.22.0, dialect snowflake:
#   where day = {{ ds }}   where day = OBJECT_CONSTRUCT('_0', OBJECT_CONSTRUCT('_0', ds))
#   {{ name | upper }}     OBJECT_CONSTRUCT('_0', OBJECT_CONSTRUCT('_0', BITOR(name, upper)))
#   from {{ orders }}      ParseError
# What to do: look for "{{" among the tokens before you parse (a "{{" within a text is one token,
# and may be meant). Snowflake's own object constants have keys: {'a': 1}.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlglot==30.22.0
cd "$folder"

timeout 120 venv/bin/python - <<'PYTHON'
import sqlglot


def written(query):
    try:
        return sqlglot.parse_one(query, read="snowflake").sql("snowflake")
    except sqlglot.errors.ParseError:
        return "ParseError"


nested = "OBJECT_CONSTRUCT('_0', OBJECT_CONSTRUCT('_0', {}))"
expected = {
    "select id from s.orders where day = {{ ds }}": "SELECT id FROM s.orders WHERE day = " + nested.format("ds"),
    "select {{ name | upper }} from s.orders": "SELECT " + nested.format("BITOR(name, upper)") + " FROM s.orders",
    "select id from {{ orders }}": "ParseError",
}
for query, sql in expected.items():
    print(query, "->", written(query))
    assert written(query) == sql, "CHANGED: expected " + sql
PYTHON
