"""The buttons of an incident's first message, and what a click on one does.

https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.acknowledging import NotOpenError, acknowledge, snooze
from run_elt_dagster.alerts.blocks import ACKNOWLEDGE, SNOOZE, SNOOZE_HOURS
from run_elt_dagster.alerts.scope import Alerts


@dataclass(frozen=True)
class Click:
    """A click on a button of an incident.

    Attributes:
        action: Which button.
        run_id: The first run of the incident.
        user_id: Slack's id of the person.
        user_name: The name of the person, as Slack has it.
        channel: ID of the channel of the message.
        ts: Slack's id of the message.
    """

    action: str
    run_id: str
    user_id: str
    user_name: str
    channel: str
    ts: str


def clicks_in(payload: Mapping[str, Any]) -> Iterator[Click]:
    """Yield the clicks of a payload that are about an incident; a click on a link is none."""
    if payload.get("type") != "block_actions":
        return
    user, where = payload.get("user") or {}, payload.get("container") or {}
    for action in payload.get("actions") or ():
        if action.get("action_id") in (ACKNOWLEDGE, SNOOZE) and action.get("value"):
            yield Click(
                action["action_id"],
                str(action["value"]),
                str(user.get("id", "")),
                str(user.get("name") or user.get("username") or user.get("id", "")),
                str(where.get("channel_id", "")),
                str(where.get("message_ts", "")),
            )


def answer_to(click: Click, alerts: Alerts, instance: dg.DagsterInstance) -> str:
    """Do what a click asks for, and return what to say to the person. Safe to repeat: a second click says so.

    Args:
        click: The click.
        alerts: Of the code location.
        instance: With the history.
    """
    try:
        if click.action == ACKNOWLEDGE:
            return acknowledge(alerts, instance, click.run_id, by=click.user_name)
        return snooze(alerts, instance, click.run_id, seconds=SNOOZE_HOURS * 3600, by=click.user_name)
    except NotOpenError as error:
        return str(error)
