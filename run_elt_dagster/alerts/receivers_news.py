"""What becomes an alert for the receivers: failed runs, recoveries, late tables, and backfills without a failed run."""

import logging
import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

import dagster as dg

from run_elt_dagster.alerts.backfills import FailedBackfill, backfill_message, failed_backfills
from run_elt_dagster.alerts.blocks import Style
from run_elt_dagster.alerts.failed_runs import (
    KEPT,
    RECENT,
    ended_at_of,
    read_again,
    records_of,
    untaken,
    without_interrupted,
)
from run_elt_dagster.alerts.failure import RunFailure
from run_elt_dagster.alerts.holding import hold_back
from run_elt_dagster.alerts.incidents import (
    INCIDENTS_DESCRIBED,
    RECOVERY_PART,
    UNREADABLE_SECONDS,
    are_parts_published,
    describe,
    describe_verified,
    is_in_parts,
    names_published_since,
    tables_of,
)
from run_elt_dagster.alerts.late_ledger import Lateness, Telling, read_ledger
from run_elt_dagster.alerts.late_message import fresh_message, late_message, more_message
from run_elt_dagster.alerts.late_pages import is_quiet
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.message import failure_message, lost_message, repeat_message
from run_elt_dagster.alerts.notes import Acknowledgement
from run_elt_dagster.alerts.parts import Parts
from run_elt_dagster.alerts.receivers_ledger import ENDS, SILENT_SECONDS, Incident, News, ReceiverLedger, What
from run_elt_dagster.alerts.receivers_ledger import read_ledger as read_receivers
from run_elt_dagster.alerts.receivers_text import moment, plain_style, plain_text
from run_elt_dagster.alerts.scope import Alerts, Sweep
from run_elt_dagster.runs.freshness import Watched
from run_elt_dagster.runs.history import last_materialized_at
from run_elt_dagster.runs.tags import RECEIVERS, bound, own

# A failure of the same cause is told again, but no sooner: a receiver has no thread that would keep repeats out of the way.
AGAIN_SECONDS = 12 * 3600
# Of one look: 20 to 50 ms each. The next one goes on.
TAKEN_PER_LOOK, TAKING_SECONDS = 100, 8
MOST_INCIDENTS, MOST_MEMBERS = 500, 20
# What ends an incident waits so long for a pager: otherwise the incident stays open there for good.
ENDS_KEPT_SECONDS = 30 * 24 * 3600
# More than Dagster's list is read: what is forgotten is told again.
MOST_BACKFILLS = 500
_ID_CHARACTERS = 8


@dataclass
class Seen:
    """What the looks before have read.

    Attributes:
        sweep: How far the look at the failures of the last 48 h has come.
        tables: Of the open incidents, the tables that failed, by the first run.
        unreadable: Until when those are left alone whose events could not be read, in seconds since the epoch.
    """

    sweep: Sweep = field(default_factory=Sweep)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    unreadable: dict[str, float] = field(default_factory=dict[str, float])


class Newsroom:
    """One look at what happened, and what becomes of the ledger by it."""

    def __init__(
        self,
        alerts: Alerts,
        instance: dg.DagsterInstance,
        ledger: ReceiverLedger,
        receivers: Sequence[str],
        *,
        seen: Seen,
        log: logging.Logger,
        is_without_slack: bool = False,
        pagers: Collection[str] = (),
    ) -> None:
        self._alerts, self._instance, self._seen, self._log = alerts, instance, seen, log
        self._pagers = frozenset(pagers)
        self._parts = Parts(log)
        self._is_without_slack = is_without_slack
        self._receivers, self._now = tuple(receivers), alerts.clock()
        self._style = plain_style(alerts.style())
        self.ledger = self._of_today(ledger)

    def look(self, *, surely_ours: bool = False) -> ReceiverLedger:
        """Return the ledger with what is new.

        Args:
            surely_ours: Leave the runs to a later look that may be another code location's.
        """
        known = tuple(each.run_id for each in self.ledger.incidents)
        with self._part("for recoveries"):
            self._take_recoveries(self.ledger.incidents)
        with self._part("for failed runs"):
            self._take_failures(surely_ours=surely_ours)
        with self._part("for recoveries"):
            # What failed and is published again by now is one alert.
            self._take_recoveries([each for each in self.ledger.incidents if each.run_id not in known])
        if self._alerts.watched or self.ledger.late:
            with self._part("for late tables"):
                self._take_late_tables()
        with self._part("for failed backfills"):
            self._take_backfills()
        self._end_counted()
        self.ledger = replace(self.ledger, faults=tuple(dict.fromkeys(self._parts.failed)))
        return self.ledger

    @contextmanager
    def _part(self, what: str) -> Generator[None]:
        """Let a part of the look, or one of what it looks at, fail by itself: what it has begun is left to the next look."""
        before, count = self.ledger, len(self._parts.failed)
        with self._parts.part(what):
            yield
        if len(self._parts.failed) > count:
            self.ledger = before

    def _of_today(self, ledger: ReceiverLedger) -> ReceiverLedger:
        """Return the ledger with the receivers of today, and without what is too old to be sent."""
        oldest, news = self._now - KEPT.total_seconds(), list[News]()
        standings = {name: ledger.of(name) for name in self._receivers}
        for each in ledger.news:
            for name in set(each.left) - set(standings):
                self._log.warning(
                    f"the alert {each.id} is for the receiver {name}, that is not set any more: {each.title}"
                )
            left = tuple(name for name in each.left if name in standings)
            # Of one that nobody has got, all receivers of today do: a name can change while an alert waits.
            left = left if left or each.is_told else self._receivers
            kept = left if each.at >= oldest else self._to_be_ended(each, left)
            if kept:
                news.append(replace(each, left=kept))
            for name in set(left) - set(kept):
                standings[name] = replace(standings[name], lost=standings[name].lost + each.count)
                self._log.error(f"the alert {each.id} was not sent to the receiver {name} within 48 h: {each.title}")
        return replace(ledger, news=tuple(news), standings=standings)

    def _to_be_ended(self, news: News, left: Sequence[str]) -> tuple[str, ...]:
        """Return the pagers that an old alert ends an incident for: they were told of it, and nothing else closes it."""
        is_end = news.what in ENDS and news.at >= self._now - ENDS_KEPT_SECONDS
        return tuple(name for name in left if is_end and name in self._pagers)

    def _add(
        self, what: What, of: str, message: tuple[str, str], *, at: float | None = None, to: Sequence[str] = ()
    ) -> None:
        title, body = message
        id_ = uuid4().hex[:_ID_CHARACTERS]
        at = self._now if at is None else at
        left = tuple(name for name in self._receivers if name in to or not to)
        self.ledger = self.ledger.added(News(id_, what, of, at, title, body, left), pagers=self._pagers)

    def _to(self, names: Iterable[str], *, told: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return which receivers get an alert about some tables, and those that were told before: who got the first hears of the end.

        Args:
            names: The tables.
            told: The receivers of what was told before, empty for all; None if nothing was.
        """
        to = self._alerts.receivers_of(names, self._receivers)
        return to if told is None else tuple(name for name in self._receivers if name in (*to, *told) or not told)

    def _take_failures(self, *, surely_ours: bool) -> None:
        started, here = time.monotonic(), self._alerts.here
        found = untaken(self._alerts, self._instance, self._seen.sweep, tag=RECEIVERS, since=self.ledger.began_at)
        if surely_ours and here is not None:
            found = [each for each in found if here.surely_has(each.dagster_run)]
        # What waits elsewhere stays among the oldest for two days, and must not keep later ones away.
        new = [each for each in found if each.dagster_run.run_id not in self.ledger.taking and not self._waits(each)]
        new = new[:TAKEN_PER_LOOK]
        taken = list[str]()
        for record in self._due(without_interrupted(self._instance, new, until=started + TAKING_SECONDS / 2)):
            if time.monotonic() > started + TAKING_SECONDS:
                break
            with self._part(f"at run {record.dagster_run.run_id}"):
                self._take_failure(record, verifies=not taken)
                taken.append(record.dagster_run.run_id)
        self.ledger = replace(self.ledger, taking=(*self.ledger.taking, *taken))

    def _due(self, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
        """Leave out what a snooze or quiet hours hold back, and what the digest in Slack tells; without Slack there is none."""
        if not records:
            return []
        hold_back(self._alerts, self._instance, records, log=self._log)
        due = [record for record in read_again(self._instance, records) if not self._waits(record)]
        return sorted(due, key=ended_at_of)

    def _waits(self, record: dg.RunRecord) -> bool:
        """Return whether a failure is held back, or left to the digest, by its entry in Slack's ledger."""
        return _is_held(record, self._now, is_without_slack=self._is_without_slack)

    def _take_failure(self, record: dg.RunRecord, *, verifies: bool) -> None:
        failure, run_id = self._described(record, verifies=verifies), record.dagster_run.run_id
        if failure is None:
            return self._add("failed", run_id, plain_text(lost_message(run_id, style=self._style)))
        incident = next((one for one in self.ledger.incidents if one.fingerprint == failure.fingerprint), None)
        if incident is not None:
            return self._repeat(incident, failure, record)
        message, to = plain_text(failure_message(failure, style=self._style)), self._to(_names(failure))
        self._add("failed", run_id, message, at=ended_at_of(record), to=to)
        if failure.tables:
            members = (run_id,) if is_in_parts(record.dagster_run) else ()
            at = ended_at_of(record)
            one = Incident(run_id, failure.fingerprint, at, at, self._now, message[0], members=members, to=to)
            self._open(one)
        return None

    def _open(self, incident: Incident) -> None:
        incidents = (*self.ledger.incidents, incident)
        for each in incidents[:-MOST_INCIDENTS]:
            self._log.error(
                f"more than {MOST_INCIDENTS} incidents are open: the recovery of this one will not be told, and a pager keeps it open: "
                f"{each.title} (run {each.run_id})"
            )
        self.ledger = replace(self.ledger, incidents=incidents[-MOST_INCIDENTS:])

    def _described(self, record: dg.RunRecord, *, verifies: bool) -> RunFailure | None:
        """Describe a run. Asking Snowflake takes up to 25 s: that is done for one run of a look."""
        try:
            if verifies:
                return describe_verified(self._alerts, self._instance, record, log=self._log)
            return describe(self._alerts, self._instance, record)
        except Exception as error:  # noqa: BLE001 - an alert that says little is better than none
            self._log.error(f"run {record.dagster_run.run_id} cannot be described, got {type(error).__name__}: {error}")
            return None

    def _repeat(self, incident: Incident, failure: RunFailure, record: dg.RunRecord) -> None:
        at, count, run_id = ended_at_of(record), incident.count + 1, record.dagster_run.run_id
        to = self._to(_names(failure), told=incident.to)
        one = replace(incident, count=count, last_failed_at=max(incident.last_failed_at, at))
        if incident.members:
            one = replace(one, members=(*incident.members, run_id)[-MOST_MEMBERS:])
        is_again = self._now - incident.told_at >= AGAIN_SECONDS
        # Those that the file names by now, and that have not heard of it, do not wait.
        due = to if is_again else tuple(name for name in to if name not in (incident.to or to))
        if due and not self._is_acknowledged(incident):
            title, body = plain_text(repeat_message(failure, style=self._style, count=count))
            self._add("again", incident.run_id, (incident.title, f"{title}\n{body}"), at=at, to=due)
            one = replace(one, told_at=self._now if is_again else incident.told_at, to=to)
        self._keep(one)

    def _is_acknowledged(self, incident: Incident) -> bool:
        """Return whether a person has taken it in Slack. There it may begin with another run: with the last of those that were held back."""
        run = self._instance.get_run_by_id(incident.run_id)
        first_id = LedgerEntry.of(run).first if run is not None else ""
        first = self._instance.get_run_by_id(first_id) if first_id else run
        return first is not None and Acknowledgement.of(first) is not None

    def _keep(self, incident: Incident) -> None:
        kept = (incident if each.run_id == incident.run_id else each for each in self.ledger.incidents)
        self.ledger = replace(self.ledger, incidents=tuple(kept))

    def _take_recoveries(self, incidents: Sequence[Incident]) -> None:
        tables = self._tables_of(incidents)
        for incident in self._materialized_since(incidents, tables):
            with self._part(f"at the recovery of run {incident.run_id}"):
                self._take_recovery(incident, tables[incident.run_id])

    def _take_recovery(self, incident: Incident, names: Sequence[str]) -> None:
        if not self._is_over(incident, names):
            return
        self._forget_untold(incident.run_id)
        self._add("recovered", incident.run_id, _recovery(incident, names), to=self._to(names, told=incident.to))
        left = tuple(each for each in self.ledger.incidents if each.run_id != incident.run_id)
        self.ledger = replace(self.ledger, incidents=left)

    def _tables_of(self, incidents: Sequence[Incident]) -> Mapping[str, tuple[str, ...]]:
        """Return the tables of the incidents, by the first run; those of some that were not known are read."""
        seen = self._seen
        seen.unreadable = {run_id: at for run_id, at in seen.unreadable.items() if at > self._now}
        unknown = [each.run_id for each in incidents if each.run_id not in {*seen.tables, *seen.unreadable}]
        for record in records_of(self._instance, unknown[-INCIDENTS_DESCRIBED:]):
            if names := tables_of(self._alerts, self._instance, record):
                seen.tables[record.dagster_run.run_id] = names
            else:
                seen.unreadable[record.dagster_run.run_id] = self._now + UNREADABLE_SECONDS
        open_ = {each.run_id for each in self.ledger.incidents}
        self._seen.tables = {run_id: names for run_id, names in self._seen.tables.items() if run_id in open_}
        return self._seen.tables

    def _materialized_since(
        self, incidents: Sequence[Incident], tables: Mapping[str, Sequence[str]]
    ) -> Sequence[Incident]:
        """Return the incidents with a materialization of each of their first tables since they failed."""
        parts = {each.run_id: tables.get(each.run_id, ())[:RECOVERY_PART] for each in incidents}
        asked = list(dict.fromkeys(name for part in parts.values() for name in part))
        at = last_materialized_at(self._instance, [name.split(".") for name in asked]) if asked else {}

        def is_one(one: Incident) -> bool:
            since = one.failed_at if one.members else one.last_failed_at
            part = parts[one.run_id]
            return bool(part) and all(at.get(tuple(name.split(".")), 0) > since for name in part)

        return [each for each in incidents if is_one(each)]

    def _is_over(self, incident: Incident, names: Sequence[str]) -> bool:
        if incident.members:
            return are_parts_published(self._alerts, self._instance, records_of(self._instance, incident.members))
        return names_published_since(self._alerts, self._instance, names, since=incident.last_failed_at)

    def _end_counted(self) -> None:
        """Close at the pagers what counted several alerts, once nothing is open that it may have counted."""
        if not self.ledger.counted or self.ledger.incidents or self.ledger.late:
            return
        for of, names in self.ledger.counted.items():
            self._forget_untold(of)
            if to := [name for name in self._receivers if name in names and name in self._pagers]:
                title = "Published again: all tables of the alerts that were counted"
                self._add("recovered", of, (title, "None of them is open any more."), to=to)
        self.ledger = replace(self.ledger, counted={})

    def _forget_untold(self, of: str) -> None:
        """Take away what is over before a receiver was told of it: the next alert says both. What may have arrived stays."""
        under_way = {name: self.ledger.of(name).sending for name in self._receivers}
        news = [
            replace(each, left=tuple(name for name in each.left if each.id in under_way.get(name, ())))
            if each.of == of
            else each
            for each in self.ledger.news
        ]
        self.ledger = replace(self.ledger, news=tuple(each for each in news if each.left))

    def _take_late_tables(self) -> None:
        found = {each.id: each for each in read_ledger(self._instance, self._alerts.location).latenesses}
        for lateness in found.values():
            # What waits for the digest is told there; without Slack there is none.
            is_told = lateness.is_told or self._is_without_slack
            if is_told and not is_quiet(self._alerts, lateness):
                with self._part(f"at {', '.join(lateness.tables)}, late,"):
                    self._take_lateness(lateness)
        for id_, (_, title, to) in self.ledger.late.items():
            if id_ not in found and title:
                # Its end was told to Slack, and dropped, between two looks: in time again, or not watched any more.
                self._forget_untold(id_)
                self._add("fresh", id_, (f"Over: {title}"[:200], title), to=to)
        kept = {id_: each for id_, each in self.ledger.late.items() if id_ in found}
        self.ledger = replace(self.ledger, late=kept)

    def _take_lateness(self, lateness: Lateness) -> None:
        watched = {table.name: table for table in self._alerts.watched}
        taken, title, told = self.ledger.late.get(lateness.id, (0, "", None))
        to = self._to(lateness.tables, told=told)
        tellings = lateness.tellings or (Telling("late", tuple(lateness.tables), self._now),)
        for telling in tellings[taken:]:
            if telling.what == "page":
                # A receiver has the alert already.
                continue
            if telling.what == "fresh":
                made = _in_time(lateness, watched, style=self._style)
                self._forget_untold(lateness.id)
            elif telling.what == "more":
                made = plain_text(more_message(lateness, telling.tables, watched, style=self._style))
            else:
                made = plain_text(late_message(lateness, watched, style=self._style))
            # Told: a lateness that is gone from the other ledger later is no news any more.
            title = "" if telling.what == "fresh" else title or made[0]
            self._add("fresh" if telling.what == "fresh" else "late", lateness.id, made, at=telling.at, to=to)
        if len(tellings) != taken:
            late = {**self.ledger.late, lateness.id: (len(tellings), title, to)}
            self.ledger = replace(self.ledger, late=late)

    def _take_backfills(self) -> None:
        for backfill in failed_backfills(self._alerts, self._instance, dict.fromkeys(self.ledger.backfills, "told")):
            if backfill.failed_at.timestamp() < self.ledger.began_at:
                continue
            with self._part(f"at backfill {backfill.id}"):
                self._take_backfill(backfill)

    def _take_backfill(self, backfill: FailedBackfill) -> None:
        message = plain_text(backfill_message(backfill, alerts=self._alerts, style=self._style))
        self._add("backfill", backfill.id, message, at=backfill.failed_at.timestamp(), to=self._to(backfill.tables))
        told = (*self.ledger.backfills, backfill.id)[-MOST_BACKFILLS:]
        self.ledger = replace(self.ledger, backfills=told)


def new_ledger(now: float) -> ReceiverLedger:
    """Return the ledger of a first look: what failed within the hour is told."""
    return ReceiverLedger(now - RECENT.total_seconds())


def untaken_for_long(alerts: Alerts, instance: dg.DagsterInstance, *, is_without_slack: bool) -> int:
    """Return how many failed runs the receivers' sensor should have taken by now: it is off, or its ticks fail.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        is_without_slack: Whether Slack is not set up: no digest tells there what can wait.
    """
    now, ledger = alerts.clock(), read_receivers(instance, alerts.location) or new_ledger(alerts.clock())
    found = untaken(alerts, instance, Sweep(), tag=RECEIVERS, since=ledger.began_at)
    latest, taking = now - SILENT_SECONDS, set(ledger.taking)
    old = [each for each in found if ended_at_of(each) < latest and each.dagster_run.run_id not in taking]
    return sum(not _is_held(each, latest, is_without_slack=is_without_slack) for each in old)


def _is_held(record: dg.RunRecord, since: float, *, is_without_slack: bool) -> bool:
    """Return whether a failure was held back until a moment, or is left to the digest, by its entry in Slack's ledger."""
    entry = LedgerEntry.of(record.dagster_run)
    is_held = entry.status == "held" and entry.next_at > since
    return is_held or (entry.status in ("queued", "digest") and not is_without_slack)


def mark_taken(instance: dg.DagsterInstance, ledger: ReceiverLedger) -> ReceiverLedger:
    """Tag the runs that a written ledger has taken, and return it without them. Safe to repeat."""
    for record in records_of(instance, ledger.taking):
        run = record.dagster_run
        if own(run, RECEIVERS) is None:
            instance.add_run_tags(run.run_id, {RECEIVERS: bound(run.run_id, "taken")})
    return replace(ledger, taking=())


def _names(failure: RunFailure) -> list[str]:
    return [table.name for table in failure.tables]


def _in_time(lateness: Lateness, watched: Mapping[str, Watched], *, style: Style) -> tuple[str, str]:
    """Return the alert that tables are in time again; it says since when they were late, for a receiver that did not get that."""
    title, body = plain_text(fresh_message(lateness, watched, style=style))
    return title, f"{body}\n{plain_text(late_message(lateness, watched, style=style))[1]}".strip()


def _recovery(incident: Incident, names: Sequence[str]) -> tuple[str, str]:
    """Return the alert of a recovery; it says what failed, for a receiver that did not get that."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")  # noqa: PLR2004
    times = f", {incident.count:,} times, last on {moment(incident.last_failed_at)}" if incident.count > 1 else ""
    body = f"{incident.title}\nIt failed on {moment(incident.failed_at)}{times}, and is published again."
    return f"Published again: {shown}"[:200], body
