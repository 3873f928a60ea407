"""What the page builds again of a failed run, over the webserver's own GraphQL."""

from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port

LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
    ... on LaunchRunSuccess { run { runId } } } }"""
AGAIN = """mutation($run: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $run) {
    ... on LaunchRunSuccess { run { runId } } } }"""
RUN = """query($run: ID!) { runOrError(runId: $run) { ... on Run {
    status eventConnection { events { __typename
        ... on MaterializationEvent { assetKey { path } } } } } } }"""


def built(deployment_dir: DeploymentDir, webserver: Webserver, run_id: str) -> tuple[str, set[str]]:
    """Return how a run ended, and which tables it published."""

    def ended() -> Any:
        run = webserver.query(RUN, run=run_id)["runOrError"]
        return run if run["status"] in ("SUCCESS", "FAILURE") else None

    run = deployment_dir.wait_for(f"the end of run {run_id}", ended)
    events = [event for event in run["eventConnection"]["events"] if event["__typename"] == "MaterializationEvent"]
    return run["status"], {event["assetKey"]["path"][-1] for event in events}


@pytest.mark.thorough
def test_reexecution_from_asset_failure_builds_the_failed_tables_only(deployment_dir: DeploymentDir) -> None:
    folder, port = deployment_dir.directory / "tables" / "analytics", free_port()
    folder.mkdir(parents=True)
    for name, sql in {
        "good": "select 1 as n",
        "bad": "select 1 / 0 as n",
        "child": "select n from analytics.bad",
    }.items():
        (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    env = {"RUN_ELT_TABLES_DIR": str(deployment_dir.directory / "tables")}
    deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port), env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    selector = {
        "repositoryLocationName": "run_elt_dagster",
        "repositoryName": "__repository__",
        "jobName": "RunELT_Alert",
    }
    parent = webserver.query(LAUNCH, run={"selector": selector, "mode": "default"})["launchRun"]["run"]["runId"]
    assert built(deployment_dir, webserver, parent) == ("FAILURE", {"good"})

    (folder / "bad.sql").write_text("select 2 as n", encoding="utf-8")
    reload = """mutation { reloadRepositoryLocation(repositoryLocationName: "run_elt_dagster") { __typename } }"""
    webserver.query(reload)
    for strategy, expected in (("FROM_ASSET_FAILURE", {"bad", "child"}), ("FROM_FAILURE", {"good", "bad", "child"})):
        answer = webserver.query(AGAIN, run={"parentRunId": parent, "strategy": strategy})
        again = answer["launchRunReexecution"]["run"]["runId"]
        assert built(deployment_dir, webserver, again) == ("SUCCESS", expected)
