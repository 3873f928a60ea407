import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.dialect.labels import labels_of
from run_elt_dagster.embedded.reader import Name, Scope, Statement
from run_elt_dagster.embedded.statements import (
    CancelQueries,
    CloneTable,
    CommentColumns,
    CommentTable,
    CreateSchema,
    CreateTable,
    Creation,
    DropTable,
    InsertOverwrite,
    Query,
    RenameTable,
    Show,
    ShowColumns,
    ShowGrants,
    ShowTables,
    SwapTables,
    TruncateTable,
    UndropTable,
    UseSchema,
    parse,
)

X, Y = Name(("A", "X")), Name(("A", "Y"))
_HISTORY = "embedded_show_tables_history"


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
            "create or replace table a.x clone a.y copy grants copy tags",
            CloneTable(X, Y, Creation(or_replace=True, copy_grants=True, copy_tags=True)),
        ),
        ("create table a.x like a.y", CloneTable(X, Y, Creation(), with_rows=False)),
        ("alter table a.x swap with a.y", SwapTables(X, Y, if_exists=False)),
        ("alter table if exists a.x rename to a.y", RenameTable(X, Y, if_exists=True)),
        ("drop table if exists a.x cascade", DropTable(X, if_exists=True)),
        ("undrop table a.x", UndropTable(X)),
        ("show tables history", Show(_HISTORY, Scope())),
        ("show tables history like 'x%' in schema d.a", Show(_HISTORY, Scope("SCHEMA", Name(("D", "A")), "x%"))),
        ("show tables history in account", Show(_HISTORY, Scope("ACCOUNT"))),
        ("show tables history in database", Show(_HISTORY, Scope("DATABASE"))),
        ("show terse tables in a", ShowTables(Scope("SCHEMA", Name(("A",))), "show terse tables in a")),
        ("show columns in table a.x", ShowColumns(X, sql="show columns in table a.x")),
        ("describe table a.x", ShowColumns(X, sql="describe table a.x")),
        ("comment on column a.x.b is 'c'", CommentColumns(X, (("B", "c"),))),
        ("show streams in account", Show("embedded_show_streams", Scope("ACCOUNT"))),
        ("truncate a.x", TruncateTable(X, if_exists=False)),
        ("comment if exists on table a.x is 'c'", CommentTable(X, "c", if_exists=True)),
        ("alter table a.x set comment = 'c'", CommentTable(X, "c", if_exists=False)),
        ("alter table a.x unset comment", CommentTable(X, None, if_exists=False)),
        ('insert overwrite into a.x (b, "c d") select 1, 2', InsertOverwrite(X, ("B", "c d"), "select 1, 2")),
        ("show grants on table a.x", ShowGrants(X)),
        ("use a.x", UseSchema(X)),
        ("use a", UseSchema(Name(("A", "PUBLIC")))),
        ("select system$cancel_all_queries(12)", CancelQueries(12)),
        ("use database a", UseSchema(Name(("A", "PUBLIC")))),
        ("create schema if not exists a.x", CreateSchema(X, if_not_exists=True)),
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
        ("insert into x values (1)", False),
        ("merge into x using y on a = b when matched then delete", False),
        ("create view v as select 1", False),
        ("alter table x add column b int", False),
        ("drop schema s", False),
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
        "drop table x'AB'",
        "comment on table a.x",
        "insert overwrite into a.x",
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
        "undrop table identifier('x')",
        "show tables history limit 5",
        "create hybrid table a.x (b int primary key)",
        "create schema a clone b",
        "create schema a with managed access",
        "create iceberg table a.x (b int)",
        "create dynamic table a.x target_lag = downstream warehouse = w as select 1 b",
        "create external table a.x (b int) location = @s",
        "create materialized view a.x as select 1 b",
        "create table a.x tag (t = 'v') as select 1 b",
        "use role r",
        "use warehouse w",
        "use secondary roles all",
        "show streams starts with 's'",
    ],
)
def test_clause_that_has_no_effect_here_is_refused_loudly(sql: str) -> None:
    with pytest.raises(
        SqlError, match=r"The embedded Snowflake cannot .* Run the statement on a Snowflake account"
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
