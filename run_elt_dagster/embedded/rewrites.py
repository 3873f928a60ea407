"""Rewrites of a parsed statement before and after fakesnow's own.

Each is one function that takes a node and returns it, or another one in its place.
"""

from collections.abc import Callable, Mapping, Sequence

from sqlglot import Expr, exp

from run_elt_dagster.embedded.errors import unsupported
from run_elt_dagster.embedded.formats import Formatted, parts_of

# https://docs.snowflake.com/en/sql-reference/functions-context
_CONTEXT_FUNCTIONS: Mapping[str, str] = {
    "CURRENT_ACCOUNT": "account",
    "CURRENT_DATABASE": "database",
    "CURRENT_REGION": "region",
    "CURRENT_ROLE": "role",
    "CURRENT_SCHEMA": "schema",
    "CURRENT_SESSION": "session_id",
    "CURRENT_USER": "user",
    "CURRENT_WAREHOUSE": "warehouse",
    "LAST_QUERY_ID": "last_query_id",
}
POLICY_COLUMNS = (
    *(
        "POLICY_DB",
        "POLICY_SCHEMA",
        "POLICY_NAME",
        "POLICY_KIND",
        "REF_DATABASE_NAME",
        "REF_SCHEMA_NAME",
        "REF_ENTITY_NAME",
    ),
    *(
        "REF_ENTITY_DOMAIN",
        "REF_COLUMN_NAME",
        "REF_ARG_COLUMN_NAMES",
        "TAG_DATABASE",
        "TAG_SCHEMA",
        "TAG_NAME",
        "POLICY_STATUS",
    ),
)
# sqlglot (30.22) leaves the format out for DuckDB, or translates it wrongly where it knows the type: `dd` loses its zero.
# Under a name that it does not know the function arrives here as it was written.
TO_VARCHAR = "EMBEDDED_TO_VARCHAR"
RENAMED_FUNCTIONS: Mapping[str, str] = {"TO_CHAR": TO_VARCHAR, "TO_VARCHAR": TO_VARCHAR}
# In a database of its own in memory, so it needs no place in anybody's.
_TEXT_MACRO = "_fs_global._fs_information_schema.embedded_text"
# Only instants are written differently: https://docs.snowflake.com/en/sql-reference/parameters#timestamp-ntz-output-format
# The detour over VARCHAR lets DuckDB accept the macro for every type; the branch is chosen before any row is read.
TEXT_MACRO_SQL = f"""
CREATE OR REPLACE MACRO {_TEXT_MACRO}(v) AS CASE typeof(v)
    WHEN 'TIMESTAMP' THEN strftime(TRY_CAST(v::VARCHAR AS TIMESTAMP), '%Y-%m-%d %H:%M:%S.%g')
    WHEN 'TIMESTAMP WITH TIME ZONE'
        THEN strftime(TRY_CAST(v::VARCHAR AS TIMESTAMPTZ) AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%g +0000')
    ELSE v::VARCHAR END
"""
TEXT_TYPES = (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT)
_SUMS = (exp.Sum, exp.Avg, exp.Variance, exp.Stddev, exp.StddevSamp, exp.StddevPop, exp.VariancePop, exp.Median)


def before_fakesnow(
    expression: Expr,
    *,
    context: Mapping[str, str | None],
    labels: Sequence[str] | None,
) -> Expr:
    """Return a statement that fakesnow translates as Snowflake means it.

    Args:
        expression: The parsed statement, which is changed.
        context: What CURRENT_ROLE() and its like give.
        labels: Names for the columns of a query that have none.

    Raises:
        SqlError: It looks into the past, or scans a result.
    """
    labelled(expression, labels)
    for node in list(expression.find_all(exp.TryCast)):
        node.meta["authored"] = True
    return rewritten(expression, lambda node: no_policies(without_past(context_function(to_varchar(node), context))))


def after_fakesnow(expression: Expr) -> Expr:
    """Return a statement without what fakesnow added that Snowflake does not do."""
    for aggregate in list(expression.find_all(*_SUMS)):
        exact_aggregate(aggregate)
    # Lengths would be written into another database than the table, which no DuckDB transaction can.
    expression.args.pop("text_lengths", None)
    return rewritten(expression, lambda node: truncated_date(concatenated(text_cast(node))))


def rewritten(expression: Expr, rewrite: Callable[[Expr], Expr]) -> Expr:
    """Return an expression with each node rewritten, children first: sqlglot's own transform skips what is inside."""
    for node in reversed(list(expression.walk())):
        if (new := rewrite(node)) is not node:
            node.replace(new)
            expression = new if node is expression else expression
    return expression


def to_varchar(node: Expr) -> Expr:
    """Honour the format of TO_VARCHAR and TO_CHAR.

    https://docs.snowflake.com/en/sql-reference/functions/to_char
    """
    if not isinstance(node, exp.Anonymous) or node.name != TO_VARCHAR:
        return node
    value, *template = node.expressions
    if not template:
        return exp.cast(value, "VARCHAR")
    if not isinstance(template[0], exp.Literal) or not template[0].is_string or template[1:]:
        raise unsupported("format with anything but a constant", template[0].sql(dialect="snowflake"))
    whole, *parts = [_formatted(part, value) for part in parts_of(str(template[0].this))]
    for part in parts:
        # Unlike CONCAT, || keeps NULL a NULL.
        whole = exp.DPipe(this=whole, expression=part)
    return exp.Paren(this=whole)


def _formatted(part: Formatted, value: Expr) -> Expr:
    text = exp.Anonymous(this="strftime", expressions=[value.copy(), exp.Literal.string(part.strftime)])
    if part.characters is None:
        return text
    return exp.Anonymous(this="left", expressions=[text, exp.Literal.number(part.characters)])


def context_function(node: Expr, context: Mapping[str, str | None]) -> Expr:
    """Answer CURRENT_ROLE() and its like for the session, not for DuckDB."""
    if not isinstance(node, exp.Func):
        return node
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
    key = _CONTEXT_FUNCTIONS.get(name.upper())
    if key is None or key not in context:
        return node
    value = context[key]
    return exp.Null() if value is None else exp.Literal.string(value)


def text_cast(node: Expr) -> Expr:
    """Write instants as Snowflake does, and cut what is cast to VARCHAR(n), which DuckDB does not.

    https://docs.snowflake.com/en/sql-reference/functions/cast
    """
    if type(node) is not exp.Cast or node.to.this not in TEXT_TYPES:
        return node
    text = exp.Anonymous(this=_TEXT_MACRO, expressions=[node.this])
    length = node.to.find(exp.DataTypeParam)
    return text if length is None else exp.Anonymous(this="left", expressions=[text, length.this.copy()])


def concatenated(node: Expr) -> Expr:
    """Write instants that are concatenated as those that are cast: https://docs.snowflake.com/en/sql-reference/functions/concat."""
    if isinstance(node, exp.DPipe | exp.Concat):
        for operand in list(node.iter_expressions()):
            if isinstance(operand, exp.Column | exp.Cast | exp.Paren | exp.Func):
                operand.replace(exp.Anonymous(this=_TEXT_MACRO, expressions=[operand.copy()]))
    return node


def truncated_date(node: Expr) -> Expr:
    """Keep what is visibly a date a date: https://docs.snowflake.com/en/sql-reference/functions/date_trunc.

    DuckDB gives a timestamp. The type of a mere column is not known here, so truncating one gives a timestamp too.
    """
    is_date = isinstance(node.this, exp.CurrentDate) or (
        isinstance(node.this, exp.Cast) and node.this.to.this == exp.DataType.Type.DATE
    )
    return exp.cast(node.copy(), "DATE") if isinstance(node, exp.DateTrunc | exp.TimestampTrunc) and is_date else node


def without_past(node: Expr) -> Expr:
    """Refuse AT and BEFORE, RESULT_SCAN, and variables: DuckDB would read the present rows, fakesnow another result.

    https://docs.snowflake.com/en/sql-reference/constructs/at-before and
    https://docs.snowflake.com/en/sql-reference/functions/result_scan
    """
    if isinstance(node, exp.HistoricalData):
        raise unsupported("read the rows that a table had before", str(node.this).upper())
    if isinstance(node, exp.Anonymous) and node.name.upper() == "RESULT_SCAN":
        raise unsupported("read the result of an earlier statement", node.sql(dialect="snowflake"))
    if isinstance(node, exp.Parameter):
        raise unsupported("use a session variable", node.sql(dialect="snowflake"))
    return node


def no_policies(node: Expr) -> Expr:
    """Answer POLICY_REFERENCES without a row, since no policy can be created.

    https://docs.snowflake.com/en/sql-reference/functions/policy_references
    """
    call = node.find(exp.Anonymous) if isinstance(node, exp.TableFromRows) else None
    if call is None or call.name.upper() != "POLICY_REFERENCES":
        return node
    none = ", ".join(f"CAST(NULL AS TEXT) AS {name}" for name in POLICY_COLUMNS)
    return exp.Subquery(this=exp.maybe_parse(f"SELECT {none} LIMIT 0", dialect="duckdb"), alias=node.args.get("alias"))


def labelled(expression: Expr, labels: Sequence[str] | None) -> None:
    """Name the columns of a result as Snowflake does: `COUNT(*)`, where DuckDB says `count_star()`."""
    is_query = isinstance(expression, exp.Select | exp.SetOperation | exp.Subquery)
    select = expression.find(exp.Select) if is_query else None
    if select is None or labels is None or len(labels) != len(select.expressions):
        return
    for column, label in zip(list(select.expressions), labels, strict=True):
        if not isinstance(column, exp.Alias | exp.Column | exp.Star | exp.Dot) and not column.is_star:
            column.replace(exp.alias_(column.copy(), label, quoted=True))


def exact_aggregate(node: Expr) -> None:
    """Undo fakesnow's cast of what is summed: it turns integers into floats and hides values that are no numbers."""
    cast = node.this
    if isinstance(cast, exp.TryCast) and not cast.meta.get("authored") and cast.to.this == exp.DataType.Type.DOUBLE:
        node.set("this", cast.this)
