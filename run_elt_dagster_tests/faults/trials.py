"""What a trial is: it has a name that repeats it, and an outcome."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from run_elt_dagster_tests.faults.oracle import Problem


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    Attributes:
        kind: Of the trial, for the figures.
        problems: What it found, nothing where all is as promised.
        is_void: Whether nothing happened to anybody, since the run sent no such statement this time: it does not count.
    """

    kind: str
    problems: tuple[Problem, ...] = ()
    is_void: bool = False


class Trials(Protocol):
    """Trials of one sort, on a server of their own."""

    def names(self, seed: int) -> Iterator[str]:
        """Yield the names of trials without an end, the same for the same seed."""
        ...

    def run(self, name: str) -> Outcome:
        """Try one."""
        ...
