"""The sensors: one alerts as soon as a run fails, the other sees to it that no failed run stays without its alert."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.delivery import Clock, Draft, Entry, attempt, config_of, missing, post, update
from run_elt_dagster.alerts.failure import CHECK_EVENT_TYPES, EVENT_TYPES, Published, RunFailure, run_failure, utc
from run_elt_dagster.alerts.health import Health, report_if_changed
from run_elt_dagster.alerts.message import Style, failure_message, lost_message, recovery_message, repeat_message
from run_elt_dagster.alerts.production import Seen, seen_from_text, seen_to_text
from run_elt_dagster.resources.slack import Slack
from run_elt_dagster.settings import AlertSettings, secret_values

KEPT = timedelta(hours=48)
INTERVAL_SECONDS = 30
# The failure sensor comes first; a failure that it has not taken by then was missed by it.
GRACE_SECONDS = 15
# Dagster's automatic retry of a run is launched within seconds; one that never comes must not hide the failure.
RETRY_WAIT_SECONDS = 900
# A tick has 60 s, an attempt in the worst case three requests of 10 s.
TICK_SECONDS, ALERTS_PER_TICK = 20, 20
RUNS_READ, INCIDENTS_READ = 2000, 50
INCIDENT_DAYS = 30
RECOVERY_ATTEMPTS = 4
_PLANNED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}

_INCIDENT, _FINGERPRINT = "run_elt/alert_incident", "run_elt/alert_fingerprint"
_LAST_FAILED = "run_elt/alert_last_failed_at"
_SEEN = "run_elt/alert_seen"
_RECOVERY_ATTEMPTS = "run_elt/alert_recovery_attempts"


class AlertsBlockedError(Exception):
    """Alerts that somebody must act for, before they can be delivered."""


@dataclass(frozen=True)
class Alerts:
    """What the sensors know of the code location.

    Attributes:
        settings: Where alerts go.
        owners: The owners of every declared table by its name, `schema.table`; its keys say which tables are ours.
        jobs: Names of the jobs whose runs are looked at, besides assets that are materialized by hand.
        look: Asks Snowflake whose rows readers see of some tables, `schema.table`.
        clock: The time in seconds since the epoch.
    """

    settings: AlertSettings
    owners: Mapping[str, Sequence[str]]
    jobs: tuple[str, ...]
    look: Callable[[Sequence[str], logging.Logger], Seen | None] = lambda _, __: None
    clock: Clock = field(default=time.time)

    def style(self) -> Style:
        """Return what goes into every message; read anew, since secrets can change."""
        return Style.of(self.settings, secrets=secret_values())


def alert_sensors(alerts: Alerts, *, is_running: bool = True) -> list[dg.SensorDefinition]:
    """Return both sensors; `is_running` is whether they run until somebody switches them in the UI."""
    status = dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED
    return [_failure_sensor(alerts, status), _reconciling_sensor(alerts, status)]


def _failure_sensor(alerts: Alerts, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="slack_alert",
        # Without it, runs of `dagster asset materialize` are skipped: https://github.com/dagster-io/dagster/issues/22665
        monitor_all_code_locations=True,
        default_status=status,
        minimum_interval_seconds=10,
        description="Posts to Slack when a run of the analytics tables failed; one attempt.",
    )
    def slack_alert(context: dg.RunFailureSensorContext, slack: Slack) -> None:
        # Whatever it raised would lose the alert of this run; the other sensor finds every run without one.
        try:
            alert_of_failed_run(alerts, context.instance, slack, context.dagster_run.run_id, log=context.log)
        except Exception as error:  # noqa: BLE001
            context.log.error(f"run {context.dagster_run.run_id} has no alert yet, got {type(error).__name__}: {error}")

    return slack_alert


def _reconciling_sensor(alerts: Alerts, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="slack_alert_retries",
        default_status=status,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Delivers the alerts that did not get through, of failures of the last 48 h, and says what recovered.",
    )
    def slack_alert_retries(context: dg.SensorEvaluationContext, slack: Slack) -> dg.SkipReason:
        try:
            return dg.SkipReason(reconcile(alerts, context.instance, slack, log=context.log))
        finally:
            report_if_changed(context.instance, health_of(alerts, context.instance, slack))

    return slack_alert_retries


def alert_of_failed_run(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    run_id: str,
    *,
    log: logging.Logger,
) -> None:
    """Make the first attempt to alert of a failed run, unless it is another's, Dagster retries it, or Slack is down."""
    record = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]), limit=1)[0]
    if not _is_ours(alerts, instance, record.dagster_run) or _is_retried(record, now=alerts.clock()):
        return
    waiting = instance.get_runs(dg.RunsFilter(tags={"run_elt/alert": ["retry", "blocked"]}), limit=RUNS_READ)
    if not slack.missing and any(_pauses(Entry.from_tags(run.tags), slack, alerts.clock()) for run in waiting):
        log.info(f"run {run_id} waits for its alert, since Slack takes none at the moment")
        return
    _deliver(alerts, instance, slack, record, log=log)


def reconcile(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, *, log: logging.Logger) -> str:
    """Deliver what is due, and say what recovered. Safe to repeat.

    Returns:
        What was done, for the tick.

    Raises:
        AlertsBlockedError: Somebody must act; with the remedy. What could be done was done.
    """
    started = time.monotonic()
    tried: dict[str, Entry] = {}
    records = sorted(_undelivered(alerts, instance), key=_turn)
    if not _is_paused(records, slack, alerts.clock()):
        for record in records:
            if len(tried) == ALERTS_PER_TICK or time.monotonic() - started > TICK_SECONDS:
                break
            if not _is_due(record, slack, alerts.clock()):
                continue
            entry = _deliver(alerts, instance, slack, record, log=log)
            tried[record.dagster_run.run_id] = entry
            if entry.status != "delivered" and not slack.missing:
                # The next one would fare no better. Each goes on being due; none uses up its attempts in vain.
                break
    recovered = 0 if slack.missing else _announce_recoveries(alerts, instance, slack, until=started + TICK_SECONDS)
    entries = [tried.get(r.dagster_run.run_id) or Entry.from_tags(r.dagster_run.tags) for r in records]
    waiting = [entry for entry in entries if entry.status != "delivered"]
    if not slack.missing:
        _report_blocked(waiting)
    return f"{len(entries) - len(waiting)} alerts delivered, {len(waiting)} waiting, {recovered} recoveries announced"


def health_of(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack) -> Health:
    """Return how the alerting stands, by the ledger."""
    waiting = {
        record.dagster_run.run_id: Entry.from_tags(record.dagster_run.tags) for record in _undelivered(alerts, instance)
    }
    delivered = instance.get_runs(dg.RunsFilter(tags={"run_elt/alert": "delivered"}), limit=RUNS_READ)
    # Slack's id of a message is the moment at which it was posted: https://docs.slack.dev/messaging/retrieving-messages
    moments = [float(run.tags["run_elt/alert_ts"]) for run in delivered if run.tags.get("run_elt/alert_ts")]
    return Health(waiting, max(moments, default=None), slack.missing)


def _deliver(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    record: dg.RunRecord,
    *,
    log: logging.Logger,
) -> Entry:
    run_id = record.dagster_run.run_id
    if slack.missing:
        return _keep_for_later(alerts, instance, slack, record, log=log)
    entry, asked = attempt(
        instance, run_id, slack, clock=alerts.clock, render=lambda: _draft(alerts, instance, record, log=log)
    )
    if asked and entry.status == "delivered":
        log.info(f"the alert of run {run_id} is delivered")
        _update_first(alerts, instance, slack, entry, run_id)
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
) -> Entry:
    entry = missing(slack)
    draft = _draft(alerts, instance, record, log=log)
    log.error(f"{slack.missing} not set, so that this alert goes to the log only:\n{draft.message.text}")
    instance.add_run_tags(record.dagster_run.run_id, entry.tags())
    return entry


def _draft(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger) -> Draft:
    """Return the message of a run: a new one, or a reply in the thread of the same failure before."""
    style = alerts.style()
    run_id = record.dagster_run.run_id
    try:
        failure = _verified(alerts, instance, record, log=log)
        first = _first_alike(instance, failure)
    except Exception as error:  # noqa: BLE001 - an alert that says little is better than none
        log.error(f"run {run_id} cannot be described, got {type(error).__name__}: {error}")
        return Draft(lost_message(run_id, style=style))
    if first is None:
        tags = {_FINGERPRINT: failure.fingerprint, _INCIDENT: "open" if failure.tables else "closed"}
        return Draft(failure_message(failure, style=style), tags={**tags, _LAST_FAILED: _seconds(failure.failed_at)})
    return Draft(
        repeat_message(failure, style=style, count=_count(instance, first.run_id) + 1),
        thread_ts=first.tags["run_elt/alert_ts"],
        tags={_FINGERPRINT: failure.fingerprint, _INCIDENT: first.run_id},
    )


def _verified(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger) -> RunFailure:
    """Describe a run; where its own story does not tell what readers see, ask Snowflake, and keep the answer."""
    failure = describe(alerts, instance, record)
    if not failure.is_unclear or _SEEN in record.dagster_run.tags:
        return failure
    seen = alerts.look([table.name for table in failure.tables], log)
    if seen is None:
        return failure
    instance.add_run_tags(failure.run_id, {_SEEN: seen_to_text(seen)})
    return describe(alerts, instance, instance.get_run_records(dg.RunsFilter(run_ids=[failure.run_id]), limit=1)[0])


def describe(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> RunFailure:
    """Return what failed in a run, from its record and its events."""
    return run_failure(
        record.dagster_run,
        _events(instance, record.dagster_run.run_id, EVENT_TYPES),
        failed_at=utc(_ended_at(record)),
        last_published=lambda name: _last_published(instance, name),
        owners=alerts.owners,
        seen=seen_from_text(record.dagster_run.tags.get(_SEEN, "")),
        check_events=lambda: _events(instance, record.dagster_run.run_id, CHECK_EVENT_TYPES),
    )


def _first_alike(instance: dg.DagsterInstance, failure: RunFailure) -> dg.DagsterRun | None:
    """Return the run whose alert the thread hangs on: the open one of the same failure, if there is one."""
    alike = dg.RunsFilter(tags={_FINGERPRINT: failure.fingerprint, _INCIDENT: "open", "run_elt/alert": "delivered"})
    found = [run for run in instance.get_runs(alike, limit=2) if run.run_id != failure.run_id]
    if not found or _recovered(instance, found[0], failure.tables):
        return None
    return found[0]


def _update_first(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, entry: Entry, run_id: str) -> None:
    """Count a repeat on the first message of its thread; a count that does not get through is right the next time."""
    run = instance.get_run_by_id(run_id)
    first_id = run.tags.get(_INCIDENT, "") if run else ""
    if entry.thread_ts == entry.ts or first_id in ("", "open", "closed"):
        return
    first = instance.get_run_records(dg.RunsFilter(run_ids=[first_id]), limit=1)
    this = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]), limit=1)
    if not first:
        return
    tags = first[0].dagster_run.tags
    failed_at = max(float(tags.get(_LAST_FAILED) or 0), _ended_at(this[0]))
    instance.add_run_tags(first_id, {_LAST_FAILED: f"{failed_at:.6f}"})
    failure = describe(alerts, instance, first[0])
    message = failure_message(failure, style=alerts.style(), count=_count(instance, first_id))
    update(slack.client(), entry.channel, tags["run_elt/alert_ts"], message)


def _count(instance: dg.DagsterInstance, first_id: str) -> int:
    """Return how many runs failed alike, by the runs themselves: a stored number would miss what a kill interrupted."""
    return 1 + instance.get_runs_count(dg.RunsFilter(tags={_INCIDENT: first_id}))


def _announce_recoveries(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, *, until: float) -> int:
    """Say in the thread that the tables are published again, and turn the first message green."""
    created_after = datetime.fromtimestamp(alerts.clock(), UTC) - timedelta(days=INCIDENT_DAYS)
    is_open = dg.RunsFilter(tags={_INCIDENT: "open", "run_elt/alert": "delivered"}, created_after=created_after)
    announced = 0
    for record in instance.get_run_records(is_open, limit=INCIDENTS_READ):
        if time.monotonic() > until:
            break
        failure = describe(alerts, instance, record)
        if _recovered(instance, record.dagster_run, failure.tables):
            announced += _announce_recovery(alerts, instance, slack, record.dagster_run, failure)
    return announced


def _announce_recovery(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    first: dg.DagsterRun,
    failure: RunFailure,
) -> bool:
    tags, style, client = first.tags, alerts.style(), slack.client()
    channel, ts = tags["run_elt/alert_channel"], tags["run_elt/alert_ts"]
    green = failure_message(failure, style=style, count=_count(instance, first.run_id), state="recovered")
    outcome = update(client, channel, ts, green)
    if outcome.kind == "delivered":
        outcome = post(client, channel, recovery_message(failure, style=style), run_id=first.run_id, thread_ts=ts)
    attempts = int(tags.get(_RECOVERY_ATTEMPTS) or 0) + 1
    done = outcome.kind == "delivered" or attempts == RECOVERY_ATTEMPTS
    instance.add_run_tags(first.run_id, {_INCIDENT: "recovered" if done else "open", _RECOVERY_ATTEMPTS: str(attempts)})
    return outcome.kind == "delivered"


def _recovered(instance: dg.DagsterInstance, first: dg.DagsterRun, tables: Sequence[Any]) -> bool:
    since = float(first.tags.get(_LAST_FAILED) or 0)
    published = [_last_published(instance, table.name) for table in tables]
    return bool(published) and all(last is not None and last.at.timestamp() > since for last in published)


def _last_published(instance: dg.DagsterInstance, name: str) -> Published | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(name.split(".")))
    if event is None or event.asset_materialization is None:
        return None
    rows = event.asset_materialization.metadata.get("dagster/row_count")
    return Published(utc(event.timestamp), rows.value if rows is not None and isinstance(rows.value, int) else None)


def _undelivered(alerts: Alerts, instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """Yield our failed runs of the last 48 h without a delivered alert."""
    now = alerts.clock()
    oldest = datetime.fromtimestamp(now, UTC) - KEPT
    statuses = [dg.DagsterRunStatus.FAILURE]
    if alerts.settings.on_cancel:
        statuses.append(dg.DagsterRunStatus.CANCELED)
    # Of any job: one over checks may have any name.
    runs = dg.RunsFilter(statuses=statuses, updated_after=oldest)
    for record in instance.get_run_records(runs, limit=RUNS_READ):
        status = Entry.from_tags(record.dagster_run.tags).status
        ended_at = _ended_at(record)
        if status == "delivered" or ended_at < oldest.timestamp() or (not status and now < ended_at + GRACE_SECONDS):
            continue
        if not _is_retried(record, now=now) and _is_ours(alerts, instance, record.dagster_run):
            yield record


def _is_ours(alerts: Alerts, instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Tell whether a run was to build or check our tables: the names of jobs and code locations are anybody's.

    The command line's runs know no code location, and every location has a job for assets by the same name.
    """
    if "run_elt/alert" in run.tags:
        return True
    selected = {*(run.asset_selection or ()), *(key.asset_key for key in run.asset_check_selection or ())}
    if selected:
        return any(".".join(key.path) in alerts.owners for key in selected)
    # A run of a whole job, over tables or over checks alone, names neither.
    events = _events(instance, run.run_id, _PLANNED)
    planned = {".".join(key.path) for event in events if (key := _planned_key(event)) is not None}
    return not planned.isdisjoint(alerts.owners) or (not planned and run.job_name in alerts.jobs)


def _planned_key(event: dg.EventLogEntry) -> dg.AssetKey | None:
    data = event.dagster_event.event_specific_data if event.dagster_event else None
    return getattr(data, "asset_key", None)


def _is_retried(record: dg.RunRecord, *, now: float) -> bool:
    """Tell whether Dagster retries the run: only the last one of a chain alerts.

    https://docs.dagster.io/deployment/execution/run-retries
    """
    tags = record.dagster_run.tags
    if tags.get("dagster/will_retry") != "true":
        return False
    return "dagster/auto_retry_run_id" in tags or now < _ended_at(record) + RETRY_WAIT_SECONDS


def _ended_at(record: dg.RunRecord) -> float:
    """Return when a run ended; one that failed before it was launched has only the time of its last change."""
    return record.end_time or record.update_timestamp.timestamp()


def _turn(record: dg.RunRecord) -> tuple[int, float]:
    """Whose turn it is: who waited for the most attempts, then who failed first."""
    return (-Entry.from_tags(record.dagster_run.tags).attempts, _ended_at(record))


def _is_due(record: dg.RunRecord, slack: Slack, now: float) -> bool:
    return Entry.from_tags(record.dagster_run.tags).is_due(now=now, config=config_of(slack))


def _pauses(entry: Entry, slack: Slack, now: float) -> bool:
    """Tell whether an alert that waits is a reason not to try another one first."""
    return entry.next_at > now and entry.config == config_of(slack)


def _is_paused(records: Sequence[dg.RunRecord], slack: Slack, now: float) -> bool:
    entries = [Entry.from_tags(record.dagster_run.tags) for record in records]
    return any(entry.status == "blocked" and _pauses(entry, slack, now) for entry in entries)


def _report_blocked(waiting: Sequence[Entry]) -> None:
    """Let the tick fail while somebody must act: the page of the sensors shows it, with the remedy."""
    blocked = [entry for entry in waiting if entry.status == "blocked"]
    if blocked:
        raise AlertsBlockedError(
            f"Slack cannot be posted to, got {blocked[0].reason} {len(waiting)} failed "
            f"{'runs wait' if len(waiting) > 1 else 'run waits'} for an alert. Each is delivered once this is mended, if "
            "within 48 h of its failure."
        )


def _events(instance: dg.DagsterInstance, run_id: str, kinds: set[dg.DagsterEventType]) -> list[dg.EventLogEntry]:
    return [record.event_log_entry for record in instance.get_records_for_run(run_id, of_type=kinds).records]


def _seconds(at: datetime) -> str:
    # To the microsecond: a table that was published in the second of its failure is not published again since.
    return f"{at.timestamp():.6f}"
