"""What others build on a table, with a real daemon: awaited, held back by another table's failure, and woken after it."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, Webserver, free_port

LOCATION = """
import run_elt_dagster as elt

{documented}

@dg.asset(deps=[dg.AssetKey(["analytics", "broken"])], automation_condition=WHEN_PUBLISHED)
def report_of_broken() -> None: ...


@dg.sensor(asset_selection="*", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=3600)
def asks_for_nothing(context):
    return dg.RunRequest(asset_selection=[], run_key="once")


tables = elt.build_parts("tables", snowflake=elt.Snowflake(sample_data=False)).folders[""]
defs = dg.Definitions(
    assets=[*tables.assets, report, report_of_broken],
    jobs=tables.jobs,
    sensors=[
        asks_for_nothing,
        dg.AutomationConditionSensorDefinition(
            "automation", target="*", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=1
        ),
    ],
    resources={{"snowflake": elt.Snowflake(sample_data=False)}},
    executor=dg.in_process_executor,
)
"""
RUNS = """{ runsOrError { ... on Runs { results {
    status assetSelection { path } tags { key value }
    eventConnection { events { ... on ExecutionStepFailureEvent { failureMetadata { description } } } }
} } } }"""
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
    ... on Sensor { sensorState { ticks(limit: 1) { status } } } } }"""
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "others.py") { __typename } }'
LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""


@pytest.fixture
def location(deployment_dir: DeploymentDir) -> Mapping[str, str]:
    """A code location with the asset of docs/tables.md, on a table that works and beside one that does not."""
    (documented,) = re.findall(
        r"```python\n(import dagster as dg.*?)```", (ROOT / "docs" / "tables.md").read_text(), re.DOTALL
    )
    (deployment_dir.directory / "others.py").write_text(LOCATION.format(documented=documented), encoding="utf-8")
    (deployment_dir.directory / "workspace.yaml").write_text("load_from:\n- python_file: others.py\n", encoding="utf-8")
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    (folder / "mau_summary.sql").write_text("select 1 as n", encoding="utf-8")
    (folder / "broken.sql").write_text("select n / 0 as n from analytics.mau_summary", encoding="utf-8")
    return {}


def runs(webserver: Webserver) -> list[tuple[str, set[str], str]]:
    """Return each run's status, the assets that it selected, and why a step failed."""
    found: list[tuple[str, set[str], str]] = []
    for run in webserver.query(RUNS)["runsOrError"]["results"]:
        failures = [e["failureMetadata"] for e in run["eventConnection"]["events"] if e.get("failureMetadata")]
        assets = {asset["path"][-1] for asset in run["assetSelection"] or []}
        found.append((run["status"], assets, failures[0]["description"] if failures else ""))
    return found


def looked(webserver: Webserver, sensor: str) -> bool:
    selector: dict[str, Any] = {
        "repositoryLocationName": "others.py",
        "repositoryName": "__repository__",
        "sensorName": sensor,
    }
    return bool(webserver.query(TICKS, selector=selector)["sensorOrError"]["sensorState"]["ticks"])


@pytest.mark.thorough
def test_asset_of_somebody_else_is_held_back_by_a_failed_op_and_woken_after_it(
    deployment_dir: DeploymentDir, location: Mapping[str, str]
) -> None:
    port = free_port()
    deployment_dir.start(
        "dagster", "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(port), env=location
    )
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    # What is published before the first look does not count.
    deployment_dir.wait_for("the first look", lambda: looked(webserver, "automation"))

    empty = deployment_dir.wait_for("the sensor's run", lambda: [r for r in runs(webserver) if r[0] == "FAILURE"])
    assert "got an empty one. Dagster would build every table" in empty[0][2]
    selector = {"repositoryLocationName": "others.py", "repositoryName": "__repository__", "jobName": "__ASSET_JOB"}
    webserver.query(LAUNCH, run={"selector": selector, "mode": "default"})
    deployment_dir.wait_for("the run without a selection", lambda: [r[0] for r in runs(webserver)] == ["FAILURE"] * 2)
    assert all("got an empty one" in reason for _, _, reason in runs(webserver))

    run = deployment_dir.run("dagster", "asset", "materialize", "--select", "*", "-f", "others.py", env=location)
    assert run.returncode == 1
    assert "report, report_of_broken waited for tables of this run and cannot run" in run.stderr
    deployment_dir.wait_for("the woken run", lambda: ("SUCCESS", {"report"}, "") in runs(webserver))

    (deployment_dir.directory / "tables" / "analytics" / "broken.sql").write_text(
        "select n from analytics.mau_summary", encoding="utf-8"
    )
    run = deployment_dir.run("dagster", "asset", "materialize", "--select", "*", "-f", "others.py", env=location)
    assert run.returncode == 0, run.stderr
    # The page compares with the file as the code location has loaded it.
    webserver.query(RELOAD)
    statuses = webserver.query("{ assetNodes { assetKey { path } staleStatus } }")["assetNodes"]
    assert {node["assetKey"]["path"][-1]: node["staleStatus"] for node in statuses} == dict.fromkeys(
        ("mau_summary", "broken", "report", "report_of_broken"), "FRESH"
    )
