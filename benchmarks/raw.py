"""The floor: the statements that building, auditing and publishing need, on a pool of threads, and nothing else.

`python -m benchmarks.raw tables.json <threads>`; it is given its account by the variables BENCH_*.
"""

import json
import os
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import snowflake.connector


def build(connection: Any, key: str, sql: str) -> None:
    """Build, audit, publish and clean up one table.

    Raises:
        RuntimeError: It is empty.
    """
    schema, table = key.split(".")
    candidate = f"{schema}.temp_{table}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE OR REPLACE TABLE {candidate} AS (\n{sql}\n)")
        ((rows,),) = cursor.execute(f"SELECT COUNT(*) FROM {candidate}").fetchall()
        if not rows:
            raise RuntimeError(f"{key} requires a row, got none. It was not published. Look at its SQL.")
        cursor.execute(f"CREATE OR REPLACE TABLE {key} CLONE {candidate} COPY GRANTS")
        cursor.execute(f"DROP TABLE IF EXISTS {candidate}")


def main() -> None:
    """Build every table, parents first."""
    tables = {table["key"]: table for table in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))}
    order = TopologicalSorter({key: table["parents"] for key, table in tables.items()})
    order.prepare()
    names = ("account", "user", "password", "role", "warehouse", "database", "host", "port", "protocol")
    arguments = {name: os.environ[f"BENCH_{name.upper()}"] for name in names}
    running: dict[Future[None], str] = {}
    with (
        snowflake.connector.connect(**arguments, session_parameters={"CLIENT_TELEMETRY_ENABLED": False}) as connection,
        ThreadPoolExecutor(int(sys.argv[2])) as pool,
    ):
        while order.is_active():
            for key in order.get_ready():
                running[pool.submit(build, connection, key, tables[key]["sql"])] = key
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                order.done(running.pop(future))


if __name__ == "__main__":
    main()
