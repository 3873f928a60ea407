"""What became of a table: whether readers see its rows, and whether its children can be built."""

from typing import Any

import pytest

from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.snowflake.session import StatementError

TABLE = AnalyticsTable.model_validate({"schema": "a", "table": "t", "sql": "select 1 as n"})
FAILURE = Failure("build", "it failed", Production.of(None))


@pytest.mark.parametrize(
    ("became", "published", "in_production"),
    [
        ({}, True, True),
        ({"warnings": ("slow",), "schema_changes": ("columns added: A",)}, True, True),
        ({"failure": FAILURE}, False, False),
        ({"skipped_because": (("a", "parent"),)}, False, False),
        # Readers see newer rows, so children do too.
        ({"superseded_by": "8f3a01c2"}, False, True),
    ],
)
def test_children_are_built_where_readers_see_the_rows_or_newer_ones(
    became: dict[str, Any], published: bool, in_production: bool
) -> None:
    outcome = TableOutcome(TABLE, Relation("D", "A", "T"), Relation("D", "A", "TEMP_T__8F3A01C2"), **became)
    assert (outcome.published, outcome.in_production) == (published, in_production)


@pytest.mark.parametrize(
    ("cause", "is_unexpected"),
    [
        (None, False),
        (StatementError("no answer", errno=None, query_id="q", answered=False), False),
        (ValueError("of ours"), True),
    ],
)
def test_error_of_ours_is_unexpected_and_one_of_snowflake_is_not(cause: Exception | None, is_unexpected: bool) -> None:
    assert Failure("build", "it failed", Production.of(None), cause=cause).is_unexpected is is_unexpected
