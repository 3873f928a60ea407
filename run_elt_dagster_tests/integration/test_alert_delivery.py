"""Alerts of real failed runs over the real Slack client, with a clock that the test moves."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.alerts.ledger import LedgerEntry, config_of
from run_elt_dagster.alerts.page import alert_asset, alerts_delivered
from run_elt_dagster.alerts.reconciliation import AlertsBlockedError
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.runs.history import PUBLISHED_RUN
from run_elt_dagster.settings import AlertSettings, PublishOptions
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.support.alert_harness import AlertHarness, ScriptedSession, ScriptedSnowflake
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases, effort
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, Fault, slack_stand_in

RECOVERED = ":large_green_circle: Published again: analytics.mau. (database RUN_ELT on the embedded Snowflake)"


@pytest.fixture
def harness() -> Iterator[AlertHarness]:
    with slack_stand_in() as stand_in, dg.DagsterInstance.ephemeral() as instance:
        yield AlertHarness(instance, stand_in)


def test_failed_check_is_posted_once_with_its_cause(harness: AlertHarness) -> None:
    harness.publish()
    run = harness.fail()
    harness.first_attempt(run)
    for _ in range(3):
        harness.first_attempt(run)
        harness.tick(60)
    assert harness.stand_in.run_ids() == [run]
    (message,) = harness.stand_in.messages
    assert "analytics.mau was not published" in message["text"]
    assert "Check row_count: got 0 rows, expected at least 1 row" in message["text"]
    assert "Unchanged: readers still see the table published" in message["text"]
    assert "with 5 rows" in message["text"]
    ledger = harness.ledger(run)
    assert (ledger.status, ledger.channel, ledger.ts) == ("delivered", CHANNEL, message["ts"])
    assert harness.visible(run) == {"run_elt/alert": "delivered"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        pytest.param(Fault(status=503), marks=pytest.mark.thorough),
        Fault(error="internal_error"),
        pytest.param(Fault(error="service_unavailable"), marks=pytest.mark.thorough),
        Fault(status=429, error="ratelimited", retry_after_seconds=1),
    ],
    ids=["500", "503", "internal_error", "service_unavailable", "429"],
)
def test_outage_is_retried_after_60_120_and_240_seconds_and_delivered_once(harness: AlertHarness, fault: Fault) -> None:
    harness.stand_in.faults = [fault]
    run = harness.fail()
    harness.first_attempt(run)
    for wait, attempts in [(60, 1), (120, 2), (240, 3)]:
        assert harness.ledger(run).attempts == attempts
        assert harness.ledger(run).next_at == harness.now + wait
        harness.tick(wait - 1)
        assert harness.posts() == attempts
        if attempts == 3:
            harness.stand_in.faults.clear()
        harness.tick(1)
        assert harness.posts() == attempts + 1
    harness.tick(1000)
    assert harness.stand_in.run_ids() == [run]
    assert harness.ledger(run).status == "delivered"


def test_three_retries_at_most_and_then_slack_is_asked_whether_it_is_up(harness: AlertHarness) -> None:
    harness.stand_in.faults = [Fault(status=500, method="")]
    run = harness.fail()
    harness.first_attempt(run)
    for _ in range(60):
        harness.tick(30)
    assert harness.posts() == 4
    assert harness.ledger(run).status == "undeliverable"
    assert harness.ledger(run).reason == "gave up after 3 retries: Slack answered HTTP 500"
    harness.stand_in.faults.clear()
    harness.tick(600)
    assert harness.stand_in.run_ids() == [run]


class InterruptedSnowflake(ScriptedSnowflake):
    """Somebody presses Ctrl-C while Dagster sets up the resources."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def interrupted_before_its_op(harness: AlertHarness) -> str:
    table = AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n"})
    definitions = dg.Definitions(
        assets=[analytics_assets(catalogue([table]), PublishOptions(max_concurrent_tables=1, creates_schemas=True))],
        resources={"snowflake": InterruptedSnowflake()},
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    with pytest.raises(BaseException, match=r"^$"):
        job.execute_in_process(instance=harness.instance)
    (run,) = harness.instance.get_runs(limit=1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    harness.now = harness.record(run.run_id).end_time or 0
    return run.run_id


@pytest.mark.parametrize("by_retries", [False, True], ids=["at once", "by the retries"])
def test_run_that_is_interrupted_by_hand_before_its_op_ends_as_cancelled(
    harness: AlertHarness, by_retries: bool
) -> None:
    """Dagster calls it a failure."""
    run = interrupted_before_its_op(harness)
    if by_retries:
        assert harness.tick(60) == "0 alerts delivered, 0 waiting, 0 recoveries announced"
    else:
        harness.first_attempt(run)
    harness.tick(60)
    assert harness.posts() == 0
    assert harness.record(run).dagster_run.status is dg.DagsterRunStatus.CANCELED


def test_run_that_is_interrupted_before_its_op_alerts_where_cancelled_runs_do(harness: AlertHarness) -> None:
    harness.settings = AlertSettings(on_cancel=True)
    run = interrupted_before_its_op(harness)
    harness.first_attempt(run)
    harness.tick(60)
    assert harness.stand_in.run_ids() == [run]


def test_retry_is_not_before_retry_after(harness: AlertHarness) -> None:
    harness.stand_in.faults = [Fault(status=429, error="ratelimited", retry_after_seconds=500, times=1)]
    run = harness.fail()
    harness.first_attempt(run)
    harness.tick(499)
    assert harness.stand_in.run_ids() == []
    harness.tick(1)
    assert harness.stand_in.run_ids() == [run]


def test_refused_connection_is_retried(harness: AlertHarness) -> None:
    run = harness.fail()
    with slack_stand_in() as gone:
        port = gone.port
    up, harness.stand_in = harness.stand_in, gone
    harness.first_attempt(run)
    assert harness.ledger(run).status == "retry"
    assert harness.ledger(run).ambiguous is False
    assert gone.port == port
    harness.stand_in = up
    # Another address is another configuration, which waits for nothing; the retry is due by its time.
    harness.tick(60)
    assert up.run_ids() == [run]


@pytest.mark.parametrize("has_history", [True, False])
def test_lost_answer_gives_one_duplicate_at_most_and_none_where_the_channel_can_be_read(
    harness: AlertHarness, has_history: bool
) -> None:
    harness.stand_in.faults = [Fault(drop_answer=True, times=1)]
    harness.stand_in.has_history = has_history
    run = harness.fail()
    harness.first_attempt(run)
    assert harness.ledger(run).ambiguous is True
    for _ in range(20):
        harness.tick(60)
    assert harness.stand_in.run_ids() == [run] * (1 if has_history else 2)


def test_hanging_slack_ends_the_attempt_in_time_and_the_next_run_does_not_wait_for_it(harness: AlertHarness) -> None:
    harness.stand_in.faults = [Fault(hang_seconds=PATIENCE_SECONDS)]
    harness.timeout_seconds = 1
    runs = [harness.fail(), harness.fail()]
    for run in runs:
        harness.first_attempt(run)
    assert harness.posts() == 1
    harness.stand_in.faults.clear()
    # An answer that only came late would be asked for again.
    harness.timeout_seconds = PATIENCE_SECONDS
    for _ in range(10):
        harness.tick(60)
    assert sorted(harness.stand_in.run_ids()) == sorted(runs)


@pytest.mark.parametrize("kept_mark", ["posting", ""])
def test_process_killed_while_posting_or_before_is_made_up_for(harness: AlertHarness, kept_mark: str) -> None:
    run = harness.fail()
    if kept_mark:
        harness.instance.add_run_tags(run, LedgerEntry(status="posting", next_at=harness.now + 90).tags(run))
    harness.tick(20)
    assert harness.stand_in.run_ids() == ([] if kept_mark else [run])
    harness.tick(90)
    harness.tick(90)
    assert harness.stand_in.run_ids() == [run]


POST_ONCE = """
import logging, sys
import dagster as dg
from run_elt_dagster.alerts.first_attempt import alert_of_failed_run
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.settings import AlertSettings
run_id, token, channel, url = sys.argv[1:]
alerts = Alerts(settings=AlertSettings(), owners={"analytics.mau": []}, jobs=("RunELT_Alert",))
slack = Slack(token=token, channel=channel, base_url=url, timeout_seconds=600)
with dg.DagsterInstance.get() as instance:
    alert_of_failed_run(alerts, instance, slack, run_id, log=logging.getLogger())
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("taken", "has_history", "messages"),
    cases(((False, False, 1), (True, True, 1), (True, False, 2)), usual=[(True, False, 2)]),
    ids=["not taken", "taken and found again", "taken and nowhere to look"],
)
def test_process_killed_while_it_posts_duplicates_at_most_what_slack_took_without_an_answer(
    tmp_path: Path, taken: bool, has_history: bool, messages: int
) -> None:
    with slack_stand_in() as stand_in, dg.DagsterInstance.local_temp(str(lay_empty_history(tmp_path))) as instance:
        harness = AlertHarness(instance, stand_in)
        run = harness.fail()
        stand_in.has_history = has_history
        stand_in.faults = [Fault(hang_seconds=PATIENCE_SECONDS, drop_answer=taken, times=1)]
        command = [sys.executable, "-c", POST_ONCE, run, TOKEN, CHANNEL, stand_in.url]
        environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment)
        try:
            assert stand_in.held.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait(PATIENCE_SECONDS)
        assert harness.ledger(run).status == "posting"
        assert len(stand_in.run_ids()) == taken
        for _ in range(5):
            harness.tick(60)
        assert stand_in.run_ids() == [run] * messages
        assert harness.ledger(run).status == "delivered"


@pytest.mark.parametrize(
    ("break_it", "remedy"),
    cases(
        [("token", "invalid_auth: Correct SLACK_TOKEN."), ("channel", "channel_not_found: Set SLACK_CHANNEL")],
        usual=[("token", "invalid_auth: Correct SLACK_TOKEN.")],
    ),
)
def test_wrong_setting_fails_the_tick_with_the_remedy_and_is_no_storm(
    harness: AlertHarness, break_it: str, remedy: str
) -> None:
    right = getattr(harness, break_it)
    setattr(harness, break_it, "xoxb-wrong")
    runs = [harness.fail() for _ in range(3)]
    for run in runs:
        harness.first_attempt(run)
    for _ in range(39):
        with pytest.raises(AlertsBlockedError, match=remedy) as caught:
            harness.tick(30)
    assert "3 failed runs wait for an alert" in str(caught.value)
    assert "xoxb-wrong" not in str(caught.value)
    # Whether the token is right is asked without a message; whether the channel is, one attempt in a tick for all tells.
    assert harness.posts() <= (1 if break_it == "token" else 41)
    setattr(harness, break_it, right)
    harness.tick(30)
    assert told_of(harness) == dict.fromkeys(runs, 1)


def test_wrong_setting_mended_in_slack_is_noticed_by_the_next_tick(harness: AlertHarness) -> None:
    harness.stand_in.faults = [Fault(error="missing_scope")]
    run = harness.fail()
    harness.first_attempt(run)
    harness.stand_in.faults.clear()
    with pytest.raises(AlertsBlockedError):
        harness.tick(29)
    harness.tick(1)
    assert harness.stand_in.run_ids() == [run]


def test_missing_token_goes_to_the_log_and_is_delivered_once_it_is_set(
    harness: AlertHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.token = None
    run = harness.fail()
    with caplog.at_level(logging.INFO):
        harness.first_attempt(run)
        harness.tick(60)
    assert harness.posts() == 0
    assert caplog.text.count("SLACK_TOKEN not set. This alert goes to the log only") == 1
    assert "analytics.mau was not published" in caplog.text
    assert (harness.ledger(run).status, harness.ledger(run).reason) == ("undeliverable", "SLACK_TOKEN not set")
    harness.token = "xoxb-stand-in"
    harness.tick(30)
    assert harness.stand_in.run_ids() == [run]


def test_failure_of_more_than_48_hours_ago_is_not_posted(harness: AlertHarness) -> None:
    harness.fail()
    harness.tick(48 * 3600 + 60)
    assert harness.posts() == 0


def test_channel_that_the_app_is_not_in_is_joined_once(harness: AlertHarness) -> None:
    harness.stand_in.joined = False
    run = harness.fail()
    harness.first_attempt(run)
    assert harness.stand_in.run_ids() == [run]
    assert len(harness.stand_in.calls("conversations.join")) == 1


def test_refused_blocks_are_sent_as_text_once(harness: AlertHarness) -> None:
    harness.stand_in.faults = [Fault(error="invalid_blocks", times=1)]
    run = harness.fail()
    harness.first_attempt(run)
    (message,) = harness.stand_in.messages
    assert not message.get("blocks")
    assert "row_count" in message["text"]
    assert harness.ledger(run).status == "delivered"


def test_same_failure_again_replies_in_the_thread_and_recovery_turns_it_green(harness: AlertHarness) -> None:
    for _ in range(3):
        harness.first_attempt(harness.fail())
    first, second, third = harness.stand_in.messages
    assert second["thread_ts"] == third["thread_ts"] == first["ts"]
    assert "Failed the same way 3 times" in first["text"]
    assert "🔴" in first["blocks"][0]["text"]["text"]
    harness.tick(30)
    assert len(harness.stand_in.messages) == 3

    harness.publish()
    harness.tick(30)
    harness.tick(30)
    reply = harness.stand_in.messages[3:]
    assert [message["thread_ts"] for message in reply] == [first["ts"]]
    assert "Published again: analytics.mau" in reply[0]["text"]
    assert "🟢 Recovered" in first["blocks"][0]["text"]["text"]

    harness.first_attempt(harness.fail())
    assert not harness.stand_in.messages[-1].get("thread_ts")


def test_another_cause_is_another_message(harness: AlertHarness) -> None:
    harness.first_attempt(harness.fail())
    error = StatementError("no such table", errno=2003, query_id="01", answered=True)
    harness.session = ScriptedSession(errors={"build": error})
    harness.first_attempt(harness.run())
    assert len(harness.stand_in.first_messages()) == 2


def test_run_that_dagster_retries_does_not_alert_until_the_retry_does(harness: AlertHarness) -> None:
    run = harness.fail()
    harness.instance.add_run_tags(run, {"dagster/will_retry": "true"})
    harness.first_attempt(run)
    harness.tick(60)
    assert harness.posts() == 0
    # The retry never came.
    harness.tick(900)
    assert harness.stand_in.run_ids() == [run]


def test_run_of_another_code_location_is_left_alone(harness: AlertHarness) -> None:
    run = harness.fail()
    harness.names = ("elsewhere",)
    harness.first_attempt(run)
    harness.tick(60)
    assert harness.posts() == 0
    assert harness.visible(run) == {}


@pytest.mark.thorough
def test_many_runs_failing_alike_under_the_rate_limit_are_all_told_of_and_none_twice(harness: AlertHarness) -> None:
    harness.stand_in.burst, harness.stand_in.clock = 1, lambda: harness.now
    count = effort(usual=25, thorough=100)
    runs = harness.fail_alike(count)
    for run in runs[:5]:
        harness.first_attempt(run)
    for _ in range(400):
        harness.tick(30)
        if all(harness.ledger(run).status == "delivered" for run in runs):
            break
    assert told_of(harness) == dict.fromkeys(runs, 1)
    assert {harness.ledger(run).ts for run in runs} <= {message["ts"] for message in harness.stand_in.messages}
    assert len(harness.stand_in.first_messages()) == 1
    assert f"Failed the same way {count} times" in harness.stand_in.first_messages()[0]["text"]


def told_of(harness: AlertHarness) -> dict[str, int]:
    """How many messages are kept for each run that was told of, by the ledger and by the messages' own words."""
    counts: dict[str, int] = {}
    for message in harness.stand_in.messages:
        leader = message["metadata"]["event_payload"]["run_id"]
        covered = [
            record.dagster_run.run_id
            for record in harness.instance.get_run_records()
            if LedgerEntry.of(record.dagster_run).ts == message["ts"]
        ]
        assert leader in covered
        if len(covered) > 1:
            assert f"{len(covered)} more runs failed the same way" in message["text"]
        for run in covered:
            counts[run] = counts.get(run, 0) + 1
    return counts


def test_many_runs_failing_alike_take_one_message_and_a_reply_for_every_61(harness: AlertHarness) -> None:
    runs = harness.fail_alike(70)
    harness.tick(60)
    assert told_of(harness) == dict.fromkeys(runs, 1)
    assert [message["text"].split(" runs")[0] for message in harness.stand_in.messages[1:]] == [
        ":repeat: 61 more",
        ":repeat: 8 more",
    ]
    assert "Failed the same way 70 times" in harness.stand_in.messages[0]["text"]
    harness.publish()
    harness.tick(60)
    assert [m["text"] for m in harness.stand_in.messages[3:]] == [RECOVERED]


@pytest.mark.parametrize("taken", cases((True, False), usual=[True]), ids=["taken", "not taken"])
def test_lost_answer_about_many_runs_tells_of_none_of_them_twice(harness: AlertHarness, taken: bool) -> None:
    harness.stand_in.has_history = True
    runs = harness.fail_alike(10)
    harness.first_attempt(runs[0])
    # The first reply of a tick is about one run, the second about the others.
    fault = Fault(drop_answer=True, times=1, skip=1) if taken else Fault(status=500, times=1, skip=1)
    harness.stand_in.faults = [fault]
    harness.tick(60)
    # The runs that the lost answer was about wait for it; none of them has a message of its own.
    for run in runs:
        harness.first_attempt(run)
    assert len(harness.stand_in.messages) == 2 + taken
    late = harness.fail()
    for _ in range(4):
        harness.tick(60)
    assert told_of(harness) == dict.fromkeys([*runs, late], 1)
    assert harness.stand_in.run_ids().count(runs[0]) == 1
    assert len(harness.stand_in.messages) == 4


@pytest.mark.thorough
def test_process_killed_while_it_marks_many_runs_tells_of_none_of_them_twice(
    harness: AlertHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.stand_in.has_history = True
    runs = harness.fail_alike(10)
    harness.first_attempt(runs[0])
    add_run_tags, marked = harness.instance.add_run_tags, list[str]()

    def killed_at_the_fifth(run_id: str, tags: dict[str, str]) -> None:
        if tags.get("run_elt/alert") == "delivered":
            marked.append(run_id)
            if len(marked) == 5:
                raise KeyboardInterrupt
        add_run_tags(run_id, tags)

    with monkeypatch.context() as patched:
        patched.setattr(harness.instance, "add_run_tags", killed_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            harness.tick(60)
    assert 2 < sum(harness.ledger(run).status == "delivered" for run in runs) < 10
    for _ in range(4):
        harness.tick(60)
    assert {run: harness.ledger(run).status for run in runs} == dict.fromkeys(runs, "delivered")
    assert len(harness.stand_in.messages) == 3
    assert {harness.ledger(run).ts for run in runs} == {message["ts"] for message in harness.stand_in.messages}


@pytest.mark.thorough
def test_newest_failure_is_told_of_first_though_many_others_wait(harness: AlertHarness) -> None:
    harness.names = tuple(f"t{number}" for number in range(40))
    for name in harness.names:
        harness.fail_only(name)
    harness.tick(60)
    told = [message["text"].split("🔴 ")[1].split(" ")[0] for message in harness.stand_in.messages]
    assert len(told) == 30
    assert told[:4] == ["analytics.t39", "analytics.t0", "analytics.t38", "analytics.t1"]
    newest = harness.fail_only("t7")
    harness.tick(60)
    assert harness.stand_in.run_ids()[30] == newest


def test_canary_is_in_no_message_and_in_no_event(harness: AlertHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "canary-value-7")
    error = StatementError("near canary-value-7: Numeric value 'Jane Doe'", errno=100038, query_id="01", answered=True)
    harness.session = ScriptedSession(errors={"build": error})
    run = harness.run()
    harness.first_attempt(run)
    assert harness.posts() == 1
    assert "canary-value-7" not in harness.stand_in.everything()
    assert "Jane Doe" not in harness.stand_in.everything()
    assert "canary-value-7" not in harness.log_of(run)


def test_sensors_run_by_default_and_see_every_code_location(harness: AlertHarness) -> None:
    failure, retries, _ = alert_sensors(harness.alerts)
    for sensor in (failure, retries):
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    run = harness.fail()
    record = harness.record(run)
    (event,) = [
        e.dagster_event for e in harness.instance.all_logs(run) if e.dagster_event and e.dagster_event.is_failure
    ][-1:]
    context = dg.build_run_status_sensor_context(
        "slack_alert", event, harness.instance, record.dagster_run, resources={"slack": harness.slack}
    )
    failure(context)
    assert harness.stand_in.run_ids() == [run]
    with dg.build_sensor_context(instance=harness.instance, resources={"slack": harness.slack}) as tick:
        skipped = retries(tick)
    assert "0 alerts delivered, 0 waiting" in skipped.skip_message


def shown(harness: AlertHarness) -> list[dict[str, object]]:
    records = harness.instance.fetch_observations(dg.AssetKey(["alerts", "slack"]), limit=100).records
    observations = [record.asset_observation for record in records]
    return [{name: value.value for name, value in o.metadata.items()} for o in observations if o is not None]


def evaluate_retries(harness: AlertHarness) -> None:
    (_, retries, _) = alert_sensors(harness.alerts)
    with dg.build_sensor_context(instance=harness.instance, resources={"slack": harness.slack}) as context:
        retries(context)


def test_page_of_the_alerting_shows_what_waits_and_the_last_delivery_and_only_changes(harness: AlertHarness) -> None:
    evaluate_retries(harness)
    evaluate_retries(harness)
    assert [page["last_delivery"] for page in shown(harness)] == ["never"]

    run = harness.fail()
    harness.stand_in.faults = [Fault(status=500)]
    harness.now += 60
    evaluate_retries(harness)
    assert (shown(harness)[0]["undelivered"], shown(harness)[0]["undelivered_runs"]) == (1, run)

    harness.stand_in.faults.clear()
    harness.now += 60
    evaluate_retries(harness)
    page = shown(harness)[0]
    assert page["undelivered"] == 0
    assert str(page["last_delivery"]).endswith(" UTC")
    assert len(shown(harness)) == 3


@pytest.mark.parametrize("token", [None, "xoxb-set"], ids=["no token", "token"])
def test_check_of_the_alerting_fails_while_a_failure_is_unheard_of(harness: AlertHarness, token: str | None) -> None:
    check = alerts_delivered(harness.alerts)

    def passes() -> bool:
        definitions = dg.Definitions(
            assets=[alert_asset()],
            asset_checks=[check],
            jobs=[dg.define_asset_job("ask", selection=dg.AssetSelection.checks(check))],
            resources={"slack": harness.slack.model_copy(update={"token": token})},
        )
        job = definitions.resolve_job_def("ask")
        (evaluation,) = job.execute_in_process(instance=harness.instance).get_asset_check_evaluations()
        return evaluation.passed

    assert passes()
    harness.fail()
    harness.now += 60
    check = alerts_delivered(harness.alerts)
    assert not passes()


def copied(harness: AlertHarness, parent: str) -> dict[str, str]:
    """What Dagster's re-execution takes over, and what it adds."""
    return {**harness.record(parent).dagster_run.tags, "dagster/parent_run_id": parent, "dagster/root_run_id": parent}


@pytest.mark.parametrize("begins", cases((True, False), usual=[True]), ids=["begins", "fails before its first step"])
def test_reexecution_alerts_though_it_copies_the_tags_of_a_delivered_alert(harness: AlertHarness, begins: bool) -> None:
    def again(parent: str) -> str:
        if begins:
            return harness.run(tags=copied(harness, parent))
        return harness.copy(parent, tags=copied(harness, parent))

    runs = [harness.fail()]
    for _ in range(3):
        harness.first_attempt(runs[-1])
        harness.tick(30)
        runs.append(again(runs[-1]))
    harness.tick(60)
    assert harness.stand_in.run_ids() == runs
    first, *replies = harness.stand_in.messages
    assert [reply["thread_ts"] for reply in replies] == [first["ts"]] * 3
    assert "Failed the same way 4 times" in first["text"]
    assert "launched by a re-execution of run" in replies[-1]["text"]

    harness.session = ScriptedSession(rows=5)
    published = harness.run(tags=copied(harness, runs[-1]))
    assert harness.visible(published) == {"run_elt/alert": ""}
    for _ in range(3):
        harness.tick(30)
    assert [m["text"] for m in harness.stand_in.messages[4:]] == [RECOVERED]
    assert harness.visible(published) == {"run_elt/alert": ""}


def test_copies_of_an_open_incident_are_neither_counted_nor_taken_for_its_first(harness: AlertHarness) -> None:
    first = harness.fail()
    harness.first_attempt(first)
    again = harness.fail()
    harness.first_attempt(again)
    # Dagster retries these, so that they are not told of; their tags are copies all the same.
    for parent in (first, again):
        for _ in range(3):
            harness.copy(parent, tags={**copied(harness, parent), "dagster/will_retry": "true"})
    third = harness.fail()
    harness.first_attempt(third)
    assert harness.ledger(third).first == first
    assert "Failed the same way 3 times" in harness.stand_in.messages[0]["text"]
    harness.publish()
    harness.tick(30)
    harness.tick(30)
    assert [m["text"] for m in harness.stand_in.messages[3:]] == [RECOVERED]


def test_copy_of_a_waiting_alert_holds_up_no_other(harness: AlertHarness) -> None:
    waiting = harness.fail()
    tags = LedgerEntry(status="retry", next_at=harness.now + 900, config=config_of(harness.slack)).tags(waiting)
    copy = harness.copy(waiting, tags={**tags, "dagster/parent_run_id": waiting})
    harness.first_attempt(copy)
    assert harness.stand_in.run_ids() == [copy]


def test_run_that_was_cancelled_before_it_began_loses_the_visible_copy(harness: AlertHarness) -> None:
    first = harness.fail()
    harness.first_attempt(first)
    cancelled = harness.copy(first, tags=copied(harness, first), status=dg.DagsterRunStatus.CANCELED)
    assert harness.visible(cancelled) == {"run_elt/alert": "delivered"}
    harness.tick(30)
    assert harness.visible(cancelled) == {"run_elt/alert": ""}
    assert harness.posts() == 1


def test_tags_of_another_version_count_for_nothing_and_break_nothing(harness: AlertHarness) -> None:
    run = harness.fail()
    old = {
        "run_elt/alert": "retry",
        "run_elt/alert_attempts": "x",
        "run_elt/alert_next_at": "1e99",
        ".dagster/run_elt/alert": "?",
    }
    harness.instance.add_run_tags(run, old)
    harness.tick(60)
    assert harness.stand_in.run_ids() == [run]


def test_alert_is_sent_again_when_a_person_empties_its_tag(harness: AlertHarness) -> None:
    run = harness.fail()
    harness.first_attempt(run)
    harness.instance.add_run_tags(run, {"run_elt/alert": ""})
    harness.tick(60)
    assert harness.stand_in.run_ids() == [run, run]


@pytest.mark.parametrize(
    "gone",
    cases(
        (
            "other channel",
            "deleted",
            "deleted with replies",
            "archived",
            "deleted between count and reply",
            "of another app",
        ),
        usual=["deleted"],
    ),
)
def test_repeat_is_a_whole_message_in_the_channel_of_today_when_the_first_is_gone(
    harness: AlertHarness, gone: str
) -> None:
    harness.first_attempt(harness.fail())
    harness.first_attempt(harness.fail())
    first = harness.stand_in.messages[0]
    if gone in ("other channel", "archived"):
        harness.stand_in.channels.add("C0ANOTHER")
        harness.stand_in.archived = gone == "archived"
        harness.channel = "C0ANOTHER"
    elif gone == "deleted between count and reply":
        harness.stand_in.vanishing = first["ts"]
    elif gone == "of another app":
        harness.stand_in.faults = [Fault(error="cant_update_message", method="chat.update", times=1)]
    else:
        harness.stand_in.delete(first["ts"], tombstone=gone == "deleted with replies")
    run = harness.fail()
    harness.first_attempt(run)
    whole = harness.stand_in.messages[-1]
    assert not whole.get("thread_ts")
    assert whole["channel"] == harness.channel
    assert "🔴 analytics.mau was not published" in whole["text"]
    assert ":repeat:" not in whole["text"]
    assert harness.ledger(run).status == "delivered"

    # It is the first of the incident now: the next one replies to it, and it alone recovers.
    harness.first_attempt(harness.fail())
    assert harness.stand_in.messages[-1]["thread_ts"] == whole["ts"]
    assert "Failed the same way 2 times" in whole["text"]
    harness.publish()
    for _ in range(3):
        harness.tick(30)
    said = [m for m in harness.stand_in.messages if "Published again" in m["text"]]
    assert [(m["channel"], m["thread_ts"]) for m in said] == [(harness.channel, whole["ts"])]
    assert "🟢 Recovered" in whole["blocks"][0]["text"]["text"]


@pytest.mark.parametrize("error", cases(("edit_window_closed", "ratelimited"), usual=["edit_window_closed"]))
def test_repeat_replies_though_the_first_message_cannot_be_changed(harness: AlertHarness, error: str) -> None:
    harness.first_attempt(harness.fail())
    harness.stand_in.faults = [Fault(error=error, method="chat.update")]
    harness.first_attempt(harness.fail())
    first, reply = harness.stand_in.messages
    assert reply["thread_ts"] == first["ts"]


def test_repeat_waits_when_slack_is_down_at_the_counting(harness: AlertHarness) -> None:
    harness.first_attempt(harness.fail())
    harness.stand_in.faults = [Fault(status=500, method="chat.update", times=1)]
    run = harness.fail()
    harness.first_attempt(run)
    assert (harness.posts(), harness.ledger(run).status) == (1, "retry")
    harness.tick(60)
    assert harness.stand_in.messages[1]["thread_ts"] == harness.stand_in.messages[0]["ts"]


def test_recovery_is_told_in_the_channel_when_the_first_message_is_gone(harness: AlertHarness) -> None:
    harness.first_attempt(harness.fail())
    harness.stand_in.delete(harness.stand_in.messages[0]["ts"])
    harness.publish()
    for _ in range(3):
        harness.tick(30)
    (said,) = harness.stand_in.messages
    assert "Published again: analytics.mau" in said["text"]
    assert not said.get("thread_ts")


def test_candidate_that_a_person_publishes_is_a_recovery(harness: AlertHarness) -> None:
    run = harness.fail()
    harness.first_attempt(run)
    told = {"dagster/table_name": "RUN_ELT.ANALYTICS.MAU", PUBLISHED_RUN: run}
    harness.instance.report_runless_asset_event(dg.AssetMaterialization(["analytics", "mau"], metadata=told))
    harness.tick(30)
    assert "Published again: analytics.mau" in harness.stand_in.messages[1]["text"]


def test_reported_materialization_is_no_recovery(harness: AlertHarness) -> None:
    harness.publish()
    harness.first_attempt(harness.fail())
    reported = dg.AssetMaterialization(["analytics", "mau"], description="reported in the UI")
    harness.instance.report_runless_asset_event(reported)
    harness.tick(30)
    assert len(harness.stand_in.messages) == 1
    again = harness.fail()
    harness.first_attempt(again)
    # Nor does it begin another incident, or change what readers are said to see.
    assert harness.stand_in.messages[1]["thread_ts"] == harness.stand_in.messages[0]["ts"]
    assert "with 5 rows" in harness.stand_in.messages[0]["text"]
    harness.publish()
    harness.instance.report_runless_asset_event(reported)
    harness.tick(30)
    assert "Published again: analytics.mau" in harness.stand_in.messages[2]["text"]
