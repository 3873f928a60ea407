"""The macros of `dialect/data` in DuckDB, each created when a statement first needs it.

DuckDB binds a macro with all that it calls: all of them take a quarter of a second of CPU, those of one query a few milliseconds.
A transaction of DuckDB sees no macro that was created after it looked at their database. So whoever needs macros in the
middle of a transaction creates them before it begins.
"""

import threading

from duckdb import DuckDBPyConnection

from run_elt_dagster.dialect import catalogue

_STORED = """SELECT sql FROM duckdb_views() WHERE database_name = ? AND NOT internal
UNION ALL SELECT sql FROM duckdb_tables() WHERE database_name = ? AND NOT internal"""


class Macros:
    """The macros of one DuckDB instance; every method may be called from any thread.

    Args:
        duck: A connection to it.
    """

    def __init__(self, duck: DuckDBPyConnection) -> None:
        self._duck = duck.cursor()
        self._missing = dict(catalogue.macros())
        self._lock = threading.RLock()

    def create(self, sql: str) -> None:
        """Create the macros that SQL calls, and those that they call."""
        with self._lock:
            for name in catalogue.called_macros(sql):
                if (statement := self._missing.get(name)) is not None:
                    self.create(statement.partition("(")[2])
                    self._duck.execute(statement)
                    del self._missing[name]

    def create_all(self) -> None:
        """Create all macros: what a transaction will need is not known when it begins."""
        with self._lock:
            for statement in self._missing.values():
                self._duck.execute(statement)
            self._missing.clear()

    def create_for(self, database: str) -> None:
        """Create the macros that views, defaults and checks of a database call: an earlier process has stored them."""
        rows = self._duck.execute(_STORED, [database, database]).fetchall()
        self.create("\n".join(str(sql) for (sql,) in rows))
