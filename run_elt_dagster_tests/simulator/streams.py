"""Streams: recorded and listed, never read.

A stream belongs to the object that its table was when the stream was created. It goes stale when another object comes
under the name, and stays as it is when the rows are overwritten: https://docs.snowflake.com/en/user-guide/streams-intro
"""

from run_elt_dagster.dialect.errors import existing_object, missing_object, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.listings import listed
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Table
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster_tests.simulator.schemas import forget_in_lost_schemas
from run_elt_dagster_tests.simulator.stream_statements import HEADS, CreateStream, DropStream, ShowStreams

# Snowflake says N/A where there is none: https://docs.snowflake.com/en/sql-reference/sql/show-streams#output
_GONE = "Base table dropped or replaced"
_SWAPPED = "Base table swapped"


def create_stream(session: EngineSession, statement: CreateStream) -> Result:
    """Record a stream on a table: https://docs.snowflake.com/en/sql-reference/sql/create-stream."""
    stream, table = session.locate(statement.name), session.locate(statement.table)
    if stream.database != table.database:
        raise unsupported("create a stream in another database than its table", f"{stream} on {table}")
    with session.atomically(ddl=True):
        register = session.register(stream.database)
        exists = _exists(session, stream)
        if exists and statement.if_not_exists:
            return status(f"{stream.name} already exists, statement succeeded.")
        if (exists and not statement.or_replace) or register.existing_name(stream.schema, stream.name) is not None:
            raise existing_object(str(stream))
        known = register.find(table)
        if known is None:
            raise missing_object(str(table))
        _forget(session, stream)
        session.duck.execute(
            f"INSERT INTO {register.part('streams')} VALUES (?, ?, ?, ?, ?, ?, ?, NULL, now())",
            [
                stream.schema,
                stream.name,
                session.context.get("role") or known.owner,
                statement.comment,
                known.object_id,
                str(table),
                "APPEND_ONLY" if statement.append_only else "DEFAULT",
            ],
        )
    return status(f"Stream {stream.name} successfully created.")


def drop_stream(session: EngineSession, statement: DropStream) -> Result:
    """Forget a stream: https://docs.snowflake.com/en/sql-reference/sql/drop-stream."""
    stream = session.locate(statement.name)
    with session.atomically(ddl=True):
        if not _exists(session, stream) and not statement.if_exists:
            raise missing_object(str(stream))
        _forget(session, stream)
    return status(f"{stream.name} successfully dropped.")


def show_streams(session: EngineSession, statement: ShowStreams) -> Result:
    """List streams: https://docs.snowflake.com/en/sql-reference/sql/show-streams."""
    streams = " UNION ALL ".join(_streams_sql(database) for database in session.engine.databases)
    return listed(session, f"({streams})", statement.scope)


def note_swap(session: EngineSession, table: Table, object_id: str) -> None:
    """Make the streams on an object stale, whose name another one gets."""
    part = session.register(table.database).part("streams")
    session.duck.execute(
        f"UPDATE {part} SET invalid_reason = coalesce(invalid_reason, '{_SWAPPED}') WHERE object_id = ?", [object_id]
    )


def _exists(session: EngineSession, stream: Table) -> bool:
    part = session.register(stream.database).part("streams")
    row = session.duck.execute(
        f"SELECT 1 FROM {part} WHERE schema_name = ? AND name = ?", [stream.schema, stream.name]
    ).fetchone()
    return row is not None


def _forget(session: EngineSession, stream: Table) -> None:
    part = session.register(stream.database).part("streams")
    session.duck.execute(f"DELETE FROM {part} WHERE schema_name = ? AND name = ?", [stream.schema, stream.name])


def _streams_sql(database: str) -> str:
    """Return the query for the streams of a database; a rename of the table shows, as the object stays."""
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    literal = database.replace("'", "''")
    return f"""
SELECT created_on, name, '{literal}' AS database_name, schema_name, owner, comment, table_name, 'Table' AS source_type,
    table_name AS base_tables, 'DELTA' AS type, CASE WHEN invalid_reason IS NULL THEN 'false' ELSE 'true' END AS stale, mode,
    created_on + INTERVAL 14 DAY AS stale_after, coalesce(invalid_reason, 'N/A') AS invalid_reason, 'ROLE' AS owner_role_type
FROM (
    SELECT streams.* EXCLUDE (table_name, invalid_reason),
        CASE WHEN gone THEN 'No privilege or table dropped' WHEN streams.invalid_reason IS NULL THEN objects.shown
            ELSE streams.table_name END AS table_name,
        coalesce(streams.invalid_reason, CASE WHEN gone THEN '{_GONE}' END) AS invalid_reason
    FROM {hidden}.embedded_streams AS streams
    LEFT JOIN (
        SELECT object_id, {_shown_sql(database)} AS shown FROM {hidden}.embedded_objects WHERE dropped_on IS NULL
    ) AS objects USING (object_id)
    CROSS JOIN LATERAL (SELECT objects.shown IS NULL AS gone)
)"""


def _shown_sql(database: str) -> str:
    """Return the expression for a table's full name, each part quoted only where it has to be."""
    literal = quoted(database).replace("'", "''") if not database.isupper() else database
    parts = [
        f"CASE WHEN regexp_full_match({column}, '[A-Z_][A-Z0-9_$]*') THEN {column} "
        f"ELSE '\"' || replace({column}, '\"', '\"\"') || '\"' END"
        for column in ("table_schema", "table_name")
    ]
    return f"'{literal}.' || {parts[0]} || '.' || {parts[1]}"


STREAMS = Feature(
    heads=HEADS,
    handlers={CreateStream: create_stream, DropStream: drop_stream, ShowStreams: show_streams},
    register_sql=lambda database: [
        f"""CREATE TABLE IF NOT EXISTS {quoted(database)}.{HIDDEN_SCHEMA}.embedded_streams (
            schema_name VARCHAR, name VARCHAR, owner VARCHAR, comment VARCHAR, object_id VARCHAR, table_name VARCHAR,
            mode VARCHAR, invalid_reason VARCHAR, created_on TIMESTAMPTZ)"""
    ],
    on_swap=note_swap,
    on_forget=lambda register: forget_in_lost_schemas(register, "streams"),
)
