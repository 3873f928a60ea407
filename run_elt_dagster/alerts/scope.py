"""Whose failures alert, and where the alerts go: what the sensors know of the code location."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from run_elt_dagster.model.alert_rule import SEVERITIES
from run_elt_dagster.runs.code_location import CodeLocation, Place, known_locations
from run_elt_dagster.settings import AlertSettings, secret_values

if TYPE_CHECKING:
    from run_elt_dagster.alerts.blocks import Style
    from run_elt_dagster.alerts.delivery import Clock
    from run_elt_dagster.alerts.production import Seen
    from run_elt_dagster.model.alert_rule import AlertRule, PageAfter, Severity
    from run_elt_dagster.runs.freshness import Rows, Watched

RETRIES_SENSOR, BACKFILLS_SENSOR, LATE_SENSOR, DIGEST_SENSOR = (
    "slack_alert_retries",
    "slack_alert_backfills",
    "slack_alert_late_tables",
    "slack_alert_digest",
)
# The asset that shows how the alerting stands, and its check.
ASSET, CHECK = ("alerts", "slack"), "delivered"
# The asset that keeps which tables are late.
LATE_ASSET = ("alerts", "late_tables")
# The asset that keeps the daily digests.
DIGEST_ASSET = ("alerts", "digest")
# The asset that keeps what the other receivers still have to get, and their sensor.
RECEIVERS_ASSET, RECEIVERS_SENSOR = ("alerts", "receivers"), "alert_receivers"

# A process looks so long for what is left of settings that its files have not any more: the one before it may be in a tick still.
LEFTOVERS_SECONDS = 120


@dataclass
class Sweep:
    """How far the look at the failures of the last 48 h has come; a new one begins with the newest.

    Attributes:
        cursor: The run after which it goes on, None for the newest.
    """

    cursor: str | None = None


@dataclass
class KnownRows:
    """What the looks before have read: a table is asked about again when it may be late, and not before.

    Attributes:
        rows: By the name of the table.
        asked: In which look each table was asked about last: where many may be late, they take turns.
        looks: How many looks there were.
    """

    rows: dict[str, Rows | None] = field(default_factory=dict[str, "Rows | None"])
    asked: dict[str, int] = field(default_factory=dict[str, int])
    looks: int = 0


@dataclass
class Known:
    """What the ticks before have read of the history: a tick then reads what is new, however long the history is.

    Attributes:
        tables: Of the open incidents, the tables that are to be published again, by the id of the first run. It has ended: they
            do not change.
        unreadable: Until when those are left alone whose events could not be read, in seconds since the epoch, by the id of the first run.
        cleared_until: Until when copies of visible tags were taken away, in seconds since the epoch; None before the first look.
        last_delivered_at: When the last alert was delivered, in seconds since the epoch; 0 for never, None before the first look.
        counts: When the last run of an open incident had failed, how many had, and when the first one did, by the id of the run that its
            message is kept with.
        leftovers_until: Until when it is asked what is left to tell of what no file asks for any more, in seconds since the epoch; None
            before the first look.
    """

    counts: dict[str, tuple[float, int, float]] = field(default_factory=dict[str, tuple[float, int, float]])
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    unreadable: dict[str, float] = field(default_factory=dict[str, float])
    cleared_until: float | None = None
    last_delivered_at: float | None = None
    leftovers_until: float | None = None

    def looks_for_leftovers(self, now: float) -> bool:
        """Return whether it is asked now what is left to tell of what no file asks for any more."""
        if self.leftovers_until is None:
            self.found_leftovers(now)
        return now <= (self.leftovers_until or 0)

    def found_leftovers(self, now: float) -> None:
        """Let the next looks ask again."""
        self.leftovers_until = now + LEFTOVERS_SECONDS


@dataclass(frozen=True)
class Alerts:
    """What the sensors know of the code location.

    Attributes:
        settings: Where alerts go.
        owners: The owners of every declared table by the key of its asset with dots; these keys say which tables are ours.
        jobs: Names of the jobs whose runs are looked at, besides assets that are materialized by hand.
        look: Asks Snowflake for the run of the rows that readers see of some tables, by the same keys. Its last argument is the failed
            run: what that has left half done is ended.
        clock: The time in seconds since the epoch.
        wait: Lets that many seconds pass.
        here: The code location itself; None where every location's runs are looked at.
        others: What is known of the locations with these alerts.
        place: What the code location builds, and where; None for what the environment says.
        watched: The tables that declare how old their rows may be.
        is_automated: Whether schedules and sensors run unless a person switches them off.
        channels: The channels of the tables whose alerts have one of their own, by the same keys.
        receivers: The names of the receivers besides Slack, of the tables whose alerts do not go to all of them, by the same keys.
        rules: How urgent the alerts of the tables are whose files say it, by the same keys.
    """

    settings: AlertSettings
    owners: Mapping[str, Sequence[str]]
    jobs: tuple[str, ...]
    look: Callable[[Sequence[str], logging.Logger, str], Seen | None] = lambda _, __, ___: None
    clock: Clock = field(default=time.time)
    wait: Callable[[float], None] = field(default=time.sleep)
    here: CodeLocation | None = None
    others: tuple[CodeLocation, ...] = ()
    place: Place | None = None
    watched: tuple[Watched, ...] = ()
    is_automated: bool = True
    channels: Mapping[str, str] = field(default_factory=dict[str, str])
    rules: Mapping[str, AlertRule] = field(default_factory=dict[str, "AlertRule"])
    receivers: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    def receivers_of(self, names: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
        """Return which receivers get an alert about some tables: those of each of them. An alert without a table goes to all.

        Args:
            names: The tables.
            known: The names of the receivers of this deployment. A table whose file names none of them alerts all: no alert is lost by a name.
        """
        found = set[str]()
        for name in names:
            found.update({*self.receivers.get(name, ())} & {*known} or known)
        return tuple(each for each in known if each in found or not found)

    def channel_of(self, names: Iterable[str]) -> str:
        """Return the channel that all of some tables have; empty for that of the deployment: tables of several share it."""
        channels = {self.channels.get(name, "") for name in names} if self.settings.own_channels else set[str]()
        return channels.pop() if len(channels) == 1 else ""

    def severity_of(self, names: Iterable[str]) -> Severity:
        """Return how urgent an alert about some tables is: as the most urgent of them. One without a table, or a rule, pages."""
        declared: set[Severity] = {
            (rule.severity if (rule := self.rules.get(name)) is not None else None) or "page" for name in names
        }
        found: list[Severity] = [severity for severity in SEVERITIES if severity in declared]
        return found[0] if found else "page"

    def quiet_until(self, names: Iterable[str]) -> float:
        """Return when an alert about some tables may be posted, in seconds since the epoch: at the end of quiet hours. 0 for now.

        It waits if it only notifies, and all of its tables that notify have quiet hours now.
        """
        names = list(names)
        if self.severity_of(names) != "notify":
            return 0
        now = datetime.fromtimestamp(self.clock(), UTC)
        rules = [rule for name in names if (rule := self.rules[name]).severity == "notify"]
        ends = [rule.quiet_until(now) for rule in rules]
        return min((end.timestamp() for end in ends if end is not None), default=0) if None not in ends else 0

    def escalations_of(self, names: Iterable[str]) -> dict[str, PageAfter]:
        """Return when the tables page that do not page at once, by name."""
        rules = ((name, self.rules[name].escalation) for name in names if name in self.rules)
        return {name: escalation for name, escalation in rules if escalation is not None}

    @property
    def location(self) -> str:
        """The name of the code location, empty if it is unknown."""
        return self.here.name if self.here else ""

    def style(self, of: Iterable[str] = ()) -> Style:
        """Return what goes into every message; read anew, since secrets can change.

        Args:
            of: The tables of the message. It mentions their owners if it pages, and names them otherwise.
        """
        from run_elt_dagster.alerts.blocks import Style  # noqa: PLC0415 - only a message needs it

        style = Style.of(self.settings, secrets=secret_values())
        return style if self.severity_of(of) == "page" else replace(style, mentions={})


def at_location(alerts: Alerts, instance: dg.DagsterInstance, here: CodeLocation | None) -> Alerts:
    """Return the alerts of one code location, with what is known of the others."""
    return alerts if here is None else replace(alerts, here=here, others=known_locations(instance, RETRIES_SENSOR))


def alerting_statuses(alerts: Alerts) -> list[dg.DagsterRunStatus]:
    """Return the statuses of runs that alert."""
    cancelled = [dg.DagsterRunStatus.CANCELED] if alerts.settings.on_cancel else []
    return [dg.DagsterRunStatus.FAILURE, *cancelled]
