"""What each kind of check asks of a candidate: whole audits, so no part of a question goes untested."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import (
    Audit,
    Bounds,
    ContractAudit,
    Measure,
    QueryAudit,
    RowCountAudit,
    RowCountChangeAudit,
    ScanAudit,
    SchemaChangeAudit,
)
from run_elt_dagster.model.table import AnalyticsTable


def declared(**changes: Any) -> tuple[Audit, ...]:
    """Return the audits behind the row count."""
    table = {"schema": "analytics", "table": "mau", "sql": "select 1 as n", **changes}
    return audits_of(AnalyticsTable.model_validate(table))[1:]


def bad_rows(sql: str, counts: str) -> Measure:
    return Measure(sql, counts, Bounds(max=0), counts_bad_rows=True)


def test_row_count_is_asked_first_and_with_the_severity_that_is_declared() -> None:
    checks = {"row_count": {"min": 2, "max": 5, "severity": "warn"}, "not_null": "a"}
    table = AnalyticsTable.model_validate({"schema": "a", "table": "b", "sql": "select 1 as n", "checks": checks})
    assert audits_of(table)[0] == RowCountAudit(
        name="row_count",
        kind="row_count",
        description="The number of rows is at least 2 and at most 5.",
        severity="warn",
        measures=(Measure("COUNT(*)", "rows", Bounds(2, 5)),),
        is_of_table=True,
    )


@pytest.mark.parametrize(
    ("rule", "bounds", "description"),
    [
        (
            {"max_drop": "50%", "max_growth": "33.3%", "min_rows": 2000, "severity": "warn"},
            Bounds(-50, 33.3),
            (
                "The number of rows changes by at least -50.0 and at most 33.3 % against the published table, if that has 2,000 "
                "rows or more."
            ),
        ),
        (
            {"max_growth": "200%", "severity": "warn"},
            Bounds(None, 200),
            "The number of rows changes by at most 200.0 % against the published table, if that has 100 rows or more.",
        ),
        (
            {"max_drop": "12.345678901%", "severity": "warn"},
            Bounds(-12.345678901),
            "The number of rows changes by at least -12.345678901 % against the published table, if that has 100 rows or more.",
        ),
        (
            {"max_drop": "0%", "severity": "warn"},
            Bounds(0),
            "The number of rows changes by at least 0.0 % against the published table, if that has 100 rows or more.",
        ),
    ],
)
def test_row_count_change_is_asked_in_percent(rule: dict[str, Any], bounds: Bounds, description: str) -> None:
    assert declared(checks={"row_count_change": rule}) == (
        RowCountChangeAudit(
            name="row_count_change",
            kind="row_count_change",
            description=description,
            severity="warn",
            measures=(Measure("COUNT(*)", "% change of the row count", bounds),),
            min_rows=rule.get("min_rows", 100),
            is_of_table=True,
        ),
    )


def test_columns_are_asked_of_the_catalogue_by_their_stored_names() -> None:
    assert declared(columns={"a": "int", '"b c"': {"description": "any type"}}, schema_change="fail") == (
        ContractAudit(
            name="columns",
            kind="columns",
            description='Columns and types are the declared ones: a, "b c".',
            contract={"A": "int", "b c": None},
        ),
        SchemaChangeAudit(
            name="schema_change", kind="schema_change", description="The columns are those of the published table."
        ),
    )


def test_primary_key_is_never_null_and_has_no_duplicates() -> None:
    assert declared(primary_key=["a", '"b c"']) == (
        ScanAudit(
            name="primary_key",
            kind="primary_key",
            description='a, "b c" identifies a row and is never NULL.',
            measures=(
                bad_rows('COUNT(CASE WHEN "A" IS NULL OR "b c" IS NULL THEN 1 END)', "rows with a NULL key"),
                bad_rows(
                    'COUNT(CASE WHEN NOT ("A" IS NULL OR "b c" IS NULL) THEN 1 END) - COUNT(DISTINCT "A", "b c")',
                    "rows with a duplicate key",
                ),
            ),
            bad_rows_sql=(
                'SELECT * FROM {table} QUALIFY ("A" IS NULL OR "b c" IS NULL) OR (NOT ("A" IS NULL OR "b c" IS NULL) '
                'AND COUNT(*) OVER (PARTITION BY "A", "b c") > 1)'
            ),
        ),
    )


def test_columns_without_null_are_counted_one_by_one() -> None:
    assert declared(checks={"not_null": {"columns": ["a", '"b c"'], "severity": "warn"}}) == (
        ScanAudit(
            name="not_null",
            kind="not_null",
            description='a, "b c" are never NULL.',
            severity="warn",
            measures=(
                bad_rows('COUNT(CASE WHEN "A" IS NULL THEN 1 END)', "rows with a NULL a"),
                bad_rows('COUNT(CASE WHEN "b c" IS NULL THEN 1 END)', 'rows with a NULL "b c"'),
            ),
            bad_rows_sql='SELECT * FROM {table} WHERE "A" IS NULL OR "b c" IS NULL',
        ),
    )


def test_unique_columns_may_be_null() -> None:
    assert declared(checks={"unique": [{"columns": ["a"], "severity": "warn"}]}) == (
        ScanAudit(
            name="unique_a",
            kind="unique",
            description="a identifies a row where none of them is NULL.",
            severity="warn",
            measures=(
                bad_rows(
                    'COUNT(CASE WHEN NOT ("A" IS NULL) THEN 1 END) - COUNT(DISTINCT "A")', "rows with a duplicate key"
                ),
            ),
            bad_rows_sql=('SELECT * FROM {table} QUALIFY (NOT ("A" IS NULL) AND COUNT(*) OVER (PARTITION BY "A") > 1)'),
        ),
    )


@pytest.mark.parametrize(
    ("kind", "rule", "words", "bad"),
    [
        (
            "accepted_values",
            {"values": [True, False]},
            "is one of true, false, or NULL",
            "\"A\"::VARCHAR NOT IN ('true', 'false')",
        ),
        (
            "accepted_values",
            {"values": [1, Decimal("2.50"), 0.5]},
            "is one of 1, 2.50, 0.5, or NULL",
            '"A" NOT IN (1, 2.50, 0.5)',
        ),
        ("accepted_values", {"values": ["x"]}, "is one of x, or NULL", "\"A\" NOT IN ('x')"),
        ("matches", {"pattern": "x+"}, "matches `x+` as a whole, or is NULL", "NOT REGEXP_LIKE(\"A\", 'x+')"),
        (
            "range",
            {"min": 0, "max": 5},
            "is at least 0 and at most 5, or NULL",
            '"A" < 0 OR "A" > 5 OR "A"::FLOAT = \'NaN\'::FLOAT',
        ),
        (
            "range",
            {"max": date(2026, 11, 27)},
            "is at most 2026-11-27, or NULL",
            "\"A\" > '2026-11-27'::DATE",
        ),
    ],
)
def test_condition_on_a_column_is_true_for_rows_that_are_wrong(
    kind: str, rule: dict[str, Any], words: str, bad: str
) -> None:
    assert declared(checks={kind: {"a": {**rule, "severity": "warn"}}}) == (
        ScanAudit(
            name=f"{kind}_a",
            kind=kind,
            description=f"a {words}.",
            severity="warn",
            measures=(bad_rows(f"COUNT(CASE WHEN {bad} THEN 1 END)", "rows with another a"),),
            bad_rows_sql=f"SELECT * FROM {{table}} WHERE {bad}",
        ),
    )


def test_freshness_is_asked_in_hours() -> None:
    rule = {"max_age_hours": Decimal("1.5"), "max_ahead_hours": 2, "severity": "warn"}
    age = 'DATE_PART(EPOCH_SECOND, CURRENT_TIMESTAMP()) - DATE_PART(EPOCH_SECOND, MAX("A"))'
    assert declared(checks={"freshness": {"a": rule}}) == (
        ScanAudit(
            name="freshness_a",
            kind="freshness",
            description="The latest a is at most 1.5 hours old, and at most 2 hours ahead.",
            severity="warn",
            measures=(Measure(f"({age}) / 3600", "hours since the latest a", Bounds(-2, 1.5)),),
            is_of_table=True,
        ),
    )


def test_relationship_asks_for_rows_without_a_partner() -> None:
    assert declared(checks={"relationship": {"a": {"to": "raw.keys.k", "severity": "warn"}}}) == (
        QueryAudit(
            name="relationship_a",
            kind="relationship",
            description="Every a but NULL is in raw.keys.k.",
            severity="warn",
            query=(
                'SELECT * FROM {table} AS audited WHERE audited."A" IS NOT NULL AND NOT EXISTS '
                '(SELECT 1 FROM "RAW"."KEYS" AS related WHERE related."K" = audited."A")'
            ),
            is_by_row=True,
        ),
    )


def test_query_of_an_author_is_asked_as_it_is_written() -> None:
    rule = {"query": " select * from {table}\nwhere a < 0;; ", "severity": "warn"}
    assert declared(checks={"sql": {"negative": rule}}) == (
        QueryAudit(
            name="negative",
            kind="sql",
            description="The query `negative` returns no rows.",
            severity="warn",
            query="SELECT * FROM (\nselect * from {table}\nwhere a < 0\n)",
        ),
    )
