"""What Dagster keeps of a table for its page, and what that costs."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.late_tables import late_in_words
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.model.freshness import in_words
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.names import short_id
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.code_versions import source_versions
from run_elt_dagster.orchestration.jobs import jobs_of
from run_elt_dagster.orchestration.lateness import watched_tables
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.sources import observe_sources_job
from run_elt_dagster.orchestration.specs import source_assets
from run_elt_dagster.settings import AlertSettings, PublishOptions
from run_elt_dagster_tests.support.dagster_project import DagsterProject
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
    # An instance of its own: in Dagster 1.13.27 the tests before may have left the storage of one that is gone as the current one.
    with running_server(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        assets = analytics_assets(tables, PublishOptions(creates_schemas=True), links=links)
        run = dg.materialize([assets], resources={"snowflake": simulated_account(server)}, instance=instance)
        tags = [json.loads(record.query_tag or "{}") for record in server.history]
    (event,) = run.get_asset_materialization_events()
    metadata: Any = event.materialization.metadata
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
    evaluations: Any = {each.check_name: each for each in run.get_asset_check_evaluations()}
    for link in (metadata["audit_query_id"], evaluations["primary_key"].metadata["query_id"]):
        assert isinstance(link, dg.UrlMetadataValue)
        assert re.fullmatch(re.escape(QUERIES) + "[0-9a-f-]{36}/detail", link.value)
    # The answer came with the scan's: there is no query to show.
    assert "query_id" not in evaluations["columns"].metadata


def test_definition_has_descriptions_of_columns_its_place_in_snowflake_and_in_git(folder: Path) -> None:
    tables = load_tables(folder)
    links = Links("PROD", folder, "https://git.example.com/{path}#L{line}")
    (spec,) = analytics_assets(tables, PublishOptions(), links=links).specs
    metadata: Any = spec.metadata
    declared = metadata["dagster/column_schema"].columns
    assert [(each.name, each.type, each.description, dict(each.tags)) for each in declared] == [
        ("order_id", "int", "Unique.", {"pii": "no"}),
        ('"Kind"', "varchar", None, {}),
        ("paid", "any", "In euros.", {}),
    ]
    assert (metadata["dagster/table_name"], metadata["dagster/storage_kind"]) == (
        "PROD.ANALYTICS.ORDERS",
        "snowflake",
    )
    (reference,) = metadata["dagster/code_references"].code_references
    assert (reference.url, reference.label) == (
        "https://git.example.com/analytics/orders.sql#L10",
        "orders.sql",
    )
    assert spec.description is not None
    description, lineage, sql = spec.description.split("\n\n", 2)
    assert description == "One row per order."
    assert lineage.endswith("`run-elt lineage analytics.orders`.")
    assert sql.startswith("```sql\nselect 1 as order_id")
    (without,) = analytics_assets(tables, PublishOptions()).specs
    metadata = without.metadata
    (reference,) = metadata["dagster/code_references"].code_references
    assert reference.file_path == str(folder / "analytics" / "orders.sql")
    assert "dagster/table_name" not in metadata


SOURCES = """
create schema if not exists raw_data;
create schema billing;
create table raw_data.users (id int not null, name varchar(20));
insert into raw_data.users values (1, 'a'), (2, 'b');
create view billing.bills as select id from raw_data.users;
"""


def test_sources_are_observed_with_one_statement_a_schema_and_only_where_that_is_asked_for(tmp_path: Path) -> None:
    table = "select u.id from raw_data.users u join billing.bills using (id)"
    (tmp_path / "tables" / "analytics").mkdir(parents=True)
    (tmp_path / "tables" / "analytics" / "a.sql").write_text(table, encoding="utf-8")
    (tmp_path / "tables" / "analytics" / "b.sql").write_text("select 1 as n from raw_data.gone", encoding="utf-8")
    (tmp_path / "tables" / "analytics" / "c.sql").write_text("select * from raw_data.users", encoding="utf-8")
    tables = load_tables(tmp_path / "tables")
    with running_server(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        account = Account(server)
        with account.resources:
            session = account.session()
            for statement in filter(str.strip, SOURCES.split(";")):
                session.sql(statement)
        resources = {"snowflake": simulated_account(server)}

        def observed() -> int:
            """Return how many statements have asked for sources."""
            return sum("observe sources" in (record.query_tag or "") for record in server.history)

        run = observe_sources_job(tables).execute_in_process(resources=resources, instance=instance)
        assert observed() == 2
        for observes, statements, origins in ((False, 2, None), (True, 4, ["id", "name"])):
            options = PublishOptions(creates_schemas=True, observe_sources=observes)
            again = dg.materialize(
                [analytics_assets(tables, options), *source_assets(tables)],
                selection=["analytics/a", "analytics/c"],
                resources=resources,
                instance=instance,
            )
            assert again.success
            assert observed() == statements
            # A star passes on the columns that the run itself has observed, and none that may be of yesterday.
            built: Any = {
                event.materialization.asset_key.path[-1]: event.materialization.metadata
                for event in again.get_asset_materialization_events()
            }
            known = built["c"].get("dagster/column_lineage")
            assert (known and list(known.value.deps_by_column)) == origins
        lines = [entry.user_message for entry in instance.all_logs(run.run_id) if entry.level == 30]
    assert lines == ["RUN_ELT.RAW_DATA.GONE was not observed: it does not exist, or the role may not see it."]
    events = [event for event in run.all_events if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION]
    seen: Any = {event.asset_key: event.asset_observation_data.asset_observation.metadata for event in events}
    users, bills = seen[dg.AssetKey(["raw_data", "users"])], seen[dg.AssetKey(["billing", "bills"])]
    assert (users["dagster/row_count"].value, users["kind"].value) == (2, "table")
    assert abs(users["dagster/last_updated_timestamp"].value - time.time()) < 3600
    assert columns(users["dagster/column_schema"].value) == {
        "id": ("NUMBER(38,0)", False, False, []),
        "name": ("VARCHAR(20)", True, False, []),
    }
    assert ("dagster/row_count" in bills, bills["kind"].value) == (False, "view")
    assert bills["dagster/table_name"].value == "RUN_ELT.BILLING.BILLS"


def test_rule_of_age_is_dagsters_policy_and_the_doctor_names_what_is_late(project: DagsterProject) -> None:
    """Dagster calls a table unknown, and never late, that was never built."""
    daily = "/* elt\nfresh_within: {fail: 26h, warn: 25h}\nelt */ "
    project.declare(
        a=f"{daily}select 1 as n",
        b=f"{daily}select n from raw_data.nowhere",
        untried=f"{daily}select 1 as n",
        at_six="/* elt\nfresh_within: {by: 0 6 * * *, max_age: 6h}\nelt */ select 1 as n",
        any_age="select 1 as n",
    )
    assert [in_words(timedelta(minutes=each)) for each in (3, 90, 1440, 2880)] == ["3 min", "90 min", "24 h", "2 days"]
    assert not project.materialize("a", "b", "any_age").success
    tables, now = load_tables(project.directory / "tables"), datetime.now(UTC)
    watched = [each for each in watched_tables(tables, jobs_of(tables)) if not each.name.endswith("at_six")]
    alerts = Alerts(AlertSettings(), {}, (), watched=tuple(watched))
    assert late_in_words(alerts, project.instance, now=now + timedelta(hours=25)) == []
    late = late_in_words(alerts, project.instance, now=now + timedelta(hours=27))
    run_id = short_id(project.instance.get_runs()[0].run_id)
    assert [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "T", each) for each in late] == [
        "analytics.a (rows of T UTC, at most 26 h old; no daemon has evaluated the schedule `daily` on this history)",
        f"analytics.b (never published, at most 26 h old; run {run_id}, failed at T UTC, did not publish it)",
    ]
    policies = {spec.key.path[-1]: spec.freshness_policy for spec in analytics_assets(tables, PublishOptions()).specs}
    window = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25))
    by_six = dg.FreshnessPolicy.cron("0 6 * * *", timedelta(hours=6))
    assert policies == {"a": window, "b": window, "untried": window, "at_six": by_six, "any_age": None}


def test_version_of_a_source_is_that_of_its_materialization_or_else_of_its_observation() -> None:
    keys = [dg.AssetKey(["raw_data", name]) for name in ("built", "observed", "watched", "unknown")]
    built, observed, watched, _ = keys
    with dg.DagsterInstance.ephemeral() as instance:
        for event in (
            dg.AssetMaterialization(built, tags={"dagster/data_version": "7"}),
            dg.AssetObservation(built, tags={"dagster/data_version": "8"}),
            dg.AssetObservation(observed, tags={"dagster/data_version": "9"}),
            # As this project observes: without a version.
            dg.AssetObservation(watched),
        ):
            instance.report_runless_asset_event(event)
        assert source_versions(instance, keys) == {built: "7", observed: "9"}
