"""The processes of a deployment: what becomes of its runs and its alerts when they are killed."""

import os
import re
import signal
import socket
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import snowflake.connector

from run_elt_dagster.embedded import embedded_snowflake
from run_elt_dagster.runs.tags import ALIVE
from run_elt_dagster_tests.support.deployment import Deployment, kill
from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, free_port
from run_elt_dagster_tests.support.postgres import PASSWORD, Database, Postgres, postgres_server
from run_elt_dagster_tests.support.slack_stand_in import TOKEN, SlackStandIn

pytestmark = pytest.mark.thorough

# Of July 2024. Between the previous minor version and this one nothing changes in Postgres, so that older ones are undone.
OLD_REVISION = "284a732df317"
OLD_RUN = "11111111-2222-3333-4444-555555555555"
EMPTY = "/* elt\nowner: team:analytics\nelt */\nselect * from raw_data.session_timestamp where false"


def tags_of(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def worker_of(database: Database, run_id: str) -> int | None:
    """Return the process that executes a run, as its events name it, None before it has begun."""
    events = database.column(f"select event from event_logs where run_id = '{run_id}'")
    return next((int(pid[1]) for event in events if (pid := re.search(r"\(pid: (\d+)\)", event))), None)


def database_of_an_older_dagster(postgres: Postgres, deployment_dir: DeploymentDir) -> Database:
    """Return a database with a run in it, with the schema that an older Dagster gave it."""
    database = postgres.create_database(f"older_{free_port()}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**database.variables, "DAGSTER_COMPUTE_LOGS_DIR": str(deployment_dir.directory)}.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(ROOT / "deploy")) as instance:
            instance.add_run(dg.DagsterRun(job_name="RunELT_Alert", run_id=OLD_RUN, status=dg.DagsterRunStatus.SUCCESS))
    database.downgrade(OLD_REVISION)
    return database


def columns(database: Database, table: str) -> set[str]:
    return set(database.column(f"select column_name from information_schema.columns where table_name = '{table}'"))


def test_database_of_an_older_dagster_is_migrated_and_deployed_on(
    postgres: Postgres, deployment_dir: DeploymentDir, slack: SlackStandIn
) -> None:
    database = database_of_an_older_dagster(postgres, deployment_dir)
    assert database.revision() == OLD_REVISION
    assert "backfill_id" not in columns(database, "runs")
    deployment = Deployment(deployment_dir, database, slack)

    deployment.run("dagster", "instance", "migrate")
    assert database.revision() != OLD_REVISION
    assert "backfill_id" in columns(database, "runs")
    assert database.rows("select run_id, status from runs") == [(OLD_RUN, "SUCCESS")]


def test_missed_days_give_one_run_that_publishes_and_alerts_though_every_process_was_killed(
    postgres: Postgres, deployment_dir: DeploymentDir, slack: SlackStandIn
) -> None:
    deployment = Deployment(deployment_dir, postgres.create_database("deployed"), slack)
    database = deployment.database
    code_server = deployment.start_code_server()
    daemon = deployment.start_daemon()
    deployment_dir.wait_for("the first evaluation of the schedule", lambda: is_ready(database))
    kill(daemon)
    kill(code_server)

    # Two days later: a table has been added that has no rows.
    database.date_schedule_back(days=2)
    (deployment.tables / "analytics" / "no_rows.sql").write_text(EMPTY, encoding="utf-8")
    deployment.start_code_server()
    deployment.start_daemon()
    (run_id,) = deployment_dir.wait_for("the run of the schedule", lambda: database.column("select run_id from runs"))
    # Its worker is killed in turn, which Dagster makes up for; the retry then finds the table without rows.
    os.kill(deployment_dir.wait_for("its worker", lambda: worker_of(database, run_id)), signal.SIGKILL)
    webserver = deployment.start_webserver()
    deployment_dir.wait_for("the alert", slack.run_ids)
    deployment_dir.wait_for("the webserver", webserver.is_up)

    retry, first = webserver.runs()
    assert (first["runId"], first["status"], retry["status"]) == (run_id, "FAILURE", "FAILURE")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert tags_of(first)["dagster/run_key"] == midnight.isoformat()
    assert tags_of(first)["dagster/schedule_name"] == "daily"
    assert tags_of(first)["dagster/auto_retry_run_id"] == retry["runId"]
    assert tags_of(retry)["dagster/will_retry"] == "false"

    assert slack.run_ids() == [retry["runId"]]
    assert "analytics.no_rows" in slack.messages[0]["text"]
    for process in deployment_dir.processes:
        kill(process)
    for secret in (PASSWORD, TOKEN):
        assert secret not in deployment_dir.logs() + slack.everything()
    for table, rows in {"mau_summary": 7, "channel_summary": 42, "session_summary": 101_520}.items():
        assert published_rows(deployment.data / "embedded", table) == rows


def test_run_that_was_killed_with_its_code_server_is_launched_once_more_and_its_retry_alerts(
    postgres: Postgres, deployment_dir: DeploymentDir, slack: SlackStandIn
) -> None:
    deployment = Deployment(deployment_dir, postgres.create_database("killed"), slack)
    database = deployment.database
    (deployment.tables / "analytics" / "no_rows.sql").write_text(EMPTY, encoding="utf-8")
    code_server = deployment.start_code_server()
    deployment.start_daemon()
    deployment.run("dagster", "job", "launch", "-w", str(deployment.home / "workspace.yaml"), "-j", "RunELT_Alert")
    signs = f"select run_id from run_tags where key = '{ALIVE}'"
    (run_id,) = deployment_dir.wait_for("its first heartbeat", lambda: database.column(signs))
    kill(code_server)
    assert database.rows("select run_id, status from runs") == [(run_id, "STARTED")]

    deployment.start_code_server()
    deployment_dir.wait_for("the alert of its retry", slack.run_ids, 300)
    first, retry = database.rows("select run_id, status from runs order by id")
    assert first == (run_id, "FAILURE")
    assert retry[1] == "FAILURE"
    assert slack.run_ids() == [retry[0]]
    told = database.column(f"select event from event_logs where run_id = '{run_id}'")
    assert any("The process of this run is gone" in event for event in told)


def test_run_that_postgres_left_in_the_middle_ends_and_alerts_when_it_is_back(
    deployment_dir: DeploymentDir, slack: SlackStandIn
) -> None:
    with postgres_server() as postgres:
        deployment = Deployment(deployment_dir, postgres.create_database("left"), slack)
        database = deployment.database
        # Whether the run goes on when Postgres is back or is launched once more: in the end it fails.
        (deployment.tables / "analytics" / "no_rows.sql").write_text(EMPTY, encoding="utf-8")
        deployment.start_code_server()
        deployment.start_daemon()
        deployment.run("dagster", "job", "launch", "-w", str(deployment.home / "workspace.yaml"), "-j", "RunELT_Alert")
        signs = f"select run_id from run_tags where key = '{ALIVE}'"
        deployment_dir.wait_for("its first heartbeat", lambda: database.column(signs))
        postgres.stop()
        refuse_connections(postgres.port, 3)
        postgres.start()

        deployment_dir.wait_for("the alert", slack.run_ids, 300)
        runs = database.rows("select run_id, status from runs order by id")
        assert {status for _, status in runs} == {"FAILURE"}
        assert slack.run_ids() == [runs[-1][0]]
        assert "analytics.no_rows" in slack.messages[0]["text"]


def refuse_connections(port: int, count: int) -> None:
    """Stand at an address of Postgres that answers nobody, until so many have asked."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(60)
        for _ in range(count):
            server.accept()[0].close()


def published_rows(directory: Path, table: str) -> int:
    """Count the rows that readers see of a table, over Snowflake's own connector."""
    with (
        embedded_snowflake(directory, wait_seconds=20, log=print) as endpoint,
        closing(snowflake.connector.connect(**endpoint.connection_args())) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"select count(*) from analytics.{table}")
        ((count,),) = cursor.fetchall()
    return count


def is_ready(database: Database) -> bool:
    """Tell whether the daemon has looked at the schedule; as long as there is no such table, it has not."""
    has_table = database.column("select to_regclass('instigators')") != [None]
    return has_table and database.schedule_was_evaluated()
