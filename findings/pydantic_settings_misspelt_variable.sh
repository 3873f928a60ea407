#!/usr/bin/env bash
# Guess: extra="forbid" makes settings refuse a misspelt variable, wherever it is set. The prefix says which
# variables belong to the settings.
# What happens: in the .env file the misspelt name is refused. As a variable of the environment it is ignored,
# and the setting has its default. What a developer's machine refuses passes in production, where the
# environment is set by the deployment.
# Seen with pydantic-settings 2.16.3 (pydantic 2.14.3), prefix SHOP_, extra="forbid":
#   SHOP_TIMEOUTT=9 in .env             ValidationError
#   SHOP_TIMEOUTT=9 in the environment  timeout=1, the default
# What to do: compare the names in os.environ that begin with the prefix with the fields, at the start.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydantic-settings==2.16.3 pydantic==2.14.3
cd "$folder"

cat >read.py <<'PYTHON'
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", env_file=".env", extra="forbid")

    timeout: int = 1


try:
    print(f"timeout={Settings().timeout}")
except ValidationError as error:
    print(*(f"{problem['loc'][0]} {problem['type']}" for problem in error.errors()))
PYTHON

right=$(SHOP_TIMEOUT=9 venv/bin/python read.py)
in_environment=$(SHOP_TIMEOUTT=9 venv/bin/python read.py)
echo "SHOP_TIMEOUTT=9" >.env
in_file=$(venv/bin/python read.py)
echo "well spelt: $right"
echo "misspelt in the environment: $in_environment"
echo "misspelt in .env: $in_file"
if [ "$right; $in_environment; $in_file" != "timeout=9; timeout=1; shop_timeoutt extra_forbidden" ]; then
    echo "CHANGED: $right; $in_environment; $in_file" >&2
    exit 1
fi
