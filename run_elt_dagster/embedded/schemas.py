"""Schemas: who owns them, and in which of them only their owner grants.

https://docs.snowflake.com/en/user-guide/security-access-control-configure#create-managed-access-schemas
"""

from run_elt_dagster.embedded.engine import EngineSession, Result, status
from run_elt_dagster.embedded.errors import SqlError, missing_object
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, Table, quoted
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.schema_statements import CreateSchema, ManageSchema

# They have the privilege MANAGE GRANTS from the start.
_GRANTING_ROLES = frozenset({"ACCOUNTADMIN", "SECURITYADMIN"})


def create_schema(session: EngineSession, statement: CreateSchema) -> Result:
    """Create a schema and make it the session's: https://docs.snowflake.com/en/sql-reference/sql/create-schema."""
    database, schema = _located(session, statement.name)
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
    database, schema = _located(session, statement.name)
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


def _located(session: EngineSession, name: Name) -> tuple[str, str]:
    *database, schema = name.parts
    found = database[0] if database else session.database
    if not found:
        raise missing_object(schema)
    return found, schema


def _record(session: EngineSession, database: str, schema: str, *, managed: bool, owner: str | None) -> None:
    """Record a schema; without an owner it stays with the one that it has."""
    part = session.register(database).part("schemas")
    row = session.duck.execute(f"SELECT owner, comment FROM {part} WHERE schema_name = ?", [schema]).fetchone()
    before, comment = row if row and owner is None else (DEFAULT_OWNER, None)
    session.duck.execute(f"DELETE FROM {part} WHERE schema_name = ?", [schema])
    session.duck.execute(f"INSERT INTO {part} VALUES (?, ?, ?, ?, now())", [schema, owner or before, managed, comment])
