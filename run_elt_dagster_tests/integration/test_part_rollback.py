"""Putting back the rows that partitions had before their last publish, over the real connector."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.part_rollback import put_back
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlan, PartRollbackPlanner, parts_of_slice
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError
from run_elt_dagster_tests.faults.kinds import FAULTS, meet
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import cases, effort
from run_elt_dagster_tests.support.embedded import Account, Session, account, connecting, server
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.slices import (
    Version,
    divided,
    key,
    notes,
    part_of,
    published_before,
    run_slice,
    seen,
)

__all__ = ["account", "server"]

OLD, NEW, NEXT = Version(3, 1), Version(5, 2), Version(7, 3)
TABLE = divided(OLD)


@pytest.fixture
def reader(account: Account) -> Session:
    session = account.session()
    session.sql("drop table if exists analytics.daily")
    session.sql("drop table if exists analytics.run_elt_partitions")
    return session


@contextmanager
def rolling_back(
    account: Account, *days: int, table: AnalyticsTable = TABLE, **options: Any
) -> Generator[tuple[PartRollbackPlanner, StatementRunner]]:
    connect = connecting(account.arguments)
    with connect() as connection, ConnectorSession(connection, connect) as session:
        given = run_arguments("rollback", retry_seconds=(0, 0, 0), **options)
        runner = StatementRunner(session, given["run"], threading.Event(), patience=given["patience"])
        parts = parts_of_slice(table, part_of(table, days), target=target_of(table, database="RUN_ELT"))
        yield PartRollbackPlanner(runner, table, parts, database="RUN_ELT"), runner


def roll_back(account: Account, *days: int, further: bool = False) -> PartRollbackPlan:
    with rolling_back(account, *days) as (planner, runner):
        plan = planner.plan(further=further)
        put_back(runner, plan)
    return plan


def refused(account: Account, *days: int, further: bool = False, **options: Any) -> str:
    with rolling_back(account, *days, **options) as (planner, _), pytest.raises(PublishRefusedError) as error:
        planner.plan(further=further)
    assert "Nothing was changed" in str(error.value)
    return str(error.value)


def lay(reader: Session, *days: int) -> None:
    """Leave days of OLD as the first run would have left them."""
    reader.sql("create role if not exists consumer")
    for statement in published_before(TABLE, OLD, days):
        reader.sql(statement)


def publish(account: Account, version: Version, *days: int, run_id: str) -> None:
    assert run_slice(account.arguments, divided(version), days, run_id).published


def test_partition_gets_the_rows_of_before_and_the_others_stay(account: Account, reader: Session) -> None:
    lay(reader, 1, 3)
    for version, run_id in ((NEW, "0000000B"), (NEXT, "0000000C")):
        publish(account, version, 1, 3, run_id=run_id)
    reader.sql("grant select on table analytics.daily to role public")
    plan = roll_back(account, 2)
    assert (plan.versions[key(2)].present_words[:6], plan.versions[key(2)].words[:6]) == ("7 rows", "5 rows")
    assert seen(reader) == {**NEXT.of(1, 3), **NEW.of(2)}
    assert notes(reader, TABLE)[2] == ("rollback-of-0000000C", 5)
    # Repeated, it goes no further, unless that is asked for.
    assert roll_back(account, 2).done == (key(2),)
    assert seen(reader)[2] == NEW.of(2)[2]
    roll_back(account, 2, further=True)
    assert seen(reader) == {**NEXT.of(1, 3), **OLD.of(2)}
    assert "nothing before what readers see of partition 2024-01-02" in refused(account, 2, further=True)
    # An older run stays behind, the next one publishes, and can be rolled back again.
    publish(account, NEW, 2, run_id="0000000D")
    assert seen(reader)[2] == NEW.of(2)[2]
    roll_back(account, 2)
    assert seen(reader) == {**NEXT.of(1, 3), **OLD.of(2)}


@pytest.mark.thorough
def test_range_gets_what_each_of_its_partitions_had(account: Account, reader: Session) -> None:
    lay(reader, 1, 4)
    publish(account, NEW, 1, 2, run_id="0000000B")
    publish(account, NEXT, 2, 4, run_id="0000000C")
    with rolling_back(account, 1, 4) as (planner, runner):
        plan = planner.plan()
        assert len(plan.insert_sqls) == 2
        assert (plan.rows, list(plan.versions)) == (14, [key(day) for day in (1, 2, 3, 4)])
        put_back(runner, plan)
    assert seen(reader) == {**OLD.of(1, 3, 4), **NEW.of(2)}


def test_what_cannot_come_back_is_refused(account: Account, reader: Session) -> None:
    assert "no ANALYTICS.DAILY" in refused(account, 1).replace('"', "").replace("RUN_ELT.", "")
    lay(reader, 1, 2)
    assert "no publish of partition 2024-01-03" in refused(account, 2, 3)
    assert "nothing before what readers see of partitions 2024-01-01, 2024-01-02" in refused(account, 1, 2)
    publish(account, OLD, 3, 3, run_id="0000000B")
    assert "no rows of partition 2024-01-03 before" in refused(account, 3)
    publish(account, NEW, 2, 3, run_id="0000000C")
    reader.sql("create table analytics.temp_daily__0000000d comment = '[run_elt run 0000000D]' as select 1 as n")
    assert "run 0000000D about to publish them" in refused(account, 3, is_live="0000000D".__eq__)
    # A live run of other days does not concern them.
    rows = "[run_elt rows 2024-01-05T00:00:00Z..2024-01-06T00:00:00Z] [run_elt run 0000000D]"
    reader.sql(f"comment on table analytics.temp_daily__0000000d is '{rows}'")
    with rolling_back(account, 3, is_live="0000000D".__eq__) as (planner, _):
        assert planner.plan().rows == 3
    past_rows = "RUN_ELT._fs_information_schema.embedded_past"
    duck = account.server.engine.duck_conn.cursor()
    duck.execute("UPDATE RUN_ELT._fs_information_schema.embedded_objects SET created_on = created_on - INTERVAL 2 DAY")
    duck.execute(f"UPDATE {past_rows} SET until = until - INTERVAL 25 HOUR")
    assert "See DATA_RETENTION_TIME_IN_DAYS" in refused(account, 3)
    reader.sql(
        "create or replace table analytics.daily comment = '[run_elt run 1 at 2026-01-01]' as select * from analytics.daily"
    )
    assert "a table that run 1 has created since" in refused(account, 3)


@pytest.mark.thorough
def test_rows_with_other_columns_do_not_come_back(account: Account, reader: Session) -> None:
    lay(reader, 1, 2)
    publish(account, NEW, 1, 2, run_id="0000000B")
    wider = divided(f"select *, v as w from ({NEXT.sql})", schema_change="add")
    assert run_slice(account.arguments, wider, (1, 1), "0000000C").published
    # The last publish has added a column before: the rows of before have the columns of now.
    roll_back(account, 1)
    assert seen(reader) == NEW.of(1, 2)
    assert reader.value("select count(w) from analytics.daily") == 0
    # Before the one before that, there was no column W.
    assert "columns DAY, N, V then, and DAY, N, V, W now" in refused(account, 2)


def test_publish_and_key_of_meanwhile_are_no_victims(account: Account, reader: Session) -> None:
    lay(reader, 1, 2)
    publish(account, NEW, 1, 2, run_id="0000000B")
    with rolling_back(account, 2) as (planner, runner):
        plan = planner.plan()
        publish(account, NEXT, 2, run_id="0000000C")
        with pytest.raises(PublishRefusedError, match=r"another version since\. Nothing was changed"):
            put_back(runner, plan)
    assert seen(reader) == {**NEW.of(1), **NEXT.of(2)}
    # Day 1 has taken a key from day 2 since: put back, day 2 would have it too.
    reader.sql("update analytics.daily set n = 1 where day = '2024-01-01' and n = 0")
    with (
        rolling_back(account, 2, table=divided(OLD, primary_key="n")) as (planner, runner),
        pytest.raises(PublishRefusedError, match=r"1 row with a key of other rows \(check primary_key\)"),
    ):
        put_back(runner, planner.plan())
    assert seen(reader) == {**NEW.of(1), **NEXT.of(2)}


USUAL = ("answer lost",)


@pytest.mark.parametrize(
    "fault",
    cases((each for each in FAULTS if each != "killed"), usual=USUAL),
)
def test_fault_at_any_statement_leaves_the_one_or_the_other_and_a_repeat_ends_it(
    account: Account, reader: Session, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    # Whoever waits takes the lock of a lost session at once, and not after five minutes.
    monkeypatch.setattr(account.server, "abort_idle_seconds", 0)
    lay(reader, 1, 3)
    publish(account, NEW, 2, 3, run_id="0000000B")
    count, _ = fault_at(account, -1, fault)
    assert seen(reader) == OLD.of(1, 2, 3)
    is_short = effort(usual=1, thorough=0)
    for index in [4, count - 1] if is_short else range(count):
        publish(account, NEW, 2, 3, run_id=f"000000{index:02X}")
        _, told = fault_at(account, index, fault)
        found = seen(reader)
        assert found in ({**OLD.of(1), **NEW.of(2, 3)}, OLD.of(1, 2, 3))
        is_back = found == OLD.of(1, 2, 3)
        assert told or is_back
        assert "Nothing was changed" not in told or not is_back
        assert is_back or "Nothing was changed" in told or "is unknown" in told, told
        plan = roll_back(account, 2, 3)
        assert bool(plan.done) == is_back
        assert seen(reader) == OLD.of(1, 2, 3)


def fault_at(account: Account, index: int, fault: str) -> tuple[int, str]:
    """Roll days 2 and 3 back with a fault at one statement; return how many there are, and what is said."""
    statements: list[str] = []
    kind = FAULTS[fault]

    def hook(event: StatementEvent) -> None:
        if event.phase == "before":
            statements.append(event.sql)
        number = len(statements) - 1
        # A lost answer is asked for again, and given then.
        is_first = number == index and event.attempt == 1
        if event.phase == kind.phase and (is_first or (kind.lasts and number >= index >= 0)):
            meet(kind)

    with rolling_back(account, 2, 3) as (planner, runner):
        plan = planner.plan()
        with account.hooked(hook):
            try:
                put_back(runner, plan)
            except StatementError as error:
                return len(statements), str(error)
    return len(statements), ""
