"""Which tables run together, and when: one job of all tables, and one more for each other definition of partitions.

Dagster 1.13.27 runs whole tables and partitioned ones in one run, but no two definitions of partitions: a job with both keeps the
whole code location from loading.
"""

import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Partitioning
from run_elt_dagster.orchestration.specs import asset_key

JOB_NAME, SCHEDULE_NAME = "RunELT_Alert", "daily"
_CRONS: Mapping[str, str] = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}
_WORDS: Mapping[str, str] = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}
DAILY = "@daily"

Definition = tuple[str, str, str]
"""What makes two tables have the same partitions: unit, start, end."""


@dataclass(frozen=True)
class TableJob:
    """A job of tables.

    Attributes:
        name: Of the job.
        schedule: Name of its schedule.
        cron: When it runs, in UTC.
        whole: The tables that it builds whole, and the broken files.
        partitions: The tables that it builds in parts, all with the same partitions, and what they declare.
        is_main: Whether it is the job of all tables.
        prefix: What stands before the keys of their assets.
    """

    name: str
    schedule: str
    cron: str
    whole: tuple[Key, ...]
    partitions: Mapping[Key, Partitioning]
    is_main: bool = False
    prefix: Key = ()

    def assets_of(self, keys: Iterable[Key]) -> list[dg.AssetKey]:
        """Return the assets of some of its tables."""
        return [dg.AssetKey(asset_key((*self.prefix, *key))) for key in keys]

    def due_before(self, moment: datetime) -> datetime:
        """Return the last time before a moment when it runs, or that moment; aware, UTC."""
        due = moment.replace(minute=0, second=0, microsecond=0)
        unit = "day" if self.is_main else next(iter(self.partitions.values())).by
        if unit == "hour":
            return due
        due = due.replace(hour=0)
        if unit == "month":
            return due.replace(day=1)
        return due - timedelta(days=due.weekday()) if unit == "week" else due

    def definition(self) -> "dg.UnresolvedAssetJobDefinition":
        """Return the job as Dagster has it."""
        words = _WORDS[next(iter(self.partitions.values())).by] if not self.is_main else ""
        return dg.define_asset_job(
            self.name,
            selection=dg.AssetSelection.assets(*self.assets_of((*self.whole, *self.partitions))),
            # A subprocess for the one step would only cost a second start-up, whatever executor the code location has.
            executor_def=dg.in_process_executor,
            description="Builds, audits and publishes every analytics table."
            if self.is_main
            else f"Builds, audits and publishes {words} partitions of {', '.join(map('.'.join, self.partitions))}.",
            tags={"ELT": ""},
        )


@dataclass(frozen=True)
class Timetable:
    """What the jobs of a folder are called, and when the job of all tables runs.

    Attributes:
        job: Name of the job of all tables; the other ones begin with it.
        schedule: Name of its schedule.
        before_schedules: What the names of the other schedules begin with.
        cron: When it runs, in UTC.
    """

    job: str = JOB_NAME
    schedule: str = SCHEDULE_NAME
    before_schedules: str = ""
    cron: str = DAILY


def jobs_of(tables: Catalogue, timetable: Timetable | None = None, *, prefix: Key = ()) -> list[TableJob]:
    """Return the job of all tables, and then one for each definition of partitions that is not in it.

    The first has all whole tables, and those partitioned by day that most tables have: it runs once a day.

    Args:
        tables: The declared tables.
        timetable: The names, and when the first one runs.
        prefix: What stands before the keys of their assets.
    """
    timetable = timetable or Timetable()
    by_definition: dict[Definition, dict[Key, Partitioning]] = {}
    for key, table in tables.items():
        if table.partitions is not None:
            by_definition.setdefault(_definition_of(table.partitions), {})[key] = table.partitions
    main = _main(by_definition)
    whole = tuple(key for key, table in tables.items() if table.partitions is None)
    first = TableJob(
        timetable.job,
        timetable.schedule,
        timetable.cron,
        (*whole, *tables.broken),
        by_definition.get(main, {}) if main else {},
        is_main=True,
        prefix=prefix,
    )
    others = [(definition, of) for definition, of in sorted(by_definition.items()) if definition != main]
    return [first, *(_job(definition, of, timetable, prefix) for definition, of in others)]


def waking(tables: Catalogue, jobs: Collection[TableJob]) -> dict[Key, frozenset[Key]]:
    """Return the tables that are built again when another job has built what they read, with the tables that wake each.

    A table that is built in parts is woken by partitions alone: a whole table says nothing of which of its partitions changed.
    """
    if len(jobs) == 1:
        return {}
    job_of = {key: job.name for job in jobs for key in (*job.whole, *job.partitions)}
    woken: dict[Key, frozenset[Key]] = {}
    for key in graphlib.TopologicalSorter({key: tables.parents(key) for key in tables}).static_order():
        table = tables[key]
        wakers = frozenset(
            parent
            for parent in tables.parents(key)
            if (tables[parent].partitions is not None or table.partitions is None)
            and ((tables[parent].partitions is not None and job_of[parent] != job_of[key]) or parent in woken)
        )
        if wakers:
            woken[key] = wakers
    return woken


def condition_of(wakers: Iterable[Key], *, in_parts: bool = False) -> dg.AutomationCondition[dg.AssetKey]:
    """Return the condition that a table is built when one of the tables that wake it was.

    `eager()` looks at the newest partition alone, and lets a whole table wait for ever while any partition was never built.

    Args:
        wakers: The keys of the assets of the tables that wake it.
        in_parts: Whether it is built in parts. One part waits for all parts that it reads: half of its hours make no day.
    """
    condition = dg.AutomationCondition.eager()
    if in_parts:
        condition = condition.without(dg.AutomationCondition.in_latest_time_window())
    else:
        condition = condition.without(~dg.AutomationCondition.any_deps_missing())
    return condition.allow(dg.AssetSelection.assets(*(dg.AssetKey(asset_key(key)) for key in wakers)))


def waking_sensors(
    woken: Collection[Key], *, name: str = "other_partitions", is_running: bool = True
) -> Iterator[dg.AutomationConditionSensorDefinition]:
    """Yield the sensor that builds tables again when another job has built what they read; none without such tables.

    Args:
        woken: The keys of their assets.
        name: Of the sensor.
        is_running: Whether it runs until a person switches it in the UI.
    """
    if woken:
        yield dg.AutomationConditionSensorDefinition(
            name,
            target=dg.AssetSelection.assets(*(dg.AssetKey(asset_key(key)) for key in woken)),
            default_status=dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED,
            minimum_interval_seconds=30,
            description="Builds tables again when another job has published partitions that they read.",
        )


def _definition_of(partitions: Partitioning) -> Definition:
    end = "" if partitions.end is None else partitions.end.isoformat()
    return partitions.by, partitions.start.isoformat(), end


def _main(by_definition: Mapping[Definition, Collection[Key]]) -> Definition | None:
    daily = [definition for definition in sorted(by_definition) if definition[0] == "day"]
    return max(daily, key=lambda definition: len(by_definition[definition]), default=None)


def _job(definition: Definition, tables: Mapping[Key, Partitioning], timetable: Timetable, prefix: Key) -> TableJob:
    one = next(iter(tables.values()))
    written = "%Y%m%d%H" if one.by == "hour" else "%Y%m%d"
    end = "" if one.end is None else f"_{one.end.strftime(written)}"
    suffix = f"{one.start.strftime(written)}{end}"
    return TableJob(
        f"{timetable.job}_{one.by}_{suffix}",
        f"{timetable.before_schedules}{_WORDS[one.by]}_{suffix}",
        _CRONS[definition[0]],
        (),
        tables,
        prefix=prefix,
    )
