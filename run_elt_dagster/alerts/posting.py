"""One request to Slack, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import URLError

from run_elt_dagster.alerts.blocks import Message, section, without_blocks
from run_elt_dagster.alerts.ledger import REASON_LIMIT
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.redaction import redact

if TYPE_CHECKING:
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.client import WebClient

Kind = Literal["delivered", "transient", "rate limit", "unauthorized", "refused"]

# https://docs.slack.dev/reference/methods/chat.postMessage#errors
TRANSIENT_ERRORS = {"internal_error", "service_unavailable", "request_timeout", "fatal_error", "team_added_to_org"}
AMBIGUOUS_ERRORS = {"fatal_error"}
FORM_ERRORS = {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "metadata_too_large"}
# What Slack answers where a thread's first message, or its channel, is gone, takes no replies any more, or is another app's.
# https://docs.slack.dev/reference/methods/chat.update#errors
GONE_ERRORS = {
    "message_not_found",
    "cant_update_message",
    "thread_not_found",
    "channel_not_found",
    "is_archived",
    "is_inactive",
    "cannot_reply_to_message",
    "restricted_action_thread_locked",
}
# What Slack answers where this one message cannot be changed any more; others can.
FROZEN_ERRORS = {"edit_window_closed"}
# A channel that a file names wrongly, or that the app is not in.
CHANNEL_ERRORS = {
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "restricted_action",
    "restricted_action_read_only_channel",
}
REMEDIES: Mapping[str, str] = {
    "invalid_auth": "Correct SLACK_TOKEN.",
    "not_authed": "Set SLACK_TOKEN.",
    "token_revoked": "Create a new token and set SLACK_TOKEN.",
    "token_expired": "Create a new token and set SLACK_TOKEN.",
    "account_inactive": "Activate the app's account in Slack, or set SLACK_TOKEN to the token of another app.",
    "missing_scope": "Add the scope chat:write to the Slack app and install it again.",
    "no_permission": "Add the scope chat:write to the Slack app and install it again.",
    "not_allowed_token_type": "Set SLACK_TOKEN to a bot token (xoxb-...).",
    "channel_not_found": "Set SLACK_CHANNEL to the channel's ID, and invite the app if the channel is private.",
    "not_in_channel": "Invite the app to the channel of SLACK_CHANNEL.",
    "is_archived": "Set SLACK_CHANNEL to a channel that is not archived.",
    "team_not_found": "Set SLACK_TOKEN to a token of a workspace that exists.",
}
OTHER_REMEDY = (
    "Look the error up on https://docs.slack.dev/reference/methods/chat.postMessage and correct the app or the channel."
)


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt.

    Attributes:
        kind: The class of the outcome.
        problem: What is wrong, in words; Slack's name of the error where it gave one.
        remedy: What a person must do; empty where another attempt is enough.
        error: Slack's name of the error, empty if it gave none.
        ambiguous: Whether Slack may have posted the message all the same.
        retry_after_seconds: How long Slack asked to wait.
        ts: Slack's id of the message, once delivered.
        channel: ID of the channel it is in, once delivered.
        thread_ts: The first message of its thread, empty if it is in none, None if Slack does not say: by this Slack tells when
            a reply became none.
        down: Whether Slack answers nothing else either.
    """

    kind: Kind
    problem: str = ""
    remedy: str = ""
    error: str = ""
    ambiguous: bool = False
    retry_after_seconds: float = 0
    ts: str = ""
    channel: str = ""
    thread_ts: str | None = None
    down: bool = False

    @property
    def reason(self) -> str:
        """Why it is not delivered, with the remedy."""
        return ": ".join(filter(None, (self.problem, self.remedy)))


def is_up(slack: Slack) -> bool:
    """Ask Slack whether it answers, with the token as it is."""
    return answers(ask(slack.client()))


def ask(client: "WebClient") -> Outcome:
    """Ask Slack for nothing but an answer: https://docs.slack.dev/reference/methods/auth.test."""
    return call(client.auth_test)


def answers(outcome: Outcome) -> bool:
    """Return whether Slack takes requests, even if not this one at once."""
    return outcome.kind in ("delivered", "rate limit")


def is_gone(outcome: Outcome) -> bool:
    """Return whether Slack refused since a message, or its channel, is not there any more."""
    return outcome.kind != "delivered" and outcome.error in GONE_ERRORS


def post(
    client: "WebClient", channel: str, message: Message, *, run_id: str, thread_ts: str = "", is_broadcast: bool = False
) -> Outcome:
    """Post a message once; join the channel once where that is all that is missing; drop refused blocks once.

    Args:
        client: Of Slack.
        channel: ID of the channel.
        message: The message.
        run_id: What it is found again by.
        thread_ts: The first message of its thread, empty for none.
        is_broadcast: Whether a reply is shown in the channel too.
    """

    def send(content: Message) -> Outcome:
        return call(
            lambda: client.chat_postMessage(
                channel=channel,
                text=content.text,
                blocks=list(content.blocks) or None,
                thread_ts=thread_ts or None,
                reply_broadcast=is_broadcast or None,
                unfurl_links=False,
                unfurl_media=False,
                # Finds a message again if Slack's answer to it was lost.
                # https://docs.slack.dev/messaging/message-metadata
                metadata={"event_type": "run_elt_alert", "event_payload": {"run_id": run_id}},
            )
        )

    outcome = send(message)
    if (
        outcome.error == "not_in_channel"
        and call(lambda: client.conversations_join(channel=channel)).kind == "delivered"
    ):
        outcome = send(message)
    if outcome.error in FORM_ERRORS and message.blocks:
        outcome = send(without_blocks(message))
    return outcome


def post_where(
    client: "WebClient", slack: Slack, channel: str, message: Message, *, run_id: str, thread_ts: str = ""
) -> Outcome:
    """Post into the channel of a table; into that of the deployment where that one takes no message: no alert waits for its file.

    Args:
        client: Of Slack.
        slack: With the channel of the deployment.
        channel: That of the table, empty if it has none.
        message: The message.
        run_id: What it is found again by.
        thread_ts: The first message of its thread, empty for none.
    """
    outcome = post(client, channel or slack.channel, message, run_id=run_id, thread_ts=thread_ts)
    if not channel or thread_ts or outcome.error not in CHANNEL_ERRORS:
        return outcome
    note = f"This belongs into the channel {channel}, and Slack refuses it there: {outcome.error}. Correct alerts.channel of the table."
    told = Message(f"{note}\n{message.text}", (section(note), *message.blocks) if message.blocks else ())
    return post(client, slack.channel, told, run_id=run_id)


def update(client: "WebClient", channel: str, ts: str, message: Message) -> Outcome:
    """Replace a message by its current state. Safe to repeat."""
    return call(lambda: client.chat_update(channel=channel, ts=ts, text=message.text, blocks=list(message.blocks)))


def call(request: Callable[[], Any]) -> Outcome:
    """Make one request to Slack and classify what came of it.

    https://docs.slack.dev/apis/web-api/rate-limits
    """
    from slack_sdk.errors import SlackApiError, SlackClientError  # noqa: PLC0415 - only a process that sends needs it

    try:
        answer = request()
    except SlackApiError as error:
        return _answered(error)
    except URLError as error:
        return Outcome("transient", _words("Slack cannot be reached", error.reason), down=True)
    except (TimeoutError, ConnectionError, HTTPException, SlackClientError) as error:
        # The request was sent. Whether Slack took it is unknown.
        return Outcome("transient", _words("Slack did not answer", error), ambiguous=True)
    except OSError as error:
        return Outcome("transient", _words("Slack cannot be reached", error), down=True)
    message = answer.get("message")
    return Outcome(
        "delivered",
        ts=str(answer.get("ts") or ""),
        channel=str(answer.get("channel") or ""),
        thread_ts=None if message is None else str(message.get("thread_ts") or ""),
    )


def _answered(error: "SlackApiError") -> Outcome:
    response: Any = error.response
    name = str(response.get("error") or "")
    if response.status_code == 429 or name in ("ratelimited", "rate_limited", "message_limit_exceeded"):  # noqa: PLR2004
        headers = {key.lower(): value for key, value in response.headers.items()}
        wait = _number(headers.get("retry-after"))
        return Outcome("rate limit", f"Slack asked to wait {wait:.0f} s", retry_after_seconds=wait)
    if response.status_code >= 500:  # noqa: PLR2004
        return Outcome("transient", f"Slack answered HTTP {response.status_code}")
    if name in TRANSIENT_ERRORS or not name or response.status_code == 408 or " " in name:  # noqa: PLR2004
        # An error of more than one word is a page of something in between.
        return Outcome("transient", _words("Slack answered", name or "nothing"), ambiguous=name in AMBIGUOUS_ERRORS)
    if (
        name in FORM_ERRORS
        or name.endswith("_too_long")
        or name in ("no_text", "invalid_arguments", "invalid_metadata_schema")
    ):
        return Outcome("refused", f"{name}: Slack refused the message's form", error=name)
    return Outcome("unauthorized", name, REMEDIES.get(name, OTHER_REMEDY), error=name)


def find_posted(client: "WebClient", channel: str, run_id: str, thread_ts: str) -> Outcome | None:
    """Look for the alert of a run in its thread and in the channel, by its metadata; None if it is not there.

    It takes the scope channels:history. An app need not have it; then a lost answer may give a second message.
    https://docs.slack.dev/reference/methods/conversations.history
    """
    found: list[Any] = []

    def look(method: Callable[..., Any], **where: str) -> dict[str, Any]:
        answer = method(channel=channel, include_all_metadata=True, limit=200, **where)
        found.extend(answer.get("messages") or ())
        return {}

    if thread_ts:
        call(lambda: look(client.conversations_replies, ts=thread_ts))
    call(lambda: look(client.conversations_history))
    for message in found:
        metadata = message.get("metadata") or {}
        if metadata.get("event_type") == "run_elt_alert" and metadata.get("event_payload", {}).get("run_id") == run_id:
            ts, thread = str(message.get("ts", "")), str(message.get("thread_ts") or "")
            return Outcome("delivered", ts=ts, channel=channel, thread_ts="" if thread == ts else thread)
    return None


def _words(what: str, error: object) -> str:
    return redact(f"{what}: {type(error).__name__ + ': ' if isinstance(error, Exception) else ''}{error}")[
        :REASON_LIMIT
    ]


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0
