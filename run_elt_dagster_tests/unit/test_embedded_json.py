"""The SQL of objects and arrays in DuckDB: what a query binds is what it costs, and each audit makes two arrays of objects."""

import pytest

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.calls import object_of
from run_elt_dagster.dialect.values import Value, as_json, text_constant

WHOLE = Value("n", types.INT)
TRUTH = Value("b", types.BOOLEAN)


def test_object_of_known_names_is_sorted_here_and_calls_no_macro() -> None:
    made = object_of([text_constant("it's"), text_constant("A")], [WHOLE, TRUTH])
    assert made.sql == (
        "('{' || concat_ws(',', '\"A\":' || CAST(to_json(b) AS VARCHAR), "
        "'\"it''s\":' || CAST(CAST(CAST(n AS VARCHAR) AS JSON) AS VARCHAR)) || '}')::JSON"
    )


def test_object_that_keeps_null_has_a_field_for_it() -> None:
    made = object_of([text_constant("b")], [TRUTH], keep_null=True)
    assert made.sql == "('{' || concat_ws(',', '\"b\":' || coalesce(CAST(to_json(b) AS VARCHAR), 'null')) || '}')::JSON"


@pytest.mark.parametrize("names", [["a", "a"], ['"', "a"], ["\\", "a"], ["\n", "a"], ["é", "a"]])
def test_names_that_are_equal_or_escaped_are_left_to_the_macro(names: list[str]) -> None:
    made = object_of([text_constant(name) for name in names], [WHOLE, TRUTH])
    assert "sf_object(" in made.sql


def test_only_a_number_with_digits_behind_the_point_loses_zeros() -> None:
    assert "sf_number_json(" not in as_json(WHOLE).sql
    assert "sf_number_json(" in as_json(Value("n", types.Type(types.Kind.NUMBER, 10, 2))).sql
