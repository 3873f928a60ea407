"""What Dagster keeps of a table for its page, and what that costs."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.embedded import Account, running_server, simulated_account

ORDERS = """/* elt
description: One row per order.
primary_key: order_id
columns:
  order_id: {type: int, description: Unique., tags: {pii: 'no'}}
  '"Kind"': varchar
  paid: {description: In euros.}
checks: {unique: [[Kind, paid]], not_null: paid}
elt */
select 1 as order_id, 'shop' as "Kind", 2.50::number(10, 2) as paid
"""
QUERIES = "https://app.snowflake.com/myorg/prod/#/compute/history/queries/"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tables" / "analytics").mkdir(parents=True)
    (tmp_path / "tables" / "analytics" / "orders.sql").write_text(
        ORDERS.replace("[[Kind", "[['\"Kind\"'"), encoding="utf-8"
    )
    return tmp_path / "tables"


def columns(schema: Any) -> dict[str, tuple[Any, ...]]:
    return {
        each.name: (each.type, each.constraints.nullable, each.constraints.unique, each.constraints.other)
        for each in schema.columns
    }


def test_materialization_has_columns_of_the_candidate_and_links_without_a_statement_more(
    tmp_path: Path, folder: Path
) -> None:
    tables = load_tables(folder)
    links = Links("RUN_ELT", folder, "https://git.example.com/{path}#L{line}", QUERIES)
    with running_server(tmp_path) as server, Account(server).resources:
        assets = analytics_assets(tables, PublishOptions(creates_schemas=True), links)
        run = dg.materialize([assets], resources={"snowflake": simulated_account(server)})
        tags = [json.loads(record.query_tag or "{}") for record in server.history]
    (event,) = run.get_asset_materialization_events()
    metadata = event.materialization.metadata
    schema = metadata["dagster/column_schema"].value
    assert columns(schema) == {
        "order_id": ("NUMBER(1,0)", True, True, ["checked: never NULL"]),
        '"Kind"': ("VARCHAR", True, False, []),
        "paid": ("NUMBER(10,2)", True, False, ["checked: never NULL"]),
    }
    assert schema.constraints.other == ['checked: unique ("Kind", paid)']
    stages = [tag["stage"] for tag in tags if tag.get("asset") == "analytics/orders"]
    # The CTAS and the comments of its columns, one scan, the clone, the drop of the candidate.
    assert stages == ["build", "build", "audit", "publish", "clean-up"]
    assert metadata["audit_query_id"] == dg.MetadataValue.url(
        f"{QUERIES}{metadata['audit_query_id'].value.removeprefix(QUERIES)}"
    )
    assert str(metadata["audit_query_id"].value).endswith("/detail")
    evaluations = {each.check_name: each for each in run.get_asset_check_evaluations()}
    assert str(evaluations["primary_key"].metadata["query_id"].value).startswith(QUERIES)


def test_definition_has_descriptions_of_columns_its_place_in_snowflake_and_in_git(folder: Path) -> None:
    tables = load_tables(folder)
    links = Links("PROD", folder, "https://git.example.com/{path}#L{line}")
    (spec,) = analytics_assets(tables, PublishOptions(), links).specs
    declared = spec.metadata["dagster/column_schema"].columns
    assert [(each.name, each.type, each.description, dict(each.tags)) for each in declared] == [
        ("order_id", "int", "Unique.", {"pii": "no"}),
        ('"Kind"', "varchar", None, {}),
        ("paid", "any", "In euros.", {}),
    ]
    assert (spec.metadata["dagster/table_name"], spec.metadata["dagster/storage_kind"]) == (
        "PROD.ANALYTICS.ORDERS",
        "snowflake",
    )
    (reference,) = spec.metadata["dagster/code_references"].code_references
    assert (reference.url, reference.label) == (
        f"https://git.example.com/analytics/orders.sql#L{tables['analytics', 'orders'].sql_line}",
        "orders.sql",
    )
    assert spec.description is not None
    assert spec.description.startswith("One row per order.\n\n```sql\nselect 1 as order_id")
    (local,) = analytics_assets(tables, PublishOptions()).specs
    assert local.metadata["dagster/code_references"].code_references[0].file_path == str(
        folder / "analytics" / "orders.sql"
    )
    assert "dagster/table_name" not in local.metadata
