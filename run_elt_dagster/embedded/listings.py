"""What SHOW lists: https://docs.snowflake.com/en/sql-reference/sql/show."""

from run_elt_dagster.dialect.errors import missing_object, unsupported
from run_elt_dagster.embedded import statements
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Table
from run_elt_dagster.embedded.reader import Scope
from run_elt_dagster.embedded.results import Result

# https://docs.snowflake.com/en/sql-reference/sql/show-grants#output
_OWNER_SQL = """
SELECT ? AS created_on, 'OWNERSHIP' AS privilege, 'TABLE' AS granted_on, ? AS name, 'ROLE' AS granted_to,
    ? AS grantee_name, 'true' AS grant_option, ? AS granted_by"""


def show(session: EngineSession, statement: statements.Show) -> Result:
    """List tables and their versions, which have a moment in `dropped_on`, or streams, of which there are none here."""
    return listed(session, f"_fs_global.{HIDDEN_SCHEMA}.{statement.view}", statement.scope)


def show_tables(session: EngineSession, statement: statements.ShowTables) -> Result:
    """List tables: https://docs.snowflake.com/en/sql-reference/sql/show-tables."""
    database, _ = _bounds(session, statement.scope)
    if database is not None and database not in session.engine.databases:
        raise missing_object(database)
    return session.query(statement.sql)


def show_columns(session: EngineSession, statement: statements.ShowColumns) -> Result:
    """List the columns of a table or view: https://docs.snowflake.com/en/sql-reference/sql/show-columns."""
    table = session.locate(statement.target)
    if table.name in session.temporary:
        # fakesnow looks for it in the session's database, and would list no column.
        raise unsupported("list the columns of a temporary table", str(table))
    if session.register(table.database).existing_name(table.schema, table.name) != table.name:
        raise missing_object(str(table))
    return session.query(statement.sql)


def show_grants(session: EngineSession, statement: statements.ShowGrants) -> Result:
    """List the owner of a table, who alone has a privilege: https://docs.snowflake.com/en/sql-reference/sql/show-grants."""
    table = session.locate(statement.target)
    with session.reading():
        return session.answer(*owner_row(session, table))


def owner_row(session: EngineSession, table: Table) -> tuple[str, list[object]]:
    """Return the query for the row of SHOW GRANTS about a table's owner, and its parameters."""
    known = session.found(table)
    return _OWNER_SQL, [known.created_on, str(table), known.owner, known.owner]


def listed(session: EngineSession, relation: str, scope: Scope) -> Result:
    """Return the rows of a relation with the columns database_name, schema_name and name that a SHOW asks for."""
    database, schema = _bounds(session, scope)
    limits = {"database_name = ?": database, "schema_name = ?": schema, r"name ILIKE ? ESCAPE '\'": scope.like}
    given = {condition: value for condition, value in limits.items() if value is not None}
    where = " AND ".join(given) or "true"
    sql = f"SELECT * FROM {relation} WHERE {where} ORDER BY database_name, schema_name, name"
    return session.answer(sql, list(given.values()))


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
