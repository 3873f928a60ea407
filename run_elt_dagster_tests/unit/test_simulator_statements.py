import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.embedded.reader import Name, Statement
from run_elt_dagster.embedded.statements import CreateTable, Creation
from run_elt_dagster.embedded.statements import parse as parse_with
from run_elt_dagster_tests.simulator.grant_statements import CreateRole, Grant
from run_elt_dagster_tests.simulator.kinds import ClusterTable, DropKind
from run_elt_dagster_tests.simulator.policy_statements import (
    CreatePolicy,
    DropPolicy,
    FreeRows,
    MaskColumn,
    RestrictRows,
)
from run_elt_dagster_tests.simulator.schema_statements import CreateManagedSchema, ManageSchema
from run_elt_dagster_tests.simulator.server import FEATURES
from run_elt_dagster_tests.simulator.session_statements import (
    AlterSession,
    CancelQuery,
    ResultScan,
    Transaction,
    UseObject,
)
from run_elt_dagster_tests.simulator.stream_statements import CreateStream, DropStream
from run_elt_dagster_tests.simulator.tags import GetTag, Tags, TagTable

X, Y = Name(("A", "X")), Name(("A", "Y"))
HEADS = [head for feature in FEATURES for head in feature.heads]
CLAUSES = [clause for feature in FEATURES for clause in feature.clauses]


def parse(sql: str) -> Statement:
    return parse_with(sql, HEADS, CLAUSES)


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        (
            "create table if not exists a.x cluster by (b) data_retention_time_in_days = 1 tag (t = 'v') as select 1 b",
            CreateTable(X, Creation(if_not_exists=True, clauses=(Tags(((Name(("T",)), "v"),)),)), None, "select 1 b"),
        ),
        (
            "create dynamic table a.x target_lag = downstream warehouse = w as select 1 b",
            CreateTable(X, Creation(kind="DYNAMIC TABLE"), None, "select 1 b"),
        ),
        (
            "create external table a.x (b int as (value:c1::int), d varchar(3)) location = @a.s/p/q.csv pattern = '.*'",
            CreateTable(X, Creation(kind="EXTERNAL TABLE"), "(b int , d varchar(3))", None),
        ),
        ("drop materialized view if exists a.x", DropKind(X, "MATERIALIZED VIEW", if_exists=True)),
        (
            "create or replace stream a.y on table a.x append_only = true comment = 'c'",
            CreateStream(Y, X, or_replace=True, comment="c", append_only=True),
        ),
        ("drop stream if exists a.y", DropStream(Y, if_exists=True)),
        (
            "create masking policy if not exists a.y as (v int) returns int -> v + 1",
            CreatePolicy("MASKING_POLICY", Y, "(v int) returns int -> v + 1", if_not_exists=True),
        ),
        ("drop row access policy a.y", DropPolicy("ROW_ACCESS_POLICY", Y, if_exists=False)),
        (
            "alter table if exists a.x alter b set masking policy a.y using (b, c) force",
            MaskColumn(X, "B", Y, ("B", "C"), force=True, if_exists=True),
        ),
        ("alter table a.x modify column b unset masking policy", MaskColumn(X, "B", None)),
        ("alter table a.x add row access policy a.y on (b, c)", RestrictRows(X, Y, ("B", "C"))),
        ("alter table a.x drop row access policy a.y", FreeRows(X, Y)),
        ("alter table a.x drop all row access policies", FreeRows(X, None)),
        ("create schema a.x with managed access", CreateManagedSchema(X, managed=True)),
        ("alter schema a.x disable managed access", ManageSchema(X, managed=False, if_exists=False)),
        ("alter table a.x set tag t = 'v', u = 'w'", TagTable(X, ((Name(("T",)), "v"), (Name(("U",)), "w")), False)),
        ("alter table a.x unset tag t", TagTable(X, ((Name(("T",)), None),), False)),
        ("alter table a.x resume recluster", ClusterTable(X, if_exists=False)),
        ("alter table a.x cluster by (b, c)", ClusterTable(X, if_exists=False)),
        ("grant select, insert on table a.x to role r", Grant(X, ("SELECT", "INSERT"), "ROLE", "R")),
        (
            "grant all privileges on table a.x to database role d.r with grant option",
            Grant(X, ("ALL PRIVILEGES",), "DATABASE_ROLE", "D.R", grant_option=True),
        ),
        ("grant select on table a.x to share s", Grant(X, ("SELECT",), "SHARE", "S")),
        (
            "revoke grant option for select on table a.x from r cascade",
            Grant(X, ("SELECT",), "ROLE", "R", grant_option=True, revoke=True),
        ),
        ("create role if not exists r", CreateRole("R", or_replace=False, if_not_exists=True)),
        ("use role r", UseObject("ROLE", Name(("R",)))),
        (
            "alter session set query_tag = 'it''s', autocommit = true",
            AlterSession(settings=(("QUERY_TAG", "it's"), ("AUTOCOMMIT", "true"))),
        ),
        ("alter session unset query_tag, timezone", AlterSession(unset=("QUERY_TAG", "TIMEZONE"))),
        ("select system$cancel_query('ab-1')", CancelQuery(query_id="ab-1")),
        ("select system$get_tag('t', 'a.x', 'table')", GetTag("T", X)),
        ("select * from table(result_scan('id'))", ResultScan("id")),
        ("select * from table(result_scan(last_query_id()))", ResultScan(None)),
        ("begin transaction name n", Transaction("BEGIN")),
        ("start transaction", Transaction("BEGIN")),
        ("commit work;", Transaction("COMMIT")),
        ("rollback", Transaction("ROLLBACK")),
    ],
)
def test_statement_is_read_as_data(sql: str, statement: Statement) -> None:
    assert parse(sql) == statement


@pytest.mark.parametrize("sql", ["grant select on table a.x", "alter session set", "begin work now"])
def test_broken_statement_is_a_syntax_error(sql: str) -> None:
    with pytest.raises(SqlError) as refused:
        parse(sql)
    assert refused.value.errno == 1003


@pytest.mark.parametrize(
    "sql",
    [
        "grant select on all tables in schema a to role r",
        "grant ownership on table a.x to role r copy current grants",
        "create iceberg table a.x clone a.y",
        "create dynamic table a.x target_lag = downstream immutable where (b) as select 1 b",
        "create stream a.s on view a.x",
        "create stream a.s on table a.x at (offset => -60)",
        "create schema a clone b",
    ],
)
def test_clause_that_has_no_effect_here_is_refused_loudly(sql: str) -> None:
    with pytest.raises(
        SqlError, match=r"The embedded Snowflake cannot .* Run the statement on a Snowflake account"
    ) as refused:
        parse(sql)
    assert refused.value.errno == 2
