"""The database as it is at first use: its schemas and, once, the sample data."""

import time
from collections.abc import Callable

from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import Engine, transaction
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, Register, Table
from run_elt_dagster.embedded.sql_files import sql_file

SCHEMAS = ("RAW_DATA", "ANALYTICS")
SAMPLE_LOADED = "sample data loaded"
SAMPLE_TABLES = ("USER_SESSION_CHANNEL", "SESSION_TIMESTAMP")


def set_up_database(engine: Engine, database: str, *, sample_data: bool, log: Callable[[str], None]) -> None:
    """Create what is missing; safe to repeat.

    The sample data comes with the note that it is there in one transaction: whoever is killed in between leaves nothing.
    """
    duck, register = engine.duck_conn, Register(engine.duck_conn, database)
    for schema in SCHEMAS:
        duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{schema}")
    if not sample_data or register.knows(SAMPLE_LOADED):
        return
    tables, started = [Table(database, "RAW_DATA", name) for name in SAMPLE_TABLES], time.monotonic()
    with transaction(duck):
        register.record(SAMPLE_LOADED)
        if duck.execute(f"SELECT 1 FROM {register.part('objects')} WHERE dropped_on IS NULL").fetchone():
            log(f"{database} has tables of its own, so no sample data was loaded.")
            return
        duck.execute(sql_file("sample_data", schema=f"{quoted(database)}.RAW_DATA"))
        for table in tables:
            register.add(table, owner=DEFAULT_OWNER, comment="Sample data")
    ((rows,),) = duck.sql(f"SELECT count(*) FROM {tables[0].sql}").fetchall()
    log(f"Loaded {rows:,} sample sessions into {database}.RAW_DATA in {time.monotonic() - started:.1f} s.")
