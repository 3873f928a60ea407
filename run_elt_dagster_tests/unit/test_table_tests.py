"""Tests of a table's SQL, run in memory: values, time, order, differences, and what is refused."""

import json
import re
import textwrap
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

import run_elt_dagster
from run_elt_dagster import pytest_plugin
from run_elt_dagster.cli import main
from run_elt_dagster.testing import files
from run_elt_dagster.testing.difference import Comparison, Difference
from run_elt_dagster.testing.folder import load_tests
from run_elt_dagster.testing.runner import Outcome, Runner, file_sql
from run_elt_dagster.testing.values import agree

SHIPPED = Path(run_elt_dagster.__file__).parent / "tables"
EXAMPLE = Path(run_elt_dagster.__file__).parents[1] / "examples" / "partitions" / "tables"
CASE = """
cases:
  a:
    given: {{raw.a: [{given}]}}
    expect: [{expect}]
"""


def folder(directory: Path, **written: str) -> Path:
    """Write tables of the schema `analytics` and their tests: `t` is t.sql, `t_test` is t.test.yaml."""
    for name, text in written.items():
        suffix = ".test.yaml" if name.endswith("_test") else ".sql"
        path = directory / "analytics" / (name.removesuffix("_test") + suffix)
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return directory


def outcomes(directory: Path, **files: str) -> dict[str, Outcome]:
    """Run the tests of files, each of which is right; return what became of each case."""
    tests, problems = load_tests(folder(directory, **files), database="RUN_ELT")
    assert problems == []
    with Runner() as runner:
        return {case.name: runner.run(each, case) for each in tests for case in each.file.cases}


def outcome(
    directory: Path, sql: str, *, given: str = "", expect: str = "", before: str = "", options: str = ""
) -> Outcome:
    text = before + CASE.format(given=given, expect=expect)
    lines = "".join(f"    {option}\n" for option in options.splitlines())
    return outcomes(directory, t=sql, t_test=text + lines)["a"]


def problems(directory: Path, **files: str) -> list[str]:
    """Return what is wrong with test files, as `name:line: message`."""
    found = load_tests(folder(directory, **files), database="RUN_ELT")[1]
    return [f"{each.path.name if each.path else ''}:{each.line}: {each.message}" for each in found]


TYPES = """
types:
  raw.a:
    n: number
    amount: number(10, 2)
    f: float
    d: date
    t: time
    ntz: timestamp_ntz
    ltz: timestamp_ltz
    tz: timestamp_tz
    v: variant
    arr: array
    obj: object
    bin: binary
    b: boolean
    x: varchar
"""
ROW = (
    "n: 1.25, amount: 2.50, f: 0.1, d: 2024-02-29, t: '10:00:00.5', ntz: 2024-02-29 10:00:00.000001, "
    "ltz: 2024-02-29 11:00:00+01:00, tz: 2024-02-29 11:00:00+01:00, v: {b: [1, x, null, {c: 1.50}], a: '1'}, "
    "arr: [1, 'a', null], obj: {k: {l: 2}}, bin: 00ff, b: true, x: ' a'"
)


def test_value_of_each_type_comes_back_as_it_was_given_and_as_null(tmp_path: Path) -> None:
    sql = "select *, v:a::number + n as sum, dateadd(year, 1, d) as next, array_size(arr) as size from raw.a"
    found = outcome(
        tmp_path,
        sql,
        before=TYPES,
        given=f"{{{ROW}}}, {{x: null}}",
        expect=f"{{{ROW}, sum: 2.25, next: 2025-02-28, size: 3}}, {{x: null}}",
        options="exact: true",
    )
    assert found.verdict == "passed", found.message


@pytest.mark.parametrize(
    ("column", "given", "expected"),
    [
        ("amount", "2.50", "2.51"),
        ("f", "0.1", "0.1001"),
        ("d", "2024-02-29", "2024-03-01"),
        ("t", "'10:00:00'", "'10:00:00.000001'"),
        ("ntz", "2024-02-29 10:00:00", "2024-02-29 10:00:00.000001"),
        ("ltz", "2024-02-29 10:00:00+01:00", "2024-02-29 10:00:00"),
        ("tz", "2024-02-29 10:00:00+00:00", "2024-02-29 11:00:00+01:00"),
        ("v", "{a: 1}", "{a: '1'}"),
        ("v", "[1, true]", "[1, 1]"),
        ("arr", "[1, 2]", "[2, 1]"),
        ("obj", "{k: null}", "{}"),
        ("bin", "00", "'01'"),
        ("b", "true", "false"),
        ("x", "a", "'a '"),
        ("x", "''", "null"),
        ("n", "0", "null"),
    ],
)
def test_another_value_of_the_type_fails(tmp_path: Path, column: str, given: str, expected: str) -> None:
    given = given if column != "bin" else "'00'"
    found = outcome(
        tmp_path,
        f"select {column} from raw.a",
        before=TYPES,
        given=f"{{{column}: {given}}}",
        expect=f"{{{column}: {expected}}}",
    )
    assert found.verdict == "failed", found
    assert found.difference


def test_types_are_those_of_the_values_where_nothing_states_them(tmp_path: Path) -> None:
    sql = "select n / 1 as n, x || '' as x, dateadd(day, 1, d) as d, dateadd(hour, 1, ts) as ts, not b as b, v:a::number as v from raw.a"
    text = """
    cases:
      a:
        given: {raw.a: [{n: 1, x: a, d: 2024-01-01, ts: 2024-01-01 00:00:00, b: true, v: {a: 1}}, {n: 1.25}]}
        expect:
          - {n: 1, x: a, d: 2024-01-02, ts: 2024-01-01 01:00:00, b: false, v: 1}
          - {n: 1.25}
      the type of a column that is only NULL here is that of the other case:
        given: {raw.a: [{n: null}]}
        expect: [{n: null, d: null, v: null}]
    """
    assert {found.verdict for found in outcomes(tmp_path, t=sql, t_test=text).values()} == {"passed"}


def test_column_takes_the_type_that_the_file_of_its_table_declares(tmp_path: Path) -> None:
    source = """
    /* elt
    columns: {id: int, name: varchar(3), place: geography}
    elt */
    select 1 as id, 'a' as name, null as place from raw.z
    """
    text = CASE.format(given="{id: 1}", expect="{id: 1, name: null}").replace("raw.a", "analytics.s")
    assert outcomes(tmp_path, s=source, t="select id, name from analytics.s", t_test=text)["a"].verdict == "passed"
    wrong = text.replace("{id: 1}]}", "{id: 1.5, nam: a}, {name: abcd}]}")
    assert problems(tmp_path, t_test="types: {analytics.s: {id: number}}" + wrong) == [
        "t.test.yaml:1: types cannot state analytics.s.ID again: s.sql declares it. Remove it here.",
        "t.test.yaml:4: analytics.s cannot have the column NAM: s.sql declares its columns without it. Did you mean NAME?",
    ]
    assert problems(tmp_path, t_test=wrong.replace(", nam: a", "")) == [
        "t.test.yaml:3: analytics.s.ID requires a number that NUMBER(38,0) holds exactly, got 1.5. Write it so, or state another type.",
        't.test.yaml:3: analytics.s.NAME requires at most 3 characters, since the column is VARCHAR(3), got "abcd". Correct the value.',
    ]
    given = text.replace("id: 1}]", "id: 1, place: null}]")
    for left_out in (text, given):
        found = outcomes(tmp_path, t="select place from analytics.s", t_test=left_out)["a"]
        assert "has no column of the type geography, as PLACE is. Mark the case with account: true." in found.message
    untyped = "/* elt\ncolumns: {id: int, name: }\nelt */ select 1 as id"
    found = outcomes(tmp_path, s=untyped, t="select id, name from analytics.s", t_test=text)["a"]
    assert found.message.endswith("NAME is declared without a type: state it in types:.")


@pytest.mark.parametrize(
    ("values", "got"), [("{n: null}, {}", "only NULL"), ("{n: 1}, {n: a}", "values of several types")]
)
def test_column_without_one_type_is_an_error(tmp_path: Path, values: str, got: str) -> None:
    (found,) = problems(tmp_path, t="select n from raw.a", t_test=CASE.format(given=values, expect=""))
    assert found == (
        f"t.test.yaml:3: column N of raw.a requires a type, got {got}. State it, as in types: {{raw.a: {{n: number}}}}."
    )


def test_fraction_of_a_second_that_the_type_does_not_keep_is_an_error(tmp_path: Path) -> None:
    cases = CASE.format(
        given="{ts: 2024-01-01 00:00:00.123, t: '10:00:00.5'}, {ts: 2024-01-01 00:00:00.1234}", expect=""
    )
    assert problems(
        tmp_path, t="select ts from raw.a", t_test="types: {raw.a: {t: time(0), ts: timestamp_ntz(3)}}" + cases
    ) == [
        't.test.yaml:4: raw.a.T requires at most 0 digits of a second, since the column is time(0), got "10:00:00.5". Correct the value.',
        (
            "t.test.yaml:4: raw.a.TS requires at most 3 digits of a second, since the column is timestamp_ntz(3), got "
            "2024-01-01T00:00:00.123400. Correct the value."
        ),
    ]


def test_tables_are_found_as_a_run_finds_them(tmp_path: Path) -> None:
    """By quoted names, with the session's database, and by the name in Snowflake where that is not the file's."""
    sales = """
    /* elt
    identifier: '"Net sales"'
    columns: {'"Id"': int}
    elt */
    select 1 as "Id" from raw.z
    """
    sql = """
    with a as (select id from run_elt.raw.a)
    select a.id, n."Id" as net, o.id as other, p.id as public
    from a
    join analytics."Net sales" n on n."Id" = a.id
    join other.raw.a o on o.id = a.id
    join other..a p on p.id = a.id
    """
    text = """
    cases:
      a:
        given:
          RAW.A: [{id: 1}]
          'analytics."Net sales"': [{'"Id"': 1}]
          other.raw.a: [{ID: 1}]
          other.public.a: [{id: 1}]
        expect: [{id: 1, net: 1, other: 1, public: 1}]
    """
    assert outcomes(tmp_path, sales=sales, t=sql, t_test=text)["a"].verdict == "passed"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("current_date", "2024-02-29"),
        ("current_date()", "2024-02-29"),
        ("current_time", "'23:30:00'"),
        ("localtime", "'23:30:00'"),
        ("current_timestamp", "2024-02-29 23:30:00Z"),
        ("current_timestamp(3)", "2024-02-29 23:30:00Z"),
        ("localtimestamp()", "2024-02-29 23:30:00Z"),
        ("getdate()", "2024-02-29 23:30:00Z"),
        ("systimestamp()", "2024-02-29 23:30:00Z"),
        ("sysdate()", "2024-02-29 23:30:00"),
        ("dateadd(day, 1, to_date(convert_timezone('UTC', current_timestamp)))", "2024-03-01"),
    ],
)
def test_time_is_that_of_the_case(tmp_path: Path, asked: str, given: str) -> None:
    text = """
    cases:
      frozen:
        now: 2024-03-01 00:30:00+01:00
        given: {}
        expect: [{x: GIVEN}]
      not stated:
        given: {}
        expect: []
    """
    found = outcomes(tmp_path, t=f"select 1 as a,\n  {asked} as x", t_test=text.replace("GIVEN", given))
    assert found["frozen"].verdict == "passed", found["frozen"].message
    assert found["not stated"].verdict == "error"
    assert found["not stated"].message.startswith(
        f"{tmp_path}/analytics/t.sql:2: case 'not stated' requires now, since the SQL asks for the time by "
    )


def test_order_counts_only_where_the_case_says_so(tmp_path: Path) -> None:
    sql, rows = "select n from raw.a order by n desc", {"given": "{n: 1}, {n: 2}", "expect": "{n: 1}, {n: 2}"}
    assert outcome(tmp_path, sql, **rows).verdict == "passed"
    found = outcome(tmp_path, sql, **rows, options="ordered: true")
    assert found.message.splitlines() == [
        "The rows are the expected ones in another order (2 rows expected, 2 found).",
        "                N",
        "expected row 1  1",
        "got row 1       2",
    ]


def test_equal_rows_count_as_often_as_they_come(tmp_path: Path) -> None:
    found = outcome(tmp_path, "select n from raw.a", given="{n: 1}, {n: 1}, {n: 1}", expect="{n: 1}, {n: 1}")
    assert found.message.splitlines()[0] == "2 rows expected, 3 found."
    assert found.difference == Difference(("N",), unexpected=((Decimal(1),),))


def test_float_may_differ_by_a_billionth_or_by_the_tolerance(tmp_path: Path) -> None:
    sql, given = "select sum(f) as f, sum(n) as n from raw.a", "{f: 0.1, n: 0.1}, {f: 0.2, n: 0.2}"
    before = "types: {raw.a: {f: float}}"
    assert outcome(tmp_path, sql, before=before, given=given, expect="{f: 0.3, n: 0.3}").verdict == "passed"
    assert outcome(tmp_path, sql, before=before, given=given, expect="{f: 0.31, n: 0.3}").verdict == "failed"
    close = outcome(tmp_path, sql, before=before, given=given, expect="{f: 0.31, n: 0.3}", options="tolerance: 0.02")
    assert close.verdict == "passed"
    exact = outcome(tmp_path, sql, before=before, given=given, expect="{f: 0.3, n: 0.31}", options="tolerance: 0.02")
    assert exact.verdict == "failed"


def test_only_named_columns_are_compared_unless_the_case_is_exact(tmp_path: Path) -> None:
    sql, rows = "select n, n + 1 as m from raw.a", {"given": "{n: 1}", "expect": "{n: 1}"}
    assert outcome(tmp_path, sql, **rows).verdict == "passed"
    found = outcome(tmp_path, sql, **rows, options="exact: true")
    assert found.message == (
        f"{tmp_path}/analytics/t.test.yaml:4: case 'a' requires every column, since it is exact, got no M. Name them in expect:, or "
        "take exact: true out."
    )
    unknown = outcome(tmp_path, sql, given="{n: 1}", expect="{k: 1}")
    assert unknown.message.endswith("cannot expect K: the SQL gives no such column, but N, M. Correct the name.")


def test_changed_rows_are_found_by_the_key_and_without_one_by_likeness(tmp_path: Path) -> None:
    sql = "/* elt\nprimary_key: [id]\nelt */ select id, x, n from raw.a"
    rows = {
        "given": "{id: 1, x: a, n: 1}, {id: 2, x: b, n: 2}, {id: 4, x: d, n: 4}",
        "expect": "{id: 1, x: b, n: 2}, {id: 2, x: b, n: 2}, {id: 3, x: c, n: null}",
    }
    assert outcome(tmp_path, sql, **rows).message.splitlines() == [
        "3 rows expected, 3 found. A changed cell shows expected -> got.",
        "            ID  X       N",
        "changed     1   b -> a  2 -> 1",
        "missing     3   c       NULL",
        "unexpected  4   d       4",
    ]
    likely = outcome(
        tmp_path,
        sql.partition("elt */")[2],
        given="{id: 1, x: a, n: 1}",
        expect="{id: 1, x: a, n: 2}, {id: 5, x: a, n: 7}",
    )
    assert likely.message.splitlines() == [
        "2 rows expected, 1 found. A changed cell shows expected -> got.",
        "         ID  X  N",
        "changed  1   a  2 -> 1",
        "missing  5   a  7",
    ]


def test_key_that_several_rows_have_pairs_none() -> None:
    same = [lambda one, other: one == other] * 2
    found = Comparison(("K", "V"), same, key=(0,)).difference([(1, 1)], [(1, 2), (1, 3)])
    assert found == Difference(("K", "V"), missing=((1, 1),), unexpected=((1, 2), (1, 3)))


def test_nan_agrees_with_itself_alone() -> None:
    nan = float("nan")
    assert agree(nan, nan, tolerance=None)
    assert not agree(nan, 1.0, tolerance=Decimal(5))


def test_error_of_the_sql_names_its_line_in_the_file_and_a_next_step(tmp_path: Path) -> None:
    sql = "/* elt\ndescription: x\nelt */\nselect\n  {} from raw.a"
    place = f"{tmp_path}/analytics/t.sql"
    refused = outcome(tmp_path, sql.format("xmlget(x, 'a')"), given="{x: a}").message
    assert refused.startswith(
        f"{place}:5: the SQL of analytics.t fails: The embedded Snowflake cannot run this function, got XMLGET"
    )
    assert refused.endswith("In a test: mark the case with account: true.")
    unknown = outcome(tmp_path, sql.format("y"), given="{x: a}").message
    assert unknown.startswith(
        f"{place}:3: the SQL of analytics.t fails: SQL compilation error: invalid identifier 'Y'."
    )
    assert unknown.endswith("name it in a row of given:, or its type in types:.")
    failing = outcome(tmp_path, sql.format("1 / n"), given="{n: 0}").message
    assert failing == f"{place}:3: the SQL of analytics.t fails: Division by zero."
    twice = outcome(tmp_path, sql.format("x, x"), given="{x: a}").message
    assert "duplicate column name 'X'" in twice
    who = outcome(tmp_path, sql.format("current_role() as r"), given="{x: a}").message
    assert "cannot run this function, got CURRENT_ROLE" in who


def test_expected_value_of_another_type_is_an_error_with_its_line(tmp_path: Path) -> None:
    found = outcome(tmp_path, "select n, x from raw.a", given="{n: 1, x: a}", expect="{n: '1'}")
    assert found.message == (
        f'{tmp_path}/analytics/t.test.yaml:4: expected N requires a number, since the column is NUMBER(38,0), got "1". Correct the value.'
    )
    null = outcome(tmp_path, "select n, x from raw.a", given="{n: 1, x: a}", expect="{n: 'NULL'}")
    assert null.message.endswith('since the column is NUMBER(38,0), got "NULL". NULL is null, without quotes.')
    text = outcome(tmp_path, "select n, x from raw.a", given="{n: 1, x: a}", expect="{x: 1}")
    assert text.message.endswith("expected X requires text, since the column is VARCHAR, got 1. Quote it.")


def test_case_for_an_account_is_skipped_without_one(tmp_path: Path) -> None:
    found = outcome(tmp_path, "select xmlget(x, 'a') as x from raw.a", given="{x: a}", options="account: true")
    assert (found.verdict, found.message) == (
        "skipped",
        "it runs on an account only: set the SNOWFLAKE_ variables, and RUN_ELT_TEST_SCHEMA to a scratch schema",
    )


def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = """
    typs: {}
    types:
      raw.a: {n: nmber}
    cases:
      "a::b": {given: {raw: []}, expect: []}
      b:
        givn: {}
        expect: []
      c:
        given:
          raw.a:
            - {n: 1, N: 2}
            - [1]
          RAW.A: []
        expect:
          - {n: }
          - {}
        ordered: yes
        now: tomorrow
        tolerance: -1
      d: {given: {raw.a: []}, expect: []}
      d: {given: {raw.a: []}, expect: []}
    """
    assert problems(tmp_path, t="select n from raw.a", t_test=text) == [
        "t.test.yaml:1: unknown key 'typs'. Did you mean 'types'?",
        "t.test.yaml:5: the name of a case requires plain text without ::, got 'a::b'. No test could be selected by it. Rename the case.",
        "t.test.yaml:6: case 'b' requires given, got none. Write given: with its rows, or [] for none.",
        "t.test.yaml:7: unknown key 'givn'. Did you mean 'given'?",
        "t.test.yaml:12: a row requires columns that differ, got N a second time. Keep one of them.",
        "t.test.yaml:13: cases.c.given.raw.a.1 requires `key: value` lines, got something else. Write one a line.",
        "t.test.yaml:14: cases.c.given requires tables that differ, got RAW.A a second time. Keep one of them.",
        "t.test.yaml:16: cases.c.expect.0.n requires a value, got none. Write one, or remove the line. NULL is null.",
        "t.test.yaml:17: cases.c.expect.1 requires a column, got none. Name the columns to compare.",
        't.test.yaml:18: ordered requires true or false, got "yes". Write one of them.',
        't.test.yaml:19: now requires a date or a timestamp, as in 2030-01-31 10:00:00, got "tomorrow". Without a time zone it is UTC.',
        "t.test.yaml:20: tolerance requires a number of at least 0, got -1. Write one, as in 0.001.",
        "t.test.yaml:22: key 'd' requires one value, got a second. Keep one of them.",
        "t.test.yaml:22: key 'given' requires one value, got a second. Keep one of them.",
        "t.test.yaml:22: key 'raw.a' requires one value, got a second. Keep one of them.",
        "t.test.yaml:22: key 'expect' requires one value, got a second. Keep one of them.",
    ]


def test_rows_of_the_tables_that_the_sql_reads_are_required_and_no_others(tmp_path: Path) -> None:
    text = CASE.format(given="", expect="").replace("raw.a", "raw.bb")
    assert problems(tmp_path, t="select 1 as n\nfrom raw.a, raw.b", t_test=text) == [
        (
            "t.test.yaml:2: case 'a' requires rows of raw.a, got none. The SQL reads that table in line 2 of t.sql. Write raw.a: with its "
            "rows below given:, or [] for no row."
        ),
        (
            "t.test.yaml:2: case 'a' requires rows of raw.b, got none. The SQL reads that table in line 2 of t.sql. Write raw.b: with its "
            "rows below given:, or [] for no row."
        ),
        "t.test.yaml:3: given cannot name raw.bb: the SQL of analytics.t does not read it. Did you mean raw.b?",
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "tt.test.yaml",
            "requires the SQL file of its table beside it, got no tt.sql in analytics. Its cases test nothing. Did you mean analytics.t?",
        ),
        ("deeper/t.test.yaml", "got no t.sql in deeper"),
        ("deeper/analytics/t.test.yaml", "got no t.sql in analytics"),
        ("t.test.yml", "a test file requires the suffix .test.yaml, got t.test.yml. It would not run. Rename it."),
    ],
)
def test_file_whose_cases_would_never_run_is_an_error(tmp_path: Path, name: str, told: str) -> None:
    folder(tmp_path, t="select 1 as n from raw.a")
    (tmp_path / "analytics" / "deeper" / "analytics").mkdir(parents=True)
    (tmp_path / "analytics" / name).write_text(CASE.format(given="", expect=""))
    (found,) = load_tests(tmp_path, database="RUN_ELT")[1]
    assert told in found.message


def test_example_of_the_page_passes_and_fails_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (SHIPPED.parents[1] / "docs" / "tests.md").read_text()
    example, shown = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("yaml", "text"))
    sql = (SHIPPED / "analytics" / "mau_summary.sql").read_text()
    folder(tmp_path, mau_summary=sql, mau_summary_test=example)
    assert command(tmp_path, monkeypatch, capsys)[0] == 0
    other = example.replace("mau: 1}", "mau: 2}\n      - {month: 2019-06, mau: 0}")
    folder(tmp_path, mau_summary_test=other)
    code, printed = command(tmp_path, monkeypatch, capsys)
    assert code == 1
    assert printed.partition("\n\n")[0] + "\n" == shown.replace("run_elt_dagster/tables/", "")


def test_mistake_in_an_sql_file_is_told_once(tmp_path: Path) -> None:
    written = {
        "t": "select 1; select 2",
        "t_test": CASE.format(given="", expect=""),
        "u": "/* elt\nownr: x\nelt */ select 1 as n",
    }
    found = problems(tmp_path, **written)
    assert [each.partition(" ")[0] for each in found] == ["t.sql:1:", "u.sql:2:"]


def test_plugin_of_pytest_and_command_look_for_the_same_files() -> None:
    assert pytest_plugin.SUFFIXES == files.LIKE_SUFFIX


@pytest.mark.parametrize("tables", [SHIPPED, EXAMPLE], ids=["shipped", "example"])
def test_every_shipped_table_has_tests_that_pass(tables: Path) -> None:
    tests, wrong = load_tests(tables, database="RUN_ELT")
    assert wrong == []
    assert {each.table.name for each in tests} == {f"analytics.{path.stem}" for path in tables.glob("analytics/*.sql")}
    with Runner() as runner:
        found = [runner.run(each, case) for each in tests for case in each.file.cases]
    assert {each.verdict for each in found} == {"passed"}


def command(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(directory))
    monkeypatch.chdir(directory)
    code = main(["test", *arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_command_ends_with_1_where_a_test_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: Mapping[str, str] = {
        "t": "select n from raw.a",
        "t_test": CASE.format(given="{n: 1}", expect="{n: 2}"),
        "u": "select n from raw.a",
        "u_test": CASE.format(given="{n: 1}", expect="{n: 1}"),
        "v": "select n from raw.a",
    }
    folder(tmp_path, **written)
    code, printed = command(tmp_path, monkeypatch, capsys)
    assert code == 1
    assert printed.startswith(
        "FAIL   analytics.t: a\n       analytics/t.test.yaml:2\n       1 row expected, 1 found.\n                   N\n       missing     2\n       unexpected  1\n"
        "ok     analytics.u: a\n\n1 passed, 1 failed in "
    )
    assert command(tmp_path, monkeypatch, capsys, "analytics/u")[0] == 0
    code, printed = command(tmp_path, monkeypatch, capsys, "analytics.t", "--json")
    (case,) = json.loads(printed)["cases"]
    assert (code, case["table"], case["case"], case["verdict"], case["line"]) == (1, "analytics.t", "a", "failed", 2)
    assert case["difference"]["missing"] == [["2"]]
    code, printed = command(tmp_path, monkeypatch, capsys, "analytics.v")
    assert code == 1
    assert (
        f"requires tests of analytics.v, got none. Nothing was run. Write {tmp_path}/analytics/v.test.yaml." in printed
    )


def test_command_ends_with_1_where_there_is_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = command(folder(tmp_path, t="select 1 as n"), monkeypatch, capsys)
    assert code == 1
    assert printed == "There is no test. Write <table>.test.yaml beside the SQL of a table: docs/tests.md shows one.\n"


DAILY = "/* elt\npartitions: {by: day, column: day, start: 2024-01-01}\nelt */\n"
OF_DAYS = """
types: {raw.a: {at: timestamp_ntz}}
cases:
  last moment:
    partition: 2024-01-31
    given:
      raw.a: [{at: 2024-01-30 23:59:59}, {at: 2024-01-31 23:59:59.999}, {at: 2024-02-01 00:00:00}]
    expect: [{day: 2024-01-31, n: 1}]
  range:
    partition: 2024-01-30...2024-01-31
    given:
      raw.a: [{at: 2024-01-30 23:59:59}, {at: 2024-01-31 23:59:59.999}, {at: 2024-02-01 00:00:00}]
    expect: [{day: 2024-01-30, n: 1}, {day: 2024-01-31, n: 1}]
"""


@pytest.mark.parametrize("where", ["", "where at >= {partition_start} and at < {partition_end}"])
def test_case_of_a_partition_has_its_rows(tmp_path: Path, where: str) -> None:
    sql = f"{DAILY}select at::date as day, count(*) as n from raw.a {where} group by 1"
    found = outcomes(tmp_path, t=sql, t_test=OF_DAYS)
    assert {name: (each.verdict, each.message) for name, each in found.items()} == {
        "last moment": ("passed", ""),
        "range": ("passed", ""),
    }


@pytest.mark.parametrize("where", ["", "where at >= {partition_start} and at < {partition_end}"])
def test_sql_of_a_partition_stands_on_the_lines_of_its_file(tmp_path: Path, where: str) -> None:
    """An error names a line of it."""
    text = f"{DAILY}select at::date as day,\n  1 as n\nfrom raw.a {where}"
    ((tests,), _) = load_tests(folder(tmp_path, t=text, t_test=OF_DAYS), database="RUN_ELT")
    for case in tests.file.cases:
        lines = file_sql(tests, case).splitlines()
        assert (lines[3], lines[4]) == ("select at::date as day,", "  1 as n")


GROWING = "/* elt\nincrement: {column: at, key: id}\nelt */\n"
OF_INCREMENTS = """
types: {raw.a: {at: timestamp_ntz}}
cases:
  increment:
    increment_start: 2024-01-31 10:00:00
    given:
      raw.a: [{id: 1, at: 2024-01-31 09:59:59}, {id: 2, at: 2024-01-31 10:00:00}]
    expect: [{id: 2}]
  whole:
    given:
      raw.a: [{id: 1, at: 0001-01-01 00:00:00}]
    expect: [{id: 1}]
"""


@pytest.mark.parametrize("where", ["", "where at >= {increment_start}"])
def test_case_of_an_increment_has_its_rows(tmp_path: Path, where: str) -> None:
    found = outcomes(tmp_path, t=f"{GROWING}select id, at from raw.a {where}", t_test=OF_INCREMENTS)
    assert {name: (each.verdict, each.message) for name, each in found.items()} == {
        "increment": ("passed", ""),
        "whole": ("passed", ""),
    }


@pytest.mark.parametrize(
    ("front_matter", "partition", "problem"),
    [
        (
            "",
            "increment_start: 2024-01-31",
            "analytics.t cannot have increment_start: its file declares no increment, got 2024-01-31.",
        ),
        (
            "",
            "partition: 2024-01-31",
            "analytics.t cannot have a partition: its file declares no partitions, got 2024-01-31.",
        ),
        (
            DAILY,
            "partition: 2023-01-31",
            "a partition by day requires a key like 2024-01-01, not before that, got 2023-01-31.",
        ),
        (
            DAILY,
            "ordered: true",
            "requires partition, since the SQL has {partition_start} and {partition_end}, got none.",
        ),
    ],
)
def test_case_without_its_partition_is_an_error(
    tmp_path: Path, front_matter: str, partition: str, problem: str
) -> None:
    where = "where at >= {partition_start} and at < {partition_end}" if front_matter else ""
    sql = f"{front_matter}select at::date as day from raw.a {where}"
    found = outcome(tmp_path, sql, given="{at: 2024-01-31 00:00:00}", expect="{day: 2024-01-31}", options=partition)
    assert found.verdict == "error"
    assert problem in found.message


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("partition: [2024-01-31]", "partition requires a key or FIRST...LAST, as in 2024-01-31, got"),
        (
            "increment_start: noon",
            'increment_start requires a date or a timestamp, as in 2024-01-31 10:00:00, got "noon".',
        ),
    ],
)
def test_part_that_is_none_is_a_problem_of_its_line(tmp_path: Path, option: str, rule: str) -> None:
    text = f"\ncases:\n  a:\n    {option}\n    given: {{raw.a: []}}\n    expect: []\n"
    (problem,) = problems(tmp_path, t="select at from raw.a", t_test=text)
    assert problem.startswith(f"t.test.yaml:3: {rule}")
