"""What `build_defs` makes of folders of SQL files, before anything runs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import run_elt_dagster as elt
from run_elt_dagster.library import FolderError, SqlFolder, build_defs, build_parts
from run_elt_dagster.settings import AlertSettings, Settings, note_secrets, secret_values
from run_elt_dagster.snowflake.resource import Snowflake

EMBEDDED = Snowflake(sample_data=False)
DAILY = "/* elt\npartitions: {by: day, column: day, start: 2024-01-01}\nelt */\nselect day from analytics.orders"


@pytest.fixture(autouse=True)
def _settings_without_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def declare(folder: Path, **tables: str) -> Path:
    for name, sql in tables.items():
        path = folder / "analytics" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql, encoding="utf-8")
    return folder


def parents_in(defs: dg.Definitions) -> dict[str, list[str]]:
    graph = defs.resolve_asset_graph()
    return {
        key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.get_all_asset_keys()
    }


def names_in(defs: dg.Definitions) -> dict[str, set[str]]:
    repository = defs.get_repository_def()
    return {
        "jobs": {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
    }


def test_public_names_are_imported_when_they_are_asked_for() -> None:
    """Dagster, the first of what each of them needs, takes a second."""
    code = "import sys, run_elt_dagster; print('dagster' in sys.modules, 'pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "False"]
    assert elt.build_defs is build_defs
    missing = [name for name in elt.__all__ if name != "defs" and not callable(getattr(elt, name))]
    assert missing == []
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        elt.no_such_name  # noqa: B018


def test_one_folder_has_the_names_of_the_shipped_code_location(tmp_path: Path) -> None:
    defs = build_defs(declare(tmp_path, orders="select 1 as n"), snowflake=EMBEDDED)
    assert names_in(defs) == {
        "jobs": {"RunELT_Alert", "observe_sources"},
        "schedules": {"daily"},
        "sensors": {"slack_alert", "slack_alert_retries", "slack_alert_backfills", "lost_runs"},
    }
    assert set(parents_in(defs)) == {"analytics/orders", "alerts/slack"}


def test_folders_have_names_of_their_own_read_each_other_and_alert_once(tmp_path: Path) -> None:
    sales = declare(tmp_path / "sales", orders="select * from raw_data.orders", daily=DAILY)
    finance = declare(tmp_path / "finance", costs="select * from analytics.orders, raw_data.costs")
    loads_costs = dg.asset(key=["ingest", "costs"])(lambda: None)
    defs = dg.Definitions.merge(
        build_defs(
            SqlFolder(sales, name="sales", key_prefix="sales", group="all", sources=True),
            SqlFolder(
                finance,
                name="finance",
                key_prefix=["corp", "finance"],
                cron=None,
                asset_keys={"raw_data.costs": "ingest/costs"},
            ),
            snowflake=EMBEDDED,
        ),
        dg.Definitions(assets=[loads_costs]),
    )
    assert parents_in(defs) == {
        "sales/analytics/orders": ["raw_data/orders"],
        "sales/analytics/daily": ["sales/analytics/orders"],
        "corp/finance/analytics/costs": ["ingest/costs", "sales/analytics/orders"],
        "raw_data/orders": [],
        "ingest/costs": [],
        "alerts/slack": [],
    }
    found = names_in(defs)
    assert found["jobs"] == {"sales_tables", "sales_observe_sources", "finance_tables", "finance_observe_sources"}
    assert found["schedules"] == {"sales_schedule"}
    groups = {spec.key.to_user_string(): spec.group_name for spec in defs.resolve_all_asset_specs()}
    assert (groups["sales/analytics/orders"], groups["corp/finance/analytics/costs"]) == ("all", "analytics")


def test_expired_environments_are_dropped_for_each_resource_where_settings_ask_for_it(tmp_path: Path) -> None:
    one, two = declare(tmp_path / "one", orders="select 1 as n"), declare(tmp_path / "two", costs="select 1 as n")
    parts = build_parts(
        SqlFolder(one, name="one"),
        SqlFolder(two, name="two", snowflake="finance"),
        snowflake={"snowflake": EMBEDDED, "finance": Snowflake(account="a", database="prod")},
        settings=Settings(drop_expired_environments=True, cache_dir=None),
    )
    status = {each.name: each.default_status.value for each in parts.environments}
    assert status == {"drop_expired_environments": "RUNNING", "finance_drop_expired_environments": "STOPPED"}
    assert status.keys() < names_in(parts.definitions())["schedules"]


def test_rebuild_names_the_op_of_its_folder(tmp_path: Path) -> None:
    defs = build_defs(SqlFolder(declare(tmp_path, orders="select 1 as n"), name="sales"), snowflake=EMBEDDED)
    config = {"config": {"rebuild": ["analytics.orders"]}}
    job = defs.resolve_job_def("sales_tables")
    assert dg.validate_run_config(job, {"ops": {"sales_run_ctas": config}})
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"ops": {"run_ctas": config}})


def test_parts_are_alone_too(tmp_path: Path) -> None:
    parts = build_parts(SqlFolder(declare(tmp_path, orders="select 1 as n"), name="sales"), snowflake=EMBEDDED)
    assert [job.name for job in parts.folders["sales"].jobs] == ["sales_tables", "sales_observe_sources"]
    assert [sensor.name for sensor in parts.alerts.sensors][-1] == "lost_runs"
    assert set(parts.alerts.resources) == {"snowflake", "slack"}


@pytest.mark.parametrize(
    ("named", "keys", "problem"),
    [
        (("", ""), ("snowflake", "snowflake"), "two folders of a code location require two names, got ''"),
        (("a", "b"), ("snowflake", "snowflake"), "a table requires one file, got analytics.orders in"),
        (("a", "b"), ("snowflake", "other"), "requires a resource with the key other, got snowflake"),
    ],
    ids=["names", "tables", "resource"],
)
def test_folders_that_cannot_be_together_are_refused(
    tmp_path: Path, named: tuple[str, str], keys: tuple[str, str], problem: str
) -> None:
    folders = [
        SqlFolder(declare(tmp_path / name, orders="select 1 as n"), name=given, snowflake=key)
        for name, given, key in zip(("one", "two"), named, keys, strict=True)
    ]
    with pytest.raises(FolderError, match=problem):
        build_defs(*folders, snowflake=EMBEDDED)


def test_asset_key_of_a_table_that_nothing_reads_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = declare(tmp_path, orders="select * from raw_data.orders")
    given = SqlFolder(folder, asset_keys={"raw_data.orders": "a", "raw_data.ordres": "b"})
    build_defs(given, snowflake=EMBEDDED)
    problem = "asset_keys requires a name that the SQL of a table reads, got raw_data.ordres. Its asset is on no table's graph."
    assert [line for line in capsys.readouterr().err.splitlines() if problem in line]
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(FolderError, match=r"got raw_data\.ordres"):
        build_defs(given, snowflake=EMBEDDED)


def test_folders_of_two_accounts_may_declare_the_same_table(tmp_path: Path) -> None:
    folders = [
        SqlFolder(declare(tmp_path / name, orders="select 1 as n"), name=name, key_prefix=name, snowflake=name)
        for name in ("one", "two")
    ]
    defs = build_defs(*folders, snowflake={"one": EMBEDDED, "two": Snowflake(embedded_dir="elsewhere")})
    assert {"one/analytics/orders", "two/analytics/orders"} <= set(parents_in(defs))
    assert {"one", "two", "slack"} == set(defs.resources or {})


def test_account_starts_schedules_and_sensors_in_a_named_deployment_alone(tmp_path: Path) -> None:
    account: Any = {"account": "myorg-account", "database": "PROD", "user": "svc"}
    folder = declare(tmp_path, orders="select 1 as n")
    for deployment, status in (
        ("", dg.DefaultScheduleStatus.STOPPED),
        ("production", dg.DefaultScheduleStatus.RUNNING),
    ):
        settings = Settings(deployment=deployment, alerts=AlertSettings(channel="C0"))
        parts = build_parts(folder, snowflake=Snowflake(**account), settings=settings)
        assert [schedule.default_status for schedule in parts.folders[""].schedules] == [status]
    (spec,) = [s for s in parts.definitions().resolve_all_asset_specs() if s.key.path[0] == "analytics"]
    assert spec.metadata["dagster/table_name"] == "PROD.ANALYTICS.ORDERS"
    assert parts.alerts.resources["slack"].channel == "C0"


def test_another_class_of_resource_is_refused(tmp_path: Path) -> None:
    folder = declare(tmp_path, orders="select 1 as n")
    with pytest.raises(
        TypeError, match=r"requires run_elt_dagster.Snowflake or dagster_snowflake.SnowflakeResource, got str"
    ):
        build_defs(folder, snowflake={"snowflake": "key"})


def test_secret_of_a_resource_is_taken_out_of_texts_as_that_of_a_variable() -> None:
    note_secrets("correct-horse-battery", None, 7)
    assert "correct-horse-battery" in secret_values()
    assert "correct-horse-battery" not in secret_values({})
