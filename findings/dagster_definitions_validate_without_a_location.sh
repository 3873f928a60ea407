#!/usr/bin/env bash
# Guess: "dagster definitions validate" fails in CI where it finds no code location, as after a misspelt
# key in pyproject.toml. At least it says that it has validated nothing.
# What happens: it prints "All code locations passed validation", with exit code 0. An empty [tool.dagster],
# a key that does not exist, and an empty workspace.yaml are all taken for zero locations. The broken
# definitions.py beside it is never imported.
# Seen with dagster 1.13.27 beside a definitions.py that raises:
#   module_name = "definitions"   exit code 1
#   modul_name = "definitions"    exit code 0, All code locations passed validation.
#   [tool.dagster] alone          exit code 0, All code locations passed validation.
#   load_from: []                 exit code 0, All code locations passed validation.
# What to do: name the module in CI, dagster definitions validate -m definitions.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
mkdir "$folder/home" "$folder/project"
export DAGSTER_HOME="$folder/home"
echo "telemetry: {enabled: false}" >"$DAGSTER_HOME/dagster.yaml"
cd "$folder/project"
echo 'raise RuntimeError("the definitions are broken")' >definitions.py

# Prints the exit code, with a word if the command says that all has passed.
validate() {
    local code=0
    timeout 120 "$folder/venv/bin/dagster" definitions validate >validate.log 2>&1 || code=$?
    if grep -q "All code locations passed validation" validate.log; then echo "$code passed"; else echo "$code failed"; fi
}

expect() {
    local seen
    seen=$(validate)
    echo "$1: $seen"
    if [ "$seen" != "$2" ]; then echo "CHANGED: $1 gave \"$seen\", expected \"$2\"" >&2; exit 1; fi
}

printf '[tool.dagster]\nmodule_name = "definitions"\n' >pyproject.toml
expect 'module_name' "1 failed"
printf '[tool.dagster]\nmodul_name = "definitions"\n' >pyproject.toml
expect 'modul_name' "0 passed"
printf '[tool.dagster]\n' >pyproject.toml
expect '[tool.dagster] alone' "0 passed"
rm pyproject.toml
echo "load_from: []" >workspace.yaml
expect 'load_from: []' "0 passed"
