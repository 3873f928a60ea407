"""A broken file is an asset that no run builds; the others are built, but for those that read it."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.run_events import run_failure
from run_elt_dagster.alerts.runbook import entry_of
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.specs import BROKEN, owners_of
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text

RIGHT = "select {} as n"
WRONG = "/* elt\nownr: x\nowner: team:analytics\nelt */ select 2 as n"


def log_of(project: DagsterProject, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(entry.user_message for entry in project.instance.all_logs(result.run_id))


def rows(project: DagsterProject, table: str) -> list[tuple[Any, ...]]:
    return project.sql(f"select n from analytics.{table}")


def test_broken_file_fails_alone_and_nothing_is_built_from_its_stale_rows(project: DagsterProject) -> None:
    declared = {"good": RIGHT.format(1), "bad": RIGHT.format(1)}
    project.declare(**declared, child="select n from analytics.bad", grandchild="select n from analytics.child")
    assert project.materialize().success

    project.declare(good=RIGHT.format(2), bad=WRONG)
    result = project.materialize()
    assert not result.success
    assert set(project.materialized(result)) == {"good"}
    assert (rows(project, "good"), rows(project, "bad"), rows(project, "child")) == ([(2,)], [(1,)], [(1,)])
    assert "bad.sql:2: unknown key 'ownr'" in failure_text(result)
    log = log_of(project, result)
    for name in ("child", "grandchild"):
        assert f"analytics.{name} was skipped, because it reads tables whose files are broken: analytics.bad." in log

    events = list(project.instance.all_logs(result.run_id))
    failure = run_failure(result.dagster_run, events, failed_at=datetime.now(UTC))
    (failed,) = failure.tables
    assert (failed.name, failed.owners, failed.stage) == ("analytics.bad", ("team:analytics",), "build")
    # A phone shows the first forty characters of the alert: no folders before it.
    assert failed.cause == "bad.sql:2: unknown key 'ownr'. Did you mean 'owner'?"
    assert failed.where.endswith("bad.sql:2")
    assert entry_of(failed).anchor == "broken-file"
    assert set(failure.skipped) == {"analytics.child", "analytics.grandchild"}


def test_table_that_reads_a_broken_one_is_not_built_alone_either(project: DagsterProject) -> None:
    project.declare(bad=WRONG, child="select n from analytics.bad")
    result = project.materialize("child")
    assert not result.success
    assert "analytics.bad" in failure_text(result)
    assert project.tables() == set()


def test_broken_table_that_is_selected_alone_fails_without_a_session(project: DagsterProject) -> None:
    project.declare(good=RIGHT.format(1), bad=WRONG)
    result = project.materialize("bad")
    assert not result.success
    assert "bad.sql:2" in failure_text(result)
    assert "Connecting to" not in log_of(project, result)
    # The other tables are no business of it.
    assert project.materialize("good").success


def test_broken_file_is_an_asset_that_says_what_is_wrong_and_is_part_of_the_graph(project: DagsterProject) -> None:
    project.declare(
        good=RIGHT.format(1), bad="select n from analytics.good, missing", child="select n from analytics.bad"
    )
    tables = load_tables(project.directory / "tables", keeps_broken=True)
    assets = analytics_assets(tables, PublishOptions())
    spec = assets.get_asset_spec(dg.AssetKey(["analytics", "bad"]))
    # On the page, a line in a block of code would end at the margin.
    assert "\n- ` analytics/bad.sql:1 `: ` cannot tell which tables the SQL reads" in (spec.description or "")
    assert spec.metadata[BROKEN] == tables.broken["analytics", "bad"].text
    assert (BROKEN in spec.tags, "broken" in spec.kinds, spec.group_name) == (True, True, "analytics")
    # By their names the alerts tell whose run it is.
    assert set(owners_of(tables)) == {"analytics.good", "analytics.bad", "analytics.child"}
    assert assets.asset_deps[spec.key] == {dg.AssetKey(["analytics", "good"])}
    assert assets.asset_deps[dg.AssetKey(["analytics", "child"])] == {spec.key}


def test_tables_in_a_circle_fail_and_the_others_are_built(project: DagsterProject) -> None:
    project.declare(p="select n from analytics.q", q="select n from analytics.p", free=RIGHT.format(1))
    result = project.materialize()
    assert not result.success
    assert set(project.materialized(result)) == {"free"}
    # In the failure, and in the cause of each.
    assert failure_text(result).count("tables cannot depend on each other in a circle") == 4
