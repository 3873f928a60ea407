"""Listens for clicks by Socket Mode: no address of the deployment needs to be reachable from Slack.

https://docs.slack.dev/apis/events-api/using-socket-mode
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

from run_elt_dagster.alerts.blocks import escape
from run_elt_dagster.alerts.buttons import Click, answer_to, clicks_in
from run_elt_dagster.alerts.posting import Outcome, call
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.redaction import redact
from run_elt_dagster.settings import note_secrets, secret_values

if TYPE_CHECKING:
    from slack_sdk.socket_mode import SocketModeClient
    from slack_sdk.socket_mode.client import BaseSocketModeClient
    from slack_sdk.socket_mode.request import SocketModeRequest

# While Slack cannot be reached at the start; afterwards the client connects again by itself.
RETRY_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class ListeningError(ValueError):
    """Slack does not take the token of the app."""


def listen_to_clicks(
    alerts: Callable[[], Alerts],
    instance: dg.DagsterInstance,
    slack: Slack,
    *,
    log: logging.Logger,
    stopped: threading.Event,
) -> None:
    """Take clicks, and do what they ask for, until it is stopped.

    Args:
        alerts: Returns those of the code location: asked for with each click, as files and the history are then.
        instance: With the history.
        slack: The bot, its token resolved.
        log: For what happens.
        stopped: Ends it.

    Raises:
        ListeningError: A token is missing, or Slack refuses it; with the remedy.
    """
    token = alerts().settings.app_token
    absent = [
        name for name, value in (("RUN_ELT_SLACK_APP_TOKEN", token), (slack.token_name, slack.token)) if not value
    ]
    if token is None or absent:
        raise ListeningError(
            f"listening to buttons requires RUN_ELT_SLACK_APP_TOKEN and {slack.token_name}, got no {' and no '.join(absent)}. No click is "
            "taken. Set them."
        )
    Listener(slack, token.get_secret_value(), lambda click: answer_to(click, alerts(), instance), log=log).run(stopped)


class Listener:
    """Takes clicks, and answers each person.

    Args:
        slack: The bot, which answers.
        app_token: The token of the app (xapp-...), which listens.
        answer: Does what a click asks for, and returns what to say.
        log: For what happens.
    """

    def __init__(self, slack: Slack, app_token: str, answer: Callable[[Click], str], *, log: logging.Logger) -> None:
        note_secrets(app_token)
        self._slack, self._token, self._answer, self._log = slack, app_token, answer, log

    def run(self, stopped: threading.Event) -> None:
        """Listen until it is stopped.

        Raises:
            ListeningError: Slack refuses the token of the app, with the remedy.
        """
        from slack_sdk.socket_mode import SocketModeClient  # noqa: PLC0415 - only this process needs it

        client = SocketModeClient(self._token, web_client=self._slack.client(), logger=_quiet_logger())
        client.socket_mode_request_listeners.append(self._take)
        was_connected, lost_at = False, None
        try:
            while not stopped.is_set():
                if not client.is_connected():
                    if lost_at is None:
                        self._connect(client, stopped)
                    elif time.monotonic() > lost_at + RETRY_SECONDS:
                        # After the first connection the client connects again by itself, and says nothing of a token that has ended.
                        lost_at = time.monotonic()
                        _refuse(call(lambda: _asked(client)))
                if client.is_connected() != was_connected:
                    was_connected, lost_at = client.is_connected(), time.monotonic()
                    self._log.info("listening for clicks" if was_connected else "the connection to Slack is lost")
                stopped.wait(_LOOK_SECONDS)
        finally:
            _close(client)

    def _connect(self, client: "SocketModeClient", stopped: threading.Event) -> None:
        outcome = call(lambda: _connected(client))
        _refuse(outcome)
        # The client raises nothing where the socket itself cannot be opened (slack_sdk 3.47): it only logs.
        if outcome.kind != "delivered" or not client.is_connected():
            self._log.warning(f"Slack cannot be reached, got {outcome.reason or 'no connection'}. It is tried again.")
            stopped.wait(RETRY_SECONDS)

    def _take(self, client: "BaseSocketModeClient", request: "SocketModeRequest") -> None:
        from slack_sdk.socket_mode.response import SocketModeResponse  # noqa: PLC0415

        # At once: Slack shows a warning to the person after 3 s, and sends the click again.
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        if request.type == "interactive":
            for click in clicks_in(request.payload):
                self._serve(click)

    def _serve(self, click: Click) -> None:
        try:
            words = self._answer(click)
        except Exception as error:  # noqa: BLE001 - the next click must be taken, whatever Dagster's storage says
            reason = redact(f"{type(error).__name__}: {error}", secrets=secret_values())
            self._log.error(f"a click on {click.action} of run {click.run_id} failed, got {reason}")
            words = "This could not be noted: Dagster's storage does not answer. Nothing was changed. Try it again."
        self._log.info(f"{click.action} of run {click.run_id} by {click.user_name}: {words}")
        web, where = self._slack.client(), {"channel": click.channel, "user": click.user_id}
        # https://docs.slack.dev/reference/methods/chat.postEphemeral: the person alone sees it.
        outcome = call(lambda: _posted(web, where, words))
        if outcome.kind != "delivered":
            self._log.warning(f"the person was not answered, got {outcome.reason}")


def _close(client: "SocketModeClient") -> None:
    """Close it. A thread of slack_sdk 3.47 may close the same socket at that moment, and the first of them then raises AttributeError."""
    try:
        client.close()
    except AttributeError:
        client.close()


def _refuse(outcome: Outcome) -> None:
    """Raise ListeningError, with the remedy, if Slack refuses the token of the app."""
    if outcome.kind == "unauthorized":
        raise ListeningError(
            f"listening requires a token of the app that Slack takes, got {outcome.problem}. No click is taken. Set "
            "RUN_ELT_SLACK_APP_TOKEN to a token (xapp-...) with the scope connections:write, and switch Socket Mode on."
        )


def _asked(client: "SocketModeClient") -> dict[str, Any]:
    client.issue_new_wss_url()
    return {}


def _connected(client: "SocketModeClient") -> dict[str, Any]:
    client.connect()
    return {}


def _posted(web: Any, where: dict[str, str], words: str) -> dict[str, Any]:
    web.chat_postEphemeral(**where, text=escape(words))
    return {}


def _quiet_logger() -> logging.Logger:
    """Return a logger for the client: it logs each of its steps, and the address of its connection is a secret."""
    logger = logging.getLogger("run_elt_dagster.socket_mode")
    logger.setLevel(logging.CRITICAL)
    return logger
