"""Snowflake SQL as tokens: enough to read the head of a statement without touching the query inside it.

https://docs.snowflake.com/en/sql-reference/data-types-text#string-constants and
https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import Token as SqlglotToken
from sqlglot import TokenType
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import TokenError

from run_elt_dagster.embedded.errors import SqlError, syntax_error

_SNOWFLAKE = Dialect.get_or_raise("snowflake")
_KINDS = {
    TokenType.STRING: "string",
    TokenType.RAW_STRING: "string",
    TokenType.IDENTIFIER: "quoted",
    TokenType.NUMBER: "number",
}


@dataclass(frozen=True)
class Token:
    """A piece of SQL.

    Attributes:
        kind: `string`, `quoted`, `word`, `number` or `other`.
        text: As it is written, quotes included.
        start: Its first position in the statement.
        end: The position after its last.
        value: What a string or a quoted identifier stands for, escapes resolved.
    """

    kind: str
    text: str
    start: int
    end: int
    value: str = ""

    @property
    def keyword(self) -> str:
        """The word in upper case, or the sign; empty for whatever is quoted."""
        return self.text.upper() if self.kind in {"word", "other"} else ""


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of a text, without white space and comments.

    Raises:
        SqlError: A quote is never closed (001003).
    """
    try:
        found = _SNOWFLAKE.tokenize(sql)
    except TokenError as error:
        raise syntax_error(f"parse error: {str(error).splitlines()[0]}") from error
    return [token for part in found for token in _split(sql, part)]


def _split(sql: str, part: SqlglotToken) -> Iterator[Token]:
    """Yield a token as several where sqlglot makes one of two words, as in GROUP BY."""
    text, kind = sql[part.start : part.end + 1], _KINDS.get(part.token_type)
    if kind is not None:
        yield Token(kind, text, part.start, part.end + 1, part.text)
        return
    start = part.start
    for word in text.split():
        start = sql.index(word, start)
        yield Token("word" if word[0].isalpha() or word[0] == "_" else "other", word, start, start + len(word))
        start += len(word)


def only_statement(sql: str) -> list[Token]:
    """Return the tokens of the one statement in a text, without a `;` at its end.

    Raises:
        SqlError: There is no statement (000900), there are several (000008:
            https://docs.snowflake.com/en/sql-reference/parameters#multi-statement-count), or a `;` stands inside
            parentheses (001003).
    """
    statements: list[list[Token]] = [[]]
    depth = 0
    for token in tokens_of(sql):
        depth += {"(": 1, ")": -1}.get(token.keyword, 0)
        if token.keyword != ";":
            statements[-1].append(token)
        elif depth > 0:
            raise unexpected(sql, token)
        else:
            statements.append([])
    filled = [statement for statement in statements if statement]
    if not filled:
        raise SqlError("SQL compilation error:\nEmpty SQL statement.", errno=900, sqlstate="42601")
    if len(filled) > 1:
        raise SqlError(
            f"Actual statement count {len(filled)} did not match the desired statement count 1.",
            errno=8,
            sqlstate="0A000",
        )
    return filled[0]


def renamed_functions(sql: str, names: Mapping[str, str]) -> str:
    """Return a statement in which functions have other names, given from upper case to the new name."""
    tokens = tokens_of(sql)
    for word, bracket in reversed(list(itertools.pairwise(tokens))):
        if word.kind == "word" and bracket.text == "(" and word.keyword in names:
            sql = sql[: word.start] + names[word.keyword] + sql[word.end :]
    return sql


def unexpected(sql: str, token: Token) -> SqlError:
    """Return the syntax error for a token that cannot stand where it does."""
    position = token.start - (sql.rfind("\n", 0, token.start) + 1)
    return syntax_error(
        f"syntax error line {_line(sql, token.start)} at position {position} unexpected '{token.text}'."
    )


def identifier_value(token: Token) -> str:
    """Return the name that an identifier stands for: as it is if quoted, in upper case otherwise."""
    return token.value if token.kind == "quoted" else token.text.upper()


def _line(sql: str, position: int) -> int:
    return sql.count("\n", 0, position) + 1
