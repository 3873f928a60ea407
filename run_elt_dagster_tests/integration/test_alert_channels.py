"""Tables with a channel of their own: their alerts go there, and none waits for a channel that takes no message."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import dagster as dg
import pytest

from run_elt_dagster.alerts.late_tables import look_for_late_tables
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.runs.freshness import Watched
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster_tests.support.alert_harness import LOG, AlertHarness
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, Fault, slack_stand_in

SALES = "C0SALES"


@dataclass
class Routed(AlertHarness):
    """The harness with channels of tables."""

    channels: dict[str, str] = field(default_factory=lambda: {"analytics.mau": SALES})

    @property
    def alerts(self) -> Alerts:
        return replace(super().alerts, channels=self.channels)

    def where(self) -> list[str]:
        return [message["channel"] for message in self.stand_in.messages]


@pytest.fixture
def routed() -> Iterator[Routed]:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as stand_in:
        stand_in.channels.add(SALES)
        yield Routed(instance, stand_in)


def test_alert_its_repeat_and_its_recovery_are_in_the_channel_of_the_table(routed: Routed) -> None:
    routed.first_attempt(routed.fail())
    routed.first_attempt(routed.fail())
    routed.publish()
    routed.tick(60)
    first, repeat, recovery = routed.stand_in.messages
    assert routed.where() == [SALES] * 3
    assert [repeat["thread_ts"], recovery["thread_ts"]] == [first["ts"]] * 2
    assert {call["channel"] for call in routed.stand_in.calls("chat.update")} == {SALES}


def test_run_whose_tables_have_several_channels_alerts_in_that_of_the_deployment(routed: Routed) -> None:
    routed.names = ("mau", "dau")
    routed.first_attempt(routed.fail())
    assert routed.where() == [CHANNEL]


def test_deployment_for_trying_out_keeps_all_alerts_in_its_channel(routed: Routed) -> None:
    routed.settings = AlertSettings(own_channels=False)
    routed.first_attempt(routed.fail())
    assert routed.where() == [CHANNEL]


def test_channel_that_does_not_exist_makes_no_alert_wait(routed: Routed) -> None:
    routed.channels = {"analytics.mau": "C0GONE"}
    run = routed.fail()
    routed.first_attempt(run)
    routed.first_attempt(routed.fail())
    first, repeat = routed.stand_in.messages
    assert routed.where() == [CHANNEL] * 2
    posted = routed.stand_in.calls("chat.postMessage")[1]["text"]
    assert "This belongs into the channel C0GONE, and Slack refuses it there: channel_not_found" in posted
    assert repeat["thread_ts"] == first["ts"]
    assert routed.ledger(run).status == "delivered"


def test_lost_answer_is_looked_for_in_the_channel_of_the_table(routed: Routed) -> None:
    routed.stand_in.has_history = True
    routed.stand_in.faults.append(Fault(drop_answer=True, times=1))
    run = routed.fail()
    routed.first_attempt(run)
    for _ in range(3):
        routed.tick(90)
    assert routed.ledger(run).status == "delivered"
    assert routed.where() == [SALES]


def test_late_tables_of_two_channels_are_two_messages(routed: Routed) -> None:
    routed.names = ("mau", "dau")
    routed.publish()
    rule = FreshWithin(fail="26h")  # type: ignore[arg-type]
    watched = tuple(Watched(f"analytics.{name}", rule, schedule="daily") for name in routed.names)
    cursor = None
    for seconds in (0, 27 * 3600):
        routed.now += seconds
        alerts = replace(routed.alerts, watched=watched)
        cursor, _ = look_for_late_tables(alerts, routed.instance, routed.slack, cursor, log=LOG)
    assert sorted(routed.where()) == sorted([SALES, CHANNEL])
