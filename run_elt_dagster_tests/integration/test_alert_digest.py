"""The daily digest: one message for each channel, posted once and brought up to date, with nothing lost and nothing twice."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.acknowledging import list_digest
from run_elt_dagster.alerts.digest import checks_of, look_for_digest
from run_elt_dagster.alerts.digest_ledger import read_digests
from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.late_tables import look_for_late_tables
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.runs.code_location import CodeLocation
from run_elt_dagster.runs.freshness import Watched
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.support.alert_harness import LOG, AlertHarness, ScriptedSession
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, Fault, slack_stand_in

DAY, SALES = 86400, "C0SALES"


@dataclass
class Daily(AlertHarness):
    """The harness with tables whose alerts wait for the digest, and the sensor's cursor."""

    settings: AlertSettings = field(default_factory=lambda: AlertSettings(owners={"team:analytics": "S0123456789"}))
    severity: str = "digest"
    page_after: str | None = None
    channels: dict[str, str] = field(default_factory=dict[str, str])
    watched: tuple[Watched, ...] = ()
    cursor: str | None = None
    checks: list[tuple[str, str]] | None = None
    others: dict[str, AlertRule] = field(default_factory=dict[str, AlertRule])

    @property
    def alerts(self) -> Alerts:
        rule = AlertRule.model_validate({"severity": self.severity or None, "page_after": self.page_after})
        rules = {f"analytics.{name}": rule for name in self.names} if self.severity else {}
        rules |= self.others
        return replace(super().alerts, rules=rules, channels=self.channels, watched=self.watched)

    def look(self, seconds_later: float = 60) -> str:
        """Let both sensors look."""
        self.tick(seconds_later)
        checks = None if self.checks is None else lambda: self.checks or ()
        self.cursor, words = look_for_digest(
            self.alerts, self.instance, self.slack, self.cursor, log=LOG, checks=checks
        )
        return words

    def look_at_the_hour(self) -> str:
        return self.look(min(digest.due_at for digest in read_digests(self.instance, "").digests) - self.now)

    def check(self, *, passed: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN) -> None:
        """Record a run with a check, one that only warns if nothing else is said."""

        @dg.asset(
            key=["analytics", "mau"], check_specs=[dg.AssetCheckSpec("nulls", asset=dg.AssetKey(["analytics", "mau"]))]
        )
        def mau() -> Iterator[dg.MaterializeResult[Any]]:
            warning = dg.AssetCheckResult(
                check_name="nulls",
                passed=passed,
                severity=severity,
                description="3 NULL, expected none",
            )
            yield dg.MaterializeResult(check_results=[warning])

        dg.materialize([mau], instance=self.instance)
        self.now = max(self.now, time.time())


@pytest.fixture
def daily() -> Iterator[Daily]:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as stand_in:
        stand_in.channels.add(SALES)
        harness = Daily(instance, stand_in, now=time.time())
        harness.look(0)
        yield harness


def test_failures_are_one_message_at_the_hour_that_changes_without_a_sound(daily: Daily) -> None:
    runs = [daily.fail(), daily.fail()]
    daily.first_attempt(runs[0])
    daily.look()
    assert (daily.posts(), [daily.ledger(run).status for run in runs]) == (0, ["digest"] * 2)
    assert [(line.tables, line.count) for line in list_digest(daily.alerts, daily.instance)] == [
        (("analytics.mau",), 2)
    ]
    daily.look_at_the_hour()
    (message,) = daily.stand_in.messages
    assert message["text"].startswith("*🗒️ Digest: 1 table was not published*\n• *analytics.mau:* Check row_count: got")
    assert " · 2 times since " in message["text"]
    assert "*Owner:* team:analytics" in message["text"]
    daily.fail()
    daily.look()
    daily.look()
    assert " · 3 times since " in message["text"]
    daily.publish()
    daily.look()
    daily.look()
    assert message["text"].startswith("*🟢 Digest: all is over by now*")
    daily.look(DAY)
    assert (daily.posts(), len(daily.stand_in.calls("chat.update"))) == (1, 2)
    assert read_digests(daily.instance, "").digests == ()


def test_what_is_not_over_is_in_the_next_days_digest(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.look_at_the_hour()
    daily.look(3 * DAY)
    daily.look(60)
    first, second = daily.stand_in.messages
    assert second["text"] == first["text"]


def test_warnings_are_in_the_digest_of_a_table_with_a_severity(daily: Daily) -> None:
    daily.severity = "page"
    daily.check(passed=False)
    daily.look()
    daily.check(passed=False)
    daily.look()
    daily.cursor = None
    daily.look()
    daily.look_at_the_hour()
    (message,) = daily.stand_in.messages
    said = "*🗒️ Digest: 1 check warns*\n• *analytics.mau:* check nulls: 3 NULL, expected none"
    assert message["text"].startswith(said)
    assert " · 2 times since " in message["text"]


@pytest.mark.thorough
def test_warning_that_is_over_before_the_hour_is_told_all_the_same(daily: Daily) -> None:
    daily.check(passed=False)
    daily.look()
    daily.check(passed=True)
    daily.look()
    daily.look_at_the_hour()
    (message,) = daily.stand_in.messages
    assert message["text"].startswith(
        "*🟢 Digest: all is over by now*\n:large_green_circle: *analytics.mau:* check nulls"
    )


@pytest.mark.thorough
def test_each_channel_has_its_own_digest(daily: Daily) -> None:
    daily.names, daily.channels = ("mau", "dau"), {"analytics.dau": SALES}
    daily.fail_only("mau")
    daily.fail_only("dau")
    daily.look()
    daily.look_at_the_hour()
    assert sorted(message["channel"] for message in daily.stand_in.messages) == sorted([CHANNEL, SALES])


@pytest.mark.thorough
def test_digest_waits_for_slack_and_is_counted_meanwhile(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.stand_in.faults.append(Fault(status=503, method="", times=-1))
    daily.look_at_the_hour()
    assert not health_of(daily.alerts, daily.instance, daily.slack).is_well
    assert "1 daily digest waits for its alert" in health_of(daily.alerts, daily.instance, daily.slack).words
    daily.stand_in.faults.clear()
    daily.look(90)
    assert daily.posts() == 2
    assert len(daily.stand_in.messages) == 1
    assert health_of(daily.alerts, daily.instance, daily.slack).is_well


@pytest.mark.thorough
def test_digest_with_a_lost_answer_is_not_posted_twice(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.stand_in.has_history = True
    daily.stand_in.faults.append(Fault(drop_answer=True, times=1))
    daily.look_at_the_hour()
    for _ in range(3):
        daily.look(90)
    assert len(daily.stand_in.messages) == 1


def test_failure_is_counted_once_though_the_process_was_killed_before_it_was_marked(daily: Daily) -> None:
    run = daily.fail()
    daily.look()
    queued = replace(daily.ledger(run), status="queued")
    daily.instance.add_run_tags(run, queued.tags(run))
    daily.look()
    assert [(line.count, daily.ledger(run).status) for line in read_digests(daily.instance, "").lines] == [
        (1, "digest")
    ]


@pytest.mark.thorough
def test_deleted_digest_is_posted_anew_when_something_is_new(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.look_at_the_hour()
    daily.stand_in.delete(daily.stand_in.messages[0]["ts"])
    daily.look()
    assert daily.stand_in.messages == []
    daily.fail()
    daily.look()
    daily.look()
    assert [" · 2 times since " in message["text"] for message in daily.stand_in.messages] == [True]


def test_failure_of_a_table_that_pages_beside_one_for_the_digest_alerts_now(daily: Daily) -> None:
    daily.names = ("mau", "dau")
    alerts = replace(daily.alerts, rules={"analytics.mau": AlertRule(severity="digest")})
    assert alerts.severity_of(["analytics.mau", "analytics.dau"]) == "page"
    assert alerts.severity_of(["analytics.mau"]) == "digest"


@pytest.mark.thorough
def test_late_table_is_in_the_digest_and_has_no_message_of_its_own(daily: Daily) -> None:
    daily.publish()
    rule = FreshWithin(fail="26h")  # type: ignore[arg-type]
    daily.watched = (Watched("analytics.mau", rule, schedule="daily"),)
    cursor = None
    for seconds in (0, 27 * 3600):
        daily.now += seconds
        cursor, _ = look_for_late_tables(daily.alerts, daily.instance, daily.slack, cursor, log=LOG)
    daily.look()
    daily.look()
    assert daily.posts() == 0
    daily.look_at_the_hour()
    (message,) = daily.stand_in.messages
    assert message["text"].startswith("*🗒️ Digest: 1 table is late*")
    daily.severity = "page"
    cursor, _ = look_for_late_tables(daily.alerts, daily.instance, daily.slack, cursor, log=LOG)
    cursor, _ = look_for_late_tables(daily.alerts, daily.instance, daily.slack, cursor, log=LOG)
    assert daily.stand_in.messages[-1]["text"].startswith("*🟠 analytics.mau is late")
    daily.look()
    assert [line.over_at for line in read_digests(daily.instance, "").lines] == [0], "it is late still"


@pytest.mark.thorough
def test_without_a_token_the_digest_goes_to_the_log_once(daily: Daily, caplog: pytest.LogCaptureFixture) -> None:
    daily.token = None
    daily.fail()
    daily.look()
    for _ in range(3):
        daily.look(DAY)
    assert caplog.text.count("SLACK_TOKEN not set. This digest goes to the log only") == 1


@pytest.mark.thorough
def test_failures_of_the_digest_page_after_some_in_a_row_and_recover_in_their_thread(daily: Daily) -> None:
    daily.page_after = "2 failures"
    daily.fail()
    daily.look()
    last = daily.fail()
    daily.look()
    daily.look()
    (message,) = daily.stand_in.messages
    assert "<!subteam^S0123456789>" in message["text"]
    assert "2 failures in a row" in message["text"]
    assert daily.ledger(last).state == "open"
    daily.fail()
    daily.look()
    assert "Failed the same way 2 times." in message["text"]
    daily.look_at_the_hour()
    assert ":rotating_light: has paged" in daily.stand_in.messages[-1]["text"]
    daily.publish()
    daily.look()
    daily.look()
    assert sum("🟢" in each["text"] for each in daily.stand_in.messages) == 2
    daily.fail()
    posts = daily.posts()
    daily.look()
    assert daily.posts() == posts


@pytest.mark.thorough
def test_failure_of_the_digest_pages_after_its_time(daily: Daily) -> None:
    daily.page_after = "1h"
    daily.fail()
    daily.look()
    for _ in range(3):
        daily.look(3600)
    assert "it has failed for 1 h" in daily.stand_in.messages[0]["text"]
    assert sum("it has failed for 1 h" in each["text"] for each in daily.stand_in.messages) == 1


@pytest.mark.thorough
def test_found_digest_gets_what_came_after_the_attempt_whose_answer_was_lost(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.stand_in.has_history = True
    daily.stand_in.faults.append(Fault(drop_answer=True, times=1))
    daily.look_at_the_hour()
    daily.fail()
    for _ in range(3):
        daily.look(90)
    assert [" · 2 times since " in message["text"] for message in daily.stand_in.messages] == [True]


def test_digest_that_slack_takes_a_day_late_is_posted_once(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.stand_in.faults.append(Fault(status=503, method=""))
    daily.look_at_the_hour()
    daily.look(DAY + 600)
    daily.stand_in.faults.clear()
    for _ in range(4):
        daily.look(300)
    assert len(daily.stand_in.messages) == 1


def test_failure_that_was_held_back_before_the_location_was_known_is_in_its_digest(daily: Daily) -> None:
    run = daily.fail()
    daily.first_attempt(run)
    daily.here = CodeLocation("here", "__repository__", "", {})
    daily.look()
    assert daily.ledger(run).status == "digest"


def test_line_of_a_table_without_a_file_is_in_no_further_digest(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.look_at_the_hour()
    daily.names = ("dau",)
    daily.look(DAY)
    assert (daily.posts(), read_digests(daily.instance, "").digests) == (1, ())


@pytest.mark.parametrize("kept", [True, False])
def test_warning_of_a_check_that_is_gone_is_told_once(daily: Daily, kept: bool) -> None:
    daily.check(passed=False)
    daily.look()
    daily.look_at_the_hour()
    daily.checks = [("analytics.mau", "nulls" if kept else "rows")]
    daily.look(DAY)
    assert (daily.posts(), len(read_digests(daily.instance, "").digests)) == ((2, 1) if kept else (1, 0))


def test_checks_are_those_of_assets_and_of_code_beside_them() -> None:
    @dg.asset(key=["analytics", "mau"], check_specs=[dg.AssetCheckSpec("own", asset=dg.AssetKey(["analytics", "mau"]))])
    def mau() -> Iterator[dg.MaterializeResult[Any]]:
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="own", passed=True)])

    @dg.asset_check(asset=["analytics", "mau"])
    def beside() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    location = dg.Definitions(assets=[mau], asset_checks=[beside]).get_repository_def()
    assert checks_of(location) == {("analytics.mau", "own"), ("analytics.mau", "beside")}


def test_failure_is_over_though_one_of_its_tables_has_no_file_any_more(daily: Daily) -> None:
    daily.names = ("mau", "dau")
    daily.fail()
    daily.look()
    daily.names = ("mau",)
    daily.publish()
    daily.look()
    assert [bool(line.over_at) for line in read_digests(daily.instance, "").lines] == [True]


def test_digest_that_cannot_be_changed_is_posted_anew(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.look_at_the_hour()
    daily.stand_in.faults.append(Fault(error="edit_window_closed", method="chat.update"))
    daily.fail()
    daily.look()
    daily.look()
    assert [" · 2 times since " in message["text"] for message in daily.stand_in.messages] == [False, True]


@pytest.mark.thorough
def test_failure_that_is_not_looked_for_any_more_is_not_said_to_page(daily: Daily) -> None:
    daily.fail()
    daily.look()
    daily.page_after = "1h"
    daily.look(3 * DAY)
    (line,) = read_digests(daily.instance, "").lines
    assert (line.paged_at, daily.ledger(line.run_id).status) == (0, "digest")


def test_warning_whose_check_holds_with_another_severity_is_over(daily: Daily) -> None:
    daily.check(passed=False)
    daily.look()
    assert len(list_digest(daily.alerts, daily.instance)) == 1
    daily.check(passed=True, severity=dg.AssetCheckSeverity.ERROR)
    daily.look()
    assert list_digest(daily.alerts, daily.instance) == []


def test_failure_that_pages_mentions_the_owners_though_slack_was_not_set_up_then(daily: Daily) -> None:
    daily.page_after = "2 failures"
    for _ in range(2):
        daily.first_attempt(daily.fail())
    daily.look()
    token, daily.token = daily.token, None
    daily.look()
    daily.token = token
    daily.look()
    (message,) = daily.stand_in.messages
    assert "<!subteam^S0123456789>" in str(message["blocks"])
    assert "2 failures in a row" in str(message["blocks"])


@pytest.mark.thorough
def test_failure_of_another_cause_counts_in_the_row_that_has_paged(daily: Daily) -> None:
    daily.page_after = "2 failures"
    for _ in range(2):
        daily.first_attempt(daily.fail())
    daily.look()
    daily.session = ScriptedSession(
        errors={"build": StatementError("no such column", errno=904, query_id="01", answered=True)}
    )
    other = daily.run()
    daily.first_attempt(other)
    for _ in range(3):
        daily.look()
    assert "3 failures in a row" in daily.ledger(other).paged_for


def test_digest_that_slack_refuses_for_what_it_says_is_tried_again_the_next_day(daily: Daily) -> None:
    daily.first_attempt(daily.fail())
    daily.look()
    daily.stand_in.faults.append(Fault(error="invalid_arguments", method="chat.postMessage", times=1))
    daily.look_at_the_hour()
    daily.look(600)
    assert daily.posts() == 1
    assert not health_of(daily.alerts, daily.instance, daily.slack).is_well
    daily.look(DAY)
    assert daily.posts() == 2
    assert read_digests(daily.instance, "").digests[0].is_posted


def tick_of_retries(harness: AlertHarness) -> None:
    """Let the sensor tick that is built whatever the files declare."""
    (sensor,) = (each for each in alert_sensors(harness.alerts) if each.name == "slack_alert_retries")
    with dg.build_sensor_context(harness.instance, resources={"slack": harness.slack}) as context:
        sensor(context)


def test_what_waits_is_told_after_the_last_severity_is_gone(daily: Daily) -> None:
    runs = [daily.fail()]
    daily.look()
    runs.append(daily.fail())
    daily.tick(30)
    daily.check(passed=False)
    assert [daily.ledger(run).status for run in runs] == ["digest", "queued"]
    daily.severity = ""
    assert "slack_alert_digest" not in [sensor.name for sensor in alert_sensors(daily.alerts)]
    daily.stand_in.faults.append(Fault(status=503, method="", times=1))
    for _ in range(3):
        daily.now += 61
        tick_of_retries(daily)
    (message,) = daily.stand_in.messages
    assert " · 2 times since " in message["text"]
    daily.publish()
    tick_of_retries(daily)
    assert message["text"].startswith("*🟢 Digest: all is over by now*")
    daily.now += DAY
    tick_of_retries(daily)
    tick_of_retries(daily)
    assert (read_digests(daily.instance, "").digests, len(daily.stand_in.messages)) == ((), 1)


def test_late_table_is_told_to_be_watched_no_more_after_the_last_rule_is_gone(daily: Daily) -> None:
    daily.severity = ""
    daily.publish()
    daily.watched = (Watched("analytics.mau", FreshWithin(fail="26h"), schedule="daily"),)  # type: ignore[arg-type]
    cursor = None
    for seconds in (0, 27 * 3600):
        daily.now += seconds
        cursor, _ = look_for_late_tables(daily.alerts, daily.instance, daily.slack, cursor, log=LOG)
    daily.watched = ()
    tick_of_retries(daily)
    late, gone = daily.stand_in.messages
    assert (gone["thread_ts"], "Without `fresh_within` by now: analytics.mau" in gone["text"]) == (late["ts"], True)


@pytest.mark.parametrize("is_alone_last", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_failures_beside_a_more_urgent_table_count_in_the_row_of_the_digest(daily: Daily, is_alone_last: bool) -> None:
    daily.names, daily.page_after = ("mau", "dau"), "3 failures"
    daily.others = {"analytics.dau": AlertRule(severity="notify")}
    for is_alone in (False, True, True) if is_alone_last else (True, True, False):
        daily.fail_only("mau") if is_alone else daily.fail()
        daily.look()
    daily.look()
    paged = [each["text"] for each in daily.stand_in.messages if "3 failures in a row" in each["text"]]
    assert len([text for text in paged if "<!subteam^S0123456789>" in text]) == (1 if is_alone_last else 2)
    assert daily.ledger(daily.instance.get_runs(limit=1)[0].run_id).paged_at
    daily.publish()
    daily.look()
    daily.fail()
    posts = len([each for each in daily.stand_in.messages if "in a row" in each["text"]])
    daily.look()
    daily.look()
    assert len([each for each in daily.stand_in.messages if "in a row" in each["text"]]) == posts
