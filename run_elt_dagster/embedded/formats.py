"""Snowflake's date and time formats as DuckDB's.

https://docs.snowflake.com/en/sql-reference/date-time-input-output#about-the-elements-used-in-input-and-output-formats
"""

import re
from dataclasses import dataclass

from run_elt_dagster.embedded.errors import unsupported

# Longest first where one starts with another. Whatever the case of the element, the case of the output is fixed:
# 'Jan', 'January', 'Tue', 'AM'.
_STRFTIME = {
    "YYYY": "%Y",
    "YY": "%y",
    "MMMM": "%B",
    "MON": "%b",
    "MM": "%m",
    "MI": "%M",
    "DD": "%d",
    "DY": "%a",
    "HH24": "%H",
    "HH12": "%I",
    "HH": "%H",
    "AM": "%p",
    "PM": "%p",
    "SS": "%S",
}
NANOSECOND_DIGITS = 9
_PIECE = re.compile(
    rf'"(?P<quoted>[^"]*)"|FF(?P<digits>\d?)|(?P<element>{"|".join(_STRFTIME)})|(?P<letter>.)',
    re.IGNORECASE | re.DOTALL,
)
# Around an element only these letters are surely literal, as in YYYY-MM-DDTHH24:MI:SSZ. `MONTH`, `DDD` or `Q`, elements
# elsewhere, must not come out as `JanTH`, `02D` or `Q`.
_SEPARATOR_LETTERS = frozenset("TZ")
_LONGEST_FOREIGN_ELEMENT = 4
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Formatted:
    """A part of the output that strftime makes.

    Attributes:
        strftime: The format for DuckDB.
        characters: How many characters of it count, from the left; None for all.
    """

    strftime: str
    characters: int | None = None


def parts_of(snowflake_format: str) -> tuple[Formatted, ...]:
    """Return the parts whose concatenation is what TO_VARCHAR gives with a format.

    Raises:
        SqlError: The format is for numbers, or holds what is not known to be an element or a literal.
    """
    parts: list[Formatted] = []
    elements = 0
    for match in _PIECE.finditer(snowflake_format):
        part, is_element = _part(match, snowflake_format)
        elements += is_element
        if part.characters is None and parts and parts[-1].characters is None:
            part = Formatted(parts.pop().strftime + part.strftime)
        if part.strftime:
            parts.append(part)
    if not elements:
        raise unsupported("format anything but dates and times", f"the format {snowflake_format!r}")
    return tuple(parts)


def _part(match: re.Match[str], snowflake_format: str) -> tuple[Formatted, bool]:
    if match["element"]:
        return Formatted(_STRFTIME[match["element"].upper()]), True
    if match["digits"] is not None:
        digits = int(match["digits"] or NANOSECOND_DIGITS)
        return (Formatted("%n", digits) if digits else Formatted("")), True
    literal = match["quoted"] if match["quoted"] is not None else match["letter"]
    if match["letter"] and not _is_literal(match, snowflake_format):
        raise unsupported("read this format", f"{match['letter']!r} in {snowflake_format!r}")
    return Formatted(literal.replace("%", "%%")), False


def _is_literal(match: re.Match[str], snowflake_format: str) -> bool:
    letter = match["letter"]
    if not letter.isalnum() or letter in _SEPARATOR_LETTERS:
        return True
    if not letter.isalpha() or not letter.isascii():
        return not letter.isdecimal()
    # A word without any element in it is a literal, as in the documentation's 'hh24:mi hours', if it is too long to be
    # an element of another database.
    word = next(word for word in _WORD.finditer(snowflake_format) if word.end() > match.start())
    return len(word[0]) > _LONGEST_FOREIGN_ELEMENT and not _elements_in(word[0])


def _elements_in(word: str) -> bool:
    return any(piece["element"] or piece["digits"] is not None for piece in _PIECE.finditer(word))
