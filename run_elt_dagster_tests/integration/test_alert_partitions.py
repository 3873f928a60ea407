"""Alerts about partitions: they are named, a backfill is one thread, and another day is no recovery."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.acknowledging import snooze
from run_elt_dagster.alerts.backfills import tell_failed_backfills
from run_elt_dagster.alerts.digest import look_for_digest
from run_elt_dagster.alerts.digest_ledger import read_digests
from run_elt_dagster.alerts.first_attempt import alert_of_failed_run
from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.reconciliation import reconcile
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.runs.partitions import BACKFILL
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster_tests.integration.test_doctor import switch
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, Fault, SlackStandIn, slack_stand_in

LOG = logging.getLogger("alerts-of-partitions")
DAYS = "/* elt\nowner: team:a\npartitions: {by: day, column: day, start: 2024-01-01}\nelt */\nselect day, n from raw_data.e"


@dataclass
class Channel:
    """What the alerting of a project has said."""

    project: DagsterProject
    stand_in: SlackStandIn
    now: float = 0
    rules: dict[str, AlertRule] = field(default_factory=dict[str, AlertRule])

    @property
    def slack(self) -> Slack:
        return Slack(token=TOKEN, channel=CHANNEL, base_url=self.stand_in.url)

    @property
    def alerts(self) -> Alerts:
        owners = {"analytics.days": ["team:a"], "analytics.other": ["team:b"]}
        return Alerts(AlertSettings(), owners, ("job",), clock=lambda: self.now, rules=self.rules)

    def run(self, *tables: str, partitions: str, backfill: str = "") -> str:
        """Run partitions, and give the alerting its first look at the run."""
        tags = {BACKFILL: backfill} if backfill else None
        result = self.project.materialize(*(tables or ("days",)), partitions=partitions, tags=tags)
        record = self.project.instance.get_run_records(dg.RunsFilter(run_ids=[result.run_id]))[0]
        self.now = max(self.now, (record.end_time or 0) + 60)
        if not result.success:
            alert_of_failed_run(self.alerts, self.project.instance, self.slack, result.run_id, log=LOG)
        return result.run_id

    def tick(self) -> None:
        self.now += 60
        reconcile(self.alerts, self.project.instance, self.slack, log=LOG)

    @property
    def said(self) -> list[tuple[str, bool]]:
        """The texts, each with whether it is a reply."""
        return [(each["text"], bool(each.get("thread_ts"))) for each in self.stand_in.messages]


@pytest.fixture
def channel(project: DagsterProject) -> Iterator[Channel]:
    project.sql("create table raw_data.e (day date, n int)")
    project.sql("insert into raw_data.e values ('2024-01-01', 1), ('2024-01-03', 3), ('2024-01-05', 5)")
    project.declare(days=DAYS, other=DAYS.replace("team:a", "team:b"))
    with slack_stand_in() as stand_in:
        yield Channel(project, stand_in)


def test_alert_names_the_partitions_and_another_day_is_no_recovery(channel: Channel) -> None:
    channel.run(partitions="2024-01-01...2024-01-03")
    ((text, _),) = channel.said
    assert "analytics.days, 2024-01-02, was not published" in text
    assert "*Partitions:* `2024-01-02` · 2 others of the run published" in json.dumps(
        channel.stand_in.messages[0]["blocks"], ensure_ascii=False
    )
    channel.run(partitions="2024-01-03")
    channel.tick()
    assert len(channel.said) == 1
    channel.project.sql("insert into raw_data.e values ('2024-01-02', 2)")
    channel.run(partitions="2024-01-02")
    channel.tick()
    (reply,) = [text for text, is_reply in channel.said if is_reply]
    assert reply.startswith(":large_green_circle: Published again: analytics.days.")


@pytest.mark.thorough
def test_failed_runs_of_a_backfill_are_one_thread_until_each_partition_is_published(channel: Channel) -> None:
    channel.run(partitions="2024-01-02", backfill="kqwzabcd")
    channel.run("other", partitions="2024-01-04", backfill="kqwzabcd")
    channel.run("days", partitions="2024-01-04", backfill="kqwzabcd")
    first, *replies = channel.said
    assert (first[1], [is_reply for _, is_reply in replies]) == (False, [True, True])
    assert "3 runs of the backfill failed" in channel.stand_in.messages[0]["text"]
    assert "Another run of the backfill failed, 2 by now" in replies[0][0]
    assert "analytics.other · *Partitions:* `2024-01-04`" in replies[0][0]
    channel.project.sql("insert into raw_data.e values ('2024-01-02', 2), ('2024-01-04', 4)")
    channel.run("days", "other", partitions="2024-01-02")
    channel.run("days", partitions="2024-01-04")
    channel.tick()
    assert "Published again" not in channel.said[-1][0]
    channel.run("other", partitions="2024-01-04")
    channel.tick()
    assert "Published again" in channel.said[-1][0]


def a_backfill(status: str, *, backfill_id: str = "kqwzabcd", at: float = 1000, error: Any = None) -> Any:
    """Return a backfill as Dagster's storage keeps it. Its class has no public name."""
    kept = {
        "__class__": "PartitionBackfill",
        "backfill_id": backfill_id,
        "status": {"__enum__": f"BulkActionStatus.{status}"},
        "from_failure": False,
        "tags": {},
        "backfill_timestamp": float(at),
        "backfill_end_timestamp": float(at),
        "error": error,
        "asset_selection": [{"__class__": "AssetKey", "path": ["analytics", "days"]}],
    }
    return dg.deserialize_value(json.dumps(kept))


def test_backfill_that_failed_without_a_failed_run_is_told_once_and_again_until_slack_takes_it(
    channel: Channel,
) -> None:
    """Its only run is a success, and lacks a partition: no run failure sensor is called."""
    instance, cursor = channel.project.instance, None
    channel.now = 2000
    for status, name in (("COMPLETED_SUCCESS", "good"), ("CANCELED", "cancelled"), ("COMPLETED_FAILED", "kqwzabcd")):
        instance.add_backfill(a_backfill(status, backfill_id=name))
    channel.stand_in.faults = [Fault(status=500)]
    cursor = tell_failed_backfills(channel.alerts, instance, channel.slack, cursor, log=LOG)
    assert channel.said == []
    channel.stand_in.faults.clear()
    for _ in range(2):
        cursor = tell_failed_backfills(channel.alerts, instance, channel.slack, cursor, log=LOG)
    ((text, _),) = channel.said
    assert "*Backfill `kqwzabcd` failed, and it launched no run*" in text
    assert "*Tables:* analytics.days" in text
    assert "team:a" in text


def test_failed_backfill_waits_in_quiet_hours_until_its_tables_page(channel: Channel) -> None:
    channel.now = 3600
    channel.project.instance.add_backfill(a_backfill("COMPLETED_FAILED", at=channel.now))
    rule = AlertRule(severity="notify", quiet="00:00-06:00", page_after="2h")
    settings = AlertSettings(owners={"team:a": "S0123456789"})
    cursor, said = None, list[bool]()
    for hour in (2, 3.1, 4):
        channel.now = hour * 3600
        alerts = replace(channel.alerts, rules={"analytics.days": rule}, settings=settings)
        cursor = tell_failed_backfills(alerts, channel.project.instance, channel.slack, cursor, log=LOG)
        said.append(any("<!subteam^S0123456789>" in text for text, _ in channel.said))
    assert (said, len(channel.said)) == ([False, True, True], 1)


def test_failed_backfill_waits_on_the_page_of_the_alerts_until_it_is_told(channel: Channel, tmp_path: Path) -> None:
    """What the sensor keeps in its cursor says so. The history of a test in memory keeps no cursors."""
    channel.now = 2000
    with dg.DagsterInstance.from_config(str(lay_empty_history(tmp_path))) as instance:
        instance.add_backfill(a_backfill("COMPLETED_FAILED"))
        for cursor in (None, json.dumps({"kqwzabcd": "tried"})):
            switch(instance, "slack_alert_backfills", "SENSOR", "RUNNING", **({"cursor": cursor} if cursor else {}))
            health = health_of(channel.alerts, instance, channel.slack)
            assert (health.backfills, health.words) == (("kqwzabcd",), "1 failed backfill waits for its alert.")
            assert (health.metadata()["undelivered"], health.metadata()["undelivered_backfills"]) == (1, "kqwzabcd")
        told = tell_failed_backfills(channel.alerts, instance, channel.slack, None, log=LOG)
        switch(instance, "slack_alert_backfills", "SENSOR", "RUNNING", cursor=told)
        assert health_of(channel.alerts, instance, channel.slack).is_well


def test_backfill_with_a_failed_run_is_left_to_the_alert_of_the_run(channel: Channel) -> None:
    channel.run(partitions="2024-01-02", backfill="kqwzabcd")
    channel.project.instance.add_backfill(a_backfill("COMPLETED_FAILED", at=channel.now))
    tell_failed_backfills(channel.alerts, channel.project.instance, channel.slack, None, log=LOG)
    ((text, _),) = channel.said
    assert text.startswith("*🔴 analytics.days, 2024-01-02, was not published")


@pytest.mark.thorough
def test_held_failures_of_partitions_are_over_when_each_is_published(channel: Channel) -> None:
    channel.now = time.time()
    snooze(channel.alerts, channel.project.instance, "analytics.days", seconds=600, by="Jane")
    channel.run(partitions="2024-01-02")
    channel.run(partitions="2024-01-04")
    channel.project.sql("insert into raw_data.e values ('2024-01-04', 4)")
    channel.run(partitions="2024-01-04")
    channel.now += 900
    channel.tick()
    ((text, _),) = channel.said
    assert "Recovered" not in text


@pytest.mark.thorough
def test_line_of_the_digest_is_over_when_each_partition_is_published(channel: Channel) -> None:
    channel.now = time.time()
    channel.rules = {"analytics.days": AlertRule(severity="digest")}
    for day in ("02", "04"):
        channel.run(partitions=f"2024-01-{day}")
    instance, said = channel.project.instance, list[bool]()
    for day in ("04", "02"):
        look_for_digest(channel.alerts, instance, channel.slack, None, log=LOG)
        channel.project.sql(f"insert into raw_data.e values ('2024-01-{day}', 4)")
        channel.run(partitions=f"2024-01-{day}")
        look_for_digest(channel.alerts, instance, channel.slack, None, log=LOG)
        (line,) = read_digests(instance, "").lines
        said.append(bool(line.over_at))
    assert said == [False, True]
