"""What only an account can do: the server of the package refuses it, and changes nothing."""

from pathlib import Path

import pytest
import snowflake.connector
from snowflake.connector.errors import DatabaseError

from run_elt_dagster.embedded.server import EmbeddedServer
from run_elt_dagster.model.names import Relation
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster_tests.support.embedded import Account, Session, account, running_server, session
from run_elt_dagster_tests.support.embedded import shipped_server as server
from run_elt_dagster_tests.support.local_server import LocalServer, mau

__all__ = ["account", "server", "session"]

REMEDY = "Run the statement on a Snowflake account"


@pytest.mark.parametrize(
    "statement",
    [
        "grant select on table x to role public",
        "grant ownership on table x to role public",
        "grant select on all tables in schema analytics to role public",
        "revoke select on table x from role public",
        "create role r",
        "create or replace role r",
        "drop role sysadmin",
        "use role public",
        "use warehouse w",
        "use secondary roles all",
        "create stream s on table x",
        "drop stream s",
        "create masking policy p as (v int) returns int -> v",
        "create row access policy p as (v int) returns boolean -> true",
        "drop masking policy p",
        "alter table x modify column a set masking policy p",
        "alter table x add row access policy p on (a)",
        "alter table x drop row access policy p",
        "create tag t",
        "alter table x set tag t = 'v'",
        "alter table x unset tag t",
        "create table y tag (t = 'v') as select 1 as a",
        "create temporary table y (a int) with tag (t = 'v')",
        "create view y with tag (t = 'v') as select 1 as a",
        "alter view x set tag t = 'v'",
        "create dynamic table y target_lag = '1 hour' warehouse = w as select 1 as a",
        "create external table y (a int as (value:c1::int)) location = @s",
        "create iceberg table y (a int)",
        "create hybrid table y (a int primary key)",
        "create materialized view y as select 1 as a",
        "create or replace materialized view y as select 1 as a",
        "drop dynamic table x",
        "drop materialized view x",
        "alter table x cluster by (a)",
        "alter table x suspend recluster",
        "alter table x drop clustering key",
        "alter table x set data_retention_time_in_days = 0",
        "alter table x add constraint c primary key (a)",
        "create schema y with managed access",
        "create transient schema y",
        "alter schema analytics enable managed access",
        "alter schema analytics rename to y",
        "undrop schema y",
        "alter session set timezone = 'Europe/Berlin'",
        "alter session set autocommit = false",
        "alter session unset timezone",
        "set day = 1",
        "unset day",
        "select * from x before(statement => 'x')",
        "select * from x at(stream => 's')",
        "select * from table(result_scan(last_query_id()))",
        "select $day",
        "call procedure()",
        "execute immediate 'select 1'",
        "explain select 1",
        "show parameters",
        "list @stage",
        "pragma version",
        "show views",
        "show objects",
        "show schemas like 'A%'",
        "show databases",
        "show columns",
        "show tables starts with 'X'",
        "show tables limit 1",
        "show primary keys in table x",
        "show warehouses",
        "show users",
        "show grants on schema analytics",
        "describe table x type = stage",
        "describe select 1",
        "describe warehouse w",
        "describe result 'x'",
        "create or replace schema y",
        "create or replace schema y clone analytics",
        "create schema y clone analytics",
        "create schema y comment = 'c'",
        "drop schema analytics restrict",
        "create transient database y",
        "create or replace database y",
        "create database y clone run_elt",
        "create database y comment = 'c'",
        "create database y data_retention_time_in_days = 1",
        "drop database y",
        "create or alter table y (a int)",
        "create or alter view y as select 1 as a",
        "create view y (a comment 'c') as select 1",
        "create view y (a with masking policy p) as select 1",
        "create view y (a not null) as select 1",
        "create table y (day, s with masking policy mp) as select 1, 2",
        "create table y (day, s with projection policy pp) as select 1, 2",
        "create table y (day, s with tag (t = 'v')) as select 1, 2",
        "create table y (day, s not null) as select 1, 2",
        "create table y (s varchar with masking policy mp)",
        "create table y (s varchar collate 'en')",
        "alter view x modify column a comment 'c'",
        "alter table x add column b varchar(3)",
        "alter table x add column b int default 3",
        "alter table x add column b int with masking policy p",
        "comment on schema analytics is 'c'",
        "comment on database run_elt is 'c'",
        "comment on warehouse w is 'c'",
        "comment if exists on column x.a is 'c'",
        "drop view x cascade",
    ],
)
def test_statement_that_only_an_account_can_run_is_refused(session: Session, statement: str) -> None:
    session.sql("create table x as select 1 as a")
    error = session.error(statement)
    assert error.errno == 2, error
    assert REMEDY in str(error)
    assert session.value("select a from x") == 1
    assert session.value("select count(*) from information_schema.tables where table_name = 'Y'") == 0


@pytest.mark.parametrize(
    ("statement", "errno", "text"),
    [
        ("show tables in schema nowhere", 2003, "Object 'RUN_ELT.NOWHERE' does not exist"),
        ("show tables in database nowhere", 2003, "Object 'NOWHERE' does not exist"),
        ("show columns in table nowhere", 2003, "NOWHERE' does not exist"),
        ("describe table nowhere", 2003, "NOWHERE' does not exist"),
        ("create or replace view x as select 1 as a", 2002, "Object 'X' already exists."),
        ("create view y (a, b) as select 1", 2026, "expected 1 columns, got 2"),
        ("drop view x", 2203, "Object found is of type 'TABLE', not specified type 'VIEW'."),
        ("create database run_elt", 2002, "Object 'RUN_ELT' already exists."),
        ("update x set a = a + 9", 100039, "Numeric value '10' is out of range"),
        ("alter table x add column a int", 1430, "column 'A' already exists"),
        ("comment on view x is 'c'", 2003, "X' does not exist"),
        ("comment on view nowhere is 'c'", 2003, "NOWHERE' does not exist"),
        ("comment on column nowhere.a is 'c'", 2003, "NOWHERE' does not exist"),
    ],
)
def test_mistake_is_told_in_words_of_snowflake(session: Session, statement: str, errno: int, text: str) -> None:
    session.sql("create table x as select 1 as a")
    error = session.error(statement)
    assert (error.errno, text in str(error)) == (errno, True), error
    assert session.value("select a from x") == 1


def test_columns_are_added_and_dropped(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    session.sql("alter table x add column if not exists a int")
    session.sql("alter table x add b int, c int")
    session.sql("alter table if exists nowhere add column b int")
    session.sql("alter table x drop column a, c")
    session.sql("alter table x drop column if exists a")
    session.sql("comment on column x.b is 'it''s'")
    assert session.columns("select * from x") == ["B"]
    comments = "select comment from information_schema.columns where table_name = 'X' and column_name = 'B' and table_schema = current_schema()"
    assert session.value(comments) == "it's"


PARAMETERS = [
    {"TIMEZONE": "Europe/Berlin"},
    {"WEEK_START": 1},
    {"WEEK_OF_YEAR_POLICY": 1},
    {"DATE_OUTPUT_FORMAT": "DD.MM.YYYY"},
    {"TIMESTAMP_INPUT_FORMAT": "DD.MM.YYYY"},
    {"TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_LTZ"},
    {"CLIENT_TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ"},
    {"QUOTED_IDENTIFIERS_IGNORE_CASE": True},
    {"ERROR_ON_NONDETERMINISTIC_MERGE": False},
    {"NO_SUCH_PARAMETER": 1},
]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_parameter_without_its_effect_is_refused(
    account: Account, session: Session, parameters: dict[str, object]
) -> None:
    error = session.error("select 1", _statement_params=parameters)
    assert (error.errno, "cannot apply this session parameter" in str(error)) == (2, True)
    with pytest.raises(DatabaseError, match="cannot apply this session parameter"):
        account.session(session_parameters=parameters)


@pytest.mark.parametrize("parameters", [{"TIMEZONE": "UTC"}, {"WEEK_START": 0}, {"USE_CACHED_RESULT": False}])
def test_parameter_that_changes_no_value_is_taken(account: Account, parameters: dict[str, object]) -> None:
    assert account.session(session_parameters=parameters).value("select 1") == 1


@pytest.mark.parametrize(
    "call", ["select system$get_tag('t', 'x', 'table')", "select system$cancel_query('x')", "select last_query_id()"]
)
def test_function_that_only_an_account_has_is_unknown(session: Session, call: str) -> None:
    assert session.refused(call) > 0


def test_transaction_that_nobody_began_ends_as_on_an_account(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    for ending in ("commit", "rollback"):
        assert session.value(ending) == "Statement executed successfully."
    assert session.value("select a from x") == 1


def test_session_without_autocommit_is_refused(account: Account) -> None:
    with pytest.raises(DatabaseError, match=r"cannot keep a transaction open, got AUTOCOMMIT = FALSE"):
        snowflake.connector.connect(
            **{**account.arguments, "autocommit": False, "session_parameters": {"AUTOCOMMIT": False}}
        )


def test_statement_is_neither_described_nor_left_to_itself(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    with session.connection.cursor() as cursor:
        for call in (cursor.describe, cursor.execute_async):
            with pytest.raises(DatabaseError, match=REMEDY):
                call("drop table x")
    assert session.value("select a from x") == 1


def test_only_the_owner_has_a_privilege_and_nothing_hangs_on_a_table(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    schema = session.value("select current_schema()")
    ((_, *owner),) = session.sql(show_grants_sql(Relation("RUN_ELT", schema, "X")))
    assert owner == ["OWNERSHIP", "TABLE", f"RUN_ELT.{schema}.X", "ROLE", "SYSADMIN", "true", "SYSADMIN"]
    assert session.refused("show grants on table nowhere") == 2003
    assert session.sql("show streams in schema") == []
    policies = "select policy_name, ref_column_name from table(information_schema.policy_references(ref_entity_name => 'x', ref_entity_domain => 'table'))"
    assert session.sql(policies) == []


@pytest.mark.parametrize("publish", ["clone", "swap", "overwrite"])
def test_every_way_of_publishing_works(tmp_path: Path, publish: str) -> None:
    with running_server(tmp_path, EmbeddedServer) as plain:
        account = Account(plain)
        with account.resources:
            warehouse = LocalServer(plain, account, tmp_path)
            for number in (3, 5):
                assert warehouse.run(f"run-{number}", mau(number, number, publish=publish)).failure is None
                assert warehouse.seen() == [(number, number, number)]
