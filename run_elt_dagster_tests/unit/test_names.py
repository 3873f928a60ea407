"""Names as Snowflake stores them, as SQL takes them, and as a person reads them."""

import pytest

from run_elt_dagster.model.names import Relation, key_of, session_name, stored_name, stored_names


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("RAW_DATA", "ORDERS"), ("raw_data", "orders")),
        # Snowflake keeps these apart, so their keys are kept apart too.
        (("RAW_DATA", "orders"), ("raw_data", '"orders"')),
        (("DB", "A", 'say "hi"'), ("db", "a", '"say ""hi"""')),
    ],
)
def test_key_is_in_lower_case_unless_snowflake_needs_quotes(names: tuple[str, ...], key: tuple[str, ...]) -> None:
    assert key_of(names) == key


@pytest.mark.parametrize(
    ("reported", "stored"), [("PROD", "PROD"), ("prod", "prod"), ('"my db"', "my db"), ('"say ""hi"""', 'say "hi"')]
)
def test_name_that_a_session_reports_is_stored_without_its_quotes(reported: str, stored: str) -> None:
    assert session_name(reported) == stored


def test_relation_reads_as_a_person_types_it() -> None:
    relation = Relation("PROD", "my schema", "MAU")
    assert (str(relation), relation.sql) == ('PROD."my schema".MAU', '"PROD"."my schema"."MAU"')


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (
            "1a",
            (
                "requires a letter or _ first, then letters, digits, _ and $; any other name in double quotes, as in "
                "'\"Net sales\"'"
            ),
        ),
        ("x" * 256, "requires at most 255 characters"),
        (f'"{"x" * 256}"', "requires at most 255 characters"),
    ],
)
def test_name_that_snowflake_does_not_take_says_what_is_required(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match="requires") as raised:
        stored_name(name)
    assert str(raised.value) == rule


@pytest.mark.parametrize("qualified", ["", "a.", ".a", "a..b", "a b", '"a"b'])
def test_names_without_dots_between_them_are_refused(qualified: str) -> None:
    with pytest.raises(ValueError, match="requires") as raised:
        stored_names(qualified)
    assert (
        str(raised.value) == "requires names with dots between them; what is not letters, digits and _ in double quotes"
    )


def test_names_are_stored_part_by_part() -> None:
    assert stored_names('db."my.schema".T$1') == ("DB", "my.schema", "T$1")
    assert stored_name("x" * 255) == "X" * 255
