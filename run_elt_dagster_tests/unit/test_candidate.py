"""The names of candidates and the markers in their comments: what tells the rows of one run from those of another."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from run_elt_dagster.model.candidate import (
    ByHand,
    Marker,
    audited_at,
    audited_note,
    by_hand_in,
    candidate_of,
    candidate_prefix,
    instant,
    marker_in,
    rolled_back_marker,
)
from run_elt_dagster.model.table import AnalyticsTable

BUILT = Marker("run", "8f3a01c2-0000-4000-8000-000000000000", "2026-11-25T00:00:00.000000Z")


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def a_table(name: str) -> AnalyticsTable:
    return AnalyticsTable.model_validate({"schema": "a", "table": "t", "identifier": f'"{name}"', "sql": "select 1"})


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        (BUILT, "[run_elt run 8f3a01c2-0000-4000-8000-000000000000 at 2026-11-25T00:00:00.000000Z]"),
        (Marker("withdrawn", "abc"), "[run_elt withdrawn abc]"),
    ],
)
def test_marker_is_written_as_it_is_read_back(marker: Marker, text: str) -> None:
    assert (str(marker), marker_in(text)) == (text, marker)


def test_marker_of_a_rollback_names_the_run_that_was_taken_back() -> None:
    marker = rolled_back_marker(BUILT)
    assert marker == Marker("run", "rollback-of-8f3a01c2", BUILT.at)
    assert (marker.is_rolled_back, marker.run_of_rows) == (True, "8f3a01c2")
    assert marker_in(str(marker)) == marker


def test_marker_of_a_rollback_of_an_unknown_run_names_none() -> None:
    marker = rolled_back_marker(None)
    assert marker == Marker("run", "rollback-of-")
    assert marker_in(str(marker)) == marker


@pytest.mark.usefixtures("tokyo")
def test_instant_is_in_utc_wherever_the_process_runs() -> None:
    moment = datetime(2026, 11, 25, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))
    assert instant(moment) == "2026-11-24T23:02:03.000004Z"


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("X" * 240, f"TEMP_{'X' * 240}__"),
        ("X" * 241, f"TEMP_{'X' * 231}_613E7F19__"),
        # Another table. It must not have the candidates of the one above.
        ("X" * 240 + "Y", f"TEMP_{'X' * 231}_4E37ABFF__"),
    ],
)
def test_candidates_of_a_long_name_are_told_apart_by_a_digest(name: str, prefix: str) -> None:
    assert candidate_prefix(a_table(name)) == prefix
    assert len(candidate_of(a_table(name), database="D", run_id=BUILT.run_id).name) == 255


def test_candidate_ends_with_the_first_eight_characters_of_its_run_that_are_no_hyphens() -> None:
    assert candidate_of(a_table("T"), database="D", run_id="0a1b-2c-3d4e-5f60").name == "TEMP_T__0A1B2C3D"


@pytest.mark.parametrize(
    ("person", "waived", "text", "words"),
    [
        ("ana", ["changes"], "by ana at {} waiving changes]", "by ana, 2026-11-28 09:12 UTC, check changes waived"),
        ("a b]", ["x", "y"], "by a_b_ at {} waiving x,y]", "by a_b_, 2026-11-28 09:12 UTC, checks x, y waived"),
        ("", [], "by unknown at {}]", "by unknown, 2026-11-28 09:12 UTC, no check waived"),
    ],
)
def test_comment_says_who_has_published_by_hand(person: str, waived: list[str], text: str, words: str) -> None:
    at = "2026-11-28T09:12:40.118000Z"
    by_hand = ByHand.of(person, at=at, waived=waived)
    comment = f"Ours. {audited_note(at)} {by_hand} {BUILT}"
    assert text.format(at) in comment
    assert (by_hand_in(comment), audited_at(comment), marker_in(comment)) == (by_hand, at, BUILT)
    assert by_hand.words == f"published {words}"
    assert (by_hand_in("Ours."), audited_at(None), audited_note("")) == (None, "", "")
