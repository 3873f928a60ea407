from run_elt_dagster.audits import Bounds, audit_sql, audits_of, judge, not_evaluated
from run_elt_dagster.relation import Relation
from run_elt_dagster.table import AnalyticsTable

CANDIDATE = Relation("prod", "analytics", "temp_mau__8f3a01c2")


def a_table(**changes: object) -> AnalyticsTable:
    return AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n", **changes})


def test_row_count_alone_is_metadata_only() -> None:
    assert audit_sql(audits_of(a_table()), CANDIDATE) == (
        'SELECT\n  COUNT(*)\nFROM "PROD"."ANALYTICS"."TEMP_MAU__8F3A01C2"'
    )


def test_all_audits_are_measured_in_one_scan() -> None:
    assert audit_sql(audits_of(a_table(primary_key=["a", "b"])), CANDIDATE) == (
        "SELECT\n  COUNT(*),\n"
        '  COUNT(CASE WHEN "A" IS NULL OR "B" IS NULL THEN 1 END),\n'
        '  COUNT(CASE WHEN NOT ("A" IS NULL OR "B" IS NULL) THEN 1 END) - COUNT(DISTINCT "A", "B")\n'
        'FROM "PROD"."ANALYTICS"."TEMP_MAU__8F3A01C2"'
    )


def test_verdicts_follow_the_bounds() -> None:
    audits = audits_of(a_table(primary_key="a", checks={"row_count": {"min": 2, "max": 5}}))
    for row, expected in [((2, 0, 0), [True, True]), ((6, 0, 1), [False, False]), ((1, 3, 0), [False, False])]:
        assert [outcome.passed for outcome in judge(audits, row, "q1")] == expected


def test_failed_verdict_says_what_was_found_and_expected() -> None:
    count, key = judge(audits_of(a_table(primary_key="a")), (0, 0, 3), "q1")
    assert str(count) == "check row_count found 0 rows, expected at least 1"
    assert str(key) == "check primary_key found 3 rows with a duplicate key, expected at most 0"
    assert key.expected == {"rows with a NULL key": "at most 0", "rows with a duplicate key": "at most 0"}


def test_query_that_fails_is_not_a_pass() -> None:
    outcomes = not_evaluated(audits_of(a_table(primary_key="a")), "invalid identifier A", "q1")
    assert [outcome.passed for outcome in outcomes] == [False, False]
    assert str(outcomes[1]) == "check primary_key could not be evaluated: invalid identifier A"


def test_verdict_without_its_number_is_not_a_pass() -> None:
    (outcome,) = not_evaluated(audits_of(a_table()), "x")
    assert not type(outcome)(outcome.audit, {}, "q1").passed


def test_bounds_read_as_words() -> None:
    assert [str(Bounds(1)), str(Bounds(max=2)), str(Bounds(1, 2)), str(Bounds(3, 3)), str(Bounds())] == [
        "at least 1",
        "at most 2",
        "at least 1 and at most 2",
        "exactly 3",
        "any number",
    ]
