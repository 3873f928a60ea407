"""What an account keeps besides: grants and tags of dropped tables, and the rows before INSERT OVERWRITE."""

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


def overwritten(session: Session, change: str = "insert overwrite into x select 2") -> str:
    """Overwrite a table and return the statement's query id."""
    with session.connection.cursor() as cursor:
        return str(cursor.execute(change).sfqid)


def test_rows_before_an_overwrite_can_be_read(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    created = session.value("select current_timestamp()").isoformat()
    query_id = overwritten(session)
    between = session.value("select current_timestamp()").isoformat()
    overwritten(session, "insert overwrite into x select 3")
    assert session.value("select a from x") == 3
    assert session.value(f"select a from x before(statement => '{query_id}')") == 1
    assert session.value(f"select x.a from x at(statement => '{query_id}')") == 2
    assert session.value(f"select a from x at(timestamp => '{created}'::timestamp_tz)") == 1
    assert session.value(f"select t.a from x at(timestamp => '{between}'::timestamp_ltz) as t") == 2
    assert session.value("select a from x at(offset => -0.0)") == 3
    session.sql(f"insert overwrite into x (a) select a from x before(statement => '{query_id}')")
    assert session.value("select a from x") == 1
    session.sql(f"create table y as select a + 1 as a from x at(timestamp => '{between}'::timestamp_tz)")
    assert session.value("select a from y") == 3


def test_rows_follow_the_object_and_not_its_name(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    query_id = overwritten(session)
    session.sql("create table y as select 9 as a")
    session.sql("alter table x swap with y")
    assert session.value(f"select a from y before(statement => '{query_id}')") == 1
    assert session.refused(f"select a from x before(statement => '{query_id}')") == 2


def test_time_before_the_table_is_not_kept(session: Session) -> None:
    session.sql("create table x as select 1 as a")
    for offset in (60, 2 * 86400):
        assert session.refused(f"select a from x at(offset => -{offset})") == 707


@pytest.mark.parametrize(
    "change", ["insert into x values (5)", "update x set a = 5", "delete from x", "truncate table x"]
)
def test_rows_that_were_not_kept_are_an_error_and_no_other_rows(session: Session, change: str) -> None:
    session.sql("create table x as select 1 as a")
    created = session.value("select current_timestamp()").isoformat()
    query_id = overwritten(session)
    between = session.value("select current_timestamp()").isoformat()
    session.sql(change)
    changed = overwritten(session, "insert overwrite into x select 7")
    session.sql(change)
    assert session.value(f"select a from x at(timestamp => '{created}')") == 1
    assert session.value(f"select a from x before(statement => '{query_id}')") == 1
    assert session.refused(f"select a from x at(timestamp => '{between}')") == 2
    assert session.refused(f"select a from x at(statement => '{changed}')") == 2
    assert session.refused("select a from x before(statement => '01b2-unknown')") == 2


def test_dropped_schema_takes_overwritten_rows_along(session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql("create table x as select 1 as a")
    session.sql("insert overwrite into x select 2")
    session.sql(f"drop schema {schema}")
    session.sql(f"create schema {schema}")
    assert seen(session) == set()


def test_only_the_latest_overwritten_rows_are_kept(session: Session) -> None:
    session.sql("create table x as select 0 as a")
    ids = [overwritten(session, f"insert overwrite into x select {number}") for number in range(1, 6)]
    assert [session.value(f"select a from x before(statement => '{query_id}')") for query_id in ids[2:]] == [2, 3, 4]
    assert session.refused(f"select a from x before(statement => '{ids[1]}')") == 2


@pytest.mark.parametrize("point", ["timestamp => current_timestamp()", "stream => 's'", "offset => -length('a')"])
def test_point_in_time_that_is_not_understood_is_refused(session: Session, point: str) -> None:
    session.sql("create table x as select 1 as a")
    assert session.refused(f"select a from x at({point})") in {2, 1003}
