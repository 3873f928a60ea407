"""How urgent alerts are, with real processes: a page after failures, an acknowledgement from the command line, and a digest."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, SlackStandIn

TABLE = """/* elt
owner: team:shop
alerts: {{{alerts}}}
elt */
select * from raw_data.session_timestamp where sessionid = 'none'
"""
DIGEST_SECONDS = 360


def write(deployment_dir: DeploymentDir, **tables: str) -> None:
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    for name, alerts in tables.items():
        (folder / f"{name}.sql").write_text(TABLE.format(alerts=alerts), encoding="utf-8")


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_failures_page_are_acknowledged_and_wait_for_the_digest(
    deployment_dir: DeploymentDir, slack: SlackStandIn
) -> None:
    write(deployment_dir, orders="severity: notify, page_after: 2 failures", stock="severity: digest")
    env = {
        "DAGSTER_HOME": str(deployment_dir.directory),
        "RUN_ELT_TABLES_DIR": str(deployment_dir.directory / "tables"),
        "RUN_ELT_EMBEDDED_DIR": str(deployment_dir.directory / "embedded"),
        "RUN_ELT_SLACK_OWNERS": '{"team:shop": "S0123"}',
        "RUN_ELT_DIGEST_AT": f"{datetime.now(UTC) + timedelta(minutes=4):%H:%M}",
        "SLACK_TOKEN": TOKEN,
        "SLACK_CHANNEL": CHANNEL,
        "SLACK_BASE_URL": slack.url,
    }

    def fail(table: str) -> None:
        select = ("--select", f"analytics/{table}", "-m", "run_elt_dagster")
        assert deployment_dir.run("dagster", "asset", "materialize", *select, env=env).returncode == 1

    def said(text: str) -> list[dict[str, Any]]:
        return [message for message in list(slack.messages) if text in message["text"]]

    fail("stock")
    fail("orders")
    deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=env)
    (first,) = deployment_dir.wait_for("the alert", lambda: said("analytics.orders was not published"))
    assert "S0123" not in first["text"]
    fail("orders")
    (page,) = deployment_dir.wait_for("the page", lambda: said("2 failures in a row") and said("Still not published"))
    assert page["thread_ts"] == first["ts"]
    assert "<!subteam^S0123>" in page["text"]

    ack = deployment_dir.run("run-elt", "alert", "ack", "analytics.orders", "--by", "Jane", env=env)
    assert ack.stdout.startswith("Acknowledged: analytics.orders."), ack.stderr
    deployment_dir.wait_for("the acknowledgement", lambda: len(said("Acknowledged by Jane")) == 2)
    posts = len(said("analytics.orders"))
    fail("orders")
    deployment_dir.wait_for("the count", lambda: said("Failed the same way 3 times."))
    assert len(said("analytics.orders")) == posts

    (digest,) = deployment_dir.wait_for("the digest", lambda: said("Digest: 1 table was not published"), DIGEST_SECONDS)
    assert "analytics.stock" in digest["text"]
    assert [message for message in said("analytics.stock") if message is not digest] == []
