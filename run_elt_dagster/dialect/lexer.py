"""Snowflake SQL as sqlglot's tokens: enough to read the head of a statement without touching the query inside it.

https://docs.snowflake.com/en/sql-reference/data-types-text#string-constants and
https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

from typing import ClassVar

from sqlglot import Token, TokenType
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import TokenError

from run_elt_dagster.dialect.errors import SqlError, SyntaxProblemError, position_of, syntax_error, unexpected

STRINGS = frozenset({TokenType.STRING, TokenType.RAW_STRING})
# Whatever has quotes or digits: x'AB' is no name either.
_NO_WORDS = STRINGS | {
    *(TokenType.IDENTIFIER, TokenType.NUMBER, TokenType.BIT_STRING, TokenType.BYTE_STRING, TokenType.HEX_STRING),
    *(TokenType.HEREDOC_STRING, TokenType.NATIONAL_STRING, TokenType.UNICODE_STRING),
}
_DEPTHS = {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}
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
        SqlError: There is no statement (000900), there are several (000008), or a `;` stands inside parentheses (001003).
    """
    statements: list[list[Token]] = [[]]
    depth = 0
    for token in tokens_of(sql):
        depth += _DEPTHS.get(token.token_type, 0)
        if token.token_type != TokenType.SEMICOLON:
            statements[-1].append(token)
        elif depth > 0:
            raise unexpected(sql, token.start, ";")
        else:
            statements.append([])
    filled = [statement for statement in statements if statement]
    if not filled:
        raise SqlError("SQL compilation error:\nEmpty SQL statement.", errno=900, sqlstate="42601")
    if len(filled) > 1:
        # https://docs.snowflake.com/en/sql-reference/parameters#multi-statement-count
        text = f"Actual statement count {len(filled)} did not match the desired statement count 1."
        raise SqlError(text, errno=8, sqlstate="0A000")
    return filled[0]


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
            text = f"{head} error {position_of(statement, token.start)}\n{sentence}"
            return SqlError(text, errno=error.errno, sqlstate=error.sqlstate)
    return error
