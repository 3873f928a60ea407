"""What a run says while it goes on, and how seldom; the clock is the test's."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from run_elt_dagster.model.candidate import candidate_of, target_of
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.progress import ProgressLog
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.progress import Progress
from run_elt_dagster.publish.table_run import State

BEGAN = datetime(2026, 11, 21, 0, 40, tzinfo=UTC)


class Clock:
    """Seconds that pass when a test wants it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    @property
    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds - 1000)


def outcome(name: str, *, failure: Failure | None = None, skipped_because: tuple[Key, ...] = ()) -> TableOutcome:
    table = AnalyticsTable.model_validate({"schema": "a", "table": name, "sql": "select 1 as n"})
    target, candidate = target_of(table, database="D"), candidate_of(table, database="D", run_id="8f3a01c2")
    return TableOutcome(table, target, candidate, failure=failure, skipped_because=skipped_because)


def progress_of(clock: Clock, tables: int, *, ready: int = 0) -> Progress:
    return Progress(tables, lambda: ready, clock=clock, now=lambda: clock.now)


def told(
    seconds: int, clock: Clock, progress: Progress, each_second: Callable[[int], object] = lambda _: None
) -> Sequence[float]:
    """Return after how many seconds a line was written, of so many."""
    times: list[float] = []
    log = ProgressLog(lambda _: times.append(clock.seconds - 1000), clock=clock)
    for second in range(seconds + 1):
        clock.seconds = 1000.0 + second
        each_second(second)
        log.look(progress)
    return times


def test_line_names_what_is_at_work_since_when_and_how_many_wait() -> None:
    clock = Clock()
    progress = progress_of(clock, 12, ready=4)
    with ExitStack() as at_work:
        enter = [at_work.enter_context(progress.at_work(("a", name))) for name in ("slow", "audited", "last")]
        enter[0](State.BUILD)
        clock.seconds += 70
        enter[1](State.AUDIT)
        enter[2](State.WAIT_FOR_NEWER)
        clock.seconds += 10
        # A state of the same phase begins no new one.
        enter[2](State.EXCHANGE)
        progress.end(outcome("x"))
        progress.end(outcome("y", failure=Failure("build", "", Production("none"))))
        progress.end(outcome("z", skipped_because=(("a", "y"),)))
        assert progress.line == (
            "1 of 12 tables published; 1 failed; 1 skipped; building: a.slow (since 00:40:00 UTC, 1 min 20 s); "
            "auditing: a.audited (since 00:41:10 UTC, 10 s); publishing: a.last (since 00:41:10 UTC, 10 s); "
            "waiting for a slot: 4; waiting for parents: 2"
        )
    assert "building" not in progress.line


def test_line_names_those_at_work_that_take_longest_and_counts_the_others() -> None:
    clock = Clock()
    progress = progress_of(clock, 11)
    with ExitStack() as at_work:
        for number in range(11):
            at_work.enter_context(progress.at_work(("a", f"t{number}")))
            clock.seconds += 1
        assert "a.t0 (" in progress.line
        assert "a.t8 (" not in progress.line
        assert progress.line.endswith("; 3 more at work")


def test_short_run_says_nothing_of_it() -> None:
    clock = Clock()
    progress = progress_of(clock, 1)
    with progress.at_work(("a", "x")) as enter:
        assert told(4, clock, progress, lambda second: enter(State.AUDIT if second > 2 else State.BUILD)) == []


def test_long_statement_is_told_every_half_minute() -> None:
    clock = Clock()
    progress = progress_of(clock, 1)
    with progress.at_work(("a", "x")):
        assert told(100, clock, progress) == [5, 35, 65, 95]


def test_changes_each_second_are_told_more_seldom_the_longer_a_run_takes() -> None:
    clock = Clock()
    progress = progress_of(clock, 10_000)
    times = told(3600, clock, progress, lambda second: progress.end(outcome(f"t{second}")))
    gaps = [(at, after - at) for at, after in itertools.pairwise(times)]
    assert min(gap for _, gap in gaps) == 5
    assert min(gap for at, gap in gaps if at > 200) > 10
    assert {gap for at, gap in gaps if at > 600} == {30}
    assert len(times) < 180


def test_published_tables_and_how_far_the_run_is_share_a_line_of_the_log() -> None:
    clock, lines = Clock(), list[str]()
    progress, log = progress_of(clock, 3), ProgressLog(lines.append, clock=clock)
    log.tell("a.x is published")
    log.tell("a.y is published")
    assert lines == ["a.x is published"]
    clock.seconds += 0.9
    log.look(progress)
    assert len(lines) == 1
    # It does not wait for the next table.
    clock.seconds += 0.2
    log.look(progress)
    assert lines[1:] == ["a.y is published"]
    progress.end(outcome("x"))
    clock.seconds += 4
    log.tell("a.z is published")
    log.look(progress)
    clock.seconds += 1
    log.look(progress)
    assert lines[2:] == ["a.z is published", "1 of 3 tables published; waiting for parents: 2"]
