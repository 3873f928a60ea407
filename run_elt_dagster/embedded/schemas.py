"""Creating a schema, and making one the session's."""

from run_elt_dagster.dialect.errors import existing_object, missing_object
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.statements import CreateSchema, UseSchema


def create_schema(session: EngineSession, statement: CreateSchema) -> Result:
    """Create a schema and make it the session's: https://docs.snowflake.com/en/sql-reference/sql/create-schema."""
    database, schema = located(session, statement.name)
    with session.atomically(ddl=True):
        if session.register(database).has_schema(schema):
            if statement.if_not_exists:
                return status(f"{schema} already exists, statement succeeded.")
            raise existing_object(schema)
        session.duck.execute(f"CREATE SCHEMA {quoted(database)}.{quoted(schema)}")
    session.use(database, schema)
    return status(f"Schema {schema} successfully created.")


def use_schema(session: EngineSession, statement: UseSchema) -> Result:
    """Make a schema the session's: https://docs.snowflake.com/en/sql-reference/sql/use-schema."""
    session.use(*located(session, statement.name))
    return status("Statement executed successfully.")


def located(session: EngineSession, name: Name) -> tuple[str, str]:
    """Return the database and the schema that a name means; without a database the session must have one."""
    *database, schema = name.parts
    found = database[0] if database else session.database
    if not found:
        raise missing_object(schema)
    return found, schema
