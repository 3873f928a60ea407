"""How the answer to an audit is judged, and what a person reads of it: whole verdicts."""

from dataclasses import replace
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
    CatalogueAudit,
    Measure,
    Numbers,
    QueryAudit,
    ScanAudit,
    bad_rows_measure,
    scan_sql,
    schema_changes,
)
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable

CANDIDATE = Relation("PROD", "A", "TEMP_T__8F3A01C2")
NUMBER, DATE = Column("A", "NUMBER", 38, 0), Column("B", "DATE")


def an_audit(**changes: Any) -> Audit:
    """Return the first audit of a table but the row count."""
    table = {"schema": "a", "table": "t", "sql": "select 1 as n", **changes}
    return audits_of(AnalyticsTable.model_validate(table))[1]


def judged(audit: Audit, *values: Any, is_target: bool = False, **inspection: Any) -> AuditOutcome:
    return audit.judge(Numbers(values, "q"), Audited(CANDIDATE, Inspection(**inspection), is_target))


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        (Bounds(1000, 2000), (1000, 2000), (999, 2001), "at least 1,000 and at most 2,000"),
        (Bounds(1000), (1000, 10**9), (999,), "at least 1,000"),
        (Bounds(max=1000), (1000, -1), (1001,), "at most 1,000"),
        (Bounds(1000, 1000), (1000,), (999, 1001), "exactly 1,000"),
        (Bounds(0, 0), (0,), (-1, 1), "exactly 0"),
        (Bounds(), (0,), (), "any number"),
    ],
)
def test_bounds_hold_at_both_ends(
    bounds: Bounds, inside: tuple[int, ...], outside: tuple[int, ...], words: str
) -> None:
    assert [bounds.hold(value) for value in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)
    assert str(bounds) == words


ROWS, HOURS = Measure("COUNT(*)", "rows", Bounds(2)), Measure("h", "hours", Bounds(0, 24))
BAD, WORSE = bad_rows_measure("b", "bad rows"), bad_rows_measure("w", "worse rows")
SCAN = ScanAudit(name="x", kind="sql", description="", measures=(ROWS, HOURS, BAD, WORSE))


@pytest.mark.parametrize(
    ("values", "passed", "bad_rows", "words"),
    [
        (
            (2, Decimal("1.50"), 0, Decimal(0)),
            True,
            0,
            (
                "2 rows, expected at least 2; 1.50 hours, expected at least 0 and at most 24; 0 bad rows, expected at most 0; "
                "0 worse rows, expected at most 0"
            ),
        ),
        (
            (1000, 1024.5, 1, 2),
            False,
            3,
            (
                "1,024.50 hours, expected at least 0 and at most 24; 1 bad rows, expected at most 0; "
                "2 worse rows, expected at most 0"
            ),
        ),
        # Rounded, it would be inside its bounds.
        ((2, 24.001, 0, 0), False, 0, "24.001 hours, expected at least 0 and at most 24"),
        ((2, 24.006, 0, 0), False, 0, "24.01 hours, expected at least 0 and at most 24"),
        ((None, 1.0, 0, None), False, 0, "no rows, expected at least 2; no worse rows, expected at most 0"),
        ((1, 1, 0, 0), False, 0, "1 row, expected at least 2"),
        ((2, 1, None, None), False, None, "no bad rows, expected at most 0; no worse rows, expected at most 0"),
    ],
)
def test_verdict_is_on_every_number(values: tuple[Any, ...], passed: bool, bad_rows: int | None, words: str) -> None:
    outcome = judged(SCAN, *values)
    assert (outcome.passed, outcome.blocks, outcome.bad_rows) == (passed, not passed, bad_rows)
    assert str(outcome) == f"check x found {words}"
    assert outcome == AuditOutcome(
        SCAN,
        dict(zip(("rows", "hours", "bad rows", "worse rows"), values, strict=True)),
        "q",
        query=f"SELECT\n  COUNT(*),\n  h,\n  b,\n  w\nFROM {CANDIDATE.sql}",
    )


@pytest.mark.parametrize(
    ("answered", "kept"), [(Decimal(7), 7), (Decimal("7.5"), 7.5), (7.5, 7.5), (7, 7), (None, None)]
)
def test_number_is_a_whole_one_where_snowflake_says_so(answered: Any, kept: Any) -> None:
    got = judged(replace(SCAN, measures=(ROWS,)), answered).got["rows"]
    assert (got, type(got)) == (kept, type(kept))


def test_answer_of_another_length_than_the_question_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        judged(SCAN, 1, 2, 3)


def test_scan_asks_for_more_behind_the_measures() -> None:
    assert scan_sql([SCAN], CANDIDATE, more=["MAX(x)", "1"]) == (
        f"SELECT\n  COUNT(*),\n  h,\n  b,\n  w,\n  MAX(x),\n  1\nFROM {CANDIDATE.sql}"
    )


def test_rows_that_are_wrong_are_counted_and_shown_by_the_query_of_an_author() -> None:
    audit = QueryAudit(name="x", kind="sql", description="", query="select * from {table}, {table}")
    rows = f"select * from {CANDIDATE.sql}, {CANDIDATE.sql}"
    count = f"SELECT COUNT(*) FROM (SELECT 1 AS BAD FROM (\n{rows}\n) LIMIT 10001)"
    assert (audit.count_limit, audit.scanned, audit.is_metadata) == (10_000, (), False)
    assert audit.sample_sql(CANDIDATE, rows=3) == f"SELECT * FROM (\n{rows}\n) LIMIT 3"
    assert judged(audit, 10_000) == AuditOutcome(audit, {"rows that are wrong": 10_000}, "q", query=count)
    assert str(judged(audit, 10_000)) == "check x found 10,000 rows that are wrong, expected at most 0"
    assert judged(audit, 10_000).bad_rows == 10_000
    assert judged(audit, 0).passed


def test_audit_without_rows_to_show_shows_none() -> None:
    assert SCAN.sample_sql(CANDIDATE, rows=3) == ""
    assert an_audit(columns={"a": "int"}).sample_sql(CANDIDATE, rows=3) == ""


CHANGE = an_audit(checks={"row_count_change": {"max_drop": "50%", "max_growth": "100%", "min_rows": 3}})
QUERY = f"SELECT\n  COUNT(*)\nFROM {CANDIDATE.sql}"


@pytest.mark.parametrize(
    ("rows", "before", "change", "passed"),
    [
        (2, 3, -33.3333, True),
        (4, 8, -50, True),
        (3999, 8000, -50.0125, False),
        (6, 3, 100, True),
        (7, 3, 133.3333, False),
    ],
)
def test_change_of_the_row_count_is_judged_in_percent(rows: int, before: int, change: float, passed: bool) -> None:
    outcome = judged(CHANGE, Decimal(rows), target=TableVersion("T", before))
    got = {"% change of the row count": change, "rows": rows, "rows published": before}
    assert (outcome, outcome.passed) == (AuditOutcome(CHANGE, got, "q", query=QUERY), passed)


@pytest.mark.parametrize(
    ("rows", "change", "words"),
    [
        (10**8, 0, None),
        (10**8 - 1, -1e-06, "-0.000001 % change of the row count, expected exactly 0.0"),
        (10**8 + 2, 2e-06, "0.000002 % change of the row count, expected exactly 0.0"),
    ],
)
def test_one_row_of_a_large_table_is_a_change(rows: int, change: float, words: str | None) -> None:
    audit = an_audit(checks={"row_count_change": {"max_drop": "0%", "max_growth": "0%"}})
    outcome = judged(audit, rows, target=TableVersion("T", 10**8))
    assert outcome.got["% change of the row count"] == change
    assert outcome.passed is (words is None)
    assert words is None or str(outcome) == f"check row_count_change found {words}"


def test_change_too_small_to_show_has_no_sign_where_it_is_allowed() -> None:
    audit = an_audit(checks={"row_count_change": {"max_drop": "1%"}})
    outcome = judged(audit, 10**8 - 1, target=TableVersion("T", 10**8))
    assert outcome.passed
    assert str(outcome.got["% change of the row count"]) == "0.0"


NOTHING_PUBLISHED = "there is no published table to compare with"


@pytest.mark.parametrize(
    ("rows", "target", "is_target", "note"),
    [
        (1, None, False, NOTHING_PUBLISHED),
        (1, TableVersion("V"), False, NOTHING_PUBLISHED),
        (1, TableVersion("T", 100), True, NOTHING_PUBLISHED),
        (1, TableVersion("T", 2), False, "the published table has 2 rows, and fewer than 3 are not compared"),
    ],
)
def test_row_count_is_not_compared_with_nothing(
    rows: int, target: TableVersion | None, is_target: bool, note: str
) -> None:
    outcome = judged(CHANGE, rows, target=target, is_target=is_target)
    assert outcome == AuditOutcome(CHANGE, {}, "q", query=QUERY, note=note)
    assert (outcome.passed, str(outcome)) == (True, f"check row_count_change does not apply: {note}")


def test_row_count_is_never_compared_with_an_empty_table() -> None:
    change = an_audit(checks={"row_count_change": {"max_drop": "50%", "min_rows": 0}})
    outcome = judged(change, 1, target=TableVersion("T", 0))
    assert outcome.note == "the published table has 0 rows, and fewer than 1 are not compared"
    assert judged(change, 1, target=TableVersion("T", 1)).got["% change of the row count"] == 0


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ((NUMBER, DATE, Column("C", "TEXT")), None),
        ((NUMBER,), "no column B, C"),
        ((NUMBER, DATE, Column("C", "TEXT"), Column("D", "DATE"), Column("E", "DATE")), "undeclared columns D, E"),
        (
            (Column("A", "DATE"), Column("B", "TEXT", length=5), Column("C", "DATE")),
            "A of type DATE, expected int; B of type VARCHAR(5), expected date",
        ),
        ((DATE, Column("D", "DATE")), "no column A, C; undeclared columns D"),
    ],
)
def test_contract_names_all_that_differs(columns: tuple[Column, ...], found: str | None) -> None:
    audit = an_audit(columns={"a": "int", "b": "date", "c": {}})
    for is_target in (False, True):
        where = "target_columns" if is_target else "candidate_columns"
        outcome = judged(audit, is_target=is_target, **{where: columns})
        assert outcome == AuditOutcome(audit, {}, found=found)
        assert outcome.passed is (found is None)
        assert str(outcome) == f"check columns found {found or 'what it expects'}"


CHANGED = Inspection(
    candidate_columns=(NUMBER, Column("C", "DATE"), Column("D", "DATE")), target_columns=(DATE, NUMBER)
)


@pytest.mark.parametrize(
    ("inspection", "changes"),
    [
        (CHANGED, ("columns added: C, D", "columns removed: B")),
        (replace(CHANGED, candidate_columns=(Column("A", "DATE"), DATE)), ("columns retyped: A NUMBER(38,0) -> DATE",)),
        (replace(CHANGED, candidate_columns=(NUMBER, DATE)), ()),
        (replace(CHANGED, target_columns=()), ()),
        (replace(CHANGED, candidate_columns=()), ()),
    ],
)
def test_changes_of_columns_are_told_by_kind(inspection: Inspection, changes: tuple[str, ...]) -> None:
    assert schema_changes(inspection) == changes


def test_change_of_columns_fails_where_it_must_not_be() -> None:
    audit = an_audit(schema_change="fail")
    columns = {"candidate_columns": (NUMBER, Column("C", "DATE")), "target_columns": (NUMBER, DATE)}
    found = "columns added: C; columns removed: B, expected no change"
    assert judged(audit, **columns) == AuditOutcome(audit, {}, found=found)
    assert judged(audit, candidate_columns=(NUMBER,), target_columns=(NUMBER,)) == AuditOutcome(audit, {})
    first = AuditOutcome(audit, {}, note="there is no other table to compare with")
    assert judged(audit, candidate_columns=(NUMBER,)) == judged(audit, is_target=True, **columns) == first


def test_error_is_a_failed_verdict_that_keeps_what_was_asked() -> None:
    outcome = SCAN.failed_to_run(CANDIDATE, "no such column", "01b2")
    query = f"SELECT\n  COUNT(*),\n  h,\n  b,\n  w\nFROM {CANDIDATE.sql}"
    assert outcome == AuditOutcome(SCAN, {}, "01b2", error="no such column", query=query)
    assert (outcome.passed, outcome.bad_rows) == (False, None)
    assert str(outcome) == "check x could not be evaluated: no such column"


def test_catalogue_is_asked_without_a_query() -> None:
    audit = an_audit(columns={"a": "int"})
    assert isinstance(audit, CatalogueAudit)
    assert (audit.query_sql(CANDIDATE), audit.scanned, audit.count_limit, audit.is_metadata) == ("", (), None, False)
