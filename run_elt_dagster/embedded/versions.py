"""Dropped and replaced tables, which Snowflake keeps so that UNDROP TABLE can bring them back.

A kept table stays in DuckDB under a name that nobody sees, and its object in the register with all that is known about it.
https://docs.snowflake.com/en/user-guide/data-time-travel
"""

from run_elt_dagster.dialect.errors import SqlError, existing_object
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.objects import Table
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.statements import UndropTable

# Snowflake keeps any number of versions for a day; here every one of them is a copy on somebody's disk.
VERSIONS_PER_NAME = 3
VERSIONS_PER_DATABASE = 50
KEPT_FOR = "INTERVAL 1 DAY"


def keep(session: EngineSession, table: Table, object_id: str) -> None:
    """Drop a table so that it can come back, and let go of the versions that are too old or too many.

    Belongs into the transaction of whoever drops or replaces the table.
    """
    register, kept = session.register(table.database), table.kept()
    session.duck.execute(f"ALTER TABLE {table.sql} RENAME TO {quoted(kept.name)}")
    session.duck.execute(
        f"""UPDATE {register.part("objects")} SET table_name = ?, dropped_name = table_name, dropped_on = now()
        WHERE object_id = ?""",
        [kept.name, object_id],
    )
    rows = session.duck.execute(
        f"""SELECT object_id, table_schema, table_name FROM {register.part("objects")} WHERE dropped_on IS NOT NULL
        QUALIFY dropped_on <= now() - {KEPT_FOR} OR row_number() OVER (ORDER BY dropped_on DESC) > {VERSIONS_PER_DATABASE}
            OR row_number() OVER (PARTITION BY table_schema, dropped_name ORDER BY dropped_on DESC) > {VERSIONS_PER_NAME}"""
    ).fetchall()
    for old_id, schema, old_name in rows:
        session.duck.execute(f"DROP TABLE {Table(table.database, schema, old_name).sql}")
        session.engine.forget(register, old_id)


def undrop_table(session: EngineSession, statement: UndropTable) -> Result:
    """Bring back the version of a table that was dropped or replaced last.

    https://docs.snowflake.com/en/sql-reference/sql/undrop-table. It has its owner and comment again. A
    table that stands under the name has to be renamed before.
    """
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        register = session.register(target.database)
        if register.existing_name(target.schema, target.name) is not None:
            raise existing_object(str(target))
        row = session.duck.execute(
            f"""SELECT object_id, table_name FROM {register.part("objects")}
            WHERE table_schema = ? AND dropped_name = ? AND dropped_on > now() - {KEPT_FOR}
            ORDER BY dropped_on DESC LIMIT 1""",
            [target.schema, target.name],
        ).fetchone()
        if row is None:
            raise SqlError(f"Table {target.name} did not exist or was purged.", errno=90025, sqlstate="02000")
        object_id, kept = row
        session.duck.execute(f"ALTER TABLE {target.beside(kept).sql} RENAME TO {quoted(target.name)}")
        register.move(object_id, target)
    return status(f"Table {target.name} successfully restored.")
