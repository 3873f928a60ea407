"""What SHOW lists: https://docs.snowflake.com/en/sql-reference/sql/show."""

from run_elt_dagster.dialect.errors import missing_object, unsupported
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Table
from run_elt_dagster.embedded.reader import Scope
from run_elt_dagster.embedded.results import Result
from run_elt_dagster.embedded.statements import ShowColumns, ShowGrants, ShowStreams, ShowTables, ShowTablesHistory

# https://docs.snowflake.com/en/sql-reference/sql/show-grants#output
_OWNER_SQL = """
SELECT ? AS created_on, 'OWNERSHIP' AS privilege, 'TABLE' AS granted_on, ? AS name, 'ROLE' AS granted_to,
    ? AS grantee_name, 'true' AS grant_option, ? AS granted_by"""
# https://docs.snowflake.com/en/sql-reference/sql/show-streams#output
_NO_STREAMS_SQL = """
(SELECT now() AS created_on, '' AS name, '' AS database_name, '' AS schema_name, '' AS owner, '' AS comment,
    '' AS table_name, '' AS source_type, '' AS base_tables, '' AS type, '' AS stale, '' AS mode, now() AS stale_after,
    '' AS invalid_reason, '' AS owner_role_type LIMIT 0)"""


def show_tables_history(session: EngineSession, statement: ShowTablesHistory) -> Result:
    """List tables and, with the moment in `dropped_on`, the versions of tables that UNDROP can bring back.

    https://docs.snowflake.com/en/sql-reference/sql/show-tables
    """
    return listed(session, f"_fs_global.{HIDDEN_SCHEMA}.embedded_show_tables_history", statement.scope)


def show_tables(session: EngineSession, statement: ShowTables) -> Result:
    """List tables: https://docs.snowflake.com/en/sql-reference/sql/show-tables."""
    database, _ = _bounds(session, statement.scope)
    if database is not None and database not in session.engine.databases:
        raise missing_object(database)
    return session.query(statement.sql)


def show_columns(session: EngineSession, statement: ShowColumns) -> Result:
    """List the columns of a table or view: https://docs.snowflake.com/en/sql-reference/sql/show-columns."""
    table = session.locate(statement.target)
    if table.name in session.temporary:
        # fakesnow looks for it in the session's database, and would list no column.
        raise unsupported("list the columns of a temporary table", str(table))
    if session.register(table.database).existing_name(table.schema, table.name) != table.name:
        raise missing_object(str(table))
    return session.query(statement.sql)


def show_grants(session: EngineSession, statement: ShowGrants) -> Result:
    """List the owner of a table, who alone has a privilege: https://docs.snowflake.com/en/sql-reference/sql/show-grants."""
    table = session.locate(statement.target)
    with session.reading():
        return session.answer(*owner_row(session, table))


def owner_row(session: EngineSession, table: Table) -> tuple[str, list[object]]:
    """Return the query for the row of SHOW GRANTS about a table's owner, and its parameters.

    Raises:
        SqlError: There is no such table (002003).
    """
    register = session.register(table.database)
    known = register.find(table)
    if known is None:
        raise missing_object(str(table))
    return _OWNER_SQL, [known.created_on, str(table), known.owner, known.owner]


def show_streams(session: EngineSession, statement: ShowStreams) -> Result:
    """List no stream, since none can be created: https://docs.snowflake.com/en/sql-reference/sql/show-streams."""
    return listed(session, _NO_STREAMS_SQL, statement.scope)


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
