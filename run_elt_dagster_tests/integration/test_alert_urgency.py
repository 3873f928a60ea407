"""How urgent the alerts of tables are: whom they wake, when, and what a person says to it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster_tests.support.alert_harness import AlertHarness
from run_elt_dagster_tests.support.slack_stand_in import slack_stand_in

MENTION = "<!subteam^S1>"


@dataclass
class Urgent(AlertHarness):
    """The harness with rules of tables, and owners whom Slack knows."""

    settings: AlertSettings = field(default_factory=lambda: AlertSettings(owners={"team:analytics": "S1"}))
    rules: dict[str, AlertRule] = field(default_factory=dict[str, AlertRule])

    @property
    def alerts(self) -> Alerts:
        return replace(super().alerts, rules={f"analytics.{name}": rule for name, rule in self.rules.items()})

    def texts(self) -> list[str]:
        """What stands in the channel, blocks and all."""
        return [str(message["blocks"]) for message in self.stand_in.messages]


@pytest.fixture
def urgent() -> Iterator[Urgent]:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as stand_in:
        yield Urgent(instance, stand_in)


def rule(**said: Any) -> AlertRule:
    return AlertRule.model_validate(said)


@pytest.mark.parametrize(
    ("severity", "other", "is_mentioned"),
    [("page", "page", True), ("notify", "notify", False), ("notify", "page", True), ("notify", None, True)],
)
def test_alert_mentions_the_owners_if_one_of_its_tables_pages(
    urgent: Urgent, severity: str, other: str | None, is_mentioned: bool
) -> None:
    urgent.names = ("mau", "dau")
    urgent.rules = {"mau": rule(severity=severity), **({"dau": rule(severity=other)} if other else {})}
    urgent.first_attempt(urgent.fail())
    (text,) = urgent.texts()
    assert (MENTION in text, "team:analytics" in text) == (is_mentioned, not is_mentioned)
