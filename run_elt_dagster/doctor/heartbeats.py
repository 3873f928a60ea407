"""Whether more than one daemon works on a history, by the order of their heartbeats.

Dagster keeps one heartbeat for each kind of daemon, with the id of the process that gave it, and each process writes every
30 s. So two processes overwrite each other in turn. A process that was started anew has a new id too, but its old id never
comes back.
"""

import time
from collections.abc import Callable, Mapping

BEAT_SECONDS = 30
# Some slack for a daemon that is busy when its heartbeat is due.
TURN_SECONDS = BEAT_SECONDS + 6
LOOK_SECONDS = 0.5

Beats = Mapping[str, tuple[str, float]]
"""By kind of daemon: the id of the process that gave the last heartbeat, and when, in seconds since 1970."""


class Turns:
    """What was seen of the heartbeats so far. Pure."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[str, float]]] = {}

    def add(self, beats: Beats) -> None:
        """Note the present heartbeats."""
        for kind, beat in beats.items():
            seen = self._seen.setdefault(kind, [])
            if not seen or seen[-1] != beat:
                seen.append(beat)

    @property
    def ids(self) -> tuple[str, ...]:
        """The processes that gave a heartbeat, sorted."""
        return tuple(sorted({process for seen in self._seen.values() for process, _ in seen}))

    @property
    def are_taken(self) -> bool:
        """Whether a process gave a heartbeat, then another one, then the first again: both live."""
        return any(_comes_back([process for process, _ in seen]) for seen in self._seen.values())

    @property
    def are_complete(self) -> bool:
        """Whether every kind has a new heartbeat, and all are of one process: a second would have come in between."""
        return len(self.ids) == 1 and all(len(seen) > 1 for seen in self._seen.values())


def _comes_back(ids: list[str]) -> bool:
    changes = [process for process, before in zip(ids, ["", *ids], strict=False) if process != before]
    return len(changes) > len(set(changes))


def daemons_at_work(
    read: Callable[[], Beats],
    *,
    turn_seconds: float = TURN_SECONDS,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[str, ...]:
    """Return the ids of the daemons that give heartbeats. It takes up to 30 s to see one, and up to 72 s to see two.

    Args:
        read: Returns the present heartbeats.
        turn_seconds: Within what time every daemon gives one.
        wait: Waits so many seconds.
        clock: The time in seconds.
    """
    turns = Turns()
    until, known = clock() + turn_seconds, 1
    while True:
        beats = read()
        turns.add(beats)
        if turns.are_taken or turns.are_complete:
            return turns.ids
        if len(turns.ids) > known:
            # A second one, or the first started anew: the first has another turn to come back.
            until, known = clock() + turn_seconds, len(turns.ids)
        if clock() > until:
            return tuple(process for process, _ in sorted(beats.values(), key=lambda beat: beat[1])[-1:])
        wait(LOOK_SECONDS)
