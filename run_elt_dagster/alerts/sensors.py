"""The sensors: one alerts as soon as a run fails, the other sees to it that no failed run stays without its alert."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import dagster as dg

from run_elt_dagster.alerts.delivery import (
    Clock,
    Draft,
    Outcome,
    Thread,
    attempt,
    is_gone,
    is_up,
    missing,
    post,
    release,
    update,
)
from run_elt_dagster.alerts.failure import (
    CHECK_EVENT_TYPES,
    EVENT_TYPES,
    Published,
    RunFailure,
    is_interrupted_before_a_step,
    run_failure,
    utc,
)
from run_elt_dagster.alerts.health import Health, report_if_changed
from run_elt_dagster.alerts.ledger import COVERED_LIMIT, Entry, config_of, destination_of, open_incidents, start_of
from run_elt_dagster.alerts.message import (
    Style,
    failure_message,
    list_message,
    lost_message,
    recovery_message,
    repeat_message,
    repeats_message,
)
from run_elt_dagster.alerts.production import Seen, seen_from_text, seen_to_text
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.runs.code_location import CodeLocation, known_locations, this_location, to_cursor
from run_elt_dagster.runs.history import is_publication, last_publications
from run_elt_dagster.runs.tags import ALERT, INCIDENT, SEEN, copies, joined, pieces
from run_elt_dagster.settings import AlertSettings, secret_values

KEPT = timedelta(hours=48)
INTERVAL_SECONDS = 30
# The failure sensor comes first; a failure that it has not taken by then was missed by it.
GRACE_SECONDS = 15
# Dagster's automatic retry of a run is launched within seconds; one that never comes must not hide the failure.
RETRY_WAIT_SECONDS = 900
# A tick has 60 s, an attempt in the worst case four requests of 10 s. Slack takes one message a second and channel, and a tick
# is every 30 s.
TICK_SECONDS, ALERTS_PER_TICK = 20, 30
# Slack's rate limit: where it asks in the middle of many to wait as short as this, the tick waits.
SHORT_WAIT_SECONDS = 3
# More incidents than this at once, and all but some are lists, so the last is told of within minutes.
SINGLE_INCIDENTS, SINGLE_BESIDE_LISTS = 60, 5
# Several in a row, and Slack takes none: the next would fare no better. One that fails alone is not to hold up the others.
FAILURES_IN_A_ROW = 2
# Of a tick, what reading which runs failed alike may take.
SORTING_SECONDS = 8
# Of a storage's answer; there is another page where it is full.
PAGE = 500
# A tick must end, however many runs failed in 48 h, and 500 of them take up to 0.2 s to read. So it reads what waits by its tags,
# what failed within the hour (longer than a retry by Dagster is waited for, and than clocks differ), and of the rest some pages:
# the next tick goes on there.
RECENT = timedelta(hours=1)
MOST_WAITING, MOST_RECENT, MOST_SWEPT = 5000, 5000, 2000
WAITING_READ, ALIKE_READ, INCIDENTS_READ = 200, 50, 1000
INCIDENT_DAYS = 30
RECOVERY_ATTEMPTS = 4
_PLANNED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}

RETRIES_SENSOR = "slack_alert_retries"
_ENDED_WELL = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)
_WAITING = ("posting", "retry", "blocked", "undeliverable")
_STATUSES = (*_WAITING, "delivered")


class AlertsBlockedError(Exception):
    """Alerts that wait for a person to act before they can be delivered."""


@dataclass
class Sweep:
    """How far the look at the failures of the last 48 h has come; a new one begins with the newest.

    Attributes:
        cursor: The run after which it goes on, None for the newest.
    """

    cursor: str | None = None


@dataclass(frozen=True)
class Alerts:
    """What the sensors know of the code location.

    Attributes:
        settings: Where alerts go.
        owners: The owners of every declared table by its name, `schema.table`; its keys say which tables are ours.
        jobs: Names of the jobs whose runs are looked at, besides assets that are materialized by hand.
        look: Asks Snowflake for the run of the rows that readers see of some tables, `schema.table`.
        clock: The time in seconds since the epoch.
        wait: Lets that many seconds pass.
        here: The code location itself; None where every location's runs are looked at.
        others: What is known of the locations with these alerts.
    """

    settings: AlertSettings
    owners: Mapping[str, Sequence[str]]
    jobs: tuple[str, ...]
    look: Callable[[Sequence[str], logging.Logger], Seen | None] = lambda _, __: None
    clock: Clock = field(default=time.time)
    wait: Callable[[float], None] = field(default=time.sleep)
    here: CodeLocation | None = None
    others: tuple[CodeLocation, ...] = ()

    @property
    def location(self) -> str:
        """The name of the code location, empty if it is unknown."""
        return self.here.name if self.here else ""

    def style(self) -> Style:
        """Return what goes into every message; read anew, since secrets can change."""
        return Style.of(self.settings, secrets=secret_values())


def alert_sensors(alerts: Alerts, *, is_running: bool = True) -> list[dg.SensorDefinition]:
    """Return both sensors; `is_running` is whether they run until a person switches them in the UI."""
    status = dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED
    located = [alerts]
    return [_failure_sensor(located, status), _reconciling_sensor(located, status)]


def _failure_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="slack_alert",
        # Without it, runs of `dagster asset materialize` are skipped: https://github.com/dagster-io/dagster/issues/22665
        monitor_all_code_locations=True,
        default_status=status,
        minimum_interval_seconds=10,
        description="Posts to Slack when a run of the analytics tables failed; one attempt.",
    )
    def slack_alert(context: dg.RunFailureSensorContext, slack: Slack) -> None:
        alerts, run = located[0], context.dagster_run
        if alerts.here is None and (run.remote_job_origin or run.job_code_origin):
            # Dagster does not tell this sensor in which code location it is. The other one learns it at its first tick, and
            # finds every run without an alert.
            context.log.info(f"run {run.run_id} is left to {RETRIES_SENSOR}")
            return
        # Whatever it raised would lose the alert of this run; the other sensor finds every run without one.
        try:
            alert_of_failed_run(alerts, context.instance, slack, context.dagster_run.run_id, log=context.log)
        except Exception as error:  # noqa: BLE001
            context.log.error(f"run {context.dagster_run.run_id} has no alert yet, got {type(error).__name__}: {error}")

    return slack_alert


def _reconciling_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    sweep = Sweep()

    @dg.sensor(
        name=RETRIES_SENSOR,
        default_status=status,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Delivers the alerts that did not get through, of failures of the last 48 h, and says what recovered.",
    )
    def slack_alert_retries(context: dg.SensorEvaluationContext, slack: Slack) -> dg.SkipReason:
        alerts = located[0] = at_location(located[0], context.instance, this_location(context))
        if alerts.here is not None:
            context.update_cursor(to_cursor(alerts.here, now=time.time()))
        looked_at: list[dg.RunRecord] = []
        try:
            looked_at = undelivered(alerts, context.instance, sweep)
            return dg.SkipReason(reconcile(alerts, context.instance, slack, looked_at, log=context.log))
        finally:
            report_if_changed(context.instance, health_of(alerts, context.instance, slack, looked_at))

    return slack_alert_retries


def at_location(alerts: Alerts, instance: dg.DagsterInstance, here: CodeLocation | None) -> Alerts:
    """Return the alerts of one code location, with what is known of the others."""
    return alerts if here is None else replace(alerts, here=here, others=known_locations(instance, RETRIES_SENSOR))


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
    if Entry.of(record.dagster_run).status:
        return
    if not _is_ours(alerts, instance, record.dagster_run) or _is_retried(record, now=alerts.clock()):
        return
    if _ends_as_cancelled(instance, record.dagster_run):
        log.info(f"run {run_id} was interrupted at the command line before its first step: it is cancelled")
        return
    held = dg.RunsFilter(tags={ALERT: ["posting", "retry", "blocked"]}, statuses=_alerting(alerts))
    waiting = [Entry.of(run) for run in instance.get_runs(held, limit=WAITING_READ)]
    if any(start_of(run_id) in entry.covers for entry in waiting):
        log.info(f"run {run_id} is in the message of another run, and that message is under way")
        return
    if not slack.missing and any(_pauses(entry, slack, alerts.clock()) for entry in waiting):
        log.info(f"run {run_id} waits for its alert, since Slack takes none at the moment")
        return
    _deliver(alerts, instance, slack, record, log=log)


def reconcile(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    looked_at: Sequence[dg.RunRecord] | None = None,
    *,
    log: logging.Logger,
) -> str:
    """Deliver what is due, and say what recovered. Safe to repeat.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        slack: Where to.
        looked_at: What `undelivered` has returned; None for a look at all of the last 48 h.
        log: Of the tick.

    Returns:
        What was done, for the tick.

    Raises:
        AlertsBlockedError: A person must act; with the remedy. What could be done was done.
    """
    started = time.monotonic()
    found = undelivered(alerts, instance) if looked_at is None else looked_at
    records = _without_interrupted(instance, found, until=started + SORTING_SECONDS / 2)
    tried = _deliver_due(alerts, instance, slack, records, log=log)
    recovered = 0 if slack.missing else _announce_recoveries(alerts, instance, slack, until=started + TICK_SECONDS)
    _take_away_copies(alerts, instance)
    entries = [tried.get(r.dagster_run.run_id) or Entry.of(r.dagster_run) for r in records]
    waiting = [entry for entry in entries if entry.status != "delivered"]
    if not slack.missing:
        _report_blocked(waiting)
    return f"{len(entries) - len(waiting)} alerts delivered, {len(waiting)} waiting, {recovered} recoveries announced"


def health_of(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, looked_at: Sequence[dg.RunRecord] | None = None
) -> Health:
    """Return how the alerting stands, by the ledger.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        slack: Where alerts go.
        looked_at: What `undelivered` has returned a moment ago; None for a look at all of the last 48 h.
    """
    found = undelivered(alerts, instance) if looked_at is None else _reread(instance, looked_at)
    entries = {record.dagster_run.run_id: Entry.of(record.dagster_run) for record in found}
    waiting = {
        record.dagster_run.run_id: entries[record.dagster_run.run_id]
        for record in found
        if record.dagster_run.status in _alerting(alerts) and entries[record.dagster_run.run_id].status != "delivered"
    }
    moment = _last_delivery(alerts, _changed_last(alerts, instance)) or _last_delivery(
        alerts, _delivered_last(alerts, instance)
    )
    return Health(waiting, moment, slack.missing, location=alerts.location)


def _last_delivery(alerts: Alerts, records: Sequence[dg.RunRecord]) -> float | None:
    """Return when the last alert of these runs was delivered, in seconds since the epoch; None if none was."""
    entries = [Entry.of(record.dagster_run) for record in records]
    # Slack's id of a message is the moment at which it was posted: https://docs.slack.dev/messaging/retrieving-messages
    return max((float(e.ts) for e in entries if e.ts and alerts.location in ("", e.location)), default=None)


def _changed_last(alerts: Alerts, instance: dg.DagsterInstance) -> Sequence[dg.RunRecord]:
    """Return the failed runs that changed last, as a delivery does: an index has their order, that of a tag's runs none has."""
    return instance.get_run_records(
        dg.RunsFilter(statuses=_alerting(alerts)), limit=WAITING_READ, order_by="update_timestamp"
    )


def _delivered_last(alerts: Alerts, instance: dg.DagsterInstance) -> Sequence[dg.RunRecord]:
    return instance.get_run_records(
        dg.RunsFilter(tags={ALERT: "delivered"}, statuses=_alerting(alerts)),
        limit=WAITING_READ,
        order_by="update_timestamp",
    )


@dataclass(frozen=True)
class _Batch:
    """The runs of one message, the one that it is kept with first; listed if they failed of several causes."""

    runs: Sequence[dg.RunRecord]
    is_list: bool = False


class _Budget:
    """What a tick may take: seconds, those that pass by waiting included, and messages."""

    def __init__(self, alerts: Alerts) -> None:
        self._clock = alerts.clock
        self._began = time.monotonic(), alerts.clock()
        self._messages = ALERTS_PER_TICK

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._began[0], self._clock() - self._began[1])

    def takes(self) -> bool:
        self._messages -= 1
        return self._messages >= 0 and self.seconds <= TICK_SECONDS


def _deliver_due(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, records: Sequence[dg.RunRecord], *, log: logging.Logger
) -> dict[str, Entry]:
    """Deliver what is due; after an outage, all that waits as soon as Slack is there again. Return the entries afterwards."""
    config, now, budget = config_of(slack), alerts.clock(), _Budget(alerts)
    waiting = [entry for r in records if (entry := Entry.of(r.dagster_run)).waits_for_slack(config)]
    if slack.missing or not waiting:
        return _deliver_all(alerts, instance, slack, records, budget=budget, log=log)
    if any(entry.quiet_until > now for entry in waiting):
        return {}
    is_answered = False
    if any(entry.down for entry in waiting):
        is_answered = is_up(slack)
        tried = {} if is_answered else _retry_one(alerts, instance, slack, records, log=log)
    elif _is_paused(records, slack, now):
        return {}
    else:
        tried = _deliver_all(alerts, instance, slack, records, budget=budget, most=1, after_outage=True, log=log)
    if not is_answered and not any(entry.status == "delivered" for entry in tried.values()):
        return tried
    left = [r.dagster_run.run_id for r in records if Entry.of(r.dagster_run).waits_for_slack(config)]
    release(instance, [id_ for id_ in left if id_ not in tried], slack, clock=alerts.clock, answered=is_answered)
    records = [r for r in _reread(instance, records) if Entry.of(r.dagster_run).status != "delivered"]
    return tried | _deliver_all(alerts, instance, slack, records, budget=budget, after_outage=True, log=log)


def _retry_one(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, records: Sequence[dg.RunRecord], *, log: logging.Logger
) -> dict[str, Entry]:
    """Make the oldest retry that is due, while Slack answers nothing: no other alert uses up its attempts in vain."""
    due = [r for r in records if Entry.of(r.dagster_run).status == "retry" and _is_due(r, slack, alerts.clock())]
    if not due:
        return {}
    batch = _as_kept(min(due, key=_ended_at), _by_start(records))
    return _deliver_batch(alerts, instance, slack, batch, log=log)


def _deliver_all(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    records: Sequence[dg.RunRecord],
    *,
    budget: _Budget,
    most: int | None = None,
    after_outage: bool = False,
    log: logging.Logger,
) -> dict[str, Entry]:
    """Deliver what is due, or as many messages as may be, until Slack takes none. Return the entries afterwards."""
    tried: dict[str, Entry] = {}
    is_back, in_vain = after_outage and most is None, 0
    until = time.monotonic() + SORTING_SECONDS
    batches = _batches(alerts, instance, slack, records, until=until, after_outage=after_outage, log=log)
    for batch in islice(batches, most):
        if not budget.takes():
            break
        found = _deliver_batch(alerts, instance, slack, batch, log=log)
        entry = next(iter(found.values()))
        while (tried or is_back) and _is_short_wait(entry, alerts.clock()) and budget.seconds <= TICK_SECONDS:
            # https://docs.slack.dev/apis/web-api/rate-limits: one message a second and channel.
            alerts.wait(max(entry.quiet_until - alerts.clock(), 0))
            leader = batch.runs[0].dagster_run.run_id
            release(instance, [leader], slack, clock=alerts.clock, answered=True)
            found = _deliver_batch(alerts, instance, slack, batch, log=log)
            entry = next(iter(found.values()))
        tried |= found
        if slack.missing or entry.status == "delivered":
            in_vain = 0
            continue
        in_vain += 1
        # The next one would fare no better. Each goes on being due; none uses up its attempts in vain.
        if entry.quiet_until or entry.down or entry.status == "blocked" or in_vain == _patience(tried):
            break
    return tried


def _patience(tried: Mapping[str, Entry]) -> int:
    return FAILURES_IN_A_ROW if any(entry.status == "delivered" for entry in tried.values()) else 1


def _is_short_wait(entry: Entry, now: float) -> bool:
    return entry.status in ("retry", "undeliverable") and 0 < entry.quiet_until - now <= SHORT_WAIT_SECONDS


def _deliver_batch(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, batch: _Batch, *, log: logging.Logger
) -> dict[str, Entry]:
    """Make one attempt, and return the entries of its runs; the first is the one that it is kept with."""
    leader, *others = batch.runs
    covered = [record.dagster_run.run_id for record in others]
    entry = _deliver(alerts, instance, slack, leader, covered=covered, is_list=batch.is_list, log=log)
    read = _records(instance, covered) if entry.status == "delivered" else ()
    return {leader.dagster_run.run_id: entry, **{r.dagster_run.run_id: Entry.of(r.dagster_run) for r in read}}


def _batches(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    records: Sequence[dg.RunRecord],
    *,
    until: float,
    after_outage: bool,
    log: logging.Logger,
) -> Iterator[_Batch]:
    """Yield what is due as the runs of one message each.

    The newest failure comes first; behind it, new and old ones take turns. After an outage the oldest incident comes first,
    with its newest failure. Runs that failed alike share a message, but the first of an incident has its own. Of
    very many incidents most are in lists.
    """
    by_start = _by_start(records)
    covered = {start for record in records for start in Entry.of(record.dagster_run).covers}
    due = [r for r in records if _is_due(r, slack, alerts.clock()) and start_of(r.dagster_run.run_id) not in covered]
    alike: dict[str, list[dg.RunRecord]] = {}
    for record in _taking_turns(due):
        if time.monotonic() > until:
            # What is left comes at the next tick, with those that it failed alike with.
            break
        is_shared = _is_shareable(record) and not slack.missing and len(due) > 1
        key = _fingerprint(alerts, instance, record, log=log) if is_shared else record.dagster_run.run_id
        alike.setdefault(key, []).append(record)
    groups, listed = list(alike.values()), list[list[dg.RunRecord]]()
    if len(groups) > SINGLE_INCIDENTS and not slack.missing:
        groups, listed = _apart(groups)
    elif after_outage:
        groups = sorted((sorted(g, key=_ended_at, reverse=True) for g in groups), key=lambda g: _ended_at(g[-1]))
    for first, *others in groups:
        yield _as_kept(first, by_start)
        for begin in range(0, len(others), COVERED_LIMIT + 1):
            yield _Batch(others[begin : begin + COVERED_LIMIT + 1])
    for runs in listed:
        yield _Batch(runs, is_list=True)


def _apart(groups: Sequence[list[dg.RunRecord]]) -> tuple[list[list[dg.RunRecord]], list[list[dg.RunRecord]]]:
    """Return the incidents that have messages of their own, and the runs of each list, the newest failure first."""
    single = [*groups[:SINGLE_BESIDE_LISTS], *(g for g in groups[SINGLE_BESIDE_LISTS:] if not _is_shareable(g[0]))]
    rest = [sorted(g, key=_ended_at, reverse=True) for g in groups[SINGLE_BESIDE_LISTS:] if _is_shareable(g[0])]
    runs = [record for group in sorted(rest, key=lambda g: _ended_at(g[0]), reverse=True) for record in group]
    return single, [runs[begin : begin + COVERED_LIMIT + 1] for begin in range(0, len(runs), COVERED_LIMIT + 1)]


def _is_shareable(record: dg.RunRecord) -> bool:
    """Return whether a run may share a message with others: it is in none, and its own speaks of no others yet."""
    entry = Entry.of(record.dagster_run)
    return entry.is_free and not entry.covers


def _as_kept(leader: dg.RunRecord, by_start: Mapping[str, dg.RunRecord]) -> _Batch:
    """Return the message of a run as it was tried before: with the runs that it covers."""
    entry = Entry.of(leader.dagster_run)
    return _Batch([leader, *(by_start[start] for start in entry.covers if start in by_start)], is_list=entry.listed)


def _by_start(records: Sequence[dg.RunRecord]) -> dict[str, dg.RunRecord]:
    return {start_of(record.dagster_run.run_id): record for record in records}


def _fingerprint(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger) -> str:
    """Return what makes another failure the same one; a run that cannot be described is like no other."""
    failure = _in_short(alerts, instance, record, log=log)
    return record.dagster_run.run_id if failure is None else failure.fingerprint


def _in_short(
    alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger
) -> RunFailure | None:
    """Return what failed in a run by its own events alone; None if it cannot be described."""
    run = record.dagster_run
    try:
        return run_failure(
            run,
            _events(instance, run.run_id, EVENT_TYPES),
            failed_at=utc(_ended_at(record)),
            owners=alerts.owners,
            check_events=lambda: _events(instance, run.run_id, CHECK_EVENT_TYPES),
        )
    except Exception as error:  # noqa: BLE001 - an alert that says little is better than none
        log.error(f"run {run.run_id} cannot be described, got {type(error).__name__}: {error}")
        return None


def _deliver(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    record: dg.RunRecord,
    *,
    covered: Sequence[str] = (),
    is_list: bool = False,
    log: logging.Logger,
) -> Entry:
    run_id = record.dagster_run.run_id
    if slack.missing:
        return _keep_for_later(alerts, instance, slack, record, log=log)
    entry, asked = attempt(
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
) -> Entry:
    entry = missing(slack)
    draft = _draft(alerts, instance, slack, record, log=log)
    message = draft.thread.reply if draft.thread else draft.message
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
    style = alerts.style()
    run_id = record.dagster_run.run_id
    try:
        failure = _verified(alerts, instance, record, log=log)
        first = _first_alike(alerts, instance, failure)
        left = _untold(instance, covered)
        draft = Draft(
            failure_message(failure, style=style, count=1 + len(left)),
            covered=tuple(each.dagster_run.run_id for each in left),
            fingerprint=failure.fingerprint,
            state="open" if failure.tables else "closed",
            # To the microsecond: a table that was published in the second of its failure is not published again since.
            last_failed_at=max(map(_ended_at, (record, *left))),
            location=alerts.location,
        )
        return draft if first is None else _in_thread(alerts, instance, slack, draft, of=(failure, first))
    except Exception as error:  # noqa: BLE001 - an alert that says little is better than none
        log.error(f"run {run_id} cannot be described, got {type(error).__name__}: {error}")
        return Draft(lost_message(run_id, style=style), location=alerts.location)


def _untold(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> list[dg.RunRecord]:
    """Return the runs that are in no message: the other sensor, or an attempt that was killed, may have delivered some."""
    return [record for record in _records(instance, run_ids) if Entry.of(record.dagster_run).is_free]


def _list_draft(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    record: dg.RunRecord,
    *,
    covered: Sequence[str],
    log: logging.Logger,
) -> Draft:
    """Return the message of runs that failed of many causes: a line for each incident, the newest failure first."""
    records = sorted([record, *_untold(instance, covered)], key=_ended_at, reverse=True)
    described: dict[str, list[RunFailure]] = {}
    unknown: list[str] = []
    for each in records:
        failure = _in_short(alerts, instance, each, log=log)
        if failure is None:
            unknown.append(each.dagster_run.run_id)
        else:
            described.setdefault(failure.fingerprint, []).append(failure)
    firsts: dict[str, tuple[str, float]] = {}
    for alike in described.values():
        first = _first_alike(alerts, instance, alike[0])
        if first is not None:
            at = (first.dagster_run.run_id, max(failure.failed_at.timestamp() for failure in alike))
            firsts |= {failure.run_id: at for failure in alike}
    return Draft(
        list_message(list(described.values()), unknown, style=alerts.style()),
        covered=tuple(r.dagster_run.run_id for r in records if r is not record),
        listed=True,
        firsts=firsts,
        state="closed",
        last_failed_at=max(map(_ended_at, records)),
        location=alerts.location,
    )


def _in_thread(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    draft: Draft,
    *,
    of: tuple[RunFailure, dg.RunRecord],
) -> Draft:
    """Return the draft as a reply to the first message of its incident, if that is in the channel of today."""
    failure, first = of
    entry, style = Entry.of(first.dagster_run), alerts.style()
    draft = replace(draft, last_failed_at=max(draft.last_failed_at, entry.last_failed_at))
    first_id = first.dagster_run.run_id
    count = _count(instance, first_id) + 1 + len(draft.covered)
    if draft.covered:
        reply = repeats_message(failure, [failure.run_id, *draft.covered], style=style, count=count)
    else:
        reply = repeat_message(failure, style=style, count=count)
    message = failure_message(describe(alerts, instance, first), style=style, count=count)
    if entry.destination != destination_of(slack) and entry.channel != slack.channel:
        instance.add_run_tags(first_id, replace(entry, state="closed").tags(first_id))
        return draft
    return replace(draft, thread=Thread(first_id, entry.channel, entry.ts, message, reply))


def _verified(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, *, log: logging.Logger) -> RunFailure:
    """Describe a run; if its own events do not show what readers see, ask Snowflake, and keep the answer."""
    failure = describe(alerts, instance, record)
    if not failure.is_unclear or joined(record.dagster_run, SEEN):
        return failure
    seen = alerts.look([table.name for table in failure.tables], log)
    if seen is None:
        return failure
    instance.add_run_tags(failure.run_id, pieces(SEEN, failure.run_id, seen_to_text(seen)))
    return describe(alerts, instance, instance.get_run_records(dg.RunsFilter(run_ids=[failure.run_id]), limit=1)[0])


def describe(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> RunFailure:
    """Return what failed in a run, from its record and its events."""
    return run_failure(
        record.dagster_run,
        _events(instance, record.dagster_run.run_id, EVENT_TYPES),
        failed_at=utc(_ended_at(record)),
        last_published=lambda name: _last_published(alerts, instance, name),
        owners=alerts.owners,
        seen=seen_from_text(joined(record.dagster_run, SEEN)),
        check_events=lambda: _events(instance, record.dagster_run.run_id, CHECK_EVENT_TYPES),
    )


def _first_alike(alerts: Alerts, instance: dg.DagsterInstance, failure: RunFailure) -> dg.RunRecord | None:
    """Return the run whose alert the thread hangs on: the open one of the same failure, if there is one."""
    # Oldest first: a copy is younger than what it copies.
    alike = instance.get_run_records(
        _open_filter(alerts, fingerprint=failure.fingerprint), limit=ALIKE_READ, ascending=True
    )
    found = [each for each in alike if _is_first(each.dagster_run) and each.dagster_run.run_id != failure.run_id]
    if not found or _recovered(alerts, instance, found[-1].dagster_run, [table.name for table in failure.tables]):
        return None
    return found[-1]


def _open_filter(alerts: Alerts, *, fingerprint: str | None = None) -> dg.RunsFilter:
    return dg.RunsFilter(
        tags=dict(open_incidents(alerts.location, fingerprint=fingerprint)),
        statuses=_alerting(alerts),
        created_after=datetime.fromtimestamp(alerts.clock(), UTC) - timedelta(days=INCIDENT_DAYS),
    )


def _is_first(run: dg.DagsterRun) -> bool:
    entry = Entry.of(run)
    return entry.status == "delivered" and entry.state == "open"


def _count(instance: dg.DagsterInstance, first_id: str) -> int:
    """Return how many runs failed alike, by the runs themselves: a stored number would miss what a kill interrupted.

    The storage counts more than a page of them by their tags alone. A re-execution that never began may have copied those.
    """
    alike = dg.RunsFilter(tags={INCIDENT: first_id, ALERT: "delivered"})
    repeats = instance.get_runs(alike, limit=PAGE)
    if len(repeats) == PAGE:
        return 1 + instance.get_runs_count(alike)
    return 1 + sum((entry := Entry.of(run)).status == "delivered" and entry.first == first_id for run in repeats)


def _announce_recoveries(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, *, until: float) -> int:
    """Say in the thread that the tables are published again, and turn the first message green."""
    announced = 0
    for record in instance.get_run_records(_open_filter(alerts), limit=INCIDENTS_READ, ascending=True):
        if time.monotonic() > until:
            break
        if not _is_first(record.dagster_run):
            continue
        failure = describe(alerts, instance, record)
        if _recovered(alerts, instance, record.dagster_run, [table.name for table in failure.tables]):
            outcome = _announce_recovery(alerts, instance, slack, record.dagster_run, failure)
            announced += outcome.kind == "delivered"
            if outcome.kind in ("transient", "rate limit"):
                break
    return announced


def _announce_recovery(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    first: dg.DagsterRun,
    failure: RunFailure,
) -> Outcome:
    entry, style, client = Entry.of(first), alerts.style(), slack.client()
    green = failure_message(failure, style=style, count=_count(instance, first.run_id), state="recovered")
    message = recovery_message(failure, style=style)
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


def _recovered(alerts: Alerts, instance: dg.DagsterInstance, first: dg.DagsterRun, names: Sequence[str]) -> bool:
    since = Entry.of(first).last_failed_at
    found = last_publications(
        instance, [name.split(".") for name in names], counts=lambda event: _counts(alerts, instance, event)
    )
    return bool(names) and len(found) == len(set(names)) and all(event.timestamp > since for event in found.values())


def _last_published(alerts: Alerts, instance: dg.DagsterInstance, name: str) -> Published | None:
    found = last_publications(instance, [name.split(".")], counts=lambda event: _counts(alerts, instance, event))
    for event in found.values():
        rows = event.asset_materialization.metadata.get("dagster/row_count") if event.asset_materialization else None
        return Published(utc(event.timestamp), rows.value if rows is not None and isinstance(rows.value, int) else None)
    return None


def _counts(alerts: Alerts, instance: dg.DagsterInstance, event: dg.EventLogEntry) -> bool:
    """Return whether a materialization says that readers see the table again: a publication by a run of this location."""
    if not is_publication(event):
        return False
    if alerts.here is None:
        return True
    run = instance.get_run_by_id(event.run_id)
    return run is None or alerts.here.has(run, alerts.others)


def _take_away_copies(alerts: Alerts, instance: dg.DagsterInstance) -> None:
    """Clear the visible tag of runs that ended well with a copy of it, as one that was cancelled before it began."""
    recent = datetime.fromtimestamp(alerts.clock(), UTC) - KEPT
    statuses = [status for status in _ENDED_WELL if status not in _alerting(alerts)]
    copied = dg.RunsFilter(tags={ALERT: list(_STATUSES)}, statuses=statuses, created_after=recent)
    for run in instance.get_runs(copied, limit=WAITING_READ):
        if not Entry.of(run).status:
            instance.add_run_tags(run.run_id, copies(run))


def _alerting(alerts: Alerts) -> list[dg.DagsterRunStatus]:
    cancelled = [dg.DagsterRunStatus.CANCELED] if alerts.settings.on_cancel else []
    return [dg.DagsterRunStatus.FAILURE, *cancelled]


def _pages(instance: dg.DagsterInstance, runs: dg.RunsFilter, *, cursor: str | None = None) -> Iterator[dg.RunRecord]:
    """Yield all runs of a filter, the newest first, or those that come after the run of the cursor."""
    while True:
        records = instance.get_run_records(runs, limit=PAGE, cursor=cursor)
        yield from records
        if len(records) < PAGE:
            return
        cursor = records[-1].dagster_run.run_id


def _reread(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Return the runs as they are now."""
    run_ids = [record.dagster_run.run_id for record in records]
    return [r for start in range(0, len(run_ids), PAGE) for r in _records(instance, run_ids[start : start + PAGE])]


def _records(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> Sequence[dg.RunRecord]:
    return instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids))) if run_ids else ()


def undelivered(alerts: Alerts, instance: dg.DagsterInstance, sweep: Sweep | None = None) -> list[dg.RunRecord]:
    """Return our failed runs of the last 48 h without a delivered alert, the newest first.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        sweep: Goes on where it ended, for a look that is bounded; None to look at all runs of the 48 h.
    """
    # Of any job: one over checks may have any name.
    runs = dg.RunsFilter(statuses=_alerting(alerts), updated_after=_oldest(alerts))
    read = _pages(instance, runs) if sweep is None else _some_of(alerts, instance, runs, sweep)
    return [record for record in read if _is_undelivered(alerts, instance, record)]


def _some_of(alerts: Alerts, instance: dg.DagsterInstance, runs: dg.RunsFilter, sweep: Sweep) -> Sequence[dg.RunRecord]:
    """Return what waits, what failed of late, and the next of the rest: each run is among them in its turn."""
    waiting = dg.RunsFilter(statuses=runs.statuses, updated_after=runs.updated_after, tags={ALERT: list(_WAITING)})
    recent = dg.RunsFilter(statuses=runs.statuses, updated_after=datetime.fromtimestamp(alerts.clock(), UTC) - RECENT)
    read = [
        *islice(_pages(instance, waiting), MOST_WAITING),
        *islice(_pages(instance, recent), MOST_RECENT),
        *_swept(instance, runs, sweep),
    ]
    by_id = {record.dagster_run.run_id: record for record in read}
    return sorted(by_id.values(), key=lambda record: record.storage_id, reverse=True)


def _swept(instance: dg.DagsterInstance, runs: dg.RunsFilter, sweep: Sweep) -> Sequence[dg.RunRecord]:
    """Return the next runs of the sweep, and let it go on behind them; at its end, with the newest."""
    records = list(islice(_pages(instance, runs, cursor=sweep.cursor), MOST_SWEPT))
    sweep.cursor = records[-1].dagster_run.run_id if len(records) == MOST_SWEPT else None
    return records


def _oldest(alerts: Alerts) -> datetime:
    return datetime.fromtimestamp(alerts.clock(), UTC) - KEPT


def _is_undelivered(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    now, status, ended_at = alerts.clock(), Entry.of(record.dagster_run).status, _ended_at(record)
    if status == "delivered" or ended_at < _oldest(alerts).timestamp():
        return False
    if not status and now < ended_at + GRACE_SECONDS:
        return False
    return not _is_retried(record, now=now) and _is_ours(alerts, instance, record.dagster_run)


def _is_ours(alerts: Alerts, instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a run was to build or check our tables: other projects may use the same names of jobs and code locations.

    The command line's runs know no code location, and every location has a job for assets by the same name.
    """
    if alerts.here is not None and not alerts.here.has(run, alerts.others):
        return False
    if Entry.of(run).status or (alerts.here is not None and run.job_name in alerts.jobs):
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


def _ends_as_cancelled(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """End a run as cancelled if a person interrupted it at the command line before its op began; return whether it is one.

    Dagster calls it a failure, and nothing of this project runs in its process that could say otherwise.
    """
    is_by_hand = run.remote_job_origin is None and run.status is dg.DagsterRunStatus.FAILURE
    if not is_by_hand or not is_interrupted_before_a_step(_events(instance, run.run_id, EVENT_TYPES)):
        return False
    instance.report_run_canceled(run, "Interrupted at the command line before its first step.")
    return True


def _without_interrupted(
    instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], *, until: float
) -> list[dg.RunRecord]:
    """Leave out the runs that a person interrupted at the command line. If there is no time to ask about a run, it alerts."""
    return [
        record
        for record in records
        if Entry.of(record.dagster_run).status
        or time.monotonic() > until
        or not _ends_as_cancelled(instance, record.dagster_run)
    ]


def _is_retried(record: dg.RunRecord, *, now: float) -> bool:
    """Return whether Dagster retries the run: only the last one of a chain alerts.

    https://docs.dagster.io/deployment/execution/run-retries
    """
    tags = record.dagster_run.tags
    if tags.get("dagster/will_retry") != "true":
        return False
    return "dagster/auto_retry_run_id" in tags or now < _ended_at(record) + RETRY_WAIT_SECONDS


def _ended_at(record: dg.RunRecord) -> float:
    """Return when a run ended; one that failed before it was launched has only the time of its last change."""
    return record.end_time or record.update_timestamp.timestamp()


def _taking_turns(records: Sequence[dg.RunRecord]) -> Iterator[dg.RunRecord]:
    """Yield the newest failure, then the oldest, the next newest, and so on: neither end waits for the other."""
    left = sorted(records, key=_ended_at)
    while left:
        yield left.pop()
        if left:
            yield left.pop(0)


def _is_due(record: dg.RunRecord, slack: Slack, now: float) -> bool:
    return Entry.of(record.dagster_run).is_due(now=now, config=config_of(slack))


def _pauses(entry: Entry, slack: Slack, now: float) -> bool:
    """Return whether an alert that waits is a reason not to try another one first."""
    return entry.next_at > now and entry.config == config_of(slack)


def _is_paused(records: Sequence[dg.RunRecord], slack: Slack, now: float) -> bool:
    entries = [Entry.of(record.dagster_run) for record in records]
    return any(entry.status == "blocked" and _pauses(entry, slack, now) for entry in entries)


def _report_blocked(waiting: Sequence[Entry]) -> None:
    """Let the tick fail while a person must act: the page of the sensors shows it, with the remedy."""
    blocked = [entry for entry in waiting if entry.status == "blocked"]
    if blocked:
        raise AlertsBlockedError(
            f"Slack cannot be posted to, got {blocked[0].reason} {len(waiting)} failed "
            f"{'runs wait' if len(waiting) > 1 else 'run waits'} for an alert. Each is delivered after you correct this, if "
            "within 48 h of its failure."
        )


def _events(instance: dg.DagsterInstance, run_id: str, kinds: set[dg.DagsterEventType]) -> list[dg.EventLogEntry]:
    return [record.event_log_entry for record in instance.get_records_for_run(run_id, of_type=kinds).records]
