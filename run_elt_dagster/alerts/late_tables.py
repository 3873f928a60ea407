"""Late tables: rows that readers see are older than their file allows, though nothing failed. One message for each cause, none lost."""

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from run_elt_dagster.alerts.delivery import Draft, Thread, attempt, missing
from run_elt_dagster.alerts.failed_runs import KEPT
from run_elt_dagster.alerts.incidents import counting
from run_elt_dagster.alerts.late_causes import AHEAD, HEARTBEAT_SECONDS, Cause, Outside, cause_of, read_outside
from run_elt_dagster.alerts.late_ledger import LateLedger, Lateness, LateTable, Telling, read_ledger, write_ledger
from run_elt_dagster.alerts.late_message import (
    failed_and_late_message,
    fresh_message,
    late_message,
    more_message,
    page_message,
)
from run_elt_dagster.alerts.late_pages import is_quiet, with_pages
from run_elt_dagster.alerts.ledger import LedgerEntry, config_of
from run_elt_dagster.alerts.scope import Alerts, KnownRows
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.counted import counted
from run_elt_dagster.runs.freshness import Rows, Watched, first_tried_at, published_rows

# A code location that was just loaded has as long to build what is late already. Clocks of two machines differ by less, too.
GRACE = timedelta(minutes=15)
SKEW = timedelta(minutes=1)
# Of one look: 3 ms of CPU for each. A thousand late tables are all asked about within two minutes.
ASKED_PER_LOOK = 300
# Messages of one tick; Slack takes one a second.
MESSAGES_PER_TICK = 10


def look_for_late_tables(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    cursor: str | None,
    *,
    log: logging.Logger,
    known: KnownRows | None = None,
) -> tuple[str, str]:
    """Find late tables, tell of them once, and tell when they are in time again. Safe to repeat.

    Args:
        alerts: Whose tables.
        instance: With the history.
        slack: Where to.
        cursor: What the last look has returned.
        log: Of the tick.
        known: What the looks before have read.

    Returns:
        The next cursor, and what was found, for the tick.
    """
    now = datetime.fromtimestamp(alerts.clock(), UTC)
    away = _away(cursor, now)
    before = read_ledger(instance, alerts.location)
    ledger = _with_seen(before, alerts.watched, now)
    late, rows = late_now(alerts, instance, ledger, known, now)
    ledger = _told(alerts, _over(ledger, late, now=alerts.clock()))
    ledger = _with_new(alerts, instance, ledger, late, rows, now=now, away=away)
    ledger = with_pages(alerts, instance, ledger)
    if ledger != before:
        write_ledger(instance, alerts.location, ledger)
    ledger = _Delivery(alerts, instance, slack, ledger, log=log).run()
    waiting = [telling.entry for _, telling in ledger.waiting]
    reasons = sorted({entry.reason for entry in waiting if entry.reason})
    words = f"{len(ledger.late)} of {counted(len(alerts.watched), 'tables')} late, {counted(len(waiting), 'messages wait', 'message waits')}. {' '.join(reasons)}"
    return json.dumps({"at": now.timestamp(), "away": away and [each.timestamp() for each in away]}), words.strip()


def late_in_words(alerts: Alerts, instance: dg.DagsterInstance, *, now: datetime) -> list[str]:
    """Return each late table with its rows, what it allows, and the cause: for a person who looks from outside of the daemon.

    Args:
        alerts: Whose tables.
        instance: With the history.
        now: The moment of the look.
    """
    if not alerts.watched:
        return []
    ledger, rows = (
        read_ledger(instance, alerts.location),
        published_rows(instance, alerts.watched, now=now, counts=counting(alerts, instance)),
    )
    late = [table for table in alerts.watched if _is_late(instance, ledger, table, rows[table.name], now)]
    outside = read_outside(alerts, instance, late, now=now) if late else None
    return [_in_words(outside, table, rows[table.name]) for table in late if outside is not None]


def _is_late(
    instance: dg.DagsterInstance, ledger: LateLedger, table: Watched, rows: Rows | None, now: datetime
) -> bool:
    seen = ledger.seen.get(table.name)
    seen_at = None if seen is None else datetime.fromtimestamp(seen, UTC)
    if rows is None:
        # Where no sensor has looked yet, it is expected since a run was to build it first.
        tried_at = first_tried_at(instance, table.key)
        seen_at = min((each for each in (seen_at, tried_at) if each is not None), default=None)
    return late_since(table, rows, seen_at=seen_at or now, now=now) is not None


def _in_words(outside: Outside, table: Watched, rows: Rows | None) -> str:
    seen = f"rows of {rows.at:%Y-%m-%d %H:%M} UTC" if rows is not None else "never published"
    return f"{table.name} ({seen}, {table.rule.words}; {cause_of(outside, table, rows).words})"


def late_since(table: Watched, rows: Rows | None, *, seen_at: datetime, now: datetime) -> datetime | None:
    """Return since when a table is late, None if it is not; rows with a stamp after this moment are late, for nobody knows their age."""
    if rows is not None and rows.at > now + AHEAD:
        return now
    return table.late_since(rows.at if rows is not None else None, since=seen_at, now=now - SKEW)


def _away(cursor: str | None, now: datetime) -> tuple[datetime, datetime] | None:
    """Return from when to when no daemon looked last."""
    kept = json.loads(cursor or "{}")
    if "at" in kept and now.timestamp() - kept["at"] > HEARTBEAT_SECONDS:
        return datetime.fromtimestamp(kept["at"], UTC), now
    away: list[float] | None = kept.get("away")
    return None if away is None else (datetime.fromtimestamp(away[0], UTC), datetime.fromtimestamp(away[1], UTC))


def _with_seen(ledger: LateLedger, watched: Iterable[Watched], now: datetime) -> LateLedger:
    names = [table.name for table in watched]
    return replace(ledger, seen={name: ledger.seen.get(name, now.timestamp()) for name in names})


def late_now(
    alerts: Alerts, instance: dg.DagsterInstance, ledger: LateLedger, known: KnownRows | None, now: datetime
) -> tuple[dict[str, datetime], Mapping[str, Rows | None]]:
    """Return since when which tables are late, and what readers see of them.

    Args:
        alerts: Whose tables.
        instance: With the history.
        ledger: With the tables that were seen before.
        known: What the looks before have read.
        now: The moment of the look.
    """
    known = known or KnownRows()
    ledger = _with_seen(ledger, alerts.watched, now)
    open_, watched = ledger.late, {table.name for table in alerts.watched}

    def since(table: Watched) -> datetime | None:
        seen_at = datetime.fromtimestamp(ledger.seen[table.name], UTC)
        found = late_since(table, known.rows[table.name], seen_at=seen_at, now=now)
        if found is None or table.name in open_ or found > seen_at:
            return found
        # It was late when it was first seen.
        return found if now >= seen_at + GRACE else None

    maybe = [table for table in alerts.watched if table.name not in known.rows or since(table) is not None]
    maybe.sort(key=lambda table: known.asked.get(table.name, -1))
    asked = maybe[:ASKED_PER_LOOK]
    known.rows |= published_rows(instance, asked, now=now, counts=counting(alerts, instance))
    known.asked |= {table.name: known.looks for table in asked}
    known.looks += 1
    looked_at = watched - {table.name for table in maybe[ASKED_PER_LOOK:]}
    late = {table.name: at for table in alerts.watched if table.name in looked_at and (at := since(table)) is not None}
    # What is not asked about in this look stays as it was.
    late |= {name: datetime.fromtimestamp(one.since, UTC) for name, one in open_.items() if name in watched - looked_at}
    return late, known.rows


def _over(ledger: LateLedger, late: Mapping[str, datetime], *, now: float) -> LateLedger:
    """Return the ledger with what is in time again; where all of a lateness is, that is told. What is told, or too old, is dropped."""
    changed: list[Lateness] = []
    for each in ledger.latenesses:
        tables = {
            name: replace(table, is_over=table.is_over or name not in late) for name, table in each.tables.items()
        }
        one = replace(each, tables=tables)
        if one.is_told and not one.late and not any(telling.what == "fresh" for telling in one.tellings):
            one = replace(one, tellings=(*map(_unless_it_pages, one.tellings), Telling("fresh", tuple(tables), now)))
        changed.append(one)
    oldest = now - KEPT.total_seconds()
    return replace(ledger, latenesses=tuple(each for each in changed if not each.is_done(oldest=oldest)))


def _unless_it_pages(telling: Telling) -> Telling:
    """Return a message of a lateness that is over; a page that waits for Slack wakes nobody any more."""
    return replace(telling, entry=replace(telling.entry, status="delivered")) if telling.what == "page" else telling


def _told(alerts: Alerts, ledger: LateLedger) -> LateLedger:
    """Return the ledger without what a digest has told, and does not tell any more: its file says something else by now."""
    kept = tuple(each for each in ledger.latenesses if each.is_told or alerts.severity_of(each.late) == "digest")
    return replace(ledger, latenesses=kept)


def _with_new(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    ledger: LateLedger,
    late: Mapping[str, datetime],
    rows: Mapping[str, Rows | None],
    *,
    now: datetime,
    away: tuple[datetime, datetime] | None,
) -> LateLedger:
    """Return the ledger with the tables that are late and in no lateness yet, those of one cause together."""
    new = [table for table in alerts.watched if table.name in late and table.name not in ledger.late]
    if not new:
        return ledger
    outside = read_outside(alerts, instance, new, now=now, away=away)
    by_cause: dict[str, tuple[Cause, dict[str, LateTable]]] = {}
    for table in new:
        seen = rows[table.name]
        cause = cause_of(outside, table, seen)
        missing_part = table.missing(seen.at if seen else None, now=now)
        one = LateTable(late[table.name].timestamp(), seen.at.timestamp() if seen else None, missing_part)
        route = alerts.channel_of([table.name])
        is_told = alerts.severity_of([table.name]) != "digest"
        by_cause.setdefault(f"{cause.key}|{route}|{is_told}", (cause, {}))[1][table.name] = one
    for cause, tables in by_cause.values():
        route = alerts.channel_of(tables)
        is_told = alerts.severity_of(tables) != "digest"
        joined = _joined(ledger, cause, tables, route=route, is_told=is_told, now=now.timestamp())
        ledger = ledger.with_lateness(joined if is_told else replace(joined, tellings=()))
    return ledger


def _joined(
    ledger: LateLedger, cause: Cause, tables: Mapping[str, LateTable], *, route: str, is_told: bool, now: float
) -> Lateness:
    """Return the lateness of a cause with some tables: the open one, or a new one."""
    known = next(
        (
            each
            for each in ledger.latenesses
            if (each.cause, each.route, each.is_told) == (cause.key, route, is_told) and each.late
        ),
        None,
    )
    if known is None:
        channel, ts = cause.thread
        return Lateness(
            uuid.uuid4().hex,
            cause.key,
            cause.words,
            cause.next_step,
            dict(tables),
            (Telling("late", tuple(tables), now),),
            channel,
            ts,
            is_own=not ts,
            route=route,
            is_told=is_told,
        )
    telling = Telling("more", tuple(tables), now)
    return replace(known, tables={**known.tables, **tables}, tellings=(*known.tellings, telling))


class _Delivery:
    """The messages of one look: each is posted once, and the ledger is written before and after."""

    def __init__(
        self, alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, ledger: LateLedger, *, log: logging.Logger
    ) -> None:
        self._alerts, self._instance, self._slack, self._log = alerts, instance, slack, log
        self.ledger = ledger

    def run(self) -> LateLedger:
        """Make an attempt for each message that is due, until Slack takes none; those of one lateness in their order."""
        attempts = 0
        if self._slack.is_left_out(self._alerts.settings):
            return self._without_slack()
        for lateness in self.ledger.latenesses:
            if is_quiet(self._alerts, lateness):
                continue
            for number, telling in enumerate(lateness.tellings):
                if telling.entry.status == "delivered":
                    continue
                if self._slack.missing:
                    self._keep_for_later(lateness.id, number)
                    break
                if not telling.entry.is_due(now=self._alerts.clock(), config=config_of(self._slack)):
                    break
                attempts += 1
                if attempts > MESSAGES_PER_TICK or not self._is_delivered(lateness.id, number):
                    return self.ledger
        return self.ledger

    def _without_slack(self) -> LateLedger:
        """Keep no message for Slack: it is not set up, and the other receivers have a ledger of their own.

        In quiet hours they wait too: what is told is dropped as soon as it is over, and the receivers would never hear of it.
        """
        for each in self.ledger.latenesses:
            if each.waiting and not is_quiet(self._alerts, each):
                done = LedgerEntry(status="delivered")
                tellings = tuple(replace(one, entry=done) for one in each.tellings)
                self._keep(replace(each, tellings=tellings))
        return self.ledger

    def _is_delivered(self, id_: str, number: int) -> bool:
        """Make one attempt."""
        lateness = self.ledger.of(id_)
        entry, _ = attempt(
            self._slack,
            lateness.tellings[number].entry,
            _draft(self._alerts, lateness, number),
            f"{lateness.id}/{number}",
            clock=self._alerts.clock,
            keep=lambda posting: self._keep(lateness.with_entry(number, posting)),
        )
        changed = lateness.with_entry(number, entry)
        if entry.status == "delivered" and entry.thread_ts == entry.ts:
            # A first message, also where the thread that it belonged into is gone.
            changed = replace(changed, channel=entry.channel, ts=entry.ts, is_own=True)
        self._keep(changed)
        if entry.status == "delivered":
            self._log.info(
                f"a message about late tables is delivered: {', '.join(lateness.tellings[number].tables[:5])}"
            )
        else:
            self._log.warning(f"a message about late tables was not delivered: {entry.reason}")
        return entry.status == "delivered"

    def _keep(self, lateness: Lateness) -> None:
        self.ledger = self.ledger.with_lateness(lateness)
        write_ledger(self._instance, self._alerts.location, self.ledger)

    def _keep_for_later(self, id_: str, number: int) -> None:
        lateness, kept = self.ledger.of(id_), missing(self._slack)
        entry = lateness.tellings[number].entry
        if (entry.status, entry.config) == (kept.status, kept.config):
            return
        text = _draft(self._alerts, lateness, number).message.text
        self._log.error(f"{self._slack.missing} not set. This alert goes to the log only:\n{text}")
        self._keep(lateness.with_entry(number, kept))


def _draft(alerts: Alerts, lateness: Lateness, number: int) -> Draft:
    """Return a message: the first, or a reply that also brings the first up to date where that is its own."""
    style, telling = alerts.style(() if lateness.paged_at else lateness.tables), lateness.tellings[number]
    watched = {table.name: table for table in alerts.watched}
    whole = late_message(lateness, watched, style=style)
    if not lateness.ts:
        return Draft(whole, location=alerts.location, channel=lateness.route)
    if telling.what == "fresh":
        reply = fresh_message(lateness, watched, style=style)
    elif telling.what == "more":
        reply = more_message(lateness, telling.tables, watched, style=style)
    elif telling.what == "page":
        reply = page_message(lateness, watched, style=style)
    else:
        reply = failed_and_late_message(lateness, watched, style=style)
    first = whole if lateness.is_own else None
    is_broadcast = telling.what == "page"
    thread = Thread(lateness.id, lateness.channel, lateness.ts, first, reply, is_broadcast=is_broadcast)
    return Draft(whole, thread, location=alerts.location, channel=lateness.route)
