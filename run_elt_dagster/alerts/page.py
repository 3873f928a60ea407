"""The page that shows how the alerting stands: an asset and its check. health.py says what stands there."""

from typing import Any

import dagster as dg

from run_elt_dagster.alerts.scope import ASSET, CHECK, DIGEST_ASSET, LATE_ASSET, RETRIES_SENSOR, Alerts, at_location
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


def late_asset() -> dg.AssetSpec:
    """Return the external asset whose page shows which tables are late."""
    return dg.AssetSpec(
        list(LATE_ASSET),
        group_name=LATE_ASSET[0],
        kinds={"slack"},
        description="Tables whose rows are older than their `fresh_within` allows, and the messages about them.",
    )


def digest_asset() -> dg.AssetSpec:
    """Return the external asset that keeps the daily digests."""
    return dg.AssetSpec(
        list(DIGEST_ASSET),
        group_name=DIGEST_ASSET[0],
        kinds={"slack"},
        description="The daily digests: what they say of tables with `severity: digest`, and of warnings.",
    )


def alerts_delivered(alerts: Alerts) -> dg.AssetChecksDefinition:
    """Return the check that fails while a failed run of the last 48 h has no delivered alert."""

    @dg.asset_check(
        asset=list(ASSET), name=CHECK, description="Every failed run of the last 48 h has a delivered alert."
    )
    def delivered(context: dg.AssetCheckExecutionContext, slack: dg.ResourceParam[Any]) -> dg.AssetCheckResult:
        from run_elt_dagster.alerts.health import health_of  # noqa: PLC0415 - only the check needs it

        origin = context.run.remote_job_origin
        known = known_locations(context.instance, RETRIES_SENSOR)
        names = () if origin is None else (origin.repository_origin.code_location_origin.location_name,)
        here = next((each for each in known if each.name in names), None) or location_here(known, alerts.place)
        channel = Slack.of(slack, alerts.settings)
        return health_of(at_location(alerts, context.instance, here), context.instance, channel).check_result()

    return delivered
