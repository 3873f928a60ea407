"""Tables that a person has snoozed: observations on the page of `alerts/slack`, with the table as their partition.

Each is an event of its own, and the newest of a table counts. So two processes that snooze at once take nothing from each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from run_elt_dagster.alerts.scope import ASSET, Alerts

# A failure is looked for during 48 h. What is held back for a day is told before.
LONGEST_SECONDS = 86400
_READ = 1000
_UNTIL, _BY, _REASON, _LOCATION = "snoozed_until", "by", "reason", "code_location"


@dataclass(frozen=True)
class Snooze:
    """A table whose alerts wait.

    Attributes:
        table: `schema.table`.
        until: When it ends, in seconds since the epoch.
        by: Who has snoozed it.
        reason: Why, empty if nobody has said so.
    """

    table: str
    until: float
    by: str
    reason: str = ""

    @property
    def words(self) -> str:
        """Why an alert of the table waits."""
        return f"snoozed by {self.by}{f' ({self.reason})' if self.reason else ''}"


def write_snooze(alerts: Alerts, instance: dg.DagsterInstance, snooze: Snooze) -> None:
    """Let a snooze begin, or end if its end is past. Safe to repeat."""
    told = {_UNTIL: snooze.until, _BY: snooze.by, _REASON: snooze.reason, _LOCATION: alerts.location}
    metadata = {
        name: dg.MetadataValue.timestamp(value) if isinstance(value, float) else value
        for name, value in told.items()
        if value != ""
    }
    instance.report_runless_asset_event(
        dg.AssetObservation(dg.AssetKey(list(ASSET)), partition=snooze.table, metadata=metadata)
    )


def read_snoozes(alerts: Alerts, instance: dg.DagsterInstance) -> Mapping[str, Snooze]:
    """Return the snoozes that have not ended, by table: one query."""
    now = alerts.clock()
    lately = dg.AssetRecordsFilter(dg.AssetKey(list(ASSET)), after_timestamp=now - LONGEST_SECONDS)
    newest: dict[str, Snooze] = {}
    for record in instance.fetch_observations(lately, limit=_READ).records:
        observed = record.asset_observation
        if observed is None or observed.partition is None or _UNTIL not in observed.metadata:
            continue
        said = {name: value.value for name, value in observed.metadata.items()}
        if said.get(_LOCATION, "") in ("", alerts.location) or not alerts.location:
            snooze = Snooze(
                observed.partition, float(str(said[_UNTIL])), str(said.get(_BY, "")), str(said.get(_REASON, ""))
            )
            newest.setdefault(snooze.table, snooze)
    return {table: snooze for table, snooze in newest.items() if snooze.until > now}
