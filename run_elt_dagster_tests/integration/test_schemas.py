"""Target schemas: the embedded Snowflake's are created where a table needs one, an account's are asked for."""

from pathlib import Path

import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.outcome import Failure
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.local_server import LocalServer
from run_elt_dagster_tests.support.run_arguments import run_arguments


def declare(project: DagsterProject, path: str, text: str) -> None:
    file = project.directory / "tables" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("publish", cases(("clone", "swap", "overwrite"), usual=["clone"]))
def test_second_schema_is_created_on_the_embedded_snowflake_and_a_second_run_publishes_again(
    project: DagsterProject, publish: str
) -> None:
    declare(project, "analytics/orders.sql", "select 7 as n")
    declare(
        project,
        "marketing/spend.sql",
        f"/* elt\npublish: {publish}\nelt */ select n from analytics.orders",
    )
    for _ in range(2):
        result = project.materialize()
        assert result.success, failure_text(result)
        assert set(project.materialized(result)) == {"orders", "spend"}
    assert project.sql("select n from marketing.spend") == [(7,)]


def test_schema_whose_name_needs_quotes_is_created_too(project: DagsterProject) -> None:
    declare(
        project,
        "marketing/spend.sql",
        '/* elt\nidentifier: \'"my schema"."Net sales"\'\nelt */ select 1 as n',
    )
    result = project.materialize()
    assert result.success, failure_text(result)
    assert project.sql('select n from "my schema"."Net sales"') == [(1,)]


def test_created_schema_does_not_become_the_current_one(project: DagsterProject) -> None:
    declare(project, "marketing/spend.sql", "select current_schema() as name")
    assert project.materialize().success
    assert project.sql("select name from marketing.spend") == [("PUBLIC",)]


def test_schema_that_cannot_be_created_fails_its_own_tables_only(project: DagsterProject) -> None:
    # The embedded Snowflake takes no two names that differ by case alone.
    declare(project, "a/t.sql", "/* elt\nidentifier: '\"Sales\".T'\nelt */ select 1 as n")
    declare(project, "sales/t.sql", "select 1 as n")
    result = project.materialize()
    assert len(project.materialized(result)) == 1
    assert "1 table failed" in failure_text(result)


def failure(local_server: LocalServer, text: str = "select 1 as n") -> Failure:
    """Return why marketing.spend was not published on an account."""
    tables = catalogue([parse_table_file(Path("spend.sql"), text, schema="marketing", table="spend")])
    connection = local_server.account.session().connection
    with ConnectorSession(connection, lambda **_: pytest.fail("no second session is needed")) as session:
        (outcome,) = run_tables(
            session, tables, [("marketing", "spend")], **run_arguments("00000001", retry_seconds=())
        )
    assert outcome.failure is not None
    return outcome.failure


def test_missing_schema_of_an_account_is_not_created_and_the_error_says_who_must(local_server: LocalServer) -> None:
    error = failure(local_server)
    assert error.stage == "build"
    assert error.problem == "schema RUN_ELT.MARKETING does not exist, or role SYSADMIN may not use it."
    assert "with CREATE SCHEMA on database RUN_ELT, such as SYSADMIN, run: " in error.message
    assert (
        "CREATE SCHEMA IF NOT EXISTS RUN_ELT.MARKETING; "
        "GRANT USAGE, CREATE TABLE ON SCHEMA RUN_ELT.MARKETING TO ROLE SYSADMIN;" in error.message
    )
    assert local_server.reader.sql("select 1 from information_schema.schemata where schema_name = 'MARKETING'") == []


def test_schema_without_the_right_to_create_tables_is_named_with_its_grant(local_server: LocalServer) -> None:
    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("CREATE OR REPLACE TABLE"):
            text = "SQL access control error:\nInsufficient privileges to operate on schema 'MARKETING'"
            raise SqlError(text, errno=3001, sqlstate="42501")

    local_server.reader.sql("create schema marketing")
    with local_server.account.hooked(refuse):
        error = failure(local_server)
    assert error.problem == "role SYSADMIN may not create tables in schema RUN_ELT.MARKETING."
    assert "GRANT USAGE, CREATE TABLE ON SCHEMA RUN_ELT.MARKETING TO ROLE SYSADMIN;" in error.message


def test_missing_schema_of_a_source_is_not_taken_for_the_target_s(local_server: LocalServer) -> None:
    local_server.reader.sql("create schema marketing")
    error = failure(local_server, "select * from crm.customers")
    assert "CRM" in error.problem
    assert "CREATE SCHEMA" not in error.message
