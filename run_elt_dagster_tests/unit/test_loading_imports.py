"""Every process of Dagster loads the code location: what only a run or a command needs is not imported for it."""

import os
import subprocess
import sys
from pathlib import Path

from run_elt_dagster.model.lineage import load_tables

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "run_elt_dagster" / "tables"
HEAVY = (
    *(
        "apprise",
        "boto3",
        "botocore",
        "cryptography",
        "dagster_graphql",
        "dagster_postgres",
        "dagster_slack",
        "dagster_snowflake",
    ),
    *("dagster_webserver", "duckdb", "fakesnow", "numpy", "pandas", "pyarrow", "requests", "slack_sdk"),
    *("snowflake.connector", "snowflake.core", "snowflake.snowpark", "sqlglot"),
    # Of this project: what a tick of a sensor needs, or a run that builds no table.
    *("run_elt_dagster.alerts.drafts", "run_elt_dagster.alerts.health", "run_elt_dagster.environments.databases"),
    "run_elt_dagster.alerts.receivers_delivery",
    *("run_elt_dagster.audit.runner", "run_elt_dagster.publish.log", "run_elt_dagster.publish.run"),
    *("run_elt_dagster.orchestration.step", "run_elt_dagster.publish.outcome", "run_elt_dagster.runs.history_files"),
)
# As Dagster does for `-m run_elt_dagster`, and `dg` for components: each looks at all names of the module.
_LOAD = f"""
import inspect, sys, run_elt_dagster
assert "dagster" not in sys.modules
found = dict(inspect.getmembers(run_elt_dagster))
assert "run_elt_dagster.definitions" not in sys.modules
assert found["SqlTables"].__name__ == "SqlTables"
assert found["load_defs"]() is run_elt_dagster.defs
run_elt_dagster.defs.get_repository_def()
print(*(name for name in {HEAVY!r} if name in sys.modules), sep=", ")
"""


def test_loading_unchanged_tables_imports_nothing_that_is_not_needed_for_it(tmp_path: Path) -> None:
    load_tables(TABLES, cache_dir=tmp_path / "cache")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SNOWFLAKE_", "SLACK_"))},
        "RUN_ELT_TABLES_DIR": str(TABLES),
        "RUN_ELT_CACHE_DIR": str(tmp_path / "cache"),
        "RUN_ELT_ALERT_RECEIVERS": "hook=json://127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(
        [sys.executable, "-c", _LOAD], cwd=tmp_path, env=env, check=False, capture_output=True, text=True
    )
    assert (run.stdout.strip(), run.stderr) == ("", "")
