"""What a table file may declare as checks: where each bound is, the message of each rule, and the names of the checks."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from run_elt_dagster.model.checks import Checks
from run_elt_dagster.model.fields import LocatedError


def message(checks: dict[str, Any]) -> str:
    """Return the one problem of refused checks."""
    with pytest.raises(ValidationError) as raised:
        Checks.model_validate(checks)
    (problem,) = raised.value.errors()
    return problem["msg"].removeprefix("Value error, ")


A_NUMBER = "requires a number, a date or a timestamp with at most 6 decimals, unquoted"
TOO_LONG = "requires numbers of at most 38 digits; quote it where it is text"
HOURS = "requires a number of hours, unquoted"
NO_VALUE = "requires text, numbers, or true and false; quote what is text"
AWARE, NAIVE = datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 27)  # noqa: DTZ001 - the column has none


@pytest.mark.parametrize(
    ("checks", "rule"),
    [
        ({"not_null": []}, "requires at least one column"),
        ({"not_null": ["a", "A"]}, "requires columns that differ"),
        ({"unique": []}, "requires a column, or a list of columns and of lists of columns"),
        ({"unique": 5}, "requires a column, or a list of columns and of lists of columns"),
        ({"row_count": {"min": 3, "max": 2}}, "requires min <= max, got min 3 and max 2"),
        ({"row_count_change": {"max_drop": 50}}, "requires a percentage, as in 50%"),
        ({"row_count_change": {"max_drop": "-1%"}}, "requires a percentage, as in 50%"),
        ({"row_count_change": {"max_drop": "100.1%"}}, "requires a max_drop of at most 100%"),
        ({"row_count_change": {}}, "requires max_drop, max_growth or both"),
        ({"usual": {}}, "requires rows, null_rate, distinct, sum or several of them"),
        ({"usual": {"rows": False}}, "requires rows, null_rate, distinct, sum or several of them"),
        ({"usual": {"null_rate": []}}, "requires at least one column"),
        ({"usual": {"sum": ["a", "A"]}}, "requires columns that differ"),
        ({"accepted_values": {"a": "x"}}, "requires a list of values"),
        (
            {"accepted_values": {"a": []}},
            "requires a list of values of one kind, got none; quote each value that is text",
        ),
        (
            {"accepted_values": {"a": ["x", 1, True]}},
            "requires a list of values of one kind, got numbers and text and true/false; quote each value that is text",
        ),
        (
            {"accepted_values": {"a": ["x", 1]}},
            "requires a list of values of one kind, got numbers and text; quote each value that is text",
        ),
        ({"accepted_values": {"a": [None]}}, NO_VALUE),
        ({"accepted_values": {"a": [date(2026, 1, 1)]}}, NO_VALUE),
        ({"accepted_values": {"a": [1, float("nan")]}}, "requires finite numbers"),
        ({"accepted_values": {"a": [1, 10**38]}}, TOO_LONG),
        ({"range": {"a": {}}}, "requires min, max or both"),
        ({"range": {"a": {"min": True}}}, A_NUMBER),
        ({"range": {"a": {"min": "5"}}}, A_NUMBER),
        ({"range": {"a": {"max": Decimal("Infinity")}}}, "requires finite numbers"),
        ({"range": {"a": {"max": -(10**38)}}}, TOO_LONG),
        ({"range": {"a": {"max": Decimal("1E+38")}}}, TOO_LONG),
        ({"range": {"a": {"max": Decimal("0." + "1" * 38)}}}, TOO_LONG),
        ({"range": {"a": {"min": 2, "max": 1}}}, "requires min <= max, got min 2 and max 1"),
        ({"range": {"a": {"min": 2, "max": date(2026, 1, 1)}}}, "requires min and max of one kind"),
        (
            {"range": {"a": {"min": AWARE, "max": NAIVE}}},
            "requires min and max both with a time zone, or both without one",
        ),
        ({"freshness": {"a": True}}, HOURS),
        ({"freshness": {"a": "24"}}, HOURS),
        ({"freshness": {"a": float("inf")}}, HOURS),
        ({"freshness": {"a": 10**38}}, HOURS),
        ({"relationship": {"a": "s.t"}}, "requires schema.table.column or database.schema.table.column"),
        ({"sql": {"x" * 101: "select 1 from {table}"}}, f"requires a name of letters, digits and _, got '{'x' * 100}'"),
        ({"sql": {"a-b": "select 1 from {table}"}}, "requires a name of letters, digits and _, got 'a-b'"),
        (
            {"sql": {"x": f"{'y' * 41} {{table}}"}},
            f"requires a query of the rows that are wrong (SELECT or WITH), got {'y' * 40}",
        ),
        (
            {"sql": {"x": f"(select 1 from {{table}}); {'y' * 41}"}},
            f"requires one statement, got a second one that starts with {'y' * 40}",
        ),
        ({"unique": ["a", "A"]}, "requires one check unique of A, got a second. Keep one of them"),
        (
            {"range": {"a": {"min": 1}, '"A"': {"min": 1}}},
            "requires one check range of A, got a second. Keep one of them",
        ),
    ],
)
def test_check_that_is_refused_says_what_is_required(checks: dict[str, Any], rule: str) -> None:
    assert message(checks) == rule


@pytest.mark.parametrize(
    ("checks", "location"),
    [
        ({"sql": {"a-b": "select 1 from {table}"}}, ("a-b",)),
        ({"unique": ["b", "a", "A"]}, ("unique", 2)),
        ({"range": {"a": {"min": 1}, '"A"': {"min": 1}}}, ("range", '"A"')),
    ],
)
def test_check_that_is_refused_says_where_it_stands(checks: dict[str, Any], location: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        Checks.model_validate(checks)
    error = raised.value.errors()[0]["ctx"]["error"]
    assert isinstance(error, LocatedError)
    assert error.location == location


@pytest.mark.parametrize(
    "checks",
    [
        {"row_count": {"min": 0, "max": 0}},
        {"row_count_change": {"max_drop": " 100 % ", "max_growth": "0%"}},
        {"accepted_values": {"a": [10**38 - 1, Decimal("0." + "1" * 37), Decimal("1E+37"), 1.5, 1e300]}},
        {"usual": "rows"},
        {"usual": {"null_rate": "a", "sum": ["a", "b"], "since": date(2026, 1, 1), "severity": "warn"}},
        {"accepted_values": {"a": ("x",)}},
        {"range": {"a": {"min": 1, "max": 1}, "b": {"min": date(2026, 1, 1), "max": AWARE}}},
        {"freshness": {"a": 10**38 - 1, "b": Decimal("0.5"), "c": {"max_age_hours": 1, "max_ahead_hours": 0}}},
        {"sql": {"x" * 100: "(WITH a as (select 1 from {table}) select * from a); -- end"}},
        {"unique": ["a", ["a", "b"], {"columns": "c"}]},
        {"unique": "a"},
        {"unique": {"columns": ["a", "b"]}},
    ],
)
def test_check_at_its_bounds_is_accepted(checks: dict[str, Any]) -> None:
    Checks.model_validate(checks)


def test_percentage_is_kept_as_a_fraction() -> None:
    change = Checks.model_validate({"row_count_change": {"max_drop": "50%", "max_growth": "12.5 %"}}).row_count_change
    assert change is not None
    assert (change.max_drop, change.max_growth, change.min_rows) == (0.5, 0.125, 100)


def test_query_of_a_check_loses_its_terminator_and_what_follows_it() -> None:
    checks = Checks.model_validate({"sql": {"x": "select ';' from {table} ; -- done"}})
    assert checks.sql["x"].query == "select ';' from {table} "


def test_name_of_a_check_longer_than_80_characters_ends_with_a_digest() -> None:
    (whole, cut) = Checks.model_validate({"unique": ["a" * 73, "a" * 74]}).names().values()
    assert whole == f"unique_{'a' * 73}"
    assert cut.startswith(f"unique_{'a' * 73}_")


def test_names_of_checks_are_those_of_their_kinds_and_columns() -> None:
    """Dagster keeps the history of a check under its name, so the names must stay as they are."""
    long = "a" * 80
    checks = {
        "unique": ["b", ["b", "c"], "b_c", '"é"', long],
        "range": {"b": {"min": 1}, '"b"': {"min": 1}},
        "matches": {"b": "x"},
    }
    assert Checks.model_validate(checks).names() == {
        ("unique", ("B",)): "unique_b",
        ("unique", ("B", "C")): "unique_b_c",
        # Dagster takes letters, digits and _ alone. A digest tells apart what would be the same name.
        ("unique", ("B_C",)): "unique_b_c_eaa2c3",
        ("unique", ("é",)): "unique___2c4d57",
        ("unique", ("A" * 80,)): f"unique_{'a' * 73}_28688f",
        ("range", ("B",)): "range_b",
        ("range", ("b",)): "range_b_990e7d",
        ("matches", ("B",)): "matches_b",
    }
