from pathlib import Path

import pytest
from snowflake.connector import DictCursor

from run_elt_dagster_tests.support.embedded import Account, Session, account, running_server, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]


def known(session: Session, name: str) -> tuple[object, ...]:
    (row,) = session.sql(
        "select row_count, comment, is_transient, table_type from information_schema.tables "
        "where table_schema = current_schema() and table_name = ?",
        [name],
    )
    return row


def tables(session: Session) -> set[str]:
    query = "select table_name from information_schema.tables where table_schema = current_schema()"
    return {name for (name,) in session.sql(query)}


def test_table_holds_what_its_query_gives(session: Session) -> None:
    assert session.value("create table x as select 1 as a, 'b' as b") == "Table X successfully created."
    assert session.sql("select * from x") == [(1, "b")]
    assert session.columns("select * from x") == ["A", "B"]


def test_table_has_its_comment_to_the_letter(session: Session) -> None:
    session.sql("create transient table x comment = 'it''s \"so\" -- ; 100%' as (\nselect 1 as a -- one\n)")
    assert known(session, "X") == (1, 'it\'s "so" -- ; 100%', "YES", "BASE TABLE")


def test_table_is_not_created_twice(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    assert session.refused("create table x as select 2 as a") == 2002
    assert session.sql("create table if not exists x as select 2 as a") == [("X already exists, statement succeeded.",)]
    assert session.value("select a from x") == 1


def test_failed_build_leaves_the_table_as_it_was(session: Session) -> None:
    session.sql("create table x comment = 'old' as select 1 as a")
    session.refused("create or replace table x comment = 'new' as select 1 / (a - 1) as a from x")
    assert session.value("select a from x") == 1
    assert known(session, "X") == (1, "old", "NO", "BASE TABLE")


def test_typed_columns_are_a_contract(session: Session) -> None:
    columns = "(a number(38, 0) not null, b varchar(3), c timestamp_ntz)"
    session.sql(f"create table x {columns} as select 1, 'abc', '2019-05-01'::timestamp")
    assert session.refused(f"create table y {columns} as select null, 'abc', null") == 100072
    assert session.refused(f"create table y {columns} as select 1, 'abcd', null") == 100078
    assert session.refused(f"create table y {columns} as select 'one', 'abc', null") == 100038
    assert tables(session) == {"X"}


def test_columns_without_types_name_those_of_the_query(session: Session) -> None:
    session.sql("create table x (a comment 'it''s a', \"b c\") as select 1, 2")
    assert session.columns("select * from x") == ["A", "b c"]
    comments = "select column_name, comment from information_schema.columns where table_schema = current_schema()"
    assert session.sql(comments) == [("A", "it's a"), ("b c", None)]


def test_keys_are_declared_and_not_enforced(session: Session) -> None:
    session.sql("create table x (a int primary key, b int unique, constraint k foreign key (b) references x (a))")
    session.sql("insert into x values (1, 1), (1, 1)")
    assert known(session, "X")[0] == 2


def test_columns_of_the_same_name_are_refused(session: Session) -> None:
    assert session.refused("create table x as select 1 as a, 2 as A") == 2025


def test_semi_structured_columns_are_stored_and_read(session: Session) -> None:
    session.sql("create table x as select [1, null, 'b'] as a, {'k': 1.5} as o, parse_json('[2]') as v")
    assert session.sql("select a[2]::varchar, array_size(a), o:k::float, v[0]::int from x") == [("b", 3, 1.5, 2)]
    query = (
        "select column_name, data_type from information_schema.columns where table_schema = current_schema() order by 1"
    )
    assert session.sql(query) == [("A", "ARRAY"), ("O", "OBJECT"), ("V", "VARIANT")]


def test_clone_has_rows_constraints_and_comment_of_its_source(session: Session) -> None:
    session.sql("create table x (a int not null comment 'the a', b varchar(2) default 'xy') comment = 'source'")
    session.sql("insert into x (a) values (1)")
    session.sql("create table y clone x")
    assert session.sql("select * from y") == [(1, "xy")]
    assert known(session, "Y") == (1, "source", "NO", "BASE TABLE")
    assert session.refused("insert into y values (null, 'xy')") == 100072
    assert session.refused("insert into y values (1, 'xyz')") == 100078


def test_clone_can_replace_its_own_source(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create or replace table x clone x")
    assert session.value("select a from x") == 1


def test_clone_does_not_change_with_its_source(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create table y clone x")
    session.sql("update x set a = 2")
    assert session.value("select a from y") == 1


def test_clone_of_a_transient_table_is_not_permanent(session: Session) -> None:
    session.sql("create transient table x as select 1 as a")
    assert "Transient object cannot be cloned to a permanent object" in str(session.error("create table y clone x"))
    session.sql("create transient table y clone x")
    assert known(session, "Y")[2] == "YES"


def test_clone_of_nothing_names_what_is_missing(session: Session) -> None:
    schema = session.value("select current_schema()")
    error = session.error("create table y clone x")
    assert (error.errno, error.sqlstate) == (2003, "42S02")
    assert f"Object 'RUN_ELT.{schema}.X' does not exist or not authorized." in str(error)


def test_like_takes_columns_without_rows(session: Session) -> None:
    session.sql("create table x (a int not null) as select 1")
    session.sql("create table y like x")
    assert known(session, "Y")[0] == 0


def test_swap_exchanges_rows_and_comments(session: Session) -> None:
    session.sql("create table x comment = 'was x' as select 1 as a")
    session.sql("create table y comment = 'was y' as select 2 as b, 3 as c")
    session.sql("alter table x swap with y")
    assert (session.sql("select * from x"), session.sql("select * from y")) == ([(2, 3)], [(1,)])
    assert (known(session, "X")[1], known(session, "Y")[1]) == ("was y", "was x")


def test_second_swap_undoes_the_first(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create table y as select 2 as a")
    session.sql("alter table x swap with y")
    session.sql("alter table x swap with y")
    assert session.value("select a from x") == 1


def test_swap_needs_both_tables(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    assert session.refused("alter table x swap with y") == 2003
    assert session.refused("alter table y swap with x") == 2003
    assert session.value("select a from x") == 1


def test_swap_works_across_schemas(session: Session) -> None:
    here = session.value("select current_schema()")
    session.sql("create table x comment = 'here' as select 1 as a")
    session.sql(f"create schema {here}_there")
    session.sql("create table x comment = 'there' as select 2 as a")
    session.sql(f"alter table {here}.x swap with {here}_there.x")
    assert session.value(f"select a from {here}.x") == 2
    assert known(session, "X") == (1, "here", "NO", "BASE TABLE")


def test_rename_keeps_the_object(session: Session) -> None:
    session.sql("create table x comment = 'c' as select 1 as a")
    session.sql("alter table x rename to y")
    assert tables(session) == {"Y"}
    assert known(session, "Y")[1] == "c"


def test_rename_does_not_take_a_name_that_is_taken(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("create view y as select 2 as a")
    assert session.refused("alter table x rename to y") == 2002
    assert session.refused("alter table z rename to y") == 2003
    assert session.sql("alter table if exists z rename to y") == [("Statement executed successfully.",)]


def test_drop_forgets_the_object(session: Session) -> None:
    session.sql("create table x comment = 'first' as select 1 as a")
    session.sql("drop table x")
    assert session.refused("drop table x") == 2003
    assert "already dropped or does not exist" in session.value("drop table if exists x")
    session.sql("create table x as select 1 as a")
    assert known(session, "X")[1] is None


def test_dropped_schema_takes_its_objects_along(session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql("create table x comment = 'first' as select 1 as a")
    session.sql(f"drop schema {schema}")
    session.sql(f"create schema {schema}")
    session.sql("create table x as select 1 as a")
    assert known(session, "X")[1] is None


def test_schema_that_is_dropped_from_another_database_takes_its_objects_along(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        account = Account(server)
        with account.resources:
            session = account.session()
            session.sql("create database other")
            session.sql("create schema other.s")
            session.sql("create table other.s.x comment = 'first' as select 1 as a")
            session.sql("use schema run_elt.analytics")
            session.sql("drop schema other.s")
            session.sql("create schema other.s")
            session.sql("create or replace table other.s.x as select 2 as a")
            assert session.sql("select row_count, comment from other.information_schema.tables") == [(1, None)]


def test_overwrite_replaces_rows_and_keeps_the_object(session: Session) -> None:
    session.sql("create table x (a int not null, b varchar) comment = 'kept' as select 1, 'old'")
    with session.connection.cursor() as cursor:
        cursor.execute("insert overwrite into x (b, a) select 'new', 2 union all select 'newer', 3")
        assert cursor.rowcount == 2
    assert session.sql("select * from x order by a") == [(2, "new"), (3, "newer")]
    assert known(session, "X") == (2, "kept", "NO", "BASE TABLE")


def test_overwrite_may_read_what_it_replaces(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("insert overwrite into x select a + 1 from x")
    assert session.sql("select * from x") == [(2,)]


def test_failed_overwrite_changes_nothing(session: Session) -> None:
    session.sql("create table x (a int not null) as select 1")
    assert session.refused("insert overwrite into x select null") == 100072
    assert session.refused("insert overwrite into x (nope) select 1") == 904
    assert session.sql("select * from x") == [(1,)]


def test_row_count_is_exact_after_every_change(session: Session) -> None:
    session.sql("create table x (a int)")
    counts = []
    for change in (
        "insert into x select column1 from values (1), (2), (3)",
        "delete from x where a = 1",
        "update x set a = 5 where a = 2",
        "merge into x using (select 9 as a) y on x.a = y.a when not matched then insert (a) values (y.a)",
        "truncate table x",
    ):
        session.sql(change)
        counts.append(known(session, "X")[0])
    assert counts == [3, 2, 2, 3, 0]


def test_view_is_listed_as_a_view(session: Session) -> None:
    session.sql("create view v as select 1 as a")
    assert known(session, "V") == (None, None, None, "VIEW")
    assert session.refused("create or replace table v as select 1 as a") == 2002


def test_temporary_table_belongs_to_its_session(account: Account, session: Session) -> None:
    session.sql("create temporary table mine as select 1 as a")
    assert session.value("select a from mine") == 1
    assert account.session(schema=session.value("select current_schema()")).refused("select * from mine") == 2003
    session.sql("drop table mine")
    assert session.refused("select * from mine") == 2003


def test_view_keeps_its_comment(session: Session) -> None:
    session.sql("create view v comment = 'it''s v' as select 1 as a")
    assert known(session, "V")[1] == "it's v"
    session.sql("comment on view v is 'changed'")
    assert known(session, "V")[1] == "changed"


def test_stored_column_without_alias_is_called_like_its_text(session: Session) -> None:
    session.sql("create table x as (\nselect count(*), max(column1) from values (1)\n)")
    assert session.columns("select * from x") == ["COUNT(*)", "MAX(COLUMN1)"]


def test_show_tables_knows_what_the_information_schema_knows(session: Session) -> None:
    session.sql("create transient table x comment = 'c' as select 1 as a")
    with session.connection.cursor(DictCursor) as cursor:
        (row,) = cursor.execute("show tables like 'X%'").fetchall()
    assert {name: row[name] for name in ("name", "kind", "comment", "rows")} == {
        "name": "X",
        "kind": "TRANSIENT",
        "comment": "c",
        "rows": 1,
    }


def test_comment_is_changed_and_removed(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("comment on table x is 'it''s'")
    assert known(session, "X")[1] == "it's"
    session.sql("alter table x set comment = 'b'")
    session.sql("alter table x unset comment")
    assert known(session, "X")[1] is None


def test_register_is_not_listed(session: Session) -> None:
    everywhere = session.sql("select table_name from information_schema.tables")
    assert not [name for (name,) in everywhere if "embedded" in name.lower()]


@pytest.mark.parametrize(
    "name", ['"lower case"', '"with ""quotes"""', '"Ünïcode 表"', '"SELECT"', '"order by"', '"a.b"']
)
def test_any_quoted_name_works(session: Session, name: str) -> None:
    session.sql(f"create table {name} comment = 'c' as select 1 as a")
    session.sql(f"create table other clone {name}")
    session.sql(f"alter table {name} swap with other")
    session.sql(f"insert overwrite into {name} select 2")
    session.sql(f'alter table {name} rename to {name[:-1]}2"')
    assert session.value(f'select a from {name[:-1]}2"') == 2
    session.sql(f'drop table {name[:-1]}2"')
    assert tables(session) == {"OTHER"}


def test_names_that_differ_by_case_alone_do_not_replace_each_other(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    assert session.refused('create or replace table "x" as select 2 as a') == 2
    assert session.refused('drop table "x"') == 2003
    assert session.value("select a from x") == 1


def test_columns_are_listed_with_length_precision_and_comment(session: Session) -> None:
    session.sql(
        "create table x (a int comment 'the a', b varchar(3), \"c d\" varchar, e binary, f timestamp_ntz, g time, h date, "
        "i number(10, 2) not null, j float, k boolean)"
    )
    session.sql("create view v as select b from x")
    query = (
        "select column_name, data_type, character_maximum_length, character_octet_length, numeric_precision, numeric_scale, "
        "datetime_precision, is_nullable, comment from information_schema.columns "
        "where table_schema = current_schema() and table_name = '{}' order by ordinal_position"
    )
    expected = [
        ("A", "NUMBER", None, None, 38, 0, None, "YES", "the a"),
        ("B", "TEXT", 3, 12, None, None, None, "YES", None),
        ("c d", "TEXT", 16777216, 16777216, None, None, None, "YES", None),
        ("E", "BINARY", 8388608, 8388608, None, None, None, "YES", None),
        ("F", "TIMESTAMP_NTZ", None, None, None, None, None, "YES", None),
        ("G", "TIME", None, None, None, None, None, "YES", None),
        ("H", "DATE", None, None, None, None, None, "YES", None),
        ("I", "NUMBER", None, None, 10, 2, None, "NO", None),
        ("J", "FLOAT", None, None, None, None, None, "YES", None),
        ("K", "BOOLEAN", None, None, None, None, None, "YES", None),
    ]
    assert session.sql(query.format("X")) == expected
    session.sql("create table y clone x")
    assert session.sql(query.format("Y")) == expected
    assert [row[:2] for row in session.sql(query.format("V"))] == [("B", "TEXT")]
