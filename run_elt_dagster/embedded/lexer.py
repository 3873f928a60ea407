"""Snowflake SQL as sqlglot's tokens: enough to read the head of a statement without touching the query inside it.

https://docs.snowflake.com/en/sql-reference/data-types-text#string-constants and
https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

import itertools
from collections.abc import Mapping
from typing import ClassVar

from sqlglot import Token, TokenType
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import TokenError

from run_elt_dagster.embedded.errors import SqlError, syntax_error

STRINGS = frozenset({TokenType.STRING, TokenType.RAW_STRING})
# Whatever has quotes or digits: x'AB' is no name either.
_NO_WORDS = STRINGS | {
    *(TokenType.IDENTIFIER, TokenType.NUMBER, TokenType.BIT_STRING, TokenType.BYTE_STRING, TokenType.HEX_STRING),
    *(TokenType.HEREDOC_STRING, TokenType.NATIONAL_STRING, TokenType.UNICODE_STRING),
}
_INVALID_IDENTIFIER = 904


class _Words(Snowflake.Tokenizer):
    """Snowflake's tokens, where each word of GROUP BY and its like is one of its own."""

    KEYWORDS: ClassVar = {words: kind for words, kind in Snowflake.Tokenizer.KEYWORDS.items() if " " not in words}


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of a text, without white space and comments.

    Raises:
        SqlError: A quote is never closed (001003).
    """
    try:
        return _Words(dialect="snowflake").tokenize(sql)
    except TokenError as error:
        raise syntax_error(f"parse error: {str(error).splitlines()[0]}") from error


def keyword_of(token: Token) -> str:
    """Return a word in upper case, or a sign; nothing for a constant and whatever is quoted."""
    return "" if token.token_type in _NO_WORDS else token.text.upper()


def is_word(token: Token) -> bool:
    """Return whether a token is a keyword or a name without quotes."""
    return keyword_of(token)[:1].isalpha() or keyword_of(token).startswith("_")


def is_identifier(token: Token) -> bool:
    """Return whether a token can be a name."""
    return token.token_type == TokenType.IDENTIFIER or is_word(token)


def written(sql: str, token: Token) -> str:
    """Return a token as it is written, quotes included."""
    return sql[token.start : token.end + 1]


def identifier_value(token: Token) -> str:
    """Return the name that an identifier stands for: as it is if quoted, in upper case otherwise."""
    return token.text if token.token_type == TokenType.IDENTIFIER else token.text.upper()


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
        depth += {"(": 1, ")": -1}.get(keyword_of(token), 0)
        if keyword_of(token) != ";":
            statements[-1].append(token)
        elif depth > 0:
            raise unexpected(sql, token.start, ";")
        else:
            statements.append([])
    filled = [statement for statement in statements if statement]
    if not filled:
        raise SqlError("SQL compilation error:\nEmpty SQL statement.", errno=900, sqlstate="42601")
    if len(filled) > 1:
        text = f"Actual statement count {len(filled)} did not match the desired statement count 1."
        raise SqlError(text, errno=8, sqlstate="0A000")
    return filled[0]


def renamed_functions(sql: str, names: Mapping[str, str]) -> str:
    """Return a statement in which functions have other names, given from upper case to the new name."""
    for word, bracket in reversed(list(itertools.pairwise(tokens_of(sql)))):
        if is_word(word) and keyword_of(bracket) == "(" and keyword_of(word) in names:
            sql = sql[: word.start] + names[keyword_of(word)] + sql[word.end + 1 :]
    return sql


def unexpected(sql: str, start: int, found: str) -> SqlError:
    """Return the syntax error for what cannot stand where it does."""
    return syntax_error(f"syntax error {_position(sql, start)} unexpected '{found}'.")


class SyntaxProblemError(SqlError):
    """A syntax error in a part of a statement, whose place in the whole statement is yet to be found.

    Args:
        part: The part, as sqlglot has read it.
        start: Where in it.
        found: What stands there; empty at the end.
    """

    def __init__(self, part: str, start: int, found: str) -> None:
        self._part, self._start, self._found = part, start, found
        whole = self.within(part)
        super().__init__(whole.message, errno=whole.errno, sqlstate=whole.sqlstate)

    def within(self, statement: str) -> SqlError:
        """Return the error as Snowflake words it for the whole statement."""
        return unexpected(statement, max(statement.find(self._part), 0) + self._start, self._found or "<EOF>")


def located(error: SqlError, statement: str) -> SqlError:
    """Return an error with its place in the statement, where Snowflake gives one and it can be told."""
    if isinstance(error, SyntaxProblemError):
        return error.within(statement)
    head, _, sentence = error.message.partition("\n")
    if error.errno != _INVALID_IDENTIFIER or head != "SQL compilation error:":
        return error
    name = sentence.partition("'")[2].rpartition("'")[0].rpartition(".")[2].strip('"').upper()
    # DuckDB is given another text, so its own position would be wrong.
    for token in tokens_of(statement):
        if written(statement, token).strip('"').upper() == name:
            text = f"{head} error {_position(statement, token.start)}\n{sentence}"
            return SqlError(text, errno=error.errno, sqlstate=error.sqlstate)
    return error


def _position(sql: str, offset: int) -> str:
    """Return where in a text something is, as Snowflake says it: lines from 1, positions from 0."""
    line_start = sql.rfind("\n", 0, offset) + 1
    return f"line {sql.count(chr(10), 0, offset) + 1} at position {offset - line_start}"
