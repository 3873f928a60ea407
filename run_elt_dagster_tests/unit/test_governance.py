"""What the look at declared policies and tags asks and says, and what a table that stays is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from run_elt_dagster.doctor.governance import GovernanceLook
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.governance import all_references_sql
from run_elt_dagster.publish.statements import after_rows_sql, stored_as_sql
from run_elt_dagster.snowflake.session import Answer, StatementError

X = Relation("D", "A", "B")
MASK, ROWS = (
    ("MASKING_POLICY", "D", "G", "M", "V", None, None),
    ("ROW_ACCESS_POLICY", "D", "G", "R", None, '["N"]', None),
)
TAGS = 'SHOW TAGS IN SCHEMA "D"."G"'
VALUES = """SELECT SYSTEM$GET_TAG('"D"."G"."DOMAIN"', '"D"."A"."B"', 'table')"""


def a_table(**more: Any) -> AnalyticsTable:
    policies = {"row_access": {"name": "g.r", "on": "n"}, "masking": {"v": "g.m"}}
    given = {"schema": "a", "table": "b", "sql": "select 1 as n, 2 as v", "policies": policies}
    return AnalyticsTable.model_validate({**given, "object_tags": {"g.domain": "sales"}, **more})


def look(answers: Mapping[str, Sequence[Sequence[Any]]]) -> GovernanceLook:
    """Return a look of which each statement that is not answered is refused."""

    def ask(sql: str) -> Answer:
        if sql not in answers:
            raise StatementError("refused", errno=3001, query_id="q", answered=True)
        return Answer(tuple(tuple(row) for row in answers[sql]), "q", 0.0, ("created_on", "name"))

    return GovernanceLook(ask, [a_table(), a_table(table="c", policies=None)], database="D", role="ELT")


def test_policies_and_tags_without_a_right_are_said_with_their_grants() -> None:
    rows, mask, tag = look({}).problems()
    assert rows[1].endswith("GRANT APPLY ON ROW ACCESS POLICY D.G.R TO ROLE ELT.")
    assert mask[0] == "a.b requires masking policy D.G.M, got: refused"
    assert tag == (
        "a.b, a.c requires tag D.G.DOMAIN, got none that the role may apply",
        "Create it, or GRANT USAGE ON SCHEMA D.G and GRANT APPLY ON TAG D.G.DOMAIN TO ROLE ELT.",
    )
    allowed = {f'DESCRIBE {kind} POLICY "D"."G"."{name}"': () for kind, name in (("ROW ACCESS", "R"), ("MASKING", "M"))}
    assert list(look({**allowed, TAGS: [("t", "DOMAIN")]}).problems()) == []


@pytest.mark.parametrize(
    ("references", "value", "said"),
    [
        ([MASK, ROWS], "sales", []),
        ([ROWS], "sales", ["D.A.B is without masking policy D.G.M on V"]),
        ([MASK, ROWS], "finance", ["D.A.B has another value of tag D.G.DOMAIN"]),
        ([MASK, ROWS], None, ["D.A.B has no value of tag D.G.DOMAIN"]),
    ],
)
def test_what_the_next_run_sets_is_said_in_two_statements(
    references: Sequence[Sequence[Any]], value: str | None, said: Sequence[str]
) -> None:
    asked = {all_references_sql([X]): [(0, *each) for each in references], VALUES: [(value,)]}
    assert list(look(asked).drift(lambda target: target == X)) == said


def test_what_cannot_be_read_of_published_tables_is_said() -> None:
    refused = look({})
    assert list(refused.drift(lambda target: target == X)) == []
    assert refused.unreadable == [
        "the policies of D.A.B cannot be listed: refused",
        "the tags of D.A.B cannot be read: refused",
    ]


def test_table_that_stays_is_given_what_the_catalogue_does_not_have() -> None:
    increment = {"column": "n", "key": "k"}
    table = a_table(
        policies=None, cluster_by=["n", '"x y"'], data_retention_days=3, increment=increment, object_tags={}
    )
    assert "CLUSTERING_KEY, RETENTION_TIME" in (stored_as_sql(table, X) or "")
    assert after_rows_sql(table, X, 'LINEAR(N, "x y")', 3) == []
    assert after_rows_sql(table, X, None, "1") == [
        'ALTER TABLE "D"."A"."B" CLUSTER BY ("N", "x y")',
        'ALTER TABLE "D"."A"."B" SET DATA_RETENTION_TIME_IN_DAYS = 3',
    ]
    assert stored_as_sql(a_table(), X) is None
