"""Alerts that waited through an outage of Slack: how soon after its return they are told of, by a clock that the test moves."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import dagster as dg
import pytest

from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.reconciliation import AlertsBlockedError
from run_elt_dagster.alerts.sensors import INTERVAL_SECONDS
from run_elt_dagster_tests.support.alert_harness import LOG, AlertHarness
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases
from run_elt_dagster_tests.support.slack_stand_in import Fault, slack_stand_in

FIRST_SECONDS, LAST_SECONDS = 60, 120
OUTAGES = {
    "503": Fault(status=503, method=""),
    "503 to messages": Fault(status=503),
    "internal_error": Fault(error="internal_error", method=""),
    "429": Fault(status=429, error="ratelimited", retry_after_seconds=30),
    "invalid_auth": Fault(error="invalid_auth", method=""),
    "missing_scope": Fault(error="missing_scope"),
    "no answer": Fault(hang_seconds=PATIENCE_SECONDS, method=""),
}
KINDS = ("refused", *OUTAGES)
# For ten minutes an error to every request. A request without an answer takes a second of the test.
ALWAYS = [("503", 600)]


@pytest.fixture
def harness() -> Iterator[AlertHarness]:
    with slack_stand_in() as stand_in, dg.DagsterInstance.ephemeral() as instance:
        harness = AlertHarness(instance, stand_in)
        at_the_pace_of_slack(harness)
        yield harness


def at_the_pace_of_slack(harness: AlertHarness) -> None:
    harness.stand_in.burst, harness.stand_in.clock = 1, lambda: harness.now


def go_away(harness: AlertHarness, kind: str) -> None:
    if kind == "refused":
        with slack_stand_in() as gone:
            harness.stand_in = gone
        return
    harness.timeout_seconds = 1 if kind == "no answer" else PATIENCE_SECONDS
    harness.stand_in.faults = [OUTAGES[kind]]


def come_back(harness: AlertHarness, kind: str, stack: ExitStack) -> None:
    """Be there again, at the same address."""
    if kind == "refused":
        harness.stand_in = stack.enter_context(slack_stand_in(harness.stand_in.port))
        at_the_pace_of_slack(harness)
    harness.stand_in.faults.clear()
    harness.timeout_seconds = PATIENCE_SECONDS


def tick(harness: AlertHarness) -> float:
    """Let the sensor do one tick, and return when it ended; the clock is then where the next one begins."""
    began = harness.now
    with suppress(AlertsBlockedError):
        harness.tick()
    ended, harness.now = harness.now, max(harness.now, began + INTERVAL_SECONDS)
    return ended


def statuses(harness: AlertHarness, runs: Sequence[str]) -> dict[str, str]:
    records = harness.instance.get_run_records(dg.RunsFilter(run_ids=list(runs)))
    return {r.dagster_run.run_id: LedgerEntry.of(r.dagster_run).status for r in records}


def seconds_to_first_and_last(harness: AlertHarness, runs: Sequence[str], since: float) -> tuple[float, float]:
    first = None
    for _ in range(60):
        ended = tick(harness)
        found = statuses(harness, runs)
        if first is None and "delivered" in found.values():
            first = ended if len(harness.stand_in.messages) == 1 else min(ended, harness.now - INTERVAL_SECONDS)
        if set(found.values()) == {"delivered"}:
            assert first is not None
            return first - since, ended - since
    raise AssertionError(f"some are not told of: {statuses(harness, runs)}")


def assert_each_is_told_of_once(harness: AlertHarness, runs: Sequence[str]) -> None:
    entries = {run: harness.ledger(run) for run in runs}
    posted = [message["ts"] for message in harness.stand_in.messages]
    assert {entry.ts for entry in entries.values()} == set(posted)
    leaders = harness.stand_in.run_ids()
    assert len(leaders) == len(set(leaders))


def wait_through(harness: AlertHarness, kind: str, *, seconds: float, count: int) -> list[str]:
    """Let runs fail through an outage: two are tried at once, the others are held."""
    go_away(harness, kind)
    runs = harness.fail_apart(count - 1)
    harness.names = (*harness.names, "newest")
    runs.append(harness.fail_only("newest"))
    began = harness.now
    for run in runs[:2]:
        harness.first_attempt(run)
    harness.now += INTERVAL_SECONDS
    while harness.now < began + seconds:
        tick(harness)
    return runs


@pytest.mark.parametrize("count", [10, pytest.param(50, marks=pytest.mark.thorough)])
@pytest.mark.parametrize(
    ("kind", "seconds"),
    cases(itertools.product(KINDS, (60, 600, 7200)), usual=ALWAYS),
)
def test_what_waited_through_an_outage_is_told_of_within_60_and_120_seconds(
    harness: AlertHarness, kind: str, seconds: float, count: int
) -> None:
    with ExitStack() as stack:
        runs = wait_through(harness, kind, seconds=seconds, count=count)
        # Just after a tick that still found it away.
        tick(harness)
        returned = harness.now - INTERVAL_SECONDS
        come_back(harness, kind, stack)
        first, last = seconds_to_first_and_last(harness, runs, returned)
        LOG.warning("%s, %s s, %s alerts: first after %.0f s, last after %.0f s", kind, seconds, count, first, last)
        assert first <= FIRST_SECONDS
        assert last <= LAST_SECONDS
        assert_each_is_told_of_once(harness, runs)


def test_after_an_outage_the_oldest_incident_comes_first_and_shows_its_newest_failure(harness: AlertHarness) -> None:
    go_away(harness, "503")
    harness.names = ("mau", "other")
    one, other = (harness.fail_only(name) for name in harness.names)
    harness.first_attempt(one)
    again = harness.fail_only("mau")
    harness.now += INTERVAL_SECONDS
    for _ in range(4):
        tick(harness)
    harness.stand_in.faults.clear()
    tick(harness)
    first, reply, another = harness.stand_in.messages
    assert harness.stand_in.run_ids() == [again, one, other]
    assert "analytics.mau was not published" in first["text"]
    assert reply["thread_ts"] == first["ts"]
    assert "analytics.other was not published" in another["text"]


def test_alert_that_fails_alone_holds_up_no_other_and_keeps_to_its_times(harness: AlertHarness) -> None:
    runs = harness.fail_apart(6)
    harness.stand_in.faults = [Fault(status=503, run_id=runs[0])]
    harness.first_attempt(runs[0])
    harness.now += INTERVAL_SECONDS
    for _ in range(2):
        tick(harness)
    assert statuses(harness, runs) == {**dict.fromkeys(runs, "delivered"), runs[0]: "retry"}
    for _ in range(40):
        tick(harness)
    # Its times: at once, once more with the others, after 60, 120 and 240 s, and then one a minute.
    posts = [body for body in harness.stand_in.calls("chat.postMessage") if runs[0] in str(body["metadata"])]
    assert len(posts) < 25
    harness.stand_in.faults.clear()
    for _ in range(2):
        tick(harness)
    assert_each_is_told_of_once(harness, runs)


def test_recovery_waits_for_the_end_of_an_outage(harness: AlertHarness) -> None:
    harness.first_attempt(harness.fail())
    harness.publish()
    harness.stand_in.faults = [Fault(status=503, method="")]
    for _ in range(10):
        tick(harness)
    harness.stand_in.faults.clear()
    tick(harness)
    assert "Published again: analytics.mau" in harness.stand_in.messages[-1]["text"]


def listed_runs(harness: AlertHarness) -> list[dict[str, object]]:
    return [message for message in harness.stand_in.messages if "more runs failed, of" in message["text"]]


@pytest.mark.thorough
@pytest.mark.parametrize("count", [70, 1000])
def test_many_runs_that_failed_apart_are_told_of_in_lists_within_five_minutes(
    harness: AlertHarness, count: int
) -> None:
    runs = harness.fail_apart(count - 1)
    harness.names = (*harness.names, "newest")
    runs.append(harness.fail_only("newest"))
    harness.now += INTERVAL_SECONDS
    began = ended = harness.now
    while set(statuses(harness, runs).values()) != {"delivered"}:
        ended = tick(harness)
        assert ended - began <= 300
    LOG.warning("%s apart: last after %.0f s, %s messages", count, ended - began, len(harness.stand_in.messages))
    assert len(harness.stand_in.messages) <= 20 + count // 10
    assert_each_is_told_of_once(harness, runs)
    # The newest has a message of its own, the first of all.
    assert "analytics.newest was not published" in harness.stand_in.messages[0]["text"]
    told = "".join(str(message["text"]) + str(message["blocks"]) for message in harness.stand_in.messages)
    assert all(run[:8] in told for run in runs)


def test_list_marks_repeats_of_open_incidents_and_begins_none(harness: AlertHarness) -> None:
    runs = harness.fail_apart(70)
    old = runs[35]
    harness.first_attempt(old)
    again = harness.copy(old)
    harness.now += 300
    while set(statuses(harness, [*runs, again]).values()) != {"delivered"}:
        tick(harness)
    entry = harness.ledger(again)
    if entry.ts in {message["ts"] for message in listed_runs(harness)}:
        assert entry.first == old
    late = harness.copy(runs[30])
    # A message a second: the last list may have taken this one's.
    harness.now += INTERVAL_SECONDS
    harness.first_attempt(late)
    assert harness.ledger(late).state == "open"
    assert not harness.stand_in.messages[-1].get("thread_ts")


@pytest.mark.thorough
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_lost_answer_about_a_list_tells_of_none_of_its_runs_twice(harness: AlertHarness, taken: bool) -> None:
    harness.stand_in.has_history = True
    runs = harness.fail_apart(90)
    harness.stand_in.burst = None
    lost = Fault(drop_answer=True, times=1, skip=5) if taken else Fault(status=503, times=1, skip=5)
    harness.stand_in.faults = [lost]
    harness.now += INTERVAL_SECONDS
    for _ in range(6):
        tick(harness)
    assert set(statuses(harness, runs).values()) == {"delivered"}
    assert_each_is_told_of_once(harness, runs)
    told = [str(message["text"]) + str(message["blocks"]) for message in harness.stand_in.messages]
    assert [sum(run[:8] in text for text in told) for run in runs] == [1] * len(runs)
    assert {harness.ledger(run).state for run in runs if "more runs" in told[-1] and run[:8] in told[-1]} <= {"closed"}
