"""Policies of the simulator: on which object they are set."""

from typing import Any

import pytest

from run_elt_dagster.model.names import Relation
from run_elt_dagster.publish.guards import policies_sql
from run_elt_dagster_tests.support.embedded import Session, account, server, session

# About a part of the tests alone, the simulated account.
pytestmark = pytest.mark.thorough

__all__ = ["account", "server", "session"]

MASK = "create masking policy mask as (v varchar) returns varchar -> case when true then '*' else v end"
COLUMNS = (
    "POLICY_DB POLICY_SCHEMA POLICY_NAME POLICY_KIND REF_DATABASE_NAME REF_SCHEMA_NAME REF_ENTITY_NAME REF_ENTITY_DOMAIN "
    "REF_COLUMN_NAME REF_ARG_COLUMN_NAMES TAG_DATABASE TAG_SCHEMA TAG_NAME POLICY_STATUS"
)
FILTER = "create row access policy filter as (v varchar, n int) returns boolean -> v = current_role() or n > 1"


@pytest.fixture
def policies(session: Session) -> Session:
    """A session with a policy of each kind and the tables X and Y, on none of which any is set."""
    session.sql(MASK)
    session.sql(FILTER)
    for table in ("x", "y"):
        session.sql(f"create table {table} as select 'a' as a, 1 as b")
    return session


def references(
    session: Session, name: str = "x", what: str = "policy_name, ref_column_name, ref_arg_column_names"
) -> Any:
    return session.sql(
        f"select {what} from table(information_schema.policy_references("
        f"ref_entity_name => '{name}', ref_entity_domain => 'table')) order by policy_name"
    )


def test_policy_is_listed_with_the_columns_of_an_account(policies: Session) -> None:
    schema = policies.value("select current_schema()")
    policies.sql("alter table x modify column a set masking policy mask using (a, b)")
    policies.sql("alter table x add row access policy filter on (a, b)")
    columns = policies.columns(
        "select * from table(run_elt.information_schema.policy_references(ref_entity_name => 'x', ref_entity_domain => 'TABLE'))"
    )
    assert columns == COLUMNS.split()
    where = ("RUN_ELT", schema, "X", "TABLE")
    assert references(policies, what="*") == [
        ("RUN_ELT", schema, "FILTER", "ROW_ACCESS_POLICY", *where, None, '["A", "B"]', None, None, None, "ACTIVE"),
        ("RUN_ELT", schema, "MASK", "MASKING_POLICY", *where, "A", '["B"]', None, None, None, "ACTIVE"),
    ]
    assert policies.value("select a from x") == "a"


def test_policies_of_many_tables_are_asked_in_one_query(policies: Session) -> None:
    schema = policies.value("select current_schema()")
    policies.sql("""create table "it's ""so"".z" as select 'a' as "a b" """)
    policies.sql("""alter table "it's ""so"".z" alter column "a b" set masking policy mask""")
    policies.sql("alter table y add row access policy filter on (a, b)")
    relations = [Relation("RUN_ELT", schema, name) for name in ("X", "Y", 'it\'s "so".z')]
    assert sorted(policies.sql(policies_sql(relations))) == [
        (1, "ROW_ACCESS_POLICY", "FILTER"),
        (2, "MASKING_POLICY", "MASK"),
    ]


def test_policies_of_no_table_are_an_error(policies: Session) -> None:
    error = policies.error(
        "select * from table(information_schema.policy_references(ref_entity_name => 'nowhere', ref_entity_domain => 'table'))"
    )
    assert error.errno == 2003
    assert policies.refused("select * from table(information_schema.policy_references(policy_name => 'mask'))") == 2


def test_policy_belongs_to_the_object(policies: Session) -> None:
    def masked() -> list[str]:
        return [name for name in ("x", "y") if references(policies, name)]

    policies.sql("alter table x modify a set masking policy mask")
    policies.sql("insert overwrite into x select 'b', 2")
    assert masked() == ["x"]
    policies.sql("alter table x swap with y")
    assert masked() == ["y"]
    policies.sql("create or replace table x clone y")
    assert masked() == ["x", "y"]
    policies.sql("create or replace table x as select * from y")
    assert masked() == ["y"]
    policies.sql("alter table x rename to replacement")
    policies.sql("undrop table x")
    assert masked() == ["x", "y"]


def test_like_takes_no_row_access_policy_along(policies: Session) -> None:
    policies.sql("alter table x add row access policy filter on (a, b)")
    policies.sql("create or replace table y like x")
    assert references(policies, "y") == []
    policies.sql("create or replace table y clone x")
    assert [row[0] for row in references(policies, "y")] == ["FILTER"]


def test_like_of_a_table_with_a_masking_policy_is_refused(policies: Session) -> None:
    policies.sql("alter table x modify column a set masking policy mask")
    assert policies.refused("create or replace table y like x") == 2
    assert policies.value("select a from y") == "a"


@pytest.mark.parametrize(
    ("column", "errno"),
    [
        ("a with masking policy mask", 2),
        ("a varchar with tag (t = 'v')", 2),
        ("a varchar with masking policy nowhere, b", 2003),
        ("a varchar with masking policy mask, b int) with row access policy nowhere on (a", 2003),
    ],
)
def test_clause_of_a_creating_statement_is_refused_and_not_left_out(policies: Session, column: str, errno: int) -> None:
    assert policies.refused(f"create table z ({column}) as select 'a' as a, 1 as b") == errno
    assert policies.refused("select * from z") == 2003


def test_policies_of_a_creating_statement_are_on_the_table(policies: Session) -> None:
    policies.sql(
        "create projection policy p as () returns projection_constraint -> projection_constraint(allow => true)"
    )
    policies.sql(
        "create or replace table z (c, a varchar(10) with masking policy mask using (a, b) with projection policy p, b) comment = 'x' "
        "with row access policy filter on (c, b) as select 'c' as c, 'a' as a, 1 as b"
    )
    expected = [("FILTER", None, '["C", "B"]'), ("MASK", "A", '["B"]'), ("P", "A", None)]
    assert references(policies, "z") == expected
    assert policies.sql("select * from z") == [("c", "a", 1)]


def test_policy_is_taken_away(policies: Session) -> None:
    policies.sql("alter table x modify column a set masking policy mask")
    policies.sql("alter table x add row access policy filter on (a, b)")
    assert policies.refused("drop masking policy mask") == 9999
    assert policies.refused("alter table x modify column a set masking policy mask") == 9999
    policies.sql("alter table x modify column a set masking policy mask force")
    assert policies.refused("alter table x add row access policy filter on (a, b)") == 9999
    policies.sql("alter table x modify column a unset masking policy")
    policies.sql("alter table x drop row access policy filter")
    assert references(policies) == []
    assert policies.refused("alter table x drop row access policy filter") == 9999
    policies.sql("alter table x add row access policy filter on (a, b)")
    policies.sql("alter table x drop all row access policies")
    policies.sql("drop masking policy mask")
    policies.sql("drop row access policy filter")
    assert policies.refused("drop row access policy filter") == 2003
    policies.sql("drop masking policy if exists mask")


@pytest.mark.parametrize(
    ("statement", "errno"),
    [
        (MASK, 2002),
        ("alter table x modify column nope set masking policy mask", 904),
        ("alter table x modify column a set masking policy filter", 2003),
        ("alter table nowhere modify column a set masking policy mask", 2003),
        ("alter table x add row access policy mask on (a)", 2003),
        ("create masking policy other", 1003),
        ("alter table x modify column a set masking policy mask now", 1003),
    ],
)
def test_policy_that_is_not_there_or_does_not_fit_is_refused(policies: Session, statement: str, errno: int) -> None:
    assert policies.refused(statement) == errno
    assert references(policies) == []


def test_policies_that_restrict_queries_are_set_once_with_their_key_and_cloned(policies: Session) -> None:
    for kind in ("projection", "aggregation", "join"):
        policies.sql(f"create {kind} policy p_{kind} as () returns {kind}_constraint -> {kind}_constraint()")
        policies.sql(f"describe {kind} policy p_{kind}")
    policies.sql("alter table x set aggregation policy p_aggregation entity key (a, b)")
    policies.sql("alter table x set join policy p_join allowed join keys (b)")
    policies.sql("alter table x modify column a set projection policy p_projection")
    policies.sql("alter table x modify column a set masking policy mask")
    expected = [
        ("MASK", "A", None),
        ("P_AGGREGATION", None, '["A", "B"]'),
        ("P_JOIN", None, '["B"]'),
        ("P_PROJECTION", "A", None),
    ]
    policies.sql("create table z clone x")
    assert references(policies) == references(policies, "z") == expected
    for refused in (
        "alter table x set join policy p_join",
        "alter table x modify column a set projection policy p_projection",
        "alter table x add row access policy filter on (a, b)",
        "create table w like x",
        "drop join policy p_join",
    ):
        assert policies.refused(refused) in (2, 9999), refused
    policies.sql("alter table x set join policy p_join force")
    policies.sql("alter table x unset aggregation policy")
    policies.sql("alter table x modify column a unset projection policy")
    assert references(policies) == [("MASK", "A", None), ("P_JOIN", None, None)]
