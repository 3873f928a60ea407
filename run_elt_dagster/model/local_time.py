"""Times of the day in a time zone, with its summer time. Pure: moments are given, aware."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache

from run_elt_dagster.variables import parts_of_time

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


@dataclass(frozen=True)
class QuietHours:
    """A part of each day, maybe over midnight.

    Attributes:
        begin: When it begins.
        end: When it ends.
    """

    begin: TimeOfDay
    end: TimeOfDay

    @classmethod
    @cache
    def of(cls, text: str) -> "QuietHours":
        """Return quiet hours as in `22:00-07:00` (UTC) or `22:00-07:00 Europe/Berlin`.

        Raises:
            ValueError: They are written otherwise, or there is no such zone, or they would never end.
        """
        hours, _, zone = text.strip().partition(" ")
        begin, _, end = hours.partition("-")
        try:
            found = cls(TimeOfDay.of(f"{begin} {zone}"), TimeOfDay.of(f"{end} {zone}"))
        except ValueError as error:
            raise ValueError(
                "requires two times of the day with their time zone, as in 22:00-07:00 Europe/Berlin; UTC without one"
            ) from error
        if found.begin == found.end:
            raise ValueError("requires two different times: these quiet hours would never end")
        return found

    def until(self, moment: datetime) -> datetime | None:
        """Return when they end if a moment is in them, in UTC; None if it is not."""
        day = moment.astimezone(self.begin.zone).date()
        days = _DAY if self.end.time < self.begin.time else timedelta()
        for began in (day - _DAY, day):
            # Where the clocks leave their hour out, they end before they begin: there are none on that day.
            begin, end = self.begin.on(began), self.end.on(began + days)
            if begin <= moment < end:
                return end
        return None
