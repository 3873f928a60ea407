"""Escalation: an alert that did not page does, after some failures in a row or some time, unless a person has taken it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from run_elt_dagster.alerts.blocks import date_text, everybody, mentions, names_text, plain_message, say
from run_elt_dagster.alerts.delivery import DOUBTFUL_PROBE_SECONDS, note_on_first
from run_elt_dagster.alerts.digest_ledger import Line, read_digests
from run_elt_dagster.alerts.incidents import (
    began_at,
    bring_up_to_date,
    count_alike,
    is_recovered,
    known_tables,
    names_published_since,
)
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.notes import REASON_LIMIT, Acknowledgement
from run_elt_dagster.alerts.posting import CHANNEL_ERRORS, Outcome, find_posted, is_gone, post
from run_elt_dagster.alerts.scope import Alerts, Known
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.alerts.snoozes import read_snoozes

if TYPE_CHECKING:
    from slack_sdk.web.client import WebClient


def escalate(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, firsts: Sequence[dg.RunRecord], *, known: Known
) -> None:
    """Page for the open incidents whose tables ask for it by now: once each. What Slack does not take, the next tick pages.

    Without `page_after` in a file nothing is asked. An incident that is acknowledged, or whose tables are snoozed, does not page.

    Args:
        alerts: Whose incidents.
        instance: Where they are.
        slack: Where to.
        firsts: As `incidents.open_firsts` returns them.
        known: What the ticks before have read.
    """
    if not alerts.escalations_of(alerts.rules):
        return
    tables = known_tables(alerts, instance, firsts, known)
    known.counts = {run_id: count for run_id, count in known.counts.items() if run_id in tables}
    lines = cache(lambda: tuple(read_digests(instance, alerts.location).lines))
    due = [
        (record, words)
        for record in firsts
        if (words := _reason(alerts, instance, record, firsts=firsts, lines=lines, known=known))
    ]
    snoozes = read_snoozes(alerts, instance) if due else {}
    for record, words in due:
        names = tables[record.dagster_run.run_id]
        # In quiet hours, an incident that is over stays open until its recovery is told.
        if all(name in snoozes for name in names) or is_recovered(alerts, instance, record.dagster_run, names):
            continue
        if not _page(
            alerts,
            instance,
            slack,
            record,
            text=_text(alerts, names, words, began=_row(instance, record, known)[1]),
            words=words,
        ):
            return


def _reason(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    record: dg.RunRecord,
    *,
    firsts: Sequence[dg.RunRecord],
    lines: Callable[[], Sequence[Line]],
    known: Known,
) -> str:
    """Return why an incident pages now; empty if it does not, or has."""
    first, names = record.dagster_run, known.tables.get(record.dagster_run.run_id, ())
    if LedgerEntry.of(first).paged_at or Acknowledgement.of(first) or alerts.severity_of(names) == "page":
        return ""
    for name, rule in alerts.escalations_of(names).items():
        alike = (
            [each for each in firsts if name in known.tables.get(each.dagster_run.run_id, ())] if rule.failures else []
        )
        failures = sum(_row(instance, each, known)[0] for each in alike)
        in_digest = 0
        if rule.failures is not None and failures < rule.failures:
            in_digest = _in_digest(alerts, instance, name, lines(), until=LedgerEntry.of(first).last_failed_at)
            failures += in_digest
        if rule.failures is not None and failures >= rule.failures:
            # One that is over stays open until its recovery is told, and is no failure in this row.
            rest = [each for each in alike if not is_recovered(alerts, instance, each.dagster_run, [name])]
            failures = in_digest + sum(_row(instance, each, known)[0] for each in rest)
        began = _row(instance, record, known)[1] if rule.time is not None else alerts.clock()
        if words := rule.words(failures=failures, seconds=alerts.clock() - began):
            return words
    return ""


def _in_digest(alerts: Alerts, instance: dg.DagsterInstance, name: str, lines: Sequence[Line], *, until: float) -> int:
    """Return how often a table had failed in its row, before a moment, in runs that the digest tells of."""
    alike = [line for line in lines if line.what == "failed" and not line.over_at and name in line.tables]
    earlier = [line for line in alike if line.last_at <= until]
    in_row = [line for line in earlier if not names_published_since(alerts, instance, [name], since=line.last_at)]
    return sum(line.row_untold for line in in_row)


def _row(instance: dg.DagsterInstance, record: dg.RunRecord, known: Known) -> tuple[int, float]:
    """Return how many runs of an incident failed, and when the first one did; asked again after another has."""
    run_id, last_at = record.dagster_run.run_id, LedgerEntry.of(record.dagster_run).last_failed_at
    if known.counts.get(run_id, (0, 0, 0))[0] != last_at:
        known.counts[run_id] = (last_at, count_alike(instance, run_id), began_at(instance, record))
    _, count, began = known.counts[run_id]
    return count, began


def _page(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    record: dg.RunRecord,
    *,
    text: str,
    words: str,
) -> bool:
    """Reply in the thread, shown in the channel too, with a mention; return whether Slack takes messages.

    The ledger is written before Slack is asked: an attempt whose answer is lost, or whose process was killed, is looked for.
    """
    run_id, entry, client = record.dagster_run.run_id, LedgerEntry.of(record.dagster_run), slack.client()
    key, outcome = f"{run_id}/page", None
    if entry.page_tried_at:
        outcome = _posted_before(client, slack, entry, key)
        if outcome is None and alerts.clock() < entry.page_tried_at + DOUBTFUL_PROBE_SECONDS:
            return True
    if outcome is None:
        note_on_first(instance, run_id, page_tried_at=alerts.clock())
        message = plain_message(text)
        outcome = post(client, entry.channel, message, run_id=key, thread_ts=entry.ts, is_broadcast=True)
        if is_gone(outcome) or outcome.error in CHANNEL_ERRORS:
            outcome = post(client, slack.channel, message, run_id=key)
    if outcome.kind in ("delivered", "refused"):
        note_on_first(instance, run_id, paged_at=alerts.clock(), paged_for=words, page_tried_at=0)
        # If Slack does not take it, the next repeat says it.
        bring_up_to_date(alerts, instance, slack, instance.get_run_records(dg.RunsFilter(run_ids=[run_id]), limit=1)[0])
    elif not outcome.ambiguous:
        note_on_first(instance, run_id, page_tried_at=0)
    return outcome.kind in ("delivered", "refused")


def _posted_before(client: "WebClient", slack: Slack, entry: LedgerEntry, key: str) -> Outcome | None:
    """Look for a page whose answer was lost: in the thread's channel, and in that of the deployment."""
    found = (find_posted(client, channel, key, entry.ts) for channel in dict.fromkeys([entry.channel, slack.channel]))
    return next((each for each in found if each is not None), None)


def _text(alerts: Alerts, names: Sequence[str], words: str, *, began: float) -> str:
    style = alerts.style()
    owners = list(dict.fromkeys(owner for name in names for owner in alerts.owners.get(name, ())))
    since = date_text(datetime.fromtimestamp(began, UTC))
    return "\n".join(
        filter(
            None,
            [
                f":rotating_light: {everybody(owners, style)}*Still not published: {names_text(names, style)}*",
                f"It pages: {say(words, style, REASON_LIMIT)}. The first failure: {since}.",
                mentions(owners, style),
            ],
        )
    )
