"""Names as Snowflake stores them, as SQL takes them, and as a person reads them."""

import pytest

from run_elt_dagster.model.names import Relation, key_of, session_name


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
