"""Times of the day in a time zone, with its summer time. Pure: moments are given, aware."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from run_elt_dagster.settings import parts_of_time

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TimeOfDay:
    """A time that comes once a day.

    Attributes:
        time: Hour and minute.
        zone: Of which zone.
    """

    time: time
    zone: tzinfo

    @classmethod
    def of(cls, text: str) -> "TimeOfDay":
        """Return a time as in `08:00` (UTC) or `08:00 Europe/Berlin`.

        Raises:
            ValueError: It is written otherwise, or there is no such zone.
        """
        return cls(*parts_of_time(text))

    def on(self, day: date) -> datetime:
        """Return the moment of a day there, in UTC.

        An hour that the clocks leave out comes an hour later, and of one that comes twice the first counts:
        https://docs.python.org/3/library/datetime.html#datetime.datetime.fold.
        """
        return datetime.combine(day, self.time, self.zone).astimezone(UTC)

    def next_after(self, moment: datetime) -> datetime:
        """Return the first one after a moment, in UTC."""
        day = moment.astimezone(self.zone).date()
        return next(at for number in range(3) if (at := self.on(day + number * _DAY)) > moment)
