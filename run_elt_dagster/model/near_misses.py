"""Finds the declared table that a misspelt name may mean."""

import functools
import re
from collections import defaultdict
from collections.abc import Iterable

from run_elt_dagster.model.names import Key

_NUMBERS = re.compile(r"_?\d+")
# Two slips are allowed in a name of so many letters, one in a shorter one.
_LONG = 12
# In a name with fewer letters, another letter makes another name.
_SHORT = 4
_MOST_SLIPS = 2


class NearMisses:
    """The declared tables, asked for the one that an undeclared name is close to.

    Args:
        declared: The keys of the declared tables.
    """

    def __init__(self, declared: Iterable[Key]) -> None:
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        for schema, table in sorted(declared):
            self._names[schema].append(table)

    def of(self, key: Key) -> Key | None:
        """Return the declared table that `schema.table` may mean, None if it is close to none."""
        if len(key) != 2:  # noqa: PLR2004 - another database's names are not known
            return None
        schema, table = key
        # The same schema first.
        for declared in sorted(self._names, key=lambda name: name != schema):
            if declared == schema or (len(schema) >= _SHORT and _is_slip(schema, declared)):
                for name in self._names[declared]:
                    if name == table or _is_slip(table, name):
                        return (declared, name)
        return None


@functools.lru_cache(maxsize=10_000)
def _letters(name: str) -> int:
    """Return a bit for each letter of a name, for a first comparison of many."""
    bits = 0
    for letter in name.strip('"').lower():
        bits |= 1 << (ord(letter) & 31)
    return bits


@functools.lru_cache(maxsize=10_000)
def _is_slip(written: str, meant: str) -> bool:
    """Return whether a name is a slip of another: other quotes are one, another number makes a name of its own."""
    # A slip changes one letter into another at most.
    if (_letters(written) ^ _letters(meant)).bit_count() > 2 * _MOST_SLIPS:
        return False
    written, meant = written.strip('"').lower(), meant.strip('"').lower()
    if written == meant:
        return True
    if abs(len(written) - len(meant)) > _MOST_SLIPS or _NUMBERS.sub("", written) == _NUMBERS.sub("", meant):
        return False
    has_same_letters = sorted(written) == sorted(meant)
    if len(written) == len(meant) < _SHORT:
        return has_same_letters
    most = _MOST_SLIPS if has_same_letters or max(len(written), len(meant)) >= _LONG else 1
    return _slips(written, meant) <= most


def _slips(one: str, other: str) -> int:
    """Return how many letters are left out, put in, replaced or swapped with their neighbour between two names."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, start=1):
        row = [i]
        for j, opposite in enumerate(other, start=1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != opposite))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == opposite:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
