"""Errors as Snowflake answers them, and what DuckDB raises in its place.

Codes and SQL states: https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api#error-attributes
"""

import logging
import re
from collections.abc import Callable

import duckdb

from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO, DiskTrouble, disk_trouble

# What DuckDB raises where it reads or writes a file; a commit that fails for the disk is a TransactionException.
_OF_FILES = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)
_FILE = re.compile(r'file "([^"\n]+)"')


class SqlError(Exception):
    """A statement that fails as it would on Snowflake.

    Attributes:
        message: The text without code and state, which the connector puts in front of it.
        errno: Snowflake's error number, such as 2003.
        sqlstate: The SQL state, such as `42S02`.
        line: Line of the statement, from 1, where the text names one.
    """

    def __init__(self, message: str, *, errno: int, sqlstate: str) -> None:
        super().__init__(message)
        self.message = message
        self.errno = errno
        self.sqlstate = sqlstate
        named = re.search(r"\bline (\d+)", message)
        self.line = int(named[1]) if named else None


def disk_failure(trouble: DiskTrouble, text: str) -> SqlError:
    """Return the error of a statement that the disk under the database's file has not taken, or not given.

    Args:
        trouble: What DuckDB met.
        text: DuckDB's own words, which name the file.
    """
    named = _FILE.search(text)
    return SqlError(
        f"The embedded Snowflake cannot use its file {named[1] if named else 'in RUN_ELT_EMBEDDED_DIR'}, got {trouble.got}",
        errno=EMBEDDED_DISK_ERRNO,
        sqlstate="58030",
    )


class CancelledError(SqlError):
    """The statement was cancelled, as `SYSTEM$CANCEL_QUERY` does it."""

    def __init__(self) -> None:
        super().__init__("SQL execution canceled", errno=604, sqlstate="57014")


def unsupported(what: str, got: str) -> SqlError:
    """Return the error for what only an account can do."""
    return SqlError(
        f"The embedded Snowflake cannot {what}, got {got}. Nothing was executed. "
        "Run the statement on a Snowflake account.",
        errno=2,
        sqlstate="0A000",
    )


def syntax_error(message: str) -> SqlError:
    """Return a compilation error about the statement's syntax."""
    return SqlError(f"SQL compilation error:\n{message}", errno=1003, sqlstate="42000")


def position_of(sql: str, offset: int) -> str:
    """Return where in a text something is, as Snowflake says it: lines from 1, positions from 0."""
    line_start = sql.rfind("\n", 0, offset) + 1
    return f"line {sql.count(chr(10), 0, offset) + 1} at position {offset - line_start}"


def unexpected(sql: str, start: int, found: str) -> SqlError:
    """Return the syntax error for what cannot stand where it does."""
    return syntax_error(f"syntax error {position_of(sql, start)} unexpected '{found}'.")


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


def missing_object(name: str) -> SqlError:
    """Return the error for a table, view, schema or role that is not there."""
    return SqlError(
        f"SQL compilation error:\nObject '{name}' does not exist or not authorized.",
        errno=2003,
        sqlstate="42S02",
    )


def missing_schema(database: str, schema: str) -> SqlError:
    """Return the error for a schema that is not there."""
    return SqlError(
        f"SQL compilation error:\nSchema '{database}.{schema}' does not exist or not authorized.",
        errno=2003,
        sqlstate="02000",
    )


def existing_object(name: str) -> SqlError:
    """Return the error for a name that is taken."""
    return SqlError(f"SQL compilation error:\nObject '{name}' already exists.", errno=2002, sqlstate="42710")


def _missing(match: re.Match[str]) -> SqlError:
    return missing_object(match[1])


def _existing(match: re.Match[str]) -> SqlError:
    return existing_object(match[1])


def _another_kind(match: re.Match[str]) -> SqlError:
    found, wanted = match[1].upper(), match[2].upper()
    return SqlError(
        f"SQL compilation error:\nObject found is of type '{found}', not specified type '{wanted}'.",
        errno=2203,
        sqlstate="42601",
    )


def _numeric(match: re.Match[str]) -> SqlError:
    return SqlError(f"Numeric value '{match[1]}' is not recognized", errno=100038, sqlstate="22018")


def _out_of_range(match: re.Match[str]) -> SqlError:
    return SqlError(f"Numeric value '{match[1]}' is out of range", errno=100039, sqlstate="22003")


def _boolean(match: re.Match[str]) -> SqlError:
    return SqlError(f"Boolean value '{match[1]}' is not recognized", errno=100037, sqlstate="22018")


def _date(match: re.Match[str]) -> SqlError:
    return SqlError(f"Date '{match[1]}' is not recognized", errno=100040, sqlstate="22007")


def _timestamp(match: re.Match[str]) -> SqlError:
    return SqlError(f"Timestamp '{match[1]}' is not recognized", errno=100035, sqlstate="22007")


def _null(match: re.Match[str]) -> SqlError:
    column = match[1].rpartition(".")[2]
    return SqlError(f"NULL result in a non-nullable column: {column}", errno=100072, sqlstate="22000")


def _column(match: re.Match[str]) -> SqlError:
    return SqlError(f"SQL compilation error:\ninvalid identifier '{match[1]}'", errno=904, sqlstate="42000")


def _function(match: re.Match[str]) -> SqlError:
    return SqlError(f"SQL compilation error:\nUnknown function {match[1].upper()}", errno=2140, sqlstate="42601")


def _existing_column(match: re.Match[str]) -> SqlError:
    return SqlError(f"SQL compilation error:\ncolumn '{match[1]}' already exists", errno=1430, sqlstate="42601")


def _column_count(match: re.Match[str]) -> SqlError:
    return SqlError(
        f"SQL compilation error:\nInsert value list does not match column list expecting {match[2]} but got {match[3]}",
        errno=2020,
        sqlstate="21S01",
    )


def _too_long(_: re.Match[str]) -> SqlError:
    return SqlError("String is too long and would be truncated", errno=100078, sqlstate="22000")


def _merge(_: re.Match[str]) -> SqlError:
    return unsupported("delete one row for several rows of the source by MERGE", "such rows")


def _default(_: re.Match[str]) -> SqlError:
    return unsupported("keep this default of a column", "one that is more than a constant and simple functions")


def _division(_: re.Match[str]) -> SqlError:
    return SqlError("Division by zero", errno=100051, sqlstate="22012")


def _not_grouped(match: re.Match[str]) -> SqlError:
    return SqlError(
        f"SQL compilation error:\n[{match[1]}] is not a valid group by expression", errno=979, sqlstate="42601"
    )


def _compilation(text: str, errno: int) -> Callable[[re.Match[str]], SqlError]:
    return lambda _: SqlError(f"SQL compilation error:\n{text}", errno=errno, sqlstate="42601")


def _several_rows(_: re.Match[str]) -> SqlError:
    return SqlError("Single-row subquery returns more than one row.", errno=90150, sqlstate="22000")


def _regex(_: re.Match[str]) -> SqlError:
    return SqlError("Invalid regular expression", errno=100048, sqlstate="2201B")


def _zone(match: re.Match[str]) -> SqlError:
    return SqlError(f"Unknown timezone: '{match[1]}'", errno=100117, sqlstate="22023")


def _not_converted(match: re.Match[str]) -> SqlError:
    # A number that is written well has no place in the type.
    is_number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", match[1], re.IGNORECASE)
    return _out_of_range(match) if is_number else _numeric(match)


def _cannot(what: str, got: str) -> Callable[[re.Match[str]], SqlError]:
    return lambda _: unsupported(what, got)


# The first pattern found in DuckDB's text decides.
_BY_TEXT: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], SqlError]], ...] = (
    (re.compile(r'(?:Table|View|Schema) with name "?([^"\s]+)"? does not exist'), _missing),
    (re.compile(r'(?:Table|View|Schema) with name "?([^"\s]+)"? already exists'), _existing),
    (re.compile(r'Existing object "(.+?)" is of type \w+, trying to replace'), _existing),
    (re.compile(r'Existing object ".+?" is of type (\w+), trying to drop type (\w+)'), _another_kind),
    (re.compile(r'Column with name "?(\w+)"? already exists'), _existing_column),
    (re.compile(r'[Ss]chema "?([^"\s]+)"? does not exist'), _missing),
    (re.compile(r"Function with name \"?([^\"\s]+)\"? does not exist"), _function),
    (re.compile(r'Referenced column "(.+?)" (?:not|was not) found'), _column),
    (re.compile(r'does not have a column with name "(.+?)"'), _column),
    (re.compile(r'"(.+?)" has (\d+) columns but (\d+) values'), _column_count),
    (re.compile(r"MERGE INTO command cannot affect the same target row"), _merge),
    (re.compile(r"DEFAULT value cannot contain"), _default),
    (re.compile(r"Division by zero"), _division),
    (re.compile(r"CHECK constraint failed .*length\("), _too_long),
    (re.compile(r"NOT NULL constraint failed: (\S+)"), _null),
    (re.compile(r"Could not convert string '(.*?)' to BOOL"), _boolean),
    (re.compile(r'Casting value "(.*?)" to type DECIMAL\(.*?\) failed: value is out of range'), _out_of_range),
    (re.compile(r"Could not convert string [\"'](.*?)[\"'] to "), _not_converted),
    (re.compile(r"Could not cast value (\S+) to DECIMAL"), _out_of_range),
    (
        re.compile(r"Overflow in |[Oo]verflow"),
        _cannot("compute with so many digits", "a number of more than 38 digits"),
    ),
    (re.compile(r'column "?(.+?)"? must appear in the GROUP BY'), _not_grouped),
    (re.compile(r'GROUPING child "*(.+?)"* must be a grouping column'), _not_grouped),
    (re.compile(r"GROUPING statement cannot be used"), _compilation("GROUPING requires GROUP BY", 979)),
    (
        re.compile(r"GROUP BY clause cannot contain aggregates"),
        _compilation("an aggregate is not a valid group by expression", 979),
    ),
    (
        re.compile(r"aggregate function calls cannot be nested"),
        _compilation("an aggregate function cannot stand inside an aggregate function", 2076),
    ),
    (
        re.compile(r"(?:WHERE|JOIN|ON) clause cannot contain aggregates"),
        _compilation("Invalid aggregate function in where clause", 2035),
    ),
    (
        re.compile(r"cannot contain window functions"),
        _compilation("Window function appears outside of SELECT, QUALIFY, and ORDER BY clauses.", 2070),
    ),
    (re.compile(r"Invalid Input Error: (?:missing|no argument|invalid|bad|unexpected|trailing)"), _regex),
    (re.compile(r"More than one row returned by a subquery"), _several_rows),
    (re.compile(r"Unknown TimeZone '(.*?)'"), _zone),
    (
        re.compile(r"subqueries in lambda expressions"),
        _cannot("take a subquery as such an argument", "(SELECT ...)"),
    ),
    (re.compile(r"[Ff]rame (?:starting|ending|start|end)"), _cannot("run this window frame", "bounds in this order")),
    (re.compile(r'invalid timestamp field format: "(.*?)"'), _timestamp),
    (re.compile(r'invalid date field format: "(.*?)"'), _date),
)

# What the macros of `translation/data` raise: a number of Snowflake's or `unsupported`, and the text.
_TOLD = re.compile(r"'!(\d{6}|unsupported)\|(.*)' to INT8", re.DOTALL)
_STATES = {100035: "22007", 100037: "22018", 100038: "22018", 100040: "22007", 100051: "22012", 100078: "22000"}


def _told(match: re.Match[str]) -> SqlError:
    if match[1] == "unsupported":
        return unsupported("tell what this gives", match[2])
    return SqlError(match[2], errno=int(match[1]), sqlstate=_STATES.get(int(match[1]), "22000"))


_log = logging.getLogger(__name__)


def from_duckdb(error: duckdb.Error) -> SqlError:
    """Return the error that Snowflake gives where DuckDB raised this one.

    The text is Snowflake's where it is known. Anything else is a gap here, never a mistake of the author's: DuckDB's words go
    to the log.
    """
    if isinstance(error, duckdb.InterruptException):
        return CancelledError()
    text = str(error)
    if isinstance(error, duckdb.ConversionException) and (told := _TOLD.search(text)):
        return _told(told)
    if isinstance(error, _OF_FILES) and (trouble := disk_trouble(error)):
        return disk_failure(trouble, text)
    for pattern, translate in _BY_TEXT:
        if match := pattern.search(text):
            return translate(match)
    _log.debug("DuckDB: %s", text)
    return unsupported("run this statement", f"a failure of its engine ({type(error).__name__})")
