"""Words in the SQL of a table that a run replaces by typed literals: where the rows begin and end that it builds. Pure."""

import itertools
from collections.abc import Iterable, Mapping

from run_elt_dagster.model.front_matter import SQL_UNIT

# For the slice of a partitioned table, where Snowflake cannot push a filter down.
PARTITION_START, PARTITION_END = "{partition_start}", "{partition_end}"
# For the first moment of an increment.
INCREMENT_START = "{increment_start}"
PLACEHOLDERS = (PARTITION_START, PARTITION_END, INCREMENT_START)
# What a text without any of them does not have.
_SIGNS = ("{partition_", "{increment_")


def placeholders_in(sql: str) -> Mapping[str, int]:
    """Return the placeholders that a SQL text has outside of strings, quoted names and comments, with their places."""
    if not _may_have_one(sql):
        return {}
    plain = "".join("\0" * len(piece) if is_text else piece for piece, is_text in _pieces(sql))
    return {each: plain.index(each) for each in PLACEHOLDERS if each in plain}


def quoted_placeholder(sql: str) -> int | None:
    """Return the character where a string or a quoted name with a placeholder begins; None if there is none."""
    for unit in SQL_UNIT.finditer(sql) if _may_have_one(sql) else ():
        if unit.lastgroup == "quoted" and any(each in unit.group() for each in PLACEHOLDERS):
            return unit.start()
    return None


def filled_in(sql: str, literals: Mapping[str, str]) -> str:
    """Return a SQL text with literals in the place of placeholders, on the same lines; strings and comments stay as they are.

    Args:
        sql: The text.
        literals: By placeholder.
    """
    return "".join(piece if is_text else _replaced(piece, literals) for piece, is_text in _pieces(sql))


def _replaced(piece: str, literals: Mapping[str, str]) -> str:
    for placeholder, literal in literals.items():
        piece = piece.replace(placeholder, literal)
    return piece


def _may_have_one(sql: str) -> bool:
    # One sign is found much faster than a word, and nearly no SQL has it.
    return "{" in sql and any(sign in sql for sign in _SIGNS)


def _pieces(sql: str) -> Iterable[tuple[str, bool]]:
    """Yield a SQL text in pieces, each with whether it is text: a string, a quoted name or a comment."""
    if not _may_have_one(sql):
        yield sql, False
        return
    for is_text, units in itertools.groupby(
        SQL_UNIT.finditer(sql), lambda unit: unit.lastgroup in ("comment", "unclosed", "quoted")
    ):
        yield "".join(unit.group() for unit in units), is_text
