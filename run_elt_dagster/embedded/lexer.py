"""Snowflake SQL as tokens: enough to read the head of a statement without touching the query inside it.

https://docs.snowflake.com/en/sql-reference/data-types-text#string-constants and
https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from run_elt_dagster.embedded.errors import SqlError, syntax_error

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
    | (?P<string>'(?:[^'\\]|''|\\.)*')
    | (?P<dollar>\$\$.*?\$\$)
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)

_ESCAPE = re.compile(r"''|\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Token:
    """A piece of SQL.

    Attributes:
        kind: `string`, `dollar`, `quoted`, `word`, `number` or `other`.
        text: As it is written, quotes included.
        start: Its first position in the statement.
        end: The position after its last.
    """

    kind: str
    text: str
    start: int
    end: int

    @property
    def keyword(self) -> str:
        """The word in upper case, or the sign; empty for whatever is quoted."""
        return self.text.upper() if self.kind in {"word", "other"} else ""


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of a text, without white space and comments.

    Raises:
        SqlError: A quote or a comment is never closed (001003).
    """
    tokens: list[Token] = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "other"
        if kind != "space":
            tokens.append(Token(kind, match[0], match.start(), match.end()))
        if kind == "other" and (match[0] in "'\"" or sql.startswith(("$$", "/*"), match.start())):
            raise syntax_error(f"parse error line {_line(sql, match.start())}: what opens here is never closed")
    return tokens


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


def inlined_variables(sql: str, variables: Mapping[str, str]) -> str:
    """Return a statement with the values of session variables in the place of `$name`.

    https://docs.snowflake.com/en/sql-reference/session-variables#using-variables-in-sql

    Raises:
        SqlError: There is no such variable.
    """
    values = {name.upper(): value for name, value in variables.items()}
    tokens = tokens_of(sql)
    for dollar, word in reversed(list(itertools.pairwise(tokens))):
        if dollar.text == "$" and word.kind == "word" and dollar.end == word.start:
            if word.text.upper() not in values:
                message = f"SQL compilation error: error\nSession variable '${word.text.upper()}' does not exist"
                raise SqlError(message, errno=2211, sqlstate="02000")
            sql = sql[: dollar.start] + values[word.text.upper()] + sql[word.end :]
    return sql


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


def string_value(token: Token) -> str:
    """Return what a string constant stands for, its escapes resolved."""
    if token.kind == "dollar":
        return token.text[2:-2]
    return _ESCAPE.sub(_unescape, token.text[1:-1])


def identifier_value(token: Token) -> str:
    """Return the name that an identifier stands for: as it is if quoted, in upper case otherwise."""
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text.upper()


def _unescape(match: re.Match[str]) -> str:
    hexadecimal, unicode, octal, letter = match.groups()
    if hexadecimal or unicode:
        return chr(int(hexadecimal or unicode, 16))
    if octal:
        return chr(int(octal, 8))
    return _LETTERS.get(letter, letter) if letter else "'"


def _line(sql: str, position: int) -> int:
    return sql.count("\n", 0, position) + 1
