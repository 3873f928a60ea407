"""Settings are found or refused, never a comment; their values are what the author wrote, or an error."""

import re
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from run_elt_dagster.model.front_matter import SQL_UNIT, first_semicolon, read_settings
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster_tests.support.table_texts import parse, problems_of

CHECKS = "checks: {not_null: id}"
SQL = "select 1 as id"


def has_checks(table: AnalyticsTable) -> bool:
    return table.checks.not_null is not None


@pytest.mark.parametrize(
    ("text", "sql_line"),
    [
        (f"/* elt\n{CHECKS}\nelt */\n{SQL}", 3),
        (f"/* ELT\n{CHECKS}\nELT */\n{SQL}", 3),
        (f"/*Elt\n{CHECKS}\neLT*/ {SQL}", 3),
        (f"/*\nelt\n{CHECKS}\nelt\n*/\n{SQL}", 5),
        (f"\n\n-- (c) us\n// theirs\n/* a licence; of theirs */\n\n/* elt\n{CHECKS}\nelt */\n{SQL}", 9),
        (f"\ufeff\r\n-- (c) us\r\n/* elt\r\n{CHECKS}\r\nelt */\r\n{SQL}\r\n", 5),
        (f"/* elt {CHECKS} elt */ {SQL}", 1),
        (f"/*\telt\t\n{CHECKS}\n\telt\t*/\n{SQL}", 3),
        (f"/* elt\n{CHECKS}\ndescription: 'of */ run-elt'\nelt */\n{SQL}", 4),
    ],
)
def test_settings_are_found_in_any_spelling_behind_comments(text: str, sql_line: int) -> None:
    table = parse(text)
    assert has_checks(table)
    assert (table.sql.strip(), table.sql_line) == (SQL, sql_line)
    assert table.sql == text[text.lower().rindex("*/") + 2 :]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{SQL}\n/* elt\n{CHECKS}\nelt */", 2),
        (f"{SQL};\n\n/* elt\n{CHECKS}\nelt */", 3),
        (f"/* elt\n{CHECKS}\nelt */\n/* ELT\ndescription: x\nELT */\n{SQL}", 4),
        (f"-- elt\n-- {CHECKS}\n-- elt\n{SQL}", 1),
        (f"// Elt\n{SQL}", 1),
        (f"/** elt\n{CHECKS}\nelt */\n{SQL}", 1),
        (f"/*+ elt\n{CHECKS}\nelt */\n{SQL}", 1),
        (f"/*-- elt --*/ {SQL}", 1),
        (f"/*\n * elt\n * {CHECKS}\n * elt\n */\n{SQL}", 1),
        (f"/* {CHECKS}\nelt */\n{SQL}", 1),
        (f"/* elt-settings\n{CHECKS}\n*/\n{SQL}", 1),
        (f"\u200b/* elt\n{CHECKS}\nelt */\n{SQL}", 1),
        (f"/* elt\n{CHECKS}\n*/\n{SQL}", 1),
        (f"/* elt\n{CHECKS}\n*/\n{SQL} /* elt\nelt */", 1),
        (f"/*elt*/ {SQL}", 1),
        (f"{SQL}\n/* elt", 2),
        (f"{SQL} -- from the ELT", 1),
        (f"/* a licence, elt */\n/* elt\n{CHECKS}\nelt */\n{SQL}", 1),
        ("select 'it''s', 'a\\'b'\n/* elt */", 2),
    ],
)
def test_comment_that_looks_like_settings_is_refused_with_its_line(text: str, line: int) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(f"t.sql:{line}: ")
    assert "/* elt" in problem or "elt */" in problem


@pytest.mark.parametrize(
    "sql",
    [
        "select '/* elt x elt */' as id",
        "select $$ -- elt\n$$ as id",
        'select 1 as "/* elt */"',
        "select 1 as id -- felt, melt, elt_users, delta; see run-elt",
        "select 1 as id /* an elt in the middle */",
    ],
)
def test_text_that_is_no_comment_of_that_kind_is_kept(sql: str) -> None:
    assert parse(sql).sql == sql
    assert has_checks(parse(f"/* elt\n{CHECKS}\nelt */{sql}"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"/* etl\n{CHECKS}\netl */\n{SQL}", 2),
        (f"/*\n{CHECKS}\n*/\n{SQL}", 2),
        (f"/* run_elt\nowner: team:a\nchecks:\n  unique: id\n*/\n{SQL}", 3),
        (f"/* elt_dagster\n{CHECKS}\n*/\n{SQL}", 2),
        (f"{SQL}\n\n/*\n * checks:\n *   - unique: id\n */", 4),
        (f"-- us\n-- checks:\n--   row_count: {{min: 5}}\n{SQL}", 2),
        (f"-- primary_key: [id, line]\n/* elt\nowner: team:a\nelt */\n{SQL}", 1),
        (f"/* elt\nowner: team:a\nelt */\n/* primary_key: id\n*/ {SQL}", 4),
    ],
)
def test_checks_in_a_comment_without_the_word_are_refused_with_their_line(text: str, line: int) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(f"t.sql:{line}: ")
    assert "cannot have checks in a comment without the word elt" in problem
    assert problem.endswith("word another comment differently.")


@pytest.mark.parametrize(
    "comment",
    [
        "-- the primary_key: see the docs",
        "-- primary_key: (a, b)",
        "-- checks: all by hand",
        "/* checks:\n a range of */",
    ],
)
def test_comment_about_checks_is_kept(comment: str) -> None:
    assert parse(f"{comment}\n{SQL}").sql == f"{comment}\n{SQL}"


_SIGNS = st.text(alphabet=" \t\n\r*-+=#:!{}[]<>\u00a0\u200b", max_size=4)
# Without #, behind which YAML has a comment of its own.
_YAML_SIGNS = st.text(alphabet=" \t\n\r*-+=:!{}[]<>\u00a0\u200b", max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    before=st.sampled_from(["", "\n", "-- a\n", "/* a */ ", f"{SQL}\n", "; "]),
    opening=st.sampled_from(["/*", "/**", "--", "//"]),
    word=st.sampled_from(["elt", "ELT", "Elt", "eLt"]),
    signs=st.tuples(_SIGNS, _YAML_SIGNS),
    closing=st.sampled_from(["elt */", "ELT*/", "*/", "", "\nelt\n*/"]),
)
def test_settings_are_never_taken_for_a_comment(
    before: str, opening: str, word: str, signs: tuple[str, str], closing: str
) -> None:
    # A line comment would end before the word.
    first = signs[0] if opening.startswith("/*") else signs[0].replace("\n", "")
    text = f"{before}{opening}{first}{word}\n{signs[1]}{CHECKS}\n{closing}\n{SQL}"
    try:
        table = parse(text)
    except TableProblemsError:
        return
    assert has_checks(table)


def values_of(value: str) -> Any:
    read = read_settings(f"key: {value}")
    assert not read.faults
    return read.values["key"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("02142", "02142"),
        ("-007", "-007"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("[yes, no, on, off, y, n, YES]", ["yes", "no", "on", "off", "y", "n", "YES"]),
        ("[true, True, FALSE]", [True, True, False]),
        ("[12, -3, 0, +4, 0x1F, 0o17]", [12, -3, 0, 4, 31, 15]),
        ("[1.10, .5, 1e3, -2.]", [Decimal("1.10"), Decimal("0.5"), Decimal("1E+3"), Decimal(-2)]),
        ("1234567890.123456789", Decimal("1234567890.123456789")),
        ("[NaN, .nan, .inf, -.Inf]", ["NaN", ".nan", ".inf", "-.Inf"]),
        ("2030-01-31", date(2030, 1, 31)),
        ("2030-02-30", "2030-02-30"),
        ("2030-1-31", "2030-1-31"),
        ("2030-01-31 10:00", datetime(2030, 1, 31, 10)),  # noqa: DTZ001 - as it is written
        ("2030-01-31T10:00:00.000001Z", datetime(2030, 1, 31, 10, microsecond=1, tzinfo=UTC)),
        ("2030-01-31 10:00:00 +02:00", datetime(2030, 1, 31, 10, tzinfo=timezone(timedelta(hours=2)))),
        # Python would cut them to microseconds.
        ("2030-01-31 10:00:00.123456789", "2030-01-31 10:00:00.123456789"),
        ("!!str 5", "5"),
        ("'5'", "5"),
        ("1" * 5000, "1" * 5000),
        ("1e99999999999999999999", "1e99999999999999999999"),
    ],
)
def test_value_is_yaml_1_2s_or_text(written: str, value: Any) -> None:
    found = values_of(written)
    assert found == value
    assert repr(found) == repr(value)


def test_comment_behind_a_value_is_no_part_of_it() -> None:
    read = read_settings("a: x # y\nb: [1, # one\n  2] #\nc: 'x #1' # z\n# d\ne: #\n  f ## g\nh: a#1")
    assert (read.values, read.faults) == ({"a": "x", "b": [1, 2], "c": "x #1", "e": "f", "h": "a#1"}, [])


def test_keys_are_text() -> None:
    assert read_settings("no: 1\nnull: 2\n1: 3\n2030-01-01: 4").values == {"no": 1, "null": 2, "1": 3, "2030-01-01": 4}


@pytest.mark.parametrize(
    ("yaml", "line", "says"),
    [
        ("a:\n  - &x [*x]", 1, "contains itself"),
        ("a: &x {b: c}\nd:\n  <<: *x", 2, "cannot merge"),
        ("a: !!python/name:os.system x", 0, "the tag !!python/name:os.system"),
        ("a: !!bool yes", 0, "the tag !!bool"),
        ("a: !!set {b}", 0, "the tag !!set"),
        ("? [a]\n: b", 0, "a key requires text"),
        ("a: b\nc: ~", 1, "c requires a value, got ~. YAML reads that as no value. Quote it"),
        ("a: x\nb: Orders #1 of us", 1, "a value cannot hold # without quotes, got 'Orders #1 of us'"),
        ("a:\n  - b  #c\n  - d", 1, "a value cannot hold # without quotes"),
        ("a:\n  b:", 1, "a.b requires a value, got none. Write one"),
        ("a: 1\n\na: 2", 2, "key 'a' requires one value, got a second"),
    ],
)
def test_yaml_that_cannot_be_meant_is_a_fault(yaml: str, line: int, says: str) -> None:
    (fault, *_) = read_settings(yaml).faults
    assert says in fault.message
    assert fault.line == line


@pytest.mark.parametrize(
    ("yaml", "line", "shown"),
    [
        ("owner: team:a\ndescription: a: b", 3, "'description: a: b'"),
        ("owner: team:a\ndescription: 'it's'\npublish: clone", 3, "\"description: 'it's'\""),
        ("description: 'open\npublish: clone", 2, '"description: \'open"'),
        ("description: x\nowner\npublish: clone", 3, "'owner'"),
        ("checks: {row_count: {min: 1}\npublish: clone", 2, "'checks: {row_count: {min: 1}'"),
        ("checks:\n  row_count: {min: 1}\n matches: {a: b}", 4, "'matches: {a: b}'"),
        ("matches: {zip: [0-9]+}", 2, "'matches: {zip: [0-9]+}'"),
        ("description: a\x00b", 2, r"'description: a\x00b'"),
        (f"owner: team:{'é' * 40}\ndescription: a\x00b\npublish: clone", 3, r"'description: a\x00b'"),
        ("a: 1\n---\nb: 2", 3, "'---'"),
        ("description: *x", 2, "'description: *x'"),
    ],
)
def test_text_that_is_no_yaml_shows_the_line_and_the_two_usual_causes(yaml: str, line: int, shown: str) -> None:
    (problem,) = problems_of(f"/* elt\n{yaml}\nelt */ {SQL}")
    assert problem.startswith(f"t.sql:{line}: front matter requires YAML, got ")
    assert f" at {shown}. Two usual causes: a value with a colon" in problem
    assert problem.endswith("keys of one level need the same indentation, in spaces.")


@pytest.mark.parametrize(
    "yaml",
    [
        "checks: {row_count: 5}",
        "checks: [row_count]",
        "checks: {range: {a: 5}}",
        "checks: {range: {a: {max: [1.5, 2030-01-01]}}}",
        "checks: {unique: 5}",
        "checks: {sql: [a]}",
        "checks: {accepted_values: {a: [[1.5]]}}",
        "columns: [a]",
        "columns: {a: [1.5]}",
        "primary_key: 1.5",
        "primary_key: {a: 2030-01-01}",
        "description: 1.50",
        "description: 2030-01-01",
        "tags: {a: true}",
        "transient: yes",
        "warehouse: [1.5]",
        "upstream: 5",
        "publish: [clone]",
        "identifier: a b.",
        "owner: A. B.",
        "checks: {row_count: {min: 1e3}}",
        "checks: {row_count: {min: '5'}}",
        "checks: {freshness: {a: 0}}",
        "checks: {freshness: {a: {max_age_hours: 1, max_ahead_hours: -1}}}",
        "checks: {not_null: {columns: a, severity: info}}",
        "show_rows: 101",
        r"checks: {matches: {a: '\Q'}}",
    ],
)
def test_problem_has_no_names_of_classes_and_no_two_full_stops(yaml: str) -> None:
    (problem,) = problems_of(f"/* elt\n{yaml}\nelt */ {SQL}")
    for word in (
        "Input should",
        " items ",
        "instance of",
        "dictionary",
        "tuple",
        "Decimal",
        "datetime",
        "RowCount",
        "pydantic",
        "None",
        "True",
    ):
        assert word not in problem
    assert problem.endswith(".")
    assert not problem.endswith("..")


@settings(max_examples=500, deadline=None)
@given(text=st.text(alphabet="0123456789.+-_:exoXEabcdfTZ~nulyst", min_size=1, max_size=8))
@example(text="1.10")
@example(text="+1")
@example(text="0x1F")
@example(text="1e3")
@example(text="True")
@example(text="2030-01-01")
@example(text="null")
def test_accepted_value_is_what_is_written_or_an_error(text: str) -> None:
    try:
        table = parse(f"/* elt\nchecks: {{accepted_values: {{a: [{text}]}}}}\nelt */ {SQL}")
    except TableProblemsError:
        return
    (value,) = table.checks.accepted_values["a"].values
    assert (
        str(value).lower() if isinstance(value, bool) else f"{value:f}" if isinstance(value, Decimal) else str(value)
    ) == text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("checks:\n  not_null:", "checks.not_null requires a value, got none"),
        ("checks:\n  row_count_change: ~", "checks.row_count_change requires a value, got ~"),
        ("checks:\n  range: {a: {min: , max: 5}}", "checks.range.a.min requires a value, got none"),
        ("checks:\n  unique: []", "checks.unique: requires a column"),
        ("checks:\n  freshness: {a: true}", "checks.freshness.a.max_age_hours: requires a number of hours"),
        ("checks:\n  freshness: {a: 'inf'}", "checks.freshness.a.max_age_hours: requires a number of hours"),
        ("checks:\n  sql: {x: 'select 1 -- {table}'}", "checks.sql.x.query: requires {table} where the table is read"),
        ("checks:\n  range: {a: {min: 1e40}}", "checks.range.a.min: requires numbers of at most 38 digits"),
        (
            "checks:\n  range: {a: {min: 2030-01-01 00:00:00Z, max: 2030-01-02 00:00:00}}",
            "checks.range.a: requires min and max both with a time zone, or both without one",
        ),
        (
            "checks:\n  accepted_values: {a: [02142, 10001]}",
            "checks.accepted_values.a.values: requires a list of values of",
        ),
        ("\nfresh_within: 26", "fresh_within.fail: requires minutes, hours or days, as in 90m, 26h or 7d, got '26'"),
        ("\nfresh_within: {fail: 1h, warn: 60m}", "fresh_within.warn: requires a warn shorter than fail"),
        ("\nfresh_within: 0 6 * *", "fresh_within.by: requires a cron of five fields in UTC"),
        ("\nfresh_within: 0 0 31 2 *", "fresh_within.by: requires a cron with a day that comes"),
        (
            "\nfresh_within: {by: 0 6 * * *, max_age: 26h}",
            "fresh_within.max_age: requires at most the time between two deadlines, 24 h",
        ),
        ("\nfresh_within: {fail: 26h, max_age: 1h}", "fresh_within.max_age: requires by beside it"),
        ("\nfresh_within: {}", "fresh_within: requires either fail or by"),
        ("\nfresh_within: {fial: 1h, fail: 2h}", "unknown key 'fresh_within.fial'. Did you mean 'fresh_within.fail'?"),
        ("\ncolumns: {a: {tags: {x y: z}}}", "columns.a.tags: requires keys and values of at most 63 letters"),
        ("\nprimary_key: []", "primary_key: requires at least one column"),
        ("checks:\n  sql: {a-b: 'select * from {table}'}", "checks.sql.a-b: requires a name of letters, digits and _"),
        ("\ntags: {a b: x}", "tags: requires keys and values of at most 63 letters, digits, '_', '-' and '.'"),
        (
            f"\ntags: {{a: {'x' * 64}}}",
            "tags: requires keys and values of at most 63 letters, digits, '_', '-' and '.'",
        ),
        (f"\nprimary_key: {'x' * 256}", "primary_key.0: requires at most 255 characters"),
        ("columns:\n  a: {type: }", "columns.a.type requires a value, got none"),
        ("columns:\n  a:\n  A:", "columns.A: requires columns that differ"),
    ],
)
def test_declaration_that_would_be_lost_is_refused_with_its_line(settings: str, says: str) -> None:
    (problem,) = problems_of(f"/* elt\n{settings}\nelt */ {SQL}")
    line = 4 if "A:" in settings else 3
    assert problem.startswith(f"t.sql:{line}: {says}")


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ("columns: {a: number(10, 2)}", "columns.2)"),
        ("columns: {a: {type: number(10,2), description: x}}", "columns.a.2)"),
        ("checks: {sql: {a: {table}}}", "checks.sql.a.table"),
        ("checks: {row_count_change: {max_drop: 1,5%}}", "checks.row_count_change.5%"),
    ],
)
def test_value_that_a_comma_or_a_brace_cuts_is_refused_with_the_remedy(settings: str, subject: str) -> None:
    (problem,) = problems_of(f"/* elt\n{settings}\nelt */ {SQL}")
    assert problem.startswith(
        f"t.sql:2: {subject} requires a value, got none. Write one; or quote the value before it: "
    )


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029"])
def test_line_is_the_editors_behind_other_line_breaks_of_yaml(sign: str) -> None:
    for wrong in ("foo: 1", "foo: [", "owner: ~", "foo: \x07"):
        (problem, *_) = problems_of(f"/* elt\ndescription: 'a{sign}b'\n{wrong}\nelt */ {SQL}")
        assert problem.startswith(("t.sql:3: ", "t.sql:4: ") if wrong == "foo: [" else "t.sql:3: "), problem


@pytest.mark.parametrize(
    "settings",
    [
        f"checks: {{freshness: {{a: 1{'0' * 400}}}}}",
        f"checks: {{range: {{a: {{min: 1{'0' * 400}}}}}}}",
        f"checks: {{row_count_change: {{max_growth: 1{'0' * 400}%}}}}",
        f"columns: {{a: '{'array(' * 3000}int{')' * 3000}'}}",
        f"checks: {'[' * 1500}{']' * 1500}",
        "a: &a [x, x]\n" + "\n".join(f"k{at}: &{at} [{', '.join(['*' + 'a0123456'[at]] * 9)}]" for at in range(8)),
    ],
)
def test_value_that_is_too_large_is_a_problem_and_no_crash(settings: str) -> None:
    assert len(problems_of(f"/* elt\n{settings}\nelt */ {SQL}")) == 1


@pytest.mark.parametrize("kind", ["accepted_values", "matches", "range", "freshness", "relationship", "sql"])
def test_kind_of_check_without_a_column_is_refused(kind: str) -> None:
    (problem,) = problems_of(f"/* elt\nchecks:\n  {kind}: {{}}\nelt */ {SQL}")
    assert problem == f"t.sql:3: checks.{kind}: requires at least one entry, got '{{}}'."


def test_remedy_for_a_number_has_all_its_digits() -> None:
    number = "1234567890123456789012345678.123456789"
    (problem,) = problems_of(f"/* elt\nchecks: {{accepted_values: {{a: [{number}0]}}}}\nelt */ {SQL}")
    assert problem.endswith(f"Quote it: '{number}0', or write {number}.")


def test_backslash_in_double_quotes_is_told_by_name() -> None:
    (problem,) = problems_of(f'/* elt\nchecks: {{matches: {{a: "\\d+"}}}}\nelt */ {SQL}')
    assert problem.endswith("In double quotes YAML reads the backslash. Put the value in single quotes.")


def test_column_may_have_no_type() -> None:
    assert parse(f"/* elt\ncolumns:\n  a:\n  b: int\nelt */ {SQL}").columns["a"].type is None


@given(st.text(st.sampled_from([*";'\"$-/*\n a1_\\é"]), max_size=30))
@example("a$$;$$;")
@example("1$$;$$;")
@example("'it''s; \\'; ';")
@example("/* ; */ -- ;\n // ;\n ;")
@example("/* ;")
@settings(max_examples=500)
def test_first_semicolon_is_the_one_that_the_units_of_sql_have(sql: str) -> None:
    found = next((unit.start() for unit in SQL_UNIT.finditer(sql) if unit.lastgroup == "semicolon"), None)
    assert first_semicolon(sql) == found


def test_no_letter_passes_for_one_of_a_word_that_settings_have_and_folds_into_another() -> None:
    # What a comment is searched for knows no case either, and goes by another table of letters.
    letters = "".join(map(chr, range(sys.maxunicode + 1)))
    alike = re.findall("[elt chks mary_]", letters, re.IGNORECASE)
    assert {letter.casefold() for letter in alike} == set("elt chks mary_")


@pytest.mark.parametrize(("yaml", "line"), [("checks:\n\tnot_null: id", 3), ("owner: team:a\n  \tdescription: x", 3)])
def test_tab_in_the_indentation_is_told_by_name(yaml: str, line: int) -> None:
    (problem,) = problems_of(f"/* elt\n{yaml}\nelt */ {SQL}")
    assert problem.startswith(f"t.sql:{line}: front matter requires YAML, got a tab before '")
    assert problem.endswith(". YAML takes no tab for indentation. Put spaces in its place.")
