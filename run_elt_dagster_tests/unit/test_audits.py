from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from run_elt_dagster.audit.catalogue import Column, Inspection
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import (
    Audit,
    Audited,
    AuditOutcome,
    Bounds,
    Numbers,
    ReadingPlan,
    reading_plan,
    scan_sql,
    schema_changes,
)
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable

CANDIDATE = Relation("PROD", "ANALYTICS", "TEMP_MAU__8F3A01C2")
FROM = 'FROM "PROD"."ANALYTICS"."TEMP_MAU__8F3A01C2"'


def a_table(**changes: Any) -> AnalyticsTable:
    return AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n", **changes})


def audit_named(name: str, **changes: Any) -> Audit:
    return next(audit for audit in audits_of(a_table(**changes)) if audit.name == name)


def judged(audit: Audit, *values: Any, inspection: Inspection | None = None) -> AuditOutcome:
    return audit.judge(Numbers(values, "q"), Audited(CANDIDATE, inspection or Inspection()))


def test_row_count_alone_is_one_number() -> None:
    assert scan_sql(audits_of(a_table()), CANDIDATE) == f"SELECT\n  COUNT(*)\n{FROM}"


def test_all_simple_audits_are_measured_in_one_scan() -> None:
    assert scan_sql(audits_of(a_table(primary_key=["a", '"b c"'])), CANDIDATE) == (
        "SELECT\n  COUNT(*),\n"
        '  COUNT(CASE WHEN "A" IS NULL OR "b c" IS NULL THEN 1 END),\n'
        '  COUNT(CASE WHEN NOT ("A" IS NULL OR "b c" IS NULL) THEN 1 END) - COUNT(DISTINCT "A", "b c")\n'
        f"{FROM}"
    )


@pytest.mark.parametrize(
    ("declared", "plan", "words"),
    [
        ({}, ReadingPlan((), ("row_count",), (), ()), "metadata alone: row_count"),
        (
            {"schema_change": "fail", "checks": {"row_count_change": {"max_drop": "50%"}}},
            ReadingPlan(("schema_change",), ("row_count", "row_count_change"), (), ()),
            "metadata alone: row_count, row_count_change; the catalogue: schema_change",
        ),
        (
            {"columns": {"a": "int"}, "checks": {"not_null": ["a"], "relationship": {"a": "s.t.b"}}},
            ReadingPlan(("columns",), (), ("row_count", "not_null"), ("relationship_a",)),
            "one scan: row_count, not_null; a query each: relationship_a; the catalogue: columns",
        ),
    ],
)
def test_plan_says_what_checks_read(declared: dict[str, Any], plan: ReadingPlan, words: str) -> None:
    found = reading_plan(audits_of(a_table(**declared)))
    assert (found, str(found)) == (plan, words)


@pytest.mark.parametrize(
    ("checks", "name", "measure"),
    [
        ({"not_null": ["a"]}, "not_null", 'COUNT(CASE WHEN "A" IS NULL THEN 1 END)'),
        (
            {"accepted_values": {"a": ["x", "y'z"]}},
            "accepted_values_a",
            "COUNT(CASE WHEN \"A\" NOT IN ('x', 'y''z') THEN 1 END)",
        ),
        ({"matches": {"a": "\\d+"}}, "matches_a", "COUNT(CASE WHEN NOT REGEXP_LIKE(\"A\", '\\\\d+') THEN 1 END)"),
        (
            {"accepted_values": {"a": [True, False]}},
            "accepted_values_a",
            "COUNT(CASE WHEN \"A\"::VARCHAR NOT IN ('true', 'false') THEN 1 END)",
        ),
        (
            {"range": {"a": {"min": Decimal("1.10"), "max": Decimal("1E+3")}}},
            "range_a",
            'COUNT(CASE WHEN "A" < 1.10 OR "A" > 1000 OR "A"::FLOAT = \'NaN\'::FLOAT THEN 1 END)',
        ),
        (
            {"range": {"a": {"min": 0}}},
            "range_a",
            'COUNT(CASE WHEN "A" < 0 OR "A"::FLOAT = \'NaN\'::FLOAT THEN 1 END)',
        ),
    ],
)
def test_condition_is_measured_by(checks: dict[str, Any], name: str, measure: str) -> None:
    (found,) = audit_named(name, checks=checks).measures
    assert found.sql == measure


def described(checks: dict[str, Any], name: str) -> str:
    return audit_named(name, checks=checks).description


def test_not_null_describes_and_shows_the_rows_of_every_column() -> None:
    one = audit_named("not_null", checks={"not_null": {"columns": ["a"], "severity": "warn"}})
    assert one.description == "a is never NULL."
    assert one.severity == "warn"
    two = audit_named("not_null", checks={"not_null": ["a", "b"]})
    assert two.description == "a, b are never NULL."
    assert [(measure.sql, measure.counts, measure.bounds) for measure in two.measures] == [
        ('COUNT(CASE WHEN "A" IS NULL THEN 1 END)', "rows with a NULL a", Bounds(max=0)),
        ('COUNT(CASE WHEN "B" IS NULL THEN 1 END)', "rows with a NULL b", Bounds(max=0)),
    ]
    assert two.sample_sql(CANDIDATE, rows=5) == (
        f'SELECT * FROM (\nSELECT * {FROM} WHERE "A" IS NULL OR "B" IS NULL\n) LIMIT 5'
    )


def test_range_is_described_by_the_bounds_that_it_has() -> None:
    assert described({"range": {"a": {"min": 0}}}, "range_a") == "a is at least 0, or NULL."
    assert described({"range": {"a": {"max": Decimal("1E+3")}}}, "range_a") == "a is at most 1000, or NULL."
    assert described({"range": {"a": {"min": 1, "max": 2}}}, "range_a") == "a is at least 1 and at most 2, or NULL."


@pytest.mark.parametrize(
    ("bound", "literal"),
    [
        (date(2026, 11, 27), "'2026-11-27'::DATE"),
        (datetime(2026, 11, 27, 1, 2, 3), "'2026-11-27 01:02:03'::TIMESTAMP_NTZ"),  # noqa: DTZ001 - the column has none
        (datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC), "'2026-11-27 01:02:03+00:00'::TIMESTAMP_TZ"),
    ],
)
def test_bound_of_time_keeps_whether_it_has_a_time_zone(bound: date, literal: str) -> None:
    (measure,) = audit_named("range_a", checks={"range": {"a": {"min": bound}}}).measures
    assert measure.sql == f'COUNT(CASE WHEN "A" < {literal} THEN 1 END)'


def test_freshness_is_the_age_of_the_latest_row_in_hours() -> None:
    audit = audit_named("freshness_a", checks={"freshness": {"a": {"max_age_hours": 24, "severity": "warn"}}})
    (measure,) = audit.measures
    assert measure.sql == ('(DATE_PART(EPOCH_SECOND, CURRENT_TIMESTAMP()) - DATE_PART(EPOCH_SECOND, MAX("A"))) / 3600')
    assert measure.counts == "hours since the latest a"
    assert measure.bounds == Bounds(min=-24, max=24)
    assert audit.severity == "warn"


def test_question_without_an_answer_fails_and_keeps_what_was_asked() -> None:
    outcome = audit_named("not_null", checks={"not_null": ["a"]}).failed_to_run(CANDIDATE, "no such column", "01b2")
    assert (outcome.error, outcome.query_id) == ("no such column", "01b2")
    assert outcome.query == f'SELECT\n  COUNT(CASE WHEN "A" IS NULL THEN 1 END)\n{FROM}'
    assert audit_named("columns", columns={"a": {}}).failed_to_run(CANDIDATE, "no answer").query == ""


def test_query_of_an_author_is_asked_of_the_candidate_at_every_place() -> None:
    audit = audit_named(
        "twice", checks={"sql": {"twice": "select * from {table} where a > (select max(b) from {table})"}}
    )
    assert audit.sample_sql(CANDIDATE, rows=2).count(CANDIDATE.sql) == 2


def test_query_of_rows_is_counted_up_to_a_limit() -> None:
    audit = audit_named("negative", checks={"sql": {"negative": "select * from {table} where a < 0;"}})
    assert audit.query_sql(CANDIDATE) == (
        "SELECT COUNT(*) FROM (SELECT 1 AS BAD FROM (\nSELECT * FROM (\n"
        f"select * from {CANDIDATE.sql} where a < 0\n)\n) LIMIT 10001)"
    )
    assert "more than 10,000 rows that are wrong" in str(judged(audit, 10_001))


def test_checks_of_names_that_dagster_refuses_have_names_of_their_own() -> None:
    names = [audit.name for audit in audits_of(a_table(checks={"unique": ['"a b"', '"a-b"', "a", ["a", "b"]]}))]
    assert names[3:] == ["unique_a", "unique_a_b"]
    assert len(set(names)) == 5
    assert all(name.replace("_", "").isalnum() for name in names)


def test_checks_of_other_columns_have_other_names() -> None:
    unique = [["a", "b"], "a_b", '"a"', "A", ["A", '"b"']]
    names = [audit.name for audit in audits_of(a_table(checks={"unique": unique, "range": {"a": {"min": 0}}}))]
    assert names[1:3] == ["unique_a_b", "unique_a_b_41f89c"]
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize(
    ("to", "is_own"),
    [
        ("analytics.mau.id", True),
        ('"ANALYTICS".Mau."id"', True),
        ("prod.ANALYTICS.mau.id", True),
        ("other.analytics.mau.id", False),
        ('analytics."mau".id', False),
        ("analytics.wau.id", False),
        ("raw_data.mau.id", False),
    ],
)
def test_relationship_to_the_own_table_is_asked_of_what_is_audited(to: str, is_own: bool) -> None:
    table = a_table(checks={"relationship": {"parent_id": to}})
    (audit,) = audits_of(table, database="PROD")[1:]
    for relation in (CANDIDATE, Relation("PROD", "ANALYTICS", "MAU")):
        assert (f"FROM {relation.sql} AS related" in audit.query_sql(relation)) is (
            is_own or (relation.name == "MAU" and to.startswith("prod."))
        )


def test_text_of_a_condition_is_not_taken_for_the_table() -> None:
    audit = audit_named("accepted_values_a", checks={"accepted_values": {"a": ["{table}"]}})
    assert f"FROM {CANDIDATE.sql} WHERE \"A\" NOT IN ('{{table}}')" in audit.sample_sql(CANDIDATE, rows=3)


def test_verdicts_follow_the_bounds() -> None:
    audit = audit_named("row_count", checks={"row_count": {"min": 2, "max": 5}})
    assert [judged(audit, n).passed for n in (1, 2, 5, 6)] == [False, True, True, False]


def test_failed_verdict_says_what_was_found_and_expected() -> None:
    count = judged(audit_named("row_count"), 0)
    key = judged(audit_named("primary_key", primary_key="a"), 0, 3)
    assert str(count) == "check row_count found 0 rows, expected at least 1"
    assert str(key) == "check primary_key found 3 rows with a duplicate key, expected at most 0"
    assert key.expected == {"rows with a NULL key": "at most 0", "rows with a duplicate key": "at most 0"}
    assert key.bad_rows == 3


def test_audit_that_counts_no_bad_rows_shows_none() -> None:
    before = Inspection(TableVersion("MAU", 1000))
    table = a_table(checks={"row_count_change": {"max_drop": "50%"}})
    count, change = (judged(audit, 900, inspection=before) for audit in audits_of(table))
    assert change.got == {"% change of the row count": -10, "rows": 900, "rows published": 1000}
    assert [outcome.bad_rows for outcome in (count, change)] == [None, None]


def test_rows_of_the_table_are_those_that_the_row_count_has_counted() -> None:
    """By their kind: an audit of another kind may be called anything, and may count rows too."""
    checks = {"row_count_change": {"max_drop": "50%"}, "not_null": ["a"], "sql": {"rows": "select * from {table}"}}
    outcomes = [judged(audit, Decimal(7)) for audit in audits_of(a_table(checks=checks))]
    assert [(outcome.audit.name, outcome.row_count) for outcome in outcomes if outcome.row_count is not None] == [
        ("row_count", 7)
    ]
    assert judged(audit_named("row_count"), None).row_count is None


def test_name_of_an_audit_decides_nothing() -> None:
    table = a_table(
        primary_key="a",
        columns={"a": {"type": "int"}},
        schema_change="fail",
        checks={
            "row_count_change": {"max_drop": "50%"},
            "freshness": {"a": 1},
            "relationship": {"a": "raw.keys.a"},
            "sql": {"own": "select * from {table}"},
        },
    )
    columns = (Column("A", "TEXT"),)
    inspection = Inspection(TableVersion("MAU", 1000), (), (Column("A", "NUMBER", 38, 0),), columns)
    for audit in audits_of(table):
        values = [3 for _ in audit.measures]
        outcome = judged(audit, *values, inspection=inspection)
        renamed = judged(replace(audit, name="x"), *values, inspection=inspection)
        assert renamed == replace(outcome, audit=renamed.audit)
        assert renamed.audit.query_sql(CANDIDATE) == audit.query_sql(CANDIDATE)


def test_every_measure_called_rows_that_are_wrong_counts_bad_rows() -> None:
    checks = {
        "row_count_change": {"max_drop": "50%"},
        "unique": ["a"],
        "not_null": ["a"],
        "accepted_values": {"a": [1]},
        "matches": {"b": "x"},
        "range": {"a": {"min": 1}},
        "freshness": {"c": 1},
        "relationship": {"a": "raw.keys.a"},
        "sql": {"own": "select * from {table}"},
    }
    audits = audits_of(a_table(primary_key="a", checks=checks))
    counting = {audit.name for audit in audits if any(measure.counts_bad_rows for measure in audit.measures)}
    assert {audit.name for audit in audits} - counting == {"row_count", "row_count_change", "freshness_c"}
    assert {audit.name for audit in audits if audit.sample_sql(CANDIDATE, rows=1)} == counting


def test_limit_of_counting_is_told_only_where_a_query_counts() -> None:
    rows = judged(audit_named("row_count", checks={"row_count": {"min": 20_000}}), 10_001)
    own = judged(audit_named("own", checks={"sql": {"own": "select * from {table}"}}), 10_001)
    assert str(rows) == "check row_count found 10,001 rows, expected at least 20,000"
    assert str(own) == "check own found more than 10,000 rows that are wrong, expected at most 0"


def test_query_that_fails_is_not_a_pass() -> None:
    outcome = audit_named("primary_key", primary_key="a").failed_to_run(CANDIDATE, "invalid identifier A", "q1")
    assert not outcome.passed
    assert outcome.blocks
    assert str(outcome) == "check primary_key could not be evaluated: invalid identifier A"


def test_verdict_without_its_number_is_not_a_pass() -> None:
    assert not AuditOutcome(audit_named("row_count"), {}).passed
    freshness = audit_named("freshness_ts", checks={"freshness": {"ts": 36}})
    assert not judged(freshness, None).passed
    assert [judged(freshness, Decimal(age)).passed for age in ("36", "37", "-25")] == [
        True,
        False,
        False,
    ]


def test_warning_fails_and_does_not_block() -> None:
    audit = audit_named("not_null", checks={"not_null": {"columns": "a", "severity": "warn"}})
    outcome = judged(audit, 1)
    assert (outcome.passed, outcome.blocks) == (False, False)


@pytest.mark.parametrize(
    ("before", "rows", "passes"),
    [(1000, 500, True), (1000, 499, False), (1000, 3001, False), (99, 1, True), (None, 1, True)],
)
def test_row_count_is_compared_with_production(before: int | None, rows: int, passes: bool) -> None:
    table = a_table(checks={"row_count_change": {"max_drop": "50%", "max_growth": "200%"}})
    target = None if before is None else TableVersion("MAU", before)
    assert judged(audits_of(table)[1], rows, inspection=Inspection(target)).passed is passes


def test_column_contract_names_what_differs() -> None:
    audit = audit_named("columns", columns={"a": "int", "b": "varchar", "c": "date"})
    columns = (Column("A", "NUMBER", 38, 2), Column("B", "TEXT", length=16_777_216), Column("D", "DATE"))
    outcome = judged(audit, inspection=Inspection(candidate_columns=columns))
    assert outcome.found == "no column C; undeclared columns D; A of type NUMBER(38,2), expected int"
    assert outcome.blocks


def test_schema_changes_are_told_against_production() -> None:
    inspection = Inspection(
        target_columns=(Column("A", "NUMBER", 38, 0), Column("B", "DATE")),
        candidate_columns=(Column("A", "TEXT"), Column("C", "DATE")),
    )
    assert schema_changes(inspection) == (
        "columns added: C",
        "columns removed: B",
        "columns retyped: A NUMBER(38,0) -> VARCHAR",
    )


def test_sample_shows_rows_that_are_wrong() -> None:
    audit = audit_named("not_null", checks={"not_null": "a"})
    assert audit.sample_sql(CANDIDATE, rows=3) == (
        f'SELECT * FROM (\nSELECT * FROM {CANDIDATE.sql} WHERE "A" IS NULL\n) LIMIT 3'
    )


def test_bounds_read_as_words() -> None:
    assert [str(Bounds(1)), str(Bounds(max=2)), str(Bounds(1, 2)), str(Bounds(3, 3)), str(Bounds())] == [
        "at least 1",
        "at most 2",
        "at least 1 and at most 2",
        "exactly 3",
        "any number",
    ]
