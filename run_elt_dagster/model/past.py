"""What is known of the versions of a table that were published before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from run_elt_dagster.model.names import Key


@dataclass(frozen=True)
class PublishedNumbers:
    """The numbers of one published version, as its materialization has them.

    Attributes:
        day: Of a table, when it was published, in UTC. Of a partition, its first day.
        numbers: By their names, as in `rows` and `null_rate_email`.
        hour: What follows the day in the key of a partition by hour; empty for any other.
    """

    day: date
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    hour: str = ""


Past = Callable[[Key, Sequence[str]], Sequence[PublishedNumbers]]
"""Returns the versions of a table in the order in which they were published, those of some partitions if there are any."""
