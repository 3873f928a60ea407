"""What the look at declared policies and tags asks and says, and what a table that stays is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.doctor.governance import GovernanceLook
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.creating import proof_rows_sql, proof_sql, protection_of, rows_unread
from run_elt_dagster.publish.policies import all_references_sql, attach_sql, declared_policies, references_in
from run_elt_dagster.publish.statements import after_rows_sql, build_sql, stored_as_sql
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


def test_policies_of_queries_are_set_by_their_documented_statements_and_found_with_their_key_in_any_order() -> None:
    policies = {
        "projection": {"v": "g.p"},
        "aggregation": {"name": "g.a", "entity_key": ["v", "n"]},
        "join": {"name": "g.j", "allowed_keys": "n"},
    }
    declared = declared_policies(a_table(policies=policies), database="D")
    assert [attach_sql(X, each) for each in declared] == [
        'ALTER TABLE "D"."A"."B" MODIFY COLUMN "V" SET PROJECTION POLICY "D"."G"."P"',
        'ALTER TABLE "D"."A"."B" SET AGGREGATION POLICY "D"."G"."A" ENTITY KEY ("N", "V")',
        'ALTER TABLE "D"."A"."B" SET JOIN POLICY "D"."G"."J" ALLOWED JOIN KEYS ("N")',
    ]
    assert references_in(
        [
            ("PROJECTION_POLICY", "D", "G", "P", "V", None, None),
            ("AGGREGATION_POLICY", "D", "G", "A", None, '[ "V", "N" ]', None),
            ("JOIN_POLICY", "D", "G", "J", None, '[ "N" ]', None),
        ]
    ) == set(declared)


@pytest.mark.parametrize(
    ("sql", "taken"),
    [
        ("select v from a.b", "got a.b.v for v"),
        ("select * from a.b", "got a.b.v for v"),
        ("select max(upper(v)) as most from a.b", "got a.b.v for most"),
        ("select * from (select v as w, n from a.b) where n > 0", "got a.b.v for w"),
        ("select n from a.b where v > 1", None),
        ("select x.n from a.b as x join s.t on s.t.v = x.v", None),
        ("select * exclude v from a.b", None),
    ],
)
def test_column_that_may_not_be_selected_gives_no_value_to_another_table(sql: str, taken: str | None) -> None:
    hidden = a_table(policies={"projection": {"v": "g.p"}}, object_tags={})
    reader = a_table(table="r", sql=sql, policies=None, object_tags={})
    if taken is None:
        assert set(catalogue([hidden, reader])) == {("a", "b"), ("a", "r")}
        return
    with pytest.raises(TableProblemsError) as raised:
        catalogue([hidden, reader])
    assert [taken in each.message for each in raised.value.problems] == [True]


EVERY = {
    "row_access": {"name": "g.r", "on": "n"},
    "masking": {"v": {"name": "g.m", "using": "w"}},
    "projection": {"v": "g.p"},
    "aggregation": {"name": "g.a", "entity_key": "n"},
    "join": "g.j",
}
COLUMNS = (Column("N", "TEXT", length=4), Column("V", "NUMBER", 10, 2), Column("W", "BOOLEAN"), Column("x y", "DATE"))
MARKER = Marker("failed", "8f3a01c2")


def test_creating_statement_has_the_documented_clauses_and_takes_columns_by_name() -> None:
    table = a_table(policies=EVERY, sql="select 'a' as n", description="B", cluster_by="n", data_retention_days=1)
    protection = protection_of(table, declared_policies(table, database="D"), COLUMNS, database="D")
    assert build_sql(table, X, marker=MARKER, protection=protection) == (
        'CREATE OR REPLACE TABLE "D"."A"."B" ("N", "V" NUMBER(10,2) WITH MASKING POLICY "D"."G"."M" USING ("V", "W") '
        'WITH PROJECTION POLICY "D"."G"."P", "W", "x y") CLUSTER BY ("N") DATA_RETENTION_TIME_IN_DAYS = 1 '
        f"""COMMENT = 'B {MARKER}' WITH ROW ACCESS POLICY "D"."G"."R" ON ("N") """
        'WITH AGGREGATION POLICY "D"."G"."A" ENTITY KEY ("N") WITH JOIN POLICY "D"."G"."J" WITH TAG ("D"."G"."DOMAIN" = \'sales\') '
        'AS (\nSELECT "N", "V", "W", "x y" FROM (\nselect \'a\' as n\n)\n)'
    )


def test_creating_statement_without_a_policy_on_a_column_names_none() -> None:
    table = a_table(policies={"row_access": EVERY["row_access"]}, object_tags={})
    protection = protection_of(table, declared_policies(table, database="D"), COLUMNS, database="D")
    statement = build_sql(table, X, marker=MARKER, protection=protection)
    assert statement.startswith('CREATE OR REPLACE TABLE "D"."A"."B" COMMENT = ')
    assert statement.endswith(f' WITH ROW ACCESS POLICY "D"."G"."R" ON ("N") AS (\n{table.sql}\n)')


def test_proof_has_two_rows_that_no_constant_mask_and_none_of_a_part_leaves_as_they_are() -> None:
    named = COLUMNS[:3]
    table = a_table(policies=EVERY, object_tags={})
    columns = [Column("run_elt row", "NUMBER"), *named]
    protection = protection_of(table, declared_policies(table, database="D"), columns, database="D")
    assert proof_sql(X, protection, named, MARKER).endswith(
        'AS (\nSELECT 1 AS "run_elt row", CAST(\'1 Ab\' AS VARCHAR(4)) AS "N", CAST(1E-2 AS NUMBER(10,2)) AS "V", CAST(TRUE AS BOOLEAN) AS "W" '
        "UNION ALL SELECT 2, CAST('2 Fg' AS VARCHAR(4)), CAST(2E-2 AS NUMBER(10,2)), CAST(FALSE AS BOOLEAN)\n)"
    )
    assert proof_rows_sql(X, named[1:]) == (
        'SELECT ("V" = IFF("run_elt row" = 1, CAST(1E-2 AS NUMBER(10,2)), CAST(2E-2 AS NUMBER(10,2)))) AND '
        '("W" = IFF("run_elt row" = 1, CAST(TRUE AS BOOLEAN), CAST(FALSE AS BOOLEAN))) FROM "D"."A"."B"'
    )


@pytest.mark.parametrize(
    ("counted", "there", "got"),
    [
        (5, 5, None),
        (5, 1000, "got 5 of 1,000."),
        (5, None, "got 5 of an unknown number."),
        (None, 5, "got an unknown number of 5."),
        (None, None, "got an unknown number of an unknown number."),
    ],
)
def test_checks_that_did_not_read_every_row_of_the_catalogue_do_not_count(
    counted: int | None, there: int | None, got: str | None
) -> None:
    refused = rows_unread(a_table(), X, counted=counted, there=there, role="ELT")
    assert (refused.message if refused is not None else None) == (
        got
        and f"a.b requires that its checks read all rows of D.A.B, {got} They were asked through its policies. "
        "Let its row access policy exempt role ELT, then materialize again."
    )
