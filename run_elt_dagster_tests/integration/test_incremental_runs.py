"""Runs of tables with increments on the embedded Snowflake: what Dagster records of them, and what makes a table out of date."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.orchestration.code_versions import code_version
from run_elt_dagster.orchestration.links import without_beta_warnings
from run_elt_dagster.orchestration.rebuild import plan_of
from run_elt_dagster.orchestration.specs import asset_spec
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text

ORDERS = dg.AssetKey(["analytics", "orders"])
HEAD = "/* elt\nincrement: {column: at, key: id}\nelt */\n"
FIRST, CHANGED = f"{HEAD}select id, at from raw_data.orders", f"{HEAD}select id, at from raw_data.orders where id > 0"


@pytest.fixture
def orders(project: DagsterProject) -> DagsterProject:
    project.sql(
        "create table raw_data.orders as select column1::int as id, column2::timestamp_ntz as at from values "
        "(1, '2024-01-01 10:00:00'), (2, '2024-01-01 11:00:00')"
    )
    project.declare(orders=FIRST)
    return project


def rebuilding(*names: str) -> dict[str, Any]:
    return {"ops": {"run_ctas": {"config": {"rebuild": list(names)}}}}


def built_code(project: DagsterProject) -> str | None:
    event = project.instance.get_latest_materialization_event(ORDERS)
    assert event is not None
    assert event.asset_materialization is not None
    return (event.asset_materialization.tags or {}).get("dagster/code_version")


def declared_code(project: DagsterProject) -> str:
    return code_version(load_table(project.directory / "tables", "analytics.orders"))


def test_increment_is_recorded_with_its_rows_and_where_it_begins(orders: DagsterProject) -> None:
    catalogue = load_tables(orders.directory / "tables")
    with without_beta_warnings():
        spec = asset_spec(catalogue, ("analytics", "orders"))
    assert spec.metadata["increment"] == "since the newest at, merged by id"
    first = orders.materialize()
    assert first.success
    whole = orders.materialized(first)["orders"]
    assert whole["dagster/row_count"] == 2
    assert "increment_start" not in whole
    orders.sql("insert into raw_data.orders values (3, '2024-01-01 12:00:00')")
    second = orders.materialize()
    merged = orders.materialized(second)["orders"]
    assert (merged["dagster/row_count"], merged["increment_rows"]) == (3, 2)
    assert merged["increment_start"] == "2024-01-01 11:00:00"
    assert merged["publish"] == "increment"
    assert orders.checks(second) == {"orders.row_count": True, "orders.increment": True}


def test_changed_file_is_out_of_date_until_the_table_is_rebuilt(orders: DagsterProject) -> None:
    """An increment of the new SQL leaves rows of the old one: its materialization names the code of these."""
    assert orders.materialize().success
    before = declared_code(orders)
    assert built_code(orders) == before
    orders.declare(orders=CHANGED)
    increment = orders.materialize()
    assert increment.success
    assert built_code(orders) == before != declared_code(orders)
    lines = [event.user_message for event in orders.instance.all_logs(increment.run_id)]
    assert any("its file has changed since the table was built whole" in line for line in lines)
    table = load_table(orders.directory / "tables", "analytics.orders")
    plan = plan_of(orders.instance, table, [], rows=2)
    assert plan.is_outdated is True
    assert plan.last_whole_at is not None
    assert abs((datetime.now(UTC) - plan.last_whole_at).total_seconds()) < 600
    assert plan.last_seconds is not None
    orders.sql("delete from raw_data.orders where id = 2")
    rebuilt = orders.materialize(config=rebuilding("analytics.orders"))
    assert rebuilt.success
    assert orders.sql("select id from analytics.orders") == [(1,)]
    assert built_code(orders) == declared_code(orders)
    assert plan_of(orders.instance, table, [], rows=1).is_outdated is False


@pytest.mark.thorough
def test_what_waits_for_an_increment_runs_and_does_not_take_the_mark_away(orders: DagsterProject) -> None:
    """Dagster starts what waits by a result, and states the present code in that."""

    @dg.asset(deps=[ORDERS])
    def reader() -> None: ...

    before = declared_code(orders)
    assert orders.materialize().success
    orders.declare(orders=CHANGED)
    result = orders.materialize(others=[reader])
    assert result.success
    assert "reader" in orders.materialized(result)
    assert built_code(orders) == before


def test_rebuild_of_another_table_is_refused_before_anything_is_built(orders: DagsterProject) -> None:
    orders.declare(whole="select 1 as n")
    result = orders.materialize(config=rebuilding("analytics.whole", "analytics.orders", "analytics.none"))
    assert not result.success
    assert (
        "The run cannot rebuild what it names: rebuild requires tables with increments that the run selects, got analytics.whole, "
        "analytics.none."
    ) in failure_text(result)
    assert orders.tables() == set()
