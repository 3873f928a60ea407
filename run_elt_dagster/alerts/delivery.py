"""Delivery: one attempt to post an alert, what became of it, and the ledger of it as tags on the failed run."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import URLError

import dagster as dg

from run_elt_dagster.alerts.message import Message, without_blocks
from run_elt_dagster.redaction import redact
from run_elt_dagster.resources.slack import Slack

if TYPE_CHECKING:
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.client import WebClient

Status = Literal["", "posting", "delivered", "retry", "blocked", "undeliverable"]
Kind = Literal["delivered", "transient", "rate limit", "unauthorized", "refused"]
Clock = Callable[[], float]

RETRY_SECONDS = (60, 120, 240)
# A blocked alert is tried again this often, one for all of them: enough to notice that the channel or the scope is
# mended, and no storm.
PROBE_SECONDS = 600
# After this, an attempt whose process never came back counts as one whose answer was lost.
POSTING_SECONDS = 90
# Several requests to Slack may belong to one attempt; the tag's reason must fit into the UI.
REASON_LIMIT = 300

# https://docs.slack.dev/reference/methods/chat.postMessage#errors
TRANSIENT_ERRORS = {"internal_error", "service_unavailable", "request_timeout", "fatal_error", "team_added_to_org"}
AMBIGUOUS_ERRORS = {"fatal_error"}
FORM_ERRORS = {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "metadata_too_large"}
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

# Both sensors are evaluated in the code server's one process. While one posts, the other must not look at the ledger.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Draft:
    """A message before it is sent: whose thread it belongs into, and what the run is tagged with once it is delivered."""

    message: Message
    thread_ts: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt.

    Attributes:
        kind: The class of the outcome.
        reason: In words, with the remedy where a person must act.
        ambiguous: Whether Slack may have posted the message all the same.
        retry_after_seconds: How long Slack asked to wait.
        ts: Slack's id of the message, once delivered.
        channel: ID of the channel it is in, once delivered.
    """

    kind: Kind
    reason: str = ""
    ambiguous: bool = False
    retry_after_seconds: float = 0
    ts: str = ""
    channel: str = ""


@dataclass(frozen=True)
class Entry:
    """The ledger's entry of a run, kept as its tags.

    Attributes:
        status: How the alert stands; empty if it was never tried.
        attempts: How often it was posted in vain.
        next_at: Not before this moment, in seconds since the epoch; 0 for at once.
        reason: Why it is not delivered.
        ambiguous: Whether an attempt may have posted it.
        ts: Slack's id of the message.
        channel: ID of its channel.
        thread_ts: The message in whose thread it is, itself if it is the first.
        config: A fingerprint of token and channel, to notice that somebody changed them.
    """

    status: Status = ""
    attempts: int = 0
    next_at: float = 0
    reason: str = ""
    ambiguous: bool = False
    ts: str = ""
    channel: str = ""
    thread_ts: str = ""
    config: str = ""

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "Entry":
        """Read the entry of a run."""
        return cls(
            status=tags.get("run_elt/alert", ""),  # type: ignore[arg-type]
            attempts=int(_number(tags.get("run_elt/alert_attempts"))),
            next_at=_number(tags.get("run_elt/alert_next_at")),
            reason=tags.get("run_elt/alert_reason", ""),
            ambiguous=tags.get("run_elt/alert_ambiguous") == "true",
            ts=tags.get("run_elt/alert_ts", ""),
            channel=tags.get("run_elt/alert_channel", ""),
            thread_ts=tags.get("run_elt/alert_thread_ts", ""),
            config=tags.get("run_elt/alert_config", ""),
        )

    def tags(self) -> dict[str, str]:
        """Return the entry as tags; all of them, so that nothing of an earlier entry stays."""
        return {
            "run_elt/alert": self.status,
            "run_elt/alert_attempts": str(self.attempts),
            "run_elt/alert_next_at": str(int(self.next_at)) if self.next_at else "",
            "run_elt/alert_reason": self.reason[:REASON_LIMIT],
            "run_elt/alert_ambiguous": "true" if self.ambiguous else "",
            "run_elt/alert_ts": self.ts,
            "run_elt/alert_channel": self.channel,
            "run_elt/alert_thread_ts": self.thread_ts,
            "run_elt/alert_config": self.config,
        }

    def is_due(self, *, now: float, config: str) -> bool:
        """Tell whether an attempt may be made now, with the token and the channel as they are."""
        if self.status in ("", "retry", "posting"):
            return now >= self.next_at
        if self.status in ("blocked", "undeliverable"):
            return self.config != config or (self.next_at > 0 and now >= self.next_at)
        return False


def config_of(slack: Slack) -> str:
    """Return a fingerprint of token and channel, from which neither can be read."""
    return hashlib.sha256(f"{slack.token}|{slack.channel}|{slack.base_url}".encode()).hexdigest()[:8]


def after(entry: Entry, outcome: Outcome, *, now: float, config: str) -> Entry:
    """Return the entry after an attempt: delivered, due again after 60, 120 and 240 s, or held. Pure."""
    entry = replace(entry, reason=outcome.reason, config=config, ambiguous=entry.ambiguous or outcome.ambiguous)
    if outcome.kind == "delivered":
        return replace(
            entry,
            status="delivered",
            next_at=0,
            reason="",
            ambiguous=False,
            ts=outcome.ts,
            channel=outcome.channel,
            thread_ts=entry.thread_ts or outcome.ts,
        )
    if outcome.kind == "unauthorized":
        return replace(entry, status="blocked", next_at=now + PROBE_SECONDS)
    if outcome.kind == "refused":
        return replace(entry, status="undeliverable", attempts=entry.attempts + 1, next_at=0)
    if entry.attempts >= len(RETRY_SECONDS):
        reason = f"gave up after {len(RETRY_SECONDS)} retries: {outcome.reason}"
        return replace(
            entry, status="undeliverable", attempts=entry.attempts + 1, next_at=now + PROBE_SECONDS, reason=reason
        )
    wait = max(RETRY_SECONDS[entry.attempts], outcome.retry_after_seconds)
    return replace(entry, status="retry", attempts=entry.attempts + 1, next_at=now + wait)


def missing(slack: Slack) -> Entry:
    """Return the entry of an alert that has nowhere to go; it is due as soon as the variables are set."""
    return Entry(status="undeliverable", reason=f"{slack.missing} not set", config=config_of(slack))


def attempt(
    instance: dg.DagsterInstance,
    run_id: str,
    slack: Slack,
    *,
    clock: Clock,
    render: Callable[[], Draft],
) -> tuple[Entry, bool]:
    """Make one attempt to deliver the alert of a run, if none is under way and it is due.

    The ledger says `posting` before Slack is asked and the outcome afterwards, so that an attempt whose process was
    killed is seen. It never sleeps, and never raises for what can be retried.

    Args:
        instance: Where the run is.
        run_id: The failed run.
        slack: Where to.
        clock: The time in seconds since the epoch.
        render: Makes the message; called only if it is sent.

    Returns:
        The entry as it is afterwards, and whether Slack was asked.
    """
    config = config_of(slack)
    with _ONE_AT_A_TIME:
        run = instance.get_run_by_id(run_id)
        entry = Entry.from_tags(run.tags if run else {})
        if run is None or not entry.is_due(now=clock(), config=config):
            return entry, False
        return _attempt(instance, run_id, slack, clock=clock, entry=entry, draft=render()), True


def _attempt(
    instance: dg.DagsterInstance,
    run_id: str,
    slack: Slack,
    *,
    clock: Clock,
    entry: Entry,
    draft: Draft,
) -> Entry:
    config = config_of(slack)
    if entry.status == "undeliverable" and entry.config != config:
        entry = replace(entry, attempts=0)
    # A process that died while posting left this mark; Slack may have taken the message.
    ambiguous = entry.ambiguous or entry.status == "posting"
    entry = replace(entry, ambiguous=ambiguous, thread_ts=draft.thread_ts)
    posting = replace(entry, status="posting", next_at=clock() + POSTING_SECONDS, config=config)
    instance.add_run_tags(run_id, posting.tags())
    outcome = _outcome(slack.client(), slack, entry, draft.message, run_id)
    entry = after(entry, outcome, now=clock(), config=config)
    # One write: killed between two, the next failure of this kind would not find its thread.
    instance.add_run_tags(run_id, {**entry.tags(), **(draft.tags if entry.status == "delivered" else {})})
    return entry


def _outcome(client: "WebClient", slack: Slack, entry: Entry, message: Message, run_id: str) -> Outcome:
    if entry.status == "undeliverable" and entry.attempts > len(RETRY_SECONDS):
        # Its retries are used up; only when Slack answers again is it worth another post.
        answer = call(client.auth_test)
        if answer.kind != "delivered":
            return answer
    if entry.ambiguous and (found := _find(client, slack.channel, run_id, entry.thread_ts)):
        return found
    return post(client, slack.channel, message, run_id=run_id, thread_ts=entry.thread_ts)


def post(client: "WebClient", channel: str, message: Message, *, run_id: str, thread_ts: str = "") -> Outcome:
    """Post a message once; join the channel once where that is all that is missing; drop refused blocks once."""

    def send(content: Message) -> Outcome:
        return call(
            lambda: client.chat_postMessage(
                channel=channel,
                text=content.text,
                blocks=list(content.blocks) or None,
                thread_ts=thread_ts or None,
                unfurl_links=False,
                unfurl_media=False,
                # By this a message is found again whose answer was lost.
                # https://docs.slack.dev/messaging/message-metadata
                metadata={"event_type": "run_elt_alert", "event_payload": {"run_id": run_id}},
            )
        )

    outcome = send(message)
    if (
        _error_of(outcome) == "not_in_channel"
        and call(lambda: client.conversations_join(channel=channel)).kind == "delivered"
    ):
        outcome = send(message)
    if _error_of(outcome) in FORM_ERRORS and message.blocks:
        outcome = send(without_blocks(message))
    return outcome


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
        return Outcome("transient", _words("Slack cannot be reached", error.reason))
    except (TimeoutError, ConnectionError, HTTPException, SlackClientError) as error:
        # The request was sent. Whether Slack took it, nobody knows.
        return Outcome("transient", _words("Slack did not answer", error), ambiguous=True)
    except OSError as error:
        return Outcome("transient", _words("Slack cannot be reached", error))
    return Outcome("delivered", ts=str(answer.get("ts") or ""), channel=str(answer.get("channel") or ""))


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
        return Outcome("refused", f"{name}: Slack refused the message's form")
    return Outcome("unauthorized", f"{name}: {REMEDIES.get(name, OTHER_REMEDY)}")


def _find(client: "WebClient", channel: str, run_id: str, thread_ts: str) -> Outcome | None:
    """Look for the alert of a run in the channel, by its metadata; None if it is not there or cannot be looked for.

    It takes the scope channels:history, which an app need not have; then a lost answer may give a second message.
    https://docs.slack.dev/reference/methods/conversations.history
    """
    found: list[Any] = []

    def look() -> dict[str, Any]:
        if thread_ts:
            answer = client.conversations_replies(channel=channel, ts=thread_ts, include_all_metadata=True, limit=200)
        else:
            answer = client.conversations_history(channel=channel, include_all_metadata=True, limit=200)
        found.extend(answer.get("messages") or ())
        return {}

    if call(look).kind != "delivered":
        return None
    for message in found:
        metadata = message.get("metadata") or {}
        if metadata.get("event_type") == "run_elt_alert" and metadata.get("event_payload", {}).get("run_id") == run_id:
            return Outcome("delivered", ts=str(message.get("ts", "")), channel=channel)
    return None


def _error_of(outcome: Outcome) -> str:
    return outcome.reason.split(":", 1)[0]


def _words(what: str, error: object) -> str:
    return redact(f"{what}: {type(error).__name__ + ': ' if isinstance(error, Exception) else ''}{error}")[
        :REASON_LIMIT
    ]


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0
