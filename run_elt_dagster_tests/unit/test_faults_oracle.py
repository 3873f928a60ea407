"""The judge of `make faults`: it must see what is wrong, or all its trials prove nothing."""

import pytest

from run_elt_dagster_tests.faults.__main__ import Figures, duration
from run_elt_dagster_tests.faults.oracle import NEW, OLD, Problem, Version, Watched, lines_about, untrue

REJECTED = Version(5, 666)


@pytest.mark.parametrize(
    ("seen", "is_wrong"),
    [
        (OLD.content, False),
        (NEW.content, False),
        # A mixture of two versions, part of one, and rows that no audit has accepted.
        ((8, 1, 2), True),
        ((2, 1, 1), True),
        (REJECTED.content, True),
        ((), True),
    ],
)
def test_reader_reports_what_is_no_audited_version(seen: tuple[int, ...], is_wrong: bool) -> None:
    watched = Watched("mau", (OLD, NEW, REJECTED))
    assert watched.note(OLD.content) is None
    assert (watched.note(seen) is not None) is is_wrong


def test_table_may_be_missing_before_its_first_publish_and_where_it_is_announced() -> None:
    assert Watched("mau", (OLD,)).note(()) is None
    announced = Watched("mau", (OLD,), may_be_missing=True)
    assert [announced.note(seen) for seen in (OLD.content, (), OLD.content)] == [None, None, None]


@pytest.mark.parametrize(
    ("said", "true_of", "untrue_of"),
    [
        ("Readers still see the previous table (3 rows, built then).", OLD.content, NEW.content),
        ("Readers still see the previous table.", OLD.content, NEW.content),
        ("There is no published table yet.", (), OLD.content),
        ("the catalogue says that readers see the new table.", NEW.content, OLD.content),
        ("Nothing has changed: readers see 5 rows", NEW.content, OLD.content),
        ("RUN_ELT.ANALYTICS.MAU is back at 3 rows, built then", OLD.content, NEW.content),
        ("There is no RUN_ELT.ANALYTICS.MAU", (), OLD.content),
        ("analytics.mau is published: 5 rows in 0.1 s", NEW.content, OLD.content),
        ("Unchanged, verified in Snowflake: readers still see the previous table", OLD.content, NEW.content),
        ("Unchanged, verified in Snowflake: there is no published table yet.", (), NEW.content),
        ("New, verified in Snowflake: this run has published the table", NEW.content, ()),
    ],
)
def test_sentence_is_true_of_what_it_says_alone(
    said: str, true_of: tuple[int, ...], untrue_of: tuple[int, ...]
) -> None:
    assert untrue(said, [true_of], NEW) == []
    assert {problem.verdict for problem in untrue(said, [untrue_of], NEW)} == {"untrue"}


def test_sentence_that_says_unknown_is_true_of_everything() -> None:
    said = "Whether readers see the new table is unknown, since the catalogue does not say"
    assert untrue(said, [()], NEW) == untrue(said, [OLD.content], NEW) == []


def test_states_of_a_time_begin_with_what_stood_before_it() -> None:
    watched = Watched("mau", (OLD, NEW), sightings=[(1, OLD.content), (3, NEW.content), (5, ())])
    assert watched.states(2, 4) == {OLD.content, NEW.content}
    assert watched.states(3.5, 4) == {NEW.content}


def test_lines_are_about_a_table_that_they_name_whole() -> None:
    log = "analytics.mau_1 failed\nRUN_ELT.ANALYTICS.MAU_1: gone\nanalytics.mau_12 failed"
    assert lines_about(log, "mau_1").splitlines() == log.splitlines()[:2]


def test_figures_count_trials_and_end_with_a_problem() -> None:
    figures = Figures()
    figures.add("killed", [])
    assert not figures.has_problems
    figures.add("killed", [Problem("wrong", "a"), Problem("wrong", "b"), Problem("untrue", "c")])
    assert list(figures.lines())[-1] == "| **all** | **2** | **1** | **1** | **1** | **0** | **0** |"
    assert figures.has_problems


def test_duration_has_a_unit() -> None:
    assert [duration(text) for text in ("90s", "10m", "1h")] == [90, 600, 3600]
