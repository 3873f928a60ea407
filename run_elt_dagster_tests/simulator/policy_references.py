"""The table function POLICY_REFERENCES: https://docs.snowflake.com/en/sql-reference/functions/policy_references."""

from collections.abc import Callable

from sqlglot import exp

from run_elt_dagster.dialect.errors import syntax_error, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Table
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster_tests.simulator.names import name_in

_ENTITY, _DOMAIN = "REF_ENTITY_NAME", "REF_ENTITY_DOMAIN"
_DOMAINS = frozenset({"TABLE", "VIEW"})


def references_sql(function: exp.Anonymous, locate: Callable[[Name], Table]) -> str:
    """Return the query for a table's policies.

    Args:
        function: The call of the function.
        locate: Says which table a name means, and fails if there is none.
    """
    given = {
        argument.this.name.upper(): argument.expression.name
        for argument in function.expressions
        if isinstance(argument, exp.Kwarg) and isinstance(argument.expression, exp.Literal)
    }
    if len(given) != len(function.expressions) or set(given) != {_ENTITY, _DOMAIN}:
        raise unsupported(
            "list policies except by REF_ENTITY_NAME and REF_ENTITY_DOMAIN", function.sql(dialect="snowflake")
        )
    if given[_DOMAIN].upper() not in _DOMAINS:
        raise syntax_error(f"Invalid value '{given[_DOMAIN]}' for argument {_DOMAIN}.")
    return _references_sql(locate(name_in(given[_ENTITY])), given[_DOMAIN].upper())


def _references_sql(table: Table, domain: str) -> str:
    hidden = f"{quoted(table.database)}.{HIDDEN_SCHEMA}"
    database, schema, name = (
        exp.Literal.string(part).sql(dialect="duckdb") for part in (table.database, table.schema, table.name)
    )
    return f"""
SELECT {database} AS POLICY_DB, policies.schema_name AS POLICY_SCHEMA, policies.name AS POLICY_NAME,
    policies.kind AS POLICY_KIND, {database} AS REF_DATABASE_NAME, {schema} AS REF_SCHEMA_NAME, {name} AS REF_ENTITY_NAME,
    '{domain}' AS REF_ENTITY_DOMAIN, refs.column_name AS REF_COLUMN_NAME, refs.arguments AS REF_ARG_COLUMN_NAMES,
    CAST(NULL AS TEXT) AS TAG_DATABASE, CAST(NULL AS TEXT) AS TAG_SCHEMA, CAST(NULL AS TEXT) AS TAG_NAME,
    'ACTIVE' AS POLICY_STATUS
FROM {hidden}."embedded_policy_references" AS refs
JOIN {hidden}."embedded_policies" AS policies ON policies.policy_id = refs.policy_id
JOIN {hidden}."embedded_objects" AS objects ON objects.object_id = refs.object_id
WHERE objects.table_schema = {schema} AND objects.table_name = {name}"""
