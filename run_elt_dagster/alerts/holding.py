"""Which failures do not alert now, and until when: their tables are snoozed, have quiet hours, or are told of in the digest."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from run_elt_dagster.alerts.delivery import hold
from run_elt_dagster.alerts.failed_runs import ended_at_of
from run_elt_dagster.alerts.failure import RunFailure
from run_elt_dagster.alerts.incidents import describe_in_short
from run_elt_dagster.alerts.ledger import LedgerEntry, start_of
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.snoozes import Snooze, read_snoozes

# After its failure, nothing waits longer: a snooze can follow another one, and failures are looked for during 48 h.
LONGEST_SECONDS = 36 * 3600


@dataclass(frozen=True)
class Hold:
    """Why an alert waits.

    Attributes:
        until: Until when, in seconds since the epoch.
        words: Why, as in `snoozed by Jane`.
        for_digest: Whether the digest tells it.
    """

    until: float
    words: str
    for_digest: bool = False


def hold_back(
    alerts: Alerts, instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], *, log: logging.Logger
) -> list[dg.RunRecord]:
    """Write down which failures do not alert now, and return the others. Safe to repeat.

    Where no failure is due, it asks for nothing.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        records: Runs without a delivered alert.
        log: Of the tick.
    """
    now = alerts.clock()
    left = [record for record in records if not _is_held(record, now)]
    covered = {start for record in left for start in LedgerEntry.of(record.dagster_run).covers}
    due = [record for record in left if _is_new(record) and start_of(record.dagster_run.run_id) not in covered]
    snoozes = read_snoozes(alerts, instance) if due else {}
    if not snoozes and not alerts.rules:
        return left
    held: set[str] = set()
    for record in due:
        failure = describe_in_short(alerts, instance, record, log=log)
        found = None if failure is None else _hold_of(alerts, record, failure, snoozes)
        if found is not None and _is_written(alerts, instance, record, found):
            log.info(f"the alert of run {record.dagster_run.run_id} is held back: {found.words}")
            held.add(record.dagster_run.run_id)
    return [record for record in left if record.dagster_run.run_id not in held]


def _is_held(record: dg.RunRecord, now: float) -> bool:
    entry = LedgerEntry.of(record.dagster_run)
    return entry.status == "held" and entry.next_at > now


def _is_new(record: dg.RunRecord) -> bool:
    """Return whether no attempt was made to alert of a run: what was tried once goes on."""
    return LedgerEntry.of(record.dagster_run).status in ("", "held")


def _is_written(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord, found: Hold) -> bool:
    return hold(
        instance,
        record.dagster_run.run_id,
        until=found.until,
        words=found.words,
        location=alerts.location,
        clock=alerts.clock,
        for_digest=found.for_digest,
    )


def _hold_of(alerts: Alerts, record: dg.RunRecord, failure: RunFailure, snoozes: Mapping[str, Snooze]) -> Hold | None:
    """Return why a failure waits; None if it alerts now."""
    names = [table.name for table in failure.tables]
    now, latest = alerts.clock(), ended_at_of(record) + LONGEST_SECONDS
    snoozed = _snoozed(names, snoozes)
    if snoozed is not None and now < (until := min(snoozed.until, latest)):
        return Hold(until, snoozed.words)
    if now < (until := min(alerts.quiet_until(names), latest)):
        return Hold(until, "quiet hours")
    if alerts.severity_of(names) == "digest":
        return Hold(0, "it is told in the daily digest", for_digest=True)
    return None


def _snoozed(names: Sequence[str], snoozes: Mapping[str, Snooze]) -> Snooze | None:
    """Return the snooze that ends first, if all of some tables are snoozed."""
    found = [snooze for name in names if (snooze := snoozes.get(name)) is not None]
    return min(found, key=lambda snooze: snooze.until) if found and len(found) == len(names) else None
