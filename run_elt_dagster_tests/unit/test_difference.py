from typing import Any

import pytest

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.difference import (
    Comparison,
    RowDifference,
    columns_of,
    columns_sql,
    schema_difference,
)
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.compare import against_of, key_of

NEW, OLD = Relation("D", "S", "TEMP_T__8F3A01C2"), Relation("D", "S", "T")
ID, FLOAT, TEXT = Column("ID", "NUMBER", 38, 0), Column("F", "FLOAT"), Column("V", "TEXT")


def a_table(**changes: Any) -> AnalyticsTable:
    return AnalyticsTable.model_validate({"schema": "s", "table": "t", "sql": "select 1 as id", **changes})


def a_comparison(*columns: Column, key: tuple[str, ...] = ("ID",), old: tuple[Column, ...] | None = None) -> Comparison:
    return Comparison(NEW, OLD, columns, columns if old is None else old, key)


def test_counts_by_key_read_each_table_once_and_tell_a_repeated_key_from_a_changed_one() -> None:
    assert a_comparison(ID, FLOAT).counts_sql() == (
        'WITH "run_elt rows" AS (SELECT "ID", "F", 1 AS "run_elt new", 0 AS "run_elt old" FROM "D"."S"."TEMP_T__8F3A01C2" '
        'UNION ALL SELECT "ID", "F", 0 AS "run_elt new", 1 AS "run_elt old" FROM "D"."S"."T"), '
        '"run_elt keys" AS (SELECT "ID", SUM("run_elt new") AS "run_elt news", SUM("run_elt old") AS "run_elt olds", '
        'MAX(IFF("run_elt new" = 1, "F", NULL)) AS "run_elt new 1", MAX(IFF("run_elt old" = 1, "F", NULL)) AS "run_elt old 1" '
        'FROM "run_elt rows" GROUP BY "ID"), '
        '"run_elt differences" AS (SELECT "ID", "run_elt news", "run_elt olds", '
        '(NOT EQUAL_NULL("run_elt new 1", "run_elt old 1") AND NOT COALESCE(ABS("run_elt new 1" - "run_elt old 1") < '
        '1e-9 * GREATEST(ABS("run_elt new 1"), ABS("run_elt old 1")), FALSE)) AS "run_elt differs 1" FROM "run_elt keys"), '
        '"run_elt compared" AS (SELECT *, CASE WHEN "run_elt news" > 1 OR "run_elt olds" > 1 THEN \'repeated\' '
        "WHEN \"run_elt olds\" = 0 THEN 'added' WHEN \"run_elt news\" = 0 THEN 'removed' "
        'WHEN "run_elt differs 1" THEN \'changed\' ELSE \'same\' END AS "run_elt state" FROM "run_elt differences") '
        'SELECT SUM("run_elt news"), SUM("run_elt olds"), COUNT_IF("run_elt state" = \'added\'), '
        "COUNT_IF(\"run_elt state\" = 'removed'), COUNT_IF(\"run_elt state\" = 'changed'), "
        'COUNT_IF("run_elt state" = \'repeated\'), COUNT_IF("run_elt state" = \'changed\' AND "run_elt differs 1") '
        'FROM "run_elt compared"'
    )


def test_whole_rows_are_counted_as_multisets_without_a_key() -> None:
    assert a_comparison(TEXT, key=()).counts_sql() == (
        'SELECT SUM("run_elt news"), SUM("run_elt olds"), SUM(GREATEST("run_elt news" - "run_elt olds", 0)), '
        'SUM(GREATEST("run_elt olds" - "run_elt news", 0)) FROM (SELECT SUM("run_elt new") AS "run_elt news", '
        'SUM("run_elt old") AS "run_elt olds" FROM (SELECT "V", 1 AS "run_elt new", 0 AS "run_elt old" FROM '
        '"D"."S"."TEMP_T__8F3A01C2" UNION ALL SELECT "V", 0 AS "run_elt new", 1 AS "run_elt old" FROM "D"."S"."T") '
        'GROUP BY "V")'
    )


@pytest.mark.parametrize(
    ("new", "old", "sql"),
    [
        (Column("C", "NUMBER", 38, 0), Column("C", "FLOAT"), '"C"'),
        (Column("C", "NUMBER", 38, 0), Column("C", "TEXT"), 'TO_VARCHAR("C") AS "C"'),
        (Column("C", "BOOLEAN"), Column("C", "BOOLEAN"), 'TO_VARCHAR("C") AS "C"'),
        (Column("C", "VARIANT"), Column("C", "VARIANT"), 'TO_JSON("C") AS "C"'),
        (
            Column("C", "TIMESTAMP_TZ"),
            Column("C", "TIMESTAMP_NTZ"),
            'TO_VARCHAR("C", \'YYYY-MM-DD HH24:MI:SS.FF9 TZHTZM\') AS "C"',
        ),
    ],
)
def test_column_is_compared_in_a_form_that_has_an_order(new: Column, old: Column, sql: str) -> None:
    assert f'SELECT "ID", {sql}, 1 AS' in a_comparison(ID, new, old=(ID, old)).counts_sql()


def test_examples_name_the_columns_that_differ_for_so_many_keys_of_each_state() -> None:
    sql = a_comparison(ID, TEXT).examples_sql(5)
    assert sql.endswith(
        'SELECT "run_elt state", "ID", IFF("run_elt state" = \'changed\', ARRAY_TO_STRING(ARRAY_CONSTRUCT_COMPACT(IFF('
        "\"run_elt differs 1\", 'v', NULL)), ', '), '') FROM \"run_elt compared\" WHERE \"run_elt state\" <> 'same' "
        'QUALIFY ROW_NUMBER() OVER (PARTITION BY "run_elt state" ORDER BY "ID") <= 5 ORDER BY "run_elt state", "ID"'
    )


def test_answers_become_counts_with_nothing_for_tables_without_rows() -> None:
    by_key = a_comparison(ID, FLOAT, TEXT)
    assert by_key.row_difference((7, 6, 2, 1, 3, 0, 3, 0)) == RowDifference(7, 6, 2, 1, 3, 0, (("F", 3),))
    empty = a_comparison(TEXT, key=()).row_difference((None, None, None, None))
    assert empty == RowDifference(0, 0, 0, 0)
    assert empty.is_empty


def test_schema_difference_lists_columns_by_name_and_type() -> None:
    old = (ID, Column("V", "TEXT", length=10), Column("Net sales", "FLOAT"))
    assert schema_difference((FLOAT, TEXT, ID), old).lines == [
        "+ F FLOAT",
        '- "Net sales" FLOAT',
        "~ V VARCHAR(10) -> VARCHAR",
    ]


def test_columns_of_both_tables_come_in_one_query() -> None:
    sql = columns_sql(NEW, Relation("E", "S", "T"))
    assert sql.count("SELECT") == 2
    assert "\"E\".INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'S' AND TABLE_NAME = 'T' ORDER BY 1, 2" in sql
    rows = [("new", 1, "ID", "NUMBER", 38, 0, None, None), ("old", 1, "V", "TEXT", None, None, 10, None)]
    assert (columns_of(rows, "new"), columns_of(rows, "old")) == ((ID,), (Column("V", "TEXT", length=10),))


@pytest.mark.parametrize(
    ("text", "found"),
    [(None, "D.S.T"), ("staging", "STAGING.S.T"), ('e."x".t', 'E."x".T')],
)
def test_against_is_a_database_or_a_whole_name(text: str | None, found: str) -> None:
    assert str(against_of(text, a_table(), database="D")) == found


def test_against_without_a_database_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"got s\.u\. Nothing was built\. .* write D\.s\.u\."):
        against_of("s.u", a_table(), database="D")
    with pytest.raises(ValueError, match="requires names with dots between them"):
        against_of("a b", a_table(), database="D")


def test_key_is_that_of_the_table_unless_another_is_given() -> None:
    table = a_table(primary_key=["id"])
    assert key_of((), table, examples=0) == ("ID",)
    assert key_of(("a", ' "b c"'), table, examples=5) == ("A", "b c")
    assert a_comparison(ID, TEXT, key=("ID", "V"), old=(ID,)).missing_key == ("V",)


@pytest.mark.parametrize(
    ("columns", "examples", "problem"),
    [
        (("a", "A"), 0, "requires columns that differ, got a, A"),
        (("a b",), 0, "requires a letter or _ first"),
        ((), 5, r"--rows requires a key, got s\.t without primary_key"),
    ],
)
def test_key_that_identifies_nothing_is_refused(columns: tuple[str, ...], examples: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        key_of(columns, a_table(), examples=examples)
