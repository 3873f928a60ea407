"""Reading a query with the names of functions as they are written.

sqlglot replaces many functions by others that it takes for the same (DIV0 by a CASE, ZEROIFNULL by COALESCE). Here a
function that Snowflake has keeps its name, so only this package decides what it means.
"""

import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from sqlglot import Expr, Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError, TokenError

from run_elt_dagster.dialect.catalogue import FUNCTION_NAMES
from run_elt_dagster.dialect.errors import SyntaxProblemError, syntax_error, unsupported
from run_elt_dagster.dialect.quiet import quietly

_SNOWFLAKE = Dialect.get_or_raise("snowflake")
# Under this prefix sqlglot knows no function.
_PREFIX = "F$"
# sqlglot reads what stands between the parentheses of these by rules of their own.
_OWN_SYNTAX = frozenset({"CAST", "TRY_CAST", "EXTRACT"})
# sqlglot calls itself about ten times for a level, and ends the process where it has no room for many thousands.
_DEEPEST = 600
_CALLS = 20 * _DEEPEST
_OPENS = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.CASE})
_PREFIXES = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE})
_CLOSES = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.END})
_TYPE_BEFORE = frozenset({TokenType.DCOLON, TokenType.ALIAS})
# After such a token `*` means all columns, so the REPLACE behind it is no function; after another it is a product.
_BEFORE_ALL_COLUMNS = frozenset(
    {TokenType.SELECT, TokenType.DISTINCT, TokenType.ALL, TokenType.COMMA, TokenType.DOT, TokenType.L_PAREN}
)
# After another name comes a type or a list of columns, as in CREATE TABLE t (c CHAR(3)).
_NO_FUNCTION_BEFORE = frozenset(
    {
        TokenType.R_PAREN,
        TokenType.INTO,
        TokenType.WITH,
        TokenType.JOIN,
        TokenType.VAR,
        TokenType.IDENTIFIER,
    }
)
_AFTER_FROM_FIRST = frozenset({"OVER", "IGNORE", "RESPECT"})
# These are operators, too, as in `a LIKE ('b')`: functions only where an expression begins.
_OPERATORS = frozenset({"LIKE", "ILIKE", "RLIKE", "REGEXP"})
_EXPRESSION_AFTER = frozenset(
    {TokenType.SELECT, TokenType.COMMA, TokenType.L_PAREN, TokenType.WHERE, TokenType.AND, TokenType.OR, TokenType.ON}
    | {TokenType.HAVING, TokenType.QUALIFY, TokenType.WHEN, TokenType.THEN, TokenType.ELSE}
)


class _DeepRecursion:
    """Lets Python call itself more often while somebody reads or translates: the limit is that of the whole process."""

    def __init__(self) -> None:
        self._lock, self._users, self._usual = threading.Lock(), 0, 0

    @contextmanager
    def __call__(self) -> Generator[None]:
        with self._lock:
            if not self._users:
                self._usual = sys.getrecursionlimit()
                sys.setrecursionlimit(max(self._usual, _CALLS))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    sys.setrecursionlimit(self._usual)


deep_recursion = _DeepRecursion()


def parsed(sql: str) -> Expr:
    """Return one statement as sqlglot reads it, functions as `exp.Anonymous`.

    Raises:
        SqlError: sqlglot cannot read it.
    """
    try:
        with quietly(), deep_recursion():
            tokens = _SNOWFLAKE.tokenize(sql)
            _check_depth(tokens)
            _check_numbers(tokens, sql)
            statements = _SNOWFLAKE.parser(error_level=ErrorLevel.IMMEDIATE).parse(
                _renamed(_without_from_first(tokens)), sql
            )
    except ParseError as error:
        raise _problem(sql, error) from error
    except TokenError as error:
        raise syntax_error(f"parse error: {str(error).splitlines()[0]}") from error
    (statement,) = [statement for statement in statements if statement is not None]
    return statement


def _check_depth(tokens: Sequence[Token]) -> None:
    depth = prefixes = 0
    for token in tokens:
        prefixes = prefixes + 1 if token.token_type in _PREFIXES else 0
        depth += (token.token_type in _OPENS) - (token.token_type in _CLOSES)
        if depth + prefixes > _DEEPEST:
            raise unsupported("read a statement of so many levels", f"more than {_DEEPEST}")


def _check_numbers(tokens: Sequence[Token], sql: str) -> None:
    """Refuse `0x1F`, which sqlglot takes for `x'1F'`: to Snowflake it is a zero and a name."""
    for token in tokens:
        if token.token_type is TokenType.HEX_STRING and not sql[: token.end + 1].endswith("'"):
            raise unsupported("read a number like this", f"0x{token.text} in line {token.line}")


def function_name(node: Expr) -> str | None:
    """Return the name of the function that a node calls, None if it calls none that Snowflake has."""
    name = node.name if isinstance(node, exp.Anonymous) else ""
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None


def authored(node: Expr) -> str:
    """Return a node as its author could have written it."""
    return node.sql(dialect="snowflake").replace(_PREFIX, "")


def _without_from_first(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens without `FROM FIRST` behind NTH_VALUE(...), the usual way: sqlglot takes its FROM for the clause."""
    dropped: set[int] = set()
    for index, token in enumerate(tokens[:-2]):
        first, after = tokens[index + 1].text.upper(), tokens[index + 2].text.upper()
        is_behind_call = index and tokens[index - 1].token_type is TokenType.R_PAREN
        if not (is_behind_call and token.token_type is TokenType.FROM and after in _AFTER_FROM_FIRST):
            continue
        if first == "LAST":
            raise unsupported("count the rows of a window from its last", f"FROM LAST in line {token.line}")
        dropped |= {index, index + 1} if first == "FIRST" else set()
    return [token for index, token in enumerate(tokens) if index not in dropped]


def _renamed(tokens: Sequence[Token]) -> list[Token]:
    renamed: list[Token] = []
    cases = 0
    for index, token in enumerate(tokens):
        cases += (token.token_type is TokenType.CASE) - (token.token_type is TokenType.END)
        after = tokens[index + 1].token_type if index + 1 < len(tokens) else None
        before = tokens[index - 1].token_type if index else None
        name = token.text.upper()
        is_modifier = before is TokenType.STAR and tokens[index - 2].token_type in _BEFORE_ALL_COLUMNS
        # THEN INSERT (...) outside of CASE is a branch of MERGE.
        is_modifier = is_modifier or (before is TokenType.THEN and name == "INSERT" and not cases)
        called = after is TokenType.L_PAREN and name in FUNCTION_NAMES and _is_function(token, before)
        if called and not is_modifier and not (before is TokenType.COMMA and _names_a_query(tokens[index + 1 :])):
            renamed.append(Token(TokenType.VAR, _PREFIX + name, token.line, token.col, token.start, token.end))
        else:
            renamed.append(token)
    return renamed


def _is_function(token: Token, before: TokenType | None) -> bool:
    if token.token_type in {TokenType.STRING, TokenType.IDENTIFIER} or token.text.upper() in _OWN_SYNTAX:
        return False
    if token.text.upper() in _OPERATORS:
        return before in _EXPRESSION_AFTER
    return before not in _TYPE_BEFORE and before not in _NO_FUNCTION_BEFORE


def _names_a_query(tokens: Sequence[Token]) -> bool:
    """Return whether parentheses are followed by `AS (`: they hold the columns of a common table expression."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if not depth:
            kinds = [after.token_type for after in tokens[index + 1 : index + 3]]
            return kinds == [TokenType.ALIAS, TokenType.L_PAREN]
    return False


def _problem(sql: str, error: ParseError) -> Exception:
    found = error.errors[0] if error.errors else {}
    start = len(str(found.get("start_context") or ""))
    context = str(found.get("start_context") or "") + str(found.get("highlight") or "")
    if not context or context not in sql:
        return syntax_error(str(error).replace("\x1b[4m", "").replace("\x1b[0m", ""))
    return SyntaxProblemError(sql, sql.find(context) + start, str(found["highlight"]))
