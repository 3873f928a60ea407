"""How the rows of a result differ from those that a case expects: missing, unexpected and changed ones. Pure."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from run_elt_dagster.testing.values import shown

Values = tuple[Any, ...]
Agree = Callable[[Any, Any], bool]
# A line is as long as its cells: a pipe and a report have no width.
_NO_WIDTH = 10_000
# More pairs than these are not compared for the best match: a test with so many wrong rows is read by its first ones.
_MOST_PAIRS = 250_000
ROWS_SHOWN = 50


@dataclass(frozen=True)
class Difference:
    """Rows that differ, in the order of the file and of the result.

    Attributes:
        columns: Names of the compared columns.
        changed: Pairs of an expected row and the one that came in its place.
        missing: Expected rows that did not come.
        unexpected: Rows that came and are not expected.
        misplaced: Where the rows are the expected ones in another order: the first expected row that is not at its place, and
            what stands there.
    """

    columns: tuple[str, ...]
    changed: tuple[tuple[Values, Values], ...] = ()
    missing: tuple[Values, ...] = ()
    unexpected: tuple[Values, ...] = ()
    misplaced: tuple[tuple[int, Values, Values], ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.changed or self.missing or self.unexpected or self.misplaced)

    def as_mapping(self) -> dict[str, Any]:
        """Return it for a program, values as a person reads them."""
        return {
            "columns": list(self.columns),
            "changed": [{"expected": _texts(one), "got": _texts(other)} for one, other in self.changed],
            "missing": list(map(_texts, self.missing)),
            "unexpected": list(map(_texts, self.unexpected)),
            "misplaced": [
                {"row": number, "expected": _texts(one), "got": _texts(other)} for number, one, other in self.misplaced
            ],
        }


@dataclass(frozen=True)
class Comparison:
    """How rows are compared.

    Attributes:
        columns: Names of the columns.
        key: Places of the columns that identify a row; empty if nothing does.
        ordered: Whether the order counts.
        agree: For each column, whether two values of it are the same.
    """

    columns: tuple[str, ...]
    agree: Sequence[Agree]
    key: tuple[int, ...] = ()
    ordered: bool = False

    def difference(self, expected: Sequence[Values], found: Sequence[Values]) -> Difference:
        """Return how found rows differ from the expected ones. Equal rows count as often as they stand there."""
        missing, unexpected = self._without_same(expected, found)
        pairs = self._by_key(missing, unexpected) if self.key else self._by_likeness(missing, unexpected)
        changed = tuple((missing[one], unexpected[other]) for one, other in pairs)
        ones, others = {one for one, _ in pairs}, {other for _, other in pairs}
        left = Difference(
            self.columns,
            changed,
            tuple(row for place, row in enumerate(missing) if place not in ones),
            tuple(row for place, row in enumerate(unexpected) if place not in others),
        )
        return (
            left if left or not self.ordered else Difference(self.columns, misplaced=self._misplaced(expected, found))
        )

    def same(self, one: Values, other: Values) -> bool:
        """Return whether two rows are the same."""
        return all(agree(*pair) for agree, pair in zip(self.agree, zip(one, other, strict=True), strict=True))

    def _without_same(self, expected: Sequence[Values], found: Sequence[Values]) -> tuple[list[Values], list[Values]]:
        """Return the rows of each side that the other has not."""
        missing, unexpected = _left(expected, found), _left(found, expected)
        # What is not equal may still be the same: numbers that are only close to each other.
        kept: list[Values] = []
        for row in missing:
            place = next((place for place, other in enumerate(unexpected) if self.same(row, other)), None)
            if place is None:
                kept.append(row)
            else:
                del unexpected[place]
        return kept, unexpected

    def _by_key(self, missing: Sequence[Values], unexpected: Sequence[Values]) -> list[tuple[int, int]]:
        """Return the places of the rows with one key; a key that several rows have pairs none."""
        ones, others = self._keyed(missing), self._keyed(unexpected)
        return [(place, others[key]) for key, place in ones.items() if key in others]

    def _keyed(self, rows: Sequence[Values]) -> dict[Hashable, int]:
        keys = [tuple(row[place] for place in self.key) for row in rows]
        counted = Counter(keys)
        return {key: place for place, key in enumerate(keys) if counted[key] == 1}

    def _by_likeness(self, missing: Sequence[Values], unexpected: Sequence[Values]) -> list[tuple[int, int]]:
        """Return the places of the rows that are most alike: they have half of their cells in common at least."""
        if len(missing) * len(unexpected) > _MOST_PAIRS:
            return []
        likeness = [
            (self._same_cells(one, other), place, at)
            for place, one in enumerate(missing)
            for at, other in enumerate(unexpected)
        ]
        pairs: dict[int, int] = {}
        for cells, place, at in sorted(likeness, key=lambda each: (-each[0], each[1], each[2])):
            if cells and 2 * cells >= len(self.columns) and place not in pairs and at not in pairs.values():
                pairs[place] = at
        return sorted(pairs.items())

    def _same_cells(self, one: Values, other: Values) -> int:
        return sum(agree(*pair) for agree, pair in zip(self.agree, zip(one, other, strict=True), strict=True))

    def _misplaced(self, expected: Sequence[Values], found: Sequence[Values]) -> tuple[tuple[int, Values, Values], ...]:
        places = ((number, *pair) for number, pair in enumerate(zip(expected, found, strict=True), start=1))
        return tuple((number, one, other) for number, one, other in places if not self.same(one, other))[:1]


def _left(rows: Sequence[Values], others: Sequence[Values]) -> list[Values]:
    """Return the rows without those that the others have too, as often as they have them."""
    there = Counter(others)
    kept: list[Values] = []
    for row in rows:
        if there[row]:
            there[row] -= 1
        else:
            kept.append(row)
    return kept


def _texts(row: Values) -> list[str]:
    return list(map(shown, row))


def lines(difference: Difference, agree: Sequence[Agree]) -> list[str]:
    """Return a difference for a person, its columns in line. A changed cell shows `expected -> got`."""
    rows = [
        *(("changed", _changed(one, other, agree)) for one, other in difference.changed),
        *(("missing", _texts(row)) for row in difference.missing),
        *(("unexpected", _texts(row)) for row in difference.unexpected),
    ]
    for number, one, other in difference.misplaced:
        rows += [(f"expected row {number}", _texts(one)), (f"got row {number}", _texts(other))]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", *difference.columns):
        table.add_column(Text(name), no_wrap=True)
    for kind, cells in rows[:ROWS_SHOWN]:
        table.add_row(*(Text(cell) for cell in (kind, *cells)))
    console = Console(file=StringIO(), width=_NO_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    more = [f"and {len(rows) - ROWS_SHOWN} more"] if len(rows) > ROWS_SHOWN else []
    return [*(line.rstrip() for line in captured.get().splitlines()), *more]


def _changed(one: Values, other: Values, agree: Iterable[Agree]) -> list[str]:
    return [
        shown(left) if is_same(left, right) else f"{shown(left)} -> {shown(right)}"
        for is_same, left, right in zip(agree, one, other, strict=True)
    ]
