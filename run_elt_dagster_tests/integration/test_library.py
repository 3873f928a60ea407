"""Folders of a project of another team, built with prefixes: what is recorded, and whose runs alert."""

from typing import Any

import dagster as dg

from run_elt_dagster.alerts.failed_runs import is_ours
from run_elt_dagster.library import SqlFolder, alerts_of, build_parts, load_folders, place_of
from run_elt_dagster.runs.partitions import PARTITION
from run_elt_dagster.settings import Settings
from run_elt_dagster_tests.support.dagster_project import DagsterProject

DAY = "2024-01-02"
DAILY = "/* elt\npartitions: {by: day, column: day, start: 2024-01-01}\nelt */\nselect date '2024-01-02' as day"
READS = "/* elt\nowner: team:finance\nelt */\nselect n / 0 as n from analytics.good"


def test_tables_with_a_prefix_are_recorded_and_alert_by_the_keys_of_their_assets(project: DagsterProject) -> None:
    folders = [SqlFolder(project.directory / name, name=name, key_prefix=name) for name in ("sales", "finance")]
    for path, sql in {
        "sales/analytics/good.sql": "select 1 as n",
        "sales/analytics/daily.sql": DAILY,
        "finance/books/wrong.sql": READS,
        "finance/books/broken.sql": "/* elt\nownr: x\nelt */\nselect 1 as n",
    }.items():
        (project.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (project.directory / path).write_text(sql, encoding="utf-8")
    settings, given = Settings(cache_dir=None), {"snowflake": project.resource}
    defs = dg.Definitions.merge(
        build_parts(*folders, snowflake=given, settings=settings).definitions(),
        dg.Definitions(jobs=[dg.define_asset_job("everything", dg.AssetSelection.groups("analytics", "books"))]),
    )
    result = defs.resolve_job_def("everything").execute_in_process(
        instance=project.instance, raise_on_error=False, tags={PARTITION: DAY}
    )
    events = project.instance.all_logs(result.run_id)
    built = [event.asset_materialization for event in events if event.asset_materialization is not None]
    assert {(each.asset_key.to_user_string(), each.partition) for each in built if each.partition} == {
        ("sales/analytics/daily", DAY)
    }
    assert {each.asset_key.to_user_string() for each in built} == {"sales/analytics/daily", "sales/analytics/good"}
    checks = [event.asset_check_evaluation for event in events if event.asset_check_evaluation is not None]
    assert {check.asset_key.to_user_string() for check in checks} == {"sales/analytics/daily", "sales/analytics/good"}

    facts = {fact["table"]: fact for fact in facts_of(result)}
    assert facts.keys() == {"finance.books.wrong", "finance.books.broken"}
    alerts = [
        alerts_of(loaded, settings, place_of(loaded))
        for loaded in (load_folders([f], given, settings) for f in folders)
    ]
    run = project.instance.get_runs()[0]
    assert [is_ours(each, project.instance, run) for each in alerts] == [True, True]
    assert alerts[1].owners == {"finance.books.wrong": ["team:finance"], "finance.books.broken": []}
    together = load_folders(folders, given, settings)
    names = ["sales.analytics.good", "finance.books.wrong"]
    seen = alerts_of(together, settings, place_of(together)).look(names, dg.get_dagster_logger(), result.run_id)
    assert seen is not None
    assert (seen["sales.analytics.good"] is not None, seen["finance.books.wrong"]) == (True, None)


def facts_of(result: dg.ExecuteInProcessResult) -> list[dict[str, Any]]:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    facts: Any = failure.metadata["facts"].value
    return facts
