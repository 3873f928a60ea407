"""Receivers besides Slack over real HTTP and SMTP: each alert arrives, whatever becomes of an answer or of the process."""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from pydantic import SecretStr

from run_elt_dagster.alerts import receivers_delivery, receivers_ledger, receivers_news
from run_elt_dagster.alerts.acknowledging import acknowledge, snooze
from run_elt_dagster.alerts.all_is_well import problems
from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.incidents import UNREADABLE_SECONDS
from run_elt_dagster.alerts.late_tables import GRACE, look_for_late_tables
from run_elt_dagster.alerts.leftovers import tell_leftovers
from run_elt_dagster.alerts.receivers import NOT_INSTALLED, TEXT_LIMIT
from run_elt_dagster.alerts.receivers_delivery import Desk, ReceiversUnusableError, tell_receivers
from run_elt_dagster.alerts.receivers_ledger import SILENT_SECONDS, ReceiverLedger, read_ledger
from run_elt_dagster.alerts.receivers_sensor import receivers_asset, receivers_delivered
from run_elt_dagster.alerts.scope import Alerts, Known
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.runs.freshness import Watched
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster_tests.support.alert_harness import LOG, AlertHarness
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.receiver_stand_in import ReceiverStandIn, mail_server, web_hook
from run_elt_dagster_tests.support.slack_stand_in import slack_stand_in

HOUR = 3600
# More looks than anything takes, each of some ms.
ROUNDS = 300
FAILED = "analytics.mau was not published. Check row_count: got 0 rows, expected at least 1 row"


@dataclass
class Receiving(AlertHarness):
    """The harness with a web hook and a mailbox, and a look that is a tick of their sensor."""

    desk: Desk = field(default_factory=Desk)
    watches: bool = False
    rules: dict[str, AlertRule] = field(default_factory=dict[str, AlertRule])
    is_without_slack: bool = False
    named: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    @property
    def alerts(self) -> Alerts:
        rule = FreshWithin(fail="26h")  # type: ignore[arg-type]
        watched = [Watched(f"analytics.{name}", rule, schedule="daily", owners=()) for name in self.names]
        watched = watched if self.watches else []
        return replace(super().alerts, watched=tuple(watched), rules=self.rules, receivers=self.named)

    def tell(self, seconds_later: float = 0, *, answer_seconds: float = PATIENCE_SECONDS) -> str:
        self.now += seconds_later
        return tell_receivers(
            self.alerts,
            self.instance,
            self.desk,
            log=LOG,
            is_without_slack=self.is_without_slack,
            answer_seconds=answer_seconds,
        )

    def tell_until(self, is_done: Callable[[], bool]) -> None:
        """Tick without waiting for answers until something has happened."""
        for _ in range(ROUNDS):
            self.tell(answer_seconds=0.02)
            if is_done():
                return
        pytest.fail("it did not happen")

    def publish_now(self) -> None:
        """Record a publication at the moment of the clock: a real run has that of this machine's."""
        (event, *_) = [
            event
            for run in self.instance.get_runs()
            for event in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        ]
        run_id = self.copy(event.run_id, status=dg.DagsterRunStatus.SUCCESS)
        self.instance.event_log_storage.store_event(event._replace(run_id=run_id, timestamp=self.now))

    def restart(self) -> None:
        """Go on as a process does that knows of no attempt under way."""
        self.desk = Desk()

    @property
    def kept(self) -> ReceiverLedger:
        kept = read_ledger(self.instance, "")
        assert kept is not None
        return kept

    def passes(self) -> bool:
        """Return what the check on the page of the receivers says."""
        check = receivers_delivered(self.alerts)
        definitions = dg.Definitions(
            assets=[receivers_asset()],
            asset_checks=[check],
            jobs=[dg.define_asset_job("ask", selection=dg.AssetSelection.checks(check))],
        )
        result = definitions.resolve_job_def("ask").execute_in_process(instance=self.instance)
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation.passed

    def events(self) -> str:
        """Return everything that the receivers' ledger has written."""
        key = dg.AssetKey(["alerts", "receivers"])
        records = self.instance.fetch_observations(key, limit=100).records
        return str([record.event_log_entry for record in records])


def settings_of(text: str, **more: Any) -> AlertSettings:
    return AlertSettings(receivers=SecretStr(text), **more)


@pytest.fixture
def hook() -> Iterator[ReceiverStandIn]:
    with web_hook() as stand_in:
        yield stand_in


@pytest.fixture
def mail() -> Iterator[ReceiverStandIn]:
    with mail_server() as stand_in:
        yield stand_in


@pytest.fixture
def receiving(hook: ReceiverStandIn, mail: ReceiverStandIn) -> Iterator[Receiving]:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as stand_in:
        settings = settings_of(f"hook={hook.hook} mail={mail.mailbox}", webserver_url="http://dagster:3000")
        receiving = Receiving(instance, stand_in, settings=settings)
        yield receiving
        assert "hook-" not in receiving.events(), "a part of an address"


def test_failure_and_recovery_reach_each_receiver_once_as_a_plain_text(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn
) -> None:
    receiving.publish()
    run = receiving.fail()
    receiving.tell()
    receiving.tell(15)
    (message,) = hook.taken
    assert (message["title"], message["type"]) == (FAILED, "failure")
    assert "Owner: team:analytics\nStage: audit · query 01b2-77\nCheck row_count: got 0 rows" in message["message"]
    assert "readers still see the table published" in message["message"]
    assert f"Open the run: http://dagster:3000/runs/{run}\n" in message["message"]
    (letter,) = mail.taken
    assert (letter["Subject"], letter["To"]) == (FAILED, "oncall@example.com")
    assert letter.get_content().replace("\r\n", "\n").strip() == message["message"]

    receiving.fail()
    receiving.tell(15)
    assert len(hook.taken) == 1, "the same failure again"
    receiving.publish()
    receiving.tell(15)
    receiving.tell(15)
    assert (hook.taken[1]["title"], hook.taken[1]["type"]) == ("Published again: analytics.mau", "success")
    assert f"{FAILED}\nIt failed on " in hook.taken[1]["message"]
    assert ", 2 times, last on " in hook.taken[1]["message"]
    assert [len(hook.taken), len(mail.taken), receiving.posts()] == [2, 2, 0]
    assert receiving.kept.news == ()


@pytest.mark.thorough
def test_repeat_is_told_again_after_half_a_day_and_no_sooner(receiving: Receiving, hook: ReceiverStandIn) -> None:
    receiving.fail()
    for hours in (0, 11, 2, 1):
        receiving.tell(hours * HOUR)
        receiving.copy(receiving.instance.get_runs()[-1].run_id)
    receiving.tell()
    assert [each["title"] for each in hook.taken] == [FAILED, FAILED]
    assert "Failed the same way again, 3 times by now" in hook.taken[1]["message"]


@pytest.mark.parametrize("what", [pytest.param("refused", marks=pytest.mark.thorough), "500"])
def test_dead_receiver_is_tried_again_and_holds_up_no_other(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn, what: str
) -> None:
    with ExitStack() as stack:
        address = hook.hook
        if what == "refused":
            hook = stack.enter_context(web_hook())
            address, hook.requests = "json://127.0.0.1:9/?cto=5", 0
        else:
            hook.status = 500
        receiving.settings = settings_of(f"dead={address} mail={mail.mailbox}")
        receiving.fail()
        waits = [0, *(50, 20), *(50, 80), *(200, 50), *(500, 110)]
        tries = list[int]()
        for seconds in waits:
            receiving.tell(seconds)
            tries.append(receiving.kept.of("dead").attempts)
        assert tries == [1, 1, 2, 2, 3, 3, 4, 4, 5]
        assert len(mail.taken) == 1
        reason = receiving.kept.words(now=receiving.now)
        assert "1 alert waits for the receiver dead, got " in reason
        assert "(5 attempts)" in reason
        if what == "500":
            assert "error=500" in reason
        assert not receiving.passes()
        assert reason in list(problems(receiving.alerts, receiving.instance, receiving.slack))

        receiving.settings = settings_of(f"dead={hook.hook} mail={mail.mailbox}")
        hook.status = 200
        receiving.tell(600)
        assert [each["title"] for each in hook.taken] == [FAILED]
        assert "Attempt 6: an earlier one failed" in hook.taken[0]["message"]
        assert receiving.passes()
        assert len(mail.taken) == 1


@pytest.mark.parametrize("kind", [pytest.param("hook", marks=pytest.mark.thorough), "mail"])
def test_message_whose_answer_was_lost_comes_again_with_the_same_id_and_says_so(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn, kind: str
) -> None:
    stand_in = hook if kind == "hook" else mail
    stand_in.drops_answer = True
    receiving.fail()
    receiving.tell()
    stand_in.drops_answer = False
    receiving.tell(60)
    receiving.tell(60)
    texts = [each["message"] if kind == "hook" else each.get_content() for each in stand_in.taken]
    first, second = (text.replace("\r\n", "\n").strip() for text in texts)
    assert second.startswith(first), "with the same id at its end"
    assert first.splitlines()[-1].startswith("Alert ")
    assert second.splitlines()[-1].startswith("Attempt 2: an earlier one failed, and its message may have arrived")


def test_hanging_receiver_holds_up_no_tick_and_its_answer_counts_when_it_comes(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn
) -> None:
    hook.holds = threading.Event()
    receiving.fail()
    receiving.tell_until(lambda: bool(mail.taken and hook.taken))
    assert receiving.kept.of("hook").status == "posting"
    receiving.tell(120, answer_seconds=0)
    assert len(hook.taken) == 1, "an attempt that is under way is not made again"
    hook.holds.set()
    receiving.tell()
    assert (receiving.kept.of("hook").status, receiving.kept.news) == ("", ())


def test_attempt_whose_process_was_killed_is_made_again(receiving: Receiving, hook: ReceiverStandIn) -> None:
    hook.holds = threading.Event()
    receiving.settings = settings_of(f"hook={hook.hook}")
    receiving.fail()
    receiving.tell_until(lambda: bool(hook.taken))
    receiving.restart()
    hook.holds.set()
    receiving.tell(80)
    assert len(hook.taken) == 1
    receiving.tell(20)
    first, second = hook.texts()
    assert second.startswith(first)
    assert "Attempt 2: an earlier one failed, and its message may have arrived all the same." in second
    receiving.tell(600)
    assert len(hook.taken) == 2


@pytest.mark.thorough
def test_what_was_taken_before_a_kill_is_taken_once(receiving: Receiving, hook: ReceiverStandIn) -> None:
    run = receiving.fail()
    receiving.tell()
    # Killed after the ledger was written, and before the run had its tag.
    tags = dict.fromkeys(receiving.record(run).dagster_run.tags, "")
    receiving.instance.add_run_tags(run, {name: "" for name in tags if "receivers" in name})
    receiving.restart()
    receiving.tell(15)
    receiving.tell(15)
    assert len(hook.taken) == 1


def test_failure_that_is_over_before_it_was_told_is_one_message(receiving: Receiving, hook: ReceiverStandIn) -> None:
    receiving.publish()
    receiving.fail()
    receiving.publish()
    receiving.tell()
    receiving.tell(15)
    assert [each["title"] for each in hook.taken] == ["Published again: analytics.mau"]


def test_outage_ends_with_one_message_of_everything(receiving: Receiving, hook: ReceiverStandIn) -> None:
    receiving.settings = settings_of(f"hook={hook.hook}")
    hook.status = 503
    receiving.fail_apart(12)
    receiving.tell()
    receiving.tell(60)
    assert hook.requests == 2
    hook.status = 200
    receiving.tell(120)
    receiving.tell(600)
    (message,) = hook.taken
    assert message["title"].startswith("12 alerts, the newest: analytics.")
    assert message["message"].startswith("1. analytics.")
    assert "\n12. analytics." in message["message"]
    assert len(message["title"] + message["message"]) <= TEXT_LIMIT


@pytest.mark.thorough
def test_alert_that_a_receiver_did_not_take_in_48_hours_is_given_up_and_counted(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    hook.status = 503
    receiving.fail()
    receiving.tell()
    assert receiving.tell(49 * HOUR).endswith("1 older one was given up.")
    assert (receiving.kept.news, receiving.kept.of("hook").lost, receiving.kept.of("mail").lost) == ((), 1, 0)
    assert not receiving.passes()


def test_late_table_is_told_without_slack_which_is_then_left_out(receiving: Receiving, hook: ReceiverStandIn) -> None:
    receiving.token, receiving.channel, receiving.watches = None, "", True
    receiving.publish()

    def look(hours: float) -> None:
        receiving.now += hours * HOUR
        look_for_late_tables(receiving.alerts, receiving.instance, receiving.slack, None, log=LOG)
        receiving.tell()

    look(GRACE.total_seconds() / HOUR)
    look(27)
    assert [each["title"] for each in hook.taken] == ["analytics.mau is late, and readers see old rows"]
    assert hook.taken[0]["type"] == "warning"
    assert health_of(receiving.alerts, receiving.instance, receiving.slack).is_well
    receiving.publish_now()
    look(0.1)
    look(0.1)
    look(0.1)
    assert [each["title"] for each in hook.taken[1:]] == [
        "In time again: analytics.mau. (database RUN_ELT on the embedded Snowflake)"
    ]


@pytest.mark.thorough
def test_lateness_that_is_over_in_quiet_hours_is_told_at_their_end_without_slack(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    receiving.token, receiving.channel, receiving.watches, receiving.is_without_slack = None, "", True, True
    receiving.publish()

    def look(hours: float) -> None:
        receiving.now += hours * HOUR
        look_for_late_tables(receiving.alerts, receiving.instance, receiving.slack, None, log=LOG)
        receiving.tell()

    look(0.3)
    quiet_from = datetime.fromtimestamp(receiving.now + 27 * HOUR - 60, UTC)
    quiet_until = quiet_from + timedelta(hours=2)
    receiving.rules = {"analytics.mau": AlertRule(severity="notify", quiet=f"{quiet_from:%H:%M}-{quiet_until:%H:%M}")}
    look(27)
    receiving.publish_now()
    look(0.1)
    look(0.1)
    assert hook.taken == []
    look(2)
    look(0.1)
    (told,) = hook.taken
    assert told["title"].startswith("In time again: analytics.mau.")
    assert "at most 26 h old · late since " in told["message"]


@pytest.mark.thorough
def test_lateness_is_over_for_the_receivers_after_the_last_rule_is_gone(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    receiving.publish()
    receiving.watches, known = True, Known()
    for hours in (0, 27):
        receiving.now += hours * HOUR
        look_for_late_tables(receiving.alerts, receiving.instance, receiving.slack, None, log=LOG)
    receiving.tell()
    receiving.watches = False
    for _ in range(2):
        tell_leftovers(receiving.alerts, receiving.instance, receiving.slack, known, log=LOG)
    receiving.tell(15)
    receiving.tell(15)
    late = "analytics.mau is late, and readers see old rows"
    assert [each["title"] for each in hook.taken] == [late, f"Over: {late}"]


def test_sensor_tells_the_receivers_and_slack_is_left_out_where_it_is_not_set(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    receiving.token, receiving.channel = None, ""
    sensors = {each.name: each for each in alert_sensors(receiving.alerts)}
    receiving.fail()
    receiving.now += 60

    def tick(name: str) -> str | None:
        with dg.build_sensor_context(receiving.instance, resources={"slack": receiving.slack}) as context:
            return sensors[name].evaluate_tick(context).skip_message

    assert tick("slack_alert_retries") == "Slack is not set up. The receivers of RUN_ELT_ALERT_RECEIVERS get the alerts"
    for _ in range(ROUNDS):
        tick("alert_receivers")
        if hook.taken:
            break
    assert [each["title"] for each in hook.taken] == [FAILED]
    assert health_of(receiving.alerts, receiving.instance, receiving.slack).is_well


def test_snooze_and_digest_of_slack_hold_for_the_receivers_too(receiving: Receiving, hook: ReceiverStandIn) -> None:
    receiving.publish()
    snooze(receiving.alerts, receiving.instance, "analytics.mau", seconds=3600, by="Jane")
    receiving.fail()
    receiving.tell()
    receiving.tell(3000)
    assert hook.taken == []
    receiving.tell(700)
    assert [each["title"] for each in hook.taken] == [FAILED]

    receiving.rules = {"analytics.mau": AlertRule(severity="digest")}
    receiving.publish()
    receiving.tell()
    receiving.fail()
    receiving.tell(60)
    assert [each["title"] for each in hook.taken[1:]] == ["Published again: analytics.mau"]
    receiving.is_without_slack = True
    receiving.tell(15)
    assert [each["title"] for each in hook.taken[2:]] == [FAILED]


@pytest.mark.thorough
def test_acknowledged_incident_is_not_told_again(receiving: Receiving, hook: ReceiverStandIn) -> None:
    run = receiving.fail()
    receiving.first_attempt(run)
    receiving.tell()
    acknowledge(receiving.alerts, receiving.instance, run, by="Jane")
    receiving.tell(13 * HOUR)
    receiving.copy(run)
    receiving.tell()
    assert len(hook.taken) == 1


@pytest.mark.thorough
def test_incident_that_was_held_back_is_not_told_again_after_it_was_acknowledged(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    receiving.publish()
    receiving.tell()
    snooze(receiving.alerts, receiving.instance, "analytics.mau", seconds=HOUR, by="Jane")
    runs = [receiving.fail() for _ in range(2)]
    for run in runs:
        receiving.first_attempt(run)
    receiving.tick(HOUR + 60)
    receiving.tell()
    assert [receiving.ledger(run).first for run in runs] == [runs[1], ""], "in Slack the last is the first"
    acknowledge(receiving.alerts, receiving.instance, runs[1], by="Jane")
    receiving.now += 13 * HOUR
    receiving.copy(runs[1])
    receiving.tell()
    assert ([each["title"] for each in hook.taken], receiving.kept.incidents[0].count) == ([FAILED], 3)


@pytest.mark.parametrize("what", ["not installed", pytest.param("not read", marks=pytest.mark.thorough)])
def test_receiver_that_cannot_be_used_fails_the_tick_with_the_remedy(
    receiving: Receiving, hook: ReceiverStandIn, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    receiving.settings = settings_of(f"hook={hook.hook} wrong=nosuch://hook-secret")
    if what == "not installed":
        monkeypatch.setitem(sys.modules, "apprise", None)
    receiving.fail()
    with pytest.raises(ReceiversUnusableError) as error:
        receiving.tell()
    if what == "not installed":
        assert f"The receiver hook gets no alert: {NOT_INSTALLED}" in str(error.value)
    else:
        assert "The receiver wrong gets no alert: a receiver requires an address that Apprise reads" in str(error.value)
        assert len(hook.taken) == 1
    assert "hook-secret" not in str(error.value)


def test_pager_gets_each_incident_with_its_key_and_the_recovery_ends_it(
    receiving: Receiving, hook: ReceiverStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins import pagerduty  # noqa: PLC0415 - an extra

    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", f"http://127.0.0.1:{hook.port}/")
    receiving.settings = settings_of("pager=pagerduty://integration@apikey0123")
    receiving.publish()
    run = receiving.fail()
    receiving.tell()
    receiving.publish()
    receiving.tell(15)
    events = [(each["event_action"], each["dedup_key"]) for each in hook.taken]
    assert events == [("trigger", run), ("resolve", run)]
    assert hook.taken[0]["payload"]["severity"] == "critical"
    assert hook.taken[0]["payload"]["summary"].startswith(FAILED)
    assert json.dumps(hook.taken).count("Open the run") == 0, "links need RUN_ELT_WEBSERVER_URL"


def test_slow_pager_gets_what_there_was_no_time_for_at_the_next_look(
    receiving: Receiving, hook: ReceiverStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins import pagerduty  # noqa: PLC0415 - an extra

    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", f"http://127.0.0.1:{hook.port}/")
    monkeypatch.setattr(receivers_delivery, "BEGIN_SECONDS", 0)
    receiving.settings = settings_of("pager=pagerduty://integration@apikey0123")
    receiving.names = ("mau", "dau")
    runs = [receiving.fail_only(name) for name in receiving.names]
    for number in (1, 2):
        receiving.tell(15)
        assert [each["dedup_key"] for each in hook.taken] == runs[:number]


@pytest.mark.parametrize("hours", [0, pytest.param(60, marks=pytest.mark.thorough)])
def test_recovery_closes_each_incident_at_the_pager_though_very_many_wait(
    receiving: Receiving, hook: ReceiverStandIn, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    from apprise.plugins import pagerduty  # noqa: PLC0415 - an extra

    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", f"http://127.0.0.1:{hook.port}/")
    monkeypatch.setattr(receivers_ledger, "MOST_NEWS", 1)
    receiving.settings = settings_of("pager=pagerduty://integration@apikey0123")
    receiving.publish()
    receiving.fail_apart(3)
    receiving.tell()
    open_ = [each["dedup_key"] for each in hook.taken if each["event_action"] == "trigger"]
    # The first by itself, and one that counts two.
    assert len(open_) == 2
    hook.status = 503
    receiving.publish()
    receiving.tell(15)
    hook.status = 200
    receiving.tell(hours * HOUR)
    receiving.tell(600)
    closed = {each["dedup_key"] for each in hook.taken if each["event_action"] == "resolve"}
    assert closed >= set(open_)
    assert len(closed) == 4
    assert receiving.kept.news == ()


def test_part_of_the_look_that_fails_for_good_holds_up_no_other_alert_and_is_told(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    receiving.settings = settings_of(f"hook={hook.hook}")
    receiving.publish()
    receiving.tell()
    with receiving.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(sqlalchemy.text("alter table bulk_actions rename to gone"))
    receiving.fail()
    with pytest.raises(ReceiversUnusableError, match="The look for failed backfills fails, got OperationalError"):
        receiving.tell(15)
    assert [each["title"] for each in hook.taken] == [FAILED]
    assert not receiving.passes()
    with receiving.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(sqlalchemy.text("alter table gone rename to bulk_actions"))
    receiving.publish()
    receiving.tell(15)
    assert [each["title"] for each in hook.taken] == [FAILED, "Published again: analytics.mau"]
    assert receiving.passes()


@pytest.mark.thorough
def test_failures_for_the_digest_keep_no_receiver_from_a_later_one(
    receiving: Receiving, hook: ReceiverStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers_news, "TAKEN_PER_LOOK", 1)
    receiving.names = ("mau", "dau")
    receiving.rules = {"analytics.mau": AlertRule(severity="digest")}
    receiving.fail_only("mau")
    receiving.fail_only("dau")
    for _ in range(3):
        receiving.tell(15)
    assert [each["title"].split()[0] for each in hook.taken] == ["analytics.dau"]


def test_alert_that_only_a_renamed_receiver_was_to_get_goes_to_all(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn
) -> None:
    hook.status = 500
    receiving.named = {"analytics.mau": ("hook",)}
    receiving.fail()
    receiving.tell()
    receiving.settings = settings_of(f"mail={mail.mailbox}")
    receiving.tell(60)
    receiving.tell(60)
    assert [str(each["Subject"])[:13] for each in mail.taken] == ["analytics.mau"]


@pytest.mark.thorough
def test_receivers_that_the_file_names_by_now_hear_of_the_next_failure(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn
) -> None:
    receiving.named = {"analytics.mau": ("hook",)}
    receiving.fail()
    receiving.tell()
    receiving.named = {"analytics.mau": ("mail",)}
    for _ in range(2):
        receiving.fail()
        receiving.tell(15)
    assert (len(hook.taken), len(mail.taken)) == (1, 1)


def test_heartbeat_stops_while_no_sensor_looks_for_the_receivers(receiving: Receiving) -> None:
    receiving.token, receiving.channel = None, ""
    receiving.tell()
    run = receiving.fail()
    receiving.now = (receiving.record(run).end_time or 0) + SILENT_SECONDS + 1

    def said() -> list[str]:
        found = problems(receiving.alerts, receiving.instance, receiving.slack)
        return [each for each in found if "failed run" in each]

    assert said() == ["1 failed run waits for the receivers, and the sensor alert_receivers has not looked at it"]
    receiving.tell()
    assert said() == []


@pytest.mark.thorough
def test_recovery_is_told_though_events_could_not_be_read_for_a_while(
    receiving: Receiving, hook: ReceiverStandIn
) -> None:
    run = receiving.fail()
    receiving.first_attempt(run)
    receiving.tell()
    receiving.known = Known()
    receiving.restart()

    def rename(old: str, new: str) -> None:
        change = sqlalchemy.text("update event_logs set event = replace(event, :old, :new) where run_id = :id")
        with receiving.instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            connection.execute(change, {"old": f'"{old}"', "new": f'"{new}"', "id": run})

    rename("DagsterEvent", "OfALaterRelease")
    receiving.tick(30)
    receiving.tell()
    rename("OfALaterRelease", "DagsterEvent")
    receiving.publish()
    receiving.tick(UNREADABLE_SECONDS)
    receiving.tell()
    assert receiving.ledger(run).state == "recovered"
    assert [each["title"] for each in hook.taken] == [FAILED, "Published again: analytics.mau"]


@pytest.mark.thorough
def test_alert_for_a_receiver_that_is_not_set_any_more_is_in_the_log(
    receiving: Receiving, hook: ReceiverStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.status = 500
    receiving.fail()
    receiving.tell()
    receiving.settings = settings_of("other=json://127.0.0.1:1")
    receiving.tell(60)
    receiving.tell(60)
    assert caplog.text.count("that is not set any more") == 1, "in the first look alone"
    assert "hook-" not in caplog.text


def test_alert_goes_to_the_receivers_of_its_tables_and_its_end_to_who_was_told(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn
) -> None:
    receiving.names = ("mau", "dau")
    receiving.named = {"analytics.mau": ("hook",), "analytics.dau": ("elsewhere",)}
    receiving.publish()
    receiving.fail_only("mau")
    receiving.tell()
    assert (len(hook.taken), len(mail.taken)) == (1, 0)
    receiving.fail_only("dau")
    receiving.tell(15)
    assert (len(hook.taken), len(mail.taken)) == (2, 1), "no receiver of that name: all get it"
    receiving.named = {"analytics.mau": ("mail",), "analytics.dau": ("hook",)}
    receiving.publish()
    receiving.tell(15)
    receiving.tell(15)
    ends = [[each["title"] for each in hook.taken[2:]], [str(each["Subject"]) for each in mail.taken[1:]]]
    assert ends == [["2 alerts, the newest: Published again: analytics.dau"]] * 2


def test_late_table_goes_to_the_receivers_of_its_file(
    receiving: Receiving, hook: ReceiverStandIn, mail: ReceiverStandIn
) -> None:
    receiving.publish()
    receiving.watches, receiving.named = True, {"analytics.mau": ("mail",)}
    look_for_late_tables(receiving.alerts, receiving.instance, receiving.slack, None, log=LOG)
    receiving.now += 27 * HOUR
    look_for_late_tables(receiving.alerts, receiving.instance, receiving.slack, None, log=LOG)
    receiving.tell()
    receiving.named = {}
    receiving.publish_now()
    look_for_late_tables(receiving.alerts, receiving.instance, receiving.slack, None, log=LOG)
    receiving.tell(15)
    assert ([str(each["Subject"])[:12] for each in mail.taken], len(hook.taken)) == (
        ["analytics.ma", "In time agai"],
        1,
    )


def test_ledger_of_a_release_without_named_receivers_is_read() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        kept = {
            "began_at": 1.0,
            "news": [],
            "incidents": [
                {"run_id": "r", "fingerprint": "f", "failed_at": 1, "last_failed_at": 1, "told_at": 1, "title": "t"}
            ],
            "standings": {},
            "late": {"l": [1, "title"]},
            "backfills": [],
            "taking": [],
        }
        key = dg.AssetKey(["alerts", "receivers"])
        instance.report_runless_asset_event(dg.AssetObservation(key, partition="-", metadata={"ledger": kept}))
        ledger = read_ledger(instance, "")
    assert ledger is not None
    assert (ledger.late, ledger.incidents[0].to) == ({"l": (1, "title", ())}, ())
