"""Expressions of Snowflake's reference with their documented values, and how a value is compared.

A line of `documented/*.tsv` is a group, an expression or a query, its value, and the page: rows with ` / ` between them, columns
with `, `. `JSON`, `DATE`, `TIME`, `TIMESTAMP` and `TIMESTAMP_TZ` stand before values of these types, `an error` for a failure.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "documented"
_ANY_ORDER = " (any order)"
_CLOSE = 1e-9


@dataclass(frozen=True)
class Documented:
    """One line.

    Attributes:
        group: What the expression is about.
        expression: The expression, or a query.
        value: What it gives, in the notation of this module.
        page: The page of the reference.
    """

    group: str
    expression: str
    value: str
    page: str

    @property
    def query(self) -> str:
        """The query that gives the value."""
        is_query = self.expression.lower().startswith(("select ", "with ", "values"))
        return self.expression if is_query else f"select {self.expression}"

    def agrees(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Return whether a query's rows are the documented ones."""
        wanted = [_split(row, ", ") for row in _split(self.value, " / ")]
        same = len(wanted) == len(rows) and all(len(one) == len(other) for one, other in zip(wanted, rows, strict=True))
        return same and all(
            _is(cell, value)
            for one, other in zip(wanted, rows, strict=True)
            for cell, value in zip(one, other, strict=True)
        )


def documented(pattern: str = "*.tsv") -> list[Documented]:
    """Return the lines of the files whose name fits a pattern."""
    return [line for path in sorted(FOLDER.glob(pattern)) for line in _lines(path)]


def _lines(path: Path) -> Iterator[Documented]:
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        yield Documented(*line.split("\t")[:4])


def _split(text: str, separator: str) -> list[str]:
    """Return the parts of a text, separators inside quotes and brackets left alone."""
    parts, part, quote, depth = [], "", "", 0
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        depth += 0 if quote else {"[": 1, "{": 1, "(": 1, "]": -1, "}": -1, ")": -1}.get(letter, 0)
        part += letter
        if not quote and depth == 0 and part.endswith(separator) and index:
            parts.append(part.removesuffix(separator))
            part = ""
    return [*parts, part]


def _instant(text: str, value: Any) -> bool:
    return isinstance(value, datetime) and value.replace(tzinfo=None) == datetime.fromisoformat(text)


def _zoned(text: str, value: Any) -> bool:
    wanted = datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z")
    return isinstance(value, datetime) and (value, value.utcoffset()) == (wanted, wanted.utcoffset())


def _json(text: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    wanted, got = json.loads(text.removesuffix(_ANY_ORDER)), json.loads(value)
    if text.endswith(_ANY_ORDER):
        return sorted(map(json.dumps, wanted)) == sorted(map(json.dumps, got))
    return wanted == got


_TYPED: Mapping[str, Callable[[str, Any], bool]] = {
    "JSON": _json,
    "DATE": lambda text, value: type(value) is date and value == date.fromisoformat(text),
    "TIME": lambda text, value: isinstance(value, time) and value == time.fromisoformat(text),
    "TIMESTAMP": _instant,
    "TIMESTAMP_TZ": _zoned,
}


def _is(cell: str, value: Any) -> bool:
    kind, _, text = cell.partition(" ")
    if cell.startswith("'"):
        return isinstance(value, str) and value == cell[1:-1]
    if text and kind in _TYPED:
        return _TYPED[kind](text, value)
    if cell in {"NULL", "TRUE", "FALSE"}:
        return value is {"NULL": None, "TRUE": True, "FALSE": False}[cell]
    return _is_number(Decimal(cell), value)


def _is_number(wanted: Decimal, value: Any) -> bool:
    """Return whether a value is a number, or the text of a VARIANT that is one."""
    if isinstance(value, float):
        return abs(value - float(wanted)) <= _CLOSE * max(1.0, abs(float(wanted)))
    if isinstance(value, str):
        return re.fullmatch(r"-?\d+(\.\d+)?", value) is not None and Decimal(value) == wanted
    return isinstance(value, int | Decimal) and not isinstance(value, bool) and value == wanted
