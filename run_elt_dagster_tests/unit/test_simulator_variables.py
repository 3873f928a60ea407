import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster_tests.simulator.variables import inlined_variables


def test_variable_is_replaced_outside_of_strings_only() -> None:
    sql = "select $day, '$day', $1, a$day from t"
    assert inlined_variables(sql, {"DAY": "'2019-05-01'"}) == "select '2019-05-01', '$day', $1, a$day from t"


def test_variable_that_was_never_set_is_refused() -> None:
    with pytest.raises(SqlError, match=r"Session variable '\$DAY' does not exist"):
        inlined_variables("select $day", {})
