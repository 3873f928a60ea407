from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_elt_dagster.model.freshness import FreshWithin, deadline_before, in_words, shortest_interval
from run_elt_dagster.model.partitions import Partitioning

DAYS = Partitioning(by="day", column="day", start=date(2026, 11, 1))  # type: ignore[arg-type]
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - st adds the zone


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}+00:00")


def rule(**written: str) -> FreshWithin:
    return FreshWithin(**written)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("built", "now", "late"),
    [
        ("27T00:00", "28T02:00", None),
        ("27T00:00", "28T02:01", "28T02:00"),
        ("27T00:00", "30T00:00", "28T02:00"),
        (None, "12T01:00", None),
        (None, "12T03:00", "12T02:00"),
    ],
)
def test_age_is_counted_from_the_build_or_from_when_the_table_is_expected(
    built: str | None, now: str, late: str | None
) -> None:
    found = rule(fail="26h").late_since(built and at(built), since=at("11T00:00"), now=at(now))
    assert found == (late and at(late))


@pytest.mark.parametrize(
    ("built", "now", "late"),
    [
        ("27T00:10", "27T06:00", None),
        ("27T00:10", "28T05:59", None),
        ("27T00:10", "28T06:00", "28T06:00"),
        ("27T23:59", "28T06:30", "28T06:00"),
        ("28T00:00", "28T06:30", None),
        # After the deadline is late, but not for ever.
        ("28T07:00", "28T08:00", None),
        (None, "11T05:00", None),
        (None, "11T06:00", "11T06:00"),
    ],
)
def test_deadline_asks_for_a_build_at_most_so_old(built: str | None, now: str, late: str | None) -> None:
    by_six = rule(by="0 6 * * *", max_age="6h")
    assert by_six.late_since(built and at(built), since=at("11T00:00"), now=at(now)) == (late and at(late))


@pytest.mark.parametrize(
    ("newest", "now", "late"),
    [
        # The rows of the 26th are as old as its end.
        ("27T00:00", "28T01:59", None),
        ("27T00:00", "28T02:01", "28T02:00"),
        ("28T00:00", "28T23:00", None),
        (None, "28T01:00", "27T02:00"),
        (None, "26T23:00", None),
    ],
)
def test_rows_in_partitions_are_as_old_as_the_newest_partition(newest: str | None, now: str, late: str | None) -> None:
    found = rule(fail="26h").parts_late_since(DAYS, newest and at(newest), since=at("26T00:00"), now=at(now))
    assert found == (late and at(late))


def test_deadline_asks_for_the_partition_that_was_over_then() -> None:
    by_six, since = rule(by="0 6 * * *"), at("01T00:00")
    assert by_six.parts_late_since(DAYS, at("27T00:00"), since=since, now=at("28T05:59")) is None
    assert by_six.parts_late_since(DAYS, at("27T00:00"), since=since, now=at("28T06:00")) == at("28T06:00")
    assert by_six.parts_late_since(DAYS, at("28T00:00"), since=since, now=at("28T06:00")) is None


def test_table_whose_partitions_are_all_published_is_never_late() -> None:
    ended = Partitioning(by="day", column="day", start=date(2026, 11, 1), end=date(2026, 11, 5))  # type: ignore[arg-type]
    assert rule(fail="26h").parts_late_since(ended, at("05T00:00"), since=at("01T00:00"), now=at("28T00:00")) is None
    assert rule(fail="26h").parts_late_since(ended, at("04T00:00"), since=at("01T00:00"), now=at("28T00:00"))


def test_table_whose_first_partition_is_not_over_is_not_late() -> None:
    young = Partitioning(by="month", column="day", start=date(2026, 11, 1))  # type: ignore[arg-type]
    assert rule(fail="32d").parts_late_since(young, None, since=at("01T00:00"), now=at("28T00:00")) is None


@settings(deadline=None)
@given(now=MOMENTS, cron=st.sampled_from(["0 6 * * *", "30 4 * * 1-5", "*/20 * * * *", "0 0 1 * *", "@weekly"]))
def test_deadline_is_the_last_one_and_no_day_of_summer_time_has_two_or_none(now: datetime, cron: str) -> None:
    deadline = deadline_before(cron, now)
    assert deadline <= now
    assert deadline.tzinfo is UTC
    assert deadline_before(cron, deadline) == deadline
    assert deadline_before(cron, deadline - timedelta(seconds=1)) <= deadline - shortest_interval(cron)


def test_shortest_time_between_two_deadlines_is_that_of_the_cron() -> None:
    crons = ("0 6 * * *", "0 6 * * 1-5", "*/20 * * * *", "0 0 1,31 * *", "0 0 * * 0")
    assert [in_words(shortest_interval(each)) for each in crons] == ["24 h", "24 h", "20 min", "24 h", "7 days"]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"fail": "26h"}, "at most 26 h old"),
        ({"by": "0 6 * * *"}, "built by `0 6 * * *` (UTC), at most 24 h before"),
        ({"by": "0 6 * * 1", "max_age": "90m"}, "built by `0 6 * * 1` (UTC), at most 90 min before"),
    ],
)
def test_rule_is_said_in_words(written: dict[str, str], words: str) -> None:
    assert rule(**written).words == words
