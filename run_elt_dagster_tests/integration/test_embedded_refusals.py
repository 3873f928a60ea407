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
        "alter session set timezone = 'UTC'",
        "alter session unset timezone",
        "set day = 1",
        "unset day",
        "begin",
        "begin transaction",
        "start transaction",
        "select * from x at(offset => -60)",
        "select * from x before(statement => 'x')",
        "create table y as select * from x at(offset => -60)",
        "select * from table(result_scan(last_query_id()))",
        "select $day",
        "call procedure()",
        "execute immediate 'select 1'",
        "explain select 1",
        "show parameters",
        "list @stage",
        "pragma version",
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
