"""Why a table is late, as it looks from the outside: its run, its schedule and the daemon. Nothing of it need have failed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.failed_runs import ended_at_of
from run_elt_dagster.alerts.incidents import describe_in_short
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.model.names import short_id
from run_elt_dagster.runs.freshness import Rows, Watched, last_runs

LOG = logging.getLogger(__name__)

# A stamp this far ahead of this clock is no moment of a build. Clocks of machines that are kept in time differ by less.
AHEAD = timedelta(minutes=5)
# The daemon writes a heartbeat every 30 s.
HEARTBEAT_SECONDS = 300
_SCHEDULER = "SCHEDULER"
_LAUNCHED = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.QUEUED)


class Kind(StrEnum):
    """What makes a table late. docs/operations.md has a line for each."""

    CLOCK = "clock"
    QUEUED = "queued"
    UNDER_WAY = "under way"
    FAILED = "failed"
    SOURCE = "source"
    UPSTREAM = "upstream"
    CANCELLED = "cancelled"
    LEFT_OUT = "left out"
    NO_SCHEDULE = "no schedule"
    SCHEDULE_OFF = "schedule off"
    SCHEDULE_FAILED = "schedule failed"
    DAEMON = "daemon"
    NOT_ASKED = "not asked"


NEXT: Mapping[Kind, str] = {
    Kind.CLOCK: "Set the clock of the machine that runs the builds, then materialize the table.",
    Kind.QUEUED: "Look at the queue and its limits in the UI, under Runs. What launches the runs may be down.",
    Kind.UNDER_WAY: "Open the run: its log says how far it is. If it hangs, terminate it, then materialize the table.",
    Kind.FAILED: "Remove the cause that the alert of the run names, then materialize the table.",
    Kind.SOURCE: "Have the source loaded, then materialize the table.",
    Kind.UPSTREAM: "Remove the cause that the alert of the run names, then materialize the tables that failed and their readers.",
    Kind.CANCELLED: "Materialize the table.",
    Kind.LEFT_OUT: "Open the run: its log says what became of the table. Then materialize it.",
    Kind.NO_SCHEDULE: "Give its folder a schedule, or materialize it by what does instead of one.",
    Kind.SCHEDULE_OFF: "Switch the schedule on under Automation in the UI, then materialize the table.",
    Kind.SCHEDULE_FAILED: "Open the tick under Automation in the UI, remove its cause, then materialize the table.",
    Kind.DAEMON: "Start the daemon and look at its log. If no run comes by itself, materialize the table.",
    Kind.NOT_ASKED: "Compare the schedule with `fresh_within`: it may run less often. Then materialize the table.",
}


@dataclass(frozen=True)
class Cause:
    """Why tables are late.

    Attributes:
        kind: The class of the cause.
        words: What is known, in a sentence without its full stop.
        about: What tables that are late for the same cause share, as the id of a run or the name of a schedule.
        run_id: The run that it is about, empty if none.
        thread: Channel and Slack's id of the first message about that run, if there is one.
    """

    kind: Kind
    words: str
    about: str = ""
    run_id: str = ""
    thread: tuple[str, str] = ("", "")

    @property
    def key(self) -> str:
        """What makes two tables late for the same cause."""
        return f"{self.kind.value}|{self.about}"

    @property
    def next_step(self) -> str:
        """What a person does."""
        return NEXT[self.kind]


def run_of_cause(key: str) -> str:
    """Return the id of the run that a cause is about, by its key; something else, or nothing, if it is about none."""
    return key.partition("|")[2]


@dataclass(frozen=True)
class Outside:
    """What is read once for all late tables of a look.

    Attributes:
        alerts: Of the code location.
        instance: With the history.
        runs: The last run that was to build each table.
        schedules: The states of the schedules of this code location, by name.
        now: The moment of the look.
        scheduler_at: The last heartbeat of the scheduler; None if there was none, or if this instance keeps none.
        away: From when to when no daemon looked last, None if that is not known.
    """

    alerts: Alerts
    instance: dg.DagsterInstance
    runs: Mapping[str, dg.RunRecord]
    schedules: Mapping[str, Any]
    now: datetime
    scheduler_at: datetime | None
    away: tuple[datetime, datetime] | None = None


def read_outside(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    tables: Sequence[Watched],
    *,
    now: datetime,
    away: tuple[datetime, datetime] | None = None,
) -> Outside:
    """Read what the causes of late tables are found in: four queries, however many tables there are.

    Args:
        alerts: Of the code location.
        instance: With the history.
        tables: Those that are late.
        now: The moment of the look.
        away: From when to when no daemon looked last.
    """
    kept: list[Any] = list(instance.all_instigator_state()) if instance.schedule_storage is not None else []
    schedules = {
        state.instigator_name: state
        for state in kept
        if state.instigator_type.value == "SCHEDULE" and _is_here(alerts, state)
    }
    beat: Any = instance.get_daemon_heartbeats().get(_SCHEDULER)
    return Outside(
        alerts,
        instance,
        last_runs(instance, tables),
        schedules,
        now,
        datetime.fromtimestamp(beat.timestamp, UTC) if beat is not None else None,
        away,
    )


def cause_of(outside: Outside, table: Watched, rows: Rows | None) -> Cause:
    """Return why a table is late.

    Args:
        outside: What was read.
        table: The table.
        rows: What its readers see, None if it was never published.
    """
    if rows is not None and rows.at > outside.now + AHEAD:
        words = f"the last build is stamped {_at(rows.at)}, after this moment: the clocks of two machines differ"
        return Cause(Kind.CLOCK, words)
    run = outside.runs.get(table.name)
    if run is not None and _is_newer(outside, run, rows):
        return _of_run(outside, table, run)
    return _of_schedule(outside, table, rows)


def _is_newer(outside: Outside, record: dg.RunRecord, rows: Rows | None) -> bool:
    """Return whether the last run that was to build a table came after the rows that readers see."""
    alerts, run = outside.alerts, record.dagster_run
    if alerts.here is not None and not alerts.here.has(run, alerts.others):
        return False
    if rows is None:
        return True
    return run.run_id != rows.run_id and (not run.is_finished or _ended_at(record) > rows.built_at)


def _of_run(outside: Outside, table: Watched, record: dg.RunRecord) -> Cause:
    run = record.dagster_run
    short = short_id(run.run_id)
    if run.status in _LAUNCHED:
        where = "waits in the queue" if run.status is dg.DagsterRunStatus.QUEUED else "was launched and has not started"
        return Cause(Kind.QUEUED, f"run {short} {where} since {_at(_created_at(record))}", run.run_id, run.run_id)
    if not run.is_finished:
        begun = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else _created_at(record)
        return Cause(
            Kind.UNDER_WAY, f"run {short} is to build it, and is under way since {_at(begun)}", run.run_id, run.run_id
        )
    if run.status is dg.DagsterRunStatus.CANCELED:
        return Cause(Kind.CANCELLED, f"run {short} was cancelled at {_at(_ended_at(record))}", run.run_id, run.run_id)
    if run.status is dg.DagsterRunStatus.SUCCESS:
        words = f"run {short} ended well at {_at(_ended_at(record))} and did not publish it"
        return Cause(Kind.LEFT_OUT, words, run.run_id, run.run_id)
    return _of_failed_run(outside, table, record)


def _of_failed_run(outside: Outside, table: Watched, record: dg.RunRecord) -> Cause:
    run = record.dagster_run
    failure = describe_in_short(outside.alerts, outside.instance, record, log=LOG)
    entry = LedgerEntry.of(run)
    thread = (entry.channel, entry.thread_ts) if entry.status == "delivered" else ("", "")
    told = {each.name: each for each in failure.tables} if failure is not None else {}
    of_run = f"run {short_id(run.run_id)}, failed at {_at(_ended_at(record))},"
    if (own := told.get(table.name)) is not None:
        is_held = any(check.kind == "source_freshness" for check in own.checks)
        words = f"{of_run} {'held it back: a source was not updated' if is_held else 'did not publish it'}"
        return Cause(Kind.SOURCE if is_held else Kind.FAILED, words, run.run_id, run.run_id, thread)
    if failure is not None and table.name in failure.skipped:
        names = ", ".join(name for name in told if name in table.upstream) or "a table before it"
        words = f"{of_run} did not refresh it, since what it reads was not published: {names}"
        return Cause(Kind.UPSTREAM, words, run.run_id, run.run_id, thread)
    return Cause(Kind.FAILED, f"{of_run} was to build it", run.run_id, run.run_id, thread)


def _of_schedule(outside: Outside, table: Watched, rows: Rows | None) -> Cause:  # noqa: PLR0911 - one line a cause
    """Return why no run was to build a table since its rows were built."""
    if table.schedule is None:
        return Cause(Kind.NO_SCHEDULE, "no schedule builds it, and no run was asked to")
    name, state = table.schedule, outside.schedules.get(table.schedule)
    if state is not None and state.status.value == "STOPPED":
        return Cause(Kind.SCHEDULE_OFF, f"the schedule `{name}` is switched off", name)
    if outside.scheduler_at is None or (outside.now - outside.scheduler_at).total_seconds() > HEARTBEAT_SECONDS:
        since = f"since {_at(outside.scheduler_at)}" if outside.scheduler_at else "on this history"
        return Cause(Kind.DAEMON, f"no daemon has evaluated the schedule `{name}` {since}")
    if state is None and not outside.alerts.is_automated:
        return Cause(Kind.SCHEDULE_OFF, f"the schedule `{name}` is off by default, and was not switched on", name)
    if state is not None and (error := _failed_tick(outside.instance, state)):
        return Cause(Kind.SCHEDULE_FAILED, f"the last tick of the schedule `{name}` failed ({error})", name)
    if outside.away is not None and (rows is None or rows.built_at < outside.away[1]):
        return Cause(Kind.DAEMON, f"no daemon worked from {_at(outside.away[0])} to {_at(outside.away[1])}")
    return Cause(Kind.NOT_ASKED, f"no run was asked to build it since, though the schedule `{name}` is on", name)


def _failed_tick(instance: dg.DagsterInstance, state: Any) -> str:
    """Return the class of the error of a schedule's last tick, empty if it did not fail. Its text may hold what is secret."""
    ticks: Sequence[Any] = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
    last = next((tick for tick in ticks if tick.status.value != "STARTED"), None)
    if last is None or last.status.value != "FAILURE":
        return ""
    error = last.error
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.cls_name or "an error") if error is not None else "an error"


def _is_here(alerts: Alerts, state: Any) -> bool:
    name = state.origin.repository_origin.code_location_origin.location_name
    return alerts.here is None or alerts.here.name == name


def _created_at(record: dg.RunRecord) -> datetime:
    return (
        record.create_timestamp.astimezone(UTC)
        if record.create_timestamp.tzinfo
        else record.create_timestamp.replace(tzinfo=UTC)
    )


def _ended_at(record: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(ended_at_of(record), UTC)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
