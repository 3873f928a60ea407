#!/usr/bin/env bash
# Guess: "dg check yaml" looks at every defs.yaml of a project.
# What happens: of several components of one type it looks at a single one, the last that it finds, and ends with exit code 0
# where another one is wrong.
# Seen with dagster-dg-cli 1.13.27, two components of one type, the attributes of one of them wrong:
#   both right:        exit code 0
#   only one is wrong: exit code 0 for one of the two, 1 for the other
#   both wrong:        exit code 1
# What to do: run "dg check defs", which loads each of them, or pass the folder of each to "dg check yaml".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 dagster-dg-cli==1.13.27
PATH="$folder/venv/bin:$PATH"
mkdir -p "$folder/project/src/shop/defs/one" "$folder/project/src/shop/defs/two"
cd "$folder/project"
export PYTHONPATH=$PWD/src
printf '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\nroot_module = "shop"\n' >pyproject.toml
touch src/shop/__init__.py src/shop/defs/__init__.py

declare_component() {
    printf 'type: dagster.PythonScriptComponent\nattributes: {%s: {path: x.py}, assets: [{key: %s}]}\n' "$2" "$1" \
        >"src/shop/defs/$1/defs.yaml"
}

check() {
    local code=0
    declare_component one "$1"
    declare_component two "$2"
    timeout 120 dg check yaml >/dev/null 2>&1 || code=$?
    echo "$code"
}

right=$(check execution execution)
first=$(check excution execution)
second=$(check execution excution)
wrong=$(check excution excution)
echo "both right: $right; one wrong: $first; two wrong: $second; both wrong: $wrong"
if [ "$right$wrong" != 01 ] || [ "$((first + second))" != 1 ]; then
    echo "CHANGED: $right $first $second $wrong" >&2
    exit 1
fi
