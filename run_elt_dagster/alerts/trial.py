"""A test alert to Slack and to each receiver: what a person tries before a failure does."""

from collections.abc import Iterator
from dataclasses import dataclass

from run_elt_dagster.alerts.blocks import Style
from run_elt_dagster.alerts.message import trial_message
from run_elt_dagster.alerts.posting import post
from run_elt_dagster.alerts.receivers import Letter, Receiver, receivers_of, send
from run_elt_dagster.alerts.receivers_text import cut, plain_style, plain_text
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.settings import Settings, secret_values

_NOT_REPORTED = "Failed runs would not be reported either."


@dataclass(frozen=True)
class Tried:
    """What became of a test alert.

    Attributes:
        words: A sentence for a person.
        is_delivered: Whether it arrived.
    """

    words: str
    is_delivered: bool


def try_alerts(settings: Settings) -> Iterator[Tried]:
    """Send one test alert to Slack and one to each receiver, and yield what became of each.

    Raises:
        ValueError: Nothing is set that an alert could go to, or only one of Slack's token and channel.
    """
    slack, receivers = Slack.from_settings(settings).resolved(), receivers_of(settings.alerts)
    if slack.missing and not slack.is_left_out(settings.alerts):
        raise ValueError(
            f"a test alert requires SLACK_TOKEN and SLACK_CHANNEL, got no {slack.missing}. Nothing was sent. Set them."
        )
    style = Style.of(settings.alerts, secrets=secret_values())
    if not slack.missing:
        yield _in_slack(slack, style)
    for receiver in receivers:
        yield _at(receiver, style)


def _in_slack(slack: Slack, style: Style) -> Tried:
    outcome = post(slack.client(), slack.channel, trial_message(style=style), run_id="")
    if outcome.kind == "delivered":
        return Tried(f"A test alert is in channel {outcome.channel}.", is_delivered=True)
    return Tried(f"the test alert was not delivered, got {outcome.reason}. {_NOT_REPORTED}", is_delivered=False)


def _at(receiver: Receiver, style: Style) -> Tried:
    title, body = plain_text(trial_message(style=plain_style(style)))

    def write(limit: int) -> Letter:
        return Letter(title, cut(body or title, limit - len(title) - 2), "success")

    # No key of an incident: a test is none.
    outcome = send(receiver, write)
    if outcome.kind == "delivered":
        return Tried(f"The receiver {receiver.name} took a test alert.", is_delivered=True)
    reason = outcome.reason.rstrip(".")
    words = f"the receiver {receiver.name} did not take the test alert, got {reason}. {_NOT_REPORTED}"
    return Tried(words, is_delivered=False)
