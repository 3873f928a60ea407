"""The statements that `run-elt show` prints, compared with those that a run sends then."""

import json
import re
from datetime import date

import pytest

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.guards import inventory_of, inventory_sql
from run_elt_dagster.publish.planned import QUERY_ID, RUN_ID, SNAPSHOT_AT, START, planned_statements
from run_elt_dagster.publish.planned_group import planned_group
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.increments import growing, run_increment
from run_elt_dagster_tests.support.local_server import METHODS, LocalServer, mau
from run_elt_dagster_tests.support.slices import Version, divided, run_slice

RUN = "8f3a01c2-1111-4222-8333-444455556666"
MORE = """description: It's ours.
primary_key: [n]
columns: {n: {type: int, description: A number.}, v: int}
checks:
  changes: {max_added: 9, columns: {v: 9}}
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


def test_planned_statements_of_a_partition_are_those_that_a_run_sends(local_server: LocalServer) -> None:
    division = {"by": "day", "column": "day", "start": date(2024, 1, 1), "end": date(2024, 1, 2)}
    changes = {"changes": {"max_removed": 0, "max_changed": 0}}
    table = divided(Version(3, 1), table="mau", partitions=division, primary_key=["day", "n"], checks=changes)
    database = local_server.reader.sql("select current_database()")[0][0]
    # The first run makes the table of partitions too, which a plan does not.
    assert run_slice(local_server.account.arguments, table, [1, 1], "0000000A").published
    sent(local_server)
    inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
    plan = planned_statements(table, inventory, database=database, columns=["DAY", "N", "V"], options=PublishOptions())
    assert sent(local_server) == []
    assert run_slice(local_server.account.arguments, table, [1, 1], RUN).published
    assert [(each.stage, each.sql) for each in plan] == [(stage, as_planned(sql)) for stage, sql in sent(local_server)]
    # What it reads of the table is the day, however many days the table has.
    reads = [re.split(r'FROM "RUN_ELT"."ANALYTICS"."MAU"', each.sql)[1:] for each in plan]
    behind = [text for found in reads for text in found]
    # What is compared, deleted and counted.
    assert len(behind) == 3
    day = """"DAY" >= '2024-01-01'::DATE AND "DAY" < '2024-01-02'::DATE"""
    assert all(text.startswith((f" WHERE ({day})", f" AS published WHERE {day})")) for text in behind)


@pytest.mark.parametrize("is_whole", cases((False, True), usual=[False]))
def test_planned_statements_of_an_increment_are_those_that_a_run_sends(
    local_server: LocalServer, is_whole: bool
) -> None:
    checks = {
        "changes": {"max_changed": "100%"},
        "unique": "v",
        "sql": {"few": "select * from {table} where id > 90"},
        "relationship": {"v": "analytics.mau.v"},
    }
    table, arguments = growing({1: (1, 1), 2: (2, 2)}, table="mau", checks=checks), local_server.account.arguments
    assert run_increment(arguments, table, "0000000A").published
    sent(local_server)
    database = local_server.reader.sql("select current_database()")[0][0]
    inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
    plan = planned_statements(
        table, inventory, database=database, columns=["ID", "V", "AT"], options=PublishOptions(), is_whole=is_whole
    )
    assert sent(local_server) == []
    assert run_increment(arguments, table, RUN, is_whole=is_whole).published
    statements = [
        (stage, as_planned(sql).replace("2024-01-01 02:00:00", START.words)) for stage, sql in sent(local_server)
    ]
    assert [(each.stage, each.sql) for each in plan] == statements


def as_planned(sql: str) -> str:
    """Return a statement of the run with the words that stand for its id, its time, its DELETE and its rows."""
    sql = sql.replace(f"RUN_ELT_{RUN[:8].upper()}", f"RUN_ELT_{RUN_ID[:8]}")
    sql = re.sub(r"(?<=QUERY_ID = )'[0-9a-f-]{36}'", f"'{QUERY_ID}'", sql)
    sql = re.sub(r"'[0-9a-f-]{36}'(?=, built.STARTS_AT)", f"'{QUERY_ID}'", sql)
    sql = re.sub(r"'20\d\d-\d\d-\d\dT[\d:.]+Z'", f"'{SNAPSHOT_AT}'", sql)
    return re.sub(r"(?<=::TIMESTAMP_NTZ, )\d(?=\))|(?<=\) = )\d(?=\) AS built)", "0", sql)


@pytest.mark.parametrize(
    "publish", ["clone", *(pytest.param(m, marks=pytest.mark.thorough) for m in ("swap", "overwrite"))]
)
def test_planned_statements_of_a_group_are_those_that_a_run_sends(local_server: LocalServer, publish: str) -> None:
    head = f"/* elt\npublish_group: finance\npublish: {publish}\n{{}}\nelt */ "
    local_server.reader.sql("create masking policy raw_data.mask as (v int) returns int -> 0")
    governed = "policies: {masking: {v: raw_data.mask}}\nobject_tags: {raw_data.domain: sales}\n"
    texts = {
        # The parent's name is the later one.
        "mau": head.format(f"{governed}checks: {{relationship: {{n: analytics.source.n}}}}")
        + "select n, 2 as v from analytics.source",
        "source": head.format("columns: {n: {type: int, description: A number.}}") + "select 1::int as n",
    }
    tables = catalogue(
        [
            parse_table_file(local_server.directory / f"{name}.sql", text, schema="analytics", table=name)
            for name, text in texts.items()
        ]
    )
    database = local_server.reader.sql("select current_database()")[0][0]
    for exists in (False, True):
        inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
        there = {("ANALYTICS", "MAU"): ["N", "V"], ("ANALYTICS", "SOURCE"): ["N"]} if exists else {}
        plan = planned_group(
            tables, "finance", inventory, database=database, columns=there, options=PublishOptions()
        ).statements
        assert sent(local_server) == []
        assert all(one.published for one in local_server.run_all(RUN, texts, max_concurrent_tables=1).values())
        statements = [
            (stage, as_planned(re.sub(r"at \S+Z exchanges", f"at {SNAPSHOT_AT} exchanges", sql)))
            for stage, sql in sent(local_server)
        ]
        assert [(each.stage, each.sql) for each in plan] == statements


def test_planned_statements_of_a_group_in_parts_are_those_that_a_run_sends(local_server: LocalServer) -> None:
    head = "/* elt\npublish_group: finance\n{}\nelt */ "
    texts = {
        "orders": head.format("increment: {column: at, key: n}")
        + "select 1 as n, dateadd(hour, 2, '2024-01-01'::timestamp_ntz) as at",
        "totals": head.format("publish: overwrite") + "select 2 as v",
    }
    tables = catalogue(
        [
            parse_table_file(local_server.directory / f"{name}.sql", text, schema="analytics", table=name)
            for name, text in texts.items()
        ]
    )
    database = local_server.reader.sql("select current_database()")[0][0]
    assert all(one.published for one in local_server.run_all("0000000A", texts).values())
    sent(local_server)
    inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
    there = {("ANALYTICS", "ORDERS"): ["N", "AT"], ("ANALYTICS", "TOTALS"): ["V"]}
    plan = planned_group(tables, "finance", inventory, database=database, columns=there, options=PublishOptions())
    assert sent(local_server) == []
    assert all(one.published for one in local_server.run_all(RUN, texts, max_concurrent_tables=1).values())
    started = f"at {SNAPSHOT_AT} writes"
    statements = [
        (stage, as_planned(re.sub(r"at \S+Z writes", started, sql)).replace("2024-01-01 02:00:00", START.words))
        for stage, sql in sent(local_server)
    ]
    assert [(each.stage, each.sql) for each in plan.statements] == statements
