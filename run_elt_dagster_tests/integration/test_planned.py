"""The statements that `run-elt show` prints, compared with those that a run sends then."""

import json
import re

import pytest

from run_elt_dagster.model.table import parse_table_file
from run_elt_dagster.publish.guards import inventory_of, inventory_sql
from run_elt_dagster.publish.planned import RUN_ID, SNAPSHOT_AT, planned_statements
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.local_server import METHODS, LocalServer, mau

RUN = "8f3a01c2-1111-4222-8333-444455556666"
MORE = """description: It's ours.
primary_key: [n]
columns: {n: {type: int, description: A number.}, v: int}
checks:
  relationship: {v: analytics.mau.n}
  sql: {few: "select * from {table} where n > 90"}"""


def sent(local_server: LocalServer) -> list[tuple[str, str]]:
    """Return the statements of runs since the last call, with the run and its time as in a plan."""
    statements: list[tuple[str, str]] = []
    for record in local_server.server.history:
        if stage := json.loads(record.query_tag or "{}").get("stage"):
            sql = record.sql.replace(RUN, RUN_ID).replace(f"__{RUN[:8].upper()}", f"__{RUN_ID[:8]}")
            statements.append((stage, re.sub(r"at \S+Z\]", f"at {SNAPSHOT_AT}]", sql)))
    local_server.server.history.clear()
    return statements


@pytest.mark.parametrize("publish", METHODS)
def test_planned_statements_are_those_that_a_run_sends(local_server: LocalServer, publish: str) -> None:
    text = mau(3, 1, publish=publish, more=MORE)
    table = parse_table_file(local_server.directory / "mau.sql", text, schema="analytics", table="mau")
    database = local_server.reader.sql("select current_database()")[0][0]
    for exists in (False, True):
        inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
        plan = planned_statements(
            table, inventory, database=database, columns=["N", "V"] if exists else [], options=PublishOptions()
        )
        assert sent(local_server) == []
        assert local_server.run(RUN, text).published
        assert [(each.stage, each.sql) for each in plan] == sent(local_server)
