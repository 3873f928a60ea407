"""What is usual for a number of a table, learned from the versions that were published before. Pure.

Each version is compared with what was to be expected of it the day before: the level of the last versions, shifted by what is usual for its
weekday and for a month's first or last day. How far the versions were off is how far the next one may be off. Medians alone decide, so one wrong
version moves nothing. docs/decisions/0030-usual.md says what else was weighed, and docs/usual.md what it finds and misses.
"""

import math
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

from run_elt_dagster.model.checks import UsualNumber as Metric

# Fewer versions say nothing.
VERSIONS_NEEDED = 10
# Four ends of months.
VERSIONS_USED = 130
# The level is the median of so many versions: two weeks.
LEVEL = 14
# The first versions have nothing before them to be compared with.
_WARMED_UP = 4
# A weekday, or a month's first day, needs so many versions to have a usual of its own.
_ALIKE = 3
# How many usual errors a version may be off. The more is known, the fewer.
_WIDTH, _WIDTH_OF_FEW = 5.0, 12.0
# The median of the distances from the median, as a standard deviation: https://en.wikipedia.org/wiki/Median_absolute_deviation
_SIGMA = 1.4826
# No bound is nearer: 2 %, or a percentage point of a share. Counts of independent things vary by their root besides.
_NEAREST, _NEAREST_SHARE, _ROOTS = 0.02, 0.01, 2.0
_DECIMALS = 6


@dataclass(frozen=True)
class Version:
    """A number of a published version.

    Attributes:
        day: Of a table, when it was published, in UTC. Of a partition, its first day.
        value: The number.
    """

    day: date
    value: float


@dataclass(frozen=True)
class Usual:
    """What is usual for a version, before anybody knows what it has.

    Attributes:
        low: The least usual number.
        high: The greatest.
        known: How many versions it is learned from.
        alike: How many of them are of the same kind of day.
        day: The kind of day, as in `Monday` or `last day of a month`; empty where days make no difference.
    """

    low: float
    high: float
    known: int
    alike: int = 0
    day: str = ""

    @property
    def words(self) -> str:
        """What it is learned from, as in `12 Mondays`."""
        if self.day in WEEKDAYS:
            return f"{self.alike} {self.day}s"
        return f"{self.alike} such days" if self.day else f"{self.known} days"


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def one_a_day(versions: Sequence[Version], before: date) -> list[Version]:
    """Return the last version of each of the newest days before one, oldest first: a run that is repeated teaches once.

    Args:
        versions: In the order in which they were published.
        before: The day that is asked about. Its own versions teach nothing about it.
    """
    last = {each.day: each for each in versions if each.day < before and math.isfinite(each.value)}
    return [last[day] for day in sorted(last)][-VERSIONS_USED:]


def usual_of(versions: Sequence[Version], day: date, *, metric: Metric) -> Usual | None:
    """Return what is usual on a day; None where fewer than VERSIONS_NEEDED days are known.

    Args:
        versions: Published before, in order; several of a day count once.
        day: Of the version in question.
        metric: What the numbers are.
    """
    known = one_a_day(versions, day)
    if len(known) < VERSIONS_NEEDED:
        return None
    scale = _scale_of(metric, [each.value for each in known])
    model = _Model.of([(each.day, scale.there(each.value)) for each in known], day)
    low, high = (scale.back(bound) for bound in model.bounds())
    expected = scale.back(model.expected)
    near = _nearest(metric, expected)
    # Of a weekday that is hardly known, nothing is unusual that was there before.
    seen = [each.value for each in known] if model.alike < _ALIKE else []
    low, high = min([low, expected - near, *seen]), max([high, expected + near, *seen])
    return Usual(*_possible(metric, low, high), len(known), model.alike, model.kind)


def _possible(metric: Metric, low: float, high: float) -> tuple[float, float]:
    """Return bounds without what no number can be."""
    if metric == "null_rate":
        return max(low, 0.0), min(high, 1.0)
    if metric == "sum":
        return low, high
    # There and back on a scale, a whole number is a little off.
    return max(math.floor(round(low, _DECIMALS)), 0), math.ceil(round(high, _DECIMALS))


def _nearest(metric: Metric, expected: float) -> float:
    if metric == "null_rate":
        return _NEAREST_SHARE
    roots = 0.0 if metric == "sum" else _ROOTS * math.sqrt(max(expected, 0.0))
    return max(_NEAREST * abs(expected), roots)


@dataclass(frozen=True)
class _Scale:
    """A scale on which equal steps are equally likely, there and back."""

    there: Callable[[float], float]
    back: Callable[[float], float]


def _plain(value: float) -> float:
    return value


def _less_than_one(value: float) -> float:
    # An exponent too great for a number is no bound.
    return math.expm1(min(value, 700.0))


def _scale_of(metric: Metric, values: Sequence[float]) -> _Scale:
    """Return logarithms for what grows and shrinks by a share of itself."""
    if metric == "null_rate" or min(values) < 0:
        return _Scale(_plain, _plain)
    return _Scale(math.log1p, _less_than_one)


@dataclass(frozen=True)
class _Model:
    """What is expected of a day, and how far the days before were off.

    Attributes:
        expected: The number that is expected, on its scale.
        errors: How far the days before were from what was expected of them.
        alike: How many of those days were of the same kind.
        kind: The kind of day, empty where days make no difference.
    """

    expected: float
    errors: tuple[float, ...]
    alike: int
    kind: str

    @classmethod
    def of(cls, known: Sequence[tuple[date, float]], day: date) -> "_Model":
        """Return the model with or without weekdays, whichever has been less wrong."""
        plain, weekly = _without(known), _by_weekday(known)
        effects = weekly if _spread(_errors(known, weekly)) < _spread(_errors(known, plain)) else plain
        errors = _errors(known, effects)
        usual = median(error for _, error in errors)
        expected = _level(known, len(known), effects) + effects.get(day.weekday(), 0.0) + usual
        alike = sum(each.weekday() == day.weekday() for each, _ in known)
        kind = WEEKDAYS[day.weekday()] if effects is weekly and alike >= _ALIKE else ""
        centred = [(each, error - usual) for each, error in errors]
        special = [error for each, error in centred if _place(each) and _place(each) == _place(day)]
        if len(special) >= _ALIKE and abs(median(special)) > _SIGMA * _spread(centred):
            return cls(expected + median(special), tuple(_around(special)), len(special), _place(day))
        return cls(expected, tuple(error for _, error in centred), alike, kind)

    def bounds(self) -> tuple[float, float]:
        """Return the least and the greatest number that is usual, on the scale."""
        distance = median(abs(error) for error in self.errors)
        reach = (_WIDTH + _WIDTH_OF_FEW / len(self.errors)) * _SIGMA * distance
        return self.expected - reach, self.expected + reach


def _without(_: Sequence[tuple[date, float]]) -> Mapping[int, float]:
    return {}


def _by_weekday(known: Sequence[tuple[date, float]]) -> Mapping[int, float]:
    """Return what each weekday adds to the level around it, for weekdays with enough versions."""
    added: dict[int, list[float]] = {}
    for place, (day, value) in enumerate(known):
        around = [each for _, each in known[max(place - LEVEL // 2, 0) : place + LEVEL // 2 + 1]]
        added.setdefault(day.weekday(), []).append(value - median(around))
    return {weekday: median(values) for weekday, values in added.items() if len(values) >= _ALIKE}


def _level(known: Sequence[tuple[date, float]], place: int, effects: Mapping[int, float]) -> float:
    """Return the level before a place: the median of the versions before it, weekdays left out."""
    before = known[max(place - LEVEL, 0) : place]
    return median(value - effects.get(day.weekday(), 0.0) for day, value in before)


def _errors(known: Sequence[tuple[date, float]], effects: Mapping[int, float]) -> list[tuple[date, float]]:
    return [
        (day, value - _level(known, place, effects) - effects.get(day.weekday(), 0.0))
        for place, (day, value) in enumerate(known)
        if place >= _WARMED_UP
    ]


def _spread(errors: Sequence[tuple[date, float]]) -> float:
    middle = median(error for _, error in errors)
    return median(abs(error - middle) for _, error in errors)


def _around(values: Sequence[float]) -> list[float]:
    middle = median(values)
    return [value - middle for value in values]


def _place(day: date) -> str:
    """Return whether a day begins or ends a month, in words; empty for any other."""
    if day.day == 1:
        return "first day of a month"
    return "last day of a month" if day.day == monthrange(day.year, day.month)[1] else ""
