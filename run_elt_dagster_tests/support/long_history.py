"""A deployment's history after years: many runs, their events, and a ledger with many alerts and incidents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster_tests.support.alert_harness import AlertHarness
from run_elt_dagster_tests.support.past_runs import PastRun, record_events, record_runs

_MODEL = "mau"
_ALIKE = 10


@dataclass(frozen=True)
class Size:
    """How long a history is.

    Attributes:
        runs: All runs; one in ten failed, and was alerted of.
        tables: The tables that they built, one each.
        open_incidents: How many tables are not published again since they failed.
        days: Over how many days the runs are spread.
    """

    runs: int
    tables: int = 200
    open_incidents: int = 50
    days: float = 30

    @property
    def names(self) -> list[str]:
        return [f"table_{number:04d}" for number in range(self.tables)]


def fill(harness: AlertHarness, size: Size) -> None:
    """Write the history. The harness then has its tables, and the clock of today."""
    harness.names = [_MODEL]
    failed, published = _models(harness)
    entry = harness.ledger(failed.run_id)
    runs = list(_runs(size, failed, published, entry))
    record_runs(harness.instance, runs)
    firsts = [run.run_id for like, run in runs if like is failed and _is_open(run)]
    for like in (failed, published):
        own = [run for each, run in runs if each is like]
        record_events(harness.instance, like, own, table=_MODEL, read=firsts)
        harness.instance.delete_run(like.run_id)
    harness.names = size.names
    harness.now = datetime.now(UTC).timestamp()


def _models(harness: AlertHarness) -> tuple[dg.DagsterRun, dg.DagsterRun]:
    """Return a failed run and one that published, as Dagster recorded them; the alert of the first was delivered."""
    failed = harness.fail()
    harness.first_attempt(failed)
    harness.publish()
    (published,) = harness.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    return harness.record(failed).dagster_run, published


def _runs(
    size: Size, failed: dg.DagsterRun, published: dg.DagsterRun, entry: LedgerEntry
) -> Iterator[tuple[dg.DagsterRun, PastRun]]:
    """Yield the runs, the oldest first: ten failures that are alike are one incident, and the last incidents are open."""
    now = datetime.now(UTC) - timedelta(minutes=10)
    incidents = size.runs // (10 * _ALIKE)
    first = ""
    for number in range(size.runs):
        at = now - timedelta(days=size.days) * (1 - number / size.runs)
        if number % 10:
            # What is broken now was published in the first half of the time alone.
            left = size.names if number < size.runs // 2 else size.names[size.open_incidents :]
            run = PastRun(at, table=left[(number - number // 10) % len(left)])
            yield published, replace(run, tags=_tags(published, run))
            continue
        incident, repeat = divmod(number // 10, _ALIKE)
        is_open = incident >= incidents - size.open_incidents
        table = size.names[incident - incidents + size.open_incidents if is_open else incident % size.tables]
        run = PastRun(at, table=table)
        first = run.run_id if not repeat else first
        yield failed, replace(run, tags=_told(failed, run, entry, first=first, is_open=is_open, incident=incident))


def _told(
    failed: dg.DagsterRun, run: PastRun, entry: LedgerEntry, *, first: str, is_open: bool, incident: int
) -> Mapping[str, str]:
    """Return the tags of a failure whose alert was delivered, the first of its incident or a repeat."""
    own = replace(entry, ts=f"{run.ended_at.timestamp():.6f}", last_failed_at=run.ended_at.timestamp())
    if run.run_id == first:
        own = replace(own, fingerprint=f"{incident:016x}", state="open" if is_open else "recovered")
    else:
        own = replace(own, first=first, fingerprint="", state="")
    return {**_tags(failed, run), **own.tags(run.run_id)}


def _tags(like: dg.DagsterRun, run: PastRun) -> Mapping[str, str]:
    return {name: value.replace(like.run_id, run.run_id) for name, value in like.tags.items()}


def _is_open(run: PastRun) -> bool:
    return run.tags.get(".dagster/run_elt/open", "") != ""
