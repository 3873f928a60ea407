r"""What Snowflake's errors say: their templates, and which parts of them are names and which are values. Pure.

Snowflake quotes names and row values alike. A part is kept only where a template knows it as a name, a type, a number or a
position. Everything else in quotes or behind a colon is left out.

A template is Snowflake's text with placeholders:

| placeholder | is | kept |
| --- | --- | --- |
| `{name}` | a name of an object or a column, with dots, quoted or not | yes |
| `{token}` | what the parser stumbled over, unless it is a literal | a name, a keyword or a sign |
| `{expression}` | names, functions and signs, no literals | yes |
| `{type}`, `{types}` | data types | yes |
| `{number}` | digits | yes |
| `{kind}` | a kind of object, as `Table` or `File format` | yes |
| `{words}` | words that are not in quotes | yes |
| `{path}` | a file of this machine | yes |
| `{value}` | anything, also over several lines and with quotes inside | no |
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO

HIDDEN = "…"
# A longer text is not compared with templates: no value is that long, and the comparison would take long.
TEMPLATE_LIMIT = 40_000
# What the rows that a statement reads can make it fail with: data conversion, functions, loading.
# https://docs.snowflake.com/en/sql-reference/functions/try_cast
DATA_ERRORS = range(100000, 200000)
# What the connector says of the network and of signing in; it has seen no row yet. The 252000s convert rows.
# https://github.com/snowflakedb/snowflake-connector-python/blob/main/src/snowflake/connector/errorcode.py
CLIENT_ERRORS = (range(250000, 252000), range(290000, 300000), range(390000, 391000))

_IDENTIFIER = r'(?:"(?:[^"\n]|""){1,255}"|[$@~]?[^\W\d][\w$-]{0,255}|\$\d{1,4})'
_NAME = rf"{_IDENTIFIER}(?:\.{{1,2}}{_IDENTIFIER}){{0,4}}"
_TYPE = r"[A-Z][A-Z_]{1,30}(?:\[\w{1,10}\])?(?:\([\d, ]{1,20}\))?(?:\{[a-z ]{1,30}\})?"
# What may stand before a name that is missing or there already. Words alone do not do: `Numeric value 'Jane'` has some too.
# https://docs.snowflake.com/en/sql-reference/sql/show
_KINDS = (
    "account|aggregation policy|alert|api integration|application|authentication policy|catalog integration|column|"
    "compute pool|connection|cortex search service|data metric function|database|database role|dataset|directory table|"
    "dynamic table|event table|external access integration|external function|external table|external volume|"
    "failover group|file format|function|git repository|hybrid table|iceberg table|image repository|integration|"
    "join policy|listing|managed account|masking policy|materialized view|model|network policy|network rule|"
    "notebook|notification integration|object|package|packages policy|password policy|pipe|policy|primary key|"
    "privacy policy|procedure|projection policy|replication group|resource monitor|role|row access policy|schema|"
    "secret|security integration|semantic view|sequence|service|session|session policy|share|snapshot|stage|"
    "storage integration|stored procedure|stream|streamlit|table|tag|task|user|user function|view|warehouse"
)
_KEPT = {
    "name": _NAME,
    "token": rf"(?:{_NAME}|<EOF>|[^\s\w'\"]{{1,3}})",
    "expression": r"[\w$.\"*+/<>=!|, ()-]{1,300}",
    "type": _TYPE,
    "types": rf"(?:{_TYPE}|unknown)(?:, (?:{_TYPE}|unknown)){{0,30}}",
    "number": r"\d{1,20}",
    "kind": rf"(?i:{_KINDS})",
    "words": r"[A-Za-z_][A-Za-z_/]{0,30}(?: [A-Za-z_/]{1,30}){0,5}",
    "path": r"[^'\"\n]{1,1000}",
}
_PLACEHOLDER = re.compile(r"\{(name|token|expression|type|types|number|kind|words|path|value)\}")


@dataclass(frozen=True)
class Template:
    """An error as Snowflake words it.

    Attributes:
        errno: Its number where it was seen; None where several have it.
        text: With placeholders.
        source: Where it was seen: a page or a public issue.
    """

    errno: int | None
    text: str
    source: str


_DOCS = "https://docs.snowflake.com/en/"
_ISSUES = "https://github.com/"

# About the statement and what it names: found before a row is read, so nothing in them is a row's value.
STATEMENT_TEMPLATES = (
    Template(904, "invalid identifier '{name}'", _ISSUES + "lightdash/lightdash/issues/663"),
    Template(
        1003,
        "syntax error line {number} at position {number} unexpected '{token}'",
        _ISSUES + "Snowflake-Labs/schemachange/issues/32",
    ),
    Template(1003, "syntax error, unexpected '{token}'", "the same without its position, as this project words it"),
    Template(
        1003,
        "parse error line {number} at position {number} near '{token}'",
        _DOCS + "sql-reference/data-types-text",
    ),
    Template(1003, "parse error near '{token}'", "the same without its position, as this project words it"),
    Template(1003, "unexpected '{token}'", _ISSUES + "dbt-labs/dbt-adapters/issues/1504"),
    Template(
        2003,
        "{kind} '{name}' does not exist or not authorized",
        _ISSUES + "hashicorp/terraform/issues/31705",
    ),
    Template(
        2043,
        "{words} does not exist, or operation cannot be performed",
        _ISSUES + "j3-signalroom/apache_flink-kickstarter/issues/545",
    ),
    Template(2002, "{kind} '{name}' already exists", _DOCS + "sql-reference/sql/create-table"),
    Template(2025, "duplicate column name '{name}'", _ISSUES + "infinitelambda/dq-tools/pull/48"),
    Template(2028, "ambiguous column name '{name}'", _ISSUES + "fivetran/dbt_jira/issues/35"),
    Template(2027, "duplicate alias '{name}'", _DOCS + "sql-reference/constructs/from"),
    Template(None, "column '{name}' does not exist", _DOCS + "sql-reference/sql/select"),
    Template(2140, "Unknown function {name}", _DOCS + "sql-reference/functions-all"),
    Template(2141, "Unknown user-defined function {name}", _DOCS + "developer-guide/udf/udf-overview"),
    Template(None, "Unknown table function {name}", _DOCS + "sql-reference/functions-table"),
    Template(
        1044,
        "Invalid argument types for function '{name}': ({types})",
        _ISSUES + "estuary/connectors/issues/4881",
    ),
    Template(
        1044,
        "Invalid argument types for function '{token}': ({types})",
        _ISSUES + "sundeck-io/OpsCenter/issues/387",
    ),
    Template(
        938,
        "not enough arguments for function [{expression}], expected {number}, got {number}",
        _DOCS + "sql-reference/functions-all",
    ),
    Template(
        939,
        "too many arguments for function [{expression}] expected {number}, got {number}",
        _DOCS + "sql-reference/functions-all",
    ),
    Template(979, "[{expression}] is not a valid group by expression", _DOCS + "sql-reference/constructs/group-by"),
    Template(None, "[{expression}] is not a valid order by expression", _DOCS + "sql-reference/constructs/order-by"),
    Template(
        None,
        "'{name}' in select clause is neither an aggregate nor in the group by clause",
        _DOCS + "sql-reference/constructs/group-by",
    ),
    Template(
        None,
        "Window function type [{expression}] requires ORDER BY in window specification",
        _DOCS + "sql-reference/functions-window-syntax",
    ),
    Template(
        1789,
        "invalid number of result columns for set operator input branches, expected {number}, got {number} in branch {{number}}",
        _DOCS + "sql-reference/operators-query",
    ),
    Template(
        1790,
        "inconsistent data type for result columns for set operator input branches, expected {type}, got {type} for expression "
        "[{{name}}] branch {{number}}",
        _DOCS + "sql-reference/operators-query",
    ),
    Template(
        2023,
        "Expression type does not match column data type, expecting {type} but got {type} for column {name}",
        _DOCS + "sql-reference/sql/alter-table",
    ),
    Template(
        2023,
        "Expression type does not match column data type, expecting {type} but got {type}",
        _DOCS + "sql-reference/sql/alter-table",
    ),
    Template(
        2020,
        "Insert value list does not match column list expecting {number} but got {number}",
        _DOCS + "sql-reference/sql/insert",
    ),
    Template(
        None,
        "Mismatch between number of columns produced by '{name}' and the number of aliases specified",
        _ISSUES + "Snowflake-Labs/Excelerator/issues/47",
    ),
    Template(
        2057,
        "View definition for '{name}' declared {number} column(s), but view query produces {number} column(s)",
        _DOCS + "sql-reference/sql/create-view",
    ),
    Template(
        3001, "Insufficient privileges to operate on {kind} '{name}'", _DOCS + "user-guide/security-access-control"
    ),
    Template(3001, "Your primary role {name} must have {words} granted", _DOCS + "user-guide/security-access-control"),
    Template(
        3001,
        "Your primary role {name} must have {words} granted on {words} {name}",
        _DOCS + "user-guide/security-access-control",
    ),
    Template(3001, "on {words} {name}", _DOCS + "user-guide/security-access-control"),
    Template(
        606,
        "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' command",
        _DOCS + "sql-reference/sql/use-warehouse",
    ),
    Template(
        90105,
        "Cannot perform {words}. This session does not have a current {words}. Call 'USE {words}', or use a qualified name",
        _DOCS + "sql-reference/sql/use-database",
    ),
    Template(
        90073,
        "Warehouse '{name}' cannot be resumed because resource monitor '{name}' has exceeded its quota",
        _ISSUES + "appsmithorg/appsmith/issues/39303",
    ),
    Template(None, "resource monitor '{name}' has exceeded its quota", _DOCS + "user-guide/resource-monitors"),
    Template(
        630,
        "Statement reached its statement or warehouse timeout of {number} second(s) and was canceled",
        _DOCS + "sql-reference/parameters#statement-timeout-in-seconds",
    ),
    Template(604, "SQL execution canceled", _DOCS + "sql-reference/functions/system_cancel_query"),
    Template(
        603,
        "Processing aborted by error {number}:{number}; incident {number}",
        _ISSUES + "brooklyn-data/dbt_artifacts/issues/109",
    ),
    Template(
        603,
        "Processing aborted due to error {number}:{number}; incident {number}",
        _ISSUES + "brooklyn-data/dbt_artifacts/issues/109",
    ),
    Template(
        EMBEDDED_DISK_ERRNO,
        "The embedded Snowflake cannot use its file {path}, got {expression}",
        "the embedded Snowflake, which names its own file",
    ),
    Template(1008, "invalid value [{value}] for parameter '{name}'", _DOCS + "sql-reference/parameters"),
    Template(1008, "Invalid value '{value}' for parameter '{name}'", _DOCS + "sql-reference/parameters"),
    Template(1007, "invalid type [{value}] for parameter '{name}'", _DOCS + "sql-reference/functions/to_date"),
    Template(1008, "invalid parameter '{name}'", _DOCS + "sql-reference/parameters"),
    Template(1006, "invalid property '{name}' for '{name}'", _DOCS + "sql-reference/sql/create-warehouse"),
    Template(None, "Session variable '{name}' does not exist", _DOCS + "sql-reference/session-variables"),
    Template(2, "Unsupported feature '{words}'", _DOCS + "sql-reference/sql/create-hybrid-table"),
    Template(2040, "Unsupported data type '{type}'", _DOCS + "sql-reference/intro-summary-data-types"),
    Template(
        None,
        "[{name}] is not a valid date/time component for function {name}",
        _DOCS + "sql-reference/functions-date-time",
    ),
    Template(
        None,
        "[{name}] is not a valid date/time component for function {name} and type {type}",
        _DOCS + "sql-reference/functions-date-time",
    ),
    Template(None, "Column {name} not found in table {name}", _DOCS + "sql-reference/sql/alter-table-column"),
    Template(
        None, "cannot change column {name} from type {type} to {type}", _DOCS + "sql-reference/sql/alter-table-column"
    ),
)

# About a row: what such an error quotes is its value.
DATA_TEMPLATES = (
    Template(
        100038,
        "Numeric value '{value}' is not recognized",
        _ISSUES + "datamill-co/target-snowflake/issues/21",
    ),
    Template(100037, "Boolean value '{value}' is not recognized", _DOCS + "sql-reference/functions/to_boolean"),
    Template(100040, "Date '{value}' is not recognized", _DOCS + "sql-reference/functions/to_date"),
    # Without quotes, since an error may come without its number.
    *(
        Template(None, f"{kind} {{value}} is not recognized", _DOCS + "sql-reference/functions/cast")
        for kind in ("Numeric value", "Boolean value", "Date", "Timestamp", "Time")
    ),
    Template(100035, "Timestamp '{value}' is not recognized", _ISSUES + "transferwise/pipelinewise/issues/791"),
    Template(100108, "Time '{value}' is not recognized", _DOCS + "sql-reference/functions/to_time"),
    *(
        Template(
            100096,
            f"Can't parse '{{value}}' as {kind} with format '{{value}}'",
            _ISSUES + "transferwise/pipelinewise-target-snowflake/issues/102",
        )
        for kind in ("timestamp", "date", "time", "number")
    ),
    Template(
        100078,
        "String '{value}' is too long and would be truncated",
        _ISSUES + "superduper-io/superduper/issues/2748",
    ),
    Template(
        100078,
        "String '{value}' is too long and would be truncated in '{name}'",
        _ISSUES + "dbt-labs/dbt-project-evaluator/issues/105",
    ),
    Template(
        100074,
        "User character length limit ({number}) exceeded by string '{value}'",
        _DOCS + "sql-reference/data-types-text",
    ),
    Template(
        100046,
        "Number out of representable range: type {type}, value {value}",
        _ISSUES + "snowflakedb/snowpark-python/issues/2685",
    ),
    Template(100039, "Numeric value '{value}' is out of range", _DOCS + "sql-reference/data-types-numeric"),
    Template(100039, "Numeric value {value} is out of range", _DOCS + "sql-reference/data-types-numeric"),
    Template(100051, "Division by zero", _DOCS + "sql-reference/operators-arithmetic"),
    *(
        Template(
            100069,
            f"Error parsing JSON: {problem}, pos {{number}}",
            _ISSUES + "transferwise/pipelinewise-target-snowflake/issues/298",
        )
        for problem in (
            "unfinished string",
            "missing comma",
            "missing colon",
            "missing value",
            "incomplete object value",
        )
    ),
    Template(100069, "Error parsing JSON: {value}", _DOCS + "sql-reference/functions/parse_json"),
    Template(100070, "Error parsing XML: {value}", _DOCS + "sql-reference/functions/parse_xml"),
    Template(100071, "Failed to cast variant value {value} to {type}", _DOCS + "sql-reference/functions/cast"),
    Template(100072, "NULL result in a non-nullable column", _DOCS + "sql-reference/constraints-overview"),
    Template(100072, "NULL result in a non-nullable column: {name}", "the embedded Snowflake, with the name"),
    Template(
        100090,
        "Duplicate row detected during DML action\nRow Values: {value}",
        _ISSUES + "dbt-labs/dbt-core/issues/10432",
    ),
    Template(100094, "Unknown timezone: '{value}'", _DOCS + "sql-reference/functions/convert_timezone"),
    Template(
        None,
        "Duplicate field key '{value}'",
        _ISSUES + "dbt-labs/dbt-adapters/blob/main/dbt-snowflake/src/dbt/adapters/snowflake/connections.py",
    ),
    Template(100144, "Invalid UTF8 detected in string '{value}'", _DOCS + "sql-reference/sql/copy-into-table"),
    Template(
        100144, "Invalid UTF8 detected while decoding '{value}'", _DOCS + "sql-reference/functions/hex_decode_string"
    ),
    Template(
        100115,
        "The following string is not a legal hex-encoded value: '{value}'",
        _ISSUES + "keboola/php-storage-driver-snowflake",
    ),
    Template(
        100205,
        "Error parsing Geo input: {value} Did not recognize valid GeoJSON, (E)WKT or (E)WKB",
        _DOCS + "sql-reference/functions/to_geography",
    ),
    Template(100205, "Error parsing Geo input: {value}", _DOCS + "sql-reference/functions/to_geography"),
    Template(None, "Geography validation failed: {value}", _DOCS + "sql-reference/functions/to_geography"),
    Template(None, "Geometry validation failed: {value}", _DOCS + "sql-reference/functions/to_geometry"),
    Template(None, "Invalid Lng/Lat pair: {value}", _DOCS + "sql-reference/functions/st_makepoint"),
    Template(100048, "Invalid regular expression: {value}", _DOCS + "sql-reference/functions-regexp"),
    Template(
        100145,
        "Max LOB size ({number}) exceeded, actual size of parsed column is {number}",
        _DOCS + "sql-reference/data-types-text",
    ),
    Template(
        100080,
        "Number of columns in file ({number}) does not match that of the corresponding table ({number}), use file format "
        "option error_on_column_count_mismatch=false to ignore this error",
        _DOCS + "sql-reference/sql/copy-into-table",
    ),
    Template(
        100016,
        "Field delimiter '{value}' found while expecting record delimiter '{value}'",
        _DOCS + "sql-reference/sql/copy-into-table",
    ),
    Template(
        100065,
        "Found character '{value}' instead of field delimiter '{value}'",
        _DOCS + "sql-reference/sql/copy-into-table",
    ),
    Template(
        100132,
        "JavaScript execution error: {value}",
        _DOCS + "developer-guide/udf/javascript/udf-javascript-limitations",
    ),
    Template(
        100357, "Python Interpreter Error:{value}", _DOCS + "developer-guide/udf/python/udf-python-troubleshooting"
    ),
    Template(90150, "Single-row subquery returns more than one row", _DOCS + "user-guide/querying-subqueries"),
)

# What comes before the sentence. Its lines and positions count from the start of the statement.
_ANNOUNCEMENT = re.compile(
    r"""\s*(?:
        (?P<code>\d{6})\ \(\w{5}\):\ (?:(?:[0-9a-f]{8}-[0-9a-f-]{20,40}|None):\ )?
      | SQL\ (?:compilation|execution|execution\ internal|access\ control)\ error:
      | error\ line\ (?P<line>\d{1,9})\ at\ position\ (?P<position>\d{1,9})
      | Uncaught\ exception\ of\ type\ '[A-Z_]{1,40}'\ on\ line\ \d{1,9}\ at\ position\ \d{1,9}\ ?:
      | Failure\ during\ expansion\ of\ view\ '"""
    + _NAME
    + r"""':
      | (?:Binder|Catalog|Parser)\ Error:  # DuckDB, of the embedded Snowflake
    )\s*""",
    re.VERBOSE,
)
_IN_A_BODY = re.compile(rf"expansion of view '(?P<view>{_NAME})'|Uncaught exception")
_POSITION = re.compile(r" line (\d{1,9}) at position (\d{1,9})(?= (?P<what>unexpected|near) )")
# Where a loaded row was, and how to go on: a file's name may be a value, and the rest says nothing of the cause.
_LOADED_FROM = re.compile(r"\n\s*File '[\s\S]*\Z")
_DUCKDB = re.compile(r"(?:Binder|Catalog|Parser) Error:")
# An apostrophe inside a word opens nothing, but for a binary literal's.
_OPENING = re.compile(r"""(?<!\w)(?:[xX]?'|`|"(?![A-Za-z_][A-Za-z0-9_$.]*"))|[\[{]""")
_ANY_OPENING = re.compile(r"""(?<!\w)(?:[xX]?'|["`])|[\[{]""")
_CLOSING = "'\"`]}"
# What such a word announces is a name also where no template knows the sentence: a row has none of these.
_ANNOUNCING = (
    "(?:column|database|feature|file format|function|identifier|integration|monitor|object|parameter|pipe|policy|procedure|"
    "role|schema|sequence|share|stage|stream|table|tag|task|type|view|warehouse)"
)
_NAMED = re.compile(
    rf"""[^'"`\[{{:]*\b(?i:{_ANNOUNCING}(?:[ ]name)?)[ ]'(?:{_NAME}|[A-Z]+(?:[ ][A-Z]+){{1,4}})(?:\((?:{_KEPT["types"]})?\))?'(?![\w'])"""
)
# A row's value may stand without quotes: after the word for it, or as a number too long for a position or a time-out.
_BARE_VALUE = re.compile(
    r"(?<=\bvalue )[^\s'\"`\[{]+|(?<==)\s?[^\s'\"`\[{]+|(?<![\w$.(,])[-+]?\d[\w.:/+-]{4,}", re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Sentence:
    """A sentence of an error, without row values.

    Attributes:
        text: As Snowflake says it, without what announces it.
        line: Line of the statement, from 1; None if it names none.
        position: Position in that line, from 0; None if it names none.
        lead: What came before it, such as `SQL compilation error:` and a line end.
    """

    text: str
    line: int | None = None
    position: int | None = None
    lead: str = ""

    @property
    def told(self) -> str:
        """The sentence without its position and the full stop at its end."""
        short = _POSITION.sub(lambda match: "," if match["what"] == "unexpected" else "", self.text, count=1)
        view = _IN_A_BODY.search(self.lead)
        where = f" in view {view['view']}" if view and view["view"] else ""
        return short.strip().removesuffix(".") + where


def sentences(text: str, errno: int | None = None) -> tuple[Sentence, ...]:
    """Return what an error of Snowflake says, without the row values that it quotes.

    Args:
        text: The error's text, with or without its number.
        errno: Its number, None if unknown.
    """
    line, position, at = None, None, 0
    while (match := _ANNOUNCEMENT.match(text, at)) and match.end() > at:
        errno = int(match["code"]) if errno is None and match["code"] else errno
        # A position in the SQL of a view or of a procedure is none in the statement.
        if match["line"] and not _IN_A_BODY.search(text[:at]):
            line, position = int(match["line"]), int(match["position"])
        at = match.end()
    lead, body = text[:at], text[at:]
    if errno is not None and any(errno in known for known in CLIENT_ERRORS):
        return (Sentence(body, line, position, lead),)
    if (whole := _matched(body.strip(), DATA_TEMPLATES)) is not None:
        return (Sentence(whole, line, position, lead),)
    # A procedure fails with a number of its own, whatever failed in it.
    if (errno is not None and errno in DATA_ERRORS) or "Uncaught exception" in lead:
        return (Sentence(_known_words(_without_quotes(body, _ANY_OPENING)), line, position, lead),)
    return tuple(_statement_sentences(body, Sentence("", line, position, lead)))


def _statement_sentences(body: str, first: Sentence) -> Iterator[Sentence]:
    """Yield the lines of an error about the statement; after one that no template knows, none is trusted."""
    lead, line, position = first.lead, first.line, first.position
    # DuckDB's names of the embedded Snowflake are in double quotes; Snowflake's values may be.
    opening = _OPENING if _DUCKDB.search(lead) else _ANY_OPENING
    lines = body.split("\n")
    for number, here in enumerate(lines):
        while announced := _ANNOUNCEMENT.match(here):
            if announced["line"]:
                line, position = int(announced["line"]), int(announced["position"])
            lead, here = lead + announced.group(), here[announced.end() :]  # noqa: PLW2901 - what is left of it
        end = "\n" if number + 1 < len(lines) else ""
        if not here.strip():
            lead += here + end
            continue
        if at := _POSITION.search(here):
            line, position = int(at[1]), int(at[2])
        known = _matched(here.strip(), STATEMENT_TEMPLATES)
        if known is None:
            rest = here + end + "\n".join(lines[number + 1 :])
            yield Sentence(_without_values(rest, opening), line, position, lead)
            return
        yield Sentence(known, line, position, lead)
        lead, line, position = end, None, None


def _matched(text: str, templates: tuple[Template, ...]) -> str | None:
    """Return the text of the first template that it has as a whole, without values; None if it has none."""
    if len(text) > TEMPLATE_LIMIT:
        return None
    # As it is first: a value may look like the place that COPY names behind its errors.
    for said, template in itertools.product(dict.fromkeys([text, _LOADED_FROM.sub("", text)]), templates):
        pattern, kept = _compiled(template.text)
        if match := pattern.fullmatch(said):
            return "".join(match[part] if part.startswith("p_") else part for part in kept) + match["stop"]
    return None


@cache
def _compiled(template: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Return the pattern of a template, and its parts: literal text, groups to keep, and what stands for a value."""
    pattern, parts = "", list[str]()
    for number, piece in enumerate(_PLACEHOLDER.split(template)):
        if number % 2 == 0:
            pattern += re.escape(piece)
            parts.append(piece)
        elif piece == "value":
            pattern += r"[\s\S]*"
            parts.append(HIDDEN)
        else:
            pattern += f"(?P<p_{number}>{_KEPT[piece]})"
            parts.append(f"p_{number}")
    return re.compile(pattern + r"(?P<stop>\.?)"), tuple(parts)


def _without_values(text: str, opening: re.Pattern[str]) -> str:
    """Return an error about the statement that no template knows: with the names that a kind announces, without values."""
    at = 0
    while len(text) <= TEMPLATE_LIMIT and (named := _NAMED.match(text, at)):
        at = named.end()
    rest = _without_quotes(text[at:], opening)
    return _without_bare_values(text[:at]) + _without_bare_values(rest)


def _without_bare_values(text: str) -> str:
    return _BARE_VALUE.sub(lambda match: match.group() if _is_known(match.group()) else HIDDEN, text)


def _without_quotes(text: str, opening: re.Pattern[str]) -> str:
    """Return a text that no template knows without what is behind a colon and without what is in quotes or brackets.

    From the first that opens to the last that closes: a value may have quotes and line ends inside.
    """
    head, colon, _ = text.partition(":")
    quoted = opening.search(head)
    if quoted is None:
        return f"{head}: {HIDDEN}" if colon else head
    last = max(text.rfind(sign) for sign in _CLOSING)
    start = head[: quoted.start()]
    if last <= quoted.start():
        return f"{start}{HIDDEN}"
    # A colon may be inside or outside of the quotes: what follows it cannot be told from a value.
    return f"{start}{quoted.group()}{HIDDEN}{text[last]}{'' if colon else text[last + 1 :]}"


def _known_words(text: str) -> str:
    """Return a text with the words that errors of Snowflake are made of; any other may be a row's."""
    known = [word if _is_known(word) else HIDDEN for word in text.split()]
    shown = [word for number, word in enumerate(known) if word != HIDDEN or known[number - 1 : number] != [HIDDEN]]
    return " ".join(shown)


def _is_known(word: str) -> bool:
    bare = word.strip("'\"`()[]{}.,;:" + HIDDEN)
    return not bare or bare.lower() in vocabulary()


@cache
def vocabulary() -> frozenset[str]:
    """Return the words, in lower case, that errors of Snowflake are made of."""
    literals = (_PLACEHOLDER.sub(" ", template.text) for template in (*DATA_TEMPLATES, *STATEMENT_TEMPLATES))
    return frozenset(word.lower() for text in literals for word in _WORD.findall(text)) | _MORE_WORDS


_MORE_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "array",
        "as",
        "at",
        "be",
        "been",
        "because",
        "before",
        "binary",
        "bit",
        "bytes",
        "can",
        "cannot",
        "cast",
        "character",
        "characters",
        "conversion",
        "convert",
        "converted",
        "could",
        "data",
        "decode",
        "decoding",
        "decimal",
        "decompress",
        "divide",
        "during",
        "element",
        "elements",
        "encoded",
        "encoding",
        "end",
        "error",
        "evaluated",
        "evaluating",
        "exceeded",
        "exceeds",
        "expected",
        "external",
        "failed",
        "failure",
        "field",
        "fields",
        "float",
        "format",
        "found",
        "function",
        "has",
        "hash",
        "have",
        "illegal",
        "in",
        "incorrect",
        "index",
        "input",
        "integer",
        "interval",
        "into",
        "invalid",
        "is",
        "it",
        "its",
        "key",
        "keys",
        "large",
        "length",
        "limit",
        "malformed",
        "map",
        "maximum",
        "memory",
        "merge",
        "minimum",
        "missing",
        "more",
        "must",
        "negative",
        "no",
        "not",
        "null",
        "number",
        "numeric",
        "object",
        "of",
        "on",
        "only",
        "or",
        "out",
        "outside",
        "over",
        "overflow",
        "parameter",
        "parse",
        "pattern",
        "precision",
        "queries",
        "query",
        "range",
        "recognized",
        "record",
        "required",
        "requires",
        "result",
        "return",
        "returned",
        "returns",
        "row",
        "rows",
        "scale",
        "sequence",
        "size",
        "small",
        "statement",
        "string",
        "supported",
        "the",
        "than",
        "that",
        "this",
        "time",
        "timestamp",
        "to",
        "too",
        "transformation",
        "type",
        "types",
        "unable",
        "underflow",
        "unexpected",
        "unknown",
        "unsupported",
        "valid",
        "value",
        "values",
        "variant",
        "vector",
        "was",
        "while",
        "width",
        "with",
        "would",
        "zero",
    ]
)
