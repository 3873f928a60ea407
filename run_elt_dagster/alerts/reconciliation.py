"""One tick of the second sensor: which alerts are due, in which order and message, and what recovered."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import dagster as dg

from run_elt_dagster.alerts.delivery import release
from run_elt_dagster.alerts.drafts import attempt_alert
from run_elt_dagster.alerts.escalation import escalate
from run_elt_dagster.alerts.failed_runs import (
    clear_copied_tags,
    ended_at_of,
    read_again,
    records_of,
    undelivered,
    without_interrupted,
)
from run_elt_dagster.alerts.holding import hold_back
from run_elt_dagster.alerts.incidents import announce_recoveries, fingerprint_of, open_firsts, tell_acknowledged
from run_elt_dagster.alerts.ledger import COVERED_LIMIT, LedgerEntry, config_of, start_of
from run_elt_dagster.alerts.parts import Parts
from run_elt_dagster.alerts.posting import is_up
from run_elt_dagster.alerts.scope import Alerts, Known
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.counted import counted

# A tick has 60 s, an attempt in the worst case four requests of 10 s. Slack takes one message a second and channel, and a tick
# is every 30 s.
TICK_SECONDS = 20
ALERTS_PER_TICK = 30
# Slack's rate limit: where it asks in the middle of many to wait as short as this, the tick waits.
SHORT_WAIT_SECONDS = 3
# More incidents than this at once, and all but some are lists, so the last is told of within minutes.
SINGLE_INCIDENTS, SINGLE_BESIDE_LISTS = 60, 5
# Several in a row, and Slack takes none: the next would fare no better. One that fails alone is not to hold up the others.
FAILURES_IN_A_ROW = 2
# Of a tick, what reading which runs failed alike may take.
SORTING_SECONDS = 8


class AlertsBlockedError(Exception):
    """Alerts that wait for a person to act before they can be delivered."""


def reconcile(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    looked_at: Sequence[dg.RunRecord] | None = None,
    *,
    log: logging.Logger,
    known: Known | None = None,
) -> str:
    """Deliver what is due, and say what recovered. Safe to repeat.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        slack: Where to.
        looked_at: What `undelivered` has returned; None for a look at all of the last 48 h.
        log: Of the tick.
        known: What the ticks before have read; None for a look that knows nothing yet.

    Returns:
        What was done, for the tick.

    Raises:
        AlertsBlockedError: A person must act; with the remedy. What could be done was done.
        PartsFailedError: A part of the tick failed. The others were done.
    """
    started, known = time.monotonic(), known or Known()
    found = undelivered(alerts, instance) if looked_at is None else looked_at
    failed = without_interrupted(instance, found, until=started + SORTING_SECONDS / 2)
    records = hold_back(alerts, instance, failed, until=started + SORTING_SECONDS, log=log)
    parts, tried = Parts(log), dict[str, LedgerEntry]()
    with parts.part("for alerts that are due"):
        tried = _deliver_due(alerts, instance, slack, records, log=log)
    until = started + TICK_SECONDS
    recovered, firsts = 0, list[dg.RunRecord]()
    if not slack.missing:
        with parts.part("for open incidents"):
            firsts += open_firsts(alerts, instance)
        with parts.part("for acknowledgements"):
            tell_acknowledged(alerts, instance, slack, firsts)
        with parts.part("for incidents that page by now"):
            escalate(alerts, instance, slack, firsts, known=known)
        with parts.part("for recoveries"):
            recovered = announce_recoveries(alerts, instance, slack, firsts, until=until, known=known)
    with parts.part("for copied tags"):
        clear_copied_tags(alerts, instance, known)
    entries = [tried.get(r.dagster_run.run_id) or LedgerEntry.of(r.dagster_run) for r in records]
    waiting = [entry for entry in entries if entry.status != "delivered"]
    if not slack.missing:
        _report_blocked(waiting)
    parts.require_all()
    held = f", {len(failed) - len(records)} held back" if len(failed) > len(records) else ""
    return f"{counted(len(entries) - len(waiting), 'alerts')} delivered, {len(waiting)} waiting{held}, {counted(recovered, 'recoveries', 'recovery')} announced"


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
) -> dict[str, LedgerEntry]:
    """Deliver what is due; after an outage, all that waits as soon as Slack is there again. Return the entries afterwards."""
    config, now, budget = config_of(slack), alerts.clock(), _Budget(alerts)
    waiting = [entry for r in records if (entry := LedgerEntry.of(r.dagster_run)).waits_for_slack(config)]
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
    left = [r.dagster_run.run_id for r in records if LedgerEntry.of(r.dagster_run).waits_for_slack(config)]
    release(instance, [id_ for id_ in left if id_ not in tried], slack, clock=alerts.clock, answered=is_answered)
    records = [r for r in read_again(instance, records) if LedgerEntry.of(r.dagster_run).status != "delivered"]
    return tried | _deliver_all(alerts, instance, slack, records, budget=budget, after_outage=True, log=log)


def _retry_one(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, records: Sequence[dg.RunRecord], *, log: logging.Logger
) -> dict[str, LedgerEntry]:
    """Make the oldest retry that is due, while Slack answers nothing: no other alert uses up its attempts in vain."""
    due = [r for r in records if LedgerEntry.of(r.dagster_run).status == "retry" and _is_due(r, slack, alerts.clock())]
    if not due:
        return {}
    batch = _as_kept(min(due, key=ended_at_of), _by_start(records))
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
) -> dict[str, LedgerEntry]:
    """Deliver what is due, or as many messages as may be, until Slack takes none. Return the entries afterwards."""
    tried: dict[str, LedgerEntry] = {}
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


def _patience(tried: Mapping[str, LedgerEntry]) -> int:
    return FAILURES_IN_A_ROW if any(entry.status == "delivered" for entry in tried.values()) else 1


def _is_short_wait(entry: LedgerEntry, now: float) -> bool:
    return entry.status in ("retry", "undeliverable") and 0 < entry.quiet_until - now <= SHORT_WAIT_SECONDS


def _deliver_batch(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, batch: _Batch, *, log: logging.Logger
) -> dict[str, LedgerEntry]:
    """Make one attempt, and return the entries of its runs; the first is the one that it is kept with."""
    leader, *others = batch.runs
    covered = [record.dagster_run.run_id for record in others]
    entry = attempt_alert(alerts, instance, slack, leader, covered=covered, is_list=batch.is_list, log=log)
    read = records_of(instance, covered) if entry.status == "delivered" else ()
    return {leader.dagster_run.run_id: entry, **{r.dagster_run.run_id: LedgerEntry.of(r.dagster_run) for r in read}}


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
    covered = {start for record in records for start in LedgerEntry.of(record.dagster_run).covers}
    due = [r for r in records if _is_due(r, slack, alerts.clock()) and start_of(r.dagster_run.run_id) not in covered]
    alike: dict[str, list[dg.RunRecord]] = {}
    for record in _taking_turns(due):
        if time.monotonic() > until:
            # What is left comes at the next tick, with those that it failed alike with.
            break
        is_shared = _is_shareable(record) and not slack.missing and len(due) > 1
        key = fingerprint_of(alerts, instance, record, log=log) if is_shared else record.dagster_run.run_id
        alike.setdefault(key, []).append(record)
    groups, listed = list(alike.values()), list[list[dg.RunRecord]]()
    if len(groups) > SINGLE_INCIDENTS and not slack.missing:
        groups, listed = _apart(groups)
    elif after_outage:
        groups = sorted((sorted(g, key=ended_at_of, reverse=True) for g in groups), key=lambda g: ended_at_of(g[-1]))
    for first, *others in groups:
        if LedgerEntry.of(first.dagster_run).status == "held":
            # What was held back is told at once.
            yield from map(_Batch, _parts([first, *others]))
            continue
        yield _as_kept(first, by_start)
        yield from map(_Batch, _parts(others))
    for runs in listed:
        yield _Batch(runs, is_list=True)


def _apart(groups: Sequence[list[dg.RunRecord]]) -> tuple[list[list[dg.RunRecord]], list[list[dg.RunRecord]]]:
    """Return the incidents that have messages of their own, and the runs of each list, the newest failure first."""
    single = [*groups[:SINGLE_BESIDE_LISTS], *(g for g in groups[SINGLE_BESIDE_LISTS:] if not _is_shareable(g[0]))]
    rest = [sorted(g, key=ended_at_of, reverse=True) for g in groups[SINGLE_BESIDE_LISTS:] if _is_shareable(g[0])]
    runs = [record for group in sorted(rest, key=lambda g: ended_at_of(g[0]), reverse=True) for record in group]
    return single, _parts(runs)


def _parts(runs: Sequence[dg.RunRecord]) -> list[list[dg.RunRecord]]:
    """Return runs in the parts that one message can speak of."""
    return [list(runs[begin : begin + COVERED_LIMIT + 1]) for begin in range(0, len(runs), COVERED_LIMIT + 1)]


def _is_shareable(record: dg.RunRecord) -> bool:
    """Return whether a run may share a message with others: it is in none, and its own speaks of no others yet."""
    entry = LedgerEntry.of(record.dagster_run)
    return entry.is_free and not entry.covers


def _as_kept(leader: dg.RunRecord, by_start: Mapping[str, dg.RunRecord]) -> _Batch:
    """Return the message of a run as it was tried before: with the runs that it covers."""
    entry = LedgerEntry.of(leader.dagster_run)
    return _Batch([leader, *(by_start[start] for start in entry.covers if start in by_start)], is_list=entry.listed)


def _by_start(records: Sequence[dg.RunRecord]) -> dict[str, dg.RunRecord]:
    return {start_of(record.dagster_run.run_id): record for record in records}


def _taking_turns(records: Sequence[dg.RunRecord]) -> Iterator[dg.RunRecord]:
    """Yield the newest failure, then the oldest, the next newest, and so on: neither end waits for the other."""
    left = sorted(records, key=ended_at_of)
    while left:
        yield left.pop()
        if left:
            yield left.pop(0)


def _is_due(record: dg.RunRecord, slack: Slack, now: float) -> bool:
    return LedgerEntry.of(record.dagster_run).is_due(now=now, config=config_of(slack))


def is_pausing(entry: LedgerEntry, slack: Slack, now: float) -> bool:
    """Return whether an alert that waits is a reason not to try another one first."""
    return entry.next_at > now and entry.config == config_of(slack)


def _is_paused(records: Sequence[dg.RunRecord], slack: Slack, now: float) -> bool:
    entries = [LedgerEntry.of(record.dagster_run) for record in records]
    return any(entry.status == "blocked" and is_pausing(entry, slack, now) for entry in entries)


def _report_blocked(waiting: Sequence[LedgerEntry]) -> None:
    """Let the tick fail while a person must act: the page of the sensors shows it, with the remedy."""
    blocked = [entry for entry in waiting if entry.status == "blocked"]
    if blocked:
        raise AlertsBlockedError(
            f"Slack cannot be posted to, got {blocked[0].reason} {len(waiting)} failed "
            f"{'runs wait' if len(waiting) > 1 else 'run waits'} for an alert. Each is delivered after you correct this, if "
            "within 48 h of its failure."
        )
