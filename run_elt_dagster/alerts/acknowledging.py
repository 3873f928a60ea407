"""What a person says to an alert: which incidents are open, that one is taken, and that a table is to be silent for a while.

Nothing is posted here. The next tick of `slack_alert_retries` says it in Slack: what the sensors write, no other process writes. Only what is
held back for a while is made due here: no sensor is at it then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.alerts.delivery import hold
from run_elt_dagster.alerts.digest_ledger import Line, read_digests
from run_elt_dagster.alerts.failed_runs import WAITING_READ, ended_at_of
from run_elt_dagster.alerts.incidents import count_alike, open_firsts, tables_of
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.notes import NAME_LIMIT, REASON_LIMIT, Acknowledgement, shortened
from run_elt_dagster.alerts.scope import Alerts, alerting_statuses
from run_elt_dagster.alerts.snoozes import LONGEST_SECONDS, Snooze, read_snoozes, write_snooze
from run_elt_dagster.model.alert_rule import Severity
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import short_id
from run_elt_dagster.runs.tags import ALERT

SHORTEST_SECONDS = 60
# What is due within this time comes by itself. A sensor of another process may be posting it, and what that notes must stay.
DUE_SOON_SECONDS = 60
# As much of an id as a message shows.
_ID_CHARACTERS = 8


class NotOpenError(ValueError):
    """There is nothing to acknowledge or to snooze by this name."""


@dataclass(frozen=True)
class OpenIncident:
    """An incident that Slack was told of, and that is not over.

    Attributes:
        run_id: The run that it begins with.
        tables: The tables that failed in it.
        severity: How urgent it is.
        since: When that run failed, aware UTC.
        count: How many runs failed alike.
        acknowledged: Who has taken it; None if nobody has.
    """

    run_id: str
    tables: tuple[str, ...]
    severity: Severity
    since: datetime
    count: int
    acknowledged: Acknowledgement | None


def list_incidents(alerts: Alerts, instance: dg.DagsterInstance) -> list[OpenIncident]:
    """Return the open incidents, the oldest first."""
    return [_incident(alerts, instance, record) for record in open_firsts(alerts, instance)]


def acknowledge(alerts: Alerts, instance: dg.DagsterInstance, what: str, *, by: str) -> str:
    """Take open incidents: no reply and no escalation follows until their tables are published again. Safe to repeat.

    Args:
        alerts: Of the code location.
        instance: With the history.
        what: A table, or the id of the run that an incident begins with, or its start of eight characters at least.
        by: Who takes them.

    Returns:
        What was done, for the person.

    Raises:
        NotOpenError: No open incident has this name.
    """
    found = _named(alerts, instance, what)
    taken = [each for record in found if (each := Acknowledgement.of(record.dagster_run)) is not None]
    if len(taken) == len(found):
        return f"{what} is acknowledged already, by {taken[0].by} at {_moment(taken[0].at)}. Nothing was changed."
    acknowledgement = Acknowledgement(shortened(by, NAME_LIMIT), alerts.clock())
    for record in found:
        if Acknowledgement.of(record.dagster_run) is None:
            run_id = record.dagster_run.run_id
            instance.add_run_tags(run_id, acknowledgement.tags(run_id))
    tables = dict.fromkeys(name for record in found for name in tables_of(alerts, instance, record))
    return f"Acknowledged: {', '.join(tables)}. No reply and no page follows until it is published again."


def snooze(
    alerts: Alerts, instance: dg.DagsterInstance, what: str, *, seconds: float, by: str, reason: str = ""
) -> str:
    """Hold back what tables alert of for a while. What fails meanwhile is told at the end, once. Safe to repeat: the last one counts.

    Args:
        alerts: Of the code location.
        instance: With the history.
        what: A table, or an open incident as `acknowledge` takes it: then all of its tables.
        seconds: For how long; 0 ends it.
        by: Who wants it.
        reason: Why.

    Returns:
        What was done, for the person.

    Raises:
        NotOpenError: There is no such table and no such incident.
        ValueError: It is too short or too long.
    """
    if seconds and not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise ValueError(
            f"a snooze requires 1 minute to {LONGEST_SECONDS // 3600} hours, got {seconds / 60:,.0f} minutes. Nothing was snoozed. Snooze again "
            "at its end, or acknowledge the incident: that lasts until the table is published again."
        )
    tables = [what] if what in alerts.owners else _tables_of(alerts, instance, what)
    until = alerts.clock() + seconds
    for table in tables:
        one = Snooze(table, float(until), shortened(by, NAME_LIMIT), shortened(reason, REASON_LIMIT))
        write_snooze(alerts, instance, one)
    # Also what an earlier snooze holds back for longer.
    _look_again(alerts, instance)
    if seconds:
        return f"Snoozed until {_moment(until)}: {', '.join(tables)}. What fails meanwhile is told then."
    return f"Not snoozed any more: {', '.join(tables)}."


def list_snoozes(alerts: Alerts, instance: dg.DagsterInstance) -> Sequence[Snooze]:
    """Return the snoozes that have not ended, by the name of the table."""
    return sorted(read_snoozes(alerts, instance).values(), key=lambda snooze: snooze.table)


def list_digest(alerts: Alerts, instance: dg.DagsterInstance) -> list[Line]:
    """Return what the daily digests say, or are to say, and what is not over."""
    lines = read_digests(instance, alerts.location).lines if alerts.rules else ()
    return [line for line in lines if not line.over_at]


def _incident(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> OpenIncident:
    first, tables = record.dagster_run, tables_of(alerts, instance, record)
    return OpenIncident(
        first.run_id,
        tables,
        alerts.severity_of(tables),
        datetime.fromtimestamp(ended_at_of(record), UTC),
        count_alike(instance, first.run_id),
        Acknowledgement.of(first),
    )


def _named(alerts: Alerts, instance: dg.DagsterInstance, what: str) -> list[dg.RunRecord]:
    """Return the first runs of the open incidents of this name."""
    opened = open_firsts(alerts, instance)
    by_run = [record for record in opened if record.dagster_run.run_id.startswith(what)]
    found = by_run if len(what) >= _ID_CHARACTERS else []
    found = found or [record for record in opened if what in tables_of(alerts, instance, record)]
    if found:
        return found
    names = ", ".join(short_id(record.dagster_run.run_id) for record in opened[:5])
    others = counted(len(opened), "others are", "other is")
    raise NotOpenError(
        f"an open incident requires the name of a table or the id of its first run, got {what[:100]!r}. Nothing was changed, since "
        f"{f'{others} open ({names})' if opened else 'no incident is open'}. `run-elt alert list` names them all."
    )


def _tables_of(alerts: Alerts, instance: dg.DagsterInstance, what: str) -> list[str]:
    found = _named(alerts, instance, what)
    return list(dict.fromkeys(name for record in found for name in tables_of(alerts, instance, record)))


def _look_again(alerts: Alerts, instance: dg.DagsterInstance) -> None:
    """Make due what is held back: the next look decides anew what still waits."""
    held = dg.RunsFilter(tags={ALERT: "held"}, statuses=alerting_statuses(alerts))
    for run in instance.get_runs(held, limit=WAITING_READ):
        entry = LedgerEntry.of(run)
        waits = entry.next_at > alerts.clock() + DUE_SOON_SECONDS
        if waits and entry.location in ("", alerts.location):
            hold(instance, run.run_id, until=0, words=entry.held_for, location=entry.location, clock=alerts.clock)


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
