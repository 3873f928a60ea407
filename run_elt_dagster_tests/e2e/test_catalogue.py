"""What the page says of tables: by the GraphQL of a real webserver, as the page asks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir, Webserver, free_port

# A source that another code location builds: as any asset of Dagster, it has a version of its own.
OTHERS = """
import dagster as dg

@dg.asset(key=["raw_data", "user_session_channel"])
def user_session_channel() -> None: ...

defs = dg.Definitions([user_session_channel])
"""
WORKSPACE = "load_from:\n- python_module: run_elt_dagster\n- python_file: others.py\n"
LOADED = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "run_elt_dagster") { __typename } }"""
STALE = "{ assetNodes { assetKey { path } staleStatus staleCauses { category reason } } }"
NODE = """{ assetNodes(assetKeys: [{path: ["analytics", "a"]}]) {
    metadataEntries { label
        ... on CodeReferencesMetadataEntry { codeReferences { ... on LocalFileCodeReference { filePath lineNumber } } }
        ... on TableSchemaMetadataEntry { schema { columns { name description } } }
        ... on TextMetadataEntry { text } }
    assetMaterializations(limit: 1) { metadataEntries { label
        ... on TableSchemaMetadataEntry { schema { columns { name type } } }
        ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } }
} }"""
A = """/* elt
columns:
  userid: {description: Who it was.}
  channel: varchar
elt */
select userid, channel from raw_data.user_session_channel
"""


@pytest.fixture
def tables(deployment_dir: DeploymentDir) -> Path:
    """A folder with the table a and its reader b, beside a code location that builds what a reads."""
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    (folder / "a.sql").write_text(A, encoding="utf-8")
    (folder / "b.sql").write_text("select channel from analytics.a", encoding="utf-8")
    (deployment_dir.directory / "others.py").write_text(OTHERS, encoding="utf-8")
    (deployment_dir.directory / "workspace.yaml").write_text(WORKSPACE, encoding="utf-8")
    return folder


def materialize(place: DeploymentDir, env: Mapping[str, str], *selection: str) -> None:
    run = place.run("dagster", "asset", "materialize", "--select", *selection, env=env)
    assert run.returncode == 0, run.stderr


def stale(webserver: Webserver) -> dict[str, Any]:
    """Return what the page marks as out of date, with the reasons."""
    return {
        node["assetKey"]["path"][-1]: [(cause["category"], cause["reason"]) for cause in node["staleCauses"]]
        for node in webserver.query(STALE)["assetNodes"]
        if node["staleStatus"] == "STALE"
    }


def entries(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry.pop("label"): entry for entry in found}


@pytest.mark.thorough
def test_page_shows_columns_and_file_and_marks_a_table_when_its_file_has_changed_and_only_then(
    deployment_dir: DeploymentDir, tables: Path
) -> None:
    port, env = free_port(), {"RUN_ELT_TABLES_DIR": str(tables.parent)}
    materialize(deployment_dir, env, "*", "-f", "others.py")
    materialize(deployment_dir, env, "group:analytics", "-m", "run_elt_dagster")
    # Started behind the first command: two processes at once would make the same files of the history.
    deployment_dir.start("dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml", env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", lambda: webserver_has_loaded(webserver))
    assert stale(webserver) == {}
    (node,) = webserver.query(NODE)["assetNodes"]
    defined, built = entries(node["metadataEntries"]), entries(node["assetMaterializations"][0]["metadataEntries"])
    assert defined["dagster/code_references"]["codeReferences"] == [
        {"filePath": str(tables / "a.sql"), "lineNumber": 6}
    ]
    assert defined["dagster/table_name"]["text"] == "RUN_ELT.ANALYTICS.A"
    assert defined["dagster/column_schema"]["schema"]["columns"][0] == {"name": "userid", "description": "Who it was."}
    assert [column["name"] for column in built["dagster/column_schema"]["schema"]["columns"]] == ["userid", "channel"]
    assert built["dagster/row_count"]["intValue"] > 0
    assert built["seconds"]["floatValue"] > 0
    # Neither does a table that was built again, as each day, put its readers out of date.
    materialize(deployment_dir, env, "analytics/a", "-m", "run_elt_dagster")
    assert stale(webserver) == {}

    (tables / "a.sql").write_text(A.replace("columns:", "owner: team:bi\ncolumns:"), encoding="utf-8")
    webserver.query(RELOAD)
    assert stale(webserver) == {"a": [("CODE", "has a new code version")]}
    materialize(deployment_dir, env, "analytics/a", "-m", "run_elt_dagster")
    assert stale(webserver) == {}


ORDERS = """/* elt
increment: {column: at, key: id}
elt */
select 1 as id, '2024-01-01'::timestamp_ntz as at"""


@pytest.mark.thorough
def test_page_marks_an_increment_as_out_of_date_until_the_table_is_rebuilt(
    deployment_dir: DeploymentDir, tables: Path
) -> None:
    """An increment alone leaves the rows that the old file has built."""
    port, env, orders = free_port(), {"RUN_ELT_TABLES_DIR": str(tables.parent)}, tables / "orders.sql"
    orders.write_text(ORDERS, encoding="utf-8")
    materialize(deployment_dir, env, "analytics/orders", "-m", "run_elt_dagster")
    orders.write_text(ORDERS.replace("select 1 as id", "select 2 as id"), encoding="utf-8")
    materialize(deployment_dir, env, "analytics/orders", "-m", "run_elt_dagster")
    deployment_dir.start("dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml", env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", lambda: webserver_has_loaded(webserver))
    assert stale(webserver) == {"orders": [("CODE", "has a new code version")]}
    asked = deployment_dir.run("run-elt", "rebuild", "analytics.orders", env=env)
    assert "rebuilding requires an answer, got no terminal. Nothing was built. Pass --yes." in asked.stderr
    rebuilt = deployment_dir.run("run-elt", "rebuild", "analytics.orders", "--yes", env=env)
    assert rebuilt.returncode == 0, rebuilt.stderr
    lines = [" ".join(line.split()) for line in rebuilt.stdout.splitlines()]
    assert "rows now 2" in lines
    assert "its file changed since then" in lines
    assert 'publish DELETE FROM "RUN_ELT"."ANALYTICS"."ORDERS"' in lines
    assert stale(webserver) == {}
    shown = deployment_dir.run("run-elt", "show", "--json", "analytics.orders", env=env)
    assert [row["id"] for row in json.loads(shown.stdout)["rows"]["analytics.orders"]] == ["2"]


def webserver_has_loaded(webserver: Webserver) -> bool:
    try:
        entries = webserver.query(LOADED)
    except OSError:
        return False
    # A location that failed to load counts as loaded, too.
    kinds = [entry["locationOrLoadError"] for entry in entries["workspaceOrError"]["locationEntries"]]
    assert {"__typename": "PythonError"} not in kinds
    return kinds == [{"__typename": "RepositoryLocation"}] * 2
