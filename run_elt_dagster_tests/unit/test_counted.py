"""Numbers with what they count."""

import pytest

from run_elt_dagster.model.counted import agreeing, counted


@pytest.mark.parametrize(
    ("count", "many", "one", "words"),
    [
        (0, "rows", "", "0 rows"),
        (1, "rows", "", "1 row"),
        (2000, "rows", "", "2,000 rows"),
        (1, "rows that are wrong", "", "1 row that is wrong"),
        (1, "alerts wait", "alert waits", "1 alert waits"),
        (2, "alerts wait", "alert waits", "2 alerts wait"),
    ],
)
def test_number_agrees_with_what_it_counts(count: int, many: str, one: str, words: str) -> None:
    assert counted(count, many, one) == words


@pytest.mark.parametrize(
    ("number", "many", "words"),
    [
        ("at least 1", "rows", "at least 1 row"),
        ("at least 1 and at most 5", "rows", "at least 1 and at most 5 rows"),
        ("more than 11", "rows with a NULL key", "more than 11 rows with a NULL key"),
        ("exactly 1", "hours since the latest a", "exactly 1 hour since the latest a"),
        ("1", "% change of the row count", "1 % change of the row count"),
    ],
)
def test_words_agree_with_what_they_count(number: str, many: str, words: str) -> None:
    assert agreeing(number, many) == words
