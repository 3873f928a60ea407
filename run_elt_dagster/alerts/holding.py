"""Which failures do not alert now, and until when: their tables are snoozed, have quiet hours, or are told of in the digest."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import dagster as dg

from run_elt_dagster.alerts.delivery import hold
from run_elt_dagster.alerts.failed_runs import WAITING_READ, ended_at_of
from run_elt_dagster.alerts.failure import RunFailure
from run_elt_dagster.alerts.incidents import (
    are_published_since,
    count_alike,
    describe_in_short,
    first_alike,
    is_in_row,
    is_recovered,
    open_firsts,
    tables_of,
)
from run_elt_dagster.alerts.ledger import LedgerEntry, start_of
from run_elt_dagster.alerts.scope import Alerts, alerting_statuses
from run_elt_dagster.alerts.snoozes import Snooze, read_snoozes
from run_elt_dagster.runs.tags import ALERT

# After its failure, nothing waits longer: a snooze can follow another one, and failures are looked for during 48 h.
LONGEST_SECONDS = 36 * 3600
QUIET = "quiet hours"


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
    alerts: Alerts,
    instance: dg.DagsterInstance,
    records: Sequence[dg.RunRecord],
    *,
    until: float = float("inf"),
    log: logging.Logger,
) -> list[dg.RunRecord]:
    """Write down which failures do not alert now, and return the others. Safe to repeat.

    Where no failure is due, it asks for nothing. Of very many, those that there is no time for wait for the next look.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        records: Runs without a delivered alert.
        until: No further one is looked at after this moment, in seconds as `time.monotonic` has them.
        log: Of the tick.
    """
    now = alerts.clock()
    left = [record for record in records if not _is_held(record, now)]
    covered = {start for record in left for start in LedgerEntry.of(record.dagster_run).covers}
    due = [record for record in left if _is_new(record) and start_of(record.dagster_run.run_id) not in covered]
    snoozes = read_snoozes(alerts, instance) if due else {}
    if not snoozes and not alerts.rules:
        return left
    look = _Look(alerts, instance, snoozes, log)
    held = {record.dagster_run.run_id for record in due if time.monotonic() > until or look.holds(record)}
    return [record for record in left if record.dagster_run.run_id not in held]


def _is_held(record: dg.RunRecord, now: float) -> bool:
    entry = LedgerEntry.of(record.dagster_run)
    return entry.status == "held" and entry.next_at > now


def _is_new(record: dg.RunRecord) -> bool:
    """Return whether no attempt was made to alert of a run: what was tried once goes on, and what pages by now is let out."""
    entry = LedgerEntry.of(record.dagster_run)
    return entry.status in ("", "held") and not entry.paged_at


@dataclass(frozen=True)
class _Look:
    """One look at failures that are due; it reads the events of another run once, however many are due."""

    alerts: Alerts
    instance: dg.DagsterInstance
    snoozes: Mapping[str, Snooze]
    log: logging.Logger
    known: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def holds(self, record: dg.RunRecord) -> bool:
        """Write down why a failure waits, and return whether it does."""
        failure = describe_in_short(self.alerts, self.instance, record, log=self.log)
        found = None if failure is None else self._hold_of(record, failure)
        if found is None or not self._write(record.dagster_run.run_id, found):
            return False
        self.log.info(f"the alert of run {record.dagster_run.run_id} is held back: {found.words}")
        return True

    def _write(self, run_id: str, found: Hold) -> bool:
        return hold(
            self.instance,
            run_id,
            until=found.until,
            words=found.words,
            location=self.alerts.location,
            clock=self.alerts.clock,
            for_digest=found.for_digest,
        )

    def _hold_of(self, record: dg.RunRecord, failure: RunFailure) -> Hold | None:
        """Return why a failure waits; None if it alerts now."""
        alerts, names = self.alerts, [table.name for table in failure.tables]
        now, latest = alerts.clock(), ended_at_of(record) + LONGEST_SECONDS
        snoozed = _snoozed(names, self.snoozes)
        if snoozed is not None and now < (until := min(snoozed.until, latest)):
            return Hold(until, snoozed.words)
        quiet_until = min(alerts.quiet_until(names), latest)
        if now < quiet_until and (until := self._silent_until(record, failure, names, quiet_until)) > now:
            return Hold(until, QUIET)
        if alerts.severity_of(names) == "digest" and not self._has_paged(names, failure):
            return Hold(0, "it is told in the daily digest", for_digest=True)
        return None

    def _silent_until(
        self, record: dg.RunRecord, failure: RunFailure, names: Sequence[str], quiet_until: float
    ) -> float:
        """Return until when quiet hours hold a failure back: if its tables are published again, no page is due before their end."""
        until = min(quiet_until, self._pages_at(record, names))
        if until > self.alerts.clock() and not self._is_let_out(record, names):
            return until
        since = ended_at_of(record)
        return quiet_until if are_published_since(self.alerts, self.instance, failure, since=since) else 0

    def _pages_at(self, record: dg.RunRecord, names: Sequence[str]) -> float:
        """Return until when quiet hours may hold a failure back: then its tables page."""
        times = [rule.time for rule in self.alerts.escalations_of(names).values() if rule.time is not None]
        return ended_at_of(record) + min(times).total_seconds() if times else float("inf")

    def _is_let_out(self, record: dg.RunRecord, names: Sequence[str]) -> bool:
        """Return whether a table has failed so often by now that it pages; what quiet hours hold back of it is then let out too."""
        least = {
            name: rule.failures for name, rule in self.alerts.escalations_of(names).items() if rule.failures is not None
        }
        if not least:
            return False
        held = [run for run in self._held() if run.dagster_run.run_id != record.dagster_run.run_id]
        for name, failures in least.items():
            waiting = [run for run in held if name in self._tables(run)]
            told = [run for run in self._opened if name in self._tables(run)]
            if self._count(waiting, told) + 1 < failures:
                continue
            # What was published in between is no row of failures, though the recovery of it may wait for the end of the hours too.
            waiting = [run for run in waiting if is_in_row(self.alerts, self.instance, run, name)]
            told = [run for run in told if not is_recovered(self.alerts, self.instance, run.dagster_run, [name])]
            if self._count(waiting, told) + 1 >= failures and is_in_row(self.alerts, self.instance, record, name):
                for run in waiting:
                    self._write(run.dagster_run.run_id, Hold(0, QUIET))
                return True
        return False

    def _count(self, waiting: Sequence[dg.RunRecord], told: Sequence[dg.RunRecord]) -> int:
        return len(waiting) + sum(count_alike(self.instance, run.dagster_run.run_id) for run in told)

    def _held(self) -> Sequence[dg.RunRecord]:
        statuses = alerting_statuses(self.alerts)
        held = self.instance.get_run_records(dg.RunsFilter(tags={ALERT: "held"}, statuses=statuses), limit=WAITING_READ)
        return [run for run in held if LedgerEntry.of(run.dagster_run).held_for == QUIET]

    @cached_property
    def _opened(self) -> Sequence[dg.RunRecord]:
        return open_firsts(self.alerts, self.instance)

    def _tables(self, record: dg.RunRecord) -> frozenset[str]:
        run_id = record.dagster_run.run_id
        if run_id not in self.known:
            # One whose events cannot be read counts in no row, and keeps no other alert from being looked at.
            self.known[run_id] = frozenset(tables_of(self.alerts, self.instance, record))
        return self.known[run_id]

    def _has_paged(self, names: Sequence[str], failure: RunFailure) -> bool:
        """Return whether an incident of the same cause has paged: the failure then belongs into its thread."""
        asks = bool(self.alerts.escalations_of(names))
        return asks and first_alike(self.alerts, self.instance, failure) is not None


def _snoozed(names: Sequence[str], snoozes: Mapping[str, Snooze]) -> Snooze | None:
    """Return the snooze that ends first, if all of some tables are snoozed."""
    found = [snooze for name in names if (snooze := snoozes.get(name)) is not None]
    return min(found, key=lambda snooze: snooze.until) if found and len(found) == len(names) else None
