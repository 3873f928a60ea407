#!/usr/bin/env bash
# Guess: where pip finds a set of versions and `pip check` has no complaint, the libraries can be imported together.
# What happens: fakesnow 0.12.1 requires snowflake-connector-python of any version, so a fresh environment gets release 5.
# Its new driver has no module snowflake.connector.converter, which fakesnow imports at its top.
# Seen with fakesnow 0.12.1 and snowflake-connector-python 5.2.0:
#   No broken requirements found.
#   import fakesnow: ModuleNotFoundError: No module named 'snowflake.connector.converter'
# What to do: name the connector beside fakesnow, as in snowflake-connector-python<5.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fakesnow==0.12.1 snowflake-connector-python==5.2.0
cd "$folder"

checked=$(venv/bin/pip --disable-pip-version-check check)
imported=$(timeout 120 venv/bin/python -W ignore -c '
try:
    import fakesnow
except Exception as error:
    print(f"import fakesnow: {type(error).__name__}: {error}")
else:
    print("import fakesnow: imported")
')
printf '%s\n' "$checked" "$imported"
expected="import fakesnow: ModuleNotFoundError: No module named 'snowflake.connector.converter'"
if [ "$checked" != "No broken requirements found." ] || [ "$imported" != "$expected" ]; then
    echo "CHANGED: $checked; $imported" >&2
    exit 1
fi
