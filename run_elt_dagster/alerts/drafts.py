"""The message of a failed run: a new one, a reply in the thread of its incident, or a list; and one attempt to post it."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from run_elt_dagster.alerts.blocks import Style, with_note
from run_elt_dagster.alerts.delivery import Draft, Thread, deliver_once, missing
from run_elt_dagster.alerts.failed_runs import ended_at_of, records_of
from run_elt_dagster.alerts.failure import RunFailure
from run_elt_dagster.alerts.incidents import (
    are_parts_published,
    are_published_since,
    count_alike,
    describe_if_readable,
    describe_in_short,
    describe_verified,
    first_alike,
    first_message,
    is_in_parts,
)
from run_elt_dagster.alerts.ledger import LedgerEntry, destination_of
from run_elt_dagster.alerts.message import failure_message, list_message, lost_message, repeat_message, repeats_message
from run_elt_dagster.alerts.notes import Acknowledgement, held_line, paged_line
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack


def attempt_alert(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    record: dg.RunRecord,
    *,
    covered: Sequence[str] = (),
    is_list: bool = False,
    log: logging.Logger,
) -> LedgerEntry:
    """Make one attempt to alert of a run, and return its entry in the ledger afterwards."""
    run_id = record.dagster_run.run_id
    if slack.missing:
        return _keep_for_later(alerts, instance, slack, record, log=log)
    entry, asked = deliver_once(
        instance,
        run_id,
        slack,
        clock=alerts.clock,
        render=lambda: (
            _list_draft(alerts, instance, record, covered=covered, log=log)
            if is_list
            else _draft(alerts, instance, slack, record, covered=covered, log=log)
        ),
    )
    if asked and entry.status == "delivered":
        log.info(
            f"the alert of {' and '.join([f'run {run_id}', *([f'{len(covered)} more'] if covered else [])])} is delivered"
        )
    elif asked:
        log.warning(f"the alert of run {run_id} was not delivered: {entry.reason}")
    return entry


def _keep_for_later(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    record: dg.RunRecord,
    *,
    log: logging.Logger,
) -> LedgerEntry:
    kept, entry = LedgerEntry.of(record.dagster_run), missing(slack)
    # Once Slack is set up, its message says since when it was held back, and pages if it was to.
    entry = replace(
        entry,
        held_since=kept.held_since,
        held_for=kept.held_for,
        paged_at=kept.paged_at,
        paged_for=kept.paged_for,
    )
    draft = _draft(alerts, instance, slack, record, log=log)
    message = (draft.thread.reply if draft.thread else None) or draft.message
    log.error(f"{slack.missing} not set. This alert goes to the log only:\n{message.text}")
    instance.add_run_tags(record.dagster_run.run_id, entry.tags(record.dagster_run.run_id))
    return entry


def _draft(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    record: dg.RunRecord,
    *,
    covered: Sequence[str] = (),
    log: logging.Logger,
) -> Draft:
    """Return the message of a run: a new one, or a reply in the thread of the same failure before."""
    run_id = record.dagster_run.run_id
    try:
        failure = describe_verified(alerts, instance, record, log=log)
        has_paged = bool(LedgerEntry.of(record.dagster_run).paged_at)
        style = alerts.style(() if has_paged else [table.name for table in failure.tables])
        first = first_alike(alerts, instance, failure)
        left = _untold(instance, covered)
        held = _held_line([record, *left], style)
        # What was published while it was held back is told once, in green.
        is_over = bool(held) and _are_over(alerts, instance, failure, [record, *left])
        message = failure_message(failure, style=style, count=1 + len(left), state="recovered" if is_over else "open")
        draft = Draft(
            with_note(message, "\n".join(filter(None, (held, paged_line(LedgerEntry.of(record.dagster_run), style))))),
            covered=tuple(each.dagster_run.run_id for each in left),
            fingerprint=failure.fingerprint,
            state="recovered" if is_over else "open" if failure.tables else "closed",
            # To the microsecond: a table that was published in the second of its failure is not published again since.
            last_failed_at=max(map(ended_at_of, (record, *left))),
            location=alerts.location,
            channel=alerts.channel_of(table.name for table in failure.tables),
        )
        if first is None:
            return draft
        return _in_thread(alerts, instance, slack, draft, of=(failure, first), held=held, log=log)
    except Exception as error:  # noqa: BLE001 - an alert that says little is better than none
        log.error(f"run {run_id} cannot be described, got {type(error).__name__}: {error}")
        return Draft(lost_message(run_id, style=alerts.style()), location=alerts.location)


def _are_over(
    alerts: Alerts, instance: dg.DagsterInstance, failure: RunFailure, records: Sequence[dg.RunRecord]
) -> bool:
    """Return whether all that failed alike in some runs is published again; each may lack partitions of its own."""
    if any(is_in_parts(record.dagster_run) for record in records):
        return are_parts_published(alerts, instance, records)
    return are_published_since(alerts, instance, failure, since=max(map(ended_at_of, records)))


def _held_line(records: Sequence[dg.RunRecord], style: Style) -> str:
    """Return since when the first of some runs was held back, and why; empty if none was."""
    held = [entry for record in records if (entry := LedgerEntry.of(record.dagster_run)).held_since]
    return held_line(min(held, key=lambda entry: entry.held_since), style) if held else ""


def _untold(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> list[dg.RunRecord]:
    """Return the runs that are in no message: the other sensor, or an attempt that was killed, may have delivered some."""
    return [record for record in records_of(instance, run_ids) if LedgerEntry.of(record.dagster_run).is_free]


def _list_draft(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    record: dg.RunRecord,
    *,
    covered: Sequence[str],
    log: logging.Logger,
) -> Draft:
    """Return the message of runs that failed of many causes: a line for each incident, the newest failure first."""
    records = sorted([record, *_untold(instance, covered)], key=ended_at_of, reverse=True)
    described: dict[str, list[RunFailure]] = {}
    unknown: list[str] = []
    for each in records:
        failure = describe_in_short(alerts, instance, each, log=log)
        if failure is None:
            unknown.append(each.dagster_run.run_id)
        else:
            described.setdefault(failure.fingerprint, []).append(failure)
    newest = [alike[0] for alike in described.values()]
    is_of_tables = not unknown and all(failure.tables for failure in newest)
    tables = [table.name for failure in newest for table in failure.tables] if is_of_tables else []
    firsts: dict[str, tuple[str, float]] = {}
    for alike in described.values():
        first = first_alike(alerts, instance, alike[0])
        if first is not None:
            at = (first.dagster_run.run_id, max(failure.failed_at.timestamp() for failure in alike))
            firsts |= {failure.run_id: at for failure in alike}
    return Draft(
        list_message(list(described.values()), unknown, style=alerts.style(tables)),
        covered=tuple(r.dagster_run.run_id for r in records if r is not record),
        listed=True,
        firsts=firsts,
        state="closed",
        last_failed_at=max(map(ended_at_of, records)),
        location=alerts.location,
    )


def _in_thread(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    draft: Draft,
    *,
    of: tuple[RunFailure, dg.RunRecord],
    held: str,
    log: logging.Logger,
) -> Draft:
    """Return the draft as a reply to the first message of its incident, if that is in the channel of today."""
    failure, first = of
    entry, style = LedgerEntry.of(first.dagster_run), alerts.style(table.name for table in failure.tables)
    draft = replace(draft, last_failed_at=max(draft.last_failed_at, entry.last_failed_at))
    first_id = first.dagster_run.run_id
    count = count_alike(instance, first_id) + 1 + len(draft.covered)
    if draft.covered:
        reply = repeats_message(failure, [failure.run_id, *draft.covered], style=style, count=count)
    else:
        reply = repeat_message(failure, style=style, count=count)
    told = describe_if_readable(alerts, instance, first, log=log)
    # If its events cannot be read by now, it stays as it is, and the thread goes on.
    message = None if told is None else first_message(alerts, first.dagster_run, told, count=count)
    where = slack.into(draft.channel)
    if entry.destination != destination_of(where) and entry.channel != where.channel:
        instance.add_run_tags(first_id, replace(entry, state="closed").tags(first_id))
        return draft
    # A person has taken it: the first message counts the repeat, and no phone rings.
    said = None if Acknowledgement.of(first.dagster_run) else with_note(reply, held)
    return replace(draft, thread=Thread(first_id, entry.channel, entry.ts, message, said))
