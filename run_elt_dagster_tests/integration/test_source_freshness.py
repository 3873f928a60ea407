"""Sources that are too old: a check that holds the build back, and one that only warns."""

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.local_server import LocalServer, mau

READS = "select id from raw_data.orders"


def with_old_orders(project: DagsterProject) -> None:
    """Make a source that was changed at least two seconds ago, by the clock of the server."""
    project.sql("create table raw_data.orders as select 1 as id")
    until = time.monotonic() + 30
    age = "select date_part(epoch_second, current_timestamp()) - date_part(epoch_second, last_altered) from information_schema.tables"
    while project.sql(f"{age} where table_name = 'ORDERS'")[0][0] < 2:
        assert time.monotonic() < until
        time.sleep(0.2)


def test_source_that_is_too_old_holds_the_build_back_and_one_in_time_does_not(project: DagsterProject) -> None:
    with_old_orders(project)
    old, young = "0.0005", "24"
    project.declare(
        held=f"/* elt\nchecks: {{source_freshness: {{raw_data.orders: {old}}}}}\nelt */ {READS}",
        warned=f"/* elt\nchecks: {{source_freshness: {{raw_data.orders: {{max_age_hours: {old}, severity: warn}}}}}}\nelt */ {READS}",
        built=f"/* elt\nchecks: {{source_freshness: {{raw_data.orders: {young}}}}}\nelt */ {READS}",
        parts="/* elt\nchecks: {source_freshness: {raw_data.orders: 24}}\npartitions: {by: day, column: day, start: 2026-11-01}\nelt */ "
        "select id, '2026-11-01'::date as day from raw_data.orders",
        held_parts=f"/* elt\nchecks: {{source_freshness: {{raw_data.orders: {old}}}}}\npartitions: {{by: day, column: day, start: 2026-11-01}}\nelt */ "
        "select id, '2026-11-01'::date as day from raw_data.orders",
    )
    result = project.materialize("held", "warned", "built")
    listed = project.sql("select table_name from information_schema.tables where table_schema = 'ANALYTICS'")
    assert sorted(listed) == [("BUILT",), ("WARNED",)]
    logged = project.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations: list[Any] = [each.dagster_event.event_specific_data for each in logged if each.dagster_event]
    checks = {each.asset_key.path[-1]: each for each in evaluations if each.check_name != "row_count"}
    assert {name: (each.passed, each.check_name) for name, each in checks.items()} == {
        "held": (False, "source_freshness_raw_data_orders"),
        "warned": (False, "source_freshness_raw_data_orders"),
        "built": (True, "source_freshness_raw_data_orders"),
    }
    assert checks["warned"].severity is dg.AssetCheckSeverity.WARN
    said = "\n".join(str(entry) for entry in project.instance.all_logs(result.run_id))
    assert "analytics.held was not built: check source_freshness_raw_data_orders found 0.00" in said
    assert "hours since raw_data.orders was changed, expected at most 0.0005" in said
    assert project.materialize("parts", partitions="2026-11-01").success
    result = project.materialize("held_parts", partitions="2026-11-01...2026-11-02")
    assert not result.success
    events: list[Any] = [
        each.dagster_event.event_specific_data
        for each in project.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if each.dagster_event
    ]
    assert [(each.check_name, each.partition, each.passed) for each in events] == [
        ("source_freshness_raw_data_orders", day, False) for day in ("2026-11-01", "2026-11-02")
    ]


def test_it_takes_one_statement_for_all_sources_and_none_where_it_is_not_declared(local_server: LocalServer) -> None:
    local_server.reader.sql("create table raw_data.orders as select 1 as id")
    local_server.reader.sql("create table raw_data.items as select 1 as id")

    def stages(run_id: str, more: str) -> Counter[str]:
        local_server.server.history.clear()
        assert local_server.run(
            run_id, mau(3, 1, more=f"upstream: [raw_data.orders, raw_data.items]\n{more}")
        ).published
        tags = (json.loads(record.query_tag or "{}") for record in local_server.server.history)
        return Counter(tag["stage"] for tag in tags if "stage" in tag)

    held = "checks: {source_freshness: {raw_data.orders: 24, raw_data.items: 24}}"
    # The first run creates the table, and sends other statements.
    stages("0000000A", "")
    without = stages("0000000C", "")
    assert stages("0000000D", held) == without + Counter(audit=1)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raw_data.order", "requires a table that the SQL or upstream names, got raw_data.order"),
        ("analytics.built", "requires a table that something else loads, got analytics.built"),
        ("orders", "requires schema.table or database.schema.table, got orders"),
    ],
)
def test_source_that_is_none_is_an_error_with_its_line(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "analytics").mkdir()
    (tmp_path / "analytics" / "built.sql").write_text(READS)
    text = f"/* elt\nchecks:\n  source_freshness: {{{source}: 24}}\nelt */ select id from analytics.built join raw_data.orders using (id)"
    (tmp_path / "analytics" / "a.sql").write_text(text)
    with pytest.raises(TableProblemsError, match=re.escape(says)) as raised:
        load_tables(tmp_path)
    assert [problem.line for problem in raised.value.problems] == [3]
