"""What SHOW lists: https://docs.snowflake.com/en/sql-reference/sql/show."""

from run_elt_dagster.embedded.engine import EngineSession, Result
from run_elt_dagster.embedded.errors import missing_object
from run_elt_dagster.embedded.info_schema import TABLES_HISTORY_VIEW
from run_elt_dagster.embedded.reader import Scope
from run_elt_dagster.embedded.statements import ShowTablesHistory


def show_tables_history(session: EngineSession, statement: ShowTablesHistory) -> Result:
    """List tables and, with the moment in `dropped_on`, the versions of tables that UNDROP can bring back.

    https://docs.snowflake.com/en/sql-reference/sql/show-tables
    """
    return listed(session, TABLES_HISTORY_VIEW, statement.scope)


def listed(session: EngineSession, relation: str, scope: Scope) -> Result:
    """Return the rows of a relation with the columns database_name, schema_name and name that a SHOW asks for."""
    database, schema = _bounds(session, scope)
    conditions: list[str] = []
    params: list[str] = []
    for column, value in (("database_name", database), ("schema_name", schema)):
        if value is not None:
            conditions.append(f"{column} = ?")
            params.append(value)
    if scope.like is not None:
        conditions.append(r"name ILIKE ? ESCAPE '\'")
        params.append(scope.like)
    return session.answer(
        f"SELECT * FROM {relation} WHERE {' AND '.join(conditions) or 'true'} ORDER BY database_name, schema_name, name",
        params,
    )


def _bounds(session: EngineSession, scope: Scope) -> tuple[str | None, str | None]:
    """Return the database and the schema that are listed, None for all; without IN it is the current schema."""
    if scope.kind == "ACCOUNT":
        return None, None
    parts = scope.name.parts if scope.name else ()
    if scope.kind == "DATABASE":
        return (parts[-1] if parts else session.database), None
    database = parts[-2] if len(parts) > 1 else session.database
    schema = parts[-1] if parts else session.schema
    if database and schema and not session.register(database).has_schema(schema):
        raise missing_object(f"{database}.{schema}")
    return database, schema
