"""Which table is built when, in which thread, and how an interruption ends what runs."""

import contextlib
import graphlib
import heapq
import itertools
import math
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.snowflake.session import Session

# How long an interrupted run waits for the end of what it has begun, how often it asks for that, and how long threads that
# nobody answers take to say so.
END_SECONDS = 12.0
LOOK_SECONDS = 1.0
CANCEL_INTERVAL_SECONDS = 2.0
GIVE_UP_SECONDS = 3.0


@dataclass(frozen=True, order=True)
class GroupNode:
    """The exchange of a group of tables: it waits for all of them, and what reads one of them waits for it.

    Attributes:
        name: Of the group.
    """

    name: str


Node = Key | GroupNode
"""What a thread does: it builds a table, or exchanges a group."""


class Builders:
    """Threads that build tables. Each begins the next table itself, even if recording the outcomes is slower.

    Attributes:
        done: The outcomes, each after those of its parents; an error that no outcome says, which is a fault of this code.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        order: "BuildOrder",
        build: Callable[[Node, Callable[[], None]], Sequence[TableOutcome]],
        skip: Callable[[Key, tuple[Key, ...]], TableOutcome],
        clean_up: Callable[[TableOutcome], str | None],
        *,
        limit: int,
    ) -> None:
        self.done: queue.SimpleQueue[TableOutcome | BaseException] = queue.SimpleQueue()
        self._pool, self._order, self._limit = pool, order, limit
        self._build, self._skip, self._clean_up = build, skip, clean_up
        self._lock = threading.Lock()
        self._stopped = False
        # Threads write down what they run. The main thread cannot: an interruption in submit() takes the future from it, and
        # the thread that it has started goes on.
        self._running: set[Node] = set()
        self._ended = threading.Condition(self._lock)
        self._futures: list[Future[str | None]] = []

    def begin(self) -> None:
        """Begin the first tables."""
        with self._lock:
            self._start_ready_tables()

    def outcomes(self, count: int, look: Callable[[], None]) -> Iterator[TableOutcome]:
        """Yield so many outcomes as they come.

        Args:
            count: How many there are to come.
            look: Called before each, and each second while none comes.

        Raises:
            Exception: A thread ended without an outcome. Waiting for it would never end.
        """
        taken = 0
        while taken < count:
            look()
            try:
                outcome = self.done.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            taken += 1
            yield outcome

    def leftovers(self) -> Iterator[str]:
        """Wait until all candidates are dropped, and say which could not be; all outcomes must have been taken."""
        for future in self._futures:
            if problem := future.result():
                yield problem

    def untaken(self) -> Iterator[TableOutcome]:
        """Yield the outcomes that were not taken yet."""
        with contextlib.suppress(queue.Empty):
            while True:
                outcome = self.done.get_nowait()
                if isinstance(outcome, TableOutcome):
                    yield outcome

    def stop(self) -> None:
        """Begin no other table."""
        with self._lock:
            self._stopped = True

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until no table is built any more, and return whether that is so."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._running, timeout_seconds)

    def _run(self, node: Node) -> str | None:
        """Build a table unless all has been stopped, and say why its candidate could not be dropped."""
        with self._lock:
            if self._stopped:
                return None
            self._running.add(node)
        try:
            return self._build_and_go_on(node)
        except BaseException as error:
            self.done.put(error)
            raise
        finally:
            with self._ended:
                self._running.discard(node)
                self._ended.notify_all()

    def _build_and_go_on(self, node: Node) -> str | None:
        outcomes, problems = self._build(node, lambda: self._release_slot(node)), list[str | None]()
        published = [outcome for outcome in outcomes if outcome.in_production]
        if self._limit == 1:
            problems += map(self._clean_up, published)
        # Before its children are given out, so no outcome comes before its parents'.
        for outcome in outcomes:
            self.done.put(outcome)
        with self._lock:
            self._order.finish(node, outcomes)
            self._start_ready_tables()
        if self._limit > 1:
            problems += map(self._clean_up, published)
        return "\n".join(filter(None, problems)) or None

    def _release_slot(self, node: Node) -> None:
        """Let the next table begin, though this one is not published yet."""
        if self._limit > 1:
            with self._lock:
                self._order.building.discard(node)
                self._start_ready_tables()

    def _start_ready_tables(self) -> None:
        if self._stopped:
            return
        for key, failed in self._order.blocked_tables():
            skipped = self._skip(key, failed)
            self.done.put(skipped)
            self._order.finish(key, [skipped])
        while len(self._order.building) < self._limit and (node := self._order.next()) is not None:
            self._futures.append(self._pool.submit(self._run, node))


class BuildOrder:
    """Which table is built next, and which cannot be built any more.

    Attributes:
        building: The tables that have been given out and keep others from being built.
    """

    def __init__(self, catalogue: Catalogue, keys: Sequence[Key], seconds: Mapping[Key, float]) -> None:
        chosen = set(keys)
        self._parents = {key: [parent for parent in catalogue.parents(key) if parent in chosen] for key in keys}
        self._broken = {key: broken for key in keys if (broken := catalogue.broken_parents(key))}
        self._ways = _longest_ways(self._parents, seconds)
        self._sorter: graphlib.TopologicalSorter[Node] = graphlib.TopologicalSorter(_nodes(catalogue, self._parents))
        self._sorter.prepare()
        self.building: set[Node] = set()
        # Ready tables: groups, then the longest way first, then in the order of the files.
        self._ready: list[tuple[float, int, Node]] = []
        self._numbers = itertools.count()
        # For every table that was not published, the failed tables that are to blame.
        self._blame: dict[Key, tuple[Key, ...]] = {}

    def blocked_tables(self) -> Iterator[tuple[Key, tuple[Key, ...]]]:
        """Yield the tables that a failure or a broken file leaves without a parent (`finish` may make more); queue all others."""
        while nodes := self._sorter.get_ready():
            for node in nodes:
                if isinstance(node, GroupNode):
                    heapq.heappush(self._ready, (-math.inf, next(self._numbers), node))
                elif failed := self._failed_ancestors(node):
                    yield node, failed
                else:
                    heapq.heappush(self._ready, (-self._ways[node], next(self._numbers), node))

    @property
    def ready(self) -> int:
        """How many tables could be given out."""
        return len(self._ready)

    def next(self) -> Node | None:
        """Give out the table with the longest way to the end; None if none is ready."""
        if not self._ready:
            return None
        node = heapq.heappop(self._ready)[-1]
        self.building.add(node)
        return node

    def finish(self, node: Node, outcomes: Sequence[TableOutcome]) -> None:
        """Note that a node is done and what became of tables, for those that read them. A held table has no outcome yet."""
        for outcome in outcomes:
            if not outcome.in_production:
                key = outcome.table.key
                self._blame[key] = outcome.blamed or (key,)
        self.building.discard(node)
        self._sorter.done(node)

    def _failed_ancestors(self, key: Key) -> tuple[Key, ...]:
        failed = {failed for parent in self._parents[key] for failed in self._blame.get(parent, ())}
        # Never built from rows that a broken file keeps as they were, whether its own table is selected or not.
        return tuple(sorted(failed.union(self._broken.get(key, ()))))


def _nodes(catalogue: Catalogue, parents: Mapping[Key, Sequence[Key]]) -> dict[Node, list[Node]]:
    """Return what waits for what: a table of a group reads its candidates, and any other waits until they are exchanged."""
    group_of = {key: catalogue[key].publish_group for key in parents}

    def awaited(key: Key, parent: Key) -> Node:
        name = group_of[parent]
        return parent if name is None or name == group_of[key] else GroupNode(name)

    nodes: dict[Node, list[Node]] = {key: [awaited(key, each) for each in reads] for key, reads in parents.items()}
    for key, name in group_of.items():
        if name is not None:
            nodes.setdefault(GroupNode(name), []).append(key)
    return nodes


def _longest_ways(parents: Mapping[Key, Sequence[Key]], seconds: Mapping[Key, float]) -> dict[Key, float]:
    """Return for each table how long it and the slowest chain of tables that wait for it will take.

    A table without a history counts as an average one.
    """
    known = [seconds[key] for key in parents if key in seconds]
    usual = statistics.fmean(known) if known else 1.0
    ways: dict[Key, float] = {}
    # Children come before their parents here.
    for key in reversed(list(graphlib.TopologicalSorter(parents).static_order())):
        ways[key] = ways.get(key, 0.0) + seconds.get(key, usual)
        for parent in parents[key]:
            ways[parent] = max(ways.get(parent, 0.0), ways[key])
    return ways


def end_what_runs(session: Session, builders: Builders, *, warn: Callable[[str], None]) -> None:
    """End what still runs after an interruption, and say what became of it; without one, nothing does.

    A second interruption, raised while the first is dealt with, ends the waiting at once.
    """
    builders.stop()
    try:
        _cancel_until_done(session, builders, warn=warn)
    finally:
        if not builders.wait(0):
            session.give_up()
            builders.wait(GIVE_UP_SECONDS)
        for outcome in builders.untaken():
            if text := _last_word(outcome):
                warn(text)


def _cancel_until_done(session: Session, builders: Builders, *, warn: Callable[[str], None]) -> None:
    """Cancel what runs, until nothing does or Snowflake has not ended it in END_SECONDS.

    Once is not enough: a thread may send its next statement just after the cancelling. It sends no other, since it
    looks for the stop before each.
    """
    until = time.monotonic() + END_SECONDS
    while not builders.wait(0) and time.monotonic() < until:
        try:
            session.cancel()
        except Exception as error:  # noqa: BLE001 - whatever it is, the interruption itself must go on
            # Not asked again: a sign-in that fails five times locks the user.
            warn(
                f"the queries of the interrupted run could not be cancelled: {error}. Snowflake ends them when it notices "
                "that the session is gone."
            )
            return
        builders.wait(CANCEL_INTERVAL_SECONDS)


def _last_word(outcome: TableOutcome) -> str | None:
    """Return what readers see of a table whose outcome came too late to be recorded; None if it is what they saw before."""
    if outcome.published:
        return (
            f"{outcome.table.name} was published while the run was interrupted: readers see the new table, though no "
            "materialization of this run is recorded."
        )
    failure = outcome.failure
    return failure.message if failure is not None and failure.stage == "publish" else None
