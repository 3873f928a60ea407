"""Names of tables and columns as Snowflake's SQL takes them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

# https://docs.snowflake.com/en/sql-reference/identifiers-syntax
IDENTIFIER_LIMIT = 255
_UNQUOTED = re.compile(r"[^\W\d][\w$]*")
_QUOTED = re.compile(r'"(?:[^"\x00]|"")+"')
_FOLDED = re.compile(r"[A-Z_][A-Z0-9_$]*")
# So many characters of a run's id name it to people, as in Dagster's UI, and stand at the end of its candidates' names.
RUN_ID_CHARACTERS = 8
_CANDIDATE = re.compile(rf"TEMP_.+__[0-9A-F]{{{RUN_ID_CHARACTERS}}}", re.DOTALL)
# A folder has the same names again and again.
_NAMES_REMEMBERED = 10_000
_PART = re.compile(rf"{_QUOTED.pattern}|{_UNQUOTED.pattern}")

Key = tuple[str, ...]
"""`(schema, table)` of a table, or `(database, schema, table)` of one in another database; lower case.

A name that Snowflake stores with small letters or signs stands in double quotes, as SQL has it.
"""


def stored_name(identifier: str) -> str:
    """Return a name as Snowflake stores it: in upper case, or exactly what stands in double quotes.

    Raises:
        ValueError: It is no identifier.
    """
    if _QUOTED.fullmatch(identifier):
        name = identifier[1:-1].replace('""', '"')
    elif _UNQUOTED.fullmatch(identifier):
        name = identifier.upper()
    else:
        raise ValueError(
            "requires a letter or _ first, then letters, digits, _ and $; any other name in double quotes, as in "
            "'\"Net sales\"'"
        )
    if len(name) > IDENTIFIER_LIMIT:
        raise ValueError(f"requires at most {IDENTIFIER_LIMIT} characters")
    return name


def stored_names(qualified: str) -> tuple[str, ...]:
    """Return the parts of a dotted name as Snowflake stores them.

    Raises:
        ValueError: A part is no identifier.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(qualified, position):
        parts.append(stored_name(match.group()))
        position = match.end()
        if position == len(qualified):
            return tuple(parts)
        if qualified[position] != ".":
            break
        position += 1
    raise ValueError("requires names with dots between them; what is not letters, digits and _ in double quotes")


def session_name(name: str) -> str:
    """Return the stored name of what a session reports as its own, as in its current database.

    Snowflake reports names that need quotes in quotes, others as they are stored.
    """
    return stored_name(name) if _QUOTED.fullmatch(name) else name


def short_id(run_id: str) -> str:
    """Return the start of the id of a run or a daemon, as Dagster's UI shows it."""
    return run_id[:RUN_ID_CHARACTERS]


def is_candidate_name(name: str) -> bool:
    """Return whether a stored name is one that runs give their candidates."""
    return _CANDIDATE.fullmatch(name) is not None


def quote_identifier(name: str) -> str:
    """Return a name exactly as it is stored, quoted, so reserved words work too."""
    return '"' + name.replace('"', '""') + '"'


@lru_cache(_NAMES_REMEMBERED)
def display_name(name: str) -> str:
    """Return a stored name as a person would type it: quoted only where it has to be."""
    return name if _FOLDED.fullmatch(name) else quote_identifier(name)


def key_of(names: Iterable[str]) -> Key:
    """Return the key of stored names: lower case, but quoted where Snowflake needs quotes."""
    return tuple(map(key_part, names))


@lru_cache(_NAMES_REMEMBERED)
def key_part(name: str) -> str:
    """Return a stored name as a part of a key."""
    return name.lower() if display_name(name) == name else display_name(name)


def quote_literal(text: str) -> str:
    """Return a string literal; quotes are doubled, and backslashes too, since Snowflake reads escapes.

    https://docs.snowflake.com/en/sql-reference/data-types-text
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True)
class Relation:
    """A table in Snowflake by its full name, each part as it is stored."""

    database: str
    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The name for a statement, each part quoted."""
        return ".".join(quote_identifier(part) for part in (self.database, self.schema, self.name))

    def __str__(self) -> str:
        """Return the name for a person: `DATABASE.SCHEMA.NAME`."""
        return ".".join(display_name(part) for part in (self.database, self.schema, self.name))
