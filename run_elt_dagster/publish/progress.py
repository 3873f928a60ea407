"""How far a run is: which tables are being built, audited and published, which wait, and since when."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Key
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.table_run import ENDS, State

# Of many tables at work at the same time, a line names so many: those that take longest.
NAMES_SHOWN = 8
PHASES: Mapping[State, str] = {
    State.CHECK_TARGET: "building",
    State.BUILD: "building",
    State.AUDIT: "auditing",
    **{state: "publishing" for state in State if state not in {State.CHECK_TARGET, State.BUILD, State.AUDIT, *ENDS}},
}


@dataclass(frozen=True)
class Work:
    """A table at work.

    Attributes:
        name: `schema.table`.
        phase: One of the values of PHASES.
        seconds: For how long it has been in the phase.
    """

    name: str
    phase: str
    seconds: float


class Progress:
    """What is known of the tables of a run. Threads note what they do, and any thread may look.

    Attributes:
        changes: A number that is another one after each change.
        elapsed_seconds: How long the run has gone on.
    """

    def __init__(
        self,
        tables: int,
        ready: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin.

        Args:
            tables: How many the run has.
            ready: Returns how many could be built at once, if fewer were at work.
            clock: The time in seconds, for durations.
            now: The time of the day, aware.
        """
        self._tables, self._ready, self._clock, self._now = tables, ready, clock, now
        self._began = clock()
        self._lock = threading.Lock()
        self._running: dict[Key, tuple[str, float]] = {}
        self._begun: set[Key] = set()
        self._ended: Counter[str] = Counter()
        self.changes = 0

    @property
    def elapsed_seconds(self) -> float:
        """How long the run has gone on."""
        return self._clock() - self._began

    @contextmanager
    def at_work(self, key: Key) -> Generator[Callable[[State], None]]:
        """Yield what notes the state that a table enters; after that it is no longer at work."""
        self._enter(key, State.CHECK_TARGET)
        try:
            yield lambda state: self._enter(key, state)
        finally:
            with self._lock:
                self._running.pop(key, None)
                self.changes += 1

    def end(self, outcome: TableOutcome) -> None:
        """Count what became of a table."""
        with self._lock:
            self._ended[_ending_of(outcome)] += 1
            self._begun.add(outcome.table.key)
            self.changes += 1

    def work(self) -> list[Work]:
        """Return the tables at work, those first that have been in their phase for longest."""
        with self._lock:
            running = dict(self._running)
        now = self._clock()
        found = [Work(".".join(key), phase, now - since) for key, (phase, since) in running.items()]
        return sorted(found, key=lambda each: -each.seconds)

    @property
    def line(self) -> str:
        """All of it in a line, as in `3 of 12 tables published; building: a.b (since 00:41:10 UTC, 1 min 20 s)`."""
        work = self.work()
        parts = [f"{self._ended['published']:,} of {counted(self._tables, 'tables')} published"]
        parts += [f"{self._ended[end]:,} {end}" for end in ("failed", "skipped", "superseded") if self._ended[end]]
        shown = work[:NAMES_SHOWN]
        for phase in dict.fromkeys(PHASES.values()):
            if named := [self._words(each) for each in shown if each.phase == phase]:
                parts.append(f"{phase}: {', '.join(named)}")
        if len(work) > NAMES_SHOWN:
            parts.append(f"{len(work) - NAMES_SHOWN:,} more at work")
        return "; ".join([*parts, *self._waiting()])

    def _waiting(self) -> list[str]:
        waiting = max(self._tables - len(self._begun), 0)
        ready = min(self._ready(), waiting)
        slot = [f"waiting for a slot: {ready:,}"] if ready else []
        return slot + ([f"waiting for parents: {waiting - ready:,}"] if waiting > ready else [])

    def _words(self, work: Work) -> str:
        since = self._now() - timedelta(seconds=work.seconds)
        return f"{work.name} (since {since:%H:%M:%S} UTC, {_duration(work.seconds)})"

    def _enter(self, key: Key, state: State) -> None:
        phase = PHASES[state]
        with self._lock:
            self._begun.add(key)
            # Each state of publishing is a moment: the phase counts.
            if self._running.get(key, ("", 0.0))[0] != phase:
                self._running[key] = (phase, self._clock())
                self.changes += 1


def _ending_of(outcome: TableOutcome) -> str:
    if outcome.published:
        return "published"
    if outcome.skipped_because:
        return "skipped"
    return "failed" if outcome.failure is not None else "superseded"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
