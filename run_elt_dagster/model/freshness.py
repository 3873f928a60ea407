"""How old the rows of a table may be for its readers, and when they are too old. Pure: moments are given, aware and in UTC."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from run_elt_dagster.model.fields import LocatedError, Strict
from run_elt_dagster.model.partitions import Partitioning

_DURATION = re.compile(r"([1-9][0-9]{0,4})\s*([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
# Five fields of numbers, names and their signs, or a name such as @daily. Six fields would mean seconds, and `R` a moment at random.
_FIELD = r"(?:[0-9*,/#?-]|mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|l)+"
_CRON = re.compile(
    rf"@(?:hourly|daily|midnight|weekly|monthly|yearly|annually)|{_FIELD}(?:\s+{_FIELD}){{4}}", re.IGNORECASE
)
# So many deadlines show the shortest time between two: more than a year of days.
_DEADLINES_READ = 400
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def duration(value: Any) -> timedelta:
    """Return a time that an author writes as `90m`, `26h` or `7d`.

    Raises:
        ValueError: It is written otherwise.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("requires minutes, hours or days, as in 90m, 26h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def in_words(allowed: timedelta) -> str:
    """Return a time of whole minutes in the largest unit that leaves no rest, as in `26 h`. A day is 24 h."""
    minutes = int(allowed.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60
    if days > 1 and minutes % 1440 == 0:
        return f"{days} days"
    return f"{hours} h" if minutes % 60 == 0 else f"{minutes} min"


def _cron(value: str) -> str:
    from croniter import croniter  # noqa: PLC0415 - only a table with such a rule needs it

    text = " ".join(value.split())
    if not _CRON.fullmatch(text) or not croniter.is_valid(text):
        raise ValueError("requires a cron of five fields in UTC, as in '0 6 * * *'")
    try:
        croniter(text, _SOME_DAY).get_next()
    except ValueError as error:
        raise ValueError("requires a cron with a day that comes") from error
    return text


def deadline_before(cron: str, now: datetime) -> datetime:
    """Return the last moment of a cron at or before a moment. UTC has no summer time: no day has a deadline twice or none."""
    return _deadline_before(cron, now.astimezone(UTC).replace(second=0, microsecond=0))


@lru_cache(maxsize=1000)
def _deadline_before(cron: str, minute: datetime) -> datetime:
    from croniter import croniter  # noqa: PLC0415 - only a table with such a rule needs it

    found: datetime = croniter(cron, minute + timedelta(minutes=1), ret_type=datetime).get_prev()
    return found


@lru_cache(maxsize=1000)
def shortest_interval(cron: str) -> timedelta:
    """Return the shortest time between two deadlines of a cron."""
    from croniter import croniter  # noqa: PLC0415 - only a table with such a rule needs it

    deadlines = croniter(cron, _SOME_DAY, ret_type=datetime)
    return min(later - earlier for earlier, later in pairwise([deadlines.get_next() for _ in range(_DEADLINES_READ)]))


_Duration = Annotated[timedelta, BeforeValidator(duration, json_schema_input_type=str)]


class FreshWithin(Strict):
    """How old the rows that readers see may be: an age at any time, or the age at certain moments.

    Attributes:
        fail: The age at which the table is late, as in `26h`.
        warn: The age at which the UI warns; None for no warning.
        by: When the table must have been built, as a cron of five fields in UTC: `0 6 * * *` for each day at 6:00.
        max_age: How old the build may be at these moments. Left out, the time between two of them.
    """

    fail: _Duration | None = None
    warn: _Duration | None = None
    by: Annotated[str, AfterValidator(_cron)] | None = None
    max_age: _Duration | None = None

    @model_validator(mode="after")
    def _is_one_rule(self) -> "FreshWithin":
        if (self.fail is None) == (self.by is None):
            raise ValueError("requires either fail or by")
        if self.warn is not None and (self.fail is None or self.warn >= self.fail):
            raise LocatedError("requires a warn shorter than fail", location=("warn",))
        if self.max_age is None:
            return self
        if self.by is None:
            raise LocatedError("requires by beside it: with fail, it would say the same twice", location=("max_age",))
        if self.max_age > (most := shortest_interval(self.by)):
            raise LocatedError(
                f"requires at most the time between two deadlines, {in_words(most)}: one build would do for two",
                location=("max_age",),
            )
        return self

    @property
    def age_at_deadline(self) -> timedelta:
        """How old a build may be at a deadline of `by`."""
        return self.max_age or (shortest_interval(self.by) if self.by else timedelta())

    @property
    def words(self) -> str:
        """The rule for a person: `at most 26 h old`, or `built by 0 6 * * * (UTC), at most 6 h before`."""
        if self.fail is not None:
            return f"at most {in_words(self.fail)} old"
        return f"built by `{self.by}` (UTC), at most {in_words(self.age_at_deadline)} before"

    def late_since(self, fresh_at: datetime | None, *, since: datetime, now: datetime) -> datetime | None:
        """Return since when a table that is built whole is late at a moment; None if it is not.

        Args:
            fresh_at: When the rows that readers see were built; None if they never were.
            since: From when on it is expected, for a table that was never built.
            now: The moment.
        """
        if self.fail is not None:
            late = (fresh_at or since) + self.fail
            return late if now > late else None
        deadline = deadline_before(self.by or "", now)
        if fresh_at is None:
            return deadline if deadline > since else None
        return deadline if fresh_at < deadline - self.age_at_deadline else None

    def parts_late_since(
        self, parts: Partitioning, newest: datetime | None, *, since: datetime, now: datetime
    ) -> datetime | None:
        """Return since when a table that is built in partitions is late at a moment; None if it is not.

        Its rows are as old as the end of its newest partition. A partition that is not over is not missed.

        Args:
            parts: Its partitions.
            newest: The end of the newest partition that was published; None if none was.
            since: From when on it is expected, for a table without a published partition.
            now: The moment.
        """
        at = now if self.by is None else deadline_before(self.by, now)
        over = parts.newest(at)
        if over is None or (newest is not None and newest >= over.end):
            return None
        if self.fail is not None:
            late = (newest or since) + self.fail
            return late if now > late else None
        return at if newest is not None or at > since else None


def fresh_rule(value: Any) -> Any:
    """Return the mapping behind the short form: an age, or a cron."""
    if isinstance(value, Mapping) or not isinstance(value, str):
        return value if isinstance(value, Mapping) else {"fail": value}
    return {"by": value} if " " in value.strip() or value.startswith("@") else {"fail": value}


FreshRule = Annotated[FreshWithin, BeforeValidator(fresh_rule, json_schema_input_type=FreshWithin | str)]
