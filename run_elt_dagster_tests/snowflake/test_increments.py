"""What merging increments rests on: DELETE by a query, questions to a table as it would be, and a whole build in one transaction."""

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.partitions import last_increment
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster_tests.support.embedded import Session
from run_elt_dagster_tests.support.increments import Rows, values
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.snowflake_account import OwnTable, listing

# The value and the hour of each row. Of row 1 the value alone changes.
OLD: Rows = {1: (1, 1), 2: (2, 2), 3: (3, 3)}
NEW: Rows = {1: (9, 1), 2: (5, 4), 3: (3, 3), 4: (4, 4)}


def declared(table: OwnTable, rows: Rows) -> AnalyticsTable:
    given = {"schema": table.schema.name, "table": table.name, "sql": values(rows), "primary_key": ["id", "at"]}
    checks = {"row_count_change": {"max_growth": "100%", "min_rows": 1}, "unique": "v", "freshness": {"at": 10**6}}
    return AnalyticsTable.model_validate({**given, "increment": {"column": "at", "key": "id"}, "checks": checks})


def publish(table: OwnTable, run_id: str, rows: Rows, *, is_whole: bool = False) -> None:
    chosen = declared(table, rows)
    options = run_arguments(run_id, job="tests", check_policies=table.schema.account.check_policies)
    whole = [chosen.key] if is_whole else []
    with table.schema.watched(lambda _, __: None) as session:
        (outcome,) = run_tables(session, catalogue([chosen]), [chosen.key], whole=whole, **options)
    assert outcome.failure is None, outcome.failure


def seen(table: OwnTable, session: Session) -> dict[int, int]:
    return {int(n): int(value) for n, value in session.sql(f"select id, v from {table.name}")}


def test_increment_is_merged_and_a_rebuild_replaces_all_rows_of_the_same_object(table: OwnTable) -> None:
    session = table.schema.session()
    publish(table, "0000000A", OLD)
    session.sql(f"grant select on table {table.name} to role public")
    session.sql(f"create stream s_{table.name} on table {table.name}")
    publish(table, "0000000B", NEW)
    assert seen(table, session) == {1: 1, 2: 5, 3: 3, 4: 4}
    with table.schema.watched(lambda _, __: None) as own:
        noted = last_increment(own, declared(table, NEW))
    assert noted is not None
    assert (noted.marker.run_id, noted.rows, noted.start.isoformat()) == ("0000000B", 3, "2024-01-01T03:00:00+00:00")
    publish(table, "0000000C", {1: (9, 1), 7: (7, 7)}, is_whole=True)
    assert seen(table, session) == {1: 9, 7: 7}
    assert ("SELECT", "ROLE", "PUBLIC", "false") in table.grants(session)
    assert [str(row["stale"]).lower() for row in listing(session, f"show streams like 'S_{table.name}'")] == ["false"]
