"""The page of the alerting: an asset that nobody builds, and a check of it that can be asked at any time."""

import dagster as dg

from run_elt_dagster.alerts.health import ASSET, CHECK
from run_elt_dagster.alerts.sensors import Alerts, health_of
from run_elt_dagster.resources.slack import Slack


def alert_asset() -> dg.AssetSpec:
    """Return the external asset on whose page the sensor `slack_alert_retries` reports."""
    return dg.AssetSpec(
        list(ASSET),
        group_name=ASSET[0],
        kinds={"slack"},
        description="Alerts of failed runs: the last delivery, and failures that nobody has heard of yet.",
    )


def alerts_delivered(alerts: Alerts) -> dg.AssetChecksDefinition:
    """Return the check that fails while a failed run of the last 48 h has no delivered alert."""

    @dg.asset_check(
        asset=list(ASSET), name=CHECK, description="Every failed run of the last 48 h has a delivered alert."
    )
    def delivered(context: dg.AssetCheckExecutionContext, slack: Slack) -> dg.AssetCheckResult:
        return health_of(alerts, context.instance, slack).check_result()

    return delivered
