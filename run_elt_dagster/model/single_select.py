"""The one SELECT that a table file holds besides its settings, and what is refused in its place. Pure."""

import itertools
import re
from collections.abc import Iterator

from run_elt_dagster.model.front_matter import (
    SQL_UNIT,
    MisplacedSettingsError,
    first_semicolon,
    require_no_settings,
)
from run_elt_dagster.model.templates import template_in


class SqlRuleError(ValueError):
    """SQL that cannot be built as one table.

    Attributes:
        offset: Character of the SQL where the rule is broken.
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def single_select(sql: str) -> str:
    """Return the one SELECT of a text, without a terminator and what follows it, otherwise byte for byte.

    Raises:
        SqlRuleError: There is no statement, more than one, or one that is not a SELECT; or a comment looks like settings.
    """
    _require_no_template(sql)
    try:
        require_no_settings(sql)
    except MisplacedSettingsError as error:
        raise SqlRuleError(str(error), offset=error.offset) from error
    _require_select(sql)
    end = first_semicolon(sql)
    if end is None:
        return sql
    require_nothing_after(sql, end)
    return sql[:end]


def statement_units(sql: str, start: int = 0) -> Iterator[re.Match[str]]:
    """Yield what statements consist of, one by one: nearly always, the first is all that is looked at."""
    for unit in SQL_UNIT.finditer(sql, start):
        if unit.lastgroup not in ("space", "comment", "semicolon"):
            yield unit


def _require_no_template(sql: str) -> None:
    if found := template_in(sql):
        template, offset = found
        raise SqlRuleError(
            f"cannot hold templates, got {template}. Nothing fills them in here: there is no ref(), no source() and no macro. "
            "Write schema.table for a table, and plain SQL for everything else.",
            offset=offset,
        )


def _require_select(sql: str) -> None:
    units = statement_units(sql)
    opening = next(units, None)
    if opening is None:
        raise SqlRuleError("requires one SELECT, got no statement. Write the SELECT that makes the table.", offset=0)
    first = next((unit for unit in itertools.chain([opening], units) if unit.group() != "("), opening)
    word = first.group().upper()
    if word not in ("SELECT", "WITH"):
        raise SqlRuleError(
            f"requires a SELECT (or WITH ... SELECT), got {word[:40] if word.isprintable() else ascii(word[:40])}. run_ctas writes the CREATE TABLE itself; keep "
            "only the query.",
            offset=first.start(),
        )


def require_nothing_after(sql: str, end: int) -> None:
    """Require that no second statement stands behind a semicolon.

    Raises:
        SqlRuleError: One does.
    """
    second = next(statement_units(sql, end), None)
    if second is not None:
        raise SqlRuleError(
            f"requires exactly one statement, got a second one that starts with {second.group()[:40]}. One SQL file is "
            "one table; move it to a file of its own, or take the semicolon out.",
            offset=second.start(),
        )
