"""A dead man's switch: an address outside is called while all is well. When the calls stop, a service there tells people.

What tells of failures can fail itself: the daemon, the code location, Slack, the whole machine. A service such as Healthchecks or
Cronitor expects the call, and needs nothing of this deployment.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import dagster as dg

from run_elt_dagster.alerts.failed_runs import undelivered
from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.late_causes import HEARTBEAT_SECONDS
from run_elt_dagster.alerts.late_ledger import read_ledger
from run_elt_dagster.alerts.late_tables import late_now
from run_elt_dagster.alerts.receivers_ledger import words_of_receivers
from run_elt_dagster.alerts.receivers_news import untaken_for_long
from run_elt_dagster.alerts.scope import RECEIVERS_SENSOR, Alerts, Known, KnownRows, Sweep, at_location
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.counted import counted
from run_elt_dagster.runs.code_location import this_location

SENSOR = "all_is_well"
INTERVAL_SECONDS = 60
# A tick has 60 s.
CALL_SECONDS = 10
# Without the one there is no schedule, without the other no alert.
_DAEMONS = ("SCHEDULER", "SENSOR")
_NAMED = 5


class HeartbeatError(Exception):
    """The address does not answer as it should."""


def well_sensor(alerts: Alerts, *, is_running: bool = True) -> dg.SensorDefinition:
    """Return the sensor that calls RUN_ELT_HEARTBEAT_URL every minute while all is well."""
    sweep, known, rows = Sweep(), Known(), KnownRows()

    @dg.sensor(
        name=SENSOR,
        default_status=dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Calls the heartbeat address while no alert waits, the daemons work, and no table is late.",
    )
    def all_is_well(context: dg.SensorEvaluationContext, slack: dg.ResourceParam[Any]) -> dg.SkipReason:
        here = at_location(alerts, context.instance, this_location(context, alerts.place))
        channel = Slack.of(slack, here.settings)
        found = list(problems(here, context.instance, channel, sweep=sweep, known=known, rows=rows))
        if found:
            return dg.SkipReason(f"not called: {'; '.join(found)}")
        call_address(here.settings.heartbeat_address)
        return dg.SkipReason("all is well, and the heartbeat address was called")

    return all_is_well


def problems(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    *,
    sweep: Sweep | None = None,
    known: Known | None = None,
    rows: KnownRows | None = None,
) -> Iterator[str]:
    """Yield why not all is well, in words: alerts that wait or have nowhere to go, daemons without a heartbeat, late tables.

    Args:
        alerts: Of the code location.
        instance: With the history.
        slack: Where alerts go.
        sweep: Goes on where it ended, for a look that is bounded.
        known: What the looks before have read of the ledger.
        rows: What the looks before have read of the tables.
    """
    looked_at = undelivered(alerts, instance, sweep)
    health = health_of(alerts, instance, slack, looked_at, known=known)
    if not health.is_well or (slack.missing and not slack.is_left_out(alerts.settings)):
        yield health.words
    if alerts.settings.receivers is not None:
        yield from _receivers_problems(alerts, instance, slack)
    beats: Any = instance.get_daemon_heartbeats()
    silent = [
        kind for kind in _DAEMONS if kind not in beats or alerts.clock() - beats[kind].timestamp > HEARTBEAT_SECONDS
    ]
    if silent:
        yield f"no heartbeat of the daemon {' and '.join(silent)} for {HEARTBEAT_SECONDS} s"
    rows = rows or KnownRows()
    now = datetime.fromtimestamp(alerts.clock(), UTC)
    if not alerts.watched:
        return
    late = sorted(late_now(alerts, instance, read_ledger(instance, alerts.location), rows, now)[0])
    if unknown := sum(table.name not in rows.rows for table in alerts.watched):
        yield f"{counted(unknown, 'tables were', 'table was')} not looked at yet"
    if late:
        more = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
        yield f"late: {', '.join(late[:_NAMED])}{more}"


def _receivers_problems(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack) -> Iterator[str]:
    if words := words_of_receivers(instance, alerts.location, now=alerts.clock()):
        yield words
    if count := untaken_for_long(alerts, instance, is_without_slack=slack.is_left_out(alerts.settings)):
        yield f"{counted(count, 'failed runs wait', 'failed run waits')} for the receivers, and the sensor {RECEIVERS_SENSOR} has not looked at {'it' if count == 1 else 'them'}"


def call_address(address: str) -> None:
    """Send one GET. Safe to repeat.

    Raises:
        HeartbeatError: There is no answer of the class 2xx in 10 s; without the path of the address: it is a secret.
    """
    began = time.monotonic()
    request = Request(address, headers={"User-Agent": "run_elt_dagster"})  # noqa: S310 - the settings take http and https alone
    try:
        with urlopen(request, timeout=CALL_SECONDS):  # noqa: S310
            return
    except HTTPError as error:
        got = f"HTTP {error.code}"
    except (OSError, HTTPException) as error:
        got = f"{type(error).__name__} after {time.monotonic() - began:.0f} s"
    raise HeartbeatError(
        f"the address of RUN_ELT_HEARTBEAT_URL at {urlsplit(address).hostname} requires an answer of the class 2xx, got {got}. All is "
        "well here, but the service there does not know. Look at its state and at the address."
    )
