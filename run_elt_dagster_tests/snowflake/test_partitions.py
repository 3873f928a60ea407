"""What exchanging partitions rests on: who waits for whom, what is read after a wait, and what a transaction leaves behind."""

from collections.abc import Sequence
from datetime import date

from run_elt_dagster.model.candidate import pieces_in
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.partitions import read_partitions
from run_elt_dagster.publish.row_exchange import exchange_parameters
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.runner import Patience
from run_elt_dagster_tests.support.embedded import Background, Session
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.slices import Version, part_of
from run_elt_dagster_tests.support.snowflake_account import OwnTable, listing

OLD, NEW = Version(3, 1), Version(5, 2)


def declared(table: OwnTable, version: Version) -> AnalyticsTable:
    division = {"by": "day", "column": "day", "start": date(2024, 1, 1)}
    given = {"schema": table.schema.name, "table": table.name, "sql": version.sql, "partitions": division}
    return AnalyticsTable.model_validate({**given, "primary_key": "n"})


def publish(
    table: OwnTable,
    run_id: str,
    version: Version,
    days: Sequence[int],
) -> None:
    chosen, account = declared(table, version), table.schema.account
    options = run_arguments(run_id, job="tests", check_policies=account.check_policies)
    with table.schema.watched(lambda _, __: None) as session:
        (outcome,) = run_tables(
            session, catalogue([chosen]), [chosen.key], slices={chosen.key: part_of(chosen, days)}, **options
        )
    assert outcome.failure is None, outcome.failure


def seen(table: OwnTable, session: Session) -> dict[int, tuple[int, int]]:
    rows = session.sql(f"select date_part(day, day), count(*), max(v) from {table.name} group by 1")
    return {int(day): (int(count), int(value)) for day, count, value in rows}


def test_slices_are_published_first_beside_and_over_each_other(table: OwnTable) -> None:
    session = table.schema.session()
    publish(table, "0000000A", OLD, (1, 3))
    publish(table, "0000000B", NEW, (3, 4))
    assert seen(table, session) == {1: (3, 1), 2: (3, 1), 3: (5, 2), 4: (5, 2)}
    # A clone is created with its source's comment: the order of two first runs rests on that.
    assert pieces_in(table.comment(session)) is not None
    with table.schema.watched(lambda _, __: None) as own:
        listed = read_partitions(own, declared(table, NEW))
    assert [(each.marker.run_id, each.rows) for each in listed] == [*[("0000000A", 3)] * 2, *[("0000000B", 5)] * 2]


def test_grants_stay_and_a_stream_does_not_go_stale(table: OwnTable) -> None:
    session = table.schema.session()
    publish(table, "0000000A", OLD, (1, 3))
    session.sql(f"grant select on table {table.name} to role public")
    session.sql(f"create stream s_{table.name} on table {table.name}")
    publish(table, "0000000B", NEW, (2, 3))
    assert ("SELECT", "ROLE", "PUBLIC", "false") in table.grants(session)
    assert [str(row["stale"]).lower() for row in listing(session, f"show streams like 'S_{table.name}'")] == ["false"]


def test_second_update_of_the_lock_waits_and_then_reads_what_the_first_has_committed(table: OwnTable) -> None:
    """The order of snapshots rests on both. The second session is older than what the first one commits."""
    first, second = table.schema.session(), table.schema.session()
    first.sql(f"create table {table.name} as select 'lock' as k, 0 as v union all select 'a', 0")
    for session in (first, second):
        session.sql("alter session set lock_timeout = 120, transaction_abort_on_error = true")
    first.sql("begin")
    first.sql(f"update {table.name} set v = 1 where k = 'lock'")
    first.sql(f"update {table.name} set v = 1 where k = 'a'")
    second.sql("begin")
    waiting = Background(lambda: second.sql(f"update {table.name} set v = 2 where k = 'lock'"))
    assert not waiting.done
    first.sql("commit")
    waiting.result()
    assert second.value(f"select v from {table.name} where k = 'a'") == 1
    second.sql("commit")


def test_session_of_a_transaction_has_the_parameters_that_it_signed_in_with(table: OwnTable) -> None:
    parameters = exchange_parameters(Patience(wait_seconds=7))
    with table.schema.watched(lambda _, __: None) as session, session.fresh(parameters) as fresh:
        listed = fresh.execute("SHOW PARAMETERS IN SESSION", tag={}).rows
    values = {str(name): str(value).lower() for name, value, *_ in listed}
    assert (values["LOCK_TIMEOUT"], values["TRANSACTION_ABORT_ON_ERROR"]) == ("7", "true")


def test_failed_insert_leaves_nothing_of_its_transaction(table: OwnTable) -> None:
    session, other = table.schema.session(), table.schema.session()
    session.sql(f"create table {table.name} (a int) as select 1")
    session.sql("alter session set transaction_abort_on_error = true")
    session.sql("begin transaction name run_elt_0000000a")
    session.sql(f"delete from {table.name}")
    session.refused(f"insert into {table.name} select 'x'")
    session.sql("rollback")
    assert other.value(f"select count(*) from {table.name}") == 1
