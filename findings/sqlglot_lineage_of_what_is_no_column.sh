#!/usr/bin/env bash
# Guess: sqlglot.lineage, given the columns of all tables, answers with columns that exist and that
# the value comes from, or with none.
# What happens: LEVEL of CONNECT BY, the unit in trunc(day, month) and a column that PIVOT makes are
# answered as columns of the table, although the schema given has none of them. The rows that EXCEPT
# takes away are answered as a source of the values. Nothing in the answer says that it is uncertain.
# Seen with sqlglot 30.22.0, dialect snowflake, and a table s.t with the columns a and b:
#   select level as o from s.t connect by prior a = b       T.LEVEL
#   select trunc(a, month) as o from s.t                    T.A, T.MONTH
#   select x as o from s.t pivot (sum(a) for b in ('x'))    T.X
#   select a as o from s.t except select k from s.u         T.A, U.K
# What to do: look at the tree first, and ask only about queries without CONNECT BY, PIVOT and set
# operations other than UNION. Or walk the scopes yourself, and call unknown what you do not know.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlglot==30.22.0
cd "$folder"

timeout 120 venv/bin/python - <<'PYTHON'
from sqlglot import exp
from sqlglot.lineage import lineage

schema = {"s": {"t": {"a": "int", "b": "int"}, "u": {"k": "int"}}}
expected = {
    "select level as o from s.t connect by prior a = b": ["T.LEVEL"],
    "select trunc(a, month) as o from s.t": ["T.A", "T.MONTH"],
    "select x as o from s.t pivot (sum(a) for b in ('x'))": ["T.X"],
    "select a as o from s.t except select k from s.u": ["T.A", "U.K"],
}
for query, columns in expected.items():
    nodes = lineage("o", query, schema=schema, dialect="snowflake").walk()
    found = sorted(node.name for node in nodes if isinstance(node.expression, exp.Table))
    print(f"{query}\n  {', '.join(found)}")
    assert found == columns, f"CHANGED: {found} instead of {columns}"
PYTHON
