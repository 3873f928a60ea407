"""The database as it is at first use: its schemas and, once, the sample data."""

import time
from collections.abc import Callable

import pyarrow as pa

from run_elt_dagster.embedded.engine import Engine
from run_elt_dagster.embedded.objects import Register, Table, quoted
from run_elt_dagster.embedded.sample_data import sample_sessions

SCHEMAS = ("RAW_DATA", "ANALYTICS")
SAMPLE_LOADED = "sample data loaded"
_COLUMNS = {
    "USER_SESSION_CHANNEL": "USERID BIGINT, SESSIONID VARCHAR, CHANNEL VARCHAR",
    "SESSION_TIMESTAMP": "SESSIONID VARCHAR, TS TIMESTAMP",
}


def set_up_database(engine: Engine, database: str, *, sample_data: bool, log: Callable[[str], None]) -> None:
    """Create what is missing; safe to repeat.

    The sample data comes with the note that it is there in one transaction: whoever is killed in between leaves nothing.
    """
    duck = engine.duck_conn
    for schema in SCHEMAS:
        duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{schema}")
    register = Register(duck, database)
    if not sample_data or register.knows(SAMPLE_LOADED):
        return
    started = time.monotonic()
    duck.begin()
    try:
        rows = _load(engine, register, database)
        register.record(SAMPLE_LOADED)
    except BaseException:
        duck.rollback()
        raise
    duck.commit()
    if rows:
        log(f"Loaded {rows:,} sample sessions into {database}.RAW_DATA in {time.monotonic() - started:.1f} s.")


def _load(engine: Engine, register: Register, database: str) -> int:
    """Create and fill the tables of the sample; return the number of sessions, 0 if somebody has such tables already."""
    tables = {name: Table(database, "RAW_DATA", name) for name in _COLUMNS}
    if any(register.existing_name(table.schema, table.name) for table in tables.values()):
        return 0
    sessions = sample_sessions()
    ids = [session.session_id for session in sessions]
    rows = {
        "USER_SESSION_CHANNEL": [
            [session.user_id for session in sessions],
            ids,
            [session.channel for session in sessions],
        ],
        "SESSION_TIMESTAMP": [ids, [session.started_at for session in sessions]],
    }
    for name, table in tables.items():
        engine.duck_conn.execute(f"CREATE TABLE {table.sql} ({_COLUMNS[name]})")
        engine.duck_conn.register("embedded_sample", pa.table(rows[name], names=_COLUMNS[name].split(", ")))
        engine.duck_conn.execute(f"INSERT INTO {table.sql} SELECT * FROM embedded_sample")
        engine.duck_conn.unregister("embedded_sample")
        register.add(table, owner="SYSADMIN", comment="Sample data")
    return len(sessions)
