"""The one statement that a person may only read with, and what is refused in its place. Pure."""

from run_elt_dagster.model.front_matter import SQL_UNIT, first_semicolon
from run_elt_dagster.model.single_select import SqlRuleError, require_nothing_after, single_select, statement_units

_SELECTS, _LISTS = frozenset({"SELECT", "WITH", "("}), frozenset({"SHOW", "DESC", "DESCRIBE"})


def reading_statement(sql: str) -> str:
    """Return the one SELECT, WITH, SHOW or DESCRIBE of a text, without a terminator.

    What a function or a procedure of an account does inside is up to the grants of the role.

    Raises:
        SqlRuleError: It is none, more than one, or calls what can change something.
    """
    first = next(statement_units(sql), None)
    word = first.group().upper() if first else ""
    if first is None or word not in _SELECTS | _LISTS:
        raise SqlRuleError(
            f"requires one SELECT, WITH, SHOW or DESCRIBE, got {ascii(word[:40]) if word else 'no statement'}. Nothing was "
            "executed. Whatever changes something belongs into a table's file, or into Snowflake itself.",
            offset=first.start() if first else 0,
        )
    statement = single_select(sql) if word in _SELECTS else _listing(sql)
    _require_no_effect(statement)
    return statement


def _listing(sql: str) -> str:
    end = first_semicolon(sql)
    if end is None:
        return sql
    require_nothing_after(sql, end)
    return sql[:end]


def _require_no_effect(sql: str) -> None:
    """Refuse what changes something although it begins with SELECT or SHOW.

    A `->>` puts any statement behind another one: https://docs.snowflake.com/en/sql-reference/operators-flow. Functions whose names
    begin with SYSTEM$ cancel queries and more: https://docs.snowflake.com/en/sql-reference/functions-system.
    """
    before = ""
    for unit in SQL_UNIT.finditer(sql):
        if unit.lastgroup in ("space", "comment"):
            continue
        word = unit.group().upper()
        pipe = sql.startswith("->>", unit.start()) and unit.lastgroup == "other"
        if pipe or word.startswith("SYSTEM$") or (before == "." and word == "NEXTVAL"):
            raise SqlRuleError(
                f"requires a statement that only reads, got {'->>' if pipe else word[:40]}. Nothing was executed. Take it out.",
                offset=unit.start(),
            )
        before = word
