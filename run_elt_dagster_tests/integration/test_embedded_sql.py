from datetime import date, datetime
from decimal import Decimal

import pytest

from run_elt_dagster_tests.support.embedded import Account, Session, account, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

INSTANT = "'2019-05-01 13:04:05.123456'::timestamp_ntz"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (f"to_varchar({INSTANT}, 'YYYY-MM')", "2019-05"),
        (f"to_char({INSTANT}, 'mm/dd/yyyy, hh24:mi hours')", "05/01/2019, 13:04 hours"),
        (f"to_varchar({INSTANT}, 'DY MON DD YYYY')", "Wed May 01 2019"),
        (f"to_varchar({INSTANT}, 'MMMM YY HH12:MI:SS am')", "May 19 01:04:05 PM"),
        (f"to_varchar({INSTANT}, 'SS.FF3 FF6 FF')", "05.123 123456 123456000"),
        (f"to_varchar({INSTANT}, 'YYYY-MM-DD\"T\"HH24:MI:SSZ')", "2019-05-01T13:04:05Z"),
        ("to_varchar('2019-05-01'::date, 'YYYYMMDD')", "20190501"),
        (f"left(to_varchar(date_trunc('month', {INSTANT}), 'YYYY-MM-DD'), 7)", "2019-05"),
        ("to_varchar(null::timestamp_ntz, 'YYYY-MM FF3')", None),
        (f"to_varchar({INSTANT})", "2019-05-01 13:04:05.123"),
        (f"{INSTANT}::varchar", "2019-05-01 13:04:05.123"),
        (f"'at ' || {INSTANT}", "at 2019-05-01 13:04:05.123"),
        ("to_varchar(12)", "12"),
        ("to_varchar('2019-05-01'::date)", "2019-05-01"),
        ("'2019-05-01 00:00:00 +02:00'::timestamp_tz::varchar", "2019-05-01 00:00:00.000 +0200"),
    ],
)
def test_instant_is_written_as_snowflake_writes_it(session: Session, query: str, text: str | None) -> None:
    assert session.value(f"select {query}") == text


def test_format_works_in_a_build_and_in_its_grouping(session: Session) -> None:
    session.sql(
        "create table t as select column1::timestamp_ntz as ts from values ('2019-05-01'), ('2019-05-31'), (null)"
    )
    session.sql("create table x as (select to_varchar(ts, 'YYYY-MM') as month, count(*) as n from t group by 1)")
    assert session.sql("select * from x order by month nulls last") == [("2019-05", 2), (None, 1)]


def test_empty_result_can_be_read_as_arrow(session: Session) -> None:
    with session.connection.cursor() as cursor:
        cursor.execute("select column1 as n from values (1) where column1 > 1")
        # The connector's word for a table without rows.
        assert cursor.fetch_arrow_all() is None
        assert cursor.rowcount == 0


@pytest.mark.parametrize("template", ["'999.00'", "'MONTH'", "'YYYY-Q'", "column1"])
def test_format_that_is_not_understood_fails(session: Session, template: str) -> None:
    error = session.error(f"select to_varchar(current_timestamp(), {template}) from values ('YYYY')")
    assert error.errno == 2
    assert "The embedded Snowflake cannot" in str(error)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("sum(column1) from values (1), (2)", 3),
        ("sum(column1) from values (1.25), (2.50)", Decimal("3.75")),
        ("count_if(column1 > 1) from values (1), (2)", 1),
        ("count(distinct column1, column2) from values (1, 1), (1, 1), (1, null)", 1),
        ("null::timestamp_ntz", None),
        ("'1960-01-01 00:00:00.25'::timestamp_ntz", datetime(1960, 1, 1, 0, 0, 0, 250000)),  # noqa: DTZ001 - TIMESTAMP_NTZ
        ("date_trunc('month', '2019-05-06'::date)", date(2019, 5, 1)),
        ("div0(1, 0)", 0),
        ("iff(column1 = 0, 0, 1 / column1) from values (0)", 0),
        ("'$notavariable;'", "$notavariable;"),
    ],
)
def test_query_gives_what_snowflake_gives(session: Session, query: str, value: object) -> None:
    assert session.value(f"select {query}") == value


def test_columns_are_called_as_on_snowflake(session: Session) -> None:
    query = "select count(*), sum(column1) as total, to_varchar(max(column1)) from values (1)"
    assert session.columns(query) == ["COUNT(*)", "TOTAL", "TO_VARCHAR(MAX(COLUMN1))"]


def test_stored_numbers_are_numbers_of_snowflake(session: Session) -> None:
    session.sql("create table x as select 1 as a, count(*) as b, sum(column1) as c, null as d from values (1)")
    query = "select data_type, numeric_precision from information_schema.columns where table_schema = current_schema()"
    assert session.sql(query) == [("NUMBER", 1), ("NUMBER", 38), ("NUMBER", 38), ("TEXT", None)]


@pytest.mark.parametrize(
    ("statement", "errno", "sqlstate", "text"),
    [
        ("select * from nope", 2003, "42S02", ".NOPE' does not exist or not authorized."),
        ("select * from nope.x", 2003, "42S02", "'RUN_ELT.NOPE.X' does not exist"),
        ("select nope from values (1)", 904, "42000", "invalid identifier 'NOPE'"),
        ("select nope()", 2140, "42601", "Unknown function NOPE"),
        ("selec 1", 1003, "42000", "SQL compilation error"),
        ("select 1 / 0", 100051, "22012", "Division by zero"),
        ("select column1 / column2 from values (1, 0)", 100051, "22012", "Division by zero"),
        ("select 1 % 0", 100051, "22012", "Division by zero"),
        ("select 'one'::int", 100038, "22018", "Numeric value 'one' is not recognized"),
        ("select 'may'::timestamp", 100035, "22007", "Timestamp 'may' is not recognized"),
        ("select 'may'::date", 100040, "22007", "Date 'may' is not recognized"),
        ("select 'maybe'::boolean", 100037, "22018", "Boolean value 'maybe' is not recognized"),
        ("use schema nope", 2043, "02000", "Object does not exist"),
        ("select $nope", 2, "0A000", "The embedded Snowflake cannot run this construct, got '$nope'"),
        ("select 1; select 2", 8, "0A000", "Actual statement count 2 did not match the desired statement count 1."),
        ("create table x as (select 1;)", 1003, "42000", "unexpected ';'"),
        ("-- nothing", 900, "42601", "Empty SQL statement"),
    ],
)
def test_failure_has_the_code_and_the_text_of_snowflake(
    session: Session, statement: str, errno: int, sqlstate: str, text: str
) -> None:
    error = session.error(statement)
    assert (error.errno, error.sqlstate) == (errno, sqlstate)
    assert text in str(error)


@pytest.mark.parametrize(
    "statement",
    [
        "call procedure()",
        "explain select 1",
        "create task t as select 1",
        "copy into x from @stage",
        "put file:///x.csv @stage",
        "create stage s",
        "create file format f type = csv",
        "create user u",
        "create function f(x int) returns int as 'x + 1'",
        "select * from public.x at(offset => -60)",
        "select count(*) from table(result_scan(last_query_id()))",
        "show parameters",
        "drop database run_elt",
        "select * from 'a.csv'",
    ],
)
def test_what_cannot_be_done_fails_and_never_hangs(session: Session, statement: str) -> None:
    assert session.refused(statement) > 0


def test_what_sqlglot_would_leave_out_is_refused(session: Session) -> None:
    error = session.error(
        "select to_timestamp_tz('2019', 'YYYY'), try_to_date('1', 'X'), regexp_like('a', 'b', 'z', 'y')"
    )
    assert "The embedded Snowflake cannot" in str(error) or error.errno in {1003, 2043, 2140}


def test_context_functions_tell_about_the_session(account: Account) -> None:
    session = account.session(role="analyst", warehouse="wh", schema="analytics")
    assert session.sql(
        "select current_session(), current_role(), current_warehouse(), current_user(), current_account(), "
        "current_region(), current_database(), current_schema()"
    ) == [(str(session.id), "ANALYST", "WH", "EMBEDDED", "EMBEDDED", "EMBEDDED", "RUN_ELT", "ANALYTICS")]


def test_current_schema_is_public_until_another_one_is_used(account: Account) -> None:
    session = account.session()
    assert session.value("select current_schema()") == "PUBLIC"
    session.sql("use schema raw_data")
    assert session.value("select current_schema()") == "RAW_DATA"
    session.sql("use database run_elt")
    assert session.value("select current_schema()") == "PUBLIC"


def test_parameters_are_bound(session: Session) -> None:
    assert session.sql("select ?, ?", ["it's", 2]) == [("it's", 2)]


def test_distinct_with_parentheses_is_ordered_by_its_column(session: Session) -> None:
    values = "from values (2, 1), (1, 1), (2, 1)"
    assert session.sql(f"select distinct(column1) {values} order by column1") == [(1,), (2,)]
    assert session.sql(f"select distinct (column1), column2 {values} order by column1 desc, column2") == [
        (2, 1),
        (1, 1),
    ]
    assert session.refused(f"select distinct column1 {values} order by column2") == 2


@pytest.mark.parametrize(
    ("columns", "number"),
    [
        ('("a" int, a int)', 2),
        ("(a int, a int)", 2025),
        ('as select 1 as a, 2 as "a"', 2),
        ("as select 1 as a, 2 as A", 2025),
    ],
)
def test_two_columns_of_a_table_cannot_differ_by_case_alone(session: Session, columns: str, number: int) -> None:
    assert session.refused(f"create table x {columns}") == number


def test_default_that_duckdb_cannot_keep_is_refused_in_our_words(session: Session) -> None:
    error = session.error("create table x (a timestamp_tz default '2024-01-05 00:00:00 +0200')")
    assert error.errno == 2
    assert "cannot keep this default of a column" in str(error)


def test_second_database_is_apart(session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql(f"create database other_{schema}")
    session.sql(f"create table other_{schema}.public.x comment = 'c' as select 1 as a")
    query = f"select comment, row_count from other_{schema}.information_schema.tables"
    assert session.sql(query) == [("c", 1)]
    assert session.refused(f"alter table other_{schema}.public.x rename to run_elt.{schema}.x") == 2


def test_object_is_the_same_whether_its_names_are_constants_or_values(session: Session) -> None:
    session.sql(
        "create table t as select column1 as n, column2 as x from values (1, 1.50), (null, null), (2, 2.00), (null, 0.25)"
    )
    for function in ("object_construct", "object_construct_keep_null"):
        constant = f"{function}('Z', n, 'it''s', x, 'a', [n], '', null)"
        value = f"{function}(z, n, i, x, a, [n], e, null)"
        names = "(select *, 'Z' as z, 'it''s' as i, 'a' as a, '' as e from t)"
        first, second = (session.sql(f"select {made} from {names} order by x") for made in (constant, value))
        assert len(first) == 4
        assert first == second
    # An array leaves out what is NULL, but not an object without fields.
    query = "select array_agg(n) within group (order by n), array_agg(object_construct('n', n)) from t where n is null"
    assert session.sql(query) == [("[]", "[{},{}]")]
