"""`run-elt alert --test` over the real Slack client."""

import pytest

from run_elt_dagster.cli import main
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
