#!/usr/bin/env bash
# Guess: a project imports what its own files name. A library that is installed and that nothing of the project uses costs a
# process of Dagster nothing.
# What happens: loading the folder of definitions imports every module that any installed package has registered for the
# command line (entry points of the group dagster_dg_cli.registry_modules), in every process: code server, run and daemon.
# A registered module that cannot be imported keeps the project from loading.
# Seen with dagster 1.13.27, an empty folder, and a package that registers a module:
#   loaded, and imported the module: True
#   the module raises: ComponentTreeException
# What to do: keep registered modules cheap to import. dagster-snowflake registers itself, and takes 3.5 s of CPU: build the
# definitions without a folder where each start counts, or leave the package out of the environment.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

packages=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$packages/other_library-1.dist-info" project/src/shop/defs
printf 'Metadata-Version: 2.1\nName: other-library\nVersion: 1\n' >"$packages/other_library-1.dist-info/METADATA"
printf '[dagster_dg_cli.registry_modules]\nother_library = other_library\n' >"$packages/other_library-1.dist-info/entry_points.txt"
printf '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\nroot_module = "shop"\n' >project/pyproject.toml
touch project/src/shop/__init__.py project/src/shop/defs/__init__.py

load() {
    PYTHONPATH=project/src timeout 120 venv/bin/python -W ignore -c '
import sys
from pathlib import Path

import dagster as dg

assert "other_library" not in sys.modules
try:
    dg.load_from_defs_folder(path_within_project=Path("project/src/shop").absolute())
except Exception as error:
    print("the module raises:", type(error).__name__)
else:
    print("loaded, and imported the module:", "other_library" in sys.modules)
'
}

touch "$packages/other_library.py"
imported=$(load)
echo "raise RuntimeError('of another library')" >"$packages/other_library.py"
raised=$(load)
printf '%s\n' "$imported" "$raised"
if [ "$imported" != "loaded, and imported the module: True" ] || [ "$raised" != "the module raises: ComponentTreeException" ]; then
    echo "CHANGED: $imported; $raised" >&2
    exit 1
fi
