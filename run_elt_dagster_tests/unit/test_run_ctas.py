"""Order, concurrency and interruption of `run_tables`, on a session that only records: no SQL is run here."""

import random
import re
import sys
import threading
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import pytest

from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import NO_PARAMETERS, Answer, Parameters, StatementError, query_tag
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.run_arguments import run_arguments


def arguments(run_id: str = "8f3a01c2-0000", **given: Any) -> dict[str, Any]:
    return run_arguments(run_id, **{"retry_seconds": (0, 0, 0), "poll_seconds": 0, **given})


class RecordingSession:
    """Answers every statement, except those that it was told to fail or to hold."""

    database = "PROD"

    def __init__(self, *, failing: Mapping[str, StatementError] | None = None, held: str | None = None) -> None:
        self.statements: list[str] = []
        self.tags: list[Mapping[str, str]] = []
        self.building, self.most_building = 0, 0
        self.holding, self.cancelled = threading.Event(), threading.Event()
        self._failing, self._held = dict(failing or {}), held
        self._lock = threading.Lock()

    def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        with self._lock:
            self.statements.append(sql)
            self.tags.append(tag)
        for pattern, error in self._failing.items():
            if re.search(pattern, sql):
                raise error
        if self._held and re.search(self._held, sql):
            self.holding.set()
            assert self.cancelled.wait(PATIENCE_SECONDS)
            raise StatementError("SQL execution canceled", errno=604, query_id="q", answered=True)
        if sql.startswith("SELECT\n  (SELECT"):
            return Answer((("[]", "[]"),), "q", 0.0)
        return Answer(((1, "[]", "[]"),) if tag["stage"] == "audit" else (), "q", 0.0)

    def renew(self, number: int) -> None:
        """There is one session."""

    def refresh(self) -> None:
        """There is one session."""

    def fresh(self, parameters: Parameters = NO_PARAMETERS) -> Any:
        return nullcontext(self)

    def on_warehouse(self, name: str) -> Any:
        raise NotImplementedError(name)

    def cancel(self) -> None:
        self.cancelled.set()

    def give_up(self) -> None:
        """Nothing waits for an answer."""


def tables(**parents: str) -> Catalogue:
    return catalogue(
        [
            AnalyticsTable.model_validate(
                {
                    "schema": "a",
                    "table": name,
                    "sql": f"select 1 as {name}",
                    "upstream": [f"a.{p}" for p in reads.split()],
                }
            )
            for name, reads in parents.items()
        ]
    )


def outcomes_of(session: RecordingSession, declared: Catalogue, **given: Any) -> dict[str, TableOutcome]:
    return {o.table.table: o for o in run_tables(session, declared, list(declared), **arguments(**given))}


def refused(message: str = "no such column", *, answered: bool = True) -> StatementError:
    return StatementError(message, errno=904, query_id="01b2", answered=answered)


def test_child_is_built_after_its_parent_is_published() -> None:
    session = RecordingSession()
    outcomes_of(session, tables(child="parent", parent=""))
    published = next(i for i, sql in enumerate(session.statements) if 'CREATE TABLE "PROD"."A"."PARENT" CLONE' in sql)
    built = next(i for i, sql in enumerate(session.statements) if "select 1 as child" in sql)
    assert published < built


def test_failed_table_skips_its_descendants_only() -> None:
    declared = tables(root="", bad="root", child="bad", grandchild="child", other="root")
    outcomes = outcomes_of(RecordingSession(failing={"select 1 as bad": refused()}), declared)
    assert {name for name, outcome in outcomes.items() if outcome.published} == {"root", "other"}
    assert outcomes["bad"].failure is not None
    assert outcomes["child"].skipped_because == outcomes["grandchild"].skipped_because == (("a", "bad"),)


def test_selected_table_is_built_although_its_parent_is_not_selected() -> None:
    declared = tables(parent="", child="parent")
    (outcome,) = run_tables(RecordingSession(), declared, [("a", "child")], **arguments())
    assert outcome.published


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_tables_are_built_at_once_than_allowed(limit: int) -> None:
    gate = threading.Barrier(limit)

    class CountingSession(RecordingSession):
        def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
            if sql.startswith("CREATE OR REPLACE"):
                with self._lock:
                    self.building += 1
                    self.most_building = max(self.most_building, self.building)
                gate.wait(PATIENCE_SECONDS)
                with self._lock:
                    self.building -= 1
            return super().execute(sql, tag=tag)

    session = CountingSession()
    outcomes_of(session, tables(**{f"t{i}": "" for i in range(6)}), max_concurrent_tables=limit)
    assert session.most_building == limit


def test_tables_are_built_while_nobody_takes_the_outcomes() -> None:
    last = threading.Event()

    class WatchedSession(RecordingSession):
        def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
            if "select 1 as grandchild" in sql:
                last.set()
            return super().execute(sql, tag=tag)

    declared = tables(parent="", child="parent", grandchild="child")
    outcomes = run_tables(WatchedSession(), declared, list(declared), **arguments())
    first = next(outcomes)
    # Whoever records the first outcome is still at it.
    assert last.wait(PATIENCE_SECONDS)
    assert [first.table.table, *(outcome.table.table for outcome in outcomes)] == ["parent", "child", "grandchild"]


def test_longest_way_to_the_end_begins_first_where_history_knows() -> None:
    session = RecordingSession()
    declared = tables(quick="", slow="", head="", tail="head")
    seconds = {("a", "quick"): 1.0, ("a", "slow"): 9.0, ("a", "head"): 2.0, ("a", "tail"): 30.0}
    given = arguments(max_concurrent_tables=1)
    outcomes = list(run_tables(session, declared, list(declared), **given, seconds=lambda: seconds))
    assert [outcome.table.table for outcome in outcomes] == ["head", "tail", "slow", "quick"]


def test_table_without_a_history_counts_as_an_average_one() -> None:
    declared = tables(quick="", new="", slow="")
    seconds = {("a", "quick"): 1.0, ("a", "slow"): 9.0}
    given = arguments(max_concurrent_tables=1)
    outcomes = list(run_tables(RecordingSession(), declared, list(declared), **given, seconds=lambda: seconds))
    assert [outcome.table.table for outcome in outcomes] == ["slow", "new", "quick"]


def test_thousand_tables_in_twelve_levels_skip_exactly_what_reads_a_failed_one() -> None:
    levels = {f"t{number}": number * 12 // 1000 for number in range(1000)}
    by_level = [[name for name, level in levels.items() if level == wanted] for wanted in range(12)]
    chance = random.Random(0)  # noqa: S311 - the same DAG each time
    parents = {name: sorted(chance.sample(by_level[level - 1], 2)) if level else [] for name, level in levels.items()}
    broken = set(chance.sample(sorted(levels), 10))
    pattern = f"TEMP_({'|'.join(name.upper() for name in broken)})__"
    session = RecordingSession(failing={f"CREATE OR REPLACE.*{pattern}": refused()})
    outcomes = outcomes_of(session, tables(**{name: " ".join(read) for name, read in parents.items()}))

    expected: dict[str, str] = {}
    for name in levels:
        is_blocked = any(expected[parent] != "published" for parent in parents[name])
        expected[name] = "skipped" if is_blocked else "failed" if name in broken else "published"
    found = {
        name: "published" if o.published else "skipped" if o.skipped_because else "failed"
        for name, o in outcomes.items()
    }
    assert found == expected
    assert {"published", "skipped", "failed"} == set(found.values())


def test_every_statement_of_a_table_is_tagged_with_its_stage() -> None:
    session = RecordingSession()
    outcomes_of(session, tables(mau=""), run_id="r1", job="daily")
    assert session.tags[1] == {"asset": "a/mau", "run_id": "r1", "stage": "build", "job": "daily"}
    assert [tag["stage"] for tag in session.tags] == ["inspect", "build", "audit", "publish", "clean-up"]


def test_lost_answer_while_publishing_is_looked_into_and_says_what_readers_see() -> None:
    outcome = outcomes_of(RecordingSession(failing={"CLONE": refused("timed out", answered=False)}), tables(mau=""))[
        "mau"
    ]
    assert outcome.failure is not None
    assert outcome.failure.stage == "publish"
    assert outcome.failure.production.words == "There is no published table yet."


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("publish", ["clone", "overwrite"])
def test_publishing_that_cannot_be_looked_into_is_said_to_be_unknown(answered: bool, publish: str) -> None:
    class DeafSession(RecordingSession):
        def fresh(self, parameters: Parameters = NO_PARAMETERS) -> Any:
            raise refused("no sign-in", answered=False)

    declared = catalogue(
        [AnalyticsTable.model_validate({"schema": "a", "table": "mau", "sql": "select 1 as n", "publish": publish})]
    )
    session = DeafSession(failing={"CLONE": refused("cancelled", answered=answered)})
    failure = outcomes_of(session, declared)["mau"].failure
    assert failure is not None
    assert failure.production.words.startswith("Whether readers see the new table is unknown")
    assert failure.production.words in failure.message


def test_audit_query_that_fails_publishes_nothing() -> None:
    session = RecordingSession(failing={r"SELECT\s+COUNT": refused()})
    outcome = outcomes_of(session, tables(mau=""))["mau"]
    assert [audit.passed for audit in outcome.audits] == [False]
    assert not any("CLONE" in sql for sql in session.statements)


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("error", [refused("insufficient privileges"), KeyError("insufficient: a bug")])
def test_candidate_that_cannot_be_dropped_is_a_warning_since_the_table_is_published(
    error: StatementError | KeyError, limit: int
) -> None:
    class RefusingSession(RecordingSession):
        def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
            if tag["stage"] == "clean-up":
                raise error
            return super().execute(sql, tag=tag)

    session, warnings = RefusingSession(), list[str]()
    given = arguments(max_concurrent_tables=limit)
    (outcome,) = run_tables(session, tables(mau=""), [("a", "mau")], **given, warn=warnings.append)
    assert outcome.published
    (warning,) = warnings
    assert "PROD.A.TEMP_MAU__8F3A01C2 is of no use any more and could not be dropped:" in warning
    assert "insufficient" in warning


@pytest.mark.parametrize("publish", ["clone", "swap", "overwrite"])
def test_table_that_only_has_to_be_published_keeps_no_other_from_being_built(publish: str) -> None:
    last, published, waited = threading.Event(), threading.Event(), list[bool]()

    class WatchedSession(RecordingSession):
        def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
            if "select 1 as last" in sql:
                last.set()
            if "select 1 as second" in sql:
                # Not done before the first table is, so that the last one can begin in the place of that alone.
                assert published.wait(PATIENCE_SECONDS)
            if (tag.get("asset"), tag["stage"]) == ("a/first", "publish"):
                waited.append(last.wait(0.2 if publish == "overwrite" else PATIENCE_SECONDS))
                published.set()
            return super().execute(sql, tag=tag)

    declared = tables(first="", second="", last="")
    declared = catalogue([table.model_copy(update={"publish": publish}) for table in declared.values()])
    outcomes = outcomes_of(WatchedSession(), declared, max_concurrent_tables=2)
    assert all(outcome.published for outcome in outcomes.values())
    # Writing over the rows is the warehouse's work, too.
    assert waited == [publish != "overwrite"]


def test_children_do_not_wait_until_the_candidate_of_their_parent_is_dropped() -> None:
    child, waited = threading.Event(), list[bool]()

    class WatchedSession(RecordingSession):
        def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
            if "select 1 as child" in sql:
                child.set()
            if tag["stage"] == "clean-up" and tag["asset"] == "a/parent":
                waited.append(child.wait(PATIENCE_SECONDS))
            return super().execute(sql, tag=tag)

    session = WatchedSession()
    outcomes = outcomes_of(session, tables(parent="", child="parent"), max_concurrent_tables=2)
    assert [outcome.published for outcome in outcomes.values()] == [True, True]
    assert waited == [True]
    # Nothing is left behind when the last outcome has been taken.
    assert sum("DROP" in sql for sql in session.statements) == 2


def test_only_table_at_a_time_is_cleaned_up_before_the_next_one_begins() -> None:
    session = RecordingSession()
    outcomes_of(session, tables(first="", second=""), max_concurrent_tables=1)
    stages = [(tag["asset"], tag["stage"]) for tag in session.tags if tag["stage"] in ("build", "clean-up")]
    assert stages == [(f"a/{name}", stage) for name in ("first", "second") for stage in ("build", "clean-up")]


def test_bug_in_a_thread_fails_its_table_and_not_the_others() -> None:
    class BrokenSession(RecordingSession):
        def execute(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
            if "select 1 as bad" in sql:
                raise KeyError("bug")
            return super().execute(sql, tag=tag)

    outcomes = outcomes_of(BrokenSession(), tables(bad="", good=""))
    assert outcomes["good"].published
    assert isinstance(outcomes["bad"].failure and outcomes["bad"].failure.cause, KeyError)


def test_interruption_cancels_the_queries_and_publishes_nothing_afterwards() -> None:
    session = RecordingSession(held="select 1 as slow")
    outcomes = run_tables(
        session, tables(quick="", slow="", later="slow"), [("a", "quick"), ("a", "slow"), ("a", "later")], **arguments()
    )
    assert next(outcomes).table.table == "quick"
    assert session.holding.wait(PATIENCE_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(outcomes.close).result(PATIENCE_SECONDS)
    assert session.cancelled.is_set()
    assert not any("SLOW" in sql and "CLONE" in sql for sql in session.statements)
    assert not any("later" in sql for sql in session.statements)


@contextmanager
def interrupted_as_a_thread_starts(session: RecordingSession) -> Generator[None]:
    """Raise KeyboardInterrupt where this thread waits for a new one to start; first leave the new one time to send a query."""

    def trace(frame: FrameType, *_: object) -> None:
        caller = frame.f_back.f_code if frame.f_back else None
        if frame.f_code is threading.Event.wait.__code__ and caller is threading.Thread.start.__code__:
            sys.settrace(None)
            frame.f_locals["self"].wait(PATIENCE_SECONDS)
            session.holding.wait(0.5)
            raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def test_interruption_as_a_thread_starts_leaves_nothing_that_runs() -> None:
    session = RecordingSession(held="select 1 as slow")
    outcomes = run_tables(session, tables(slow=""), [("a", "slow")], **arguments())
    with pytest.raises(KeyboardInterrupt), interrupted_as_a_thread_starts(session):
        next(outcomes)
    sent = list(session.statements)
    for thread in threading.enumerate():
        if thread.name.startswith("run_ctas"):
            thread.join(PATIENCE_SECONDS)
    assert session.cancelled.is_set() or not session.holding.is_set()
    assert session.statements == sent
    assert not any("CLONE" in sql for sql in sent)


def test_query_tag_stays_within_the_limit() -> None:
    assert query_tag({"asset": "a/b", "job": "x"}) == '{"asset": "a/b", "job": "x"}'
    assert len(query_tag({"asset": "é" * 3000, "run_id": "r"})) <= 2000
