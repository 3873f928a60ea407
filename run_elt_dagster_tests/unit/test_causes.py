"""The causes of a failure in words: which tables failed alike, and what the first line of an alert says."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster.alerts.blocks import Style
from run_elt_dagster.alerts.causes import Group, causes_of, groups_of, headline, run_cause_of, title_of
from run_elt_dagster.alerts.failure import FailedCheck, FailedTable, RunFailure

STYLE = Style(secrets=("hunter2hunter2",))
EMPTY = FailedCheck("row_count", "0 rows", "at least 1 row")
DOUBLED = FailedCheck("unique_a", "2\nrows", "none")


def built(cause: str = "gone", **changes: Any) -> FailedTable:
    """Return a table whose build failed."""
    return replace(FailedTable("a.t", "build", cause, "x"), **changes)


def audited(*checks: FailedCheck, **changes: Any) -> FailedTable:
    """Return a table that failed its checks."""
    return replace(FailedTable("a.t", "audit", "said by the checks", "x", checks=checks), **changes)


def failure(*tables: FailedTable, **changes: Any) -> RunFailure:
    failed = RunFailure("8f3a", "j", datetime(2026, 11, 22, tzinfo=UTC), "the UI", "", "T failed", tables)
    return replace(failed, **changes)


def groups(*tables: FailedTable) -> list[Group]:
    return groups_of(failure(*tables), STYLE)


def first_line(*tables: FailedTable, **changes: Any) -> str:
    failed = failure(*tables, **changes)
    return headline(failed, groups_of(failed, STYLE), STYLE)


def test_tables_that_failed_alike_are_one_group_in_order() -> None:
    first, other, second = (
        built("b\nmore\nstill", name="a.t1"),
        built("c", name="a.t2"),
        built("b\nmore\nstill", name="a.t3"),
    )
    assert groups(first, other, second) == [Group((first, second), "b\nmore\nstill", "b"), Group((other,), "c", "c")]
    assert groups(first, second)[0].names == ["a.t1", "a.t3"]
    assert groups(first, second)[0].first == first
    assert groups() == []


@pytest.mark.parametrize(
    "changes", [{"stage": "publish"}, {"was_built": False}, {"checks": (replace(EMPTY, is_answered=False),)}]
)
def test_tables_that_failed_otherwise_are_groups_of_their_own(changes: dict[str, Any]) -> None:
    assert len(groups(built(), built(**changes))) == 2


@pytest.mark.parametrize(
    ("table", "cause", "short"),
    [
        (audited(EMPTY), "", "Check row_count: got 0 rows, expected at least 1 row"),
        (
            audited(EMPTY, DOUBLED),
            "",
            "Check row_count: got 0 rows, expected at least 1 row; Check unique_a: got 2 rows, expected none",
        ),
        (audited(DOUBLED, was_built=False), "", "unique_a: got 2 rows, expected none"),
        # A question without an answer has no such words.
        (audited(EMPTY, replace(DOUBLED, is_answered=False)), "said by the checks", "said by the checks"),
    ],
)
def test_checks_say_the_cause_where_all_of_them_were_answered(table: FailedTable, cause: str, short: str) -> None:
    assert groups(table) == [Group((table,), cause, short)]


@pytest.mark.parametrize(("count", "length"), [(1, 20_000), (40, 500), (100, 400)])
def test_tables_share_the_room_for_causes(count: int, length: int) -> None:
    assert len(groups(*[built("x" * 30_000)] * count)[0].cause) == length


VALUE = "Numeric value 'Jane Doe' is not recognized"


@pytest.mark.parametrize(
    ("errno", "cause", "shown"),
    [
        (100038, VALUE, "Numeric value '…' is not recognized"),
        # By its number, the connector has seen no row.
        (250001, "cannot reach 'acme'", "cannot reach 'acme'"),
        # None of Snowflake's.
        (None, VALUE, VALUE),
        (None, "signed in with hunter2hunter2", "signed in with [redacted]"),
    ],
)
def test_cause_has_no_secret_and_no_row_value_of_snowflake(errno: int | None, cause: str, shown: str) -> None:
    of_table = groups(built(cause, errno=errno))[0]
    of_run = run_cause_of(failure(cause=cause, errno=errno), STYLE)
    assert of_table.short == of_run.split("\n", maxsplit=1)[0] == shown
    assert "hunter2" not in of_table.cause + of_run


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ((built("b\nmore"),), "T failed: b"),
        ((built("b"), built("c", name="a.t2")), "T failed: b; c"),
        ((built("b"), built("b", stage="publish")), "T failed: b"),
        ((audited(EMPTY),), "T failed. Check row_count: got 0 rows, expected at least 1 row"),
        # The summary names the one check of a published table.
        ((audited(DOUBLED, was_built=False),), "T failed: got 2 rows, expected none"),
        (
            (audited(EMPTY, DOUBLED, was_built=False),),
            "T failed: row_count: got 0 rows, expected at least 1 row; unique_a: got 2 rows, expected none",
        ),
        ((audited(replace(EMPTY, is_answered=False), was_built=False),), "T failed: said by the checks"),
        (
            (audited(EMPTY, was_built=False), built("b")),
            "T failed: row_count: got 0 rows, expected at least 1 row; b",
        ),
        ((built(""), audited(EMPTY)), "T failed. Check row_count: got 0 rows, expected at least 1 row"),
        ((built(""),), "T failed"),
        ((), "T failed"),
    ],
)
def test_first_line_says_what_happened_and_each_cause_once(tables: tuple[FailedTable, ...], line: str) -> None:
    assert first_line(*tables) == line


def test_first_line_of_a_failure_without_tables_has_its_own_cause() -> None:
    assert first_line(cause="killed\nby\nthe system") == "T failed: killed"
    assert first_line(built(""), cause="killed") == "T failed: killed"


def test_causes_share_a_line() -> None:
    one, other = built("b" * 4000), built("c" * 200, name="a.t2")
    alone = groups(one)
    assert causes_of(alone, failure(one), STYLE) == f"{'b' * 2999}…"
    assert causes_of(groups(one, other), failure(one, other), STYLE) == f"{'b' * 99}…; {'c' * 99}…"


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, "; and 1 more cause"), (1007, "; and 1,002 more causes")])
def test_causes_in_a_line_are_five(count: int, more: str) -> None:
    tables = [built(f"gone {n}") for n in range(count)]
    line = causes_of(groups(*tables), failure(*tables), STYLE)
    assert line == f"gone 0; gone 1; gone 2; gone 3; gone 4{more}"


def test_check_that_a_later_release_noted_is_read_as_far_as_it_is_known() -> None:
    kept = {"name": "row_count", "got": "0 rows", "expected": "at least 1 row", "later": 1}
    assert FailedCheck.of(kept) == EMPTY


def test_title_has_a_sign_for_the_state() -> None:
    failed = failure(built("b"), summary="T\x1b[31m failed")
    found = groups_of(failed, STYLE)
    assert title_of(failed, found, "open", STYLE) == "🔴 T failed: b"
    assert title_of(replace(failed, cancelled=True), found, "open", STYLE) == "⚪ T failed: b"
    assert title_of(failed, found, "recovered", STYLE) == "🟢 Recovered: T failed"
    secret = replace(failure(), cause="hunter2hunter2 is wrong")
    assert title_of(secret, [], "open", STYLE) == "🔴 T failed: [redacted] is wrong"
