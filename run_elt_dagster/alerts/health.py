"""Is the alerting alive: what a page of the UI shows of the last delivery, and of failures without a delivered alert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.alerts.backfills import waiting_backfills
from run_elt_dagster.alerts.digest_ledger import read_digests
from run_elt_dagster.alerts.failed_runs import WAITING_READ, read_again, undelivered
from run_elt_dagster.alerts.late_ledger import read_ledger
from run_elt_dagster.alerts.late_pages import is_quiet
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.scope import ASSET, CHECK, Alerts, Known, alerting_statuses
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.counted import counted
from run_elt_dagster.runs.tags import ALERT

RUNS_NAMED = 20
# Code locations on one instance share the page; what each said last is among these.
REPORTS_READ = 50


@dataclass(frozen=True)
class Health:
    """How the alerting stands.

    Attributes:
        waiting: The failed runs of the last 48 h without a delivered alert, by run id.
        last_delivered_at: When the last alert was delivered, in seconds since the epoch; None if none ever was.
        missing: The variables that must be set before anything can be delivered, empty if none.
        location: The code location that looks, empty if it is unknown.
        backfills: The ids of the failed backfills of the last 48 h without a failed run and without a delivered alert.
        late: How many messages about late tables wait.
        digests: How many daily digests wait, that are due.
    """

    waiting: Mapping[str, LedgerEntry]
    last_delivered_at: float | None
    missing: str = ""
    location: str = ""
    backfills: tuple[str, ...] = ()
    late: int = 0
    digests: int = 0

    @property
    def is_well(self) -> bool:
        """Whether every failure was heard of. Without failures there is nothing to be heard of, token or not."""
        return not (self.waiting or self.backfills or self.late or self.digests)

    @property
    def words(self) -> str:
        """The state in a sentence."""
        if self.is_well:
            return f"No failed run waits for its alert{f', but {self.missing} not set' if self.missing else ''}."
        reasons = sorted({entry.reason for entry in self.waiting.values() if entry.reason})
        waiting = {
            ("failed runs", "failed run"): len(self.waiting),
            ("failed backfills", "failed backfill"): len(self.backfills),
            ("messages about late tables", "message about late tables"): self.late,
            ("daily digests", "daily digest"): self.digests,
        }
        counts = [counted(count, *what) for what, count in waiting.items() if count]
        wait = "waits for its alert" if sum(waiting.values()) == 1 else "wait for their alert"
        return f"{' and '.join(counts)} {wait}. {' '.join(reasons)}".strip()

    def metadata(self) -> dict[str, str | int]:
        """Return what the page shows."""
        last = self.last_delivered_at
        return {
            "undelivered": len(self.waiting) + len(self.backfills) + self.late + self.digests,
            "undelivered_runs": ", ".join(sorted(self.waiting)[:RUNS_NAMED]),
            **({"undelivered_backfills": ", ".join(self.backfills[:RUNS_NAMED])} if self.backfills else {}),
            "last_delivery": f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M:%S} UTC" if last else "never",
            "state": self.words,
            **({"code_location": self.location} if self.location else {}),
        }

    def check_result(self) -> dg.AssetCheckResult:
        """Return the verdict of the check `delivered`."""
        return dg.AssetCheckResult(
            passed=self.is_well,
            asset_key=list(ASSET),
            check_name=CHECK,
            description=self.words,
            metadata=self.metadata(),
        )


def report_if_changed(instance: dg.DagsterInstance, health: Health) -> bool:
    """Show the state on the page of the asset `alerts/slack`, if it is another than the page shows. Safe to repeat.

    Returns:
        Whether it had changed: an event for every tick would bury those that matter.
    """
    key = dg.AssetKey(list(ASSET))
    reports: Sequence[dg.EventLogRecord] = instance.fetch_observations(key, limit=REPORTS_READ).records
    last = _last_by_location(reports)
    metadata = health.metadata()
    if last.get(health.location) == metadata:
        return False
    # Another location's waiting failures must not look delivered because this one has none.
    others = [
        str(each["state"]) for name, each in last.items() if name not in ("", health.location) and each["undelivered"]
    ]
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=CHECK,
            passed=health.is_well and not others,
            description=" ".join([health.words, *others]),
            metadata={name: dg.MetadataValue.text(str(value)) for name, value in metadata.items()},
        )
    )
    # Last, so a process killed in between reports again.
    instance.report_runless_asset_event(dg.AssetObservation(key, metadata=metadata))
    return True


def _last_by_location(reports: Sequence[dg.EventLogRecord]) -> dict[str, Mapping[str, object]]:
    """Return what each code location said last, from what was said of late, the newest first."""
    last: dict[str, Mapping[str, object]] = {}
    for report in reports:
        observation = report.asset_observation
        # With a partition, it is a snooze.
        if observation is not None and observation.partition is None:
            said = {name: value.value for name, value in observation.metadata.items()}
            last.setdefault(str(said.get("code_location", "")), said)
    return last


def health_of(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    looked_at: Sequence[dg.RunRecord] | None = None,
    *,
    known: Known | None = None,
) -> Health:
    """Return how the alerting stands, by the ledger.

    Args:
        alerts: Whose runs.
        instance: Where they are.
        slack: Where alerts go.
        looked_at: What `undelivered` has returned a moment ago; None for a look at all of the last 48 h.
        known: What the ticks before have read.
    """
    known = known or Known()
    if slack.is_left_out(alerts.settings):
        # The receivers get the alerts, and have a page of their own.
        return Health({}, None, location=alerts.location)
    found = undelivered(alerts, instance) if looked_at is None else read_again(instance, looked_at)
    entries = {record.dagster_run.run_id: LedgerEntry.of(record.dagster_run) for record in found}
    waiting = {
        record.dagster_run.run_id: entries[record.dagster_run.run_id]
        for record in found
        if record.dagster_run.status in alerting_statuses(alerts)
        and entries[record.dagster_run.run_id].status not in ("delivered", "held")
    }
    known.last_delivered_at = _last_delivery_known(alerts, instance, known)
    backfills = tuple(backfill.id for backfill in waiting_backfills(alerts, instance))
    has_leftovers = known.looks_for_leftovers(alerts.clock())
    waiting_late = read_ledger(instance, alerts.location).waiting if alerts.watched or has_leftovers else ()
    late = sum(not is_quiet(alerts, lateness) for lateness, _ in waiting_late)
    return Health(
        waiting,
        known.last_delivered_at or None,
        slack.missing,
        location=alerts.location,
        backfills=backfills,
        late=late,
        digests=len(read_digests(instance, alerts.location).waiting) if alerts.rules or has_leftovers else 0,
    )


def _last_delivery_known(alerts: Alerts, instance: dg.DagsterInstance, known: Known) -> float:
    """Return when the last alert was delivered, 0 for never. The whole ledger is asked once, if none was delivered of late."""
    of_late = _last_delivery(alerts, _changed_last(alerts, instance))
    if of_late is None and known.last_delivered_at is None:
        of_late = _last_delivery(alerts, _delivered_last(alerts, instance))
    return max(of_late or 0, known.last_delivered_at or 0)


def _last_delivery(alerts: Alerts, records: Sequence[dg.RunRecord]) -> float | None:
    """Return when the last alert of these runs was delivered, in seconds since the epoch; None if none was."""
    entries = [LedgerEntry.of(record.dagster_run) for record in records]
    # Slack's id of a message is the moment at which it was posted: https://docs.slack.dev/messaging/retrieving-messages
    return max((float(e.ts) for e in entries if e.ts and alerts.location in ("", e.location)), default=None)


def _changed_last(alerts: Alerts, instance: dg.DagsterInstance) -> Sequence[dg.RunRecord]:
    """Return the failed runs that changed last, as a delivery does: an index has their order, that of a tag's runs none has."""
    return instance.get_run_records(
        dg.RunsFilter(statuses=alerting_statuses(alerts)), limit=WAITING_READ, order_by="update_timestamp"
    )


def _delivered_last(alerts: Alerts, instance: dg.DagsterInstance) -> Sequence[dg.RunRecord]:
    return instance.get_run_records(
        dg.RunsFilter(tags={ALERT: "delivered"}, statuses=alerting_statuses(alerts)),
        limit=WAITING_READ,
        order_by="update_timestamp",
    )
