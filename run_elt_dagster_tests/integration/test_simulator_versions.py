"""What an account keeps besides: grants and tags of dropped tables."""

from pathlib import Path

import pytest

from run_elt_dagster_tests.integration.test_embedded_versions import REPLACING, history, seen
from run_elt_dagster_tests.support.embedded import (
    Account,
    Session,
    account,
    running_server,
    server,
    session,
)

# About a part of the tests alone, the simulated account.
pytestmark = pytest.mark.thorough

__all__ = ["account", "server", "session"]


def grantees(session: Session, name: str) -> set[str]:
    return {str(row[5]) for row in session.sql(f"show grants on table {name}") if row[1] != "OWNERSHIP"}


@pytest.mark.parametrize("replacing", REPLACING.values(), ids=REPLACING)
def test_dropped_or_replaced_table_comes_back_with_all_that_was_known_about_it(
    session: Session, replacing: str
) -> None:
    session.sql("create table y as select 9 as a")
    session.sql("create transient table x (a int not null) comment = 'first' tag (t = 'v') as select 1")
    session.sql("grant select on table x to role public")
    (before,) = history(session, "X")
    session.sql(replacing.replace("table x clone", "transient table x clone"))
    if "drop" not in replacing:
        session.sql("alter table x rename to present")
    assert session.value("undrop table x") == "Table X successfully restored."
    assert session.value("select a from x") == 1
    assert session.refused("insert into x values (null)") == 100072
    assert (grantees(session, "X"), session.value("select system$get_tag('t', 'x', 'table')")) == ({"PUBLIC"}, "v")
    (after,) = history(session, "X")
    assert {name: after[name] for name in ("created_on", "comment", "kind", "rows", "dropped_on")} == {
        "created_on": before["created_on"],
        "comment": "first",
        "kind": "TRANSIENT",
        "rows": 1,
        "dropped_on": None,
    }


def test_kept_tables_outlive_the_server(tmp_path: Path) -> None:
    for part in range(2):
        with running_server(tmp_path) as server:
            account = Account(server)
            with account.resources:
                session = account.session(schema="analytics")
                if part == 0:
                    session.sql("create table x comment = 'first' as select 1 as a")
                    session.sql("insert overwrite into x select 2")
                    session.sql("create or replace table x as select 3 as a")
                else:
                    assert seen(session) == {"X"}
                    session.sql("alter table x rename to y")
                    session.sql("undrop table x")
                    assert session.value("select a from x") == 2
                    assert session.value("select a from x at(offset => -0.0)") == 2
                    assert history(session, "X")[0]["comment"] == "first"
