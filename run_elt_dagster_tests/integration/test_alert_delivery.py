"""Alerts of real failed runs over the real Slack client, with a clock that the test moves."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.alerts.checks import alert_asset, alerts_delivered
from run_elt_dagster.alerts.ledger import Entry
from run_elt_dagster.alerts.sensors import AlertsBlockedError, alert_sensors
from run_elt_dagster.session import StatementError
from run_elt_dagster_tests.e2e.slack_stand_in import CHANNEL, TOKEN, Fault, slack_stand_in
from run_elt_dagster_tests.effort import effort
from run_elt_dagster_tests.integration.failures import ScriptedSession, Watch


@pytest.fixture
def watch() -> Iterator[Watch]:
    with slack_stand_in() as stand_in, dg.DagsterInstance.ephemeral() as instance:
        yield Watch(instance, stand_in)


def test_failed_check_is_posted_once_with_its_cause(watch: Watch) -> None:
    watch.publish()
    run = watch.fail()
    watch.first_attempt(run)
    for _ in range(3):
        watch.first_attempt(run)
        watch.tick(60)
    assert watch.stand_in.run_ids() == [run]
    (message,) = watch.stand_in.messages
    assert "analytics.mau was not published" in message["text"]
    assert "Check row_count: got 0 rows, expected at least 1 rows" in message["text"]
    assert "Unchanged: readers still see the table published" in message["text"]
    assert "with 5 rows" in message["text"]
    ledger = watch.ledger(run)
    assert (ledger.status, ledger.channel, ledger.ts) == ("delivered", CHANNEL, message["ts"])
    assert watch.visible(run) == {"run_elt/alert": "delivered"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(error="internal_error"),
        Fault(error="service_unavailable"),
        Fault(status=429, error="ratelimited", retry_after_seconds=1),
    ],
    ids=["500", "503", "internal_error", "service_unavailable", "429"],
)
def test_outage_is_retried_after_60_120_and_240_seconds_and_delivered_once(watch: Watch, fault: Fault) -> None:
    watch.stand_in.faults = [fault]
    run = watch.fail()
    watch.first_attempt(run)
    for wait, attempts in [(60, 1), (120, 2), (240, 3)]:
        assert watch.ledger(run).attempts == attempts
        assert watch.ledger(run).next_at == watch.now + wait
        watch.tick(wait - 1)
        assert watch.posts() == attempts
        if attempts == 3:
            watch.stand_in.faults.clear()
        watch.tick(1)
        assert watch.posts() == attempts + 1
    watch.tick(1000)
    assert watch.stand_in.run_ids() == [run]
    assert watch.ledger(run).status == "delivered"


def test_three_retries_at_most_and_then_slack_is_asked_whether_it_is_up(watch: Watch) -> None:
    watch.stand_in.faults = [Fault(status=500, method="")]
    run = watch.fail()
    watch.first_attempt(run)
    for _ in range(60):
        watch.tick(30)
    assert watch.posts() == 4
    assert watch.ledger(run).status == "undeliverable"
    assert watch.ledger(run).reason == "gave up after 3 retries: Slack answered HTTP 500"
    watch.stand_in.faults.clear()
    watch.tick(600)
    assert watch.stand_in.run_ids() == [run]


def test_retry_is_not_before_retry_after(watch: Watch) -> None:
    watch.stand_in.faults = [Fault(status=429, error="ratelimited", retry_after_seconds=500, times=1)]
    run = watch.fail()
    watch.first_attempt(run)
    watch.tick(499)
    assert watch.stand_in.run_ids() == []
    watch.tick(1)
    assert watch.stand_in.run_ids() == [run]


def test_refused_connection_is_retried(watch: Watch) -> None:
    run = watch.fail()
    with slack_stand_in() as gone:
        port = gone.port
    up, watch.stand_in = watch.stand_in, gone
    watch.first_attempt(run)
    assert watch.ledger(run).status == "retry"
    assert watch.ledger(run).ambiguous is False
    assert gone.port == port
    watch.stand_in = up
    # Another address is another configuration, which waits for nothing; the retry is due by its time.
    watch.tick(60)
    assert up.run_ids() == [run]


@pytest.mark.parametrize("has_history", [True, False])
def test_lost_answer_gives_one_duplicate_at_most_and_none_where_the_channel_can_be_read(
    watch: Watch, has_history: bool
) -> None:
    watch.stand_in.faults = [Fault(drop_answer=True, times=1)]
    watch.stand_in.has_history = has_history
    run = watch.fail()
    watch.first_attempt(run)
    assert watch.ledger(run).ambiguous is True
    for _ in range(20):
        watch.tick(60)
    assert watch.stand_in.run_ids() == [run] * (1 if has_history else 2)


def test_hanging_slack_ends_the_attempt_in_time_and_the_next_run_does_not_wait_for_it(watch: Watch) -> None:
    watch.stand_in.faults = [Fault(hang_seconds=30)]
    watch.timeout_seconds = 1
    runs = [watch.fail(), watch.fail()]
    for run in runs:
        watch.first_attempt(run)
    assert watch.posts() == 1
    watch.stand_in.faults.clear()
    for _ in range(10):
        watch.tick(60)
    assert sorted(watch.stand_in.run_ids()) == sorted(runs)


@pytest.mark.parametrize("kept_mark", ["posting", ""])
def test_process_killed_while_posting_or_before_is_made_up_for(watch: Watch, kept_mark: str) -> None:
    run = watch.fail()
    if kept_mark:
        watch.instance.add_run_tags(run, Entry(status="posting", next_at=watch.now + 90).tags(run))
    watch.tick(20)
    assert watch.stand_in.run_ids() == ([] if kept_mark else [run])
    watch.tick(90)
    watch.tick(90)
    assert watch.stand_in.run_ids() == [run]


POST_ONCE = """
import logging, sys
import dagster as dg
from run_elt_dagster.alerts.sensors import Alerts, alert_of_failed_run
from run_elt_dagster.resources.slack import Slack
from run_elt_dagster.settings import AlertSettings
run_id, token, channel, url = sys.argv[1:]
alerts = Alerts(settings=AlertSettings(), owners={"analytics.mau": []}, jobs=("RunELT_Alert",))
slack = Slack(token=token, channel=channel, base_url=url, timeout_seconds=60)
with dg.DagsterInstance.get() as instance:
    alert_of_failed_run(alerts, instance, slack, run_id, log=logging.getLogger())
"""


@pytest.mark.parametrize(
    ("taken", "has_history", "messages"),
    [(False, False, 1), (True, True, 1), (True, False, 2)],
    ids=["not taken", "taken and found again", "taken and nowhere to look"],
)
def test_process_killed_while_it_posts_duplicates_at_most_what_slack_took_without_an_answer(
    tmp_path: Path, taken: bool, has_history: bool, messages: int
) -> None:
    with slack_stand_in() as stand_in, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        watch = Watch(instance, stand_in)
        run = watch.fail()
        stand_in.has_history = has_history
        stand_in.faults = [Fault(hang_seconds=60, drop_answer=taken, times=1)]
        command = [sys.executable, "-c", POST_ONCE, run, TOKEN, CHANNEL, stand_in.url]
        environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment)
        try:
            assert stand_in.held.wait(60)
        finally:
            process.kill()
            process.wait(10)
        assert watch.ledger(run).status == "posting"
        assert len(stand_in.run_ids()) == taken
        for _ in range(5):
            watch.tick(60)
        assert stand_in.run_ids() == [run] * messages
        assert watch.ledger(run).status == "delivered"


@pytest.mark.parametrize(
    ("break_it", "remedy"),
    [("token", "invalid_auth: Correct SLACK_TOKEN."), ("channel", "channel_not_found: Set SLACK_CHANNEL")],
)
def test_wrong_setting_fails_the_tick_with_the_remedy_and_is_no_storm(watch: Watch, break_it: str, remedy: str) -> None:
    right = getattr(watch, break_it)
    setattr(watch, break_it, "xoxb-wrong")
    runs = [watch.fail() for _ in range(3)]
    for run in runs:
        watch.first_attempt(run)
    for _ in range(119):
        with pytest.raises(AlertsBlockedError, match=remedy) as caught:
            watch.tick(30)
    assert "3 failed runs wait for an alert" in str(caught.value)
    assert "xoxb-wrong" not in str(caught.value)
    assert watch.posts() <= 7
    setattr(watch, break_it, right)
    watch.tick(30)
    assert sorted(watch.stand_in.run_ids()) == sorted(runs)


def test_wrong_setting_mended_in_slack_is_noticed_within_ten_minutes(watch: Watch) -> None:
    watch.stand_in.faults = [Fault(error="missing_scope")]
    run = watch.fail()
    watch.first_attempt(run)
    watch.stand_in.faults.clear()
    with pytest.raises(AlertsBlockedError):
        watch.tick(599)
    watch.tick(1)
    assert watch.stand_in.run_ids() == [run]


def test_missing_token_goes_to_the_log_and_is_delivered_once_it_is_set(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.token = None
    run = watch.fail()
    with caplog.at_level(logging.INFO):
        watch.first_attempt(run)
        watch.tick(60)
    assert watch.posts() == 0
    assert caplog.text.count("SLACK_TOKEN not set, so that this alert goes to the log only") == 1
    assert "analytics.mau was not published" in caplog.text
    assert (watch.ledger(run).status, watch.ledger(run).reason) == ("undeliverable", "SLACK_TOKEN not set")
    watch.token = "xoxb-stand-in"
    watch.tick(30)
    assert watch.stand_in.run_ids() == [run]


def test_failure_of_more_than_48_hours_ago_is_not_posted(watch: Watch) -> None:
    watch.fail()
    watch.tick(48 * 3600 + 60)
    assert watch.posts() == 0


def test_channel_that_the_app_is_not_in_is_joined_once(watch: Watch) -> None:
    watch.stand_in.joined = False
    run = watch.fail()
    watch.first_attempt(run)
    assert watch.stand_in.run_ids() == [run]
    assert len(watch.stand_in.calls("conversations.join")) == 1


def test_refused_blocks_are_sent_as_text_once(watch: Watch) -> None:
    watch.stand_in.faults = [Fault(error="invalid_blocks", times=1)]
    run = watch.fail()
    watch.first_attempt(run)
    (message,) = watch.stand_in.messages
    assert not message.get("blocks")
    assert "row_count" in message["text"]
    assert watch.ledger(run).status == "delivered"


def test_same_failure_again_replies_in_the_thread_and_recovery_turns_it_green(watch: Watch) -> None:
    for _ in range(3):
        watch.first_attempt(watch.fail())
    first, second, third = watch.stand_in.messages
    assert second["thread_ts"] == third["thread_ts"] == first["ts"]
    assert "Failed the same way 3 times" in first["text"]
    assert "🔴" in first["blocks"][0]["text"]["text"]
    watch.tick(30)
    assert len(watch.stand_in.messages) == 3

    watch.publish()
    watch.tick(30)
    watch.tick(30)
    reply = watch.stand_in.messages[3:]
    assert [message["thread_ts"] for message in reply] == [first["ts"]]
    assert "Published again: analytics.mau" in reply[0]["text"]
    assert "🟢 Recovered" in first["blocks"][0]["text"]["text"]

    watch.first_attempt(watch.fail())
    assert not watch.stand_in.messages[-1].get("thread_ts")


def test_another_cause_is_another_message(watch: Watch) -> None:
    watch.first_attempt(watch.fail())
    error = StatementError("no such table", errno=2003, query_id="01", answered=True)
    watch.session = ScriptedSession(errors={"build": error})
    watch.first_attempt(watch.run())
    assert len(watch.stand_in.first_messages()) == 2


def test_run_that_dagster_retries_does_not_alert_until_the_retry_does(watch: Watch) -> None:
    run = watch.fail()
    watch.instance.add_run_tags(run, {"dagster/will_retry": "true"})
    watch.first_attempt(run)
    watch.tick(60)
    assert watch.posts() == 0
    # The retry never came.
    watch.tick(900)
    assert watch.stand_in.run_ids() == [run]


def test_run_of_another_code_location_is_left_alone(watch: Watch) -> None:
    run = watch.fail()
    watch.names = ("elsewhere",)
    watch.first_attempt(run)
    watch.tick(60)
    assert watch.posts() == 0
    assert watch.visible(run) == {}


def test_many_runs_failing_at_once_under_the_rate_limit_are_all_delivered_and_none_twice(watch: Watch) -> None:
    watch.stand_in.burst, watch.stand_in.clock = 1, lambda: watch.now
    runs = [watch.fail()]
    # As the storage would have it after so many failures; running each takes too long here.
    count = effort(usual=25, thorough=100)
    template = watch.record(runs[0]).dagster_run
    events = watch.instance.all_logs(runs[0])
    for number in range(1, count):
        run_id = f"{number:08d}-0000-4000-8000-000000000000"
        copy = template._replace(run_id=run_id)
        watch.instance.add_run(copy)
        for event in events:
            watch.instance.event_log_storage.store_event(event._replace(run_id=run_id))
        runs.append(run_id)
    for run in runs[:5]:
        watch.first_attempt(run)
    for _ in range(400):
        watch.tick(30)
        if len(watch.stand_in.run_ids()) == count:
            break
    assert sorted(watch.stand_in.run_ids()) == sorted(runs)


def test_canary_is_in_no_message_and_in_no_event(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "canary-value-7")
    error = StatementError("near canary-value-7: Numeric value 'Jane Doe'", errno=100038, query_id="01", answered=True)
    watch.session = ScriptedSession(errors={"build": error})
    run = watch.run()
    watch.first_attempt(run)
    assert watch.posts() == 1
    assert "canary-value-7" not in watch.stand_in.everything()
    assert "Jane Doe" not in watch.stand_in.everything()
    assert "canary-value-7" not in watch.log_of(run)


def test_sensors_run_by_default_and_see_every_code_location(watch: Watch) -> None:
    failure, retries = alert_sensors(watch.alerts)
    for sensor in (failure, retries):
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    run = watch.fail()
    record = watch.record(run)
    (event,) = [
        e.dagster_event for e in watch.instance.all_logs(run) if e.dagster_event and e.dagster_event.is_failure
    ][-1:]
    context = dg.build_run_status_sensor_context(
        "slack_alert", event, watch.instance, record.dagster_run, resources={"slack": watch.slack}
    )
    failure(context)
    assert watch.stand_in.run_ids() == [run]
    with dg.build_sensor_context(instance=watch.instance, resources={"slack": watch.slack}) as tick:
        skipped = retries(tick)
    assert "0 alerts delivered, 0 waiting" in skipped.skip_message


def shown(watch: Watch) -> list[dict[str, object]]:
    records = watch.instance.fetch_observations(dg.AssetKey(["alerts", "slack"]), limit=100).records
    observations = [record.asset_observation for record in records]
    return [{name: value.value for name, value in o.metadata.items()} for o in observations if o is not None]


def evaluate_retries(watch: Watch) -> None:
    (_, retries) = alert_sensors(watch.alerts)
    context = dg.build_sensor_context(instance=watch.instance, resources={"slack": watch.slack})
    retries(context)


def test_page_of_the_alerting_shows_what_waits_and_the_last_delivery_and_only_changes(watch: Watch) -> None:
    evaluate_retries(watch)
    evaluate_retries(watch)
    assert [page["last_delivery"] for page in shown(watch)] == ["never"]

    run = watch.fail()
    watch.stand_in.faults = [Fault(status=500)]
    watch.now += 60
    evaluate_retries(watch)
    assert (shown(watch)[0]["undelivered"], shown(watch)[0]["undelivered_runs"]) == (1, run)

    watch.stand_in.faults.clear()
    watch.now += 60
    evaluate_retries(watch)
    page = shown(watch)[0]
    assert page["undelivered"] == 0
    assert str(page["last_delivery"]).endswith(" UTC")
    assert len(shown(watch)) == 3


@pytest.mark.parametrize("token", [None, "xoxb-set"], ids=["no token", "token"])
def test_check_of_the_alerting_fails_while_a_failure_is_unheard_of(watch: Watch, token: str | None) -> None:
    check = alerts_delivered(watch.alerts)

    def passes() -> bool:
        definitions = dg.Definitions(
            assets=[alert_asset()],
            asset_checks=[check],
            jobs=[dg.define_asset_job("ask", selection=dg.AssetSelection.checks(check))],
            resources={"slack": watch.slack.model_copy(update={"token": token})},
        )
        job = definitions.resolve_job_def("ask")
        (evaluation,) = job.execute_in_process(instance=watch.instance).get_asset_check_evaluations()
        return evaluation.passed

    assert passes()
    watch.fail()
    watch.now += 60
    check = alerts_delivered(watch.alerts)
    assert not passes()
