"""Tables of one `publish_group`: readers see all of them change, or none."""

import json
import threading
from functools import partial

import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.group_lock import GroupNote
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases, effort
from run_elt_dagster_tests.support.embedded import Background
from run_elt_dagster_tests.support.ended_groups import at_first, ended_by_another
from run_elt_dagster_tests.support.local_server import METHODS, LocalServer

NAMES = ("orders", "refunds", "totals")
BOTH = "select (select max(v) from analytics.orders), (select max(v) from analytics.refunds), (select max(v) from analytics.totals)"


def group(value: int, publish: str = "clone", **more: str) -> dict[str, str]:
    """Return three tables of a group; the last one reads the other two.

    Args:
        value: What each of their rows has.
        publish: How they are published.
        more: Settings of a table, by its name.
    """
    sql = {
        "orders": f"select {value}::int as v, 1 as n",
        "refunds": f"select {value}::int as v, 1 as n",
        "totals": "select orders.v, r.n from analytics.orders join analytics.refunds as r on r.v = orders.v",
    }
    return {
        name: f"/* elt\npublish_group: finance\npublish: {publish}\n{more.get(name, '')}\nelt */ {text}"
        for name, text in sql.items()
    }


def seen(server: LocalServer) -> tuple[int, ...]:
    return server.reader.sql(BOTH)[0]


def left_over(server: LocalServer) -> set[str]:
    return server.tables() - {name.upper() for name in NAMES}


@pytest.mark.parametrize("publish", cases(METHODS, usual=["clone"]))
def test_tables_of_a_group_read_each_others_candidates_and_are_published_together(
    local_server: LocalServer, publish: str
) -> None:
    for value in (1, 2):
        outcomes = local_server.run_all(f"0000000{value}", group(value, publish))
        assert all(outcome.published for outcome in outcomes.values()), outcomes
        assert seen(local_server) == (value, value, value)
    assert left_over(local_server) == set()


def test_failed_check_holds_the_others_back(local_server: LocalServer) -> None:
    local_server.run_all("00000001", group(1))
    outcomes = local_server.run_all("00000002", group(2, refunds="checks: {row_count: {min: 5}}"))
    assert outcomes["refunds"].failure is not None
    assert outcomes["totals"].skipped_because == (("analytics", "refunds"),)
    held = outcomes["orders"]
    assert held.held_back_by == (("analytics", "refunds"),)
    assert not held.in_production
    assert held.production is not None
    assert held.production.state == "unchanged"
    assert seen(local_server) == (1, 1, 1)
    assert left_over(local_server) == {"TEMP_ORDERS__00000002", "TEMP_REFUNDS__00000002"}
    # Neither is waited for: the next run publishes.
    assert all(outcome.published for outcome in local_server.run_all("00000003", group(3)).values())
    assert seen(local_server) == (3, 3, 3)


def test_run_of_a_part_of_a_group_is_refused(local_server: LocalServer) -> None:
    with pytest.raises(ValueError, match=r"all tables of publish_group finance, got it without analytics\.totals"):
        local_server.run_all("00000001", group(1), keys=["orders", "refunds"])
    assert local_server.tables() == set()


def test_run_waits_for_the_one_that_has_the_lock(local_server: LocalServer) -> None:
    local_server.run_all("00000001", group(1))
    note = GroupNote("finance", "0000000A", "2026-01-01T00:00:00Z", ("analytics.orders",))
    lock = f"create table analytics.run_elt_group_finance (run_id varchar) comment = '{note}'"
    local_server.reader.sql(lock)

    def is_live(_: str) -> bool:
        return True

    outcomes = local_server.run_all("00000002", group(2), wait_seconds=0.1, is_live=is_live)
    refused = [outcome.failure for outcome in outcomes.values() if outcome.failure is not None]
    assert [failure.reason for failure in refused] == [Reason.NEWEST_LAST]
    assert "run 0000000A that has held RUN_ELT.ANALYTICS.RUN_ELT_GROUP_FINANCE" in refused[0].message
    assert seen(local_server) == (1, 1, 1)

    tried = threading.Event()

    def note_the_wait(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("SELECT COMMENT FROM"):
            tried.set()

    with local_server.account.hooked(note_the_wait):
        dropping = Background(lambda: _drop_lock(local_server, tried))
        assert all(o.published for o in local_server.run_all("00000003", group(3), is_live=is_live).values())
        dropping.result()
    assert seen(local_server) == (3, 3, 3)


def _drop_lock(server: LocalServer, tried: threading.Event) -> None:
    assert tried.wait(PATIENCE_SECONDS)
    server.reader.sql("drop table analytics.run_elt_group_finance")


def test_group_is_published_by_the_newer_of_two_runs(local_server: LocalServer) -> None:
    local_server.run_all("00000001", group(1))
    newer: list[dict[str, TableOutcome]] = []

    def overtake(event: StatementEvent) -> None:
        tag = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}")
        is_last = tag.get("asset") == "analytics/totals" and tag.get("stage") == "audit"
        if event.phase == "after" and tag.get("run_id") == "00000002" and is_last and not newer:
            newer.append({})
            newer[0] = local_server.run_all("00000003", group(3))

    with local_server.account.hooked(overtake):
        older = local_server.run_all("00000002", group(2))
    assert all(outcome.published for outcome in newer[0].values())
    assert {outcome.superseded_by for outcome in older.values()} == {"00000003"}
    assert seen(local_server) == (3, 3, 3)
    assert left_over(local_server) == set()


@pytest.mark.timeout(1800)
def test_reader_of_a_group_by_overwrite_never_sees_rows_of_two_runs(local_server: LocalServer) -> None:
    local_server.run_all("00000000", group(0, "overwrite"))
    mixed = list[tuple[int, ...]]()
    polls = 0
    ended, reader = threading.Event(), local_server.account.session()

    def poll() -> None:
        nonlocal polls
        # The pause leaves the interpreter to the publishing threads.
        while not ended.wait(0.02):
            values = reader.sql(BOTH)[0]
            polls += 1
            mixed.extend([values] if len(set(values)) > 1 else [])

    polling, runs = Background(poll), effort(usual=2, thorough=200)
    try:
        for number in range(1, runs + 1):
            outcomes = local_server.run_all(f"{number:08X}", group(number, "overwrite"))
            assert all(outcome.published for outcome in outcomes.values())
    finally:
        ended.set()
        polling.result()
    assert polls > runs
    assert mixed == []


GOVERNED = (
    "policies: {masking: {v: raw_data.mask}, aggregation: raw_data.groups}\nobject_tags: {raw_data.domain: sales}"
)


def policies_of(server: LocalServer, table: str) -> list[str]:
    found = server.reader.sql(
        "select policy_name from table(run_elt.information_schema.policy_references("
        f"ref_entity_name => 'analytics.{table}', ref_entity_domain => 'table')) order by 1"
    )
    return [name for (name,) in found]


@pytest.fixture
def policies(local_server: LocalServer) -> None:
    local_server.reader.sql("create masking policy raw_data.mask as (v int) returns int -> 0")
    local_server.reader.sql(
        "create aggregation policy raw_data.groups as () returns aggregation_constraint -> no_aggregation_constraint()"
    )


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize("publish", cases(METHODS, usual=["clone"]))
def test_policies_of_a_group_come_after_all_builds_and_before_the_first_exchange(
    local_server: LocalServer, publish: str
) -> None:
    """The table that reads another one reads its candidate without policies."""
    order: list[str] = []

    def note(event: StatementEvent) -> None:
        if event.phase == "after":
            return
        if "SET MASKING POLICY" in event.sql or "SET AGGREGATION POLICY" in event.sql:
            order.append("policy")
        elif event.sql.startswith("CREATE OR REPLACE TABLE") and "AS (\n" in event.sql:
            order.append("build")
        elif event.sql.startswith(("CREATE TABLE", "ALTER TABLE")) and (
            " RENAME TO " in event.sql or "CLONE" in event.sql
        ):
            order.append("exchange")

    with local_server.account.hooked(note):
        outcomes = local_server.run_all("00000001", group(1, publish, orders=GOVERNED, totals=GOVERNED))
    assert all(outcome.published for outcome in outcomes.values()), outcomes
    assert order == ["build"] * 3 + ["policy"] * 4 + ["exchange"] * 3
    assert [policies_of(local_server, name) for name in NAMES] == [["GROUPS", "MASK"], [], ["GROUPS", "MASK"]]


@pytest.mark.thorough
@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize("publish", ["clone", "swap"])
def test_table_of_a_group_that_lost_its_policies_fails_and_no_other(local_server: LocalServer, publish: str) -> None:
    assert local_server.run_all("00000001", group(1, publish))["orders"].published

    def lose(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith(("CREATE OR REPLACE TABLE", "ALTER TABLE")):
            session = local_server.account.session()
            session.sql("alter table if exists analytics.orders modify column v unset masking policy")
        if event.phase == "before" and "SET MASKING POLICY" in event.sql and '"ORDERS"' in event.sql:
            raise SqlError("SQL compilation error:\nrefused", errno=3001, sqlstate="42501")

    texts = group(2, publish, orders=GOVERNED, totals=GOVERNED)
    with local_server.account.hooked(lose):
        outcomes = local_server.run_all("00000002", texts)
    assert {name for name, outcome in outcomes.items() if not outcome.published} == {"orders"}
    assert outcomes["orders"].failure is not None
    assert "The table was published, and lacks its policies" in outcomes["orders"].failure.message
    assert seen(local_server) == (2, 2, 2)
    assert all(each.published for each in local_server.run_all("00000003", texts).values())
    assert [policies_of(local_server, name) for name in NAMES] == [["GROUPS", "MASK"], [], ["GROUPS", "MASK"]]
    # After a swap, the table of before is kept under the candidate's name where its table has failed.
    assert left_over(local_server) <= {"TEMP_ORDERS__00000002"}


@pytest.mark.thorough
def test_group_is_superseded_where_a_newer_run_has_dropped_all_of_its_candidates(local_server: LocalServer) -> None:
    head = "/* elt\npublish_group: finance\nchecks: {row_count: {min: 1}}\nelt */"
    newer: list[dict[str, TableOutcome]] = []

    def overtake(event: StatementEvent) -> None:
        tag = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}")
        if event.phase == "before" and tag.get("stage") == "audit" and not newer:
            newer.append({})
            newer[0] = local_server.run_all("00000003", {"orders": f"{head} select 3 as v"})

    with local_server.account.hooked(overtake):
        older = local_server.run_all("00000002", {"orders": f"{head} select 2 as v"})
    assert older["orders"].superseded_by == "00000003"
    assert local_server.reader.sql("select v from analytics.orders") == [(3,)]


@pytest.mark.parametrize("publish", ["swap", pytest.param("clone", marks=pytest.mark.thorough)])
def test_run_of_a_group_that_is_taken_for_dead_says_what_readers_see(local_server: LocalServer, publish: str) -> None:
    """A second swap brings the old rows back, and the run had said that they are new."""
    local_server.run_all("0000000A", group(1, publish))
    texts = group(2, publish)
    tables = [
        parse_table_file(local_server.directory / f"{name}.sql", text, schema="analytics", table=name)
        for name, text in texts.items()
    ]
    begins = {"swap": "ALTER TABLE", "clone": "CREATE OR REPLACE TABLE"}[publish]
    is_dropping, has_ended = threading.Event(), threading.Event()
    ended: list[Background] = []

    def take_for_dead() -> None:
        ended.append(Background(partial(ended_by_another, local_server, tables)))
        assert is_dropping.wait(PATIENCE_SECONDS)

    def wait_for_the_run() -> None:
        is_dropping.set()
        assert has_ended.wait(PATIENCE_SECONDS)

    exchange = at_first(begins, take_for_dead, has={"swap": "SWAP WITH", "clone": "COPY GRANTS"}[publish])
    clean_up = at_first("DROP TABLE", wait_for_the_run, has='."TEMP_')

    def hook(event: StatementEvent) -> None:
        exchange(event)
        clean_up(event)

    with local_server.account.hooked(hook):
        run = Background(partial(local_server.run_all, "0000000B", texts))
        assert is_dropping.wait(PATIENCE_SECONDS)
        try:
            outcomes = run.result()
        finally:
            has_ended.set()
        ended[0].result()
    now = seen(local_server)
    assert [each.published for each in outcomes.values()] == [now == (2,) * len(now)] * len(outcomes)
