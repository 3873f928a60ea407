"""Buttons in Slack over the real Socket Mode client: a click does what it says, whoever clicks, and however often."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr
from websockets.sync.server import ServerConnection

from run_elt_dagster.alerts import listening as listening_module
from run_elt_dagster.alerts.acknowledging import list_incidents, list_snoozes
from run_elt_dagster.alerts.listening import ListeningError, listen_to_clicks
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster_tests.support.alert_harness import AlertHarness
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.slack_socket import SlackSocket, click_of, slack_socket
from run_elt_dagster_tests.support.slack_stand_in import APP_TOKEN, CHANNEL, TOKEN, Fault, slack_stand_in

ACKNOWLEDGE, SNOOZE = "Acknowledge", "Snooze 4 h"


class Listening:
    """An incident in Slack, and a listener that is connected."""

    def __init__(self, harness: AlertHarness, socket: SlackSocket) -> None:
        self.harness, self.socket = harness, socket
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()
        self.connection: ServerConnection = socket.connected()

    def _listen(self) -> None:
        log = logging.getLogger("listening-in-tests")
        harness = self.harness
        listen_to_clicks(lambda: harness.alerts, harness.instance, harness.slack, log=log, stopped=self.stopped)

    def click(self, text: str, *, user: str = "jane", **changes: Any) -> str:
        """Click a button of the first message, and return what the person is told."""
        message = self.harness.stand_in.first_messages()[0]
        payload = click_of(message, text, user=user)
        payload["actions"][0] |= changes
        before = len(self.harness.stand_in.calls("chat.postEphemeral"))
        self.socket.click(self.connection, payload)
        for _ in range(PATIENCE_SECONDS * 100):
            answers = self.harness.stand_in.calls("chat.postEphemeral")[before:]
            if answers:
                assert (answers[0]["channel"], answers[0]["user"]) == (CHANNEL, f"U{user.upper()}")
                return answers[0]["text"]
            self.stopped.wait(0.01)
        pytest.fail("no answer")


@pytest.fixture
def listening() -> Iterator[Listening]:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as slack, slack_socket(slack) as socket:
        settings = AlertSettings(app_token=SecretStr(APP_TOKEN))
        harness = AlertHarness(instance, slack, settings=settings)
        harness.first_attempt(harness.fail())
        listening = Listening(harness, socket)
        yield listening
        listening.stopped.set()
        listening.thread.join()


def test_clicks_acknowledge_and_snooze_and_are_answered_whoever_clicks_and_however_often(listening: Listening) -> None:
    harness = listening.harness
    assert (
        listening.click(ACKNOWLEDGE)
        == "Acknowledged: analytics.mau. No reply and no page follows until it is published again."
    )
    (incident,) = list_incidents(harness.alerts, harness.instance)
    assert incident.acknowledged is not None
    assert incident.acknowledged.by == "jane"
    assert "is acknowledged already, by jane at " in listening.click(ACKNOWLEDGE)
    assert "is acknowledged already, by jane at " in listening.click(ACKNOWLEDGE, user="joe")
    assert listening.click(SNOOZE, user="joe").startswith("Snoozed until ")
    (snooze,) = list_snoozes(harness.alerts, harness.instance)
    assert (snooze.table, snooze.by) == ("analytics.mau", "joe")
    harness.tick(30)
    assert "Acknowledged by jane" in harness.stand_in.messages[-1]["text"]

    assert "Nothing was changed" in listening.click(ACKNOWLEDGE, value="no-such-run-00000000")
    first = harness.stand_in.first_messages()[0]
    buttons = json.dumps(first["blocks"])
    assert "Snooze 4 h" in buttons
    harness.publish()
    message = dict(first)
    harness.tick(30)
    green = harness.stand_in.first_messages()[0]
    assert "Snooze 4 h" not in json.dumps(green["blocks"]), "there is nothing to take any more"
    harness.stand_in.messages[0] = {**message, "blocks": json.loads(buttons)}
    assert "no incident is open" in listening.click(ACKNOWLEDGE), "of a message that was not updated yet"


@pytest.mark.thorough
def test_lost_connection_is_made_again_and_a_click_on_a_link_is_acknowledged_only(listening: Listening) -> None:
    listening.connection.send(json.dumps({"type": "disconnect", "reason": "refresh_requested"}))
    listening.connection = listening.socket.connected()
    link = click_of(listening.harness.stand_in.first_messages()[0], ACKNOWLEDGE)
    link["actions"][0]["action_id"] = "run_elt_run"
    listening.socket.click(listening.connection, link)
    assert listening.click(ACKNOWLEDGE).startswith("Acknowledged: ")
    assert len(listening.harness.stand_in.calls("chat.postEphemeral")) == 1


@pytest.mark.thorough
def test_token_that_ends_while_it_listens_ends_the_listener_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "RETRY_SECONDS", 0.1)
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as slack, slack_socket(slack) as socket:
        harness = AlertHarness(instance, slack, settings=AlertSettings(app_token=SecretStr(APP_TOKEN)))

        def end_the_token() -> None:
            connection = socket.connected()
            slack.faults.append(Fault(error="token_revoked", method="apps.connections.open"))
            connection.close()

        ending, stopped = threading.Thread(target=end_the_token), threading.Event()
        ending.start()
        with pytest.raises(ListeningError, match="got token_revoked") as error:
            listen_to_clicks(
                lambda: harness.alerts,
                instance,
                harness.slack,
                log=logging.getLogger("listening-in-tests"),
                stopped=stopped,
            )
        ending.join()
    assert "Set RUN_ELT_SLACK_APP_TOKEN" in str(error.value)


def test_message_without_the_token_of_the_app_has_no_buttons_and_is_otherwise_the_same() -> None:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as slack:
        harness = AlertHarness(instance, slack)
        run = harness.fail()
        harness.first_attempt(run)
        (plain,) = slack.messages
        slack.messages.clear()
        harness.instance.add_run_tags(run, {"run_elt/alert": ""})
        harness.settings = AlertSettings(app_token=SecretStr(APP_TOKEN))
        harness.first_attempt(run)
        (with_buttons,) = slack.messages
    *blocks, actions = with_buttons["blocks"]
    assert blocks == plain["blocks"]
    assert [each["text"]["text"] for each in actions["elements"]] == [ACKNOWLEDGE, SNOOZE]
    assert all(each["value"] == run for each in actions["elements"])


@pytest.mark.parametrize(
    ("app_token", "token", "words"),
    [
        ("xapp-wrong", TOKEN, "got invalid_auth. No click is taken. Set RUN_ELT_SLACK_APP_TOKEN"),
        pytest.param(None, TOKEN, "got no RUN_ELT_SLACK_APP_TOKEN. No click is taken.", marks=pytest.mark.thorough),
        pytest.param(APP_TOKEN, None, "got no SLACK_TOKEN. No click is taken.", marks=pytest.mark.thorough),
    ],
)
def test_wrong_or_missing_token_is_said_with_its_remedy(app_token: str | None, token: str | None, words: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as slack:
        settings = AlertSettings(app_token=SecretStr(app_token) if app_token else None)
        harness = AlertHarness(instance, slack, settings=settings, token=token)
        with pytest.raises(ListeningError) as error:
            listen_to_clicks(
                lambda: harness.alerts,
                instance,
                harness.slack,
                log=logging.getLogger("listening-in-tests"),
                stopped=threading.Event(),
            )
    assert words in str(error.value)
    assert "xapp-" not in str(error.value).replace("(xapp-...)", "")


@pytest.mark.thorough
def test_command_listens_until_it_is_ended(tmp_path: Path) -> None:
    (tmp_path / "tables" / "analytics").mkdir(parents=True)
    (tmp_path / "tables" / "analytics" / "mau.sql").write_text("select 1 as n", encoding="utf-8")
    (tmp_path / "dagster.yaml").touch()
    with slack_stand_in() as slack, slack_socket(slack) as socket:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SNOWFLAKE_", "SLACK_"))},
            "DAGSTER_HOME": str(tmp_path),
            "RUN_ELT_TABLES_DIR": str(tmp_path / "tables"),
            "RUN_ELT_SLACK_APP_TOKEN": APP_TOKEN,
            "SLACK_TOKEN": TOKEN,
            "SLACK_CHANNEL": CHANNEL,
            "SLACK_BASE_URL": slack.url,
        }
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            harness = AlertHarness(
                instance, slack, now=time.time(), settings=AlertSettings(app_token=SecretStr(APP_TOKEN))
            )
            harness.first_attempt(harness.fail())
            command = [sys.executable, "-m", "run_elt_dagster.cli", "alert", "listen"]
            with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
                connection = socket.connected()
                socket.click(connection, click_of(slack.first_messages()[0], ACKNOWLEDGE))
                for _ in range(PATIENCE_SECONDS * 100):
                    if slack.calls("chat.postEphemeral"):
                        break
                    threading.Event().wait(0.01)
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=PATIENCE_SECONDS)
            (incident,) = list_incidents(replace(harness.alerts), instance)
    assert process.returncode == 0, said
    assert incident.acknowledged is not None
    assert "listening for clicks" in said
    assert "run_elt_acknowledge of run " in said
    assert "xapp-" not in said
