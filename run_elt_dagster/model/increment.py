"""A table that grows at its end: what a file declares of it, and where an increment begins. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import Field

from run_elt_dagster.model.fields import Column, Hours, SomeColumns, Strict
from run_elt_dagster.model.names import stored_name
from run_elt_dagster.model.time_literals import NTZ, TIMES, time_literal

# What `{increment_start}` is where all rows are built: the first moment that Snowflake and Python both have.
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
# Behind the words of a start of a column with a time zone.
_ZONE = " +00:00"
# More than ten years.
MOST_HOURS = 100_000


@dataclass(frozen=True)
class Start:
    """Where an increment begins: it has the rows of this moment and all later ones.

    Attributes:
        at: The moment, aware, UTC, without fractions of a second. Of a column without a time zone, its digits count.
        type: The type of the column: a date or a timestamp.
    """

    at: datetime
    type: str = NTZ

    @property
    def literal(self) -> str:
        """It as SQL."""
        return time_literal(self.at, self.type)

    @property
    def words(self) -> str:
        """It for a person, as the column has it: `2024-01-31 10:00:00`."""
        return self.literal[1:].partition("'")[0]


class Increment(Strict):
    """How the rows of a table are found that are new or changed. A run builds, audits and merges them, and leaves the others as they are.

    Attributes:
        column: The column with the time when a row was written or changed last. It is never NULL.
        key: The columns that identify a row. A row takes the place of the published one with its key. They are never NULL.
        lookback_hours: How many hours before the newest published row an increment begins, for rows that come late.
    """

    column: Column
    key: SomeColumns
    lookback_hours: Annotated[Hours, Field(ge=0, le=MOST_HOURS)] = 0

    @property
    def stored_column(self) -> str:
        """The column's name as Snowflake stores it."""
        return stored_name(self.column)

    @property
    def stored_key(self) -> tuple[str, ...]:
        """The names of the key's columns as Snowflake stores them."""
        return tuple(map(stored_name, self.key))

    def start(self, newest: date | datetime, *, snapshot_at: datetime | None) -> Start:
        """Return where the next increment begins.

        A row may have a time in the future, by mistake or by the clock of its writer. All rows after it would be missed. So an
        increment never begins after the moment when the last published one was read.

        Args:
            newest: The latest time of a published row, as the connector gives it. Without a time zone, it counts as UTC.
            snapshot_at: When what is published was read, aware; None where that is not known.
        """
        kind = _type_of(newest)
        latest = _aware(newest)
        if snapshot_at is not None:
            latest = min(latest, snapshot_at)
        lookback = min(timedelta(hours=self.lookback_hours), latest - BEGINNING)
        return Start((latest - lookback).replace(microsecond=0), kind)


def start_of(words: str) -> Start:
    """Return a start by its words.

    Raises:
        ValueError: They are none.
    """
    digits, zone, _ = words.partition(_ZONE)
    moment = datetime.fromisoformat(digits).replace(tzinfo=UTC)
    kind = TIMES[2] if zone else NTZ
    return Start(moment, kind if " " in digits else TIMES[0])


def start_at(moment: date | datetime) -> Start:
    """Return a start at a moment itself, as a person has written it."""
    return Start(_aware(moment).replace(microsecond=0), _type_of(moment))


def _type_of(moment: date | datetime) -> str:
    if not isinstance(moment, datetime):
        return TIMES[0]
    return NTZ if moment.tzinfo is None else TIMES[2]


def _aware(moment: date | datetime) -> datetime:
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
