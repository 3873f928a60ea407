"""Partitions on the server of the package: built, audited and exchanged while the others stay."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.partitions import read_partitions
from run_elt_dagster.publish.run import audit_published, run_tables
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.support.embedded import Account, Background, Session, account
from run_elt_dagster_tests.support.embedded import shipped_server as server
from run_elt_dagster_tests.support.plans import BLOCK_ROWS, scans
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.slices import (
    THOUSAND,
    Version,
    divided,
    key,
    notes,
    part_of,
    run_slice,
    seen,
    states,
    thousand_days_before,
)

__all__ = ["account", "server"]

OLD, NEW, NEXT = Version(3, 1), Version(5, 2), Version(7, 3)
Run = Callable[..., TableOutcome]


@pytest.fixture
def reader(account: Account) -> Session:
    session = account.session()
    session.sql("drop table if exists analytics.daily")
    session.sql("drop table if exists analytics.run_elt_partitions")
    return session


@pytest.fixture
def run(account: Account, reader: Session) -> Run:
    """Run days of a version or a SQL text; `run_id` is B unless it is said."""
    _ = reader

    def call(built: Version | str, *days: int, run_id: str = "0000000B", **changes: Any) -> TableOutcome:
        return run_slice(account.arguments, divided(built, **changes), days, run_id)

    return call


def found(outcome: TableOutcome, name: str) -> dict[int, str]:
    """Return what a check said of each day that failed it."""
    audits = {int(each[-2:]): part.audits for each, part in outcome.partitions.items()}
    return {
        day: str(audit).partition(" found ")[2] or str(audit)
        for day, verdicts in audits.items()
        for audit in verdicts
        if audit.audit.name == name and not audit.passed
    }


def test_slices_are_published_beside_each_other_and_over_each_other(run: Run, reader: Session) -> None:
    assert states(run(OLD, 1, 3, run_id="0000000A")) == dict.fromkeys((1, 2, 3), "published")
    outcome = run(NEW, 3, 5)
    assert (outcome.failure, outcome.row_count, outcome.published) == (None, 15, True)
    assert seen(reader) == {**OLD.of(1, 2), **NEW.of(3, 4, 5)}
    assert notes(reader, outcome.table) == {
        **dict.fromkeys((1, 2), ("0000000A", 3)),
        **dict.fromkeys((3, 4, 5), ("0000000B", 5)),
    }
    # The candidate is of no use any more.
    assert reader.sql("show tables like 'TEMP_DAILY%' in schema analytics") == []


def test_published_partitions_are_listed_and_audited_by_themselves(account: Account, run: Run, reader: Session) -> None:
    table = divided(OLD, checks={"range": {"v": {"max": 1}}})
    with open_session(account.arguments) as session:
        assert read_partitions(session, table) == ()
    run(OLD, 1, 3, run_id="0000000A")
    reader.sql("update analytics.daily set v = 2 where day = '2024-01-02'")
    with open_session(account.arguments) as session:
        listed = read_partitions(session, table)
        given = run_arguments("check")["run"]
        audit = audit_published(session, table, run=given, part=part_of(table, (2, 3)))
    assert [(each.key, each.rows, each.marker.run_id) for each in listed] == [
        (key(n), 3, "0000000A") for n in (1, 2, 3)
    ]
    assert all(abs(each.published_at.date() - date.today()) <= timedelta(days=1) for each in listed)  # noqa: DTZ011
    failed = [(each.partition, each.audit.name) for each in audit.outcomes if not each.passed]
    assert (failed, audit.is_published) == ([(key(2), "range_v")], True)
    assert len(audit.outcomes) == 2 * 3


def test_only_partitions_that_pass_their_checks_are_exchanged(run: Run, reader: Session) -> None:
    run(OLD, 1, 4, run_id="0000000A")
    spoilt = f"select day, n, iff(day = '2024-01-02', -v, v)::int as v from ({NEW.sql})"
    outcome = run(spoilt, 1, 3, checks={"sql": {"negative": "select * from {table} where v < 0"}})
    assert states(outcome) == {1: "published", 2: "failed", 3: "published"}
    assert seen(reader) == {**NEW.of(1, 3), **OLD.of(2, 4)}
    assert found(outcome, "negative") == {2: "5 rows that are wrong, expected at most 0"}
    failure = outcome.failure
    assert failure is not None
    assert (failure.stage, failure.production.partitions) == ("audit", (key(2),))
    assert (
        "partition 2024-01-02 was not published (1 of 3): check negative of partition 2024-01-02 found 5"
        in failure.message
    )
    assert (
        "Readers see the new rows of partitions 2024-01-01, 2024-01-03. Readers see what they saw before of"
        in failure.message
    )
    assert [(audit.audit.name, audit.partition) for audit in outcome.audits if audit.blocks] == [("negative", key(2))]


def test_first_publish_leaves_out_what_has_failed(run: Run, reader: Session) -> None:
    checks = {"row_count": {"min": 4}}
    first = run(f"select * from ({NEW.sql}) where day <> '2024-01-02' or n < 13", 1, 3, checks=checks)
    assert states(first) == {1: "published", 2: "failed", 3: "published"}
    assert seen(reader) == NEW.of(1, 3)
    assert sorted(notes(reader, first.table)) == [1, 3]
    # Nothing passes: readers go on without a table, or with the one that they have.
    assert states(run(OLD, 4, 4, checks=checks)) == {4: "failed"}
    assert seen(reader) == NEW.of(1, 3)


def test_empty_partition_is_published_as_empty(run: Run, reader: Session) -> None:
    run(OLD, 1, 3, run_id="0000000A")
    outcome = run(f"select * from ({NEW.sql}) where day <> '2024-01-02'", 1, 3, checks={"row_count": {"min": 0}})
    assert states(outcome) == dict.fromkeys((1, 2, 3), "published")
    assert [each.row_count for each in outcome.partitions.values()] == [5, 0, 5]
    assert seen(reader) == NEW.of(1, 3)


SLICED = f"from ({NEW.sql}) where {{partition_start}} <= day and day < {{partition_end}}"


@pytest.mark.parametrize(
    ("built", "says"),
    [
        (f"select * {SLICED} or day = '2024-01-05'", "5 rows outside of the partitions, expected at most 0"),
        pytest.param(
            f"select iff(n = 1, null, day) as day, n, v {SLICED}",
            "1 row with a NULL day, expected at most 0",
            marks=pytest.mark.thorough,
        ),
        (f"select iff(n = 0, null, day) as day, n, v from ({NEW.sql})", "1 row with a NULL day, expected at most 0"),
    ],
)
def test_row_outside_of_the_slice_or_without_a_time_fails_every_partition(
    run: Run, reader: Session, built: str, says: str
) -> None:
    run(OLD, 1, 5, run_id="0000000A")
    outcome = run(built, 2, 3)
    assert found(outcome, "partition") == dict.fromkeys((2, 3), says)
    assert seen(reader) == OLD.of(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("by", "time", "keys"),
    [
        pytest.param("hour", "timestamp_ntz", ("2024-01-01-05:00", "2024-01-01-06:00"), marks=pytest.mark.thorough),
        ("hour", "timestamp_tz", ("2024-01-01-05:00", "2024-01-01-06:00")),
        pytest.param("day", "timestamp_ltz", ("2024-01-02", "2024-01-03"), marks=pytest.mark.thorough),
        pytest.param("week", "timestamp_ntz", ("2024-01-08", "2024-01-15"), marks=pytest.mark.thorough),
        pytest.param("month", "date", ("2024-02-01", "2024-03-01"), marks=pytest.mark.thorough),
    ],
)
def test_partitions_of_every_length_and_type_are_told_apart(
    account: Account, reader: Session, by: str, time: str, keys: tuple[str, str]
) -> None:
    """A row each quarter of an hour, for a quarter of a year, in a zone that is no whole hour away."""
    moment = "dateadd(minute, 15 * seq4(), '2024-01-01'::timestamp_ntz)"
    zoned = f"convert_timezone('Asia/Kathmandu', {moment}::timestamp_tz)" if time == "timestamp_tz" else moment
    table = divided(
        f"select {zoned}::{time} as day, seq4() as n from table(generator(rowcount => 8736))",
        partitions={"by": by, "column": "day", "start": date(2024, 1, 1)},
        columns={"day": time, "n": "int"},
    )
    assert table.partitions is not None
    part = table.partitions.between(*keys)
    with open_session(account.arguments) as session:
        (outcome,) = run_tables(
            session, catalogue([table]), [table.key], slices={table.key: part}, **run_arguments("0000000A")
        )
    assert outcome.failure is None, outcome.failure
    minutes = [(each.end - each.start) / timedelta(minutes=15) for each in part.partitions]
    assert [each.row_count for each in outcome.partitions.values()] == minutes
    assert reader.value("select count(*) from analytics.daily") == sum(minutes)


def test_column_that_is_no_time_fails_the_check(run: Run, reader: Session) -> None:
    outcome = run(f"select day::varchar as day, n, v from ({OLD.sql})", 1, 2)
    assert found(outcome, "partition") == dict.fromkeys(
        (1, 2), "column DAY of type TEXT, expected date or timestamp_ntz"
    )
    assert set(states(outcome).values()) == {"failed"}
    assert seen(reader) == {}


@pytest.mark.parametrize(
    ("built", "days", "wrong"),
    [
        # A key of a partition that stays, of another one of the slice, and of the same one.
        pytest.param(f"select day, iff(n = 2, 0, n) as n, v from ({NEW.sql})", (3, 4), [3], marks=pytest.mark.thorough),
        (f"select day, iff(n = 2, 3, n) as n, v from ({NEW.sql})", (3, 4), [3, 4]),
        pytest.param(f"select day, iff(n = 2, 8, n) as n, v from ({NEW.sql})", (3, 4), [3], marks=pytest.mark.thorough),
    ],
)
def test_key_without_the_time_is_unique_in_the_whole_table(
    run: Run, reader: Session, built: str, days: tuple[int, int], wrong: list[int]
) -> None:
    run(OLD, 1, 4, run_id="0000000A", primary_key="n")
    outcome = run(built, *days, primary_key="n")
    assert sorted(found(outcome, "primary_key")) == wrong
    assert seen(reader) == {**OLD.of(1, 2), **{day: (OLD if day in wrong else NEW).of(day)[day] for day in days}}


def test_key_of_a_partition_that_keeps_its_old_rows_is_seen_before_the_commit(run: Run, reader: Session) -> None:
    """Day 3 would take a key from day 2. Day 2 fails another check, so its old rows with the key stay."""
    run(OLD, 1, 4, run_id="0000000A", primary_key="n")
    moved = (
        f"select day, iff(n = 2, 1, iff(n = 1, 100, n)) as n, iff(day = '2024-01-02', -1, v)::int as v from ({NEW.sql})"
    )
    outcome = run(moved, 2, 3, primary_key="n", checks={"range": {"v": {"min": 0}}})
    assert states(outcome) == {2: "failed", 3: "failed"}
    assert found(outcome, "primary_key") == {3: "1 row with a key of another partition, expected at most 0"}
    assert seen(reader) == OLD.of(1, 2, 3, 4)


def test_row_counts_are_compared_with_the_same_partition_or_those_before(run: Run, reader: Session) -> None:
    checks = {"row_count_change": {"max_drop": "50%", "min_rows": 1}}
    assert run(NEXT, 1, 3, run_id="0000000A", checks=checks).published
    outcome = run(OLD, 3, 4, checks=checks)
    assert found(outcome, "row_count_change") == dict.fromkeys(
        (3, 4), "-57.14 % change of the row count, expected at least -50.0"
    )
    assert run(NEW, 3, 4, run_id="0000000C", checks=checks).published
    assert seen(reader) == {**NEXT.of(1, 2), **NEW.of(3, 4)}


@pytest.mark.thorough
def test_relationship_is_asked_once_and_of_each_partition_only_where_it_fails(run: Run, reader: Session) -> None:
    reader.sql(f"create or replace table raw_data.known as select n from ({NEW.sql}) where n <> 2")
    checks = {"relationship": {"n": "raw_data.known.n"}}
    assert set(states(run(NEW, 1, 2, run_id="0000000A", checks=checks)).values()) == {"published"}
    outcome = run(NEW, 2, 4, checks=checks)
    assert found(outcome, "relationship_n") == {3: "1 row that is wrong, expected at most 0"}
    assert seen(reader) == NEW.of(1, 2, 4)


def test_freshness_is_asked_of_the_newest_partition_alone(run: Run) -> None:
    outcome = run(OLD, 1, 2, checks={"freshness": {"day": 1}})
    notes_of = {
        audit.note for each in outcome.partitions.values() for audit in each.audits if audit.audit.kind == "freshness"
    }
    assert (outcome.published, notes_of) == (True, {"only the newest partition is asked"})


def test_new_column_is_refused_or_added_and_a_missing_one_is_refused(run: Run, reader: Session) -> None:
    run(OLD, 1, 3, run_id="0000000A")
    wider = f"select day, n, v, v / 2 as half, n as m from ({NEW.sql})"
    for changes in ({}, {"schema_change": "fail"}):
        refused = run(wider, 2, 2, **changes)
        assert states(refused) == {2: "failed"}
        assert "new columns HALF, M" in str(refused.failure) or "columns added: HALF, M" in str(refused.failure)
    assert reader.columns("select * from analytics.daily") == ["DAY", "N", "V"]
    assert run(wider, 2, 2, run_id="0000000C", schema_change="add").published
    assert seen(reader) == {**OLD.of(1, 3), **NEW.of(2)}
    # The rows of before have no value in the new columns.
    assert reader.sql("select count(half), count(m) from analytics.daily") == [(5, 5)]
    narrower = run(f"select day, n from ({NEXT.sql})", 3, 3, schema_change="add")
    assert narrower.failure is not None
    assert narrower.failure.reason is Reason.PARTITION_COLUMNS
    assert "no column V; no column HALF; no column M" in narrower.failure.message


@pytest.mark.thorough
def test_older_snapshot_leaves_the_partitions_of_a_newer_one(account: Account, run: Run, reader: Session) -> None:
    run(OLD, 1, 3, run_id="0000000A")
    reader.sql(
        "update analytics.run_elt_partitions set run_id = 'newer', snapshot_at = '2999' where partition_key = '2024-01-02'"
    )
    outcome = run(NEW, 1, 3)
    assert states(outcome) == {1: "published", 2: "superseded", 3: "published"}
    assert outcome.partitions[key(2)].superseded_by == "newer"
    assert (outcome.published, outcome.superseded_by) == (True, None)
    assert seen(reader) == {**NEW.of(1, 3), **OLD.of(2)}
    wholly = run(NEXT, 2, 2, run_id="0000000C")
    assert (wholly.published, wholly.superseded_by, wholly.failure) == (False, "newer", None)


def test_table_that_was_built_whole_before_is_divided_in_place(account: Account, run: Run, reader: Session) -> None:
    reader.sql(f"create table analytics.daily comment = '[run_elt run 0 at 2026-01-01]' as {OLD.sql}")
    assert run(NEW, 2, 2).published
    assert seen(reader) == {**OLD.of(1, 3, 4, 5, 6), **NEW.of(2)}
    # A whole build from a newer snapshot has newer rows of every day.
    reader.sql(f"create or replace table analytics.daily comment = '[run_elt run 1 at 2999-01-01]' as {NEXT.sql}")
    outcome = run(OLD, 2, 3, run_id="0000000C")
    assert outcome.superseded_by == "1"
    assert notes(reader, outcome.table) == {}


def test_notes_of_a_dropped_table_are_forgotten_with_its_successor(run: Run, reader: Session) -> None:
    run(OLD, 1, 4, run_id="0000000A")
    reader.sql("drop table analytics.daily")
    outcome = run(NEW, 2, 2)
    assert (seen(reader), notes(reader, outcome.table)) == (NEW.of(2), {2: ("0000000B", 5)})


def test_partitioned_table_without_a_slice_is_not_built(account: Account, reader: Session) -> None:
    table = divided(OLD)
    with open_session(account.arguments) as session:
        (outcome,) = run_tables(session, catalogue([table]), [table.key], **run_arguments("0000000A"))
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.NO_PARTITION
    assert seen(reader) == {}


@pytest.mark.thorough
def test_reader_sees_the_old_or_the_new_slice(account: Account, run: Run, reader: Session) -> None:
    run(OLD, 1, 4, run_id="0000000A")
    versions = {version.of(2)[2]: version for version in (OLD, NEW, NEXT)}
    problems: list[object] = []
    stop = [False]

    def look() -> int:
        count = 0
        while not stop[0]:
            found = seen(other)
            if found not in [{**OLD.of(1, 4), **version.of(2, 3)} for version in versions.values()]:
                problems.append(found)
            count += 1
        return count

    other = account.session()
    looks = Background(look)
    for number in range(exchanges := 200):
        assert run((NEW, NEXT)[number % 2], 2, 3, run_id=f"{number:07d}B").published
    stop[0] = True
    assert looks.result() > exchanges
    assert problems == []


def test_statements_of_a_day_read_no_more_of_a_great_table_than_lies_around_it(
    account: Account, reader: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand days of some rows, in the order of the days, as partitions are written one after the other."""
    rows = 300
    checks = {
        "unique": [["day", "n"]],
        "row_count_change": {"max_drop": "50%"},
        "changes": {"key": ["day", "n"], "max_removed": "100%"},
    }
    source = f"from table(generator(rowcount => {THOUSAND * rows}))"
    before = f"select dateadd(day, floor(seq4() / {rows}), '2024-01-01'::date) as day, seq4() as n, 1 as v {source} order by 1"
    for statement in thousand_days_before(divided(before), rows=rows):
        reader.sql(statement)
    table = divided(
        f"select '2024-01-02'::date as day, seq4() + {rows} as n, 2 as v from table(generator(rowcount => {rows}))",
        checks=checks,
    )
    with scans(tmp_path, monkeypatch) as found:
        assert run_slice(account.arguments, table, (2,), "0000000B").failure is None
    of_the_table = [scan for scan in found if scan.table == "DAILY"]
    assert {scan.statement for scan in of_the_table} == {"WITH", "DELETE", "SELECT", "MERGE"}
    for scan in of_the_table:
        assert "(DAY >= '2024-01-02'::DATE) AND (DAY < '2024-01-03'::DATE)" in scan.filters
        assert rows <= scan.rows <= BLOCK_ROWS
    # The candidate, the notes of the thousand days, and the catalogue.
    assert {scan.table for scan in found if scan.rows > THOUSAND + 1} == {"DAILY"}
