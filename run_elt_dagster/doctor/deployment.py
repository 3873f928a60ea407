"""What Dagster's instance says: the history, the daemon, the code location, its schedule and sensors, and alerts that wait."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.late_tables import late_in_words
from run_elt_dagster.alerts.receivers_ledger import words_of_receivers
from run_elt_dagster.alerts.scope import (
    DIGEST_SENSOR,
    LATE_SENSOR,
    RECEIVERS_SENSOR,
    RETRIES_SENSOR,
    Alerts,
    at_location,
)
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.doctor.code_server import Answer, ask_code_server
from run_elt_dagster.doctor.finding import Finding, Later, NamedCheck, failed, ok, skipped
from run_elt_dagster.doctor.heartbeats import Beats, daemons_at_work
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import short_id
from run_elt_dagster.orchestration.heartbeat import lost_runs_sensor
from run_elt_dagster.orchestration.jobs import JOB_NAME, TableJob, jobs_of, waking, waking_sensors
from run_elt_dagster.orchestration.lateness import watched_tables
from run_elt_dagster.orchestration.specs import channels_of, owners_of, rules_of
from run_elt_dagster.runs.code_location import known_locations, location_here
from run_elt_dagster.runs.history_files import HistoryProblem, history_problems
from run_elt_dagster.settings import AlertSettings, Settings, history_is_kept


class Check(NamedCheck):
    """The checks of Dagster; without the history, none of the others can be made."""

    HISTORY = (
        "history",
        (
            "there is neither `DAGSTER_HOME` nor `dagster.yaml`, or the storage cannot be opened. On SQLite also if its folder cannot be "
            "written, or if one of its three databases is cut off, damaged, without the version of its schema or with two ([what to "
            "do](operations.md#a-disk-is-full-read-only-or-damaged)). The check does not look at the databases with the log of a single "
            "run"
        ),
    )
    RUN_MONITORING = (
        "run monitoring",
        "it is off. A run that does not start, or never ends, would then never alert",
    )
    DAEMON = (
        "daemon",
        "no daemon has written a heartbeat for 300 s, or two write heartbeats in turn. Two daemons launch each scheduled run twice",
    )
    CODE_LOCATION = (
        "code location",
        (
            "the code server does not answer, or answers with a load error (the check shows it), or the daemon has evaluated no sensor "
            "for 300 s. Then no table is built and no failed run alerts"
        ),
    )
    SCHEDULE = (
        "schedule",
        "a person switched one off, its last tick failed, the last time when it was due has no tick, or a tick of the last day launched two runs",
    )
    SENSORS = "sensors", "a person switched one off, or its last tick failed"
    ALERTS = (
        "alerts",
        "a failed run of the last 48 h waits for its alert, or a backfill that failed without a failed run",
    )
    FRESHNESS = (
        "freshness",
        "a table is late: the rows that readers see are older than its `fresh_within` allows. The line names the cause, also while no daemon works",
    )


# Two daemons take up to 72 s to be told apart, and the code server up to 60 s to answer, at the same time.
LIMIT_SECONDS = 150
# The daemon writes every 30 s; Dagster itself takes it for dead after half an hour.
HEARTBEAT_SECONDS = 300
# The sensors are evaluated every 10 and 30 s, one after another, each for 60 s at most.
EVALUATION_SECONDS = 300
# A tick that the schedule owes is late only after this.
TICK_SECONDS = 900
# So many late tables are named.
_LATE_SHOWN = 10
# Names of the required daemons: without them there is no schedule and no alert.
_NEEDED = ("SCHEDULER", "SENSOR")
SENSORS = {
    *(sensor.name for sensor in alert_sensors(Alerts(AlertSettings(), {}, (JOB_NAME,)))),
    lost_runs_sensor(lost_after_seconds=60).name,
}

OpenInstance = Callable[[], dg.DagsterInstance]


def check_deployment(
    settings: Settings | None, tables: Catalogue | None, open_instance: OpenInstance
) -> Iterator[Finding]:
    """Yield what the instance that Dagster's commands use here says, nothing of it changed.

    It takes up to 30 s, until the daemon has given its next heartbeat: only then it is known that there is no second one.

    Args:
        settings: None if they are wrong.
        tables: None if a file of theirs is wrong.
        open_instance: Opens the instance; raises with the remedy where there is none.
    """
    problems = _file_problems()
    for problem in problems:
        yield failed(Check.HISTORY, problem.detail, problem.remedy)
    if problems:
        # Not opened: Dagster would make an empty file where one is cut off.
        yield from skipped(tuple(Check)[1:], "the files of the history are not in order")
        return
    try:
        instance = open_instance()
    except Exception as error:  # noqa: BLE001 - Dagster and the libraries of its storages raise what they like
        remedy = (
            "Check that the database of its dagster.yaml is up. If there is no dagster.yaml, run the command in the folder where "
            "Dagster is started, or set DAGSTER_HOME."
        )
        yield failed(Check.HISTORY, f"cannot be opened: {error}", remedy)
        yield from skipped(tuple(Check)[1:], "the history cannot be opened")
        return
    with instance:
        home = Path(instance.root_directory).absolute()
        runs = instance.get_runs_count()
        asked = Later(lambda: ask_code_server(home))
        yield ok(Check.HISTORY, f"{counted(runs, 'runs')} in {home} ({type(instance.run_storage).__name__})")
        yield _monitoring_finding(instance)
        daemon = _daemon_finding(instance, now=time.time())
        rivals = _rivals_finding(daemons_at_work(lambda: _beats(instance))) if daemon.status == "ok" else None
        yield rivals or daemon
        is_automated = settings is None or settings.is_automated
        more = {RECEIVERS_SENSOR} if settings is not None and settings.alerts.receivers is not None else set[str]()
        automation = _automation(instance, tables, more, is_automated=is_automated, has_daemon=daemon.status != "FAIL")
        yield from _automation_findings(instance, automation, asked.result())
        yield from _alert_findings(instance, settings, tables)
        yield _freshness_finding(instance, settings, tables, now=datetime.now(UTC))


def _file_problems() -> list[HistoryProblem]:
    return history_problems(Path(os.environ.get("DAGSTER_HOME") or Path.cwd())) if history_is_kept() else []


def _monitoring_finding(instance: dg.DagsterInstance) -> Finding:
    name = Check.RUN_MONITORING
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
    """Return whether a daemon works on the instance: https://docs.dagster.io/deployment/execution/dagster-daemon."""
    name, remedy = Check.DAEMON, "Start dagster dev, or dagster-daemon run, on this history."
    if instance.daemon_skip_heartbeats_without_errors:
        return Finding(name, "skip", "this instance's daemon reports errors only")
    statuses: Mapping[str, Any] = instance.get_daemon_statuses()
    beats = [status.last_heartbeat.timestamp for status in statuses.values() if status.last_heartbeat]
    if not beats:
        return failed(name, "the schedule and the alerts require a daemon, got none on this history ever.", remedy)
    age = max(now - max(beats), 0)
    if age > HEARTBEAT_SECONDS:
        return failed(name, f"requires a heartbeat every {HEARTBEAT_SECONDS} s, got the last {age:,.0f} s ago.", remedy)
    ill = [kind for kind in _NEEDED if kind in statuses and not statuses[kind].healthy]
    if ill:
        remedy = "Look at Deployment, Daemons in the UI and at the daemon's log."
        return failed(name, f"it runs, but not its part {', '.join(ill)}.", remedy)
    return ok(name, f"its last heartbeat was {age:.0f} s ago")


def _beats(instance: dg.DagsterInstance) -> Beats:
    beats: Mapping[str, Any] = instance.get_daemon_heartbeats()
    return {kind: (str(beats[kind].daemon_id), float(beats[kind].timestamp)) for kind in _NEEDED if kind in beats}


def _rivals_finding(ids: Sequence[str]) -> Finding | None:
    if len(ids) < 2:  # noqa: PLR2004 - one is right
        return None
    return failed(
        Check.DAEMON,
        f"a history requires one daemon, got {len(ids)} that give heartbeats in turn ({', '.join(short_id(each) for each in ids)}). "
        "Each scheduled run is launched twice, an alert can be posted twice, and a tick can be lost.",
        "Stop all but one: dagster-daemon or dagster dev runs on another machine, or once more on this one, with this "
        "DAGSTER_HOME or this Postgres.",
    )


@dataclass(frozen=True)
class _Automation:
    """The schedule and the sensors of our code locations, as the instance keeps them.

    Attributes:
        states: Kept since a person switched it in the UI, or since its first tick.
        is_automated: Whether they run unless a person switches them off.
        has_daemon: Whether a daemon works on the instance.
        now: In seconds since 1970.
        jobs: The jobs of the tables, each with a schedule; the first one alone where a table file is wrong.
        sensors: The names of the sensors.
    """

    states: Sequence[Any]
    is_automated: bool
    has_daemon: bool
    now: float
    jobs: Sequence[TableJob]
    sensors: Collection[str]

    @property
    def schedules(self) -> set[str]:
        """The names of the schedules."""
        return {job.schedule for job in self.jobs}

    def of(self, kind: str) -> list[Any]:
        return [state for state in self.states if state.instigator_type.value == kind]

    def is_on(self, state: Any) -> bool:
        """Return whether it runs: switched on by hand, or by default here, or by default in the deployment that evaluates it."""
        if state.status.value == "DECLARED_IN_CODE":
            beside = (sensor for sensor in self.of("SENSOR") if _location(sensor) == _location(state))
            return self.is_automated or any(self.age(sensor) < EVALUATION_SECONDS for sensor in beside)
        return bool(state.status.value == "RUNNING")

    def age(self, state: Any) -> float:
        """Return how many seconds ago a sensor was evaluated without an error; infinite if it was not."""
        at = getattr(state.instigator_data, "last_tick_success_timestamp", None)
        return max(self.now - at, 0) if at else float("inf")


def _automation(
    instance: dg.DagsterInstance, tables: Catalogue | None, more: set[str], *, is_automated: bool, has_daemon: bool
) -> _Automation:
    jobs = jobs_of(tables or Catalogue([], {}))
    woken = waking(tables, jobs) if tables is not None else {}
    sensors = SENSORS | more | {sensor.name for sensor in waking_sensors(woken)}
    if tables is not None and watched_tables(tables, jobs):
        sensors |= {LATE_SENSOR}
    if tables is not None and rules_of(tables):
        sensors |= {DIGEST_SENSOR}
    kept: list[Any] = list(instance.all_instigator_state())
    # Other code locations have their own `daily`; ours is where our sensors are.
    states = [state for state in kept if _is(state, "SENSOR", sensors)]
    ours = {_location(state) for state in states if state.instigator_name in SENSORS}
    schedules = {job.schedule for job in jobs}
    states += [s for s in kept if _is(s, "SCHEDULE", schedules) and (not ours or _location(s) in ours)]
    return _Automation(states, is_automated, has_daemon, time.time(), jobs, sensors)


def _automation_findings(instance: dg.DagsterInstance, automation: _Automation, answer: Answer) -> Iterator[Finding]:
    location = _location_finding(automation, answer)
    yield location
    looks = (
        (Check.SCHEDULE, "SCHEDULE", automation.schedules, _schedule_finding),
        (Check.SENSORS, "SENSOR", automation.sensors, _ticks_finding),
    )
    for name, kind, wanted, look in looks:
        states = automation.of(kind)
        yield (
            _switch_finding(name, states, automation)
            or _dependent_finding(name, automation, location)
            or look(name, instance, automation, states)
            or _running_finding(name, sorted(wanted), states)
        )


def _location_finding(automation: _Automation, answer: Answer) -> Finding:
    """Return whether the code location is loaded: by what the code server says, and by whether its sensors are evaluated."""
    name, (kind, said) = Check.CODE_LOCATION, answer
    nothing = "No table is built, and no failed run alerts."
    if kind == "broken":
        remedy = "Correct what it names, then load it again: docs/deployment.md, Deploying a change of a table."
        return failed(name, f"the code server cannot load it. {nothing} It says: {said}", remedy)
    if kind == "away":
        return failed(name, f"{said}. {nothing}", "Start the code server, and look at its log.")
    served = f"loaded by the code server at {said}" if kind == "loaded" else ""
    if not automation.has_daemon:
        return ok(name, f"{served}; no daemon evaluates it") if served else next(skipped([name], "there is no daemon"))
    on = [state for state in automation.of("SENSOR") if automation.is_on(state)]
    if not on and (automation.of("SENSOR") or not automation.is_automated):
        return ok(name, served) if served else next(skipped([name], "none of its sensors is on"))
    ages = {place: min(automation.age(s) for s in on if _location(s) == place) for place in map(_location, on)}
    late = sorted(place for place, age in ages.items() if age > EVALUATION_SECONDS)
    if late or not ages:
        got = (
            "none that was ever evaluated" if not ages else f"none of {', '.join(late)} evaluated in {_ago(ages, late)}"
        )
        return failed(
            name,
            f"a code location that is loaded requires sensors that are evaluated every 30 s, got {got}. {nothing}",
            "Look at Deployment in the UI, at the code server's log and at the daemon's. After a start, wait a minute.",
        )
    evaluated = f"its sensors were evaluated {max(ages.values()):.0f} s ago"
    return ok(name, "; ".join(filter(None, [evaluated, served])))


def _ago(ages: Mapping[str, float], late: Sequence[str]) -> str:
    shortest = min(ages[place] for place in late)
    return "a tick without an error" if shortest == float("inf") else f"the last {shortest:,.0f} s"


def _switch_finding(name: str, states: Sequence[Any], automation: _Automation) -> Finding | None:
    stopped = sorted({f"{s.instigator_name} of {_location(s)}" for s in states if s.status.value == "STOPPED"})
    if stopped and (automation.is_automated or any(automation.is_on(state) for state in states)):
        return failed(
            name,
            f"switched off: {', '.join(stopped)}.",
            "Switch it on under Automation in the UI, or by dagster's command.",
        )
    if not automation.is_automated and not any(automation.is_on(state) for state in states):
        return Finding(
            name,
            "skip",
            "off here: with an account it is on by default only if RUN_ELT_DEPLOYMENT names a deployment, and it was not "
            "switched on",
        )
    return None


def _dependent_finding(name: str, automation: _Automation, location: Finding) -> Finding | None:
    if not automation.has_daemon:
        return next(skipped([name], "it does not run without a daemon"))
    if location.status == "FAIL":
        return next(skipped([name], "it does not run while the code location is not loaded"))
    return None


def _schedule_finding(
    name: str, instance: dg.DagsterInstance, automation: _Automation, states: Sequence[Any]
) -> Finding | None:
    return (
        _ticks_finding(name, instance, automation, states)
        or _missed_finding(name, instance, automation, states)
        or _twice_finding(name, instance, automation)
    )


def _ticks_finding(
    name: str, instance: dg.DagsterInstance, automation: _Automation, states: Sequence[Any]
) -> Finding | None:
    """Return which of them failed when it was evaluated last."""
    errors: list[str] = []
    for state in filter(automation.is_on, states):
        ticks: Sequence[Any] = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
        last = next((tick for tick in ticks if tick.status.value != "STARTED"), None)
        if last is not None and last.status.value == "FAILURE":
            errors.append(f"{state.instigator_name}: {_cause(last.error)}")
    if not errors:
        return None
    return failed(name, f"the last tick failed. {' '.join(errors)}", "Look at its ticks under Automation in the UI.")


def _cause(error: Any) -> str:
    """Return the error of our code, not Dagster's around it."""
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message) if error is not None else "It left no error."


def _missed_finding(
    name: str, instance: dg.DagsterInstance, automation: _Automation, states: Sequence[Any]
) -> Finding | None:
    """Return the tick that a schedule owes: it was on before, and has none of that time."""
    latest = datetime.fromtimestamp(automation.now - TICK_SECONDS, UTC)
    due = {job.schedule: job.due_before(latest) for job in automation.jobs}
    for state in filter(automation.is_on, states):
        wanted = due[state.instigator_name]
        started = getattr(state.instigator_data, "start_timestamp", None)
        if not started or started >= wanted.timestamp():
            continue
        after = wanted.timestamp() - 1
        if not instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after, limit=1):
            return failed(
                name,
                f"{state.instigator_name} requires a tick of {wanted:%Y-%m-%d %H:%M} UTC, got none. No table was built then.",
                "Materialize all tables of its job, and look at the daemon's log.",
            )
    return None


def _twice_finding(name: str, instance: dg.DagsterInstance, automation: _Automation) -> Finding | None:
    """Return the tick of the last day that launched more than one run: two daemons have evaluated it."""
    since = datetime.fromtimestamp(automation.now, UTC) - timedelta(hours=24)
    launched: dict[tuple[str, str, str], list[str]] = {}
    for job in automation.jobs:
        tags = {"dagster/schedule_name": job.schedule}
        scheduled = dg.RunsFilter(job_name=job.name, tags=tags, created_after=since)
        for run in instance.get_runs(scheduled, limit=50):
            # A retry and a re-execution take over the tags of the run before.
            if "dagster/parent_run_id" not in run.tags and (key := run.tags.get("dagster/run_key")):
                launched.setdefault((run.tags.get(".dagster/repository", ""), job.name, key), []).append(run.run_id)
    twice = {key: runs for (*_, key), runs in launched.items() if len(runs) > 1}
    if not twice:
        return None
    told = "; ".join(
        f"{key} launched {', '.join(short_id(run) for run in runs)}" for key, runs in sorted(twice.items())
    )
    return failed(
        name,
        f"a tick requires one run, got {told}. Two daemons evaluated it.",
        "Stop all daemons of this history but one. This line goes away a day after it happened.",
    )


def _running_finding(name: str, wanted: Sequence[str], states: Sequence[Any]) -> Finding:
    unknown = [each for each in wanted if each not in {state.instigator_name for state in states}]
    running = f"{', '.join(wanted)}: running"
    return ok(name, f"{running} by default; no daemon has taken up {', '.join(unknown)} yet" if unknown else running)


def _is(state: Any, kind: str, names: Collection[str]) -> bool:
    return state.instigator_type.value == kind and state.instigator_name in names


def _location(state: Any) -> str:
    return str(state.origin.repository_origin.code_location_origin.location_name)


def _freshness_finding(
    instance: dg.DagsterInstance, settings: Settings | None, tables: Catalogue | None, *, now: datetime
) -> Finding:
    """Return whether the rows of the tables with `fresh_within` are in time, with the cause as it looks without the daemon."""
    name = Check.FRESHNESS
    if settings is None or tables is None:
        return next(skipped([name], f"the check of the {'settings' if settings is None else 'table files'} failed"))
    alerts = _alerts(instance, settings, tables)
    if not alerts.watched:
        return ok(name, "no table declares fresh_within")
    late = late_in_words(alerts, instance, now=now)
    if not late:
        return ok(name, f"none of {counted(len(alerts.watched), 'tables')} with fresh_within is late")
    more = f" and {len(late) - _LATE_SHOWN} more" if len(late) > _LATE_SHOWN else ""
    return failed(
        name,
        f"a table with fresh_within requires rows of that age, got {', '.join(late[:_LATE_SHOWN])}{more}. Readers see old rows or none.",
        "Remove the cause, then materialize the table: docs/operations.md, A table is late.",
    )


def _alerts(instance: dg.DagsterInstance, settings: Settings, tables: Catalogue) -> Alerts:
    """Return what the sensors of this code location know."""
    jobs = jobs_of(tables)
    alerts = Alerts(
        settings.alerts,
        owners_of(tables),
        tuple(job.name for job in jobs),
        watched=watched_tables(tables, jobs),
        channels=channels_of(tables),
        rules=rules_of(tables),
        is_automated=settings.is_automated,
    )
    return at_location(alerts, instance, location_here(known_locations(instance, RETRIES_SENSOR)))


def _alert_findings(
    instance: dg.DagsterInstance, settings: Settings | None, tables: Catalogue | None
) -> Iterator[Finding]:
    name = Check.ALERTS
    if settings is None or tables is None:
        yield from skipped([name], f"the check of the {'settings' if settings is None else 'table files'} failed")
        return
    alerts = _alerts(instance, settings, tables)
    health = health_of(alerts, instance, Slack.from_settings(settings))
    has_receivers = settings.alerts.receivers is not None
    left = words_of_receivers(instance, alerts.location, now=alerts.clock()) if has_receivers else ""
    if health.is_well and not left:
        yield ok(name, f"{health.words} Last delivery: {health.metadata()['last_delivery']}")
        return
    yield failed(
        name,
        " ".join(filter(None, ["" if health.is_well else health.words, left])),
        "Filter the Runs page by the tag run_elt/alert; docs/alerts.md, When no alert came, goes on.",
    )
