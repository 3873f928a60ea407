"""A simulated account that ends, or is killed, and begins again in its directory."""

from pathlib import Path

import pytest

from run_elt_dagster_tests.integration.test_embedded_directory import Holder, holders
from run_elt_dagster_tests.support.embedded import Account, running_server

# About a part of the tests alone, the simulated account.
pytestmark = pytest.mark.thorough

__all__ = ["holders"]

# Does what it is told in SQL, says so, and waits.
HOLDER = """
import sys, snowflake.connector
from pathlib import Path
from run_elt_dagster_tests.support.embedded import Account, running_server
with running_server(Path(sys.argv[1])) as server:
    session = Account(server).session()
    for statement in sys.argv[2:]:
        session.sql(statement)
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_roles_and_grants_are_there_again(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        account = Account(server)
        with account.resources:
            session = account.session()
            session.sql("create table analytics.x as select 1 as a")
            session.sql("create role reader")
            session.sql("grant select on table analytics.x to role reader")
    with running_server(tmp_path) as server:
        account = Account(server)
        with account.resources:
            granted = [row[5] for row in account.session().sql("show grants on table analytics.x")]
            assert granted == ["SYSADMIN", "READER"]
            assert account.session().refused("create role reader") == 2002


def test_killed_process_leaves_what_it_committed(tmp_path: Path, holders: list[Holder]) -> None:
    statements = (
        "create table analytics.x comment = 'c' as select 1 as a",
        "grant select on table analytics.x to role public",
        "begin",
        "insert into analytics.x values (2)",
    )
    holders.append(holder := Holder(tmp_path, *statements, code=HOLDER))
    assert holder.line() == "held"
    holder.kill()
    with running_server(tmp_path) as server:
        account = Account(server)
        with account.resources:
            session = account.session()
            assert session.value("select listagg(a) from analytics.x") == "1"
            assert session.value("select comment from information_schema.tables where table_name = 'X'") == "c"
            assert [row[5] for row in session.sql("show grants on table analytics.x")] == ["SYSADMIN", "PUBLIC"]
