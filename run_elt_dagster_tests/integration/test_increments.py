"""Increments on the server of the package: built, audited and merged by key while the other rows stay."""

from collections.abc import Callable
from typing import Any

import pytest

from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.support.embedded import Account, Session, account
from run_elt_dagster_tests.support.embedded import shipped_server as server
from run_elt_dagster_tests.support.increments import Rows, growing, note, run_increment, seen

__all__ = ["account", "server"]

# The value and the hour of each row. Row 2 has changed, row 4 is new; of row 1 the value alone has changed.
OLD: Rows = {1: (1, 1), 2: (1, 2), 3: (1, 3)}
NEW: Rows = {1: (9, 1), 2: (2, 4), 3: (1, 3), 4: (2, 4)}
MERGED: Rows = {**NEW, 1: (1, 1)}
Run = Callable[..., TableOutcome]


@pytest.fixture
def reader(account: Account) -> Session:
    session = account.session()
    session.sql("drop table if exists analytics.orders")
    session.sql("drop table if exists analytics.run_elt_partitions")
    return session


@pytest.fixture
def run(account: Account, reader: Session) -> Run:
    """Run a table of rows or of a SQL text; `run_id` is B unless it is said."""
    _ = reader

    def call(source: Rows | str, *, run_id: str = "0000000B", is_whole: bool = False, **changes: Any) -> TableOutcome:
        return run_increment(account.arguments, growing(source, **changes), run_id, is_whole=is_whole)

    return call


def failed_checks(outcome: TableOutcome) -> dict[str, str]:
    """Return what each failed check found."""
    return {
        each.audit.name: str(each).partition(" found ")[2] or str(each) for each in outcome.audits if not each.passed
    }


def test_first_run_builds_the_whole_table_and_the_next_ones_what_is_new(run: Run, reader: Session) -> None:
    first = run(OLD, run_id="0000000A")
    assert (first.failure, first.row_count, first.increment and first.increment.start) == (None, 3, None)
    assert (seen(reader), note(reader, first.table)) == (OLD, ("0000000A", "0001-01-01 00:00:00", 3))
    second = run(NEW)
    assert second.failure is None
    assert second.increment is not None
    assert second.increment.start is not None
    assert (second.increment.start.words, second.increment.rows, second.row_count) == ("2024-01-01 03:00:00", 3, 4)
    assert (seen(reader), note(reader, second.table)) == (MERGED, ("0000000B", "2024-01-01 03:00:00", 3))
    # The candidate is of no use any more.
    assert reader.sql("show tables like 'TEMP_ORDERS__0000000B' in schema analytics") == []


@pytest.mark.thorough
def test_lookback_finds_rows_that_came_late(run: Run, reader: Session) -> None:
    run(OLD, run_id="0000000A")
    run({**NEW, 5: (5, 2)}, lookback_hours=1)
    assert seen(reader) == {**MERGED, 5: (5, 2)}


def test_nothing_new_is_published_as_nothing(run: Run, reader: Session) -> None:
    """Rows that are gone from the source stay, and a table whose latest rows are gone has nothing to merge."""
    run(OLD, run_id="0000000A")
    outcome = run({1: (1, 1)}, checks={"row_count": {"min": 3}, "freshness": {"at": 10**6}})
    assert (outcome.failure, outcome.published, outcome.row_count) == (None, True, 3)
    assert outcome.increment is not None
    assert outcome.increment.rows == 0
    assert (seen(reader), note(reader, outcome.table)[0]) == (OLD, "0000000A")
    assert "publish" not in outcome.seconds


def test_row_in_the_future_hides_no_later_one(run: Run, reader: Session) -> None:
    """An increment begins at the latest when the rows of before were read."""
    sql = "select 7 as id, 1 as v, '9999-01-01'::timestamp_ntz as at"
    run(sql, run_id="0000000A")
    outcome = run(f"{sql} union all select 8, 1, dateadd(minute, 1, sysdate())::timestamp_ntz")
    assert outcome.failure is None
    assert sorted(reader.sql("select id from analytics.orders")) == [(7,), (8,)]


def test_rows_that_cannot_be_merged_fail_a_check(run: Run, reader: Session) -> None:
    run(OLD, run_id="0000000A")
    outcome = run(
        "select column1::int as id, 1 as v, column2::timestamp_ntz as at from values "
        "(4, '2024-01-02'), (4, '2024-01-03'), (null, '2024-01-02'), (5, null)"
    )
    assert failed_checks(outcome) == {
        "increment": "1 row with a NULL at, expected at most 0; 1 row with a NULL key, expected at most 0; "
        "1 row with a duplicate key, expected at most 0"
    }
    assert outcome.failure is not None
    # The rows are those of the table, and the run is the one that has published last.
    assert "Readers still see the previous table (3 rows, built" in outcome.failure.message
    assert "by run 0000000A)" in outcome.failure.message
    assert seen(reader) == OLD


def test_key_of_a_row_that_stays_fails_the_check_of_that_key(run: Run, reader: Session) -> None:
    checks = {"unique": "v", "row_count": {"min": 1}}
    run({1: (1, 1), 2: (2, 2)}, run_id="0000000A", checks=checks)
    # The value of row 1 moves to row 3, and row 2 is replaced.
    outcome = run({1: (1, 1), 2: (5, 3), 3: (1, 3)}, checks=checks)
    assert failed_checks(outcome) == {"unique_v": "1 row with a key of a row that stays, expected at most 0"}
    swapped = run({1: (2, 3), 2: (1, 3)}, run_id="0000000C", checks=checks)
    assert swapped.failure is None
    assert seen(reader) == {1: (2, 3), 2: (1, 3)}


def test_checks_of_the_whole_table_are_asked_as_it_would_be_after_the_merge(run: Run, reader: Session) -> None:
    """Ten rows, of which one is replaced and one is new: 11 rows are 10 % more."""
    checks = {"row_count": {"max": 11}, "row_count_change": {"max_growth": "10%", "min_rows": 1}}
    before = {n: (1, n) for n in range(1, 11)}
    run(before, run_id="0000000A", checks=checks)
    run({**before, 11: (1, 11)}, checks=checks)
    assert len(seen(reader)) == 11
    outcome = run({**before, 11: (1, 11), 12: (1, 12)}, run_id="0000000C", checks=checks)
    assert failed_checks(outcome) == {"row_count": "12 rows, expected at least 1 and at most 11"}
    parents = {"relationship": {"v": "analytics.orders.id"}}
    # A new row may have an old one as its partner.
    assert run({11: (1, 11), 12: (2, 12)}, run_id="0000000D", checks=parents).failure is None
    assert failed_checks(run({13: (99, 13)}, run_id="0000000E", checks=parents)) == {
        "relationship_v": "1 row that is wrong, expected at most 0"
    }


def test_sql_may_ask_for_the_start_itself(run: Run, reader: Session) -> None:
    def sql(rows: Rows) -> str:
        return f"select * from ({growing(rows).sql}) where at > {{increment_start}} -- '{{increment_start}}'"

    run(sql(OLD), run_id="0000000A")
    outcome = run(sql({**NEW, 3: (7, 3)}))
    assert outcome.increment is not None
    assert outcome.increment.rows == 2
    assert seen(reader) == {**MERGED, 3: (1, 3)}


def test_rebuild_that_passes_its_checks_replaces_all_rows_and_keeps_the_object(run: Run, reader: Session) -> None:
    run(OLD, run_id="0000000A")
    failed = run({1: (1, 1)}, run_id="0000000D", is_whole=True, checks={"row_count": {"min": 2}})
    assert failed_checks(failed) == {"row_count": "1 row, expected at least 2"}
    assert seen(reader) == OLD
    created = reader.value("select created from information_schema.tables where table_name = 'ORDERS'")
    outcome = run({2: (2, 4), 9: (9, 1)}, is_whole=True)
    assert (outcome.failure, outcome.row_count, outcome.increment and outcome.increment.start) == (None, 2, None)
    assert seen(reader) == {2: (2, 4), 9: (9, 1)}
    assert reader.value("select created from information_schema.tables where table_name = 'ORDERS'") == created
    assert run({2: (2, 4), 3: (3, 5)}, run_id="0000000C").failure is None
    assert seen(reader) == {2: (2, 4), 3: (3, 5), 9: (9, 1)}


def test_new_columns_are_refused_or_added(run: Run, reader: Session) -> None:
    run(OLD, run_id="0000000A")
    wider = f"select *, 'x' as w from ({growing(NEW).sql})"
    refused = run(wider)
    assert refused.failure is not None
    assert refused.failure.reason is Reason.PARTITION_COLUMNS
    assert seen(reader) == OLD
    assert run(wider, run_id="0000000C", schema_change="add").failure is None
    assert reader.sql("select id, w from analytics.orders order by id") == [(1, None), (2, "x"), (3, "x"), (4, "x")]


def test_table_that_something_else_has_made_is_gone_on_with(run: Run, reader: Session) -> None:
    """As dbt leaves it: no run is known, and its latest row says where to begin."""
    reader.sql(f"create table analytics.orders as {growing(OLD).sql}")
    outcome = run(NEW)
    assert outcome.failure is None
    assert outcome.increment is not None
    assert outcome.increment.rows == 3
    assert seen(reader) == MERGED


@pytest.mark.thorough
@pytest.mark.parametrize("type_name", ["date", "timestamp_tz", "timestamp_ltz"])
def test_column_may_be_any_time(run: Run, reader: Session, type_name: str) -> None:
    def sql(rows: Rows) -> str:
        return (
            f"select id, v, at::{type_name} as at from ({growing({n: (v, 24 * h) for n, (v, h) in rows.items()}).sql})"
        )

    run(sql(OLD), run_id="0000000A")
    outcome = run(sql(NEW))
    assert outcome.failure is None
    assert outcome.increment is not None
    assert outcome.increment.rows == 3
    assert {int(n): int(v) for n, v in reader.sql("select id, v from analytics.orders")} == {1: 1, 2: 2, 3: 1, 4: 2}
