"""What Slack says of the token and the channel. Nothing is posted."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from run_elt_dagster.alerts.posting import Outcome, call
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.doctor.finding import Finding, NamedCheck, failed, ok, skipped
from run_elt_dagster.settings import Settings

if TYPE_CHECKING:
    from slack_sdk.web.slack_response import SlackResponse


class Check(NamedCheck):
    """The checks of Slack."""

    TOKEN = "slack token", "Slack refuses the token, it lacks `chat:write`, or only one of token and channel is set"
    CHANNEL = (
        "slack channel",
        (
            "there is no such channel, it is archived, or the app is not in it. The check needs `channels:read` (or `groups:read`), and "
            "is skipped without it"
        ),
    )


# Two requests of 10 s each.
LIMIT_SECONDS = 25
TRY_IT = "run-elt alert --test tries it by a message"
_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{5,}")


def check_slack(settings: Settings) -> Iterator[Finding]:
    """Yield whether Slack takes the token, with its scopes, and whether the app is in the channel."""
    slack = Slack.from_settings(settings)
    if not slack.token and not slack.channel:
        where = (
            "to the receivers of RUN_ELT_ALERT_RECEIVERS"
            if settings.alerts.receivers
            else "in the log of a sensor's tick only"
        )
        yield from skipped(tuple(Check), f"{slack.missing} not set: failed runs are reported {where}")
        return
    if slack.missing:
        yield failed(
            Check.TOKEN,
            f"Slack requires SLACK_TOKEN and SLACK_CHANNEL, got no {slack.missing}. No alert is sent.",
            f"Set {slack.missing}.",
        )
        yield from skipped(tuple(Check)[1:], "the check of the token failed")
        return
    yield from _check_token(slack.resolved())


def _check_token(slack: Slack) -> Iterator[Finding]:
    client = slack.client()
    outcome, answer, headers = _asked(client.auth_test)
    if outcome.kind != "delivered":
        yield _refused(Check.TOKEN, outcome, slack)
        yield from skipped(tuple(Check)[1:], "the check of the token failed")
        return
    # https://docs.slack.dev/authentication/installing-with-oauth names the header.
    scopes = {scope for scope in headers.get("x-oauth-scopes", "").replace(" ", "").split(",") if scope}
    if scopes and "chat:write" not in scopes:
        yield failed(
            Check.TOKEN,
            f"posting requires the scope chat:write, got {', '.join(sorted(scopes))}.",
            "Add the scope chat:write to the Slack app and install it again.",
        )
    else:
        known = f"with the scopes {', '.join(sorted(scopes))}" if scopes else "with scopes that Slack does not list"
        yield ok(Check.TOKEN, f"of {answer.get('user')} in the workspace {answer.get('team')}, {known}")
    yield _channel_finding(slack, scopes)


def _channel_finding(slack: Slack, scopes: set[str]) -> Finding:
    """Look the channel up. That takes the scope channels:read (private ones: groups:read), and an app need not have it.

    https://docs.slack.dev/reference/methods/conversations.info
    """
    name, channel = Check.CHANNEL, slack.channel
    if not _CHANNEL_ID.fullmatch(channel):
        return Finding(name, "skip", f"{channel} is no channel's ID, and Slack looks up channels by ID only; {TRY_IT}")
    client = slack.client()
    outcome, answer, _ = _asked(lambda: client.conversations_info(channel=channel))
    if outcome.error == "missing_scope":
        return Finding(name, "skip", f"looking it up takes the scope channels:read or groups:read; {TRY_IT}")
    if outcome.kind != "delivered":
        return _refused(name, outcome, slack)
    found: Mapping[str, Any] = answer.get("channel") or {}
    title = f"{found.get('name') or 'without a name'} ({channel})"
    if found.get("is_archived"):
        return failed(name, f"{title} is archived.", "Set SLACK_CHANNEL to a channel that is not archived.")
    can_join = not found.get("is_private") and not scopes.isdisjoint({"channels:join", "chat:write.public"})
    if found.get("is_member") is False and not can_join:
        return failed(name, f"the app is not in {title}.", "Invite the app to the channel of SLACK_CHANNEL.")
    return ok(name, f"{title}{'' if found.get('is_member') else '; the app may join it'}")


def _asked(request: Callable[[], "SlackResponse"]) -> tuple[Outcome, Mapping[str, Any], Mapping[str, str]]:
    """Make one request; return what came of it, the answer and its headers in lower case."""
    answers: list[SlackResponse] = []

    def ask() -> dict[str, Any]:
        answers.append(request())
        return {}

    outcome = call(ask)
    if not answers:
        return outcome, {}, {}
    headers = {str(key).lower(): str(value) for key, value in answers[0].headers.items()}
    return outcome, cast("Mapping[str, Any]", answers[0].data), headers


def _refused(name: str, outcome: Outcome, slack: Slack) -> Finding:
    if outcome.kind == "unauthorized":
        return failed(name, f"Slack refuses it: {outcome.problem}.", outcome.remedy)
    if outcome.kind == "rate limit":
        return failed(name, f"{outcome.reason}.", "Wait, then try again.")
    remedy = f"Look at the network and a proxy on the way to {slack.base_url}; SLACK_BASE_URL names another address."
    return failed(name, f"{outcome.reason}.", remedy)
