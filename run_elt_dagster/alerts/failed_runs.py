"""Which failed runs are ours and have no delivered alert yet."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import dagster as dg

from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.run_events import EVENT_TYPES, is_interrupted_before_a_step
from run_elt_dagster.alerts.scope import Alerts, Known, Sweep, alerting_statuses
from run_elt_dagster.runs.tags import ALERT, copies, own

KEPT = timedelta(hours=48)
# The failure sensor comes first; a failure that it has not taken by then was missed by it.
GRACE_SECONDS = 15
# Dagster's automatic retry of a run is launched within seconds; one that never comes must not hide the failure.
RETRY_WAIT_SECONDS = 900
# Of a storage's answer; there is another page where it is full.
PAGE = 500
# A tick must end, however many runs failed in 48 h, and 500 of them take up to 0.2 s to read. So it reads what waits by its tags,
# what failed within the hour (longer than a retry by Dagster is waited for, and than clocks differ), and of the rest some pages:
# the next tick goes on there.
RECENT = timedelta(hours=1)
MOST_WAITING = 5000
MOST_RECENT = 5000
MOST_SWEPT = 2000
WAITING_READ = 200
# Of one look with the next: clocks of several machines differ.
OVERLAP_SECONDS = 300
_PLANNED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}
_ENDED_WELL = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)
_WAITING = ("posting", "held", "retry", "blocked", "undeliverable")
# What needs no attempt any more.
_TOLD = ("delivered", "queued", "digest")
_STATUSES = (*_WAITING, *_TOLD)


def clear_copied_tags(alerts: Alerts, instance: dg.DagsterInstance, known: Known) -> None:
    """Clear the visible tag of runs that ended well with a copy of it, as one that was cancelled before it began.

    The first look asks for the tag, and the storage then goes through the whole ledger. Later ones ask for what has changed since.
    """
    now = alerts.clock()
    for run in _ended_well(alerts, instance, known.cleared_until):
        if run.tags.get(ALERT) in _STATUSES and not LedgerEntry.of(run).status:
            instance.add_run_tags(run.run_id, copies(run))
    known.cleared_until = now


def _ended_well(alerts: Alerts, instance: dg.DagsterInstance, since: float | None) -> Sequence[dg.DagsterRun]:
    statuses = [status for status in _ENDED_WELL if status not in alerting_statuses(alerts)]
    if since is not None:
        changed_after = datetime.fromtimestamp(since - OVERLAP_SECONDS, UTC)
        changed = instance.get_runs(dg.RunsFilter(statuses=statuses, updated_after=changed_after), limit=PAGE)
        if len(changed) < PAGE:
            return changed
    created_after = datetime.fromtimestamp(alerts.clock(), UTC) - KEPT
    copied = dg.RunsFilter(tags={ALERT: list(_STATUSES)}, statuses=statuses, created_after=created_after)
    return instance.get_runs(copied, limit=WAITING_READ)


def _pages(instance: dg.DagsterInstance, runs: dg.RunsFilter, *, cursor: str | None = None) -> Iterator[dg.RunRecord]:
    """Yield all runs of a filter, the newest first, or those that come after the run of the cursor."""
    while True:
        records = instance.get_run_records(runs, limit=PAGE, cursor=cursor)
        yield from records
        if len(records) < PAGE:
            return
        cursor = records[-1].dagster_run.run_id


def read_again(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Return the runs as they are now."""
    run_ids = [record.dagster_run.run_id for record in records]
    return [r for start in range(0, len(run_ids), PAGE) for r in records_of(instance, run_ids[start : start + PAGE])]


def records_of(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> Sequence[dg.RunRecord]:
    """Return the records of some runs; nothing is asked for none."""
    return instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids))) if run_ids else ()


def undelivered(alerts: Alerts, instance: dg.DagsterInstance, sweep: Sweep | None = None) -> list[dg.RunRecord]:
    """Return our failed runs of the last 48 h without a delivered alert, the newest first.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        sweep: Goes on where it ended, for a look that is bounded; None to look at all runs of the 48 h.
    """
    # Of any job: one over checks may have any name.
    runs = dg.RunsFilter(statuses=alerting_statuses(alerts), updated_after=_oldest(alerts))
    read = _pages(instance, runs) if sweep is None else _some_of(alerts, instance, runs, sweep)
    return [record for record in read if _is_undelivered(alerts, instance, record)]


def _some_of(alerts: Alerts, instance: dg.DagsterInstance, runs: dg.RunsFilter, sweep: Sweep) -> Sequence[dg.RunRecord]:
    """Return what waits, what failed of late, and the next of the rest: each run is among them in its turn."""
    waiting = dg.RunsFilter(statuses=runs.statuses, updated_after=runs.updated_after, tags={ALERT: list(_WAITING)})
    read = [
        *islice(_pages(instance, waiting), MOST_WAITING),
        *_recent(alerts, instance),
        *_swept(instance, runs, sweep),
    ]
    by_id = {record.dagster_run.run_id: record for record in read}
    return sorted(by_id.values(), key=lambda record: record.storage_id, reverse=True)


def untaken(
    alerts: Alerts, instance: dg.DagsterInstance, sweep: Sweep, *, tag: str, since: float
) -> list[dg.RunRecord]:
    """Return our failed runs of the last 48 h without a tag of their own, the oldest first.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        sweep: Goes on where it ended: what failed within the hour is always looked at, of the rest some.
        tag: The tag.
        since: Not those that ended before this moment, in seconds since the epoch.
    """
    runs = dg.RunsFilter(statuses=alerting_statuses(alerts), updated_after=_oldest(alerts))
    now, oldest = alerts.clock(), max(since, _oldest(alerts).timestamp())
    by_id = {r.dagster_run.run_id: r for r in (*_recent(alerts, instance), *_swept(instance, runs, sweep))}
    found = [r for r in by_id.values() if ended_at_of(r) >= oldest and own(r.dagster_run, tag) is None]
    ours = [r for r in found if not is_retried(r, now=now) and is_ours(alerts, instance, r.dagster_run)]
    return sorted(ours, key=ended_at_of)


def _recent(alerts: Alerts, instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    since = datetime.fromtimestamp(alerts.clock(), UTC) - RECENT
    recent = dg.RunsFilter(statuses=alerting_statuses(alerts), updated_after=since)
    return islice(_pages(instance, recent), MOST_RECENT)


def _swept(instance: dg.DagsterInstance, runs: dg.RunsFilter, sweep: Sweep) -> Sequence[dg.RunRecord]:
    """Return the next runs of the sweep, and let it go on behind them; at its end, with the newest."""
    records = list(islice(_pages(instance, runs, cursor=sweep.cursor), MOST_SWEPT))
    sweep.cursor = records[-1].dagster_run.run_id if len(records) == MOST_SWEPT else None
    return records


def _oldest(alerts: Alerts) -> datetime:
    return datetime.fromtimestamp(alerts.clock(), UTC) - KEPT


def _is_undelivered(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    now, status, ended_at = alerts.clock(), LedgerEntry.of(record.dagster_run).status, ended_at_of(record)
    if status in _TOLD or ended_at < _oldest(alerts).timestamp():
        return False
    if not status and now < ended_at + GRACE_SECONDS:
        return False
    return not is_retried(record, now=now) and is_ours(alerts, instance, record.dagster_run)


def is_ours(alerts: Alerts, instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a run was to build or check our tables: other projects may use the same names of jobs and code locations.

    The command line's runs know no code location, and every location has a job for assets by the same name.
    """
    if alerts.here is not None and not alerts.here.has(run, alerts.others):
        return False
    if LedgerEntry.of(run).status or (alerts.here is not None and run.job_name in alerts.jobs):
        return True
    selected = {*(run.asset_selection or ()), *(key.asset_key for key in run.asset_check_selection or ())}
    if selected:
        return any(".".join(key.path) in alerts.owners for key in selected)
    # A run of a whole job, over tables or over checks alone, names neither.
    has_planned = False
    for name in _planned_tables(instance, run.run_id):
        has_planned = True
        if name in alerts.owners:
            return True
    return not has_planned and run.job_name in alerts.jobs


def _planned_tables(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """Yield the tables that a run was to build or check, page by page: the first one tells most runs."""
    cursor, has_more = None, True
    while has_more:
        page = instance.get_records_for_run(run_id, cursor, of_type=_PLANNED, limit=PAGE)
        yield from (".".join(key.path) for r in page.records if (key := _planned_key(r.event_log_entry)) is not None)
        cursor, has_more = page.cursor, page.has_more


def _planned_key(event: dg.EventLogEntry) -> dg.AssetKey | None:
    data = event.dagster_event.event_specific_data if event.dagster_event else None
    return getattr(data, "asset_key", None)


def end_if_interrupted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """End a run as cancelled if a person interrupted it at the command line before its op began; return whether it is one.

    Dagster calls it a failure, and nothing of this project runs in its process that could say otherwise.
    """
    is_by_hand = run.remote_job_origin is None and run.status is dg.DagsterRunStatus.FAILURE
    if not is_by_hand or not is_interrupted_before_a_step(events_of(instance, run.run_id, EVENT_TYPES)):
        return False
    instance.report_run_canceled(run, "Interrupted at the command line before its first step.")
    return True


def without_interrupted(
    instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], *, until: float
) -> list[dg.RunRecord]:
    """Leave out the runs that a person interrupted at the command line. If there is no time to ask about a run, it alerts."""
    return [
        record
        for record in records
        if LedgerEntry.of(record.dagster_run).status
        or time.monotonic() > until
        or not end_if_interrupted(instance, record.dagster_run)
    ]


def is_retried(record: dg.RunRecord, *, now: float) -> bool:
    """Return whether Dagster retries the run: only the last one of a chain alerts.

    https://docs.dagster.io/deployment/execution/run-retries
    """
    tags = record.dagster_run.tags
    if tags.get("dagster/will_retry") != "true":
        return False
    return "dagster/auto_retry_run_id" in tags or now < ended_at_of(record) + RETRY_WAIT_SECONDS


def ended_at_of(record: dg.RunRecord) -> float:
    """Return when a run ended; one that failed before it was launched has only the time of its last change."""
    return record.end_time or record.update_timestamp.timestamp()


def events_of(instance: dg.DagsterInstance, run_id: str, kinds: set[dg.DagsterEventType]) -> list[dg.EventLogEntry]:
    """Return a run's events of some kinds, in their order."""
    return [record.event_log_entry for record in instance.get_records_for_run(run_id, of_type=kinds).records]
