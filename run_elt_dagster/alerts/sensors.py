"""The sensors: of failed runs, of those without their alert, of backfills, of late tables, and one that calls while all is well."""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.scope import (
    BACKFILLS_SENSOR,
    DIGEST_SENSOR,
    LATE_SENSOR,
    RETRIES_SENSOR,
    Alerts,
    Known,
    KnownRows,
    Sweep,
    at_location,
)
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.counted import counted
from run_elt_dagster.runs.code_location import this_location, to_cursor, was_seen_lately

INTERVAL_SECONDS = 30
DIGEST_INTERVAL_SECONDS = 60
_LEFT_OUT = "Slack is not set up. The receivers of RUN_ELT_ALERT_RECEIVERS get the alerts"


def alert_sensors(alerts: Alerts, *, is_running: bool = True) -> list[dg.SensorDefinition]:
    """Return the sensors; `is_running` is whether they run until a person switches them in the UI."""
    status = dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED
    located = [alerts]
    sensors = [
        _failure_sensor(located, status),
        _reconciling_sensor(located, status),
        _backfill_sensor(located, status),
    ]
    if alerts.watched:
        sensors.append(_late_sensor(located, status))
    if alerts.rules:
        sensors.append(_digest_sensor(located, status))
    if alerts.settings.receivers is not None:
        from run_elt_dagster.alerts.receivers_sensor import receivers_sensor  # noqa: PLC0415 - only where some are set

        sensors.append(receivers_sensor(alerts, is_running=is_running))
    if alerts.settings.heartbeat_url is not None:
        from run_elt_dagster.alerts.all_is_well import well_sensor  # noqa: PLC0415 - only where it is set

        sensors.append(well_sensor(alerts, is_running=is_running))
    return sensors


def _failure_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="slack_alert",
        # Without it, runs of `dagster asset materialize` are skipped: https://github.com/dagster-io/dagster/issues/22665
        monitor_all_code_locations=True,
        default_status=status,
        minimum_interval_seconds=10,
        description="Posts to Slack when a run of the analytics tables failed; one attempt.",
    )
    def slack_alert(context: dg.RunFailureSensorContext, slack: dg.ResourceParam[Any]) -> None:
        alerts, run = located[0], context.dagster_run
        if alerts.here is None and (run.remote_job_origin or run.job_code_origin):
            # Dagster does not tell this sensor in which code location it is. The other one learns it at its first tick, and
            # finds every run without an alert.
            context.log.info(f"run {run.run_id} is left to {RETRIES_SENSOR}")
            return
        # Whatever it raised would lose the alert of this run; the other sensor finds every run without one.
        try:
            from run_elt_dagster.alerts.first_attempt import alert_of_failed_run  # noqa: PLC0415 - only a tick needs it

            channel = Slack.of(slack, alerts.settings)
            if not channel.is_left_out(alerts.settings):
                alert_of_failed_run(alerts, context.instance, channel, context.dagster_run.run_id, log=context.log)
        except Exception as error:  # noqa: BLE001
            context.log.error(f"run {context.dagster_run.run_id} has no alert yet, got {type(error).__name__}: {error}")

    return slack_alert


def _reconciling_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    sweep, known = Sweep(), Known()

    @dg.sensor(
        name=RETRIES_SENSOR,
        default_status=status,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Delivers the alerts that did not get through, of failures of the last 48 h, and says what recovered.",
    )
    def slack_alert_retries(context: dg.SensorEvaluationContext, slack: dg.ResourceParam[Any]) -> dg.SkipReason:
        # Only a tick needs them.
        from run_elt_dagster.alerts.failed_runs import undelivered  # noqa: PLC0415
        from run_elt_dagster.alerts.health import health_of, report_if_changed  # noqa: PLC0415
        from run_elt_dagster.alerts.leftovers import tell_leftovers  # noqa: PLC0415
        from run_elt_dagster.alerts.reconciliation import reconcile  # noqa: PLC0415

        alerts = located[0] = at_location(located[0], context.instance, this_location(context, located[0].place))
        # After a long silence the other locations may not have said yet which runs are theirs.
        are_others_known = was_seen_lately(context.cursor, now=time.time())
        if alerts.here is not None:
            context.update_cursor(to_cursor(alerts.here, now=time.time()))
        channel = Slack.of(slack, alerts.settings)
        tell_leftovers(alerts, context.instance, channel, known, log=context.log)
        if channel.is_left_out(alerts.settings):
            return dg.SkipReason(_LEFT_OUT)
        looked_at: list[dg.RunRecord] = []
        try:
            looked_at = undelivered(alerts, context.instance, sweep)
            if alerts.here is not None and not are_others_known:
                looked_at = [record for record in looked_at if alerts.here.surely_has(record.dagster_run)]
            return dg.SkipReason(reconcile(alerts, context.instance, channel, looked_at, log=context.log, known=known))
        finally:
            report_if_changed(context.instance, health_of(alerts, context.instance, channel, looked_at, known=known))

    return slack_alert_retries


def _backfill_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name=BACKFILLS_SENSOR,
        default_status=status,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Posts to Slack when a backfill of the analytics tables failed, and none of its runs did.",
    )
    def slack_alert_backfills(context: dg.SensorEvaluationContext, slack: dg.ResourceParam[Any]) -> dg.SkipReason:
        from run_elt_dagster.alerts.backfills import tell_failed_backfills  # noqa: PLC0415 - only a tick needs it

        channel = Slack.of(slack, located[0].settings)
        if channel.is_left_out(located[0].settings):
            return dg.SkipReason(_LEFT_OUT)
        cursor = tell_failed_backfills(located[0], context.instance, channel, context.cursor, log=context.log)
        context.update_cursor(cursor)
        waiting = sum(state != "told" for state in json.loads(cursor).values())
        return dg.SkipReason(
            f"{counted(waiting, 'failed backfills wait for their', 'failed backfill waits for its')} alert"
        )

    return slack_alert_backfills


def _late_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    known = KnownRows()

    def look(alerts: Alerts, context: dg.SensorEvaluationContext, channel: Slack) -> tuple[str, str]:
        from run_elt_dagster.alerts.late_tables import look_for_late_tables  # noqa: PLC0415 - only a tick needs it

        return look_for_late_tables(alerts, context.instance, channel, context.cursor, log=context.log, known=known)

    return _looking_sensor(
        located,
        look,
        name=LATE_SENSOR,
        default_status=status,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Posts to Slack when a table is older than its `fresh_within` allows, and when it is in time again.",
    )


def _digest_sensor(located: list[Alerts], status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    known = Known()

    def look(alerts: Alerts, context: dg.SensorEvaluationContext, channel: Slack) -> tuple[str, str]:
        from run_elt_dagster.alerts.digest import checks_of, look_for_digest  # noqa: PLC0415 - only a tick needs it

        if channel.is_left_out(alerts.settings):
            return context.cursor or "", _LEFT_OUT
        checks = partial(checks_of, context.repository_def) if context.repository_def is not None else None
        return look_for_digest(
            alerts, context.instance, channel, context.cursor, log=context.log, checks=checks, known=known
        )

    return _looking_sensor(
        located,
        look,
        name=DIGEST_SENSOR,
        default_status=status,
        minimum_interval_seconds=DIGEST_INTERVAL_SECONDS,
        description="Posts the daily digest to Slack: what need not be told at once, and warnings. Brings it up to date.",
    )


def _looking_sensor(
    located: list[Alerts],
    look: Callable[[Alerts, dg.SensorEvaluationContext, Slack], tuple[str, str]],
    **more: Any,
) -> dg.SensorDefinition:
    """Return a sensor that launches nothing; a look returns the next cursor, and what the tick says.

    A look raises nothing of Slack: after a failed tick Dagster keeps the cursor as it was.
    """

    @dg.sensor(**more)
    def looking(context: dg.SensorEvaluationContext, slack: dg.ResourceParam[Any]) -> dg.SkipReason:
        alerts = at_location(located[0], context.instance, this_location(context, located[0].place))
        cursor, said = look(alerts, context, Slack.of(slack, alerts.settings))
        if cursor:
            context.update_cursor(cursor)
        return dg.SkipReason(said)

    return looking
