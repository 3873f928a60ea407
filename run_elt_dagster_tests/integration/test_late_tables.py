"""Tables whose rows are too old: one message for each cause and no failed run, whatever becomes of Slack and of the process."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from run_elt_dagster.alerts import delivery
from run_elt_dagster.alerts.all_is_well import HeartbeatError, call_address, problems
from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.late_ledger import read_ledger
from run_elt_dagster.alerts.late_tables import GRACE, KnownRows, look_for_late_tables
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.runs.freshness import Watched
from run_elt_dagster_tests.support.alert_harness import LOG, AlertHarness
from run_elt_dagster_tests.support.slack_stand_in import Fault, slack_stand_in

HOUR = 3600


@dataclass
class Lateness(AlertHarness):
    """The harness with tables that may be 26 h old, and a look that is a tick of the sensor."""

    rules: dict[str, Watched] = field(default_factory=dict[str, Watched])
    cursor: str | None = None
    rows: KnownRows = field(default_factory=KnownRows)
    said: str = ""

    @property
    def alerts(self) -> Alerts:
        watched = [self.rules.get(name, a_table(name)) for name in self.names]
        return replace(super().alerts, watched=tuple(watched))

    def look(self, *, hours_later: float = 0, seconds_later: float = 0) -> list[str]:
        """Let time pass, look once, and return the texts that Slack has got since."""
        self.now += hours_later * HOUR + seconds_later
        before = len(self.stand_in.messages)
        self.cursor, self.said = look_for_late_tables(
            self.alerts, self.instance, self.slack, self.cursor, log=LOG, known=self.rows
        )
        return [message["text"] for message in self.stand_in.messages[before:]]

    def publish_now(self, *names: str) -> None:
        """Record a publication of tables at the moment of the clock: a real run has that of this machine's."""
        template = self.instance.get_runs()[-1]
        (event, *_) = self.instance.all_logs(template.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        for name in names or self.names:
            run = template._replace(run_id=str(uuid4()), tags={})
            self.instance.add_run(run)
            other = dg.deserialize_value(dg.serialize_value(event).replace("mau", name), dg.EventLogEntry)
            self.instance.event_log_storage.store_event(other._replace(run_id=run.run_id, timestamp=self.now))

    def look_until_late(self) -> list[str]:
        """Publish, then look every minute around the moment when the rows are too old."""
        self.publish()
        assert self.look() == []
        return [*self.look(hours_later=25.9), *self.look(hours_later=0.2)]


def a_table(name: str, *, fail: str = "26h", **more: Any) -> Watched:
    rule = FreshWithin(fail=fail)  # type: ignore[arg-type]
    return Watched(f"analytics.{name}", rule, **{"schedule": "daily", "owners": ("team:analytics",), **more})


@pytest.fixture
def late() -> Iterator[Lateness]:
    with dg.DagsterInstance.ephemeral() as instance, slack_stand_in() as stand_in:
        yield Lateness(instance, stand_in)


def test_old_rows_alert_once_and_their_thread_tells_when_they_are_new_again(late: Lateness) -> None:
    (text,) = late.look_until_late()
    assert "analytics.mau is late, and readers see old rows" in text
    assert "at most 26 h old" in text
    assert "no daemon has evaluated the schedule daily on this history" in text.replace("`", "")
    assert "team:analytics" in text
    assert late.look(hours_later=1) == []
    late.publish_now()
    (recovered,) = late.look(seconds_later=60)
    assert "In time again: analytics.mau" in recovered
    first, reply = late.stand_in.messages
    assert reply["thread_ts"] == first["ts"]
    assert "In time again" in json.dumps(late.stand_in.calls("chat.update")[-1], ensure_ascii=False)
    assert late.look(hours_later=1) == []
    assert not read_ledger(late.instance, "").latenesses


@pytest.mark.parametrize(
    ("become", "cause"),
    [
        ("launched", "was launched and has not started since"),
        ("started", "is under way since"),
        ("cancelled", "was cancelled at"),
        ("left out", "ended well at"),
    ],
)
def test_cause_is_what_became_of_the_last_run(late: Lateness, become: str, cause: str) -> None:
    late.publish()
    statuses = {
        "launched": dg.DagsterRunStatus.NOT_STARTED,
        "started": dg.DagsterRunStatus.STARTED,
        "cancelled": dg.DagsterRunStatus.CANCELED,
        "left out": dg.DagsterRunStatus.SUCCESS,
    }
    late.now -= 60
    late.publish_now()
    late.now += 60
    planned_run(late, statuses[become])
    assert late.look() == []
    (text,) = late.look(hours_later=26.1)
    assert cause in text


def planned_run(late: Lateness, status: dg.DagsterRunStatus) -> None:
    """Record a run that was to build the table, and how it stands."""
    template = late.instance.get_runs()[-1]
    run = template._replace(run_id=str(uuid4()), tags={}, status=status)
    late.instance.add_run(run)
    for event in late.instance.all_logs(template.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED):
        late.instance.event_log_storage.store_event(event._replace(run_id=run.run_id, timestamp=late.now))


def test_failed_run_that_was_told_gets_the_lateness_into_its_thread(late: Lateness) -> None:
    late.publish()
    run_id = late.fail()
    late.first_attempt(run_id)
    assert late.look() == []
    (reply,) = late.look(hours_later=26.1)
    first, second = late.stand_in.messages
    assert second["thread_ts"] == first["ts"]
    assert "analytics.mau is late" in reply
    assert f"run {run_id[:8]}, failed at" in reply
    assert not late.stand_in.calls("chat.update")
    late.publish_now()
    (recovered,) = late.look(seconds_later=60)
    assert "In time again" in recovered
    assert late.stand_in.messages[-1]["thread_ts"] == first["ts"]


def test_tables_that_are_late_for_one_cause_share_a_thread(late: Lateness) -> None:
    late.names = ("mau", "dau", "wau")
    late.publish()
    assert late.look() == []
    late.publish_now("wau")
    late.now += 60
    (text,) = late.look(hours_later=26.1)
    assert "3 tables are late" in text
    late.publish_now("mau")
    assert late.look(seconds_later=60) == []
    late.publish_now("dau", "wau")
    (recovered,) = late.look(seconds_later=60)
    assert "In time again: analytics.dau, analytics.mau, analytics.wau" in recovered


def test_table_that_was_never_built_is_late_when_its_time_is_over(late: Lateness) -> None:
    """Dagster's own daemon never calls it late."""
    late.now = datetime.now(UTC).timestamp()
    assert late.look() == []
    assert late.look(hours_later=25.9) == []
    (text,) = late.look(hours_later=0.3)
    assert "analytics.mau is late, and readers see no rows" in text
    assert "never published" in text


def test_table_that_is_late_when_it_is_first_seen_has_a_grace(late: Lateness) -> None:
    late.publish()
    late.now += 30 * HOUR
    assert late.look() == []
    assert late.look(seconds_later=GRACE.total_seconds() - 60) == []
    (text,) = late.look(seconds_later=120)
    assert "analytics.mau is late" in text


@pytest.mark.parametrize(
    "fault", [Fault(status=503, times=1), Fault(error="internal_error", times=1)], ids=["503", "internal_error"]
)
def test_outage_loses_no_lateness_and_tells_none_twice(late: Lateness, fault: Fault) -> None:
    late.publish()
    assert late.look() == []
    late.stand_in.faults.append(fault)
    assert late.look(hours_later=26.1) == []
    assert health_of(late.alerts, late.instance, late.slack).late == 1
    assert late.look(seconds_later=30) == []
    late.publish_now()
    texts = [text for _ in range(5) for text in late.look(seconds_later=60)]
    assert ["late" in texts[0], "In time again" in texts[1], len(texts)] == [True, True, 2]
    assert health_of(late.alerts, late.instance, late.slack).is_well


def test_process_that_is_killed_after_slack_took_a_message_posts_no_second_one(
    late: Lateness, monkeypatch: pytest.MonkeyPatch
) -> None:
    late.stand_in.has_history = True
    late.publish()
    assert late.look() == []

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(delivery, "after", killed)
        with pytest.raises(KeyboardInterrupt):
            late.look(hours_later=26.1)
    assert len(late.stand_in.messages) == 1
    assert late.look(seconds_later=30) == []
    assert late.look(seconds_later=120) == []
    assert not list(read_ledger(late.instance, "").waiting)
    assert len(late.stand_in.messages) == 1


def test_missing_token_goes_to_the_log_once_and_is_delivered_when_it_is_set(
    late: Lateness, caplog: pytest.LogCaptureFixture
) -> None:
    late.token = None
    late.publish()
    assert late.look() == []
    assert [late.look(hours_later=26.1), late.look(seconds_later=60)] == [[], []]
    assert sum("SLACK_TOKEN not set" in record.message for record in caplog.records) == 1
    late.token = AlertHarness.token
    (text,) = late.look(seconds_later=60)
    assert "analytics.mau is late" in text


def test_table_without_a_rule_any_more_ends_its_lateness(late: Lateness) -> None:
    late.names = ("mau", "dau")
    late.publish()
    assert late.look() == []
    assert len(late.look(hours_later=26.1)) == 1
    late.names = ("mau",)
    late.publish_now("mau")
    (text,) = late.look(seconds_later=60)
    assert "In time again: analytics.mau." in text
    assert "Without `fresh_within` by now: analytics.dau." in text


def test_stamp_after_this_moment_is_late_since_its_age_is_not_known(late: Lateness) -> None:
    late.publish()
    late.now += HOUR
    late.publish_now()
    late.now -= 2 * HOUR
    assert late.look() == []
    (text,) = late.look(seconds_later=GRACE.total_seconds())
    assert "the clocks of two machines differ" in text


def test_daemon_that_was_away_is_the_cause(late: Lateness) -> None:
    late.publish()
    assert late.look() == []
    beat(late)
    late.now += 26.1 * HOUR
    beat(late)
    (text,) = late.look()
    assert "no daemon worked from" in text


def test_well_beside_the_schedule_means_that_no_run_was_asked(late: Lateness) -> None:
    late.publish()
    assert late.look() == []
    look_all_the_time(late, hours=26.1)
    (text,) = late.look()
    assert "no run was asked to build it since, though the schedule" in text


STATE = {
    "__class__": "InstigatorState",
    "job_specific_data": {
        "__class__": "ScheduleInstigatorData",
        "cron_schedule": "0 0 * * *",
        "last_iteration_timestamp": None,
        "start_timestamp": 1.0,
    },
    "job_type": {"__enum__": "InstigatorType.SCHEDULE"},
    "origin": {
        "__class__": "ExternalJobOrigin",
        "external_repository_origin": {
            "__class__": "ExternalRepositoryOrigin",
            "repository_location_origin": {
                "__class__": "ManagedGrpcPythonEnvRepositoryLocationOrigin",
                "loadable_target_origin": {"__class__": "LoadableTargetOrigin", "module_name": "here"},
                "location_name": "here",
            },
            "repository_name": "__repository__",
        },
        "job_name": "daily",
    },
}
TICK = {
    "__class__": "TickData",
    "job_name": "daily",
    "job_type": {"__enum__": "InstigatorType.SCHEDULE"},
    "status": {"__enum__": "TickStatus.FAILURE"},
    "error": {"__class__": "SerializableErrorInfo", "cls_name": "ValueError", "message": "secret", "stack": []},
}


def keep_schedule(late: Lateness, status: str) -> Any:
    """Keep a schedule as Dagster does when a person has switched it on or off in the UI."""
    state = {**STATE, "status": {"__enum__": f"InstigatorStatus.{status}"}}
    kept: Any = dg.deserialize_value(json.dumps(state))
    late.instance.add_instigator_state(kept)
    return kept


@pytest.fixture
def scheduled(tmp_path: Path) -> Iterator[Lateness]:
    """The same on an instance that keeps what becomes of schedules."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, slack_stand_in() as stand_in:
        yield Lateness(instance, stand_in)


def test_schedule_that_is_switched_off_is_the_cause(scheduled: Lateness) -> None:
    late = scheduled
    late.publish()
    assert late.look() == []
    keep_schedule(late, "STOPPED")
    look_all_the_time(late, hours=26.1)
    (text,) = late.look()
    assert "the schedule `daily` is switched off" in text
    assert "Switch the schedule on under Automation" in text


def test_failed_last_tick_is_the_cause_and_its_text_stays_secret(scheduled: Lateness) -> None:
    late = scheduled
    late.publish()
    assert late.look() == []
    state = keep_schedule(late, "RUNNING")
    origin = {"job_origin_id": state.instigator_origin_id, "selector_id": state.selector_id}
    tick: Any = dg.deserialize_value(json.dumps({**TICK, **origin, "timestamp": late.now}))
    late.instance.create_tick(tick)
    look_all_the_time(late, hours=26.1)
    (text,) = late.look()
    assert "the last tick of the schedule `daily` failed (ValueError)" in text
    assert "secret" not in text


def look_all_the_time(late: Lateness, *, hours: float) -> None:
    """Let hours pass in which the daemon worked: the last look is 30 s ago."""
    late.now += hours * HOUR
    late.cursor = json.dumps({"at": late.now - 30})
    beat(late)


def test_address_is_called_while_all_is_well_and_not_while_something_waits_or_is_late(late: Lateness) -> None:
    late.publish()
    for kind in ("SCHEDULER", "SENSOR"):
        beat(late, kind)
    assert list(problems(late.alerts, late.instance, late.slack)) == []
    run_id = late.fail()
    late.now += 20
    (waits,) = problems(late.alerts, late.instance, late.slack)
    assert waits.startswith("1 failed run waits for its alert")
    late.first_attempt(run_id)
    assert list(problems(late.alerts, late.instance, late.slack)) == []
    late.look()
    look_all_the_time(late, hours=27)
    found = list(problems(late.alerts, late.instance, late.slack))
    assert found == ["no heartbeat of the daemon SENSOR for 300 s", "late: analytics.mau"]
    late.token = None
    assert "SLACK_TOKEN not set" in next(iter(problems(late.alerts, late.instance, late.slack)))


@pytest.mark.parametrize(("status", "refused"), [(200, ""), (204, ""), (404, "HTTP 404"), (500, "HTTP 500")])
def test_answer_of_the_address_is_judged_and_its_path_stays_secret(status: int, refused: str) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(HeartbeatError, match=refused) if refused else nullcontext() as raised:
            call_address(f"http://127.0.0.1:{server.server_port}/ping/Qx7Zjane")
    assert asked == ["/ping/Qx7Zjane"]
    assert raised is None or "Qx7Zjane" not in str(raised.value)


def test_address_without_an_answer_is_named_by_its_host() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    with pytest.raises(HeartbeatError, match=r"at 127\.0\.0\.1 requires an answer of the class 2xx, got URLError"):
        call_address(f"http://127.0.0.1:{port}/ping")


def beat(late: Lateness, kind: str = "SCHEDULER") -> None:
    """Write a heartbeat of the scheduler; the class has no public name, its stored form has."""
    stored = {
        "__class__": "DaemonHeartbeat",
        "daemon_id": "test",
        "daemon_type": kind,
        "errors": [],
        "timestamp": late.now,
    }
    late.instance.add_daemon_heartbeat(dg.deserialize_value(json.dumps(stored)))  # type: ignore[arg-type]
