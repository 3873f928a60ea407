import pytest

from run_elt_dagster.embedded.errors import SqlError
from run_elt_dagster.embedded.policy_statements import CreatePolicy, DropPolicy, FreeRows, MaskColumn, RestrictRows
from run_elt_dagster.embedded.reader import Name, Scope, Statement
from run_elt_dagster.embedded.schema_statements import CreateSchema, ManageSchema
from run_elt_dagster.embedded.statements import (
    AlterSession,
    CancelQueries,
    CloneTable,
    ClusterTable,
    CommentTable,
    CreateRole,
    CreateTable,
    Creation,
    DropTable,
    GetTag,
    Grant,
    InsertOverwrite,
    Query,
    RenameTable,
    ResultScan,
    ShowGrants,
    ShowTablesHistory,
    SwapTables,
    TagTable,
    Transaction,
    TruncateTable,
    UndropTable,
    UseObject,
    labels_of,
    parse,
)
from run_elt_dagster.embedded.stream_statements import CreateStream, DropStream, ShowStreams

X, Y = Name(("A", "X")), Name(("A", "Y"))


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("create table a.x as select 1", CreateTable(X, Creation(), None, "select 1")),
        ("create table a.x (b int)", CreateTable(X, Creation(), "(b int)", None)),
        (
            "CREATE OR REPLACE TRANSIENT TABLE A.X (b number(2, 0)) COMMENT = 'it''s' COPY GRANTS AS (\nselect 1 -- x\n)",
            CreateTable(
                X,
                Creation(or_replace=True, transient=True, comment="it's", copy_grants=True),
                "(b number(2, 0))",
                "(\nselect 1 -- x\n)",
            ),
        ),
        (
            "create table if not exists a.x cluster by (b) data_retention_time_in_days = 1 tag (t = 'v') as select 1 b",
            CreateTable(X, Creation(if_not_exists=True, tags=((Name(("T",)), "v"),)), None, "select 1 b"),
        ),
        (
            "create or replace table a.x clone a.y copy grants copy tags",
            CloneTable(X, Y, Creation(or_replace=True, copy_grants=True, copy_tags=True)),
        ),
        ("create table a.x like a.y", CloneTable(X, Y, Creation(), with_rows=False)),
        ("alter table a.x swap with a.y", SwapTables(X, Y, if_exists=False)),
        ("alter table if exists a.x rename to a.y", RenameTable(X, Y, if_exists=True)),
        ("drop table if exists a.x cascade", DropTable(X, if_exists=True)),
        ("undrop table a.x", UndropTable(X)),
        ("show tables history", ShowTablesHistory(Scope())),
        ("show tables history like 'x%' in schema d.a", ShowTablesHistory(Scope("SCHEMA", Name(("D", "A")), "x%"))),
        ("show tables history in account", ShowTablesHistory(Scope("ACCOUNT"))),
        ("show tables history in database", ShowTablesHistory(Scope("DATABASE"))),
        (
            "create dynamic table a.x target_lag = downstream warehouse = w as select 1 b",
            CreateTable(X, Creation(kind="DYNAMIC TABLE"), None, "select 1 b"),
        ),
        (
            "create external table a.x (b int as (value:c1::int), d varchar(3)) location = @a.s/p/q.csv pattern = '.*'",
            CreateTable(X, Creation(kind="EXTERNAL TABLE"), "(b int , d varchar(3))", None),
        ),
        ("drop materialized view if exists a.x", DropTable(X, if_exists=True, kind="MATERIALIZED VIEW")),
        (
            "create or replace stream a.y on table a.x append_only = true comment = 'c'",
            CreateStream(Y, X, or_replace=True, comment="c", append_only=True),
        ),
        ("drop stream if exists a.y", DropStream(Y, if_exists=True)),
        ("show streams in account", ShowStreams(Scope("ACCOUNT"))),
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
        ("create schema a.x with managed access", CreateSchema(X, managed=True)),
        ("alter schema a.x disable managed access", ManageSchema(X, managed=False, if_exists=False)),
        ("truncate a.x", TruncateTable(X, if_exists=False)),
        ("comment if exists on table a.x is 'c'", CommentTable(X, "c", if_exists=True)),
        ("alter table a.x set comment = 'c'", CommentTable(X, "c", if_exists=False)),
        ("alter table a.x unset comment", CommentTable(X, None, if_exists=False)),
        ("alter table a.x set tag t = 'v', u = 'w'", TagTable(X, ((Name(("T",)), "v"), (Name(("U",)), "w")), False)),
        ("alter table a.x unset tag t", TagTable(X, ((Name(("T",)), None),), False)),
        ("alter table a.x resume recluster", ClusterTable(X, if_exists=False)),
        ("alter table a.x cluster by (b, c)", ClusterTable(X, if_exists=False)),
        ('insert overwrite into a.x (b, "c d") select 1, 2', InsertOverwrite(X, ("B", "c d"), "select 1, 2")),
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
        ("show grants on table a.x", ShowGrants(X)),
        ("create role if not exists r", CreateRole("R", or_replace=False, if_not_exists=True)),
        ("use role r", UseObject("ROLE", Name(("R",)))),
        ("use a.x", UseObject("SCHEMA", X)),
        ("use a", UseObject("DATABASE", Name(("A",)))),
        (
            "alter session set query_tag = 'it''s', autocommit = true",
            AlterSession(settings=(("QUERY_TAG", "it's"), ("AUTOCOMMIT", "true"))),
        ),
        ("alter session unset query_tag, timezone", AlterSession(unset=("QUERY_TAG", "TIMEZONE"))),
        ("select system$cancel_all_queries(12)", CancelQueries(session_id=12)),
        ("select system$cancel_query('ab-1')", CancelQueries(query_id="ab-1")),
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


@pytest.mark.parametrize(
    ("sql", "reads_only"),
    [
        ("select 1", True),
        ("with a as (select 1) select * from a", True),
        ("(select 1)", True),
        ("show tables", True),
        ("describe table x", True),
        ("insert into x values (1)", False),
        ("merge into x using y on a = b when matched then delete", False),
        ("create view v as select 1", False),
        ("create temporary table t (a int)", False),
        ("alter table x add column b int", False),
        ("drop schema s", False),
        ("create or replace schema s", False),
        ("alter schema s rename to t", False),
    ],
)
def test_other_statement_goes_on_as_it_is(sql: str, *, reads_only: bool) -> None:
    assert parse(f"  {sql} ; -- done") == Query(sql, reads_only)


@pytest.mark.parametrize(
    "sql",
    [
        "create table a.x",
        "create table a.x clone",
        "create table a.x (b int",
        "alter table a.x swap with",
        "alter table a.x swap with a.y now",
        "drop table a.x, a.y",
        "comment on table a.x",
        "insert overwrite into a.x",
        "grant select on table a.x",
        "alter session set",
        "begin work now",
    ],
)
def test_broken_statement_is_a_syntax_error(sql: str) -> None:
    with pytest.raises(SqlError) as refused:
        parse(sql)
    assert refused.value.errno == 1003


@pytest.mark.parametrize(
    "sql",
    [
        "create table a.x with row access policy p on (b) as select 1 b",
        "create table a.x clone a.y at (offset => -60)",
        "create table identifier('x') as select 1",
        "grant select on all tables in schema a to role r",
        "grant ownership on table a.x to role r copy current grants",
        "undrop table identifier('x')",
        "show tables history limit 5",
        "create hybrid table a.x (b int primary key)",
        "create iceberg table a.x clone a.y",
        "create dynamic table a.x target_lag = downstream immutable where (b) as select 1 b",
        "create stream a.s on view a.x",
        "create stream a.s on table a.x at (offset => -60)",
        "create schema a clone b",
        "show streams starts with 's'",
    ],
)
def test_clause_that_has_no_effect_here_is_refused_loudly(sql: str) -> None:
    with pytest.raises(
        SqlError, match=r"The embedded Snowflake cannot .* run the statement on a Snowflake account"
    ) as refused:
        parse(sql)
    assert refused.value.errno == 2


@pytest.mark.parametrize(
    ("sql", "labels"),
    [
        ("select count(*), a.b, 'x' as Y from t", ["COUNT(*)", "A.B", "'x' AS Y"]),
        ("select distinct Sum( a )+1, to_varchar(ts, 'yyyy-MM')", ["SUM( A )+1", "TO_VARCHAR(TS, 'yyyy-MM')"]),
        ('with a as (select 1, 2) select "b" /* c */ from a', ['"b"']),
        ("select listagg(x, ',') within group (order by x) group by 1", ["LISTAGG(X, ',') WITHIN GROUP (ORDER BY X)"]),
        ("select iff(a, (select 1 from t), 2) union select 3", ["IFF(A, (SELECT 1 FROM T), 2)"]),
        ("(\n(select count(*) from t)\n)", ["COUNT(*)"]),
        ("values (1)", None),
        ("show tables", None),
    ],
)
def test_column_without_alias_is_called_like_its_text(sql: str, labels: list[str] | None) -> None:
    assert labels_of(sql) == labels
