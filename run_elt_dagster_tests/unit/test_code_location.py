"""Whose run is it, from what runs and locations say of themselves."""

import json
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.runs.code_location import CodeLocation, to_cursor, was_seen_lately
from run_elt_dagster.runs.tags import SEEN, STARTED_FROM, VALUE_LIMIT, bound, joined, own, pieces

RUN = "11111111-0000-4000-8000-000000000000"
PROD = {"target": "p", "tables": "t", "package": "k", "host": "a", "executable": "x", "directory": "d"}
STAGING = {**PROD, "target": "s"}


def a_location(name: str, *, code: str = "", surroundings: dict[str, str] = PROD) -> CodeLocation:
    return CodeLocation(name, "__repository__", code, surroundings)


class _Origin:
    """What a run of the command line says of the code that it was started with."""

    def __init__(self, **pointer: Any) -> None:
        self.repository_origin = type("", (), {"code_pointer": type("", (), pointer)()})()


class _Run:
    """A run of the command line."""

    remote_job_origin = None

    def __init__(self, *, module: str | None, started_from: dict[str, str] | None, owner: str = RUN) -> None:
        self.run_id = RUN
        self.job_code_origin = _Origin(module=module) if module else None
        self.tags = {} if started_from is None else {STARTED_FROM: bound(owner, json.dumps(started_from))}


def owners(run: Any, *locations: CodeLocation) -> list[str]:
    return [each.name for each in locations if each.has(run, locations)]


@pytest.mark.parametrize(
    ("run", "owner"),
    [
        (_Run(module="run_elt_dagster", started_from=PROD), ["prod"]),
        (_Run(module="run_elt_dagster", started_from=STAGING), ["staging"]),
        (_Run(module="run_elt_dagster", started_from={"target": "laptop"}), ["prod"]),
        (_Run(module="elsewhere", started_from=STAGING), ["staging"]),
        (_Run(module="elsewhere", started_from=None), []),
        (_Run(module="run_elt_dagster.definitions", started_from=None), ["prod"]),
        # A copy of another run's says nothing.
        (_Run(module="elsewhere", started_from=STAGING, owner="another"), []),
    ],
)
def test_run_of_the_command_line_belongs_to_one_location_at_most(run: Any, owner: list[str]) -> None:
    assert owners(run, a_location("prod"), a_location("staging", surroundings=STAGING)) == owner


def test_run_of_the_command_line_belongs_to_the_location_of_its_module() -> None:
    locations = a_location("a", code="loc_a"), a_location("b", code="loc_b")
    for name in "ab":
        for started_from in (None, PROD):
            assert owners(_Run(module=f"loc_{name}", started_from=started_from), *locations) == [name]


@pytest.mark.parametrize(
    ("started_from", "is_sure"),
    [
        (PROD, True),
        ({**PROD, "host": "b", "directory": "e"}, True),
        (STAGING, False),
        ({"target": "p"}, False),
        (None, False),
    ],
)
def test_location_that_knows_no_other_is_sure_of_runs_with_its_tables_and_target(
    started_from: dict[str, str] | None, *, is_sure: bool
) -> None:
    run: Any = _Run(module="run_elt_dagster", started_from=started_from)
    assert a_location("prod").surely_has(run) is is_sure


def test_location_is_seen_lately_for_an_hour() -> None:
    cursor = to_cursor(a_location("prod"), now=10_000)
    assert [was_seen_lately(cursor, now=now) for now in (10_030, 13_000, 14_000)] == [True, True, False]
    assert [was_seen_lately(other, now=10_030) for other in (None, "", "{}", "text")] == [False] * 4


def test_run_without_any_origin_is_everybodys() -> None:
    assert owners(_Run(module=None, started_from=None), a_location("a"), a_location("b")) == ["a", "b"]


def a_run(tags: dict[str, str]) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="job", run_id=RUN, tags=tags)


@pytest.mark.parametrize("text", ["x", "\U0001f600" * 3000, json.dumps({f"analytics.t{n}": None for n in range(500)})])
def test_long_text_comes_back_from_tags_that_fit_into_an_index(text: str) -> None:
    tags = pieces(SEEN, RUN, text)
    assert joined(a_run(tags), SEEN) == text
    assert max(len(value.encode()) for value in tags.values()) < VALUE_LIMIT + 100


def test_text_of_another_run_or_with_a_part_missing_is_none() -> None:
    tags = pieces(SEEN, RUN, "x" * 2000)
    assert joined(a_run(pieces(SEEN, "another", "x")), SEEN) == ""
    assert joined(a_run({name: value for name, value in tags.items() if not name.endswith("/1")}), SEEN) == ""


@pytest.mark.parametrize("value", ["", "x", "delivered", "another delivered"])
def test_tag_that_does_not_name_its_run_counts_for_nothing(value: str) -> None:
    assert own(a_run({SEEN: value}), SEEN) is None
