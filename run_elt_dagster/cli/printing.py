"""How a command prints: tables for a person, JSON for a program."""

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from run_elt_dagster.model.names import key_part

# A pipe has no width: there a line is as long as its cells.
_NO_WIDTH = 10_000
_GAP = 2
# Words that are folded at fewer characters cannot be read.
_READABLE = 12
# A terminal obeys some of these signs, and a value of a table may hold them.
_UNSEEN = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def say_on_stderr(text: str) -> None:
    """Print what is no result, at once."""
    print(f"run-elt: {text}", file=sys.stderr, flush=True)


def shown_path(path: Path) -> str:
    """Return a path as a person follows it: from the working directory, if it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print cells in columns. A terminal folds cells that are too long for it, or gets lines where it is narrow; a pipe gets whole lines."""
    is_terminal = sys.stdout.isatty()
    if is_terminal and _narrowest([header, *rows]) > (width := Console(file=sys.stdout).width):
        print("\n".join(_stacked(header, rows, width)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, name in enumerate(header):
        numbers = bool(rows) and all(_is_number(row[column]) for row in rows)
        table.add_column(
            Text(name.translate(_UNSEEN)),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=not is_terminal,
        )
    for row in rows:
        table.add_row(*(Text(cell.translate(_UNSEEN)) for cell in row))
    _print_wide(table)


def _narrowest(rows: Sequence[Sequence[str]]) -> int:
    """Return how many characters a table needs whose cells can still be read."""
    cells_in_columns = zip(*rows, strict=True)
    widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in cells_in_columns]
    return sum(min(width, _READABLE) for width in widths) + _GAP * (len(widths) - 1)


def _stacked(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the first cell of each row, and below it a line for each of the others: a phone shows them so."""
    longest = max((cell_len(name) for name in header[1:]), default=0)
    indent = " " * (longest + 2 * _GAP)
    for first, *others in rows:
        yield from textwrap.wrap(first.translate(_UNSEEN), width) or ["-"]
        for name, cell in zip(header[1:], others, strict=True):
            heading = f"{' ' * _GAP}{name.translate(_UNSEEN)}".ljust(len(indent))
            for line in cell.translate(_UNSEEN).split("\n"):
                yield from textwrap.wrap(line, width, initial_indent=heading, subsequent_indent=indent) or [heading]
                heading = indent


def print_tree(tree: Tree) -> None:
    """Print a tree. A terminal folds lines that are too long for it; a pipe gets whole lines."""
    _print_wide(tree)


def _print_wide(drawn: Table | Tree) -> None:
    is_terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False) if is_terminal else Console(width=_NO_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def cells(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Return rows as text, as Snowflake's own clients print them."""
    return [["NULL" if value is None else str(value) for value in row] for row in rows]


def headings(columns: Sequence[str]) -> list[str]:
    """Return stored names of columns as a person writes them in SQL: `orders`, `"Net sales"`."""
    return [key_part(name) for name in columns]


def print_json(value: object) -> None:
    """Print a value for a program: instants as ISO 8601, and numbers with decimals as text, whatever the decimals are.

    A float would change them, and a column whose values have several types is none that a program can read.
    """
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else str(value)
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "", 1).removeprefix("-").isdecimal()
