import pytest

from run_elt_dagster.embedded.errors import SqlError
from run_elt_dagster.embedded.formats import Formatted, parts_of


@pytest.mark.parametrize(
    ("snowflake", "strftime"),
    [
        ("YYYY-MM-DD", "%Y-%m-%d"),
        ("yyyy-mm-dd hh24:mi:ss", "%Y-%m-%d %H:%M:%S"),
        ("YY/MON/DD", "%y/%b/%d"),
        ("DY, MMMM DD", "%a, %B %d"),
        ("HH12:MI AM", "%I:%M %p"),
        ("hh:mi pm", "%H:%M %p"),
        ("YYYYMMDD", "%Y%m%d"),
        ("YYYY-MM-DDTHH24:MI:SSZ", "%Y-%m-%dT%H:%M:%SZ"),
        ('YYYY"MM is a month"', "%YMM is a month"),
        ('"100%" YYYY %', "100%% %Y %%"),
        ("mm/dd/yyyy, hh24:mi hours", "%m/%d/%Y, %H:%M hours"),
        ("YYYY年MM月", "%Y年%m月"),
    ],
)
def test_format_is_translated(snowflake: str, strftime: str) -> None:
    assert parts_of(snowflake) == (Formatted(strftime),)


@pytest.mark.parametrize(("element", "digits"), [("FF", 9), ("FF9", 9), ("ff3", 3), ("FF1", 1)])
def test_fraction_has_as_many_digits_as_asked_for(element: str, digits: int) -> None:
    assert parts_of(f"SS.{element}Z") == (Formatted("%S."), Formatted("%n", digits), Formatted("Z"))


def test_fraction_of_no_digits_is_empty() -> None:
    assert parts_of("SS.FF0") == (Formatted("%S."),)


@pytest.mark.parametrize(
    "snowflake",
    ["MONTH", "DDD", "Q", "YYYY-Q", "YYY", "IYYY", "WW", "DAY", "999.00", "$99", "TM9", "HH24h", "YYYY 5", "", "-", '"YYYY"'],
)
def test_format_that_is_not_surely_understood_is_refused(snowflake: str) -> None:
    with pytest.raises(SqlError, match="The embedded Snowflake cannot"):
        parts_of(snowflake)
