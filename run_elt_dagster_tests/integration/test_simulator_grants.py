import pytest
from snowflake.connector import DictCursor

from run_elt_dagster_tests.support.embedded import Account, Session, account, server, session

# About a part of the tests alone, the simulated account.
pytestmark = pytest.mark.thorough

__all__ = ["account", "server", "session"]


@pytest.fixture
def x(session: Session) -> Session:
    """A session whose schema has a table X that PUBLIC may read, with a tag."""
    session.sql("create table x as select 1 as a")
    session.sql("grant select on table x to role public")
    session.sql("alter table x set tag cost_center = 'growth'")
    return session


def grants(session: Session, table: str) -> set[tuple[str, str, str]]:
    """Return privilege, grantee and grant option, ownership apart."""
    with session.connection.cursor(DictCursor) as cursor:
        rows = cursor.execute(f"show grants on table {table}").fetchall()
    return {
        (row["privilege"], row["grantee_name"], row["grant_option"]) for row in rows if row["privilege"] != "OWNERSHIP"
    }


def tag(session: Session, table: str) -> str | None:
    return session.value(f"select system$get_tag('cost_center', '{table}', 'table')")


READ = {("SELECT", "PUBLIC", "false")}


def test_grants_are_shown_in_the_columns_of_snowflake(x: Session) -> None:
    schema = x.value("select current_schema()")
    assert x.columns("show grants on table x") == [
        "created_on",
        "privilege",
        "granted_on",
        "name",
        "granted_to",
        "grantee_name",
        "grant_option",
        "granted_by",
    ]
    name = f"RUN_ELT.{schema}.X"
    assert [row[1:] for row in x.sql("show grants on table x")] == [
        ("OWNERSHIP", "TABLE", name, "ROLE", "SYSADMIN", "true", "SYSADMIN"),
        ("SELECT", "TABLE", name, "ROLE", "PUBLIC", "false", "SYSADMIN"),
    ]


def test_owner_is_the_role_that_created_the_table(account: Account, session: Session) -> None:
    schema = session.value("select current_schema()")
    other = account.session(role="ANALYST", schema=schema)
    other.sql("create table x as select 1 as a")
    assert (
        other.value(
            "select table_owner from information_schema.tables where table_name = 'X' "
            "and table_schema = current_schema()"
        )
        == "ANALYST"
    )


def test_grant_can_be_repeated_and_revoked(x: Session) -> None:
    x.sql("grant select, insert on table x to role public with grant option")
    assert grants(x, "x") == {("SELECT", "PUBLIC", "true"), ("INSERT", "PUBLIC", "true")}
    x.sql("revoke grant option for select on table x from role public")
    x.sql("revoke insert on table x from role public")
    assert grants(x, "x") == READ


def test_all_privileges_are_those_of_tables(x: Session) -> None:
    x.sql("grant all on table x to database role db.reader")
    privileges = {privilege for privilege, grantee, _ in grants(x, "x") if grantee == "DB.READER"}
    assert {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"} <= privileges


def test_role_that_does_not_exist_gets_nothing(x: Session) -> None:
    error = x.error("grant select on table x to role nobody")
    assert error.errno == 2003
    assert "Role 'NOBODY' does not exist or not authorized." in str(error)


def test_unknown_privilege_is_a_syntax_error(x: Session) -> None:
    assert x.refused("grant reading on table x to role public") == 1003


def test_role_is_created_used_and_dropped(session: Session) -> None:
    session.sql("create role if not exists reader")
    assert session.refused("create role reader") == 2002
    session.sql("use role reader")
    assert session.value("select current_role()") == "READER"
    session.sql("use role sysadmin")
    session.sql("drop role reader")
    assert session.refused("use role reader") == 2003


def test_replaced_table_has_no_grants(x: Session) -> None:
    x.sql("create or replace table x as select 2 as a")
    assert grants(x, "x") == set()
    assert tag(x, "x") is None


def test_replaced_table_keeps_grants_when_asked_to(x: Session) -> None:
    x.sql("create or replace table x copy grants copy tags as select 2 as a")
    assert grants(x, "x") == READ
    assert tag(x, "x") == "growth"


def test_clone_keeps_the_grants_of_the_table_it_replaces(x: Session) -> None:
    x.sql("create table y as select 2 as a")
    x.sql("grant delete on table y to role public")
    x.sql("create or replace table x clone y copy grants copy tags")
    assert grants(x, "x") == READ
    assert tag(x, "x") == "growth"
    assert x.value("select a from x") == 2


def test_clone_takes_the_grants_of_its_source_when_it_replaces_none(x: Session) -> None:
    x.sql("create table y clone x copy grants")
    assert grants(x, "y") == READ


def test_clone_without_copy_grants_has_none(x: Session) -> None:
    x.sql("create table y clone x")
    assert grants(x, "y") == set()


@pytest.mark.parametrize("clauses", ["", "copy tags"])
def test_clone_has_the_tags_of_its_source(x: Session, clauses: str) -> None:
    x.sql("alter table x set tag owner = 'a'")
    x.sql(f"create table y clone x {clauses}")
    assert tag(x, "y") == "growth"
    assert x.value("select system$get_tag('owner', 'y', 'table')") == "a"


def test_copied_tags_are_those_of_source_and_replaced_table_and_the_latter_win(x: Session) -> None:
    x.sql("create table y as select 2 as a")
    x.sql("alter table y set tag cost_center = 'other', owner = 'a'")
    x.sql("create or replace table x clone y copy tags")
    assert (tag(x, "x"), x.value("select system$get_tag('owner', 'x', 'table')")) == ("growth", "a")
    x.sql("create or replace table x with tag (cost_center = 'declared') copy tags as select 1 as a")
    assert tag(x, "x") == "growth"
    x.sql("create or replace table x clone y")
    assert tag(x, "x") == "other"


def test_like_of_a_table_with_tags_is_refused(x: Session) -> None:
    assert x.refused("create table y like x") == 2
    x.sql("alter table x unset tag cost_center")
    x.sql("create table y like x")
    assert tag(x, "y") is None


def test_grants_follow_the_object_in_a_swap(x: Session) -> None:
    x.sql("create table y as select 2 as a")
    x.sql("alter table x swap with y")
    assert (grants(x, "x"), grants(x, "y")) == (set(), READ)
    assert (tag(x, "x"), tag(x, "y")) == (None, "growth")


def test_grants_follow_the_object_when_renamed(x: Session) -> None:
    x.sql("alter table x rename to y")
    assert grants(x, "y") == READ


def test_grants_stay_when_rows_are_overwritten(x: Session) -> None:
    x.sql("insert overwrite into x select 2")
    assert grants(x, "x") == READ


def test_dropped_table_leaves_no_grants_to_the_next(x: Session) -> None:
    x.sql("drop table x")
    x.sql("create table x as select 1 as a")
    assert grants(x, "x") == set()


def test_failed_clone_leaves_the_grants(x: Session) -> None:
    x.refused("create or replace table x clone nope copy grants")
    assert grants(x, "x") == READ


def test_tag_is_unset(x: Session) -> None:
    x.sql("alter table x unset tag cost_center")
    assert tag(x, "x") is None


def test_ownership_moves_once_nobody_else_has_privileges(x: Session) -> None:
    assert x.refused("grant ownership on table x to role accountadmin") == 3036
    x.sql("revoke select on table x from role public")
    x.sql("grant ownership on table x to role accountadmin")
    assert [row[5] for row in x.sql("show grants on table x")] == ["ACCOUNTADMIN"]


@pytest.mark.parametrize(
    "name", ['"lower case"', '"with ""quotes"""', '"Ünïcode 表"', '"SELECT"', '"order by"', '"a.b"']
)
def test_grant_works_on_any_quoted_name(session: Session, name: str) -> None:
    session.sql(f"create table {name} comment = 'c' as select 1 as a")
    session.sql(f"create table other clone {name}")
    session.sql(f"alter table {name} swap with other")
    session.sql(f"grant select on table {name} to role public")
    session.sql(f"insert overwrite into {name} select 2")
    session.sql(f'alter table {name} rename to {name[:-1]}2"')
    assert session.value(f'select a from {name[:-1]}2"') == 2
    assert [row[5] for row in session.sql(f'show grants on table {name[:-1]}2"')] == ["SYSADMIN", "PUBLIC"]
