"""Where in a statement an error is, as Snowflake says it: lines from 1, positions from 0."""

from dataclasses import dataclass

from run_elt_dagster.embedded.errors import SqlError
from run_elt_dagster.embedded.lexer import tokens_of

_HEAD = "SQL compilation error:\n"
_INVALID_IDENTIFIER = 904


@dataclass(frozen=True)
class SyntaxProblem:
    """What sqlglot stumbled over, in the part of a statement that it has read.

    Attributes:
        part: The part.
        start: Where in it.
        found: What stands there; empty at the end.
    """

    part: str
    start: int
    found: str

    def error(self, statement: str) -> SqlError:
        """Return the error as Snowflake words it."""
        offset = max(statement.find(self.part), 0)
        where = position_of(statement, offset + self.start)
        return SqlError(
            f"{_HEAD}syntax error {where} unexpected '{self.found or '<EOF>'}'.", errno=1003, sqlstate="42000"
        )


class SyntaxProblemError(SqlError):
    """A syntax error whose place in the whole statement is yet to be found."""

    def __init__(self, problem: SyntaxProblem) -> None:
        whole = problem.error(problem.part)
        super().__init__(whole.message, errno=whole.errno, sqlstate=whole.sqlstate)
        self.problem = problem


def position_of(sql: str, offset: int) -> str:
    """Return `line 3 at position 7`."""
    line_start = sql.rfind("\n", 0, offset) + 1
    return f"line {sql.count(chr(10), 0, offset) + 1} at position {offset - line_start}"


def located(error: SqlError, statement: str) -> SqlError:
    """Return an error with its place in the statement, where Snowflake gives one and it can be told."""
    if isinstance(error, SyntaxProblemError):
        return error.problem.error(statement)
    if error.errno != _INVALID_IDENTIFIER or not error.message.startswith(_HEAD):
        return error
    sentence = error.message.removeprefix(_HEAD)
    name = sentence.partition("'")[2].rpartition("'")[0].rpartition(".")[2].strip('"')
    # DuckDB is given another text, so its own position would be wrong.
    starts = [token.start for token in tokens_of(statement) if token.text.strip('"').upper() == name.upper()]
    if not starts:
        return error
    return SqlError(
        f"{_HEAD.strip()} error {position_of(statement, starts[0])}\n{sentence}",
        errno=error.errno,
        sqlstate=error.sqlstate,
    )
