"""The component in a project as `create-dagster project` makes it, by the commands of `dg`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir

TYPE = "run_elt_dagster.SqlTables"
# What create-dagster 1.13.29 writes, but for the build system: the project is not installed here.
PROJECT = """
[project]
name = "shop"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "shop"
registry_modules = ["shop.components.*"]
"""
DEFINITIONS = """
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
TEAM = """
from pathlib import Path

import dagster as dg
from dagster_snowflake import SnowflakeResource


@dg.asset(key=["ingest", "orders"])
def loads_orders(snowflake: SnowflakeResource) -> None:
    snowflake.connect_and_execute("create schema if not exists raw")
    snowflake.connect_and_execute("create or replace table raw.orders as select current_date as day")


@dg.asset(deps=[["sales", "analytics", "orders"], ["warehouse", "analytics", "days"]])
def report(snowflake: SnowflakeResource) -> None:
    with snowflake.get_connection() as connection, connection.cursor() as cursor:
        (count,) = cursor.execute("select count(*) from analytics.orders").fetchone()
    with Path("report.txt").open("a") as file:
        file.write(f"{count}\\n")


# A process for each step would import dagster-snowflake again.
defs = dg.Definitions(assets=[loads_orders, report], executor=dg.in_process_executor)
"""
SALES = """
type: run_elt_dagster.SqlTables
attributes:
  folder: .
  snowflake: embedded
  key_prefix: sales
  asset_keys: {raw.orders: ingest/orders}
"""
ORDERS = "select day from raw.orders inner join analytics.days using (day)"

Run = Callable[..., str]


@pytest.fixture
def source(deployment_dir: DeploymentDir) -> Path:
    folder = deployment_dir.directory / "src" / "shop"
    (folder / "defs").mkdir(parents=True)
    for name in ("__init__.py", "defs/__init__.py"):
        (folder / name).write_text("", encoding="utf-8")
    (folder / "definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    (deployment_dir.directory / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    return folder


@pytest.fixture
def run_dg(deployment_dir: DeploymentDir, source: Path) -> Run:
    path = f"{source.parent}:{deployment_dir.environment()['PYTHONPATH']}"

    def run(*arguments: str, status: int = 0) -> str:
        done = deployment_dir.run("dg", *arguments, env={"PYTHONPATH": path})
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done.stdout if status == 0 else done.stdout + done.stderr

    return run


@pytest.fixture
def run_elt(deployment_dir: DeploymentDir, source: Path) -> Run:
    """Run a command of `run-elt` in the project: pyproject.toml names its code location."""
    path = f"{source.parent}:{deployment_dir.environment()['PYTHONPATH']}"

    def run(*arguments: str) -> str:
        done = deployment_dir.run("run-elt", *arguments, env={"PYTHONPATH": path})
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.mark.thorough
def test_component_is_listed_scaffolded_checked_and_launched_between_assets_of_a_team(
    source: Path, run_dg: Run, run_elt: Run
) -> None:
    assert TYPE in [each["key"] for each in json.loads(run_dg("list", "components", "--json"))["items"]]
    run_dg("scaffold", "defs", TYPE, "warehouse")
    scaffolded = source / "defs" / "warehouse" / "defs.yaml"
    scaffolded.write_text(scaffolded.read_text(encoding="utf-8") + "  key_prefix: warehouse\n", encoding="utf-8")
    orders = source / "defs" / "sales" / "analytics" / "orders.sql"
    orders.parent.mkdir(parents=True)
    orders.write_text(ORDERS, encoding="utf-8")
    (orders.parents[1] / "defs.yaml").write_text(SALES, encoding="utf-8")
    (source / "defs" / "team.py").write_text(TEAM, encoding="utf-8")
    run_dg("check", "yaml")
    listed = json.loads(run_dg("list", "defs", "--json"))
    keys = {asset["asset_key"] for asset in listed["assets"]}
    assert keys >= {"sales/analytics/orders", "warehouse/analytics/days", "ingest/orders", "report", "alerts/slack"}

    run_dg("launch", "--assets", "*")
    report = source.parents[1] / "report.txt"
    assert report.read_text(encoding="utf-8") == "1\n"
    # The table is rejected: readers keep the old one, and what waits for the new one does not run.
    orders.write_text(f"/* elt\nchecks: {{row_count: {{min: 2}}}}\nelt */\n{ORDERS}", encoding="utf-8")
    failed = run_dg("launch", "--assets", "*", status=1)
    assert "sales.analytics.orders in stage audit" in failed
    assert report.read_text(encoding="utf-8") == "1\n"

    details = json.loads(run_elt("show", "--folder", "sales", "analytics.orders", "--json"))["details"]
    assert [each["outcome"] for each in details["analytics.orders"]["history"]] == [
        "not published: the run failed",
        "published",
    ]
    left = run_elt("retry", "--dry-run")
    assert (
        left.splitlines()[-1] == "dagster asset materialize --select sales/analytics/orders,report -m shop.definitions"
    )
    refused = run_elt("rollback", "--folder", "warehouse", "analytics.days", "--yes")
    assert "analytics.days at RUN_ELT.ANALYTICS.DAYS" in refused

    scaffolded.write_text(scaffolded.read_text(encoding="utf-8").replace("folder:", "foldr:"), encoding="utf-8")
    assert "warehouse/defs.yaml:3" in run_dg("check", "yaml", str(scaffolded.parent), status=1)
