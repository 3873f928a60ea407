#!/usr/bin/env bash
# Guess: a contract of layers is checked for every module below the root package. What Python can import,
# import-linter looks at.
# What happens: a folder without __init__.py below a package is no part of its graph, while Python imports
# it as a namespace package. A forbidden import in there breaks no contract: "kept", exit code 0. The one
# trace is the number of analyzed files.
# Seen with import-linter 2.16:
#   shop/db/reports/totals.py imports shop.web, no __init__.py   3 files, exit code 0
#   the same with an empty shop/db/reports/__init__.py           5 files, exit code 1
# What to do: lint for missing __init__.py, as Ruff's INP001 does.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check import-linter==2.16
cd "$folder"

mkdir -p shop/web shop/db/reports
touch shop/__init__.py shop/web/__init__.py shop/db/__init__.py
echo "import shop.web" >shop/db/reports/totals.py
cat >.importlinter <<'INI'
[importlinter]
root_package = shop

[importlinter:contract:layers]
name = The web may use the database, not the other way round
type = layers
layers =
    shop.web
    shop.db
INI

lint() {
    local code=0
    timeout 60 venv/bin/lint-imports --no-cache >lint.log 2>&1 || code=$?
    echo "$(grep -o 'Analyzed [0-9]* files' lint.log), exit code $code" >&2
    echo "$code"
}

venv/bin/python -c "import shop.db.reports.totals"
without=$(lint)
touch shop/db/reports/__init__.py
with=$(lint)
if [ "$without $with" != "0 1" ]; then
    echo "CHANGED: exit code $without without __init__.py, $with with it" >&2
    exit 1
fi
