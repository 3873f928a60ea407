"""The daily digest: one message for each channel about what need not be told at once. Nothing in it is lost, and nothing is told twice."""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import dagster as dg

from run_elt_dagster.alerts.blocks import Message
from run_elt_dagster.alerts.causes import causes_of, groups_of, headline
from run_elt_dagster.alerts.delivery import Draft, attempt, let_out, missing, take_into_digest
from run_elt_dagster.alerts.digest_ledger import Digest, DigestLedger, Line, read_digests, write_digests
from run_elt_dagster.alerts.digest_message import digest_message
from run_elt_dagster.alerts.failed_runs import PAGE, ended_at_of, events_of, is_ours, records_of
from run_elt_dagster.alerts.failure import RunFailure
from run_elt_dagster.alerts.holding import LONGEST_SECONDS
from run_elt_dagster.alerts.incidents import (
    are_parts_published,
    are_published_since,
    declared_of,
    describe_in_short,
    failures_told,
    is_in_parts,
    names_published_since,
    open_firsts,
)
from run_elt_dagster.alerts.late_ledger import LateLedger, read_ledger
from run_elt_dagster.alerts.ledger import LedgerEntry, config_of, start_of
from run_elt_dagster.alerts.posting import FROZEN_ERRORS, is_gone, update
from run_elt_dagster.alerts.scope import Alerts, Known, alerting_statuses
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.alerts.snoozes import read_snoozes
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.local_time import TimeOfDay
from run_elt_dagster.runs.history import last_materialized_at
from run_elt_dagster.runs.tags import ALERT

# Runs of one look whose checks are read; the next look goes on with the others.
RUNS_READ = 500
# Of one look with the next: clocks of several machines differ.
OVERLAP_SECONDS = 300
Checks = Callable[[], Collection[tuple[str, str]]]
_EVALUATED = {dg.DagsterEventType.ASSET_CHECK_EVALUATION}
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


@dataclass(frozen=True)
class Verdict:
    """What a run says of a check that only warns.

    Attributes:
        line: What a digest says of it.
        passed: Whether it held.
    """

    line: Line
    passed: bool


def look_for_digest(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    cursor: str | None,
    *,
    log: logging.Logger,
    checks: Checks | None = None,
    known: Known | None = None,
) -> tuple[str, str]:
    """Add to the digests what is new, post those that are due, and bring the posted ones up to date. Safe to repeat.

    Args:
        alerts: Whose tables.
        instance: With the history.
        slack: Where to.
        cursor: What the last look has returned.
        log: Of the tick.
        checks: Returns the checks of the code location, by table and name; None if they are not known.
        known: What the looks before have read of the open incidents.

    Returns:
        The next cursor, and what was found, for the tick.
    """
    before = read_digests(instance, alerts.location)
    verdicts, following = _verdicts(alerts, instance, cursor, log=log) if alerts.rules else ([], cursor or "")
    queued = _queued(alerts, instance)
    lines = [*_failed_lines(alerts, instance, queued, log=log), *_late_lines(alerts, instance, before)]
    lines += [verdict.line for verdict in verdicts if not verdict.passed]
    ledger = _added(alerts, _rolled_over(alerts, before, checks), lines)
    ledger = _over(alerts, instance, ledger, verdicts, log=log)
    if ledger != before:
        write_digests(instance, alerts.location, ledger)
    for record in queued:
        take_into_digest(instance, record.dagster_run.run_id)
    paged = _paged(alerts, instance, ledger, known or Known())
    if paged != ledger:
        write_digests(instance, alerts.location, paged)
    ledger = _Delivery(alerts, instance, slack, paged, log=log).run()
    reasons = sorted({digest.entry.reason for digest in ledger.waiting})
    words = f"{counted(sum(not line.over_at for line in ledger.lines), 'lines')}, {counted(len(ledger.waiting), 'digests wait', 'digest waits')}. {' '.join(reasons)}"
    return following, words.strip()


def end_digests(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, *, log: logging.Logger) -> bool:
    """Post at once what waits for a digest, since no file declares a severity any more; return whether there was something left.

    What is posted goes on being brought up to date until its day is over. Safe to repeat.
    """
    before, queued = read_digests(instance, alerts.location), _queued(alerts, instance)
    if not before.digests and not queued:
        return False
    look_for_digest(alerts, instance, slack, None, log=log)
    return True


def checks_of(repository: dg.RepositoryDefinition) -> frozenset[tuple[str, str]]:
    """Return the checks that a code location defines, by table and name: those of files, and those of people's own code."""
    specs = (
        spec.key
        for each in {id(each): each for each in repository.assets_defs_by_key.values()}.values()
        for spec in each.check_specs
    )
    return frozenset((".".join(key.asset_key.path), key.name) for key in (*specs, *repository.asset_checks_defs_by_key))


def _rolled_over(alerts: Alerts, ledger: DigestLedger, checks: Checks | None) -> DigestLedger:
    """Return the ledger of today: a digest that was posted on another day is followed by one with what is not over."""
    if not alerts.rules:
        return _last_ones(alerts, ledger)
    digests: list[Digest] = []
    for digest in ledger.digests:
        due_at = _last_due(alerts, digest.due_at) if digest.is_posted else digest.due_at
        if due_at == digest.due_at:
            digests.append(digest)
        elif left := tuple(line for line in digest.lines if not line.over_at and _can_end(alerts, line, checks)):
            digests.append(Digest(uuid.uuid4().hex, digest.route, due_at, left))
    return DigestLedger(tuple(digests))


def _last_ones(alerts: Alerts, ledger: DigestLedger) -> DigestLedger:
    """Return the ledger after the last severity is gone: what waits is due now, and no digest follows one that was posted.

    A late table has a message of its own from then on.
    """
    watched = {table.name for table in alerts.watched}
    of_today = [each for each in ledger.digests if each.is_posted and _last_due(alerts, each.due_at) == each.due_at]
    waiting = [
        replace(each, due_at=min(each.due_at, alerts.clock()), lines=lines)
        for each in ledger.digests
        if not each.is_posted
        and (lines := tuple(one for one in each.lines if one.what != "late" or one.tables[0] not in watched))
    ]
    return DigestLedger((*of_today, *waiting))


def _can_end(alerts: Alerts, line: Line, checks: Checks | None) -> bool:
    """Return whether it can be seen that a line is over: not of a table, or of a check, that is gone. Such a line is told once."""
    if line.what != "warned":
        return any(name in alerts.owners for name in line.tables)
    (name,) = line.tables
    return name in alerts.rules and (checks is None or (name, line.key.split("|")[-1]) in checks())


def _last_due(alerts: Alerts, due_at: float) -> float:
    """Return the last moment for a digest by now, after one that was due; itself if none has come since."""
    at = TimeOfDay.of(alerts.settings.digest_at)
    while (following := _next(at, due_at)) <= alerts.clock():
        due_at = following
    return due_at


def _next(at: TimeOfDay, moment: float) -> float:
    return at.next_after(datetime.fromtimestamp(moment, UTC)).timestamp()


def _added(alerts: Alerts, ledger: DigestLedger, lines: Sequence[Line]) -> DigestLedger:
    at = TimeOfDay.of(alerts.settings.digest_at)
    for line in lines:
        route = alerts.channel_of(line.tables)
        due_at = _next(at, alerts.clock()) if alerts.rules else alerts.clock()
        digest = ledger.of(route) or Digest(uuid.uuid4().hex, route, due_at)
        ledger = ledger.with_digest(digest.with_line(line))
    return ledger


def _queued(alerts: Alerts, instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Return the failed runs that are to be in a digest, and in none yet, the oldest first."""
    queued = dg.RunsFilter(tags={ALERT: "queued"}, statuses=alerting_statuses(alerts))
    records = instance.get_run_records(queued, limit=PAGE, ascending=True)

    def is_one(run: dg.DagsterRun) -> bool:
        entry = LedgerEntry.of(run)
        # A run that was held back before the sensors knew their location has none.
        is_here = entry.location == alerts.location or (not entry.location and is_ours(alerts, instance, run))
        return entry.status == "queued" and is_here

    return [record for record in records if is_one(record.dagster_run)]


def _failed_lines(
    alerts: Alerts, instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], *, log: logging.Logger
) -> Iterator[Line]:
    for record in records:
        failure = describe_in_short(alerts, instance, record, log=log)
        yield _failed_line(alerts, record, failure)


def _failed_line(alerts: Alerts, record: dg.RunRecord, failure: RunFailure | None) -> Line:
    """Return what a digest says of a failed run; of one that cannot be described, that it failed."""
    run_id, at = record.dagster_run.run_id, ended_at_of(record)
    if failure is None:
        words, tables, key = "a run failed, and its events cannot be read", (), run_id
    else:
        style = alerts.style()
        groups = groups_of(failure, style)
        words = causes_of(groups, failure, style) or headline(failure, groups, style)
        tables, key = tuple(dict.fromkeys(table.name for table in failure.tables)), failure.fingerprint
    return Line(f"failed|{key}", "failed", tables, words, at, at, run_id=run_id, runs=(start_of(run_id),), row_at=at)


def _late_lines(alerts: Alerts, instance: dg.DagsterInstance, ledger: DigestLedger) -> Iterator[Line]:
    """Yield the late tables whose lateness is told in a digest, those that are in none yet."""
    told = {line.key for line in ledger.lines if not line.over_at}
    for name, table in _late_tables(alerts, instance).items():
        line = Line(f"late|{name}", "late", (name,), "readers see old rows, or none", table, table, runs=(str(table),))
        if line.key not in told:
            yield line


def _late_tables(alerts: Alerts, instance: dg.DagsterInstance) -> Mapping[str, float]:
    """Return since when which tables are late whose alerts wait for a digest; nothing is asked where none is watched."""
    if not any(alerts.severity_of([table.name]) == "digest" for table in alerts.watched):
        return {}
    late = read_ledger(instance, alerts.location).late
    return {name: table.since for name, table in late.items() if alerts.severity_of([name]) == "digest"}


def _verdicts(
    alerts: Alerts, instance: dg.DagsterInstance, cursor: str | None, *, log: logging.Logger
) -> tuple[list[Verdict], str]:
    """Return what the runs since the last look say of checks that only warn, and the next cursor.

    It keeps which runs were read: their tags can change later, and the looks overlap.
    """
    now = alerts.clock()
    kept = json.loads(cursor or "{}")
    after, seen = float(kept.get("after", now - OVERLAP_SECONDS)), set[str](kept.get("seen", ()))
    ended = dg.RunsFilter(statuses=_ENDED, updated_after=datetime.fromtimestamp(after, UTC))
    records = instance.get_run_records(ended, limit=RUNS_READ, order_by="update_timestamp", ascending=True)
    is_all = len(records) < RUNS_READ
    following = max(after, now - OVERLAP_SECONDS) if is_all else records[-1].update_timestamp.timestamp()
    read = {start_of(record.dagster_run.run_id) for record in records}
    found: list[Verdict] = []
    for record in records:
        if start_of(record.dagster_run.run_id) in seen or ended_at_of(record) < after - OVERLAP_SECONDS:
            continue
        try:
            if is_ours(alerts, instance, record.dagster_run):
                found += _verdicts_of(alerts, instance, record)
        except Exception as error:  # noqa: BLE001 - one run whose events cannot be read must not stop the digest
            log.error(f"checks of run {record.dagster_run.run_id} cannot be read, got {type(error).__name__}: {error}")
    return found, json.dumps({"after": following, "seen": sorted(read)})


def _verdicts_of(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> Iterator[Verdict]:
    run_id, at = record.dagster_run.run_id, ended_at_of(record)
    for entry in events_of(instance, run_id, _EVALUATED):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if not isinstance(data, dg.AssetCheckEvaluation):
            continue
        # A check that holds ends its line, though its file says another severity by now.
        if not data.passed and data.severity is not dg.AssetCheckSeverity.WARN:
            continue
        name = ".".join(data.asset_key.path)
        if name in alerts.rules:
            words = f"check {data.check_name}: {data.description or 'it does not pass'}"
            key, start = f"warned|{name}|{data.check_name}", start_of(run_id)
            yield Verdict(Line(key, "warned", (name,), words, at, at, run_id=run_id, runs=(start,)), passed=data.passed)


def _over(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    ledger: DigestLedger,
    verdicts: Sequence[Verdict],
    *,
    log: logging.Logger,
) -> DigestLedger:
    """Return the ledger with what is over: checks that hold again, tables that are published again, or in time again."""
    over = {v.line.key: v.line.last_at for v in verdicts if v.passed}
    open_ = [line for line in ledger.lines if not line.over_at]
    # Whatever its file says by now: with another severity it has a message of its own, and is not over.
    has_late = any(line.what == "late" for line in open_)
    lateness = read_ledger(instance, alerts.location) if has_late else LateLedger()
    over |= {line.key: alerts.clock() for line in open_ if line.what == "late" and line.tables[0] not in lateness.late}
    paged = {f"late|{name}": each.paged_at for each in lateness.latenesses for name in each.late if each.paged_at}
    over |= {line.key: alerts.clock() for line in _published_again(alerts, instance, open_, log=log)}

    def looked_at(line: Line) -> Line:
        ended, line = over.get(line.key, 0), replace(line, paged_at=paged.get(line.key, line.paged_at))
        return replace(line, over_at=ended) if ended > line.last_at and not line.over_at else line

    digests = (replace(each, lines=tuple(map(looked_at, each.lines))) for each in ledger.digests)
    return DigestLedger(tuple(digests))


def _paged(alerts: Alerts, instance: dg.DagsterInstance, ledger: DigestLedger, known: Known) -> DigestLedger:
    """Let out the failures whose tables page by now: the last run of the line alerts, as one of a table that pages."""

    @cache
    def firsts() -> Sequence[dg.RunRecord]:
        return open_firsts(alerts, instance)

    def failures(line: Line, name: str, least: int | None) -> int:
        """Return how often a table has failed in a row by the last run of a line: alone, and beside tables that are more urgent."""
        row = [each for each in in_row if name in each.tables]
        count = sum(each.row for each in row)
        if least is None or count >= least:
            return count
        told = failures_told(alerts, instance, name, firsts(), until=line.last_at, known=known)
        return max(count, told + sum(each.row_untold for each in row))

    in_row = [line for line in ledger.lines if line.what == "failed" and not line.over_at]
    failing = [line for line in in_row if not line.paged_at]

    def words(line: Line) -> str:
        found = (
            rule.words(failures=failures(line, name, rule.failures), seconds=alerts.clock() - line.row_at)
            for name, rule in alerts.escalations_of(line.tables).items()
        )
        return next(filter(None, found), "")

    due = {line.key: why for line in failing if (why := words(line))}
    snoozes = read_snoozes(alerts, instance) if due else {}
    out = {
        line.key
        for line in failing
        if line.key in due
        # An older failure is not looked for any more: nothing would come of it.
        and alerts.clock() - line.last_at < LONGEST_SECONDS
        and not all(name in snoozes for name in line.tables)
        and _let_out(alerts, instance, line, due[line.key])
    }
    digests = tuple(
        replace(
            digest,
            lines=tuple(replace(line, paged_at=alerts.clock()) if line.key in out else line for line in digest.lines),
        )
        for digest in ledger.digests
    )
    return DigestLedger(digests)


def _let_out(alerts: Alerts, instance: dg.DagsterInstance, line: Line, why: str) -> bool:
    """Return whether the last run of a line is let out, by this look or by one before that was killed."""
    if let_out(instance, line.run_id, words=why, clock=alerts.clock):
        return True
    run = instance.get_run_by_id(line.run_id)
    return run is not None and bool(LedgerEntry.of(run).paged_at)


def _published_again(
    alerts: Alerts, instance: dg.DagsterInstance, lines: Sequence[Line], *, log: logging.Logger
) -> Iterator[Line]:
    """Yield the failures that are over. One query says of all which may be; only these are looked at."""
    failed = [line for line in lines if line.what == "failed" and line.tables]
    asked = {line.key: declared_of(alerts, line.tables) for line in failed}
    names = list(dict.fromkeys(name for each in asked.values() for name in each))
    at = last_materialized_at(instance, [name.split(".") for name in names]) if names else {}
    maybe = [
        line for line in failed if all(at.get(tuple(name.split(".")), 0) > line.last_at for name in asked[line.key])
    ]
    records = {record.dagster_run.run_id: record for record in records_of(instance, [line.run_id for line in maybe])}
    for line in maybe:
        record = records.get(line.run_id)
        if record is None:
            # Its run was deleted.
            is_over = names_published_since(alerts, instance, line.tables, since=line.last_at)
        elif is_in_parts(record.dagster_run):
            is_over = are_parts_published(alerts, instance, _runs_of(alerts, instance, line) or [record])
        else:
            failure = describe_in_short(alerts, instance, record, log=log)
            is_over = failure is not None and are_published_since(alerts, instance, failure, since=line.last_at)
        if is_over:
            yield line


def _runs_of(alerts: Alerts, instance: dg.DagsterInstance, line: Line) -> list[dg.RunRecord]:
    """Return the last runs of a line: each may lack partitions of its own."""
    in_digests = dg.RunsFilter(tags={ALERT: ["queued", "digest"]}, statuses=alerting_statuses(alerts))
    records = instance.get_run_records(in_digests, limit=PAGE)
    return [record for record in records if start_of(record.dagster_run.run_id) in line.runs]


class _Delivery:
    """The messages of one look. The ledger is written before Slack is asked and after it, so a process that was killed is seen."""

    def __init__(
        self, alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, ledger: DigestLedger, *, log: logging.Logger
    ) -> None:
        self._alerts, self._instance, self._slack, self._log = alerts, instance, slack, log
        self.ledger = ledger

    def run(self) -> DigestLedger:
        """Post what is due, and change what is posted; none if Slack takes nothing."""
        for digest in self.ledger.digests:
            if self._slack.missing:
                self._keep_for_later(digest)
            elif not self._is_right(digest):
                # The next one would fare no better, and a tick has 60 s.
                break
        return self.ledger

    def _is_right(self, digest: Digest) -> bool:
        """Return whether Slack has what it is to have of a digest by now."""
        if digest.is_posted:
            return self._bring_up_to_date(digest)
        return not self._is_due(digest) or self._post(digest)

    def _is_due(self, digest: Digest) -> bool:
        now = self._alerts.clock()
        return (
            bool(digest.lines) and digest.due_at <= now and digest.entry.is_due(now=now, config=config_of(self._slack))
        )

    def _message(self, digest: Digest) -> Message:
        style = replace(self._alerts.style(), mentions={})
        return digest_message(digest, self._alerts.owners, style=style)

    def _post(self, digest: Digest) -> bool:
        digest, message = replace(digest, shown=""), self._message(digest)
        was_sent = digest.entry.ambiguous or digest.entry.status == "posting"
        entry, outcome = attempt(
            self._slack,
            digest.entry,
            Draft(message, location=self._alerts.location, channel=digest.route),
            digest.id,
            clock=self._alerts.clock,
            keep=lambda posting: self._keep(replace(digest, entry=posting)),
        )
        if entry.status == "delivered" and not was_sent:
            due_at = _last_due(self._alerts, digest.due_at)
            digest = replace(digest, due_at=due_at, shown=_fingerprint(message))
        if outcome.kind == "refused":
            # For what it says. At the next day's hour it says something else, and no later digest waits behind it for ever.
            entry = replace(entry, next_at=_next(TimeOfDay.of(self._alerts.settings.digest_at), self._alerts.clock()))
        # What was found may say what an attempt before has said: the next look brings it up to date.
        self._keep(replace(digest, entry=entry))
        if entry.status != "delivered":
            self._log.warning(f"a digest was not delivered: {entry.reason}")
        return entry.status == "delivered"

    def _bring_up_to_date(self, digest: Digest) -> bool:
        """Change the message without a sound, if it says something else by now. One that a person has deleted is posted anew."""
        message = self._message(digest)
        if digest.shown == _fingerprint(message):
            return True
        outcome = update(self._slack.client(), digest.entry.channel, digest.entry.ts, message)
        if outcome.kind == "delivered":
            self._keep(replace(digest, shown=_fingerprint(message)))
        elif is_gone(outcome) or outcome.error in FROZEN_ERRORS:
            return self._post(replace(digest, entry=LedgerEntry()))
        else:
            self._log.warning(f"a digest was not brought up to date: {outcome.reason}")
        # What Slack refuses is of this message: the others must not wait for it.
        return outcome.kind not in ("transient", "rate limit")

    def _keep_for_later(self, digest: Digest) -> None:
        kept = missing(self._slack)
        if digest.is_posted or digest.due_at > self._alerts.clock() or digest.entry.config == kept.config:
            return
        self._log.error(
            f"{self._slack.missing} not set. This digest goes to the log only:\n{self._message(digest).text}"
        )
        self._keep(replace(digest, entry=kept))

    def _keep(self, digest: Digest) -> None:
        self.ledger = self.ledger.with_digest(digest)
        write_digests(self._instance, self._alerts.location, self.ledger)


def _fingerprint(message: Message) -> str:
    return hashlib.sha256(repr(message).encode("utf-8", "replace")).hexdigest()[:16]
