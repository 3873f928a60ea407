"""What Snowflake calls the columns of a query that have no alias. Pure.

https://docs.snowflake.com/en/sql-reference/sql/select
"""

from collections.abc import Sequence

from sqlglot import Token

from run_elt_dagster.dialect.lexer import keyword_of, only_statement, written

_AFTER_ITEMS = frozenset(
    {"FROM", "WHERE", "HAVING", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "FETCH", "UNION", "EXCEPT", "MINUS"}
    | {"INTERSECT", "INTO", ")", ";"}
)


def labels_of(sql: str) -> list[str] | None:
    """Return the text of each column of a query, in upper case unless quoted.

    There is one label for each item of the outermost SELECT, or None where a query begins in another way.
    """
    tokens = only_statement(sql)
    first = _first_item(tokens)
    if first is None:
        return None
    labels, depth, end = [""], 0, 0
    for index, token in enumerate(tokens[first:], first):
        if depth == 0 and _ends_items(tokens[index : index + 2]):
            break
        depth += depth_of(token)
        if depth == 0 and keyword_of(token) == ",":
            labels.append("")
            continue
        text, space = written(sql, token), " " if labels[-1] and token.start > end else ""
        labels[-1] += space + (text.upper() if text[0].isalpha() or text[0] == "_" else text)
        end = token.end + 1
    return labels


def depth_of(token: Token) -> int:
    """Return by how much a token opens or closes brackets."""
    return {"(": 1, "[": 1, ")": -1, "]": -1}.get(keyword_of(token), 0)


def _first_item(tokens: Sequence[Token]) -> int | None:
    """Return where the list of the outermost SELECT begins, None where there is none."""
    words = [keyword_of(token) for token in tokens]
    index = next((index for index, word in enumerate(words) if word != "("), len(words))
    depth = 0
    while index < len(words) and not (depth == 0 and words[index] == "SELECT"):
        depth += depth_of(tokens[index])
        index += 1
    if index == len(words):
        return None
    return index + 2 if words[index + 1 : index + 2] in (["DISTINCT"], ["ALL"]) else index + 1


def _ends_items(tokens: Sequence[Token]) -> bool:
    """Return whether the list of a SELECT is over; the GROUP of WITHIN GROUP belongs to it."""
    words = [keyword_of(token) for token in tokens]
    return words[0] in _AFTER_ITEMS or words == ["GROUP", "BY"]
