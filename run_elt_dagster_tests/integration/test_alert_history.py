"""Alerting beside a long history: a tick reads a bounded part of it, and no failed run is left out."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts import failed_runs
from run_elt_dagster.alerts.failed_runs import undelivered
from run_elt_dagster.alerts.health import health_of
from run_elt_dagster.alerts.reconciliation import reconcile
from run_elt_dagster.alerts.scope import Sweep
from run_elt_dagster_tests.support.alert_harness import LOG, AlertHarness
from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.past_runs import add_past_runs
from run_elt_dagster_tests.support.postgres import Database, postgres_server
from run_elt_dagster_tests.support.slack_stand_in import slack_stand_in

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
# A tick of a sensor has 60 s, and the machine may be a slow one.
TICK_SECONDS = 30


@pytest.fixture(scope="module")
def new_database() -> Iterator[Callable[[], Database]]:
    """Give a database that is empty each time; the server is started with the first of them."""
    with ExitStack() as opened:
        server = cache(lambda: opened.enter_context(postgres_server()))
        numbers = itertools.count()
        yield lambda: server().create_database(f"history_{next(numbers)}")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.thorough)])
def harness(
    tmp_path: Path, request: pytest.FixtureRequest, new_database: Callable[[], Database]
) -> Iterator[AlertHarness]:
    storage = {"storage": {"postgres": {"postgres_url": new_database().url}}} if request.param == "postgres" else {}
    with (
        slack_stand_in() as stand_in,
        dg.DagsterInstance.local_temp(str(lay_empty_history(tmp_path)), storage) as instance,
    ):
        yield AlertHarness(instance, stand_in)


class Reads:
    """Counts the runs that are read of the storage."""

    def __init__(self, harness: AlertHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        read: Any = harness.instance.get_run_records

        def counted(*arguments: Any, **options: Any) -> Any:
            records = read(*arguments, **options)
            self.runs += len(records)
            return records

        monkeypatch.setattr(harness.instance, "get_run_records", counted)


def tick(harness: AlertHarness, sweep: Sweep) -> None:
    """Do what the sensor does at a tick."""
    found = undelivered(harness.alerts, harness.instance, sweep)
    reconcile(harness.alerts, harness.instance, harness.slack, found, log=LOG)
    health_of(harness.alerts, harness.instance, harness.slack, found)


def told_runs(harness: AlertHarness, count: int, *, youngest: timedelta, oldest: timedelta) -> str:
    """Record runs whose alerts were delivered, all of one incident, and return its first."""
    first = harness.fail()
    harness.first_attempt(first)
    repeat = replace(harness.ledger(first), first=first, fingerprint="", state="")
    add_past_runs(
        harness.instance,
        harness.record(first).dagster_run,
        count=count,
        youngest=youngest,
        oldest=oldest,
        tags_of=repeat.tags,
    )
    harness.now = time.time()
    return first


def untold_run(harness: AlertHarness, *, age: timedelta) -> str:
    """Record a failed run that no sensor has seen."""
    failed = harness.record(harness.fail()).dagster_run
    harness.instance.delete_run(failed.run_id)
    tags: Mapping[str, str] = {}
    (run_id,) = add_past_runs(
        harness.instance, failed, count=1, youngest=age - MINUTE, oldest=age, tags_of=lambda _: tags
    )
    return run_id


def test_tick_reads_a_bounded_part_of_many_failures_and_every_one_in_its_turn(
    harness: AlertHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = effort(usual=failed_runs.PAGE, thorough=failed_runs.MOST_SWEPT)
    monkeypatch.setattr(failed_runs, "MOST_SWEPT", swept)
    early = untold_run(harness, age=2 * DAY - timedelta(hours=1))
    count = effort(usual=700, thorough=100_000)
    told_runs(harness, count, youngest=timedelta(hours=2), oldest=2 * DAY - timedelta(hours=2))
    late = untold_run(harness, age=timedelta(minutes=30))
    sweep, reads = Sweep(), Reads(harness, monkeypatch)
    told: list[list[str]] = []
    seconds: list[float] = []
    for _ in range(count // swept + 2):
        reads.runs, began = 0, time.monotonic()
        tick(harness, sweep)
        told.append([run for run in harness.stand_in.run_ids() if run in (early, late)])
        assert reads.runs < 2 * swept
        seconds.append(time.monotonic() - began)
        assert seconds[-1] < TICK_SECONDS
    assert told[0] == [late]
    assert told[-1] == [late, early]
    assert harness.ledger(early).status == "delivered"
    # As `pytest -s` shows it.
    print(f"{count:,} runs: a tick took {median(seconds):.2f} s, the longest {max(seconds):.2f} s")  # noqa: T201


@pytest.mark.thorough
def test_sweep_begins_anew_when_the_run_where_it_ended_is_deleted(
    harness: AlertHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_runs, "PAGE", 2)
    monkeypatch.setattr(failed_runs, "MOST_SWEPT", 2)
    early = untold_run(harness, age=DAY)
    told_runs(harness, 4, youngest=timedelta(hours=2), oldest=DAY - timedelta(hours=1))
    sweep = Sweep()
    tick(harness, sweep)
    assert sweep.cursor is not None
    harness.instance.delete_run(sweep.cursor)
    for _ in range(4):
        tick(harness, sweep)
    assert harness.ledger(early).status == "delivered"


def test_repeats_of_an_incident_are_counted_by_the_storage_when_they_are_many(
    harness: AlertHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = effort(usual=600, thorough=20_000)
    told_runs(harness, count, youngest=DAY, oldest=2 * DAY)
    again, reads = harness.fail(), Reads(harness, monkeypatch)
    harness.first_attempt(again)
    assert harness.ledger(again).status == "delivered"
    assert f"{count + 2:,}" in harness.stand_in.messages[0]["text"]
    assert reads.runs < failed_runs.PAGE
