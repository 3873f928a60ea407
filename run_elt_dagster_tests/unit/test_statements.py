"""Where an error in a build stands in the file of its table, and what compares two versions of a table."""

from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.statements import build_sql, comment_sql, file_position, same_rows_sql

CANDIDATE = Relation("PROD", "A", "TEMP_T__8F3A01C2")


def position(*, line: int, column: int = 0, **changes: Any) -> str:
    table = AnalyticsTable.model_validate(
        {"schema": "a", "table": "t", "sql": "select a,\n  b\nfrom c", "path": Path("t.sql"), **changes}
    )
    statement = build_sql(table, CANDIDATE, marker=Marker("run", "8f3a01c2"))
    return file_position(table, statement, line=line, position=column)


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [
        (2, 7, "t.sql:1:8"),
        (3, 2, "t.sql:2:3"),
        (4, 0, "t.sql:3:1"),
        # Before the author's SQL, and behind it.
        (1, 0, ""),
        (5, 0, ""),
    ],
)
def test_position_in_a_build_is_one_in_the_file(line: int, column: int, expected: str) -> None:
    assert position(line=line, column=column) == expected


def test_position_in_a_file_counts_the_lines_of_its_settings() -> None:
    """Settings may end on the line where the SQL begins: its columns are unknown then."""
    assert position(line=2, column=7, sql_line=4) == "t.sql:4"
    assert position(line=3, column=2, sql_line=4) == "t.sql:5:3"
    assert position(line=2, column=7, sql_line=2) == "t.sql:2"


def test_position_is_right_behind_a_description_of_many_lines() -> None:
    assert position(line=4, column=7, description="one\ntwo\nthree") == "t.sql:1:8"
    assert position(line=3, description="one\ntwo\nthree") == ""


def test_position_of_a_table_without_a_file_is_none() -> None:
    assert position(line=2, path=None) == ""


def test_versions_are_compared_by_how_often_each_has_a_row() -> None:
    one = 'SELECT "A", "b c", COUNT(*) AS "run_elt copies" FROM x GROUP BY 1, 2'
    other = 'SELECT "A", "b c", COUNT(*) AS "run_elt copies" FROM y GROUP BY 1, 2'
    assert same_rows_sql("x", "y", ["A", "b c"]) == (
        f"SELECT COUNT(*) FROM (({one} MINUS {other}) UNION ALL ({other} MINUS {one}))"
    )


def test_comment_of_a_table_is_a_literal() -> None:
    assert comment_sql(CANDIDATE, "Ada's") == """COMMENT ON TABLE "PROD"."A"."TEMP_T__8F3A01C2" IS 'Ada''s'"""
