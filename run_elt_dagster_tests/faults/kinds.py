"""The kinds of faults that a statement can meet: what Snowflake answers, what it has done by then, and a killed process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster_tests.simulator import DropAnswerError


@dataclass(frozen=True)
class Fault:
    """What happens to a statement.

    Attributes:
        phase: `before` it takes effect or `after`.
        effect: Snowflake's error number in the answer; `drop` for an answer that is lost with its connection; `kill` for the end
            of the process that has sent the statement.
        lasts: Whether every later statement of the same run meets it too.
    """

    phase: Literal["before", "after"]
    effect: int | Literal["drop", "kill"]
    lasts: bool = False


KILLED = Fault("after", "kill")
FAULTS: Mapping[str, Fault] = {
    "failed": Fault("before", 603),
    "refused": Fault("before", 3001),
    "cancelled": Fault("before", 604),
    "timed out": Fault("before", 630),
    "too many waiters": Fault("before", 625),
    "no warehouse": Fault("before", 606),
    "out of credits": Fault("before", 90073),
    "unavailable": Fault("before", 290503),
    "session lost": Fault("before", 390111),
    "said to be missing": Fault("before", 2003),
    "refused from here on": Fault("before", 3001, lasts=True),
    "session lost from here on": Fault("before", 390111, lasts=True),
    # With its session: the run has to sign in again before it can ask what became of the statement.
    "answer lost": Fault("after", 390111),
    "answer dropped": Fault("after", "drop"),
    "unavailable afterwards": Fault("after", 290503),
    # Snowflake reports that it did not do what it did.
    "reported as failed": Fault("after", 603),
    "reported as refused": Fault("after", 3001),
    "reported as cancelled": Fault("after", 604),
    "reported as timed out": Fault("after", 630),
    "reported as cancelled from here on": Fault("after", 604, lasts=True),
    # After each statement is before the next one, too.
    "killed": KILLED,
}
# A run that meets one of these publishes all the same.
TRANSIENT = frozenset(
    {"failed", "unavailable", "session lost", "answer lost", "answer dropped", "unavailable afterwards"}
)


def meet(fault: Fault) -> None:
    """Raise what a hook of the simulator raises for a fault.

    Raises:
        SqlError: With Snowflake's error number.
        DropAnswerError: The answer is lost.
    """
    if fault.effect == "drop":
        raise DropAnswerError
    raise SqlError("a fault", errno=fault.effect if isinstance(fault.effect, int) else 3001, sqlstate="08001")
