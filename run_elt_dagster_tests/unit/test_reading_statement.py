import pytest

from run_elt_dagster.model.reading_statement import reading_statement
from run_elt_dagster.model.single_select import SqlRuleError


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("select 1;", "select 1"),
        ("-- why\nwith a as (select 1) select * from a", "-- why\nwith a as (select 1) select * from a"),
        ("(select 1) union (select 2)", "(select 1) union (select 2)"),
        ("show tables in schema s ; -- end", "show tables in schema s "),
        ("desc table s.t", "desc table s.t"),
        ("select '->>', 'system$wait' -- ->> delete", "select '->>', 'system$wait' -- ->> delete"),
        ("select nextval from s.t", "select nextval from s.t"),
    ],
)
def test_statement_that_only_reads_is_kept_as_it_is(sql: str, statement: str) -> None:
    assert reading_statement(sql) == statement


@pytest.mark.parametrize(
    ("sql", "got"),
    [
        ("", "no statement"),
        ("-- only a comment", "no statement"),
        ("delete from s.t", "'DELETE'"),
        ("explain select 1", "'EXPLAIN'"),
        ("select 1; drop table s.t", "drop"),
        ("show tables; drop table s.t", "drop"),
        ("show tables ->> delete from s.t", "->>"),
        ("select system$cancel_all_queries(1)", "SYSTEM$CANCEL_ALL_QUERIES"),
        ("select s.numbers . nextval", "NEXTVAL"),
        ("(delete from s.t)", "DELETE"),
    ],
)
def test_statement_that_could_change_something_is_refused(sql: str, got: str) -> None:
    with pytest.raises(SqlRuleError) as refused:
        reading_statement(sql)
    assert f"got {got}" in str(refused.value) or f"starts with {got}" in str(refused.value)
