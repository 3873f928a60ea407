"""The page of the alerting: an asset that no run builds, and a check of it that can be executed at any time."""

import dagster as dg

from run_elt_dagster.alerts.health import ASSET, CHECK
from run_elt_dagster.alerts.sensors import RETRIES_SENSOR, Alerts, at_location, health_of
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.runs.code_location import known_locations, location_here


def alert_asset() -> dg.AssetSpec:
    """Return the external asset. The sensor `slack_alert_retries` reports on its page."""
    return dg.AssetSpec(
        list(ASSET),
        group_name=ASSET[0],
        kinds={"slack"},
        description="Alerts of failed runs: the last delivery, and failures without a delivered alert.",
    )


def alerts_delivered(alerts: Alerts) -> dg.AssetChecksDefinition:
    """Return the check that fails while a failed run of the last 48 h has no delivered alert."""

    @dg.asset_check(
        asset=list(ASSET), name=CHECK, description="Every failed run of the last 48 h has a delivered alert."
    )
    def delivered(context: dg.AssetCheckExecutionContext, slack: Slack) -> dg.AssetCheckResult:
        origin = context.run.remote_job_origin
        known = known_locations(context.instance, RETRIES_SENSOR)
        names = () if origin is None else (origin.repository_origin.code_location_origin.location_name,)
        here = next((each for each in known if each.name in names), None) or location_here(known)
        return health_of(at_location(alerts, context.instance, here), context.instance, slack).check_result()

    return delivered
