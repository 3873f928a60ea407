"""What is read off a SELECT: the tables of Snowflake's SQL, each way to name one, and the scopes of WITH."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from run_elt_dagster.model.reads import reads_of

STATEMENTS = Path(__file__).with_name("golden") / "reads.sql"


def read(sql: str) -> str:
    return " ".join(".".join(key) for key in reads_of(sql).tables)


def unclear(sql: str) -> list[tuple[int, str]]:
    return [(place.line, place.reason) for place in reads_of(sql).unclear]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", ""),
        ("select * from raw.a join raw.b using (id)", "raw.a raw.b"),
        ("select * from Raw.A, RAW.a", "raw.a"),
        ("select * from db.raw.a", "db.raw.a"),
        ('select * from raw."Mixed Case"', 'raw."Mixed Case"'),
        ("select * from raw.a union all select * from raw.b minus select * from raw.c", "raw.a raw.b raw.c"),
        ("select * from identifier('s.t')", "s.t"),
        ("select * from identifier($$s.t$$)", "s.t"),
        ("""select * from identifier('"S"."t"') x, identifier('db..u')""", 'db.public.u s."t"'),
        ("select * from table('s.t') t join table($$s.u$$) u using (id)", "s.t s.u"),
        ('select * from table(s.t), table(db.s.u), table("S"."v")', 'db.s.u s."v" s.t'),
        ("select * from table(identifier('s.t')) at (offset => -60)", "s.t"),
        ("select * from error_table(s.t), error_table('s.u')", "s.t s.u"),
        ("select * from table(m!forecast(input_data => table(s.v), timestamp_colname => 'd'))", "s.v"),
        ("select * from table(m!forecast(input_data => system$reference('table', 's.v')))", "s.v"),
        ("select snowflake.core.null_count(select email from s.t)", "s.t"),
        ("select * from db..t", "db.public.t"),
        ('select * from "db".."t"', '"db".public."t"'),
        ("select $1 from @s.stage/path (file_format => s.ff, pattern => 'x')", ""),
        ("select $1 from @stage/f.csv (file_format => ff) t, '@s.stage/x' (file_format => ff)", ""),
        ('select * from @~/x, @%tab, @"S"."my stage"/a, directory(@s.stage)', ""),
        ("select * from table(flatten(input => parse_json('[1]'))), table(generator(rowcount => 10))", ""),
        ("select * from table(information_schema.query_history()), table(result_scan(last_query_id()))", ""),
        ("select * from s.a, table(s.udtf(a.x) over (partition by a.y)), lateral s.udtf(a.x)", "s.a"),
        ("select * from s.a, lateral identifier('s.f')(1)", "s.a"),
        ("select * from s.a, lateral identifier('s.t')", "s.a s.t"),
        (
            "select * from s.a, lateral flatten(input => a.x) f, lateral (select * from s.b where b.id = a.id)",
            "s.a s.b",
        ),
        ("select * from (s.a join (s.b) on true), (((s.c)))", "s.a s.b s.c"),
        ("select * from s.t pivot(sum(x) for y in (select z from s.p))", "s.p s.t"),
        ("select * from semantic_view(s.v metrics a.b)", "s.v"),
        ("select * from s.t at(timestamp => '2020-01-01'::timestamp), s.u before(statement => 'x')", "s.t s.u"),
        ("select * from s.t changes(information => default) at(stream => 's.st')", "s.t"),
        (
            (
                "select (select 1 from s.a), array(select x from s.b) from s.c where exists (select 1 from s.d) and y in "
                "(select y from s.e) and z > all (select z from s.f) group by 1 having (select 1 from s.g) > 0 "
                "qualify (select 1 from s.h) > 0 order by (select 1 from s.i) limit (select 1 from s.j)"
            ),
            "s.a s.b s.c s.d s.e s.f s.g s.h s.i s.j",
        ),
        ("select 1 from dual", ""),
        ("select * from values (1), (2)", ""),
    ],
)
def test_every_way_to_name_a_table_is_read(sql: str, expected: str) -> None:
    assert (read(sql), unclear(sql)) == (expected, [])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("with a as (select * from raw.x) select * from a", "raw.x"),
        ("with a as (select 1 as i) select * from a join raw.a on true", "raw.a"),
        ("with a as (select * from s.a) select * from a", "s.a"),
        ("with a as (select 1 i), b as (select * from a) select * from b union all select * from a", ""),
        ("with a as (select 1 i) (select * from a) union all select * from a", ""),
        ("with a as (select 1 i) select (select max(i) from a) from s.x s where exists (select 1 from a)", "s.x"),
        ("with a as (select 1 i) select * from lateral (select * from a), table(a)", ""),
        ('with orders as (select 1 i) select * from "ORDERS", Orders', ""),
        ("with recursive a (n) as (select 1 union all select n + 1 from a where n < 3) select * from a", ""),
        ("with a as (select 1 i union all (select i + 1 from a) union all select i + 2 from a) select * from a", ""),
        ("with a as ((select 1 i union all select i + 1 from a)) select * from a", ""),
        ("with x as (select 1), y as (with x as (select * from s.z) select * from x) select * from x, y", "s.z"),
        ("with a as (with b as (select * from s.y) select * from b) select * from a", "s.y"),
        ("select * from s.t where i in (with q as (select 1 i) select i from q)", "s.t"),
    ],
)
def test_common_table_expression_is_no_table_where_it_can_be_read(sql: str, expected: str) -> None:
    assert (read(sql), unclear(sql)) == (expected, [])


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("with orders as (select * from orders) select * from orders", "orders"),
        ("with recursive orders as (select * from orders) select * from orders", "orders"),
        # The first part of a recursive one cannot read it yet, and without ALL there is no recursion.
        ("with orders as (select * from orders union all select * from s.x) select * from orders", "orders"),
        ("with orders as (select * from s.x union select * from orders) select * from orders", "orders"),
        ("with a as (select * from (select 1 i union all select i from a) x) select * from a", "a"),
        ("with b as (select * from a), a as (select 1 i) select * from b", "a"),
        ("with a as (with b as (select 1 i) select * from b) select * from b", "b"),
        ("(with a as (select 1 i) select * from a) union all select * from a", "a"),
        ("select * from (with a as (select 1 i) select * from a) x join a on true", "a"),
        ("select * from s.t where x in (with q as (select 1 i) select i from q) and y in (select i from q)", "q"),
        ('with "orders" as (select 1 i) select * from orders', "orders"),
        ('with orders as (select 1 i) select * from "orders"', '"orders"'),
    ],
)
def test_common_table_expression_says_nothing_where_it_cannot_be_read(sql: str, name: str) -> None:
    (place,) = reads_of(sql).unclear
    assert place.name == name


def test_names_without_a_schema_are_found_at_once_each_with_its_line() -> None:
    sql = "select *\nfrom orders o\njoin s.x\njoin (select * from -- all\r\n Users) u\n, table(t), identifier('i')\n, ORDERS"
    places = [(place.line, place.name) for place in reads_of(sql).unclear]
    assert places == [(2, "orders"), (5, "users"), (6, "t"), (6, "i")]
    assert reads_of(sql).tables == {("s", "x"): 3}


@pytest.mark.parametrize(
    "source",
    [
        "identifier($v)",
        "identifier(:v)",
        "identifier('s.' || 't')",
        "identifier('not a name')",
        "table($v)",
        "table(?)",
        "table(:1)",
        "table(concat('s.', 't'))",
        "table(upper('s.t'))",
        "table('s.t'::string)",
        "table(identifier($v))",
        "table(to_query('select 1 from s.t'))",
        "error_table($v)",
        "$v",
        "'s.t'",
        "a.b.c.d",
        "lateral s.t",
        "lateral identifier($v)",
    ],
)
def test_computed_name_is_unclear_and_the_rest_is_read(source: str) -> None:
    reads = reads_of(f"select *\nfrom s.a\n,{source}")
    assert list(reads.tables) == [("s", "a")]
    (place,) = reads.unclear
    assert (place.line, place.name) == (3, None)
    assert "upstream: [raw_data.events], in addition" in place.remedy


def test_source_that_the_reader_takes_for_an_expression_is_unclear() -> None:
    (place,) = reads_of("select *\nfrom s.a version at 5").unclear
    assert place.reason == "what stands after FROM is computed when it runs, or is no name"


@pytest.mark.parametrize(
    ("sql", "line", "near"),
    [
        ("select *\nfrom s.quotes q\nresample(using ts increment by interval '5 minutes')", 3, "resample"),
        ("select\n x::array(number not null) from s.t", 2, "array"),
        ("select\r\n 'a\r\nb',\r\n cast(x as map(varchar, int not null)) from s.t", 4, "map"),
        (
            "select * from s.t match_recognize (order by b\n pattern (a b+)\nsubset ab = (a, b)\n define b as c > 1)",
            3,
            "subset",
        ),
        ("with m as\nmodel s.mm version v1 select m!predict(a) from s.t", 2, "model"),
        ("select\nfrom from", 2, "from"),
        ("select 1 as i from s.t where\n", 1, "where"),
    ],
)
def test_sql_that_cannot_be_read_is_unclear_as_a_whole(sql: str, line: int, near: str) -> None:
    reads = reads_of(sql)
    assert reads.tables == {}
    (place,) = reads.unclear
    assert (place.line, place.reason) == (line, f"it cannot be read near {near!r}")
    assert "if Snowflake takes it as it is, name every table that it reads" in place.remedy


@pytest.mark.parametrize(
    ("sql", "line", "reason"),
    [
        ("select 1,\n 'abc", 2, "' begins"),
        ("select 1, --'\n\n \"abc", 3, '" begins'),
        ("select 1 /* abc", 1, "/* begins"),
        ("select\n$$abc", 2, "$$ begins"),
        ("select " + "(" * 3000 + "1" + ")" * 3000, 1, "it is nested too deeply"),
        ("describe table x", 1, "it does not read as a query"),
    ],
)
def test_broken_sql_is_unclear_in_the_words_of_its_author(sql: str, line: int, reason: str) -> None:
    (place,) = reads_of(sql).unclear
    assert place.line == line
    assert place.reason.startswith(reason)


def test_long_chain_of_unions_is_read() -> None:
    sql = "with a as (select 1 i) " + " union all ".join(["select * from a", "select * from s.t"] * 300)
    assert (read(sql), unclear(sql)) == ("s.t", [])


def test_varied_statements_of_snowflake_are_read() -> None:
    """Each statement of the file stands below a comment that says what it reads."""
    wrong: list[str] = []
    for statement in STATEMENTS.read_text(encoding="utf-8").split(";\n"):
        expected = statement.partition("\n")[0].removeprefix("-- reads").strip()
        if (read(statement), unclear(statement)) != (expected, []):
            wrong.append(f"{statement}\n{read(statement)} {unclear(statement)}")
    assert wrong == []


def calls_to_read(sql: str) -> int:
    """Return how many functions reading a text calls: unlike seconds, the same on every machine."""
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls) and None)
    try:
        reads_of(sql)
    finally:
        sys.setprofile(None)
    return next(calls)


def chained(count: int) -> str:
    expressions = ["c0 as (select * from raw.a)", *(f"c{n} as (select * from c{n - 1})" for n in range(1, count))]
    return f"with {', '.join(expressions)} select * from c{count - 1}"


def unqualified(count: int) -> str:
    return "select 1 as n from " + ", ".join(f"t{n}" for n in range(count))


@pytest.mark.parametrize("written", [chained, unqualified])
def test_reading_takes_steps_in_proportion_to_the_text(written: Callable[[int], str]) -> None:
    """A text of 1 MB with twenty thousand names took minutes; where steps go by the square, ten times the names take a hundred."""
    assert calls_to_read(written(600)) < 25 * calls_to_read(written(60))
