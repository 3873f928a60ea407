"""`run-elt alert`."""

import getpass
import logging
import signal
import threading
from datetime import UTC, datetime, timedelta

import click

from run_elt_dagster.alerts.acknowledging import (
    OpenIncident,
    acknowledge,
    list_digest,
    list_incidents,
    list_snoozes,
    snooze,
)
from run_elt_dagster.alerts.digest_ledger import Line
from run_elt_dagster.alerts.listening import listen_to_clicks
from run_elt_dagster.alerts.snoozes import Snooze
from run_elt_dagster.alerts.trial import try_alerts
from run_elt_dagster.cli.opening import dagster_instance
from run_elt_dagster.cli.parameters import as_json, of_location
from run_elt_dagster.cli.printing import print_json, print_table
from run_elt_dagster.model.freshness import duration
from run_elt_dagster.model.names import short_id
from run_elt_dagster.project import Location
from run_elt_dagster.settings import Settings

_by = click.option("--by", metavar="NAME", help="Who says so; the user of this machine by default.")


@click.group("alert", invoke_without_command=True)
@click.option("--test", "is_test", is_flag=True, help="Send a test alert to Slack and to each receiver.")
@click.pass_context
def command(context: click.Context, *, is_test: bool) -> int:
    """List open incidents, acknowledge them, and snooze tables; listen to buttons in Slack; or try the alerts out.

    \b
      run-elt alert list
      run-elt alert ack analytics.mau_summary
      run-elt alert snooze analytics.mau_summary --for 4h --reason "backfill under way"
      run-elt alert --test

    What is said here holds for all processes with this history. Slack shows it within a minute.
    """
    if is_test == (context.invoked_subcommand is not None):
        raise click.UsageError("Give --test, or one of the commands: list, ack, snooze, listen.")
    return _test() if is_test else 0


@command.command("list")
@of_location
@as_json
def list_(location: Location, *, as_json: bool) -> int:
    """List open incidents: since when, how often, and who has acknowledged them. Then the lines of the digest, and the tables that are snoozed."""
    with dagster_instance() as instance:
        alerts = location.alerts(instance)
        incidents, snoozes = list_incidents(alerts, instance), list_snoozes(alerts, instance)
        lines = list_digest(alerts, instance)
    if as_json:
        print_json(
            {
                "incidents": [_incident_facts(each) for each in incidents],
                "digest": [_line_facts(each) for each in lines],
                "snoozes": [_snooze_facts(each) for each in snoozes],
            }
        )
        return 0
    if incidents:
        print_table(
            ("incident", "tables", "severity", "since", "failures", "acknowledged by"), list(map(_cells, incidents))
        )
    else:
        print("No incident is open.")
    for line in lines:
        print(
            f"In the digest: {', '.join(line.tables)}: {line.words} (since {_moment(line.first_at)}, {line.count:,} by now)."
        )
    for each in snoozes:
        print(f"{each.table} is {each.words} until {_moment(each.until)}.")
    return 0


@command.command("ack")
@click.argument("what", metavar="INCIDENT|TABLE")
@of_location
@_by
def ack(location: Location, what: str, *, by: str | None) -> int:
    """Acknowledge an incident: no reply and no escalation follows until its tables are published again.

    INCIDENT is the id of its first run, as list prints it.
    """
    with dagster_instance() as instance:
        print(acknowledge(location.alerts(instance), instance, what, by=by or getpass.getuser()))
    return 0


@command.command("snooze")
@click.argument("what", metavar="TABLE|INCIDENT")
@of_location
@click.option("--for", "time", metavar="TIME", help="For how long, as in 30m or 4h; a day at most.")
@click.option("--end", "is_end", is_flag=True, help="End it now.")
@click.option("--reason", default="", metavar="TEXT", help="Why; the alert at its end says it.")
@_by
def snooze_(location: Location, what: str, *, time: str | None, is_end: bool, reason: str, by: str | None) -> int:
    """Hold the alerts of a table back for a while. What fails meanwhile is told at the end, once."""
    if is_end == (time is not None):
        raise click.UsageError("Give --for TIME, or --end.")
    seconds = 0.0 if time is None else _seconds(time)
    with dagster_instance() as instance:
        alerts = location.alerts(instance)
        print(snooze(alerts, instance, what, seconds=seconds, by=by or getpass.getuser(), reason=reason))
    return 0


@command.command("listen")
@of_location
def listen(location: Location) -> int:
    """Take clicks on the buttons of alerts in Slack, until it is ended. Run it as a service, once for each Slack app.

    It connects to Slack by itself (Socket Mode), and needs RUN_ELT_SLACK_APP_TOKEN. Slack needs no way to this machine.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with dagster_instance() as instance:
        log = logging.getLogger("run_elt_dagster.listen")
        listen_to_clicks(lambda: location.alerts(instance), instance, location.slack(), log=log, stopped=stopped)
    return 0


def _seconds(time: str) -> float:
    try:
        return duration(time) / timedelta(seconds=1)
    except ValueError as error:
        raise click.BadParameter(f"it {error}, got {time[:20]!r}.", param_hint="--for") from error


def _test() -> int:
    failed = list[str]()
    for tried in try_alerts(Settings.from_environment()):
        if tried.is_delivered:
            print(tried.words)
        else:
            failed.append(tried.words)
    if failed:
        raise ValueError("\n".join(failed))
    return 0


def _cells(incident: OpenIncident) -> tuple[str, ...]:
    taken = incident.acknowledged
    return (
        short_id(incident.run_id),
        ", ".join(incident.tables) or "none",
        incident.severity,
        _moment(incident.since.timestamp()),
        str(incident.count),
        f"{taken.by}, {_moment(taken.at)}" if taken is not None else "",
    )


def _incident_facts(incident: OpenIncident) -> dict[str, object]:
    taken = incident.acknowledged
    return {
        "incident": incident.run_id,
        "tables": list(incident.tables),
        "severity": incident.severity,
        "since": incident.since.isoformat(),
        "failures": incident.count,
        "acknowledged_by": taken.by if taken is not None else None,
        "acknowledged_at": datetime.fromtimestamp(taken.at, UTC).isoformat() if taken is not None else None,
    }


def _line_facts(line: Line) -> dict[str, object]:
    since = datetime.fromtimestamp(line.first_at, UTC).isoformat()
    return {"tables": list(line.tables), "what": line.what, "words": line.words, "since": since, "count": line.count}


def _snooze_facts(snooze: Snooze) -> dict[str, object]:
    until = datetime.fromtimestamp(snooze.until, UTC).isoformat()
    return {"table": snooze.table, "until": until, "by": snooze.by, "reason": snooze.reason}


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
