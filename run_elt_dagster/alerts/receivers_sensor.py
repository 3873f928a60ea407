"""The sensor of the other receivers, and the page that shows how they stand."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from run_elt_dagster.alerts.scope import CHECK, RECEIVERS_ASSET, RECEIVERS_SENSOR, RETRIES_SENSOR, Alerts, at_location
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.runs.code_location import (
    known_locations,
    location_here,
    this_location,
    to_cursor,
)

if TYPE_CHECKING:
    from run_elt_dagster.alerts.receivers_delivery import Desk

INTERVAL_SECONDS = 15


def receivers_sensor(alerts: Alerts, *, is_running: bool = True) -> dg.SensorDefinition:
    """Return the sensor that tells the receivers of RUN_ELT_ALERT_RECEIVERS; none of it depends on Slack."""
    desks = list["Desk"]()

    @dg.sensor(
        name=RECEIVERS_SENSOR,
        default_status=dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Tells the receivers besides Slack of failed runs, recoveries, late tables and failed backfills.",
    )
    def alert_receivers(context: dg.SensorEvaluationContext, slack: dg.ResourceParam[Any]) -> dg.SkipReason:
        from run_elt_dagster.alerts.receivers_delivery import Desk, tell_receivers  # noqa: PLC0415 - only a tick needs it

        here = at_location(alerts, context.instance, this_location(context, alerts.place))
        if not desks:
            desks.append(Desk())
        # After a long silence the other locations may not have said yet which runs are theirs.
        are_others_known = desks[0].knows_others(context.cursor, now=time.time())
        if here.here is not None:
            context.update_cursor(to_cursor(here.here, now=time.time()))
        said = tell_receivers(
            here,
            context.instance,
            desks[0],
            log=context.log,
            surely_ours=not are_others_known,
            is_without_slack=Slack.of(slack, alerts.settings).is_left_out(alerts.settings),
        )
        return dg.SkipReason(said)

    return alert_receivers


def receivers_asset() -> dg.AssetSpec:
    """Return the external asset whose page shows what the receivers got, and what waits for which."""
    return dg.AssetSpec(
        list(RECEIVERS_ASSET),
        group_name=RECEIVERS_ASSET[0],
        description="Alerts to the receivers besides Slack: what waits for which, and the last delivery.",
    )


def receivers_delivered(alerts: Alerts) -> dg.AssetChecksDefinition:
    """Return the check that fails while a receiver does not get its alerts."""

    @dg.asset_check(
        asset=list(RECEIVERS_ASSET), name=CHECK, description="Each receiver got the alerts of the last 48 h."
    )
    def delivered(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from run_elt_dagster.alerts.receivers_ledger import words_of_receivers  # noqa: PLC0415 - only the check needs it

        origin = context.run.remote_job_origin
        known = known_locations(context.instance, RETRIES_SENSOR)
        names = () if origin is None else (origin.repository_origin.code_location_origin.location_name,)
        here = next((each for each in known if each.name in names), None) or location_here(known, alerts.place)
        located = at_location(alerts, context.instance, here)
        words = words_of_receivers(context.instance, located.location, now=alerts.clock())
        return dg.AssetCheckResult(
            passed=not words, asset_key=list(RECEIVERS_ASSET), check_name=CHECK, description=words or "Nothing waits."
        )

    return delivered
