"""The schedules of the jobs of tables. Partitions that were missed are caught up: Dagster runs a missed tick once."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Partition, Partitioning, Slice, contiguous
from run_elt_dagster.orchestration.jobs import DAILY, TableJob
from run_elt_dagster.runs.partitions import RANGE_END, RANGE_START

START = datetime(2025, 1, 10, tzinfo=UTC)
# A gap that is older is left to a backfill: a table whose history is on purpose in pieces is not built by surprise.
CAUGHT_UP = 100


@dataclass(frozen=True)
class Wanted:
    """Partitions that one run is asked for.

    Attributes:
        part: The partitions.
        tables: The tables that want them, in order.
        is_newest: Whether it is what has just ended; the whole tables of the job are built with it.
    """

    part: Slice
    tables: tuple[Key, ...]
    is_newest: bool = False


def wanted(
    tables: Mapping[Key, Partitioning], materialized: Mapping[Key, Collection[str]], *, now: datetime
) -> list[Wanted]:
    """Return what a tick asks for: what has just ended, with its lookback, and what was missed. The newest comes first.

    A partition was missed by a table if an older one was built and it was not, and it is among the last 100. A table without any built
    partition has missed none: its history is built by a backfill.

    Args:
        tables: The tables of a job, all with the same partitions.
        materialized: The keys of the partitions of each that were built.
        now: The moment of the tick, aware.
    """
    one = next(iter(tables.values()))
    due = one.due(now, max(each.lookback for each in tables.values()))
    known = one.last(now, CAUGHT_UP)
    missed = {key: _missed(known, materialized.get(key, ())) for key in tables}
    limits = [each.max_per_run for each in tables.values() if each.max_per_run is not None]
    limit = max(min(limits), len(due)) if limits else None
    found: list[Wanted] = []
    for piece in reversed(contiguous([*due, *(part for parts in missed.values() for part in parts)])):
        for part in _runs_of(piece, limit):
            is_newest = not found and bool(due)
            lacking = tuple(key for key in tables if set(missed[key]) & set(part.partitions))
            found.append(Wanted(part, tuple(tables) if is_newest else lacking, is_newest))
    return found


def _missed(known: Collection[Partition], materialized: Collection[str]) -> list[Partition]:
    # Keys sort as their times do.
    first = min(materialized, default=None)
    return [each for each in known if first is not None and each.key > first and each.key not in materialized]


def _runs_of(piece: Slice, limit: int | None) -> Iterator[Slice]:
    """Yield a piece in runs of so many partitions at most, the newest first."""
    left = piece.partitions
    while left:
        part = left[-limit:] if limit is not None else left
        yield Slice(part)
        left = left[: len(left) - len(part)]


def schedule_of(job: TableJob, *, is_running: bool = True) -> dg.ScheduleDefinition:
    """Return the schedule of a job: that of all tables daily at 00:00 UTC from 2025-01-10 on, others when a partition has ended.

    After a downtime the daemon runs the latest missed tick: https://docs.dagster.io/guides/automate/schedules. Whole tables
    are then built once. Partitions that were missed are asked for by that tick.

    Args:
        job: The job that it launches.
        is_running: Whether it runs until a person switches it in the UI. Dagster then keeps that.
    """

    @dg.schedule(
        name=job.schedule,
        job_name=job.name,
        cron_schedule=job.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
        description=_description(job),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | list[dg.RunRequest] | dg.SkipReason:
        at = context.scheduled_execution_time
        if job.is_main and at < START:
            return dg.SkipReason(f"the schedule starts on {START:%Y-%m-%d}, and this tick is of {at:%Y-%m-%d}")
        if not job.partitions:
            return _of_all(at)
        return requests_of(job, context.instance, at=at) or dg.SkipReason(
            f"no partition is over and missing at {at:%Y-%m-%d %H:%M}"
        )

    return tick


def requests_of(job: TableJob, instance: dg.DagsterInstance, *, at: datetime) -> list[dg.RunRequest]:
    """Return the runs that a tick of a job with partitions asks for."""
    materialized = {
        key: instance.get_materialized_partitions(asset)
        for key, asset in zip(job.partitions, job.assets_of(job.partitions), strict=True)
    }
    asked = wanted(job.partitions, materialized, now=at)
    requests = [_request(job, each, at) for each in asked]
    if job.whole and not any(each.is_newest for each in asked):
        # Their partitions are over for good. Without a partition, the run must leave the partitioned tables out.
        requests.insert(0, dg.RunRequest(run_key=at.isoformat(), asset_selection=job.assets_of(job.whole)))
    return requests


def _of_all(at: datetime) -> dg.RunRequest:
    # The key is for one daemon that was killed between launching a run and noting it: it launches no second one. Two
    # daemons on one storage launch the same run twice all the same (Dagster 1.13.27).
    return dg.RunRequest(run_key=at.isoformat())


def _request(job: TableJob, asked: Wanted, at: datetime) -> dg.RunRequest:
    first, last = asked.part.keys[0], asked.part.keys[-1]
    tags = {RANGE_START: first, RANGE_END: last}
    if asked.is_newest:
        return dg.RunRequest(run_key=at.isoformat(), tags=tags)
    return dg.RunRequest(run_key=f"{at.isoformat()} {first}", tags=tags, asset_selection=job.assets_of(asked.tables))


def _description(job: TableJob) -> str:
    missed = f" Partitions that were missed, of the last {CAUGHT_UP}, are caught up." if job.partitions else ""
    if job.is_main and job.cron != DAILY:
        return f"By `{job.cron}` (UTC). After a downtime, one run makes up for all missed ticks.{missed}"
    if job.is_main:
        return f"Every day at 00:00 UTC, from 2025-01-10 on. After a downtime, one run makes up for all missed days.{missed}"
    return f"When a partition has ended (UTC).{missed}"
