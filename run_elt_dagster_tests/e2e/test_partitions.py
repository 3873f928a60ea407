"""Partitions with real Dagster processes: the command line, the backfill dialog, verdicts by partition, alerts, and waking."""

from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, slack_stand_in

COMMAND = ("dagster", "asset", "materialize", "-m", "run_elt_dagster", "--select")
LOCATION = {"repositoryLocationName": "run_elt_dagster", "repositoryName": "__repository__"}
BACKFILL = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query($b: String!) { partitionBackfillOrError(backfillId: $b) { ... on PartitionBackfill { status } } }"""
VERDICTS = """query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
  assetPartitionStatuses { ... on TimePartitionStatuses { ranges { startKey endKey status } } }
  assetChecksOrError { ... on AssetChecks { checks { name partitionStatuses {
    ... on AssetCheckTimePartitionStatuses { ranges { startKey endKey status } } } } } } } } }"""
MATERIALIZATIONS = """query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
  assetMaterializations { partition runId } } } }"""
SWITCH = """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"""


def declare(deployment_dir: DeploymentDir, **tables: str) -> dict[str, str]:
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")
    return {"RUN_ELT_TABLES_DIR": str(folder.parent)}


def in_parts(by: str, sql: str) -> str:
    return f"/* elt\nowner: team:a\npartitions: {{by: {by}, column: at, start: 2024-01-01}}\nelt */\n{sql}"


DAYS = in_parts(
    "day",
    "select column1::date as at, column2 as n from values ('2024-01-01', 1), ('2024-01-02', 2), ('2024-01-04', 4)",
)
HOURS = in_parts(
    "hour", "select column1::timestamp_ntz as at from values ('2024-01-01 00:00:00'), ('2024-01-01 01:30:00')"
)


# e2e/test_make.py builds a range of every table each time.
@pytest.mark.thorough
def test_command_line_builds_partitions_beside_whole_tables_and_refuses_what_names_none(
    deployment_dir: DeploymentDir,
) -> None:
    env = declare(deployment_dir, days=DAYS, total="select count(*) as n from analytics.days", whole="select 1 as n")
    run = deployment_dir.run(*COMMAND, "*", "--partition-range", "2024-01-01...2024-01-02", env=env)
    assert run.returncode == 0, run.stderr
    assert "analytics.days is published for 2024-01-01, 2024-01-02: 2 rows" in run.stderr
    assert "analytics.total is published: 1 row" in run.stderr
    # Dagster itself refuses the whole selection.
    run = deployment_dir.run(*COMMAND, "*", env=env)
    assert run.returncode == 1
    assert "no '--partition' option was provided" in run.stderr
    # One that Dagster takes: the wrong way round.
    run = deployment_dir.run(*COMMAND, "analytics/days", "--partition-range", "2024-01-02...2024-01-01", env=env)
    assert run.returncode == 1
    assert "requires its earlier partition first, got 2024-01-02...2024-01-01" in run.stderr
    run = deployment_dir.run(*COMMAND, "analytics/days", "--partition", "2024-01-03", env=env)
    assert run.returncode == 1
    assert "check row_count of partition 2024-01-03 found 0 rows, expected at least 1" in run.stderr
    shown = deployment_dir.run("run-elt", "show", "--partitions", "analytics.days", env=env)
    assert shown.stdout.startswith("analytics.days: 2 partitions published"), shown.stderr


def asked(webserver: Webserver, query: str, table: str) -> dict[str, Any]:
    return webserver.query(query, k={"path": ["analytics", table]})["assetNodeOrError"]


def ranges(statuses: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["startKey"], each["endKey"], each["status"]) for each in statuses["ranges"]]


def backfill(webserver: Webserver, table: str, *partitions: str) -> str:
    params = {"assetSelection": [{"path": ["analytics", table]}], "partitionNames": list(partitions)}
    answer = webserver.query(BACKFILL, p=params)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return answer["backfillId"]


@pytest.mark.thorough
def test_backfill_is_a_run_for_each_piece_one_thread_and_verdicts_by_partition_and_wakes_what_reads_others(
    deployment_dir: DeploymentDir,
) -> None:
    with slack_stand_in() as slack:
        env = {
            **declare(deployment_dir, days=DAYS, hours=HOURS, total="select count(*) as n from analytics.hours"),
            "DAGSTER_HOME": str(deployment_dir.directory),
            "SLACK_TOKEN": TOKEN,
            "SLACK_CHANNEL": CHANNEL,
            "SLACK_BASE_URL": slack.url,
        }
        port = free_port()
        # Two processes that open a new history at once can break it.
        assert deployment_dir.run("dagster", "instance", "info", env=env).returncode == 0
        deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=env)
        webserver = Webserver(f"http://127.0.0.1:{port}")
        deployment_dir.wait_for("the webserver", webserver.is_up)
        deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=env)

        failing = backfill(webserver, "days", "2024-01-01", "2024-01-03", "2024-01-05")

        def status_of(name: str) -> str:
            return webserver.query(STATUS, b=name)["partitionBackfillOrError"]["status"]

        deployment_dir.wait_for("the backfill", lambda: status_of(failing) in ("COMPLETED_FAILED", "FAILED"))
        assert status_of(failing) == "COMPLETED_FAILED"
        assert len(webserver.runs()) == 3
        deployment_dir.wait_for("both alerts", lambda: len(slack.messages) == 2)
        first, reply = slack.messages
        assert reply["thread_ts"] == first["ts"]
        assert {day for day in ("2024-01-03", "2024-01-05") if day in first["text"] + reply["text"]} == {
            "2024-01-03",
            "2024-01-05",
        }
        found = asked(webserver, VERDICTS, "days")
        assert ("2024-01-01", "2024-01-01", "MATERIALIZED") in ranges(found["assetPartitionStatuses"])
        checks = {check["name"]: ranges(check["partitionStatuses"]) for check in found["assetChecksOrError"]["checks"]}
        assert checks["row_count"] == [
            ("2024-01-01", "2024-01-01", "SUCCEEDED"),
            ("2024-01-03", "2024-01-03", "FAILED"),
            ("2024-01-05", "2024-01-05", "FAILED"),
        ]

        # eager() would wait for every hour since the first.
        backfill(webserver, "hours", "2024-01-01-00:00", "2024-01-01-01:00")
        deployment_dir.wait_for(
            "the woken table", lambda: asked(webserver, MATERIALIZATIONS, "total")["assetMaterializations"]
        )
