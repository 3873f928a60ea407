"""The errors of Snowflake that are known, as templates with their sources, and the words in them. Pure."""

import re
from dataclasses import dataclass
from functools import cache

from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO

PLACEHOLDER = re.compile(r"\{(name|token|expression|type|types|number|kind|words|path|value)\}")


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
_WORD = re.compile(r"[A-Za-z]+")


@cache
def vocabulary() -> frozenset[str]:
    """Return the words, in lower case, that errors of Snowflake are made of."""
    literals = (PLACEHOLDER.sub(" ", template.text) for template in (*DATA_TEMPLATES, *STATEMENT_TEMPLATES))
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
