"""Two code locations of `build_defs` with tables of the same names on one instance, and re-executions, by real processes."""

from pathlib import Path

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.slack_stand_in import TOKEN, slack_stand_in

NAMES = ("one", "two")
# A bound, no pause: two code servers and their runs share two cores with other tests.
WAIT_SECONDS = 600
EMPTY = "select 1 as n where 1 = 0"
LOCATION = """
import os

import dagster as dg
import run_elt_dagster as elt
from dagster_slack import SlackResource

alerts = elt.AlertSettings(channel="C0{channel}", base_url=os.environ["SLACK_BASE_URL"])
token = dg.EnvVar("SLACK_TOKEN")
slack = {{
    "one": elt.Slack(token=token, channel=alerts.channel, base_url=alerts.base_url),
    "two": SlackResource(token=token),
}}
defs = elt.build_defs(
    "{name}/tables",
    snowflake=elt.Snowflake(embedded_dir="{name}/embedded", sample_data=False),
    slack=slack["{name}"],
    settings=elt.Settings(alerts=alerts),
    executor=dg.in_process_executor,
)
"""
LAUNCH = """
mutation($e: ExecutionParams!) { launchRun(executionParams: $e) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
REEXECUTE = """
mutation($p: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
REPORT = """
mutation($p: ReportRunlessAssetEventsParams!) { reportRunlessAssetEvents(eventParams: $p) { __typename } }
"""
LOADED = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"


def declare(deployment_dir: DeploymentDir, name: str, sql: str) -> None:
    path = deployment_dir.directory / name / "tables" / "analytics" / "orders.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sql, encoding="utf-8")


def add_location(directory: Path, name: str) -> None:
    text = LOCATION.format(name=name, channel=name.upper())
    (directory / f"{name}.py").write_text(text, encoding="utf-8")


def launch(webserver: Webserver, location: str) -> str:
    selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "jobName": "RunELT_Alert"}
    return webserver.query(LAUNCH, e={"selector": selector, "runConfigData": {}})["launchRun"]["run"]["runId"]


def reexecute(webserver: Webserver, parent: str) -> str:
    """Launch it as the page's button Re-execute all does."""
    params = {"parentRunId": parent, "strategy": "ALL_STEPS", "useParentRunTags": True}
    return webserver.query(REEXECUTE, p=params)["launchRunReexecution"]["run"]["runId"]


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_each_location_alerts_for_its_own_runs_and_for_reexecutions_too(deployment_dir: DeploymentDir) -> None:
    for name in NAMES:
        declare(deployment_dir, name, EMPTY)
        add_location(deployment_dir.directory, name)
    entries = "\n".join(f"  - python_file: {{relative_path: {name}.py, location_name: {name}}}" for name in NAMES)
    (deployment_dir.directory / "workspace.yaml").write_text(f"load_from:\n{entries}\n", encoding="utf-8")
    with slack_stand_in() as slack:
        slack.channels = {"C0ONE", "C0TWO"}
        home = {"DAGSTER_HOME": str(deployment_dir.directory), "SLACK_TOKEN": TOKEN, "SLACK_BASE_URL": slack.url}
        port = free_port()
        deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=home)
        webserver = Webserver(f"http://127.0.0.1:{port}")

        def is_loaded() -> bool:
            try:
                found = webserver.query(LOADED)["workspaceOrError"]["locationEntries"]
            except OSError:
                return False
            return [(entry["name"], entry["loadStatus"]) for entry in found] == [(name, "LOADED") for name in NAMES]

        def told() -> dict[str, list[str]]:
            with slack.lock:
                said = [(m["channel"], m["metadata"]["event_payload"]["run_id"]) for m in slack.messages]
            return {name: [run for channel, run in said if channel == f"C0{name.upper()}"] for name in NAMES}

        deployment_dir.wait_for("the webserver", is_loaded)
        deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=home)
        by_name = {name: [launch(webserver, name)] for name in NAMES}
        deployment_dir.wait_for("the alerts of the page", lambda: told() == by_name, WAIT_SECONDS)

        materialize = ("dagster", "asset", "materialize", "--select", "*")
        for name in NAMES:
            assert deployment_dir.run(*materialize, "-f", f"{name}.py", env=home).returncode == 1
            known = {run for runs in by_name.values() for run in runs}
            by_name[name] += [run["runId"] for run in webserver.runs() if run["runId"] not in known]
        deployment_dir.wait_for("the alerts of the command line", lambda: told() == by_name, WAIT_SECONDS)

        for _ in range(2):
            by_name["two"].append(reexecute(webserver, by_name["two"][-1 if len(by_name["two"]) > 2 else 0]))
            deployment_dir.wait_for("the alert of a re-execution", lambda: told() == by_name, WAIT_SECONDS)
        first = next(message for message in slack.messages if message["channel"] == "C0TWO")
        replies = [message for message in slack.messages if message.get("thread_ts") == first["ts"]]
        assert [message["metadata"]["event_payload"]["run_id"] for message in replies] == by_name["two"][1:]
        assert "Failed the same way 4 times" in first["text"]
        assert "launched by a re-execution of run" in replies[-1]["text"]

        # What a person reports is no recovery, and breaks no command.
        webserver.query(REPORT, p={"eventType": "ASSET_MATERIALIZATION", "assetKey": {"path": ["analytics", "orders"]}})
        variables = {**home, "RUN_ELT_TABLES_DIR": str(deployment_dir.directory / "two" / "tables")}
        shown = deployment_dir.run("run-elt", "show", env=variables)
        assert (shown.returncode, "no table" in shown.stdout) == (0, True), shown.stderr

        # The table of the same name in the other location is no recovery either.
        declare(deployment_dir, "one", "select 1 as n")
        assert deployment_dir.run(*materialize, "-f", "one.py", env=home).returncode == 0
        deployment_dir.wait_for(
            "the recovery", lambda: any("Published again" in m["text"] for m in slack.messages), WAIT_SECONDS
        )
        declare(deployment_dir, "two", "select 1 as n")
        published = reexecute(webserver, by_name["two"][-1])
        deployment_dir.wait_for(
            "both recoveries", lambda: sum("Published again" in m["text"] for m in slack.messages) == 2, WAIT_SECONDS
        )
        said = [(m["channel"], m["text"]) for m in slack.messages if "Published again" in m["text"]]
        assert [channel for channel, _ in said] == ["C0ONE", "C0TWO"]

        # One tag to read on the page, of the run's own state.
        tags = {run["runId"]: {t["key"]: t["value"] for t in run["tags"]} for run in webserver.runs()}
        ours = {run: {key: value for key, value in known.items() if "run_elt" in key} for run, known in tags.items()}
        assert ours.pop(published) == {"run_elt/alert": ""}
        failed = [run for runs in by_name.values() for run in runs]
        assert {run: ours[run] for run in failed} == {run: {"run_elt/alert": "delivered"} for run in failed}
