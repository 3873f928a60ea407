"""Backfills that failed without a failed run: no run failure sensor is called for them, so they are looked for.

Such a backfill lacks partitions that it was asked for, though each of its runs ended well or none was launched.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.blocks import Message, Style, mentions, names_text, place, plain_message, say
from run_elt_dagster.alerts.failed_runs import KEPT, is_ours
from run_elt_dagster.alerts.posting import find_posted, post_where
from run_elt_dagster.alerts.run_events import utc
from run_elt_dagster.alerts.scope import BACKFILLS_SENSOR, Alerts, alerting_statuses
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.names import short_id
from run_elt_dagster.runs.partitions import BACKFILL

# Of Dagster's list, the newest come first.
BACKFILLS_READ, RUNS_READ, TOLD_KEPT = 100, 500, 500
# Dagster 1.13.27 has no public name for the statuses. These are their values in the instance's answers.
_FAILED = {"COMPLETED_FAILED", "FAILED"}
_CAUSE_LIMIT = 500


@dataclass(frozen=True)
class FailedBackfill:
    """A backfill that failed, and no run of ours did.

    Attributes:
        id: Dagster's id.
        tables: Our tables that it was to build.
        runs: How many runs it launched.
        cause: Dagster's error, empty if it has none.
        failed_at: When it ended, aware UTC.
    """

    id: str
    tables: tuple[str, ...]
    runs: int
    cause: str
    failed_at: datetime


def tell_failed_backfills(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, cursor: str | None, *, log: logging.Logger
) -> str:
    """Post one message for each failed backfill of the last 48 h without a failed run, and return the next cursor.

    What Slack does not take is tried again at the next tick.

    Args:
        alerts: Whose tables.
        instance: Where the backfills are.
        slack: Where to.
        cursor: What the last look has returned.
        log: Of the tick.
    """
    states: dict[str, str] = json.loads(cursor or "{}")
    for backfill in failed_backfills(alerts, instance, states):
        states[backfill.id] = _told(alerts, slack, backfill, states.get(backfill.id, ""), log=log)
    return json.dumps(dict(list(states.items())[-TOLD_KEPT:]))


def failed_backfills(
    alerts: Alerts, instance: dg.DagsterInstance, states: Mapping[str, str]
) -> Iterator[FailedBackfill]:
    """Yield the failed backfills of our tables that are to be told of, the oldest first.

    Args:
        alerts: Whose tables.
        instance: Where the backfills are.
        states: Those that were looked at before; `told` are left out.
    """
    oldest = alerts.clock() - KEPT.total_seconds()
    listed: Sequence[Any] = instance.get_backfills(limit=BACKFILLS_READ)
    for each in reversed(listed):
        ended = each.backfill_end_timestamp or each.backfill_timestamp
        if each.status.value not in _FAILED or ended < oldest or states.get(each.backfill_id) == "told":
            continue
        tables = _tables_of(alerts, each)
        if alerts.quiet_until(tables) and not pages_by_now(alerts, tables, ended):
            continue
        runs = instance.get_runs(dg.RunsFilter(tags={BACKFILL: each.backfill_id}), limit=RUNS_READ)
        if tables and not _alerts_by_itself(alerts, instance, runs):
            cause = str(each.error.message).strip() if each.error is not None else ""
            yield FailedBackfill(each.backfill_id, tables, len(runs), cause, utc(ended))


def pages_by_now(alerts: Alerts, tables: Sequence[str], failed_at: float) -> bool:
    """Return whether a failed backfill that nobody was told of pages: its tables ask for that after a time, and it is over.

    Args:
        alerts: Whose tables.
        tables: Those of the backfill.
        failed_at: When it failed, in seconds since the epoch.
    """
    times = [rule.time for rule in alerts.escalations_of(tables).values() if rule.time is not None]
    return bool(times) and alerts.clock() - failed_at >= min(times).total_seconds()


def waiting_backfills(alerts: Alerts, instance: dg.DagsterInstance) -> list[FailedBackfill]:
    """Return the failed backfills of the last 48 h without a failed run and without a delivered alert, the oldest first."""
    failed = list(failed_backfills(alerts, instance, {}))
    # Where no backfill failed, a look costs one query.
    told = _told_by_now(instance) if failed else set[str]()
    return [backfill for backfill in failed if backfill.id not in told]


def _told_by_now(instance: dg.DagsterInstance) -> set[str]:
    """Return the backfills that were told of, by what the sensors of all code locations keep."""
    kept: Sequence[Any] = instance.all_instigator_state()
    cursors = [
        getattr(state.instigator_data, "cursor", None) for state in kept if state.instigator_name == BACKFILLS_SENSOR
    ]
    return {each for cursor in cursors for each, state in json.loads(cursor or "{}").items() if state == "told"}


def _tables_of(alerts: Alerts, backfill: Any) -> tuple[str, ...]:
    names = (".".join(key.path) for key in backfill.asset_selection or ())
    return tuple(name for name in names if name in alerts.owners)


def _alerts_by_itself(alerts: Alerts, instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> bool:
    """Return whether a run of the backfill alerts, or the backfill is another code location's."""
    if runs and alerts.here is not None and not any(alerts.here.has(run, alerts.others) for run in runs):
        return True
    statuses = alerting_statuses(alerts)
    return any(run.status in statuses and is_ours(alerts, instance, run) for run in runs)


def _told(alerts: Alerts, slack: Slack, backfill: FailedBackfill, state: str, *, log: logging.Logger) -> str:
    """Make one attempt, and return how the alert stands: told, logged, or doubtful where an answer was lost."""
    has_waited = pages_by_now(alerts, backfill.tables, backfill.failed_at.timestamp())
    style = alerts.style(() if has_waited else backfill.tables)
    message = backfill_message(backfill, alerts=alerts, style=style)
    if slack.missing:
        if state != "logged":
            log.error(f"{slack.missing} not set. This alert goes to the log only:\n{message.text}")
        return "logged"
    client = slack.client()
    channel = alerts.channel_of(backfill.tables)
    posted = find_posted(client, channel or slack.channel, backfill.id, "") if state == "doubtful" else None
    outcome = posted or post_where(client, slack, channel, message, run_id=backfill.id)
    if outcome.kind == "delivered":
        log.info(f"the alert of backfill {backfill.id} is delivered")
        return "told"
    log.error(f"the alert of backfill {backfill.id} was not delivered: {slack.named(outcome.reason)}")
    return "doubtful" if outcome.ambiguous or state == "doubtful" else "tried"


def backfill_message(backfill: FailedBackfill, *, alerts: Alerts, style: Style) -> Message:
    """Return the alert about a failed backfill without a failed run."""
    owners = [owner for name in backfill.tables for owner in alerts.owners[name]]
    runs = f"all {backfill.runs:,} of its runs ended well" if backfill.runs else "it launched no run"
    short = short_id(backfill.id)
    link = f"<{style.webserver_url}/runs/b/{backfill.id}|{short}>" if style.webserver_url else f"`{short}`"
    lines = [
        f":red_circle: *Backfill {link} failed, and {runs}*",
        f"*Tables:* {names_text(list(backfill.tables), style)}",
        f"*Cause:* {say(backfill.cause, style, _CAUSE_LIMIT)}" if backfill.cause else "",
        "Some partitions that it was asked for were not built. Readers see of them what they saw before.",
        "*Next:* Open the backfill, and materialize the partitions that are missing.",
        mentions(owners, style),
        place(style),
    ]
    return plain_message("\n".join(filter(None, lines)))
