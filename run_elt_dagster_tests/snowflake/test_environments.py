"""A copy of a database: what it keeps, and what the catalogue says of it."""

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster.environments.comparison import TableComparison, compare_tables
from run_elt_dagster.environments.databases import Databases
from run_elt_dagster.model.names import quote_identifier
from run_elt_dagster_tests.support.embedded import Session
from run_elt_dagster_tests.support.snowflake_account import OwnTable, allowed, built

NO_SCHEMAS = "copies whole databases"


@contextmanager
def copied(table: OwnTable, *, schemas: bool) -> Generator[tuple[str, Session]]:
    """Copy the database of the tests, or the schema of this run alone, as an environment."""
    root, name = table.schema.session(), f"tests_{uuid.uuid4().hex[:8]}"
    probe = f"RUN_ELT_{name.upper()}"
    # The role may have no right to it. A session of its own: on an account it is in the new database then.
    allowed(table.schema.session(), [f"create database {probe}", f"drop database {probe}"])
    with table.schema.watched(lambda _, __: None) as session:
        databases = Databases(session, database=table.schema.database)
        only = [table.schema.name] if schemas else []
        made = databases.create(name, owner="tests", now=datetime.now(UTC), days=1, schemas=only)
        try:
            (listed,) = [
                each for each in Databases(session, database=table.schema.database).environments() if each.name == name
            ]
            assert listed.mark == made.mark
            yield made.database, root
        finally:
            Databases(session, database=table.schema.database).drop(name)


def compared(table: OwnTable, database: str) -> tuple[TableComparison, list[str]]:
    """Return how the copy of a table differs from it, and the first words of what was asked."""
    sent: list[str] = []
    session = table.schema.session()

    def send(sql: str) -> Any:
        sent.append(sql.split(maxsplit=1)[0])
        return session.sql(sql)

    (found,) = compare_tables(send, [table.declared], database=database, against=table.schema.database)
    return found, sent


@pytest.mark.parametrize("schemas", [False, pytest.param(True, marks=pytest.mark.only_an_account(NO_SCHEMAS))])
def test_copy_is_changed_alone_and_what_nobody_changes_is_not_read(table: OwnTable, *, schemas: bool) -> None:
    table.publish("0000000A", built(3, 1))
    with copied(table, schemas=schemas) as (database, root):
        found, _ = compared(table, database)
        assert found.state == "same"
        assert found.here is not None
        assert found.here.marker == (found.there and found.there.marker)
        copy = f"{quote_identifier(database)}.{quote_identifier(table.schema.name)}.{quote_identifier(table.name)}"
        root.sql(f"update {copy} set v = 99 where n = 1")
        found, _ = compared(table, database)
        assert (found.state, found.difference and found.difference.rows and found.difference.rows.added) == (
            "changed",
            1,
        )
        assert root.value(f"select max(v) from {quote_identifier(table.name)}") != 99


@pytest.mark.only_an_account("copies the times of a table with it")
def test_times_of_a_copied_table_are_those_of_the_copy(table: OwnTable) -> None:
    """Otherwise every table of an environment is read: correct, and slower."""
    table.publish("0000000A", built(3, 1))
    with copied(table, schemas=False) as (database, root):
        schema = f"{quote_identifier(database)}.information_schema.tables"
        ((created, altered),) = root.sql(
            f"select created, last_altered from {schema} where table_name = '{table.name}'"
        )
        assert abs((altered - created).total_seconds()) <= 1
