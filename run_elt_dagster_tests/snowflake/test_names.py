"""What a name in a query means: column lineage relies on it."""

import pytest

from run_elt_dagster_tests.support.snowflake_account import OwnSchema


@pytest.mark.parametrize(
    ("query", "value"),
    [
        # A column of FROM comes before an alias of the same SELECT, and there an alias before nothing.
        ("select c from (select a + 10 as b, b + 100 as c from (select 1 as a, 2 as b))", 102),
        ("select c from (select a + 10 as b, b + 100 as c from (select 1 as a))", 111),
        # What stands in USING has the value of whichever table has a row.
        ("select sum(q) from (select 1 as q) l full join (select 2 as q) r using (q)", 3),
        # A union takes the names of its first query, and values by their places.
        ("select sum(a) from (select 1 as a, 10 as b union all select 2 as b, 20 as a)", 3),
    ],
)
def test_name_means_what_column_lineage_says(schema: OwnSchema, query: str, value: int) -> None:
    assert schema.session().value(query) == value


@pytest.mark.parametrize(
    "query",
    ["select a from (select 1 as a) x, (select 2 as a) y", "with c as (select 1 as a, 2 as a) select a from c"],
)
def test_name_that_two_columns_have_is_refused(schema: OwnSchema, query: str) -> None:
    assert "ambiguous column name" in str(schema.session().error(query))
