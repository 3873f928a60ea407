"""Schemas: who owns them, and in which of them only their owner grants.

https://docs.snowflake.com/en/user-guide/security-access-control-configure#create-managed-access-schemas
"""

from run_elt_dagster.dialect.errors import SqlError, missing_object
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, HIDDEN_SCHEMA, Register, Table
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.schemas import located
from run_elt_dagster_tests.simulator.schema_statements import HEADS, CreateManagedSchema, ManageSchema

# They have the privilege MANAGE GRANTS from the start.
_GRANTING_ROLES = frozenset({"ACCOUNTADMIN", "SECURITYADMIN"})


def create_schema(session: EngineSession, statement: CreateManagedSchema) -> Result:
    """Create a schema and make it the session's: https://docs.snowflake.com/en/sql-reference/sql/create-schema."""
    database, schema = located(session, statement.name)
    with session.atomically(ddl=True):
        register = session.register(database)
        if register.has_schema(schema):
            if statement.if_not_exists:
                return status(f"{schema} already exists, statement succeeded.")
            raise SqlError(f"SQL compilation error:\nObject '{schema}' already exists.", errno=2002, sqlstate="42710")
        session.duck.execute(f"CREATE SCHEMA {quoted(database)}.{quoted(schema)}")
        _record(session, database, schema, managed=statement.managed, owner=session.context.get("role"))
        session.duck.execute(
            f"UPDATE {register.part('schemas')} SET comment = ? WHERE schema_name = ?", [statement.comment, schema]
        )
    session.use(database, schema)
    return status(f"Schema {schema} successfully created.")


def manage_schema(session: EngineSession, statement: ManageSchema) -> Result:
    """Let only a schema's owner grant on what is in it, or let the objects' owners: https://docs.snowflake.com/en/sql-reference/sql/alter-schema."""
    database, schema = located(session, statement.name)
    with session.atomically(ddl=True):
        if session.register(database).has_schema(schema):
            _record(session, database, schema, managed=statement.managed, owner=None)
        elif not statement.if_exists:
            raise missing_object(f"{database}.{schema}")
    return status("Statement executed successfully.")


def require_grantor(session: EngineSession, table: Table) -> None:
    """Refuse a grant on a table of a managed access schema to a role that does not own the schema.

    Raises:
        SqlError: It does not (003001).
    """
    row = session.duck.execute(
        f"SELECT owner FROM {session.register(table.database).part('schemas')} WHERE schema_name = ? AND is_managed",
        [table.schema],
    ).fetchone()
    if row is not None and session.context.get("role") not in {row[0], *_GRANTING_ROLES}:
        raise SqlError(
            f"SQL access control error:\nInsufficient privileges to operate on table '{table.name}'.",
            errno=3001,
            sqlstate="42501",
        )


def _record(session: EngineSession, database: str, schema: str, *, managed: bool, owner: str | None) -> None:
    """Record a schema; without an owner it stays with the one that it has."""
    part = session.register(database).part("schemas")
    row = session.duck.execute(f"SELECT owner, comment FROM {part} WHERE schema_name = ?", [schema]).fetchone()
    before, comment = row if row and owner is None else (DEFAULT_OWNER, None)
    session.duck.execute(f"DELETE FROM {part} WHERE schema_name = ?", [schema])
    session.duck.execute(f"INSERT INTO {part} VALUES (?, ?, ?, ?, now())", [schema, owner or before, managed, comment])


def _schemata_view_sql(database: str) -> str:
    """Return the statement that replaces fakesnow's view behind INFORMATION_SCHEMA.SCHEMATA.

    https://docs.snowflake.com/en/sql-reference/info-schema/schemata
    """
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    return f"""
CREATE OR REPLACE VIEW {hidden}._fs_schemata AS
SELECT
    catalogue.database_name AS "CATALOG_NAME",
    CASE catalogue.schema_name WHEN '{HIDDEN_SCHEMA}' THEN 'INFORMATION_SCHEMA' ELSE catalogue.schema_name END AS "SCHEMA_NAME",
    CASE catalogue.schema_name WHEN '{HIDDEN_SCHEMA}' THEN NULL ELSE coalesce(schemas.owner, '{DEFAULT_OWNER}') END AS "SCHEMA_OWNER",
    'NO' AS "IS_TRANSIENT",
    CASE WHEN schemas.is_managed THEN 'YES' ELSE 'NO' END AS "IS_MANAGED_ACCESS",
    1 AS "RETENTION_TIME",
    NULL::VARCHAR AS "DEFAULT_CHARACTER_SET_CATALOG",
    NULL::VARCHAR AS "DEFAULT_CHARACTER_SET_SCHEMA",
    NULL::VARCHAR AS "DEFAULT_CHARACTER_SET_NAME",
    NULL::VARCHAR AS "SQL_PATH",
    coalesce(schemas.created_on, to_timestamp(0)) AS "CREATED",
    coalesce(schemas.created_on, to_timestamp(0)) AS "LAST_ALTERED",
    schemas.comment AS "COMMENT",
    'UNSET' AS "REPLICABLE_WITH_FAILOVER_GROUPS",
    'ROLE' AS "OWNER_ROLE_TYPE"
FROM duckdb_schemas() AS catalogue
LEFT JOIN {hidden}.embedded_schemas AS schemas ON schemas.schema_name = catalogue.schema_name
WHERE catalogue.database_name = '{database.replace("'", "''")}' AND catalogue.schema_name NOT IN ('main', 'pg_catalog')
"""


def _on_forget(register: Register) -> None:
    forget_in_lost_schemas(register, "schemas")


def forget_in_lost_schemas(register: Register, part: str) -> None:
    """Forget the rows of one of the register's tables whose schema is gone."""
    register.duck.execute(
        f"""DELETE FROM {register.part(part)} WHERE schema_name NOT IN (
            SELECT schema_name FROM duckdb_schemas() WHERE database_name = ?)""",
        [register.database],
    )


SCHEMAS = Feature(
    heads=HEADS,
    handlers={CreateManagedSchema: create_schema, ManageSchema: manage_schema},
    register_sql=lambda database: [
        f"""CREATE TABLE IF NOT EXISTS {quoted(database)}.{HIDDEN_SCHEMA}.embedded_schemas (
            schema_name VARCHAR, owner VARCHAR, is_managed BOOLEAN, comment VARCHAR, created_on TIMESTAMPTZ)""",
        _schemata_view_sql(database),
    ],
    on_forget=_on_forget,
)
