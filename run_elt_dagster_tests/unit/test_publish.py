from typing import Any

import pytest

from run_elt_dagster.publish import (
    Existing,
    PublishRefusedError,
    build_sql,
    candidate_of,
    columns_sql,
    drop_sql,
    existing_sql,
    publish_sql,
    target_of,
)
from run_elt_dagster.table import AnalyticsTable

RUN_ID = "8f3a01c2-0000-4000-8000-000000000000"
TABLE = Existing("BASE TABLE", 7)


def a_table(**changes: Any) -> AnalyticsTable:
    return AnalyticsTable.model_validate(
        {"schema": "analytics", "table": "mau", "sql": "select 1 as n -- end", **changes}
    )


def plan(
    existing: Existing | None, *, columns: tuple[str, ...] = (), copy_tags: bool = True, **changes: Any
) -> list[str]:
    table = a_table(**changes)
    return publish_sql(
        table,
        target=target_of(table, database="prod"),
        candidate=candidate_of(table, database="prod", run_id=RUN_ID),
        existing=existing,
        columns=columns,
        copy_tags=copy_tags,
    )


def test_candidate_is_named_after_the_run() -> None:
    assert str(candidate_of(a_table(), database="prod", run_id=RUN_ID)) == "PROD.ANALYTICS.TEMP_MAU__8F3A01C2"


def test_build_embeds_the_sql_byte_for_byte_and_carries_the_run_in_its_comment() -> None:
    candidate = candidate_of(a_table(), database="prod", run_id=RUN_ID)
    assert build_sql(a_table(description="Ada's \\ n"), candidate, run_id=RUN_ID) == (
        'CREATE OR REPLACE TABLE "PROD"."ANALYTICS"."TEMP_MAU__8F3A01C2" '
        f"COMMENT = 'Ada''s \\\\ n [run_elt run {RUN_ID}]' AS (\nselect 1 as n -- end\n)"
    )


def test_build_of_a_transient_table_makes_a_transient_candidate() -> None:
    candidate = candidate_of(a_table(), database="prod", run_id=RUN_ID)
    assert build_sql(a_table(transient=True), candidate, run_id=RUN_ID).startswith("CREATE OR REPLACE TRANSIENT TABLE ")


X, TEMP = '"PROD"."ANALYTICS"."MAU"', '"PROD"."ANALYTICS"."TEMP_MAU__8F3A01C2"'


@pytest.mark.parametrize(
    ("method", "existing", "expected"),
    [
        ("clone", None, [f"CREATE TABLE {X} CLONE {TEMP}"]),
        ("clone", TABLE, [f"CREATE OR REPLACE TABLE {X} CLONE {TEMP} COPY GRANTS COPY TAGS"]),
        ("swap", None, [f"ALTER TABLE {TEMP} RENAME TO {X}"]),
        ("swap", TABLE, [f"ALTER TABLE {X} SWAP WITH {TEMP}"]),
        ("overwrite", None, [f"CREATE TABLE {X} CLONE {TEMP}"]),
    ],
)
def test_publish_plan_is(method: str, existing: Existing | None, expected: list[str]) -> None:
    assert plan(existing, publish=method) == expected


def test_overwrite_names_the_columns_since_insert_goes_by_position() -> None:
    existing = Existing("BASE TABLE", 7, ("mixed Case", "N"))
    assert plan(existing, columns=("N", "mixed Case"), publish="overwrite") == [
        f'INSERT OVERWRITE INTO {X} ("N", "mixed Case") SELECT "N", "mixed Case" FROM {TEMP}'
    ]


def test_overwrite_is_refused_when_the_columns_differ() -> None:
    with pytest.raises(PublishRefusedError, match="got new columns: B; missing columns: A"):
        plan(Existing("BASE TABLE", 7, ("A", "N")), columns=("N", "B"), publish="overwrite")


def test_clone_of_a_transient_table_replaces_by_a_transient_table() -> None:
    assert plan(TABLE, transient=True, copy_tags=False) == [
        f"CREATE OR REPLACE TRANSIENT TABLE {X} CLONE {TEMP} COPY GRANTS"
    ]


@pytest.mark.parametrize("method", ["clone", "swap", "overwrite"])
def test_target_that_is_a_view_is_refused(method: str) -> None:
    with pytest.raises(PublishRefusedError, match="requires a table as its target, got a view at PROD"):
        plan(Existing("VIEW", None), publish=method)


def test_inspection_queries_name_what_they_ask_for() -> None:
    assert existing_sql("prod", ["b", "a", "a"]) == (
        'SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ROW_COUNT FROM "PROD".INFORMATION_SCHEMA.TABLES '
        "WHERE TABLE_SCHEMA IN ('A', 'B')"
    )
    target = target_of(a_table(), database="prod")
    assert columns_sql(target) == (
        'SELECT COLUMN_NAME FROM "PROD".INFORMATION_SCHEMA.COLUMNS '
        "WHERE TABLE_SCHEMA = 'ANALYTICS' AND TABLE_NAME = 'MAU' ORDER BY ORDINAL_POSITION"
    )
    assert drop_sql(target) == f"DROP TABLE IF EXISTS {X}"
