"""A late table with a real daemon: Dagster's verdict, and the message to Slack, though no run has failed."""

import re

import pytest

from run_elt_dagster_tests.e2e.test_user_interface import screenshot
from run_elt_dagster_tests.support.browser import CHROMIUM, open_page
from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, SlackStandIn

TABLE = """/* elt
description: Orders of each day (UTC).
owner: team:shop
fresh_within: 1m
elt */
select current_date as day, 7 as orders
"""
STATUS = """query ($key: AssetKeyInput!) {
  assetNodes(assetKeys: [$key]) { freshnessStatusInfo { freshnessStatus } }
}"""
LATE_SECONDS = 240


@pytest.mark.thorough
def test_late_table_is_told_of_though_no_run_has_failed(deployment_dir: DeploymentDir, slack: SlackStandIn) -> None:
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    (folder / "orders_daily.sql").write_text(TABLE, encoding="utf-8")
    env = {
        "RUN_ELT_TABLES_DIR": str(folder.parent),
        "SLACK_TOKEN": TOKEN,
        "SLACK_CHANNEL": CHANNEL,
        "SLACK_BASE_URL": slack.url,
    }
    port = free_port()
    deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port), env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    materialize = ("dagster", "asset", "materialize", "--select", "analytics/orders_daily", "-m", "run_elt_dagster")
    assert deployment_dir.run(*materialize, env=env).returncode == 0

    def status() -> str:
        answer = webserver.query(STATUS, key={"path": ["analytics", "orders_daily"]})
        info = answer["assetNodes"][0]["freshnessStatusInfo"]
        return str(info and info["freshnessStatus"])

    deployment_dir.wait_for("the message", lambda: slack.messages, LATE_SECONDS)
    (message,) = slack.messages
    assert "analytics.orders_daily is late, and readers see old rows" in message["text"]
    assert "no run was asked to build it since, though the schedule" in message["text"]
    deployment_dir.wait_for("the daemon's verdict", lambda: status() == "DEGRADED", LATE_SECONDS)
    if CHROMIUM is not None:
        with open_page() as page:
            page.goto(f"{webserver.url}/assets/analytics/orders_daily")
            page.get_by_text("Orders of each day (UTC).").first.wait_for()
            page.get_by_text(re.compile("overdue|freshness", re.IGNORECASE)).first.wait_for()
            screenshot(page, deployment_dir.directory, "late_table")
    assert deployment_dir.run(*materialize, env=env).returncode == 0
    deployment_dir.wait_for("the recovery", lambda: len(slack.messages) > 1, LATE_SECONDS)
    assert "In time again: analytics.orders_daily" in slack.messages[1]["text"]
    assert slack.messages[1]["thread_ts"] == message["ts"]
