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

from run_elt_dagster.alerts.health import alert_asset, alerts_delivered
from run_elt_dagster.alerts.ledger import LedgerEntry, config_of
from run_elt_dagster.alerts.reconciliation import AlertsBlockedError
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.e2e.slack_stand_in import CHANNEL, TOKEN, Fault, slack_stand_in
from run_elt_dagster_tests.effort import PATIENCE_SECONDS, effort
from run_elt_dagster_tests.integration.failures import ScriptedSession, ScriptedSnowflake, Watch

RECOVERED = ":large_green_circle: Published again: analytics.mau. (database RUN_ELT on the embedded Snowflake)"


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


class InterruptedSnowflake(ScriptedSnowflake):
    """Somebody presses Ctrl-C while Dagster sets up the resources."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def interrupted_before_its_op(watch: Watch) -> str:
    table = AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n"})
    definitions = dg.Definitions(
        assets=[analytics_assets(catalogue([table]), max_concurrent_tables=1)],
        resources={"snowflake": InterruptedSnowflake()},
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    with pytest.raises(BaseException, match=r"^$"):
        job.execute_in_process(instance=watch.instance)
    (run,) = watch.instance.get_runs(limit=1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    watch.now = watch.record(run.run_id).end_time or 0
    return run.run_id


@pytest.mark.parametrize("by_retries", [False, True], ids=["at once", "by the retries"])
def test_run_that_is_interrupted_by_hand_before_its_op_ends_as_cancelled(watch: Watch, by_retries: bool) -> None:
    """Dagster calls it a failure."""
    run = interrupted_before_its_op(watch)
    if by_retries:
        assert watch.tick(60) == "0 alerts delivered, 0 waiting, 0 recoveries announced"
    else:
        watch.first_attempt(run)
    watch.tick(60)
    assert watch.posts() == 0
    assert watch.record(run).dagster_run.status is dg.DagsterRunStatus.CANCELED


def test_run_that_is_interrupted_before_its_op_alerts_where_cancelled_runs_do(watch: Watch) -> None:
    watch.settings = AlertSettings(on_cancel=True)
    run = interrupted_before_its_op(watch)
    watch.first_attempt(run)
    watch.tick(60)
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
    watch.stand_in.faults = [Fault(hang_seconds=PATIENCE_SECONDS)]
    watch.timeout_seconds = 1
    runs = [watch.fail(), watch.fail()]
    for run in runs:
        watch.first_attempt(run)
    assert watch.posts() == 1
    watch.stand_in.faults.clear()
    # An answer that only came late would be asked for again.
    watch.timeout_seconds = PATIENCE_SECONDS
    for _ in range(10):
        watch.tick(60)
    assert sorted(watch.stand_in.run_ids()) == sorted(runs)


@pytest.mark.parametrize("kept_mark", ["posting", ""])
def test_process_killed_while_posting_or_before_is_made_up_for(watch: Watch, kept_mark: str) -> None:
    run = watch.fail()
    if kept_mark:
        watch.instance.add_run_tags(run, LedgerEntry(status="posting", next_at=watch.now + 90).tags(run))
    watch.tick(20)
    assert watch.stand_in.run_ids() == ([] if kept_mark else [run])
    watch.tick(90)
    watch.tick(90)
    assert watch.stand_in.run_ids() == [run]


POST_ONCE = """
import logging, sys
import dagster as dg
from run_elt_dagster.alerts.sensors import Alerts, alert_of_failed_run
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.settings import AlertSettings
run_id, token, channel, url = sys.argv[1:]
alerts = Alerts(settings=AlertSettings(), owners={"analytics.mau": []}, jobs=("RunELT_Alert",))
slack = Slack(token=token, channel=channel, base_url=url, timeout_seconds=600)
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
        stand_in.faults = [Fault(hang_seconds=PATIENCE_SECONDS, drop_answer=taken, times=1)]
        command = [sys.executable, "-c", POST_ONCE, run, TOKEN, CHANNEL, stand_in.url]
        environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment)
        try:
            assert stand_in.held.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait(PATIENCE_SECONDS)
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
    # Whether the token is right is asked without a message; whether the channel is, one attempt in a tick for all tells.
    assert watch.posts() <= (1 if break_it == "token" else 121)
    setattr(watch, break_it, right)
    watch.tick(30)
    assert told_of(watch) == dict.fromkeys(runs, 1)


def test_wrong_setting_mended_in_slack_is_noticed_by_the_next_tick(watch: Watch) -> None:
    watch.stand_in.faults = [Fault(error="missing_scope")]
    run = watch.fail()
    watch.first_attempt(run)
    watch.stand_in.faults.clear()
    with pytest.raises(AlertsBlockedError):
        watch.tick(29)
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
    assert caplog.text.count("SLACK_TOKEN not set. This alert goes to the log only") == 1
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


def test_many_runs_failing_alike_under_the_rate_limit_are_all_told_of_and_none_twice(watch: Watch) -> None:
    watch.stand_in.burst, watch.stand_in.clock = 1, lambda: watch.now
    count = effort(usual=25, thorough=100)
    runs = watch.fail_alike(count)
    for run in runs[:5]:
        watch.first_attempt(run)
    for _ in range(400):
        watch.tick(30)
        if all(watch.ledger(run).status == "delivered" for run in runs):
            break
    assert told_of(watch) == dict.fromkeys(runs, 1)
    assert {watch.ledger(run).ts for run in runs} <= {message["ts"] for message in watch.stand_in.messages}
    assert len(watch.stand_in.first_messages()) == 1
    assert f"Failed the same way {count} times" in watch.stand_in.first_messages()[0]["text"]


def told_of(watch: Watch) -> dict[str, int]:
    """How many messages are kept for each run that was told of, by the ledger and by the messages' own words."""
    counts: dict[str, int] = {}
    for message in watch.stand_in.messages:
        leader = message["metadata"]["event_payload"]["run_id"]
        covered = [
            record.dagster_run.run_id
            for record in watch.instance.get_run_records()
            if LedgerEntry.of(record.dagster_run).ts == message["ts"]
        ]
        assert leader in covered
        if len(covered) > 1:
            assert f"{len(covered)} more runs failed the same way" in message["text"]
        for run in covered:
            counts[run] = counts.get(run, 0) + 1
    return counts


def test_many_runs_failing_alike_take_one_message_and_a_reply_for_every_61(watch: Watch) -> None:
    runs = watch.fail_alike(70)
    watch.tick(60)
    assert told_of(watch) == dict.fromkeys(runs, 1)
    assert [message["text"].split(" runs")[0] for message in watch.stand_in.messages[1:]] == [
        ":repeat: 61 more",
        ":repeat: 8 more",
    ]
    assert "Failed the same way 70 times" in watch.stand_in.messages[0]["text"]
    watch.publish()
    watch.tick(60)
    assert [m["text"] for m in watch.stand_in.messages[3:]] == [RECOVERED]


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_lost_answer_about_many_runs_tells_of_none_of_them_twice(watch: Watch, taken: bool) -> None:
    watch.stand_in.has_history = True
    runs = watch.fail_alike(10)
    watch.first_attempt(runs[0])
    # The first reply of a tick is about one run, the second about the others.
    fault = Fault(drop_answer=True, times=1, skip=1) if taken else Fault(status=500, times=1, skip=1)
    watch.stand_in.faults = [fault]
    watch.tick(60)
    # The runs that the lost answer was about wait for it; none of them has a message of its own.
    for run in runs:
        watch.first_attempt(run)
    assert len(watch.stand_in.messages) == 2 + taken
    late = watch.fail()
    for _ in range(4):
        watch.tick(60)
    assert told_of(watch) == dict.fromkeys([*runs, late], 1)
    assert watch.stand_in.run_ids().count(runs[0]) == 1
    assert len(watch.stand_in.messages) == 4


def test_process_killed_while_it_marks_many_runs_tells_of_none_of_them_twice(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.stand_in.has_history = True
    runs = watch.fail_alike(10)
    watch.first_attempt(runs[0])
    add_run_tags, marked = watch.instance.add_run_tags, list[str]()

    def killed_at_the_fifth(run_id: str, tags: dict[str, str]) -> None:
        if tags.get("run_elt/alert") == "delivered":
            marked.append(run_id)
            if len(marked) == 5:
                raise KeyboardInterrupt
        add_run_tags(run_id, tags)

    with monkeypatch.context() as patched:
        patched.setattr(watch.instance, "add_run_tags", killed_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            watch.tick(60)
    assert 2 < sum(watch.ledger(run).status == "delivered" for run in runs) < 10
    for _ in range(4):
        watch.tick(60)
    assert {run: watch.ledger(run).status for run in runs} == dict.fromkeys(runs, "delivered")
    assert len(watch.stand_in.messages) == 3
    assert {watch.ledger(run).ts for run in runs} == {message["ts"] for message in watch.stand_in.messages}


def test_newest_failure_is_told_of_first_though_many_others_wait(watch: Watch) -> None:
    watch.names = tuple(f"t{number}" for number in range(40))
    for name in watch.names:
        watch.fail_only(name)
    watch.tick(60)
    told = [message["text"].split("🔴 ")[1].split(" ")[0] for message in watch.stand_in.messages]
    assert len(told) == 30
    assert told[:4] == ["analytics.t39", "analytics.t0", "analytics.t38", "analytics.t1"]
    newest = watch.fail_only("t7")
    watch.tick(60)
    assert watch.stand_in.run_ids()[30] == newest


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


def copied(watch: Watch, parent: str) -> dict[str, str]:
    """What Dagster's re-execution takes over, and what it adds."""
    return {**watch.record(parent).dagster_run.tags, "dagster/parent_run_id": parent, "dagster/root_run_id": parent}


@pytest.mark.parametrize("begins", [True, False], ids=["begins", "fails before its first step"])
def test_reexecution_alerts_though_it_copies_the_tags_of_a_delivered_alert(watch: Watch, begins: bool) -> None:
    def again(parent: str) -> str:
        if begins:
            return watch.run(tags=copied(watch, parent))
        return watch.copy(parent, tags=copied(watch, parent))

    runs = [watch.fail()]
    for _ in range(3):
        watch.first_attempt(runs[-1])
        watch.tick(30)
        runs.append(again(runs[-1]))
    watch.tick(60)
    assert watch.stand_in.run_ids() == runs
    first, *replies = watch.stand_in.messages
    assert [reply["thread_ts"] for reply in replies] == [first["ts"]] * 3
    assert "Failed the same way 4 times" in first["text"]
    assert "launched by a re-execution of run" in replies[-1]["text"]

    watch.session = ScriptedSession(rows=5)
    published = watch.run(tags=copied(watch, runs[-1]))
    assert watch.visible(published) == {"run_elt/alert": ""}
    for _ in range(3):
        watch.tick(30)
    assert [m["text"] for m in watch.stand_in.messages[4:]] == [RECOVERED]
    assert watch.visible(published) == {"run_elt/alert": ""}


def test_copies_of_an_open_incident_are_neither_counted_nor_taken_for_its_first(watch: Watch) -> None:
    first = watch.fail()
    watch.first_attempt(first)
    again = watch.fail()
    watch.first_attempt(again)
    # Dagster retries these, so that they are not told of; their tags are copies all the same.
    for parent in (first, again):
        for _ in range(3):
            watch.copy(parent, tags={**copied(watch, parent), "dagster/will_retry": "true"})
    third = watch.fail()
    watch.first_attempt(third)
    assert watch.ledger(third).first == first
    assert "Failed the same way 3 times" in watch.stand_in.messages[0]["text"]
    watch.publish()
    watch.tick(30)
    watch.tick(30)
    assert [m["text"] for m in watch.stand_in.messages[3:]] == [RECOVERED]


def test_copy_of_a_waiting_alert_holds_up_no_other(watch: Watch) -> None:
    waiting = watch.fail()
    tags = LedgerEntry(status="retry", next_at=watch.now + 900, config=config_of(watch.slack)).tags(waiting)
    copy = watch.copy(waiting, tags={**tags, "dagster/parent_run_id": waiting})
    watch.first_attempt(copy)
    assert watch.stand_in.run_ids() == [copy]


def test_run_that_was_cancelled_before_it_began_loses_the_visible_copy(watch: Watch) -> None:
    first = watch.fail()
    watch.first_attempt(first)
    cancelled = watch.copy(first, tags=copied(watch, first), status=dg.DagsterRunStatus.CANCELED)
    assert watch.visible(cancelled) == {"run_elt/alert": "delivered"}
    watch.tick(30)
    assert watch.visible(cancelled) == {"run_elt/alert": ""}
    assert watch.posts() == 1


def test_tags_of_another_version_count_for_nothing_and_break_nothing(watch: Watch) -> None:
    run = watch.fail()
    old = {
        "run_elt/alert": "retry",
        "run_elt/alert_attempts": "x",
        "run_elt/alert_next_at": "1e99",
        ".dagster/run_elt/alert": "?",
    }
    watch.instance.add_run_tags(run, old)
    watch.tick(60)
    assert watch.stand_in.run_ids() == [run]


def test_alert_is_sent_again_when_a_person_empties_its_tag(watch: Watch) -> None:
    run = watch.fail()
    watch.first_attempt(run)
    watch.instance.add_run_tags(run, {"run_elt/alert": ""})
    watch.tick(60)
    assert watch.stand_in.run_ids() == [run, run]


@pytest.mark.parametrize(
    "gone", ["other channel", "deleted", "deleted with replies", "archived", "deleted between count and reply"]
)
def test_repeat_is_a_whole_message_in_the_channel_of_today_when_the_first_is_gone(watch: Watch, gone: str) -> None:
    watch.first_attempt(watch.fail())
    watch.first_attempt(watch.fail())
    first = watch.stand_in.messages[0]
    if gone in ("other channel", "archived"):
        watch.stand_in.channels.add("C0ANOTHER")
        watch.stand_in.archived = gone == "archived"
        watch.channel = "C0ANOTHER"
    elif gone == "deleted between count and reply":
        watch.stand_in.vanishing = first["ts"]
    else:
        watch.stand_in.delete(first["ts"], tombstone=gone == "deleted with replies")
    run = watch.fail()
    watch.first_attempt(run)
    whole = watch.stand_in.messages[-1]
    assert not whole.get("thread_ts")
    assert whole["channel"] == watch.channel
    assert "🔴 analytics.mau was not published" in whole["text"]
    assert ":repeat:" not in whole["text"]
    assert watch.ledger(run).status == "delivered"

    # It is the first of the incident now: the next one replies to it, and it alone recovers.
    watch.first_attempt(watch.fail())
    assert watch.stand_in.messages[-1]["thread_ts"] == whole["ts"]
    assert "Failed the same way 2 times" in whole["text"]
    watch.publish()
    for _ in range(3):
        watch.tick(30)
    said = [m for m in watch.stand_in.messages if "Published again" in m["text"]]
    assert [(m["channel"], m["thread_ts"]) for m in said] == [(watch.channel, whole["ts"])]
    assert "🟢 Recovered" in whole["blocks"][0]["text"]["text"]


@pytest.mark.parametrize("error", ["cant_update_message", "edit_window_closed", "ratelimited"])
def test_repeat_replies_though_the_first_message_cannot_be_changed(watch: Watch, error: str) -> None:
    watch.first_attempt(watch.fail())
    watch.stand_in.faults = [Fault(error=error, method="chat.update")]
    watch.first_attempt(watch.fail())
    first, reply = watch.stand_in.messages
    assert reply["thread_ts"] == first["ts"]


def test_repeat_waits_when_slack_is_down_at_the_counting(watch: Watch) -> None:
    watch.first_attempt(watch.fail())
    watch.stand_in.faults = [Fault(status=500, method="chat.update", times=1)]
    run = watch.fail()
    watch.first_attempt(run)
    assert (watch.posts(), watch.ledger(run).status) == (1, "retry")
    watch.tick(60)
    assert watch.stand_in.messages[1]["thread_ts"] == watch.stand_in.messages[0]["ts"]


def test_recovery_is_told_in_the_channel_when_the_first_message_is_gone(watch: Watch) -> None:
    watch.first_attempt(watch.fail())
    watch.stand_in.delete(watch.stand_in.messages[0]["ts"])
    watch.publish()
    for _ in range(3):
        watch.tick(30)
    (said,) = watch.stand_in.messages
    assert "Published again: analytics.mau" in said["text"]
    assert not said.get("thread_ts")


def test_reported_materialization_is_no_recovery(watch: Watch) -> None:
    watch.publish()
    watch.first_attempt(watch.fail())
    reported = dg.AssetMaterialization(["analytics", "mau"], description="reported in the UI")
    watch.instance.report_runless_asset_event(reported)
    watch.tick(30)
    assert len(watch.stand_in.messages) == 1
    again = watch.fail()
    watch.first_attempt(again)
    # Nor does it begin another incident, or change what readers are said to see.
    assert watch.stand_in.messages[1]["thread_ts"] == watch.stand_in.messages[0]["ts"]
    assert "with 5 rows" in watch.stand_in.messages[0]["text"]
    watch.publish()
    watch.instance.report_runless_asset_event(reported)
    watch.tick(30)
    assert "Published again: analytics.mau" in watch.stand_in.messages[2]["text"]
