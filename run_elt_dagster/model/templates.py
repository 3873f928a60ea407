"""Finds what another tool would have filled in: SQL that comes from dbt or Airflow still has its templates."""

import re

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|\{[{%#]", re.DOTALL)
# In a string, only what dbt or Airflow fill in: braces of its own may be data.
_FILLED_IN = re.compile(
    r"\{\{-?\s*(?:(?:ref|source|var|env_var)\s*\(|this\b|target\.|params\.|macros\.|var\.|dag\b|dag_run\b|ti\.|task\b|"
    r"(?:prev_|next_)?(?:ds|ts|execution_date)(?:_nodash)?\b|(?:data_interval|logical_date|run_id)\w*)"
)
_TEXT = re.compile(
    r"""--[^\n]*|//[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*"|\$\$.*?\$\$|\{[{%#]""", re.DOTALL
)
_LONGEST_EXCERPT = 40


def template_in(sql: str) -> tuple[str, int] | None:
    """Return the first template left in a SQL text, and the character where it begins; None if there is none.

    Outside of strings and comments, Snowflake has no use for `{{`, `{%` and `{#`.
    """
    # One sign is found much faster than two, and nearly no SQL has it.
    if "{" not in sql or not any(mark in sql for mark in ("{{", "{%", "{#")):
        return None
    for unit in _TEXT.finditer(sql):
        text = unit.group()
        if text.startswith("{"):
            return _excerpt(sql, unit.start()), unit.start()
        filled_in = _FILLED_IN.search(text) if text[0] in "'\"$" else None
        if filled_in:
            at = unit.start() + filled_in.start()
            return _excerpt(sql, at), at
    return None


def _excerpt(sql: str, at: int) -> str:
    found = _TEMPLATE.match(sql, at)
    return " ".join(found.group().split())[:_LONGEST_EXCERPT] if found else sql[at : at + 2]
