"""Receivers of alerts with a real daemon and without Slack: by HTTP and by mail, also after everything was killed in between."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.alerts.receivers_ledger import read_ledger
from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.receiver_stand_in import mail_server, web_hook

TITLE = "analytics.orders_daily was not published. Check row_count: got 0 rows, expected at least 1 row"
SECONDS = 240


def write(folder: Path, condition: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f"/* elt\ndescription: Orders of each day.\nowner: team:shop\nelt */\nselect 1 as day where {condition}\n"
    (folder / "orders_daily.sql").write_text(text, encoding="utf-8")


def left_to(instance: dg.DagsterInstance) -> list[str]:
    ledger = read_ledger(instance, "run_elt_dagster")
    return [name for each in ledger.news for name in each.left] if ledger is not None else []


@pytest.mark.thorough
def test_alert_arrives_by_http_and_mail_though_all_is_killed_while_a_receiver_holds_its_answer(
    deployment_dir: DeploymentDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Paths in dagster.yaml are relative to where a command is started.
    monkeypatch.chdir(deployment_dir.directory)
    folder = deployment_dir.directory / "tables" / "analytics"
    write(folder, "1 = 0")
    materialize = ("dagster", "asset", "materialize", "--select", "analytics/orders_daily", "-m", "run_elt_dagster")
    with web_hook() as hook, mail_server() as mail:
        env = {
            "RUN_ELT_TABLES_DIR": str(folder.parent),
            "RUN_ELT_ALERT_RECEIVERS": f"hook={hook.hook} mail={mail.mailbox}",
        }

        def start() -> subprocess.Popen[bytes]:
            port = free_port()
            process = deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port), env=env)
            deployment_dir.wait_for("the webserver", Webserver(f"http://127.0.0.1:{port}").is_up)
            return process

        hook.holds = threading.Event()
        process = start()
        assert deployment_dir.run(*materialize, env=env).returncode == 1
        deployment_dir.wait_for("the hook and the mail", lambda: hook.taken and mail.taken, SECONDS)
        with dg.DagsterInstance.from_config(str(deployment_dir.directory)) as instance:
            deployment_dir.wait_for("the mail in the ledger", lambda: left_to(instance) == ["hook"], SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)
        hook.holds.set()
        assert [each["title"] for each in hook.taken] == [TITLE]
        assert [each["Subject"] for each in mail.taken] == [TITLE]

        start()
        deployment_dir.wait_for("the attempt after the kill", lambda: len(hook.taken) > 1, SECONDS)
        assert hook.texts()[1].startswith(hook.texts()[0])
        assert "Attempt 2: an earlier one failed" in hook.texts()[1]
        write(folder, "1 = 1")
        assert deployment_dir.run(*materialize, env=env).returncode == 0
        deployment_dir.wait_for("the recovery", lambda: len(hook.taken) > 2 and len(mail.taken) > 1, SECONDS)
        assert [each["title"] for each in hook.taken[2:]] == ["Published again: analytics.orders_daily"]
        assert len(mail.taken) == 2
        assert "hook-" not in deployment_dir.logs()
