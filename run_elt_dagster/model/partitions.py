"""Parts of a table by time: what a file declares of them, which there are, and the slice of them that a run builds. Pure.

All instants are UTC. A partition is half-open: its end belongs to the next one. Its key is the one that Dagster gives it.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from run_elt_dagster.model.fields import Column, LocatedError, Strict
from run_elt_dagster.model.names import quote_identifier, stored_name
from run_elt_dagster.model.time_literals import DATE, NTZ, TIMES, declared_time, time_literal

Unit = Literal["hour", "day", "week", "month"]

# Each schema with tables whose rows are exchanged in parts has a table of this name. It holds what is published of each.
PARTITIONS_TABLE = "RUN_ELT_PARTITIONS"

# Dagster's formats of keys (1.13.27), where a file gives no other.
_HOUR_FORMAT, _DAY_FORMAT = "%Y-%m-%d-%H:%M", "%Y-%m-%d"
# A Monday: https://docs.snowflake.com/en/sql-reference/functions/date_trunc counts weeks from it too, where WEEK_START is 0 or 1.
_ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
_LENGTHS: Mapping[str, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_MONTHS = 12
_FIRST_MOMENTS: Mapping[str, str] = {
    "hour": "an hour, as in 2024-01-01 05:00:00",
    "day": "a day in UTC, as in 2024-01-01",
    "week": "a Monday in UTC, as in 2024-01-01",
    "month": "a month in UTC, as in 2024-01-01",
}
_LAST_YEAR = 9998


@dataclass(frozen=True)
class Partition:
    """One part of a table.

    Attributes:
        key: As Dagster has it: `2024-01-01`, or `2024-01-01-05:00` of an hour.
        start: Its first moment, aware, UTC.
        end: The first moment after it, aware, UTC.
    """

    key: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Slice:
    """Partitions that one run builds as one candidate: contiguous, in order, one at least."""

    partitions: tuple[Partition, ...]

    def __post_init__(self) -> None:
        if not self.partitions:
            raise ValueError(
                "a slice requires a partition, got none. Nothing was built. Name one, or a range with its start first."
            )
        for earlier, later in itertools.pairwise(self.partitions):
            if earlier.end != later.start:
                raise ValueError(
                    f"a slice requires partitions that follow each other, got {earlier.key} and then {later.key}. Nothing was "
                    "built. Build them in runs of their own."
                )

    @property
    def start(self) -> datetime:
        """The first moment."""
        return self.partitions[0].start

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return self.partitions[-1].end

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its partitions, in order."""
        return tuple(partition.key for partition in self.partitions)

    @property
    def words(self) -> str:
        """The partitions for a person: `2024-01-01`, or `2024-01-01 to 2024-01-07 (7 partitions)`."""
        return range_words(self.keys)

    def pieces(self, keys: Collection[str]) -> tuple[tuple[datetime, datetime], ...]:
        """Return start and end of each contiguous piece that some of its partitions make, in order.

        Raises:
            ValueError: A key is none of the slice.
        """
        if unknown := sorted(set(keys) - set(self.keys)):
            raise ValueError(f"a piece requires partitions of {self.words}, got {unknown[0]}.")
        pieces: list[tuple[datetime, datetime]] = []
        for partition in self.partitions:
            if partition.key not in keys:
                continue
            if pieces and pieces[-1][1] == partition.start:
                pieces[-1] = (pieces[-1][0], partition.end)
            else:
                pieces.append((partition.start, partition.end))
        return tuple(pieces)


def contiguous(partitions: Iterable[Partition]) -> tuple[Slice, ...]:
    """Return partitions as slices without a gap, as few as there can be, in order."""
    pieces: list[list[Partition]] = []
    for partition in sorted(set(partitions), key=lambda each: each.start):
        if pieces and pieces[-1][-1].end == partition.start:
            pieces[-1].append(partition)
        else:
            pieces.append([partition])
    return tuple(Slice(tuple(piece)) for piece in pieces)


def range_words(keys: Iterable[str]) -> str:
    """Return contiguous partitions for a person: `2024-01-01`, or `2024-01-01 to 2024-01-07 (7 partitions)`."""
    keys = tuple(keys)
    return keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]} ({len(keys)} partitions)"


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise ValueError("requires a date or a timestamp, unquoted, as in 2024-01-01")


def _has_a_next_one(value: datetime) -> datetime:
    if value.year > _LAST_YEAR:
        raise ValueError(f"requires a year of at most {_LAST_YEAR}")
    return value


_Instant = Annotated[
    datetime, BeforeValidator(_instant, json_schema_input_type=date | datetime), AfterValidator(_has_a_next_one)
]


class Partitioning(Strict):
    """The parts of a table by time. A run builds, audits and publishes some of them, and leaves the others as they are.

    Attributes:
        by: The length of a partition, in UTC. Weeks begin on Monday.
        column: The column with the time of a row. It is never NULL.
        start: The first moment of the first partition: a date, or a timestamp.
        end: The first moment after the last partition. Without it there is a new partition as time passes.
        lookback: How many partitions before the newest one the schedule builds again, for rows that come late.
        max_per_run: How many partitions the schedule asks of one run at most, where it has missed more.
    """

    by: Unit
    column: Column
    start: _Instant
    end: _Instant | None = None
    lookback: Annotated[int, Field(ge=0, strict=True)] = 0
    max_per_run: Annotated[int, Field(ge=1, strict=True)] | None = None

    @model_validator(mode="after")
    def _bounds_are_bounds_of_partitions(self) -> "Partitioning":
        for name, bound in (("start", self.start), ("end", self.end)):
            if bound is not None and self._begins(self._number(bound)) != bound:
                raise LocatedError(
                    f"requires the first moment of {_FIRST_MOMENTS[self.by]}, got {bound:%Y-%m-%d %H:%M:%S}",
                    location=(name,),
                )
        if self.end is not None and self.end <= self.start:
            raise LocatedError(
                f"requires an end after start, got {self.end:%Y-%m-%d %H:%M:%S}. There would be no partition",
                location=("end",),
            )
        if self.max_per_run is not None and self.max_per_run <= self.lookback:
            raise LocatedError(
                f"requires more than lookback, got {self.max_per_run} and lookback {self.lookback}. No run could build both the "
                "newest partition and those before it",
                location=("max_per_run",),
            )
        return self

    @property
    def stored_column(self) -> str:
        """The column's name as Snowflake stores it."""
        return stored_name(self.column)

    @property
    def longest(self) -> timedelta:
        """The length of its longest partition."""
        return _LENGTHS.get(self.by, timedelta(days=31))

    @property
    def key_format(self) -> str:
        """How a partition's start is written as its key."""
        return _HOUR_FORMAT if self.by == "hour" else _DAY_FORMAT

    def partitions(self, until: datetime) -> tuple[Partition, ...]:
        """Return the partitions that are over at a moment, in order; none where the first one is not."""
        return tuple(self._partition(number) for number in range(self._number(self.start), self._stop(until)))

    def newest(self, until: datetime) -> Partition | None:
        """Return the newest partition that is over at a moment; None where the first one is not."""
        stop = self._stop(until)
        return self._partition(stop - 1) if stop > self._number(self.start) else None

    def last(self, until: datetime, count: int) -> tuple[Partition, ...]:
        """Return the newest partitions that are over at a moment, so many at most, in order."""
        stop = self._stop(until)
        return tuple(map(self._partition, range(max(self._number(self.start), stop - count), stop)))

    def due(self, now: datetime, lookback: int) -> tuple[Partition, ...]:
        """Return the partition that has just ended at a moment, and so many before it, in order; none long after `end`."""
        current = self._number(now)
        first = max(self._number(self.start), current - 1 - lookback)
        return tuple(map(self._partition, range(first, self._stop(now))))

    def partition(self, key: str) -> Partition:
        """Return the partition of a key.

        Raises:
            ValueError: There is none, not now and not later.
        """
        found = self._with_key(key)
        if found is None:
            end = f" and before {self.end.strftime(self.key_format)}" if self.end is not None else ""
            raise ValueError(
                f"a partition by {self.by} requires a key like {self._partition(self._number(self.start)).key}, not before that"
                f"{end}, got {key[:40]}."
            )
        return found

    def slice(self, keys: Iterable[str]) -> Slice:
        """Return the slice of some keys, in any order.

        Raises:
            ValueError: There is no key, or one without a partition, or they leave one out in between.
        """
        found = {self.partition(key) for key in keys}
        return Slice(tuple(sorted(found, key=lambda partition: partition.start)))

    def between(self, first: str, last: str) -> Slice:
        """Return the slice from one key to another, both included.

        Raises:
            ValueError: A key has no partition, or the first one is later than the last one.
        """
        start, end = self.partition(first), self.partition(last)
        if start.start > end.start:
            raise ValueError(
                f"a range requires its earlier partition first, got {first}...{last}. Write {last}...{first}."
            )
        return Slice(tuple(map(self._partition, range(self._number(start.start), self._number(end.start) + 1))))

    def predicate(self, start: datetime, end: datetime, declared_type: str | None = None) -> str:
        """Return the condition that a row's time is in a piece: the column bare, so Snowflake prunes, and typed literals.

        Args:
            start: The first moment, aware.
            end: The first moment after it, aware.
            declared_type: The column's type as the file declares it, None if it does not.
        """
        column = quote_identifier(self.stored_column)
        low, high = (self.literal(each, declared_type) for each in (start, end))
        return f"{column} >= {low} AND {column} < {high}"

    def literal(self, instant: datetime, declared_type: str | None = None) -> str:
        """Return a moment as a literal of the column's type."""
        return time_literal(instant, self.literal_type(declared_type))

    def literal_type(self, declared_type: str | None) -> str:
        """Return the type of the literals: the declared one; else TIMESTAMP_NTZ for hours, and DATE for all that is longer.

        A DATE is compared with a TIMESTAMP_NTZ as its midnight. A column with a time zone has to be declared.

        Raises:
            ValueError: The column is declared as something else than a time, or as one whose meaning an account decides.
        """
        if declared_type is None:
            return NTZ if self.by == "hour" else DATE
        return declared_time(declared_type, TIMES[1:] if self.by == "hour" else TIMES)

    def _with_key(self, key: str) -> Partition | None:
        try:
            number = self._number(datetime.strptime(key, self.key_format).replace(tzinfo=UTC))
        except ValueError:
            return None
        stop = self._number(self.end) if self.end is not None else number + 1
        # strptime takes 2024-1-1 too: that is no key.
        found = self._partition(number) if self._number(self.start) <= number < stop else None
        return found if found is not None and found.key == key else None

    def _stop(self, until: datetime) -> int:
        """Return the number of the first partition that is not over."""
        return self._number(min(until, self.end) if self.end is not None else until)

    def _partition(self, number: int) -> Partition:
        start = self._begins(number)
        return Partition(start.strftime(self.key_format), start, self._begins(number + 1))

    def _number(self, instant: datetime) -> int:
        """Return which hour, day, week or month since a fixed one an instant is in."""
        instant = instant.astimezone(UTC)
        if self.by == "month":
            return instant.year * _MONTHS + instant.month - 1
        return (instant - _ORIGIN) // _LENGTHS[self.by]

    def _begins(self, number: int) -> datetime:
        if self.by == "month":
            year, month = divmod(number, _MONTHS)
            return datetime(year, month + 1, 1, tzinfo=UTC)
        return _ORIGIN + number * _LENGTHS[self.by]
