"""What is asked of the partitions of a candidate, and the statements that exchange them, as literals."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.partitioned import (
    grouped_scan_sql,
    key_counts_sql,
    keys_elsewhere_sql,
    keys_twice_sql,
    number_sql,
    other_rows,
    type_problem,
)
from run_elt_dagster.audit.plan import Audited, Earlier, Numbers
from run_elt_dagster.model.candidate import Marker, comment_of, marker_in, pieces_in
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import Production, partition_words
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish import partitions, row_exchange, slice_exchange
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.partitions import PublishedPartition
from run_elt_dagster.publish.rollback_plan import RollbackPlanner
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.publish.statements import build_sql, file_position
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Session
from run_elt_dagster_tests.support.run_arguments import run_arguments

TARGET, CANDIDATE = Relation("PROD", "ANALYTICS", "MAU"), Relation("PROD", "ANALYTICS", "TEMP_MAU__8F3A01C2")
X, TEMP, NOTES = (f'"PROD"."ANALYTICS"."{name}"' for name in ("MAU", "TEMP_MAU__8F3A01C2", "RUN_ELT_PARTITIONS"))
MARKER = Marker("run", "8f3a01c2", "2026-11-25T00:00:00.000000Z")
NOW = "CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP())::TIMESTAMP_NTZ"
FIRST = """("DAY" >= '2024-01-01'::DATE AND "DAY" < '2024-01-02'::DATE)"""
THIRD = """("DAY" >= '2024-01-03'::DATE AND "DAY" < '2024-01-04'::DATE)"""


def a_table(by: str = "day", **changes: Any) -> AnalyticsTable:
    division = {"by": by, "column": "day", "start": date(2024, 1, 1)}
    return AnalyticsTable.model_validate(
        {
            "schema": "analytics",
            "table": "mau",
            "sql": "select\n  day, n\nfrom t -- end",
            "partitions": division,
            **changes,
        }
    )


def days(first: int, last: int, table: AnalyticsTable | None = None) -> Slice:
    division = (table or a_table()).partitions
    assert division is not None
    return division.between(f"2024-01-{first:02}", f"2024-01-{last:02}")


def pieces(*chosen: int) -> Sequence[tuple[datetime, datetime]]:
    return days(1, 5).pieces({f"2024-01-{day:02}" for day in chosen})


def moment(day: int) -> datetime:
    return datetime(2024, 1, day, tzinfo=UTC)


def test_build_of_a_slice_asks_for_its_rows_and_names_their_time_in_the_comment() -> None:
    table = a_table(description="Users.")
    assert build_sql(table, CANDIDATE, marker=MARKER, part=days(1, 3)) == (
        f"CREATE OR REPLACE TABLE {TEMP} COMMENT = 'Users. [run_elt rows 2024-01-01T00:00:00Z..2024-01-04T00:00:00Z] {MARKER}' AS (\n"
        f"{table.sliced_sql(days(1, 3))}\n)"
    )


@pytest.mark.parametrize(
    "sql",
    ["select\n  day, n\nfrom t", "select\n  day, n\nfrom t where day >= {partition_start} and day < {partition_end}"],
)
def test_position_in_the_build_of_a_slice_is_one_in_the_file(sql: str) -> None:
    table = a_table(sql=sql, path="mau.sql", sql_line=5)
    statement = build_sql(table, CANDIDATE, marker=MARKER, part=days(1, 3))
    line = next(n for n, text in enumerate(statement.splitlines(), start=1) if text == "  day, n")
    assert file_position(table, statement, line=line, position=2) == "mau.sql:6:3"
    assert file_position(table, statement, line=line + 2, position=2) == ""


@pytest.mark.parametrize("chosen", [(1,), (1, 2, 5)])
def test_pieces_are_read_back_from_a_comment(chosen: tuple[int, ...]) -> None:
    comment = comment_of(a_table(description="[run_elt rows none] text"), MARKER, pieces(*chosen))
    assert pieces_in(comment) == tuple(pieces(*chosen))
    assert marker_in(comment) == MARKER
    assert pieces_in(comment_of(a_table(), MARKER)) is pieces_in(None) is None


@pytest.mark.parametrize(
    ("by", "key", "data_type", "expected"),
    [
        ("day", "2024-01-02", "DATE", "DATEDIFF('day', '2024-01-02'::DATE, \"DAY\")"),
        (
            "hour",
            "2024-01-02-03:00",
            "TIMESTAMP_NTZ",
            "DATEDIFF('hour', '2024-01-02 03:00:00'::TIMESTAMP_NTZ, \"DAY\")",
        ),
        ("week", "2024-01-08", "DATE", "FLOOR(DATEDIFF('day', '2024-01-08'::DATE, \"DAY\") / 7)"),
        (
            "month",
            "2024-02-01",
            "TIMESTAMP_TZ",
            "DATEDIFF('month', '2024-02-01'::DATE, CONVERT_TIMEZONE('UTC', \"DAY\")::TIMESTAMP_NTZ)",
        ),
    ],
)
def test_number_of_a_partition_counts_from_the_start_of_the_slice(
    by: str, key: str, data_type: str, expected: str
) -> None:
    division = a_table(by).partitions
    assert division is not None
    assert number_sql(division, division.slice([key]), data_type) == expected


def test_all_partitions_are_measured_in_one_statement() -> None:
    audits = [
        audit for audit in audits_of(a_table(checks={"not_null": "n"})) if audit.name in ("row_count", "not_null")
    ]
    measures = 'COUNT(*),\n  COUNT(*),\n  COUNT(CASE WHEN "N" IS NULL THEN 1 END)'
    assert grouped_scan_sql(audits, CANDIDATE, number="N1") == (
        f"SELECT\n  N1,\n  {measures},\n  1\nFROM {TEMP}\nGROUP BY 1\nUNION ALL\n"
        f"SELECT\n  NULL,\n  {measures},\n  0\nFROM {TEMP}\nWHERE 1 = 0"
    )


def test_keys_are_looked_for_in_the_other_partitions_of_both_tables() -> None:
    others = other_rows(a_table(), TARGET, pieces(1, 3))
    assert keys_elsewhere_sql(["A", "B"], CANDIDATE, others, number="N1") == (
        f'SELECT here."run_elt number", COUNT(*) FROM (SELECT N1 AS "run_elt number", "A", "B" FROM {TEMP}) AS here WHERE EXISTS '
        f'(SELECT 1 FROM (SELECT "A", "B" FROM (SELECT * FROM {X} WHERE NOT ({FIRST} OR {THIRD}) OR "DAY" IS NULL)) AS there '
        'WHERE here."A" = there."A" AND here."B" = there."B") GROUP BY 1'
    )
    assert keys_twice_sql(["A"], CANDIDATE, number="N1") == (
        'SELECT "run_elt number", COUNT(*) FROM (SELECT N1 AS "run_elt number", MIN(N1) OVER (PARTITION BY "A") AS "run_elt first", '
        f'MAX(N1) OVER (PARTITION BY "A") AS "run_elt last" FROM {TEMP} WHERE "A" IS NOT NULL) '
        'WHERE "run_elt first" < "run_elt last" GROUP BY 1'
    )
    # All of them are one statement.
    assert key_counts_sql({"one": ["A", "B"], "none": [], "it's": ["C"]}) == (
        "SELECT 'one', * FROM (A) UNION ALL SELECT 'one', * FROM (B) UNION ALL SELECT 'it''s', * FROM (C)"
    )


@pytest.mark.parametrize(("key", "kind"), [(["n"], "KeyAudit"), (["n", "Day"], "ScanAudit")])
def test_key_that_holds_the_time_needs_no_look_elsewhere(key: list[str], kind: str) -> None:
    audits = {audit.name: audit for audit in audits_of(a_table(primary_key=key, checks={"unique": [key]}))}
    names = ["primary_key", next(name for name in audits if name.startswith("unique"))]
    assert [type(audits[name]).__name__ for name in names] == [kind, kind]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 0), None),
        ((2, 0), "found 2 rows with a NULL day"),
        ((0, 3), "found 3 rows outside of the partitions"),
        # The published table as a whole has no partitions in mind.
        ((0,), None),
    ],
)
def test_rows_without_or_outside_of_the_partitions_fail_a_check(numbers: tuple[int, ...], words: str | None) -> None:
    (audit,) = [audit for audit in audits_of(a_table()) if audit.name == "partition"]
    outcome = audit.judge(Numbers(numbers), Audited(CANDIDATE))
    assert outcome.passed is (words is None)
    assert outcome.passed or str(words) in str(outcome)


@pytest.mark.parametrize(
    ("data_type", "declared", "problem"),
    [
        ("DATE", None, None),
        ("TIMESTAMP_NTZ", None, None),
        ("TIMESTAMP_TZ", "timestamp_tz", None),
        ("TIMESTAMP_LTZ", None, "column DAY of type TIMESTAMP_LTZ, expected date or timestamp_ntz; declare the type"),
        ("TEXT", None, "column DAY of type TEXT, expected date or timestamp_ntz"),
        (None, None, "no column DAY"),
    ],
)
def test_column_that_cannot_tell_partitions_apart_is_named(
    data_type: str | None, declared: str | None, problem: str | None
) -> None:
    table = a_table(columns={"day": declared, "n": "int"}) if declared else a_table()
    found = type_problem(table, {"DAY": data_type} if data_type else {})
    assert (found or "").startswith(problem or "")
    assert (found is None) is (problem is None)


def test_rows_are_compared_with_the_same_partition_or_the_median_of_the_last_seven() -> None:
    def noted(day: int, rows: int) -> dict[str, object]:
        return {"key": f"2024-01-{day:02}", "start": int(moment(day).timestamp()), "rows": rows}

    known = [noted(day, rows) for day, rows in enumerate([1000, 7, 1, 2, 3, 4, 5, 6], start=1)]
    found = partitions.earlier_of(json.dumps(known[::-1]), days(1, 9))
    assert found["2024-01-02"] == Earlier(7, "published partition")
    assert found["2024-01-09"] == Earlier(4, "median of the last 7 published partitions")
    assert partitions.earlier_of(None, days(1, 2)) == {}


def test_rows_to_compare_with_are_those_of_the_slice_and_the_last_seven_before_it() -> None:
    known = f"SELECT * FROM {NOTES} WHERE TABLE_NAME = 'MAU' AND PARTITION_KEY IS NOT NULL AND STARTS_AT"
    first, end = (f"'2024-01-0{day} 00:00:00'::TIMESTAMP_NTZ" for day in (2, 4))
    assert partitions.earlier_sql(TARGET, days(2, 3)) == (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('key', PARTITION_KEY, 'start', DATE_PART(EPOCH_SECOND, STARTS_AT), 'rows', ROW_COUNT)) "
        f"FROM ({known} >= {first} AND STARTS_AT < {end} UNION ALL SELECT * FROM ({known} < {first} ORDER BY STARTS_AT DESC LIMIT 7)))"
    )


@pytest.mark.parametrize(
    ("earlier", "says"),
    [
        (None, "there is no published partition to compare with"),
        (Earlier(2, "published partition"), "the published partition has 2 rows, and fewer than 100 are not compared"),
        (Earlier(200, "published partition"), "found -50.00 % change of the row count"),
    ],
)
def test_change_of_a_partitions_rows_says_what_it_is_compared_with(earlier: Earlier | None, says: str) -> None:
    table = a_table(checks={"row_count_change": {"max_drop": "10%", "min_rows": 100}})
    (audit,) = [audit for audit in audits_of(table) if audit.name == "row_count_change"]
    compared = earlier or Earlier(None, "published partition")
    outcome = audit.judge(Numbers((Decimal(100),)), Audited(CANDIDATE, compared=compared))
    assert says in str(outcome)
    assert outcome.passed is ("change" not in says)


def test_first_publish_clones_all_or_copies_what_has_passed() -> None:
    def first(*, whole: bool, **changes: Any) -> str:
        return slice_exchange.first_sql(
            a_table(**changes), TARGET, CANDIDATE, marker=MARKER, pieces=pieces(1, 3), whole=whole
        )

    assert first(whole=True) == f"CREATE TABLE {X} CLONE {TEMP}"
    assert first(whole=False, transient=True) == (
        f"CREATE TRANSIENT TABLE {X} COMMENT = '[run_elt rows 2024-01-01T00:00:00Z..2024-01-02T00:00:00Z "
        f"2024-01-03T00:00:00Z..2024-01-04T00:00:00Z] {MARKER}' AS SELECT * FROM (SELECT * FROM {TEMP} WHERE {FIRST} OR {THIRD})"
    )


def test_exchange_deletes_inserts_by_name_and_counts_the_same_pieces() -> None:
    table, chosen = a_table(), pieces(1, 3)
    assert slice_exchange.delete_sql(table, TARGET, chosen) == f"DELETE FROM {X} WHERE {FIRST} OR {THIRD}"
    assert slice_exchange.insert_sql(table, TARGET, CANDIDATE, columns=["DAY", "n n"], pieces=chosen) == (
        f'INSERT INTO {X} ("DAY", "n n") SELECT "DAY", "n n" FROM {TEMP} WHERE {FIRST} OR {THIRD}'
    )
    counted = f"SELECT COUNT(*) FROM {X} WHERE {FIRST} OR {THIRD}"
    assert slice_exchange.count_sql(table, TARGET, chosen) == counted
    elsewhere = slice_exchange.keys_elsewhere_sql(table, TARGET, ["N"], chosen)
    asked = slice_exchange.exchanged_sql(table, TARGET, chosen, rows=7, keys=[["N"]])
    assert asked == f"({counted}) = 7 AND ({elsewhere}) = 0"


def test_lock_is_changed_before_anything_is_read() -> None:
    of, lock = "TABLE_NAME = 'MAU'", "TABLE_NAME = 'MAU' AND PARTITION_KEY IS NULL"
    assert partitions.lock_sql(TARGET) == f"UPDATE {NOTES} SET PUBLISHED_AT = {NOW} WHERE {lock}"
    assert partitions.create_lock_sql(TARGET) == (
        f"INSERT INTO {NOTES} (TABLE_NAME) SELECT 'MAU' WHERE NOT EXISTS (SELECT 1 FROM {NOTES} WHERE {lock})"
    )
    overlap = (
        f"{of} AND PARTITION_KEY IS NOT NULL AND ((STARTS_AT < '2024-01-02 00:00:00'::TIMESTAMP_NTZ AND "
        "ENDS_AT > '2024-01-01 00:00:00'::TIMESTAMP_NTZ))"
    )
    assert partitions.forget_sql(TARGET, pieces(1)) == f"DELETE FROM {NOTES} WHERE {overlap}"
    assert partitions.markers_sql(TARGET, pieces(1)).endswith(f" FROM {NOTES} WHERE {lock} OR ({overlap})")


def test_publish_is_noted_in_the_place_of_the_one_before_if_its_rows_are_there() -> None:
    noted, rows = days(1, 1).partitions, {"2024-01-01": 7}
    record = partitions.record_sql(TARGET, noted, rows, MARKER, query_id="01b2", condition="(SELECT 7) = 7")
    run, at = f"'{MARKER.run_id}'", f"'{MARKER.at}'"
    assert record == (
        f"MERGE INTO {NOTES} AS kept USING (SELECT COLUMN1 AS PARTITION_KEY, COLUMN2::TIMESTAMP_NTZ AS STARTS_AT, "
        "COLUMN3::TIMESTAMP_NTZ AS ENDS_AT, COLUMN4 AS ROW_COUNT FROM VALUES "
        "('2024-01-01', '2024-01-01 00:00:00'::TIMESTAMP_NTZ, '2024-01-02 00:00:00'::TIMESTAMP_NTZ, 7) WHERE (SELECT 7) = 7) AS built "
        "ON kept.TABLE_NAME = 'MAU' AND kept.PARTITION_KEY = built.PARTITION_KEY "
        f"WHEN MATCHED THEN UPDATE SET RUN_ID = {run}, SNAPSHOT_AT = {at}, QUERY_ID = '01b2', STARTS_AT = built.STARTS_AT, "
        f"ENDS_AT = built.ENDS_AT, ROW_COUNT = built.ROW_COUNT, PUBLISHED_AT = {NOW} "
        "WHEN NOT MATCHED THEN INSERT "
        "(TABLE_NAME, PARTITION_KEY, RUN_ID, SNAPSHOT_AT, QUERY_ID, STARTS_AT, ENDS_AT, ROW_COUNT, PUBLISHED_AT) VALUES "
        f"('MAU', built.PARTITION_KEY, {run}, {at}, '01b2', built.STARTS_AT, built.ENDS_AT, built.ROW_COUNT, {NOW})"
    )
    # The first publish has taken nothing away, and needs no condition.
    first = partitions.record_sql(TARGET, noted, rows, MARKER)
    assert first == record.replace("'01b2'", "NULL").replace(" WHERE (SELECT 7) = 7", "")


def test_markers_tell_the_lock_from_the_partitions() -> None:
    lock = ("MAU", None, None, None, "0", "2024", None, datetime(2024, 1, 9), None)  # noqa: DTZ001 - as the connector gives it
    times = (datetime(2024, 1, 1), datetime(2024, 1, 2))  # noqa: DTZ001
    row = ("MAU", "2024-01-01", *times, "1", "2025", 7, datetime(2024, 1, 9), "01b2")  # noqa: DTZ001
    found = partitions.markers_of([(*lock[:4], None, None, *lock[6:]), lock, row])
    assert found.first == Marker("run", "0", "2024")
    assert found.partitions == (
        PublishedPartition("2024-01-01", moment(1), moment(2), Marker("run", "1", "2025"), 7, moment(9), "01b2"),
    )


COLUMNS = (Column("DAY", "DATE"), Column("N", "NUMBER", 38, 2), Column("T", "TEXT", length=10))


@pytest.mark.parametrize(
    ("new", "added", "others"),
    [
        (COLUMNS, [], []),
        ((*COLUMNS, Column("M", "FLOAT")), ["M"], []),
        (COLUMNS[:2], [], ["no column T"]),
        ((*COLUMNS[:2], Column("T", "TEXT", length=5)), [], []),
        (
            (COLUMNS[0], Column("N", "NUMBER", 38, 3), COLUMNS[2]),
            [],
            ["N of type NUMBER(38,3), published as NUMBER(38,2)"],
        ),
        ((COLUMNS[0], Column("N", "NUMBER", 38, 0), COLUMNS[2]), [], []),
        ((COLUMNS[0], Column("N", "FLOAT"), COLUMNS[2]), [], ["N of type FLOAT, published as NUMBER(38,2)"]),
    ],
)
def test_column_change_that_loses_something_is_told_from_a_new_column(
    new: Sequence[Column], added: list[str], others: list[str]
) -> None:
    found, told = row_exchange.column_changes(COLUMNS, new)
    assert ([column.name for column in found], told) == (added, others)


def test_new_column_is_added_at_the_end() -> None:
    assert row_exchange.add_column_sql(TARGET, Column("a b", "NUMBER", 38, 2)) == (
        f'ALTER TABLE {X} ADD COLUMN IF NOT EXISTS "a b" NUMBER(38,2)'
    )


def test_production_names_its_partitions() -> None:
    keys = tuple(f"2024-01-{day:02}" for day in range(1, 9))
    assert partition_words(keys[:1]) == "partition 2024-01-01"
    assert re.fullmatch(r"partitions 2024-01-01, .*, 2024-01-05 and 3 more", partition_words(keys))
    for production, says in [
        (Production("unchanged", partitions=keys[:1]), "Readers see what they saw before of partition 2024-01-01."),
        (Production("new", partitions=keys[:1]), "Readers see the new rows of partition 2024-01-01."),
        (
            Production("unknown", run_id="r", target="t", partitions=keys[:2]),
            "Whether readers see the new rows of partitions",
        ),
        (Production("none", partitions=keys[:1]), "There is no published table yet."),
    ]:
        assert production.words.startswith(says)
        assert Production.from_json(production.to_json()) == production


def test_partitioned_table_is_not_rolled_back_as_a_whole() -> None:
    # Nothing is asked for that, so there is nobody to ask.
    planner = RollbackPlanner(cast("StatementRunner", None), a_table(), database="PROD")
    with pytest.raises(PublishRefusedError, match="got one whose partitions are exchanged in place"):
        planner.plan()


def test_slice_of_a_whole_table_is_refused_before_anything_is_sent() -> None:
    whole = AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n"})
    with pytest.raises(ValueError, match=r"a slice requires a table with partitions, got analytics\.mau"):
        list(
            run_tables(
                cast("Session", None),
                catalogue([whole]),
                [whole.key],
                slices={whole.key: days(1, 1)},
                **run_arguments("0"),
            )
        )
