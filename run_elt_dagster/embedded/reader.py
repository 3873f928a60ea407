"""Reading a statement token by token: what the parsers of all statements share.

https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

from sqlglot import Token

from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.lexer import STRINGS, identifier_value, is_identifier, keyword_of, unexpected, written

_T = TypeVar("_T")


@dataclass(frozen=True)
class Name:
    """A table's name as a statement gives it: one to three parts, upper case unless quoted."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        """Return the parts with dots between them."""
        return ".".join(self.parts)


class Statement:
    """Any statement. One that `writes` waits for statements of other sessions that write."""

    writes: ClassVar[bool] = True


@dataclass(frozen=True)
class Scope:
    """Which objects a SHOW lists: those in the current database or schema where it has no name."""

    # `ACCOUNT`, `DATABASE`, `SCHEMA`, or empty where the statement does not say.
    kind: str = ""
    name: Name | None = None
    like: str | None = None


@dataclass
class Reader:
    """Tokens, and how many of them have been read; `clauses` are those of CREATE TABLE that only features know."""

    sql: str
    tokens: Sequence[Token]
    clauses: Sequence["Clause"] = ()
    position: int = 0

    @property
    def token(self) -> Token | None:
        """The token that comes next, None at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    @property
    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self.token is None

    @property
    def keyword(self) -> str:
        """The next token's word in upper case, or its sign; empty at the end and for whatever is quoted."""
        return keyword_of(self.token) if self.token else ""

    def keywords(self, count: int) -> list[str]:
        """Return the keywords of the next tokens without reading them."""
        return [keyword_of(token) for token in self.tokens[self.position : self.position + count]]

    def accept(self, *keywords: str) -> bool:
        """Read these keywords if they come next, all of them; tell whether they did."""
        if self.keywords(len(keywords)) != list(keywords):
            return False
        self.position += len(keywords)
        return True

    def expect(self, *keywords: str) -> None:
        """Read these keywords; anything else is a syntax error."""
        if not self.accept(*keywords):
            raise self.failure()

    def next(self) -> Token:
        """Read one token."""
        token = self.token
        if token is None:
            raise self.failure()
        self.position += 1
        return token

    def failure(self) -> SqlError:
        """Return the syntax error for the token that comes next."""
        if self.token is None:
            return unexpected(self.sql, len(self.sql), "<EOF>")
        return unexpected(self.sql, self.token.start, written(self.sql, self.token))

    def finish(self) -> None:
        """Require that everything has been read."""
        if not self.at_end:
            raise self.failure()

    def identifier(self) -> str:
        """Read an identifier; return the name that it stands for."""
        if self.token is None or not is_identifier(self.token):
            raise self.failure()
        return identifier_value(self.next())

    def name(self) -> Name:
        """Read a name of parts with dots between them."""
        if self.keyword == "IDENTIFIER":
            raise unsupported("resolve IDENTIFIER() here", self.sql)
        parts = [self.identifier()]
        while self.accept("."):
            parts.append(self.identifier())
        return Name(tuple(parts))

    def string(self) -> str:
        """Read a string constant; return what it stands for."""
        if self.token is None or self.token.token_type not in STRINGS:
            raise self.failure()
        return self.next().text

    def existing(self) -> tuple[Name, bool]:
        """Read the name of what a statement is about, and whether IF EXISTS stands before it."""
        if_exists = self.accept("IF", "EXISTS")
        return self.name(), if_exists

    def literal(self) -> str:
        """Read a constant: what a string stands for, or the text of anything else."""
        token = self.next()
        return token.text if token.token_type in STRINGS else written(self.sql, token)

    def listed(self, read: Callable[[], _T]) -> list[_T]:
        """Read items with commas between them."""
        items = [read()]
        while self.accept(","):
            items.append(read())
        return items

    def parenthesised(self) -> str:
        """Return the text from an opening parenthesis to the closing one, both included."""
        first = self.position
        self.expect("(")
        depth = 1
        while depth:
            depth += {"(": 1, ")": -1}.get(keyword_of(self.next()), 0)
        return self._text(first)

    def rest(self) -> str:
        """Read everything that is left, at least one token."""
        first = self.position
        self.next()
        self.position = len(self.tokens)
        return self._text(first)

    def _text(self, first: int) -> str:
        return self.sql[self.tokens[first].start : self.tokens[self.position - 1].end + 1]

    def scope(self) -> Scope:
        """Read which objects a SHOW lists, to the end of the statement.

        https://docs.snowflake.com/en/sql-reference/sql/show-tables
        """
        like = self.string() if self.accept("LIKE") else None
        kind, name = "", None
        if self.accept("IN"):
            kind = next((kind for kind in ("ACCOUNT", "DATABASE", "SCHEMA") if self.accept(kind)), "SCHEMA")
            name = None if kind == "ACCOUNT" or self.at_end else self.name()
        self.finish_or_refuse("list objects with this clause")
        return Scope(kind, name, like)

    def finish_or_refuse(self, what: str) -> None:
        """Require that everything has been read: only an account can do what more would mean."""
        if not self.at_end:
            raise unsupported(what, repr(self.rest()))

    def refusal(self, what: str) -> SqlError:
        """Return the error for a statement that only an account can execute."""
        return unsupported(what, repr(self.sql[:200]))


# Keywords, and the parser of what follows them. One that returns None leaves the statement to the next head.
Head: TypeAlias = tuple[tuple[str, ...], Callable[[Reader], Statement | None]]
Clause: TypeAlias = tuple[tuple[str, ...], Callable[[Reader], Any]]
