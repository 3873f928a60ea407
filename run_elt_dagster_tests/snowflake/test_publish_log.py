"""The log of publishes: an account takes its rows as one bound text, and no row twice."""

import re
from pathlib import Path

import pytest

from run_elt_dagster.publish.log import CHECK_RESULTS, COLUMNS, PUBLISHES, create_sql, log_table, send_rows
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster_tests.support.snowflake_account import OwnSchema

ABOUT = {
    "RUN_ID": "r",
    "TABLE_DATABASE": "D",
    "TABLE_SCHEMA": "S",
    "TABLE_NAME": 'it\'s "T" %s ?',
    "FINISHED_AT": "2026-11-28T13:07:44.125",
}
ROWS = {
    PUBLISHES: {"STATE": "published", "ROW_COUNT": 12345678901234567890, "BUILD_SECONDS": 0.125},
    CHECK_RESULTS: {
        "CHECK_NAME": "usual_rows",
        "KIND": "usual",
        "SEVERITY": "warn",
        "VERDICT": "failed",
        "IS_OF_CANDIDATE": True,
        "GOT": 41020,
        "EXPECTED_MIN": None,
    },
}


@pytest.mark.parametrize("name", COLUMNS)
def test_log_takes_rows_of_one_bound_text_and_none_twice(schema: OwnSchema, name: str) -> None:
    table = log_table(name, f"{schema.database}.{schema.name}", database="")
    reader, run = schema.session(), RunContext("r", "test")
    reader.sql(create_sql(table))
    rows = [{"ENTRY_ID": entry, **ABOUT, **ROWS[name]} for entry in ("a", "b")]
    with schema.account.resource.session() as session:
        send_rows(session, run, table, [])
        send_rows(session, run, table, rows[:1])
        send_rows(session, run, table, rows)
    known = {column: value for column, value in rows[0].items() if column not in ("ENTRY_ID", "FINISHED_AT")}
    listed = ", ".join(known)
    assert reader.sql(f"SELECT {listed} FROM {table.sql} ORDER BY ENTRY_ID") == [tuple(known.values())] * 2
    assert reader.value(f"SELECT MAX(FINISHED_AT)::VARCHAR FROM {table.sql}").startswith("2026-11-28 13:07:44.125")


def test_documented_queries_are_answered(schema: OwnSchema) -> None:
    reader, place = schema.session(), f"{schema.database}.{schema.name}"
    for name in COLUMNS:
        reader.sql(create_sql(log_table(name, place, database="")))
    page = (Path(__file__).parents[2] / "docs" / "publish_log.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
    assert len(queries) > 5
    for query in queries:
        reader.sql(query.replace("RUN_ELT.", f"{place}."))
