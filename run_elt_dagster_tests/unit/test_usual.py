"""What is learned from published versions: which numbers are usual, and which are not."""

import math
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import Audited, AuditOutcome, Numbers
from run_elt_dagster.audit.runner import versions_of
from run_elt_dagster.audit.usual import VERSIONS_NEEDED, Usual, Version, usual_of
from run_elt_dagster.audit.usual_check import UsualAudit, numbers_of
from run_elt_dagster.model.checks import UsualNumber
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.past import PublishedNumbers
from run_elt_dagster.model.table import AnalyticsTable

MONDAY = date(2025, 1, 6)
METRICS: tuple[UsualNumber, ...] = ("rows", "null_rate", "distinct", "sum")


def days(count: int, value: Callable[[date], float], *, first: date = MONDAY, noise: float = 0.01) -> list[Version]:
    chance = random.Random(7)  # noqa: S311 - the same each time
    every = (first + timedelta(number) for number in range(count))
    return [Version(day, value(day) * math.exp(chance.gauss(0, noise))) for day in every]


def of_next(versions: Sequence[Version], *, metric: UsualNumber = "rows", after: int = 1) -> Usual:
    usual = usual_of(versions, versions[-1].day + timedelta(after), metric=metric)
    assert usual is not None
    return usual


def holds(usual: Usual, value: float) -> bool:
    return usual.low <= value <= usual.high


def weekly(day: date) -> float:
    return 50_000 if day.weekday() >= 5 else 100_000


def test_nothing_is_usual_until_ten_days_are_known_and_a_repeated_run_is_no_other_day() -> None:
    nine = days(VERSIONS_NEEDED - 1, lambda _: 100.0)
    repeated = [*nine, *[nine[-1]] * 20]
    assert usual_of(repeated, MONDAY + timedelta(30), metric="rows") is None
    assert usual_of([*repeated, Version(MONDAY + timedelta(9), 100)], MONDAY + timedelta(30), metric="rows") is not None


def test_weekdays_are_seen_and_said() -> None:
    history = days(84, weekly)
    monday, sunday = of_next(history), of_next(history, after=7)
    assert (monday.day, monday.words, sunday.day) == ("Monday", "12 Mondays", "Sunday")
    assert (holds(monday, 100_000), holds(monday, 50_000)) == (True, False)
    assert (holds(sunday, 50_000), holds(sunday, 100_000)) == (True, False)


def test_what_a_hardly_known_weekday_may_have_is_what_was_there_before() -> None:
    history = days(13, weekly)
    assert holds(of_next(history), 50_000)
    assert not holds(of_next(history), 20_000)


def test_ends_of_months_are_seen_once_three_are_known() -> None:
    def month(day: date) -> float:
        return 300_000 if (day + timedelta(1)).day == 1 else 100_000

    history = days(115, month, first=date(2025, 1, 5))
    last = usual_of(history, date(2025, 4, 30), metric="rows")
    assert last is not None
    assert (last.day, last.words, holds(last, 300_000), holds(last, 100_000)) == (
        "last day of a month",
        "3 such days",
        True,
        False,
    )
    assert not holds(of_next(history, after=3), 300_000)


def test_growth_is_followed() -> None:
    history = days(90, lambda day: 1000 * math.exp(0.02 * (day - MONDAY).days))
    assert holds(of_next(history), 1000 * math.exp(0.02 * 90))
    assert not holds(of_next(history), 1000 * math.exp(0.02 * 60))


def test_new_level_is_usual_after_eight_published_versions() -> None:
    old = days(60, lambda _: 100_000)
    assert not holds(of_next(old), 200_000)
    known = [
        holds(of_next([*old, *days(count, lambda _: 200_000, first=MONDAY + timedelta(60))]), 200_000)
        for count in range(1, 15)
    ]
    assert known.index(True) <= 8
    assert all(known[8:])


def test_one_wild_version_moves_nothing() -> None:
    history = days(40, lambda _: 100_000)
    wild = [*history[:20], Version(history[20].day, 1), *history[21:]]
    assert (of_next(wild).low, of_next(wild).high) == pytest.approx(
        (of_next(history).low, of_next(history).high), rel=0.02
    )


@pytest.mark.parametrize(
    ("metric", "value", "inside", "outside"),
    [
        ("rows", 50, 60, 80),
        ("rows", 1_000_000, 1_015_000, 1_030_000),
        ("null_rate", 0.0, 0.01, 0.02),
        ("distinct", 5, 9, 15),
        ("sum", -1000, -1015, -1030),
        ("rows", 0, 0, 1),
    ],
)
def test_number_that_never_changed_may_change_a_little(
    metric: UsualNumber, value: float, inside: float, outside: float
) -> None:
    usual = of_next(days(30, lambda _: value), metric=metric)
    assert (holds(usual, inside), holds(usual, outside)) == (True, False)


finite = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(metric=st.sampled_from(METRICS), values=st.lists(finite, min_size=10, max_size=60), data=st.data())
def test_bounds_are_numbers_in_order_whatever_was_published(
    metric: UsualNumber, values: list[float], data: Any
) -> None:
    gaps = data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)))
    places = [sum(gaps[: number + 1]) for number in range(len(values))]
    possible = (
        values if metric == "sum" else [min(abs(value), 1.0 if metric == "null_rate" else 1e30) for value in values]
    )
    versions = [Version(MONDAY + timedelta(place), value) for place, value in zip(places, possible, strict=True)]
    usual = usual_of(versions, MONDAY + timedelta(places[-1] + 1), metric=metric)
    if usual is None:
        return
    assert usual.low <= usual.high
    if metric != "sum":
        assert 0 <= usual.low <= usual.high <= (1 if metric == "null_rate" else math.inf)


@settings(max_examples=40, deadline=None)
@given(value=st.integers(0, 10**12), count=st.integers(10, 60), extra=st.lists(st.integers(0, 40), max_size=20))
def test_repeated_versions_of_a_day_teach_what_the_last_one_does(value: int, count: int, extra: list[int]) -> None:
    chance = random.Random(value)  # noqa: S311 - the same each time
    history = [Version(MONDAY + timedelta(number), value * chance.uniform(0.9, 1.1)) for number in range(count)]
    wrong = [Version(MONDAY + timedelta(number), 7.0) for number in sorted(extra) if number < count]
    mixed = sorted([*wrong, *history], key=lambda each: each.day)
    assert of_next(mixed) == of_next(history)
    assert holds(of_next(history), math.expm1(sorted(math.log1p(each.value) for each in history)[count // 2]))


# --- the check ---

CHECKS = {"usual": {"rows": True, "null_rate": ["email"], "distinct": ["channel"], "sum": ["revenue"]}}


def audits(**more: Any) -> dict[str, UsualAudit]:
    table = AnalyticsTable.model_validate(
        {"schema": "a", "table": "t", "sql": "select 1 as n", "checks": {"usual": {**CHECKS["usual"], **more}}}
    )
    return {audit.name: audit for audit in audits_of(table) if isinstance(audit, UsualAudit)}


def judged(audit: UsualAudit, value: Any, history: Sequence[Version] | None, **more: Any) -> AuditOutcome:
    versions = None if history is None else [PublishedNumbers(v.day, {audit.number: v.value}) for v in history]
    day = history[-1].day + timedelta(1) if history else MONDAY
    return audit.judge(Numbers((value,)), Audited(Relation("D", "S", "T"), versions=versions, day=day, **more))


def test_each_number_is_a_check_of_the_one_scan() -> None:
    found = audits()
    assert {name: [measure.sql for measure in audit.scanned] for name, audit in found.items()} == {
        "usual_rows": ["COUNT(*)"],
        "usual_null_rate_email": ['COUNT(CASE WHEN "EMAIL" IS NULL THEN 1 END)::FLOAT / NULLIF(COUNT(*), 0)'],
        "usual_distinct_channel": ['COUNT(DISTINCT "CHANNEL")'],
        "usual_sum_revenue": ['SUM("REVENUE")'],
    }
    assert [audit.is_metadata for audit in found.values()] == [True, False, False, False]


def test_verdict_says_what_was_found_and_what_is_usual_in_one_sentence() -> None:
    outcome = judged(audits()["usual_rows"], 41_020, days(84, weekly))
    assert not outcome.passed
    assert str(outcome).startswith("check usual_rows found 41,020 rows on a Monday; usual 9")
    assert str(outcome).endswith(" over 12 Mondays")
    rate = judged(audits()["usual_null_rate_email"], 0.5, days(30, lambda _: 0.125, noise=0))
    assert str(rate) == (
        "check usual_null_rate_email found 50.00 % NULL in email; usual 11.50 % to 13.50 % over 30 days"
    )
    assert numbers_of([outcome, rate]) == {
        "usual_rows_low": outcome.audit.measures[0].bounds.min,
        "usual_rows_high": outcome.audit.measures[0].bounds.max,
        "null_rate_email": 0.5,
        "usual_null_rate_email_low": pytest.approx(0.115),
        "usual_null_rate_email_high": pytest.approx(0.135),
    }


@pytest.mark.parametrize(
    ("history", "more", "note"),
    [
        (days(7, weekly), {}, "7 of 10 days with a published version are known"),
        (None, {}, "what was published before is not known here"),
        (days(84, weekly), {"is_target": True}, "what is published is not compared with itself"),
    ],
)
def test_what_cannot_be_compared_passes_with_a_word(history: Any, more: dict[str, Any], note: str) -> None:
    outcome = judged(audits()["usual_rows"], 1, history, **more)
    assert (outcome.passed, outcome.note) == (True, note)


def test_no_number_is_not_usual_where_there_was_one_and_what_was_before_since_teaches_nothing() -> None:
    history = days(84, weekly)
    assert str(judged(audits()["usual_sum_revenue"], None, history)).startswith(
        "check usual_sum_revenue found no sum of revenue"
    )
    assert not judged(audits()["usual_sum_revenue"], float("nan"), history).passed
    late = audits(since=history[-5].day)["usual_rows"]
    assert judged(late, 1, history).note == "5 of 10 days with a published version are known"


def test_history_is_read_for_a_table_that_asks_for_it_and_for_no_other() -> None:
    read: list[tuple[Any, Any]] = []

    def past(key: Any, partitions: Any) -> list[PublishedNumbers]:
        read.append((key, partitions))
        return []

    tables = [
        AnalyticsTable.model_validate({"schema": "a", "table": name, "sql": "select 1 as n", "checks": checks})
        for name, checks in (("plain", {"row_count_change": {"max_drop": "1%"}}), ("asks", {"usual": "rows"}))
    ]
    found = [versions_of(past, table, audits_of(table), keys=["k"]) for table in tables]
    assert (found, read) == ([None, []], [(("a", "asks"), ["k"])])
