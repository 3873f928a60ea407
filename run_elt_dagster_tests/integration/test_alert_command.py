"""`run-elt alert` over the real Slack client, and with the history of a process of its own."""

import json
import time
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.alerts.digest_ledger import Digest, DigestLedger, Line, write_digests
from run_elt_dagster.cli import main
from run_elt_dagster_tests.support.alert_harness import AlertHarness
from run_elt_dagster_tests.support.receiver_stand_in import web_hook
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, slack_stand_in


def test_test_alert_is_posted_and_a_wrong_token_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with slack_stand_in() as slack:
        assert main(["alert", "--test"]) == 1
        assert "got no SLACK_TOKEN and SLACK_CHANNEL" in capsys.readouterr().err
        for name, value in {"SLACK_TOKEN": TOKEN, "SLACK_CHANNEL": CHANNEL, "SLACK_BASE_URL": slack.url}.items():
            monkeypatch.setenv(name, value)
        assert main(["alert", "--test"]) == 0
        assert CHANNEL in capsys.readouterr().out
        assert "A test of run_elt_dagster" in slack.messages[0]["text"]
        monkeypatch.setenv("SLACK_TOKEN", "xoxb-wrong")
        assert main(["alert", "--test"]) == 1
        error = capsys.readouterr().err
        assert "invalid_auth: Correct SLACK_TOKEN." in error
        assert "xoxb-wrong" not in error


def test_command_without_anything_to_do_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert"]) == 2
    assert main(["alert", "snooze", "analytics.mau"]) == 2
    assert main(["alert", "snooze", "analytics.mau", "--for", "long"]) == 2
    error = capsys.readouterr().err
    assert "Give --test, or one of the commands: list, ack, snooze, listen." in error
    assert "Give --for TIME, or --end." in error
    assert "requires minutes, hours or days, as in 90m, 26h or 7d, got 'long'." in error


def test_incident_is_listed_acknowledged_and_snoozed_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tables" / "analytics").mkdir(parents=True)
    (tmp_path / "tables" / "analytics" / "mau.sql").write_text("select 1 as n", encoding="utf-8")
    text = "/* elt\nalerts: {severity: digest}\nelt */ select 1 as n"
    (tmp_path / "tables" / "analytics" / "dau.sql").write_text(text, encoding="utf-8")
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").touch()
    with dg.DagsterInstance.get() as instance, slack_stand_in() as slack:
        harness = AlertHarness(instance, slack, now=time.time())
        assert main(["alert", "list"]) == 0
        assert capsys.readouterr().out == "No incident is open.\n"
        assert main(["alert", "ack", "analytics.mau"]) == 1
        assert "no incident is open" in capsys.readouterr().err
        line = Line("failed|1", "failed", ("analytics.dau",), "no such table", 1.8e9, 1.8e9)
        write_digests(instance, "", DigestLedger((Digest("1", "", 1.8e9, (line,)),)))
        run = harness.fail()
        harness.first_attempt(run)
        assert main(["alert", "ack", run[:8], "--by", "Jane"]) == 0
        assert main(["alert", "snooze", "analytics.mau", "--for", "4h", "--by", "Joe", "--reason", "backfill"]) == 0
        capsys.readouterr()
        assert main(["alert", "list", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert main(["alert", "list"]) == 0
        said = capsys.readouterr().out
        harness.tick(30)
    assert [
        (each["incident"], each["tables"], each["failures"], each["acknowledged_by"]) for each in told["incidents"]
    ] == [(run, ["analytics.mau"], 1, "Jane")]
    assert [(each["table"], each["by"], each["reason"]) for each in told["snoozes"]] == [
        ("analytics.mau", "Joe", "backfill")
    ]
    assert [(each["tables"], each["what"], each["count"]) for each in told["digest"]] == [
        (["analytics.dau"], "failed", 1)
    ]
    assert "In the digest: analytics.dau: no such table (since 2027-01-15 08:00 UTC, 1 by now)." in said
    assert "analytics.mau is snoozed by Joe (backfill) until " in said
    assert "Acknowledged by Jane" in slack.messages[-1]["text"]


def test_each_receiver_is_tried_also_without_slack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with web_hook() as good, web_hook() as bad:
        bad.status = 403
        monkeypatch.setenv("RUN_ELT_ALERT_RECEIVERS", f"good={good.hook}")
        assert main(["alert", "--test"]) == 0
        assert capsys.readouterr().out == "The receiver good took a test alert.\n"
        monkeypatch.setenv("RUN_ELT_ALERT_RECEIVERS", f"bad={bad.hook} good={good.hook}")
        assert main(["alert", "--test"]) == 1
        said = capsys.readouterr()
        assert said.out == "The receiver good took a test alert.\n"
        assert "the receiver bad did not take the test alert, got " in said.err
        assert "hook-" not in said.err + said.out
    assert good.taken[0]["title"].startswith("A test of run_elt_dagster")
