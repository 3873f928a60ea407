#!/usr/bin/env bash
# Guess: every table that a Snowflake query reads is an exp.Table with a name and a schema, and
# every exp.Table is a table that it reads. So find_all(exp.Table) gives the lineage.
# What happens: table(s.t) is a TableFromRows around a column and is missed. identifier('s.t') is an
# exp.Table with the whole text as its name and no schema. The file format of a stage is an
# exp.Table of its own, so a table is invented. None of it raises or warns.
# Seen with sqlglot 30.22.0, for the four sources of the query below (schema, name):
#   [('s', 'a'), ('', 's.c'), ('', '@s.d'), ('s', 'ff')]
# What to do: walk TableFromRows too, look whether Table.this is a DynamicIdentifier or a Var, and
# skip an exp.Table whose arg_key is "format".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlglot==30.22.0
cd "$folder"

timeout 120 venv/bin/python - <<'PYTHON'
import sqlglot
from sqlglot import exp

query = "select * from s.a, table(s.b), identifier('s.c'), @s.d (file_format => s.ff)"
tree = sqlglot.parse_one(query, read="snowflake")
found = [(table.db, table.name) for table in tree.find_all(exp.Table)]
print(query)
print(found)
expected = [("s", "a"), ("", "s.c"), ("", "@s.d"), ("s", "ff")]
assert found == expected, "CHANGED: other tables are found"
kinds = [type(join.this).__name__ for join in tree.args["joins"]]
assert kinds == ["TableFromRows", "Table", "Table"], f"CHANGED: the sources are {kinds}"
assert [table.name for table in tree.find_all(exp.Table) if table.arg_key == "format"] == ["ff"]
PYTHON
