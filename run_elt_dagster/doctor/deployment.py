"""What Dagster's instance says: the history, the daemon, the schedule and the sensors, and alerts that wait."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.sensors import Alerts, alert_sensors, health_of
from run_elt_dagster.doctor.finding import Finding, failed, ok, skipped
from run_elt_dagster.lineage import Catalogue
from run_elt_dagster.lost_runs import lost_runs_sensor
from run_elt_dagster.resources.slack import Slack
from run_elt_dagster.schedules import JOB_NAME, daily_schedule
from run_elt_dagster.settings import AlertSettings, Settings

LIMIT_SECONDS = 40
# The daemon writes every 30 s; Dagster itself takes it for dead after half an hour.
HEARTBEAT_SECONDS = 300
HISTORY, DEPENDENTS = "history", ("run monitoring", "daemon", "schedule", "sensors", "alerts")
# Names of the daemons without which there is no schedule and no alert.
_NEEDED = ("SCHEDULER", "SENSOR")

OpenInstance = Callable[[], dg.DagsterInstance]


def check_deployment(
    settings: Settings | None, tables: Catalogue | None, open_instance: OpenInstance
) -> Iterator[Finding]:
    """Yield what the instance that Dagster's commands use here says, nothing of it changed.

    Args:
        settings: None if they are wrong.
        tables: None if a file of theirs is wrong.
        open_instance: Opens the instance; raises with the remedy where there is none.
    """
    try:
        instance = open_instance()
    except Exception as error:  # noqa: BLE001 - Dagster and the libraries of its storages raise what they like
        remedy = (
            "Start it in the folder in which Dagster is started, or set DAGSTER_HOME to a folder with a dagster.yaml."
        )
        yield failed(HISTORY, f"cannot be opened: {error}", remedy)
        yield from skipped(DEPENDENTS, "the history cannot be opened")
        return
    with instance:
        runs = instance.get_runs_count()
        yield ok(
            HISTORY,
            f"{runs:,} runs in {Path(instance.root_directory).absolute()} ({type(instance.run_storage).__name__})",
        )
        yield _monitoring_finding(instance)
        yield _daemon_finding(instance, now=time.time())
        yield from _automation_findings(instance)
        yield from _alert_findings(instance, settings, tables)


def _monitoring_finding(instance: dg.DagsterInstance) -> Finding:
    name = DEPENDENTS[0]
    limit = instance.run_monitoring_max_runtime_seconds if instance.run_monitoring_enabled else 0
    if limit:
        return ok(name, f"a run that never ends by itself is ended after {limit:,} s")
    got = "no max_runtime_seconds" if instance.run_monitoring_enabled else "none"
    return failed(
        name,
        f"a run that never starts or ends requires run monitoring to end, got {got}. It would stay for ever, without an alert.",
        "Copy run_monitoring from deploy/dagster.yaml into the dagster.yaml of the instance.",
    )


def _daemon_finding(instance: dg.DagsterInstance, *, now: float) -> Finding:
    """Tell whether a daemon works on the instance: https://docs.dagster.io/deployment/execution/dagster-daemon."""
    name, remedy = DEPENDENTS[1], "Start dagster dev, or dagster-daemon run, on this history."
    if instance.daemon_skip_heartbeats_without_errors:
        return Finding(name, "skip", "this instance's daemon reports errors only")
    statuses: Mapping[str, Any] = instance.get_daemon_statuses()
    beats = [status.last_heartbeat.timestamp for status in statuses.values() if status.last_heartbeat]
    if not beats:
        return failed(name, "the schedule and the alerts require a daemon, got none on this history ever.", remedy)
    age = max(now - max(beats), 0)
    if age > HEARTBEAT_SECONDS:
        return failed(
            name, f"requires a sign of life every {HEARTBEAT_SECONDS} s, got the last {age:,.0f} s ago.", remedy
        )
    ill = [kind for kind in _NEEDED if kind in statuses and not statuses[kind].healthy]
    if ill:
        remedy = "Look at Deployment, Daemons in the UI and at the daemon's log."
        return failed(name, f"it runs, but not its part {', '.join(ill)}.", remedy)
    return ok(name, f"its last sign of life was {age:.0f} s ago")


def _automation_findings(instance: dg.DagsterInstance) -> Iterator[Finding]:
    schedule = daily_schedule(job_name=JOB_NAME)
    alerting = alert_sensors(Alerts(AlertSettings(), {}, (JOB_NAME,)))
    sensors = {sensor.name for sensor in (*alerting, lost_runs_sensor(lost_after_seconds=60))}
    # Kept since somebody switched it in the UI, or since its first tick.
    kept: list[Any] = list(instance.all_instigator_state())
    # Other code locations have their own `daily`; ours is where our sensors are.
    ours = {_location(state) for state in kept if _is(state, "SENSOR", sensors)}
    local = [state for state in kept if not ours or _location(state) in ours]
    for name, kind, wanted in (("schedule", "SCHEDULE", {schedule.name}), ("sensors", "SENSOR", sensors)):
        states = [state for state in local if _is(state, kind, wanted)]
        yield _switch_finding(name, sorted(wanted), states)


def _switch_finding(name: str, wanted: list[str], states: list[Any]) -> Finding:
    stopped = sorted({f"{s.instigator_name} of {_location(s)}" for s in states if s.status.value == "STOPPED"})
    if stopped:
        return failed(
            name,
            f"switched off: {', '.join(stopped)}.",
            "Switch it on under Automation in the UI, or by dagster's command.",
        )
    unknown = [each for each in wanted if each not in {state.instigator_name for state in states}]
    running = f"{', '.join(wanted)}: running"
    return ok(name, f"{running} by default; no daemon has taken up {', '.join(unknown)} yet" if unknown else running)


def _is(state: Any, kind: str, names: set[str]) -> bool:
    return state.instigator_type.value == kind and state.instigator_name in names


def _location(state: Any) -> str:
    return str(state.origin.repository_origin.code_location_origin.location_name)


def _alert_findings(
    instance: dg.DagsterInstance, settings: Settings | None, tables: Catalogue | None
) -> Iterator[Finding]:
    name = DEPENDENTS[-1]
    if settings is None or tables is None:
        yield from skipped([name], f"the check of the {'settings' if settings is None else 'table files'} failed")
        return
    alerts = Alerts(settings.alerts, {table.name: () for table in tables.values()}, (JOB_NAME,))
    health = health_of(alerts, instance, Slack.from_settings(settings))
    if health.is_well:
        yield ok(name, f"{health.words} Last delivery: {health.metadata()['last_delivery']}")
        return
    yield failed(
        name,
        health.words,
        "Filter the Runs page by the tag run_elt/alert; docs/alerts.md, When no alert came, goes on.",
    )
