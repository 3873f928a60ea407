"""Failures of one cause: the first of them, the repeats, and the recovery."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.blocks import Message, plain_message
from run_elt_dagster.alerts.causes import State
from run_elt_dagster.alerts.delivery import note_on_first
from run_elt_dagster.alerts.failed_runs import PAGE, ended_at_of, events_of
from run_elt_dagster.alerts.failure import FailedTable, RunFailure
from run_elt_dagster.alerts.ledger import LedgerEntry, open_incidents
from run_elt_dagster.alerts.message import failure_message, recovery_message
from run_elt_dagster.alerts.notes import Acknowledgement, with_notes
from run_elt_dagster.alerts.posting import FROZEN_ERRORS, Outcome, is_gone, post, update
from run_elt_dagster.alerts.production import seen_from_text, seen_to_text
from run_elt_dagster.alerts.run_events import CHECK_EVENT_TYPES, EVENT_TYPES, TABLE_EVENT_TYPES, run_failure, utc
from run_elt_dagster.alerts.scope import Alerts, Known, alerting_statuses
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.runs.history import is_publication, last_materialized_at, last_publications, run_of
from run_elt_dagster.runs.partitions import BACKFILL, asked_partitions, latest_materializations
from run_elt_dagster.runs.tags import ALERT, INCIDENT, SEEN, joined, pieces

ALIKE_READ = 50
INCIDENTS_READ = 1000
INCIDENT_DAYS = 30
RECOVERY_ATTEMPTS = 4
# Whether all tables of an incident are published again is asked in parts: most have one at their beginning that is not.
RECOVERY_PART = 100
# Of an incident of partitions, so many runs are asked for what they lacked, the newest first.
MEMBERS_READ = 50
# The events of so many incidents are read in a tick, 20 to 50 ms each: where the process is new, the next ticks read the others.
INCIDENTS_DESCRIBED = 20
# An incident whose events could not be read is read again then: the storage may have been away for a moment.
UNREADABLE_SECONDS = 300


def fingerprint_of(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger) -> str:
    """Return what makes another failure the same one; a run that cannot be described is like no other."""
    failure = describe_in_short(alerts, instance, record, log=log)
    return record.dagster_run.run_id if failure is None else failure.fingerprint


def describe_in_short(
    alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger
) -> RunFailure | None:
    """Return what failed in a run by its own events alone; None if it cannot be described."""
    return _if_readable(record, lambda: _described(alerts, instance, record), log=log)


def describe_if_readable(
    alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger
) -> RunFailure | None:
    """Return what `describe` does; None if the events of the run cannot be read: one incident must not hold up the others."""
    return _if_readable(record, lambda: describe(alerts, instance, record), log=log)


def _if_readable(record: dg.RunRecord, read: Callable[[], RunFailure], *, log: logging.Logger) -> RunFailure | None:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - an alert that says little is better than none
        log.error(f"run {record.dagster_run.run_id} cannot be described, got {type(error).__name__}: {error}")
        return None


def describe_verified(
    alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger
) -> RunFailure:
    """Describe a run; if its own events do not show what readers see, ask Snowflake, and keep the answer."""
    failure = describe(alerts, instance, record)
    if not failure.is_unclear or joined(record.dagster_run, SEEN):
        return failure
    seen = alerts.look([table.name for table in failure.tables], log, failure.run_id)
    if seen is None:
        return failure
    instance.add_run_tags(failure.run_id, pieces(SEEN, failure.run_id, seen_to_text(seen)))
    return describe(alerts, instance, instance.get_run_records(dg.RunsFilter(run_ids=[failure.run_id]), limit=1)[0])


def describe(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> RunFailure:
    """Return what failed in a run, from its record, its events and what was published before."""
    return _described(
        alerts,
        instance,
        record,
        last_published=partial(_last_published, alerts, instance),
        seen=seen_from_text(joined(record.dagster_run, SEEN)),
    )


def _described(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, **more: Any) -> RunFailure:
    run_id = record.dagster_run.run_id
    return run_failure(
        record.dagster_run,
        events_of(instance, run_id, EVENT_TYPES),
        failed_at=utc(ended_at_of(record)),
        owners=alerts.owners,
        table_events=lambda: events_of(instance, run_id, TABLE_EVENT_TYPES),
        check_events=lambda: events_of(instance, run_id, CHECK_EVENT_TYPES),
        **more,
    )


def first_alike(alerts: Alerts, instance: dg.DagsterInstance, failure: RunFailure) -> dg.RunRecord | None:
    """Return the run whose alert the thread hangs on: the open one of the same failure, if there is one."""
    # Oldest first: a copy is younger than what it copies.
    alike = instance.get_run_records(
        _open_filter(alerts, fingerprint=failure.fingerprint), limit=ALIKE_READ, ascending=True
    )
    found = [each for each in alike if _is_first(each.dagster_run) and each.dagster_run.run_id != failure.run_id]
    if not found or is_recovered(alerts, instance, found[-1].dagster_run, [table.name for table in failure.tables]):
        return None
    return found[-1]


def _open_filter(alerts: Alerts, *, fingerprint: str | None = None) -> dg.RunsFilter:
    return dg.RunsFilter(
        tags=dict(open_incidents(alerts.location, fingerprint=fingerprint)),
        statuses=alerting_statuses(alerts),
        created_after=datetime.fromtimestamp(alerts.clock(), UTC) - timedelta(days=INCIDENT_DAYS),
    )


def _is_first(run: dg.DagsterRun) -> bool:
    entry = LedgerEntry.of(run)
    return entry.status == "delivered" and entry.state == "open"


def count_alike(instance: dg.DagsterInstance, first_id: str) -> int:
    """Return how many runs failed alike, by the runs themselves: a stored number would miss what a kill interrupted.

    The storage counts more than a page of them by their tags alone. A re-execution that never began may have copied those.
    """
    alike = dg.RunsFilter(tags={INCIDENT: first_id, ALERT: "delivered"})
    repeats = instance.get_runs(alike, limit=PAGE)
    if len(repeats) == PAGE:
        return 1 + instance.get_runs_count(alike)
    return 1 + sum((entry := LedgerEntry.of(run)).status == "delivered" and entry.first == first_id for run in repeats)


def began_at(instance: dg.DagsterInstance, first: dg.RunRecord) -> float:
    """Return when an incident began, in seconds since the epoch: of failures told together, the message is kept with the last."""
    first_id = first.dagster_run.run_id
    alike = dg.RunsFilter(tags={INCIDENT: first_id, ALERT: "delivered"})
    repeats = instance.get_run_records(alike, limit=ALIKE_READ, ascending=True)
    own = [each for each in repeats if LedgerEntry.of(each.dagster_run).first == first_id]
    return min(map(ended_at_of, [first, *own]))


def open_firsts(alerts: Alerts, instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Return the first runs of the open incidents, the oldest first."""
    opened = instance.get_run_records(_open_filter(alerts), limit=INCIDENTS_READ, ascending=True)
    return [record for record in opened if _is_first(record.dagster_run)]


def first_message(
    alerts: Alerts, first: dg.DagsterRun, failure: RunFailure, *, count: int, state: State = "open"
) -> Message:
    """Return the first message of an incident as it is by now.

    Args:
        alerts: Of the code location.
        first: The run that the incident begins with.
        failure: What failed in it.
        count: How many runs failed alike.
        state: Whether its tables are published again.
    """
    # What has paged mentions the owners from then on.
    style = alerts.style(() if LedgerEntry.of(first).paged_at else [table.name for table in failure.tables])
    return with_notes(failure_message(failure, style=style, count=count, state=state), first, style=style)


def bring_up_to_date(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, first: dg.RunRecord) -> Outcome | None:
    """Let the first message of an incident say how it stands by now; None if its events cannot be read: it stays as it is then."""
    failure = describe_if_readable(alerts, instance, first, log=dg.get_dagster_logger())
    if failure is None:
        return None
    run, entry = first.dagster_run, LedgerEntry.of(first.dagster_run)
    message = first_message(alerts, run, failure, count=count_alike(instance, run.run_id))
    return update(slack.client(), entry.channel, entry.ts, message)


def tell_acknowledged(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, firsts: Sequence[dg.RunRecord]
) -> None:
    """Say in the thread, and in the first message, who has acknowledged an incident. What Slack does not take, the next tick says.

    Args:
        alerts: Whose incidents.
        instance: Where they are.
        slack: Where to.
        firsts: As `open_firsts` returns them.
    """
    for record in firsts:
        first = record.dagster_run
        taken, entry = Acknowledgement.of(first), LedgerEntry.of(first)
        if taken is None or taken.at <= entry.acknowledged_at:
            continue
        client = slack.client()
        outcome = bring_up_to_date(alerts, instance, slack, record)
        if outcome is None or outcome.kind == "delivered" or outcome.error in FROZEN_ERRORS:
            line = plain_message(
                f":eyes: {taken.line(alerts.style())} No reply and no page follows until it is published again."
            )
            outcome = post(client, entry.channel, line, run_id=first.run_id, thread_ts=entry.ts)
        if outcome.kind in ("transient", "rate limit", "unauthorized") and not (outcome.ambiguous or is_gone(outcome)):
            return
        note_on_first(instance, first.run_id, acknowledged_at=taken.at)


def tables_of(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> tuple[str, ...]:
    """Return the tables that failed in a run and have files, each once; none if its events cannot be read: what is asked of the others is answered."""
    failure = describe_in_short(alerts, instance, record, log=dg.get_dagster_logger())
    # Interned: many incidents have the same tables.
    names = dict.fromkeys(sys.intern(table.name) for table in failure.tables) if failure else {}
    return declared_of(alerts, tuple(names))


def announce_recoveries(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    firsts: Sequence[dg.RunRecord],
    *,
    until: float,
    known: Known | None = None,
) -> int:
    """Say in the thread that the tables are published again, and turn the first message green; after their quiet hours.

    While nothing is published again, it takes as many queries for many open incidents as for few.

    Args:
        alerts: Whose incidents.
        instance: Where they are.
        slack: Where to.
        firsts: As `open_firsts` returns them.
        until: No further one is looked at after this moment, in seconds as `time.monotonic` has them.
        known: Of the ticks before.
    """
    announced = 0
    tables = known_tables(alerts, instance, firsts, known or Known())
    for record in _materialized_since(instance, firsts, tables):
        if time.monotonic() > until:
            break
        names = tables[record.dagster_run.run_id]
        if alerts.quiet_until(names) and not LedgerEntry.of(record.dagster_run).paged_at:
            continue
        if is_recovered(alerts, instance, record.dagster_run, names):
            failure = describe_if_readable(alerts, instance, record, log=dg.get_dagster_logger())
            if failure is None:
                continue
            outcome = _announce_recovery(alerts, instance, slack, record.dagster_run, failure)
            announced += outcome.kind == "delivered"
            if outcome.kind in ("transient", "rate limit"):
                break
    return announced


def known_tables(
    alerts: Alerts, instance: dg.DagsterInstance, firsts: Sequence[dg.RunRecord], known: Known
) -> Mapping[str, Sequence[str]]:
    """Return the tables of the incidents, by the first run; those of the newest that were not known are read."""
    known.tables = {run_id: known.tables[run_id] for r in firsts if (run_id := r.dagster_run.run_id) in known.tables}
    known.unreadable = {run_id: at for run_id, at in known.unreadable.items() if at > alerts.clock()}
    unknown = [r for r in firsts if r.dagster_run.run_id not in {*known.tables, *known.unreadable}]
    for record in unknown[-INCIDENTS_DESCRIBED:]:
        if names := tables_of(alerts, instance, record):
            known.tables[record.dagster_run.run_id] = names
        else:
            known.unreadable[record.dagster_run.run_id] = alerts.clock() + UNREADABLE_SECONDS
    return known.tables


def failures_told(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    name: str,
    firsts: Sequence[dg.RunRecord],
    *,
    until: float,
    known: Known,
) -> int:
    """Return how many runs of open incidents failed in the row of failures of a table: since it was published last.

    Args:
        alerts: Whose incidents.
        instance: Where they are.
        name: The table.
        firsts: As `open_firsts` returns them.
        until: Not incidents that failed after this moment, in seconds since the epoch.
        known: What the looks before have read.
    """
    tables = known_tables(alerts, instance, firsts, known)
    earlier = [each for each in firsts if LedgerEntry.of(each.dagster_run).last_failed_at <= until]
    of_table = [each for each in earlier if name in tables.get(each.dagster_run.run_id, ())]
    in_row = [each for each in of_table if not is_recovered(alerts, instance, each.dagster_run, [name])]
    return sum(count_alike(instance, each.dagster_run.run_id) for each in in_row)


def _materialized_since(
    instance: dg.DagsterInstance, firsts: Sequence[dg.RunRecord], tables: Mapping[str, Sequence[str]]
) -> list[dg.RunRecord]:
    """Return the incidents with a materialization of each of their first tables since they failed last."""
    parts = {run_id: names[:RECOVERY_PART] for run_id, names in tables.items()}
    asked = [name.split(".") for name in dict.fromkeys(name for part in parts.values() for name in part)]
    at = last_materialized_at(instance, asked)

    def is_one(record: dg.RunRecord) -> bool:
        run = record.dagster_run
        part, last_failed_at = parts.get(run.run_id, ()), LedgerEntry.of(run).last_failed_at
        # Another run of it may have failed later, for other tables.
        since = ended_at_of(record) if is_in_parts(run) else last_failed_at
        return bool(part) and all(at.get(tuple(name.split(".")), 0) > since for name in part)

    return [record for record in firsts if is_one(record)]


def _announce_recovery(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    first: dg.DagsterRun,
    failure: RunFailure,
) -> Outcome:
    entry, client = LedgerEntry.of(first), slack.client()
    green = first_message(alerts, first, failure, count=count_alike(instance, first.run_id), state="recovered")
    message = recovery_message(replace(failure, tables=_declared(alerts, failure)), style=alerts.style())
    outcome = update(client, entry.channel, entry.ts, green)
    if outcome.kind == "delivered":
        outcome = post(client, entry.channel, message, run_id=first.run_id, thread_ts=entry.ts)
    if is_gone(outcome):
        outcome = post(client, slack.channel, message, run_id=first.run_id)
    if outcome.kind in ("transient", "rate limit") and not outcome.ambiguous:
        # It is told of after the outage.
        return outcome
    attempts = entry.recovery_attempts + 1
    done = outcome.kind == "delivered" or attempts == RECOVERY_ATTEMPTS
    entry = replace(entry, state="recovered" if done else "open", recovery_attempts=attempts)
    instance.add_run_tags(first.run_id, entry.tags(first.run_id))
    return outcome


def is_recovered(alerts: Alerts, instance: dg.DagsterInstance, first: dg.DagsterRun, names: Sequence[str]) -> bool:
    """Return whether everything that failed in the incident of a run is published again."""
    if is_in_parts(first):
        return _are_parts_published(alerts, instance, first)
    return names_published_since(alerts, instance, names, since=LedgerEntry.of(first).last_failed_at)


def is_in_row(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, name: str) -> bool:
    """Return whether a failed run counts in the row of failures of a table: what it lacked of the table was not published since."""
    if is_in_parts(record.dagster_run):
        return not are_parts_published(alerts, instance, [record])
    return not names_published_since(alerts, instance, [name], since=ended_at_of(record))


def names_published_since(alerts: Alerts, instance: dg.DagsterInstance, names: Sequence[str], *, since: float) -> bool:
    """Return whether runs of this location have published each of some tables since a moment, in seconds since the epoch."""
    counts = counting(alerts, instance)
    keys = [name.split(".") for name in declared_of(alerts, tuple(dict.fromkeys(names)))]
    parts = (keys[begin : begin + RECOVERY_PART] for begin in range(0, len(keys), RECOVERY_PART))
    return bool(keys) and all(_are_published(instance, part, counts, since=since) for part in parts)


def declared_of(alerts: Alerts, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some tables that have files; all if none has one. Nobody publishes one without, and the others do not wait for it."""
    return tuple(name for name in names if name in alerts.owners) or tuple(names)


def _declared(alerts: Alerts, failure: RunFailure) -> tuple[FailedTable, ...]:
    names = declared_of(alerts, [table.name for table in failure.tables])
    return tuple(table for table in failure.tables if table.name in names)


def are_published_since(alerts: Alerts, instance: dg.DagsterInstance, failure: RunFailure, *, since: float) -> bool:
    """Return whether all that failed in a run was published after a moment in seconds since the epoch."""
    counts = counting(alerts, instance)
    return bool(failure.tables) and all(
        _is_published_since(instance, table, counts, since=since) for table in _declared(alerts, failure)
    )


def is_in_parts(run: dg.DagsterRun) -> bool:
    """Return whether a run is one of a backfill, or was asked for partitions: the runs of its incident may lack different ones."""
    return BACKFILL in run.tags or asked_partitions(run.tags) is not None


def _are_parts_published(alerts: Alerts, instance: dg.DagsterInstance, first: dg.DagsterRun) -> bool:
    """Return what `are_parts_published` does of the runs of an incident. Of very many the newest are looked at."""
    repeats = dg.RunsFilter(tags={INCIDENT: first.run_id, ALERT: "delivered"})
    members = [
        *instance.get_run_records(dg.RunsFilter(run_ids=[first.run_id]), limit=1),
        *instance.get_run_records(repeats, limit=MEMBERS_READ),
    ]
    return are_parts_published(alerts, instance, members)


def are_parts_published(alerts: Alerts, instance: dg.DagsterInstance, members: Sequence[dg.RunRecord]) -> bool:
    """Return whether each partition, and each whole table, that failed in some runs was published after its run.

    A partition of another day says nothing of the one that failed. Of a run whose events cannot be read nobody knows what it lacked:
    it is not over.
    """
    counts, found = counting(alerts, instance), False
    for member in members:
        since, failure = ended_at_of(member), describe_in_short(alerts, instance, member, log=dg.get_dagster_logger())
        if failure is None:
            return False
        for table in _declared(alerts, failure):
            found = True
            if not _is_published_since(instance, table, counts, since=since):
                return False
    return found


def _is_published_since(
    instance: dg.DagsterInstance, table: FailedTable, counts: Callable[[dg.EventLogEntry], bool], *, since: float
) -> bool:
    key = table.name.split(".")
    if not table.partitions:
        return _are_published(instance, [key], counts, since=since)
    latest = latest_materializations(instance, dg.AssetKey(key), table.partitions)
    return len(latest) == len(table.partitions) and all(
        record.timestamp > since and counts(record.event_log_entry) for record in latest.values()
    )


def _are_published(
    instance: dg.DagsterInstance,
    keys: Sequence[Sequence[str]],
    counts: Callable[[dg.EventLogEntry], bool],
    *,
    since: float,
) -> bool:
    found = last_publications(instance, keys, counts=counts)
    return len(found) == len(keys) and all(event.timestamp > since for event in found.values())


def _last_published(alerts: Alerts, instance: dg.DagsterInstance, names: Sequence[str]) -> dict[str, TableVersion]:
    found = last_publications(instance, [name.split(".") for name in names], counts=counting(alerts, instance))
    return {name: _version(name, event) for key, event in found.items() for name in (".".join(key),)}


def _version(name: str, event: dg.EventLogEntry) -> TableVersion:
    rows = event.asset_materialization.metadata.get("dagster/row_count") if event.asset_materialization else None
    count = rows.value if rows is not None and isinstance(rows.value, int) else None
    return TableVersion(name, count, created_at=utc(event.timestamp))


def counting(alerts: Alerts, instance: dg.DagsterInstance) -> Callable[[dg.EventLogEntry], bool]:
    """Return what tells whether a materialization says that readers see the table again: a publication by a run of this location.

    A run is read once, however many tables it has published.
    """

    @cache
    def is_from_here(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is None or alerts.here is None or alerts.here.has(run, alerts.others)

    return lambda event: is_publication(event) and (alerts.here is None or is_from_here(run_of(event)))
