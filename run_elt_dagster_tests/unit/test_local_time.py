from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from run_elt_dagster.model.local_time import QuietHours, TimeOfDay
from run_elt_dagster.settings import AlertSettings


@pytest.mark.parametrize(
    ("text", "day", "at"),
    [
        ("08:00", date(2026, 7, 1), datetime(2026, 7, 1, 8, tzinfo=UTC)),
        ("08:00 Europe/Berlin", date(2026, 7, 1), datetime(2026, 7, 1, 6, tzinfo=UTC)),
        ("08:00 Europe/Berlin", date(2026, 12, 1), datetime(2026, 12, 1, 7, tzinfo=UTC)),
        # The clocks leave 02:30 out on this day, and have it twice on the other.
        ("02:30 Europe/Berlin", date(2026, 3, 29), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("02:30 Europe/Berlin", date(2026, 10, 25), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_time_of_the_day_is_that_of_its_zone_with_summer_time(text: str, day: date, at: datetime) -> None:
    assert TimeOfDay.of(text).on(day) == at


def test_time_of_the_day_comes_once_a_day_also_when_the_clocks_change() -> None:
    time, at = TimeOfDay.of("02:30 Europe/Berlin"), datetime(2026, 3, 27, 12, tzinfo=UTC)
    found: list[date] = []
    for _ in range(220):
        at = time.next_after(at)
        found.append(at.date())
    assert [(later - earlier).days for earlier, later in pairwise(found)] == [1] * 219


@pytest.mark.parametrize("text", ["8:00", "24:00", "08:00 Mars/Olympus", "08:00:00", "morning", ""])
def test_wrong_time_of_the_day_is_a_wrong_setting(text: str) -> None:
    with pytest.raises(ValueError, match="a time of the day with its time zone, as in 08:00 Europe/Berlin"):
        AlertSettings(digest_at=text)


@pytest.mark.parametrize(
    ("text", "moment", "until"),
    [
        ("22:00-07:00 Europe/Berlin", datetime(2026, 7, 1, 19, 59, tzinfo=UTC), None),
        ("22:00-07:00 Europe/Berlin", datetime(2026, 7, 1, 20, 0, tzinfo=UTC), datetime(2026, 7, 2, 5, tzinfo=UTC)),
        ("22:00-07:00 Europe/Berlin", datetime(2026, 7, 2, 4, 59, tzinfo=UTC), datetime(2026, 7, 2, 5, tzinfo=UTC)),
        ("22:00-07:00 Europe/Berlin", datetime(2026, 7, 2, 5, 0, tzinfo=UTC), None),
        # Summer time begins and ends in these nights: they last 8 and 10 hours.
        ("22:00-07:00 Europe/Berlin", datetime(2026, 3, 28, 21, tzinfo=UTC), datetime(2026, 3, 29, 5, tzinfo=UTC)),
        ("22:00-07:00 Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC), datetime(2026, 10, 25, 6, tzinfo=UTC)),
        # The clocks leave this hour out in that night.
        ("02:00-03:00 Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC), None),
        ("02:30-03:00 Europe/Berlin", datetime(2026, 3, 29, 1, 30, tzinfo=UTC), None),
        ("12:00-13:00", datetime(2026, 7, 1, 12, 30, tzinfo=UTC), datetime(2026, 7, 1, 13, tzinfo=UTC)),
    ],
)
def test_quiet_hours_end_at_their_local_time(text: str, moment: datetime, until: datetime | None) -> None:
    assert QuietHours.of(text).until(moment) == until
