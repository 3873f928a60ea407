"""The component in a project of Dagster, before anything runs. e2e/test_component.py has the commands of `dg`."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from run_elt_dagster.components import EMBEDDED, SqlTables, SqlTablesScaffolder
from run_elt_dagster.library import FolderError
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.snowflake.resource import Snowflake

# Dagster 1.13.27 warns of its own way to load components.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
]
TYPE = "run_elt_dagster.SqlTables"
TEAM = """
import dagster as dg

@dg.asset(key=["ingest", "orders"])
def loads_orders() -> None: ...

@dg.asset(deps=[["sales", "analytics", "orders"]])
def report() -> None: ...
"""
TEMPLATES = """
import dagster as dg
from run_elt_dagster import Snowflake

RESOURCE = Snowflake(account="myorg-account", database="prod", user="svc")

@dg.template_var
def resource_of_the_team() -> Snowflake:
    return RESOURCE
"""
ACCOUNT = {
    "account": "{{ env.THE_ACCOUNT }}",
    "user": "svc",
    "database": "prod",
    "port": "{{ env.THE_PORT }}",
    "private_key": "{{ env.THE_KEY }}",
}
ALERT_VARIABLES = {"THE_CHANNEL": "C0", "THE_HEARTBEAT": "https://heartbeat.example.com/ping/1"}
ALERTS = {
    "token": "{{ env.THE_KEY }}",
    "channel": "{{ env.THE_CHANNEL }}",
    "heartbeat_url": "{{ env.THE_HEARTBEAT }}",
}

Make = Callable[..., dg.Definitions]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return what loads a project with an asset of another team, and a component for each argument."""
    project = tmp_path / "team_project"
    (project / "defs").mkdir(parents=True)
    for folder in (project, project / "defs"):
        (folder / "__init__.py").write_text("", encoding="utf-8")
    (project / "defs" / "team.py").write_text(TEAM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {
        "THE_ACCOUNT": "myorg-account",
        "THE_PORT": "8443",
        "THE_KEY": "canary",
        **ALERT_VARIABLES,
    }.items():
        monkeypatch.setenv(name, value)

    def made(**components: Mapping[str, Any]) -> dg.Definitions:
        for name, attributes in components.items():
            table = project / "defs" / name / "sql" / "analytics" / f"{name.rpartition('/')[2]}.sql"
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text("select * from raw_data.orders cross join analytics.orders", encoding="utf-8")
            if table.stem == "orders":
                table.write_text("select * from raw_data.orders", encoding="utf-8")
            (table.parents[2] / "template_vars.py").write_text(TEMPLATES, encoding="utf-8")
            written = {
                "type": TYPE,
                "template_vars_module": ".template_vars",
                "attributes": {"folder": "sql", "snowflake": EMBEDDED, **attributes},
            }
            (project / "defs" / name / "defs.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
        tree = dg.ComponentTree.from_module(
            defs_module=importlib.import_module("team_project.defs"), project_root=tmp_path
        )
        # The whole of the folder would take 5 s: Dagster then imports every module that is registered for `dg`, and one is dagster-snowflake.
        team = dg.load_definitions_from_module(importlib.import_module("team_project.defs.team"))
        return dg.Definitions.merge(team, *(tree.build_defs_at_path(name) for name in components))

    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == "team_project"]:
        del sys.modules[name]


def test_tables_stand_between_assets_of_another_team_and_alert_once(load: Make) -> None:
    orders = {"key_prefix": "sales", "asset_keys": {"raw_data.orders": "ingest/orders"}}
    defs = load(orders=orders, costs={"name": "corp", "alerts": ALERTS})
    graph = defs.resolve_asset_graph()
    assert {
        key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.get_all_asset_keys()
    } == {
        "ingest/orders": [],
        "sales/analytics/orders": ["ingest/orders"],
        "report": ["sales/analytics/orders"],
        "analytics/costs": ["raw_data/orders", "sales/analytics/orders"],
        "raw_data/orders": [],
        "alerts/slack": [],
    }
    repository = defs.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} == {
        *("__ASSET_JOB", "orders_tables", "orders_observe_sources", "corp_tables", "corp_observe_sources")
    }
    assert len(repository.sensor_defs) == 5
    assert repository.has_sensor_def("all_is_well")
    slack = (defs.resources or {})["slack"]
    assert (slack.token.env_var_name, slack.channel) == ("THE_KEY", "C0")
    assert slack.named("Correct SLACK_TOKEN.") == "Correct alerts.token of defs.yaml."


def test_account_keeps_its_secrets_as_variables(load: Make) -> None:
    """The page of a resource shows its values, and each process that loads the code location would hold them."""
    given = load(orders={"snowflake": ACCOUNT, "settings": {"statement_timeout_seconds": 60}}).resources or {}
    snowflake = given["snowflake"]
    assert (snowflake.account, snowflake.port, snowflake.statement_timeout_seconds) == ("myorg-account", 8443, 60)
    assert isinstance(snowflake.private_key, dg.EnvVar)
    assert snowflake.resolved().private_key == "canary"


def test_resource_of_the_project_comes_through_a_template(load: Make) -> None:
    given = load(orders={"snowflake": "{{ resource_of_the_team }}", "key_prefix": "{{ 'sales' }}"})
    assert (given.resources or {})["snowflake"].account == "myorg-account"
    assert ["sales", "analytics", "orders"] in [key.path for key in given.resolve_all_asset_keys()]


@pytest.mark.parametrize(
    ("one", "two", "problem"),
    [
        (
            {"alerts": {"channel": "C1"}},
            {"alerts": {"channel": "C2"}},
            "alerts requires to be the same in all components",
        ),
        ({"snowflake": ACCOUNT}, {}, "a resource requires a key of its own, got snowflake for two"),
        ({"name": "same"}, {"name": "same"}, "two folders of a code location require two names, got 'same'"),
    ],
    ids=["alerts", "resource", "name"],
)
def test_components_that_cannot_be_together_are_refused(
    load: Make, one: Mapping[str, Any], two: Mapping[str, Any], problem: str
) -> None:
    with pytest.raises(Exception, match=r".") as refused:
        load(orders=one, costs=two)
    assert problem in str(cause_of(refused.value))
    assert isinstance(cause_of(refused.value), FolderError)


def test_components_of_two_accounts_have_two_keys(load: Make) -> None:
    defs = load(orders={"snowflake": ACCOUNT, "snowflake_key": "prod"}, costs={})
    assert set(defs.resources or {}) == {"prod", "snowflake", "slack"}


def test_wrong_resource_is_named_with_what_it_may_be(load: Make) -> None:
    with pytest.raises(Exception, match=r".") as refused:
        load(orders={"snowflake": "embeded"})
    text = "requires `embedded`, an account, or a template that returns a resource, got 'embeded'"
    assert text in str(cause_of(refused.value))


def test_component_alone_is_made_in_python_too(tmp_path: Path) -> None:
    table = tmp_path / "sql" / "analytics" / "n.sql"
    table.parent.mkdir(parents=True)
    table.write_text("select 1 as n", encoding="utf-8")
    component = SqlTables(folder=tmp_path / "sql", snowflake=Snowflake(), settings={"cache_dir": None})
    parts = component.sql_folder
    assert (parts.name, parts.directory) == ("sql", tmp_path / "sql")


def test_scaffolded_table_is_declared_with_everything_that_a_table_should_have(tmp_path: Path) -> None:
    request = dg.ScaffoldRequest(TYPE, tmp_path, "yaml", tmp_path, SqlTablesScaffolder.get_scaffold_params()())
    SqlTablesScaffolder().scaffold(request)
    written = yaml.safe_load((tmp_path / "defs.yaml").read_text(encoding="utf-8"))
    assert written == {"type": TYPE, "attributes": {"folder": "sql", "snowflake": EMBEDDED}}
    (table,) = load_tables(tmp_path / "sql").values()
    assert table.description
    assert table.primary_key == ("day",)
    kept = tmp_path / "sql" / "analytics" / "days.sql"
    kept.write_text("select 1", encoding="utf-8")
    SqlTablesScaffolder().scaffold(request)
    assert kept.read_text(encoding="utf-8") == "select 1"


def test_every_attribute_has_a_description() -> None:
    schema = SqlTables.get_model_cls().model_json_schema()
    parts = {"": schema, **schema["$defs"]}
    missing = [
        f"{part}.{name}"
        for part, each in parts.items()
        for name, field in each["properties"].items()
        if not field.get("description")
    ]
    assert missing == []


def cause_of(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
