"""Queries of analysts with many joins, on tables of some ten thousand rows, against DuckDB's own result of the same query."""

import re
from pathlib import Path

import duckdb
import pytest
import sqlglot

from run_elt_dagster.embedded.server import EmbeddedServer
from run_elt_dagster_tests.support.deployment_dir import DeploymentDir
from run_elt_dagster_tests.support.embedded import Account, running_server
from run_elt_dagster_tests.support.tpc import (
    in_order,
    is_same,
    load_parquet,
    load_tpch,
    named,
    tpcds,
    tpch_queries,
    tpch_tables,
)

pytestmark = pytest.mark.thorough

MOST_DIFFERENT_ROWS = 3


@pytest.fixture
def deployment_dir(tmp_path: Path) -> DeploymentDir:
    directory = DeploymentDir(tmp_path / "deployment")
    directory.directory.mkdir()
    return directory


def for_duckdb(sql: str) -> str:
    """Return a query in DuckDB's words; NULLs come where DuckDB puts them, for no key of an order is one."""
    (text,) = sqlglot.transpile(sql, read="snowflake", write="duckdb")
    return re.sub(r" NULLS (FIRST|LAST)", "", text)


def test_tables_of_tpch_hold_what_duckdb_gives(deployment_dir: DeploymentDir) -> None:
    warehouse = deployment_dir.directory / "warehouse"
    warehouse.mkdir()
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    queries = tpch_queries()
    assert len(queries) == 22
    for name, sql in queries.items():
        (folder / f"{name}.sql").write_text(
            f"/* elt\nchecks:\n  row_count: {{min: 0}}\nelt */\n{named(sql, tpch_tables())}", encoding="utf-8"
        )
    with running_server(warehouse, EmbeddedServer) as server:
        load_tpch(server.engine.duck_conn, "RUN_ELT.RAW_DATA")

    home = {"RUN_ELT_EMBEDDED_DIR": str(warehouse), "RUN_ELT_TABLES_DIR": str(folder.parent)}
    run = deployment_dir.run("dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster", env=home)
    assert run.returncode == 0, run.stderr[-4000:]

    with duckdb.connect() as duck:
        duck.execute(f"ATTACH '{warehouse / 'RUN_ELT.db'}' AS kept (READ_ONLY)")
        duck.execute("USE kept.RAW_DATA")
        filled = 0
        for name, sql in queries.items():
            wanted = in_order(duck.execute(for_duckdb(sql)).fetchall())
            got = in_order(duck.execute(f"FROM kept.ANALYTICS.{name}").fetchall())
            assert is_same(wanted, got), (name, wanted[:MOST_DIFFERENT_ROWS], got[:MOST_DIFFERENT_ROWS])
            filled += bool(wanted)
    assert filled >= 20


def test_queries_of_tpcds_give_what_duckdb_gives(tmp_path: Path) -> None:
    for name in ("parquet", "warehouse"):
        (tmp_path / name).mkdir()
    found = tpcds(tmp_path / "parquet")
    if isinstance(found, str):
        pytest.skip(f"DuckDB's extension tpcds is not to be had: {found}")
    assert len(found.queries) == 99
    wrong: dict[int, object] = {}
    filled = 0
    with running_server(tmp_path / "warehouse", EmbeddedServer) as server, duckdb.connect() as duck:
        server.engine.duck_conn.execute("CREATE SCHEMA RUN_ELT.TPC")
        load_parquet(server.engine.duck_conn, "RUN_ELT.TPC", found.folder)
        load_parquet(duck, "main", found.folder)
        account = Account(server)
        with account.resources:
            session = account.session(schema="TPC")
            for number, sql in enumerate(found.queries, start=1):
                wanted, got = duck.execute(sql).fetchall(), session.sql(sql)
                filled += bool(wanted)
                if not is_same(wanted, got):
                    wrong[number] = (wanted[:MOST_DIFFERENT_ROWS], got[:MOST_DIFFERENT_ROWS])
    assert wrong == {}
    # Tables this small leave the others empty.
    assert filled >= 70
