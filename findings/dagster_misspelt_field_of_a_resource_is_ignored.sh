#!/usr/bin/env bash
# Guess: a misspelt field of a ConfigurableResource or a Config raises where it is written in Python, as the
# same misspelling does in a run's configuration.
# What happens: pydantic's default holds in Python: the field is dropped, and nothing is logged. A misspelt
# warehouse or role is the user's default one, a misspelt autocommit=False commits each statement.
# Seen with dagster 1.13.27, dagster-snowflake 0.29.27:
#   SnowflakeResource(warehose="LOAD", autocomit=False)   taken, warehouse=None autocommit=None
#   BuildConfig(dry_runn=True)                            taken, dry_run=False
#   "dry_runn" in a run's configuration                   DagsterInvalidConfigError
# What to do: give a class of your own extra="forbid" as below. A type checker finds the others.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster-snowflake==0.29.27 dagster==1.13.27 snowflake-connector-python==4.8.1
cd "$folder"

cat >experiment.py <<'PYTHON'
import dagster as dg
from dagster_snowflake import SnowflakeResource


class BuildConfig(dg.Config):
    dry_run: bool = False


class StrictConfig(dg.Config, extra="forbid"):
    dry_run: bool = False


@dg.asset
def orders(config: BuildConfig) -> None: ...


def outcome(action) -> str:
    try:
        return str(action())
    except Exception as error:
        return type(error).__name__


def resource():
    snowflake = SnowflakeResource(account="a", user="u", password="p", warehose="LOAD", autocomit=False)
    return f"warehouse={snowflake.warehouse} autocommit={snowflake.autocommit}"


seen = {
    "resource": outcome(resource),
    "config in Python": outcome(lambda: BuildConfig(dry_runn=True)),
    "config with extra forbidden": outcome(lambda: StrictConfig(dry_runn=True)),
    "config of a run": outcome(
        lambda: dg.materialize([orders], run_config={"ops": {"orders": {"config": {"dry_runn": True}}}})
    ),
}
for name, result in seen.items():
    print(f"{name}: {result}")
expected = ["warehouse=None autocommit=None", "dry_run=False", "ValidationError", "DagsterInvalidConfigError"]
assert list(seen.values()) == expected, f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
