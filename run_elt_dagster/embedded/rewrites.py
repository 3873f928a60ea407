"""Rewrites of a parsed statement before and after fakesnow's own.

Each is one function that takes a node and returns it, or another one in its place.
"""

from collections.abc import Mapping

from fakesnow.transforms import upper_case_unquoted_identifiers
from sqlglot import exp

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
# In a database of its own in memory, so that it needs no place in anybody's.
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
_TEXT = (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT)
# https://docs.snowflake.com/en/sql-reference/functions/policy_references#output
_POLICY_COLUMNS = (
    "POLICY_DB",
    "POLICY_SCHEMA",
    "POLICY_NAME",
    "POLICY_KIND",
    "REF_DATABASE_NAME",
    "REF_SCHEMA_NAME",
    "REF_ENTITY_NAME",
    "REF_ENTITY_DOMAIN",
    "REF_COLUMN_NAME",
    "REF_ARG_COLUMN_NAMES",
    "TAG_DATABASE",
    "TAG_SCHEMA",
    "TAG_NAME",
    "POLICY_STATUS",
)
_SUMS = (exp.Sum, exp.Avg, exp.Variance, exp.Stddev, exp.StddevSamp, exp.StddevPop, exp.VariancePop, exp.Median)


def before_fakesnow(expression: exp.Expression, context: Mapping[str, str | None]) -> exp.Expression:
    """Return a statement that fakesnow translates as Snowflake means it."""
    labelled(expression)
    for node in list(expression.find_all(exp.TryCast)):
        node.meta["authored"] = True
    return expression.transform(lambda node: policy_references(context_function(to_varchar(node), context)), copy=False)


def after_fakesnow(expression: exp.Expression) -> exp.Expression:
    """Return a statement without what fakesnow added that Snowflake does not do."""
    for aggregate in list(expression.find_all(*_SUMS)):
        exact_aggregate(aggregate)
    # Lengths and comments would be written into another database than the table, which no DuckDB transaction can.
    for extra in ("text_lengths", "table_comment"):
        expression.args.pop(extra, None)
    return expression.transform(text_cast, copy=False)


def to_varchar(node: exp.Expression) -> exp.Expression:
    """Honour the format of TO_VARCHAR and TO_CHAR, which sqlglot leaves out for DuckDB.

    https://docs.snowflake.com/en/sql-reference/functions/to_char
    """
    if not isinstance(node, exp.ToChar):
        return node
    template = node.args.get("format")
    if template is None:
        return exp.cast(node.this, "VARCHAR")
    if not isinstance(template, exp.Literal) or not template.is_string:
        raise unsupported("format with anything but a constant", template.sql(dialect="snowflake"))
    formatted = [_formatted(part, node.this) for part in parts_of(str(template.this))]
    whole = formatted[0]
    for part in formatted[1:]:
        # Unlike CONCAT, || keeps NULL a NULL.
        whole = exp.DPipe(this=whole, expression=part)
    return exp.Paren(this=whole)


def _formatted(part: Formatted, value: exp.Expression) -> exp.Expression:
    text = exp.Anonymous(this="strftime", expressions=[value.copy(), exp.Literal.string(part.strftime)])
    if part.characters is None:
        return text
    return exp.Anonymous(this="left", expressions=[text, exp.Literal.number(part.characters)])


def context_function(node: exp.Expression, context: Mapping[str, str | None]) -> exp.Expression:
    """Answer CURRENT_ROLE() and its like for the session, not for DuckDB."""
    if not isinstance(node, exp.Func):
        return node
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
    key = _CONTEXT_FUNCTIONS.get(name.upper())
    if key is None or key not in context:
        return node
    value = context[key]
    return exp.Null() if value is None else exp.Literal.string(value)


def text_cast(node: exp.Expression) -> exp.Expression:
    """Write instants as Snowflake does, and cut what is cast to VARCHAR(n), which DuckDB does not.

    https://docs.snowflake.com/en/sql-reference/functions/cast
    """
    if type(node) is not exp.Cast or node.to.this not in _TEXT:
        return node
    text = exp.Anonymous(this=_TEXT_MACRO, expressions=[node.this])
    length = node.to.find(exp.DataTypeParam)
    return text if length is None else exp.Anonymous(this="left", expressions=[text, length.this.copy()])


def policy_references(node: exp.Expression) -> exp.Expression:
    """Answer POLICY_REFERENCES with no rows: nobody can create a policy here.

    https://docs.snowflake.com/en/sql-reference/functions/policy_references
    """
    if not isinstance(node, exp.TableFromRows):
        return node
    function = node.find(exp.Anonymous)
    if function is None or function.name.upper() != "POLICY_REFERENCES":
        return node
    columns = ", ".join(f"NULL::VARCHAR AS {name}" for name in _POLICY_COLUMNS)
    return exp.Subquery(this=exp.maybe_parse(f"SELECT {columns} LIMIT 0"), alias=node.args.get("alias"))


def labelled(expression: exp.Expression) -> None:
    """Name the columns of a result as Snowflake does: `COUNT(*)`, where DuckDB says `count_star()`."""
    select = (
        expression.find(exp.Select) if isinstance(expression, exp.Select | exp.SetOperation | exp.Subquery) else None
    )
    if select is None:
        return
    for column in list(select.expressions):
        if not isinstance(column, exp.Alias | exp.Column | exp.Star | exp.Dot) and not column.is_star:
            label = column.transform(upper_case_unquoted_identifiers).sql(dialect="snowflake")
            column.replace(exp.alias_(column.copy(), label, quoted=True))


def exact_aggregate(node: exp.Expression) -> None:
    """Undo fakesnow's cast of what is summed: it turns integers into floats and hides values that are no numbers."""
    cast = node.this
    if isinstance(cast, exp.TryCast) and not cast.meta.get("authored") and cast.to.this == exp.DataType.Type.DOUBLE:
        node.set("this", cast.this)
