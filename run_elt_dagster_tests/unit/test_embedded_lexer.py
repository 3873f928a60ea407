import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.dialect.lexer import (
    identifier_value,
    only_statement,
    tokens_of,
)


def texts(sql: str) -> list[str]:
    return [token.text for token in only_statement(sql)]


def test_comments_are_no_tokens() -> None:
    assert texts("select 1 -- one; two\n, /* three; */ 4 // five;\n") == ["select", "1", ",", "4"]


@pytest.mark.parametrize("sql", ["select ';'", 'select ";"', "select $$;$$", "select 'it''s; \\'; ' -- ;"])
def test_semicolon_inside_quotes_does_not_end_a_statement(sql: str) -> None:
    assert only_statement(sql)[0].text == "select"


@pytest.mark.parametrize("sql", ["select 1;", "select 1 ; -- done", ";select 1;;\n"])
def test_semicolon_without_another_statement_is_left_out(sql: str) -> None:
    assert texts(sql) == ["select", "1"]


def test_second_statement_is_refused_with_the_count() -> None:
    with pytest.raises(SqlError) as refused:
        only_statement("select 1; drop table x; -- done")
    assert (refused.value.errno, refused.value.message) == (
        8,
        "Actual statement count 2 did not match the desired statement count 1.",
    )


def test_semicolon_inside_parentheses_is_a_syntax_error_with_its_position() -> None:
    with pytest.raises(SqlError) as refused:
        only_statement("create table x as (\n  select 1;\n)")
    assert refused.value.errno == 1003
    assert "line 2 at position 10 unexpected ';'" in refused.value.message


@pytest.mark.parametrize("sql", ["", "  ", "-- nothing", ";", "/* nothing */;"])
def test_empty_text_is_refused(sql: str) -> None:
    with pytest.raises(SqlError) as refused:
        only_statement(sql)
    assert refused.value.errno == 900


@pytest.mark.parametrize("sql", ["select 'open", 'select "open', "select $$open", "select 1 /* open"])
def test_quote_that_is_never_closed_is_a_syntax_error(sql: str) -> None:
    with pytest.raises(SqlError) as refused:
        tokens_of(sql)
    assert refused.value.errno == 1003


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("'it''s'", "it's"),
        (r"'it\'s'", "it's"),
        (r"'a\nb\tc\\d'", "a\nb\tc\\d"),
        (r"'\x41\u00fc\101'", "AüA"),
        (r"'\q'", "q"),
        ("$$it's \\n$$", "it's \\n"),
    ],
)
def test_string_constant_has_its_escapes_resolved(sql: str, value: str) -> None:
    assert tokens_of(sql)[0].text == value


@pytest.mark.parametrize(
    ("sql", "name"), [("mau", "MAU"), ('"mau"', "mau"), ('"a ""b"" ü"', 'a "b" ü'), ("ü1$", "Ü1$")]
)
def test_identifier_folds_to_upper_case_unless_quoted(sql: str, name: str) -> None:
    assert identifier_value(tokens_of(sql)[0]) == name
