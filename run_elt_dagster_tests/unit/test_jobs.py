"""Which tables run together, and which are built again when others were."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.partitions import Partitioning
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.jobs import condition_of, jobs_of, waking, waking_sensors
from run_elt_dagster.orchestration.partitions import definition_of
from run_elt_dagster.orchestration.schedule import schedule_of
from run_elt_dagster.runs.partitions import latest_materializations
from run_elt_dagster.settings import PublishOptions

DAILY = {"by": "day", "column": "day", "start": "2024-01-01"}
HOURLY = {**DAILY, "by": "hour"}


def a_table(name: str, *reads: str, partitions: Mapping[str, Any] | None = None) -> AnalyticsTable:
    sql = f"select * from {' cross join '.join(f'analytics.{each}' for each in reads) or 'raw_data.source'}"
    declared = {} if partitions is None else {"partitions": {**partitions, "start": _start(partitions["start"])}}
    return AnalyticsTable.model_validate({"schema": "analytics", "table": name, "sql": sql, **declared})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _start(text: str) -> date:
    return date.fromisoformat(text)


def tables() -> Catalogue:
    return catalogue(
        [
            a_table("source"),
            a_table("hours", "source", partitions=HOURLY),
            a_table("days", "source", partitions=DAILY),
            a_table("other_days", partitions=DAILY),
            a_table("late_days", partitions={**DAILY, "start": "2025-01-01"}),
            a_table("days_of_hours", "hours", partitions=DAILY),
            a_table("total_of_days", "days"),
            a_table("total_of_hours", "hours", "days"),
            a_table("total_of_total", "total_of_hours"),
        ]
    )


def names(keys: Any) -> list[str]:
    return sorted(key[-1] for key in keys)


def test_main_job_has_whole_tables_and_the_days_that_most_tables_have() -> None:
    main, *others = jobs_of(tables())
    assert names(main.whole) == ["source", "total_of_days", "total_of_hours", "total_of_total"]
    assert names(main.partitions) == ["days", "days_of_hours", "other_days"]
    assert [(job.name, job.schedule, job.cron, names(job.partitions)) for job in others] == [
        ("RunELT_Alert_day_20250101", "daily_20250101", "0 0 * * *", ["late_days"]),
        ("RunELT_Alert_hour_2024010100", "hourly_2024010100", "0 * * * *", ["hours"]),
    ]


def test_tables_without_partitions_have_one_job() -> None:
    (main,) = jobs_of(catalogue([a_table("source"), a_table("total", "source")]))
    assert (main.name, names(main.whole), main.partitions) == ("RunELT_Alert", ["source", "total"], {})
    assert waking(catalogue([a_table("source")]), [main]) == {}


@pytest.mark.parametrize(
    ("by", "due"),
    [("hour", "2024-05-15 07:00"), ("day", "2024-05-15"), ("week", "2024-05-13"), ("month", "2024-05-01")],
)
def test_job_was_due_when_its_partition_ended(by: str, due: str) -> None:
    start = "2024-01-01"
    job = jobs_of(catalogue([a_table("a", partitions={**DAILY, "by": by, "start": start})]))[-1]
    assert job.due_before(at("2024-05-15 07:30")) == at(due)


def test_tables_that_read_another_job_s_partitions_are_woken_by_them() -> None:
    """A whole table that changed wakes no partitions: each of them would be built again."""
    found = waking(tables(), jobs_of(tables()))
    assert {key[-1]: names(wakers) for key, wakers in found.items()} == {
        "days_of_hours": ["hours"],
        "total_of_hours": ["hours"],
        "total_of_total": ["total_of_hours"],
    }


def test_code_location_with_several_partitions_definitions_loads() -> None:
    """Dagster refuses a whole code location with a job of two of them."""
    declared = tables()
    jobs = jobs_of(declared)
    woken = waking(declared, jobs)
    assets = analytics_assets(declared, PublishOptions(), woken=woken)
    definitions = dg.Definitions(
        assets=[assets],
        jobs=[job.definition() for job in jobs],
        schedules=[schedule_of(job) for job in jobs],
        sensors=list(waking_sensors(woken)),
        resources={"snowflake": dg.ResourceDefinition.none_resource()},
    )
    dg.Definitions.validate_loadable(definitions)
    main = definitions.resolve_job_def("RunELT_Alert")
    assert main.partitions_def == dg.DailyPartitionsDefinition("2024-01-01")
    assert isinstance(condition_of(woken["analytics", "total_of_hours"]), dg.AutomationCondition)


@pytest.mark.parametrize(
    ("by", "start"),
    [("hour", "2024-10-26T23:00"), ("day", "2024-02-27"), ("week", "2024-01-01"), ("month", "2023-11-01")],
)
def test_keys_and_bounds_are_those_of_dagster(by: str, start: str) -> None:
    end = "2024-12-02" if by == "week" else "2024-12-01"
    partitioning = Partitioning.model_validate({"by": by, "column": "at", "start": at(start), "end": at(end)})
    theirs = definition_of(partitioning)
    for now in (at(start), at("2024-10-27T03:30"), at("2024-11-25"), at("2024-12-01"), at("2025-03-01")):
        assert [each.key for each in partitioning.partitions(now)] == theirs.get_partition_keys(current_time=now)
    for each in partitioning.partitions(at("2025-03-01"))[:50]:
        window = theirs.time_window_for_partition_key(each.key)
        assert (window.start, window.end) == (each.start, each.end)


# Dagster passes it itself.
@pytest.mark.filterwarnings("ignore:Parameter `include_sources` of function `AssetSelection.all` is currently in beta")
def test_whole_table_is_woken_at_once_and_a_day_by_all_of_its_hours() -> None:
    declared = tables()
    assets = analytics_assets(declared, PublishOptions(), woken=waking(declared, jobs_of(declared)))
    definitions = dg.Definitions(assets=[assets], resources={"snowflake": dg.ResourceDefinition.none_resource()})
    instance, cursor = dg.DagsterInstance.ephemeral(), None

    def requested(*hours: int) -> dict[str, set[str | None]]:
        """Return what is built after these hours of a day were."""
        nonlocal cursor
        for hour in hours:
            event = dg.AssetMaterialization(["analytics", "hours"], partition=f"2024-01-02-{hour:02d}:00")
            instance.report_runless_asset_event(event)
        found = dg.evaluate_automation_conditions(
            definitions, instance, cursor=cursor, evaluation_time=at("2024-01-03T06:00")
        )
        cursor = found.cursor
        names = ("days_of_hours", "total_of_hours", "total_of_total")
        return {
            name: parts
            for name in names
            if (parts := set(found.get_requested_partitions(dg.AssetKey(["analytics", name]))))
        }

    assert requested() == {}
    assert requested(0) == {"total_of_hours": {None}, "total_of_total": {None}}
    assert requested(*range(1, 24)) == {"days_of_hours": {"2024-01-02"}}


def test_latest_materialization_of_each_partition_is_found_among_many_and_behind_many_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("run_elt_dagster.runs.partitions._PER_QUERY", 4)
    monkeypatch.setattr("run_elt_dagster.runs.partitions._MORE_READ", 3)
    instance, key = dg.DagsterInstance.ephemeral(), dg.AssetKey(["analytics", "days"])
    partitions = [
        each.key for each in Partitioning(by="day", column="at", start=at("2024-01-01")).partitions(at("2024-01-12"))
    ]
    for partition in (partitions[0], partitions[-1], *[partitions[1]] * 9):
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))
    found = latest_materializations(instance, key, partitions)
    newest = instance.fetch_materializations(key, limit=1).records[0].storage_id
    assert (len(partitions), sorted(found)) == (11, [partitions[0], partitions[1], partitions[-1]])
    assert found[partitions[1]].storage_id == newest
