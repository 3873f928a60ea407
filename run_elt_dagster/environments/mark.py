"""What makes a database an environment: its name, and the mark in its comment. Pure.

Only a database with a mark of its own name is ever dropped. A renamed copy, or a database with the comment of another, has none.
https://docs.snowflake.com/en/sql-reference/sql/create-database
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from run_elt_dagster.model.names import IDENTIFIER_LIMIT, display_name, stored_name

# Between the name of the production database and the name of the environment.
BETWEEN = "__"
MAX_DAYS = 365
_NAME = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)*")
_MARK = re.compile(r"\[run_elt environment (\{.*\})\]", re.DOTALL)
_KNOWN = ("database", "of", "owner", "made_at", "drops_at")


@dataclass(frozen=True)
class Mark:
    """What the comment of an environment says.

    Attributes:
        database: Stored name of the environment itself.
        of: Stored name of the database that it is a copy of.
        owner: Who made it.
        made_at: When, aware, by the clock of the machine that made it.
        drops_at: From when on it may be dropped, aware.
    """

    database: str
    of: str
    owner: str
    made_at: datetime
    drops_at: datetime

    def is_of(self, database: str) -> bool:
        """Return whether it is the mark of the database that has it, and not of another one."""
        return database == self.database != self.of and database.startswith(f"{self.of}{BETWEEN}")


@dataclass(frozen=True)
class Environment:
    """A database that is an environment.

    Attributes:
        mark: What its comment says.
        bytes: How large its file is; None on an account, where a copy shares what it has not changed.
    """

    mark: Mark
    bytes: int | None = None

    @property
    def database(self) -> str:
        """Its stored name."""
        return self.mark.database

    @property
    def name(self) -> str:
        """What `run-elt env` calls it, in lower case."""
        return self.database.removeprefix(f"{self.mark.of}{BETWEEN}").lower()

    def is_expired(self, now: datetime) -> bool:
        """Return whether its days are over."""
        return self.mark.drops_at <= now


def environment_database(production: str, name: str) -> str:
    """Return the stored name of the database of an environment, as in `PROD__MY_BRANCH`.

    Args:
        production: Stored name of the production database.
        name: What a person calls the environment, in any case.

    Raises:
        ValueError: It cannot be part of a name.
    """
    database = f"{production}{BETWEEN}{name.upper()}"
    if not name.isascii() or _NAME.fullmatch(name.upper()) is None:
        raise ValueError(
            f"run-elt env requires a name of letters and digits with single _ between them, got {name}. Nothing was changed. "
            f"{_nearest(name)}"
        )
    if len(database) > IDENTIFIER_LIMIT:
        raise ValueError(
            f"run-elt env requires a name of at most {IDENTIFIER_LIMIT - len(production) - len(BETWEEN)} characters, got {len(name)}. "
            "Nothing was changed. Choose a shorter one."
        )
    return database


def _nearest(name: str) -> str:
    near = "_".join(re.findall(r"[A-Za-z0-9]+", name)).lower()
    return f"Write {near}." if near else "Choose another one, as in my_branch."


def production_part(database: str) -> str:
    """Return what the names of a database, of its production database and of all environments beside it begin with."""
    return database.rpartition(BETWEEN)[0] or database


def comment_of(mark: Mark) -> str:
    """Return the comment of an environment: for a person first, then the mark."""
    facts = {name: _text(getattr(mark, name)) for name in _KNOWN}
    return (
        f"Copy of {display_name(mark.of)} for {mark.owner}, dropped after {mark.drops_at:%Y-%m-%d} (run-elt env). "
        f"[run_elt environment {json.dumps(facts)}]"
    )


def _text(value: str | datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds") if isinstance(value, datetime) else value


def mark_in(comment: str | None) -> Mark | None:
    """Return the mark in a comment; None for a comment without one, or with an edited one."""
    found = _MARK.search(comment or "")
    try:
        facts: Any = json.loads(found[1]) if found else None
        if not isinstance(facts, dict) or not all(isinstance(facts.get(name), str) for name in _KNOWN):
            return None
        made_at, drops_at = (datetime.fromisoformat(facts[name]) for name in ("made_at", "drops_at"))
    except ValueError:
        return None
    if made_at.tzinfo is None or drops_at.tzinfo is None:
        return None
    return Mark(facts["database"], facts["of"], facts["owner"], made_at, drops_at)


def stored_database(name: str) -> str:
    """Return the stored name of a database that a setting or an option names; a name that is none, as Snowflake reads it, as it is."""
    try:
        return stored_name(name)
    except ValueError:
        return name
