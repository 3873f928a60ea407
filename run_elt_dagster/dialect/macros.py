"""The macros of `dialect/data` in DuckDB, each created when a statement first needs it.

DuckDB binds a macro with all that it calls: all of them take a quarter of a second of CPU, those of one query a few milliseconds.
A transaction of DuckDB sees no macro that was created after it looked at their database. So whoever needs macros in the
middle of a transaction creates them before it begins, or temporary ones within it.
"""

import threading
from collections.abc import Mapping

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

    def create(self, sql: str) -> str:
        """Create the macros that SQL calls, and those that they call; return the SQL."""
        with self._lock:
            for name in catalogue.called_macros(sql):
                if (statement := self._missing.get(name)) is not None:
                    self.create(statement.partition("(")[2])
                    self._duck.execute(statement)
                    del self._missing[name]
        return sql

    def missing(self) -> Mapping[str, str]:
        """Return the statements of the macros that no statement has needed yet, by the macros' names."""
        with self._lock:
            return dict(self._missing)

    def create_for(self, database: str) -> None:
        """Create the macros that views, defaults and checks of a database call: an earlier process has stored them."""
        rows = self._duck.execute(_STORED, [database, database]).fetchall()
        self.create("\n".join(str(sql) for (sql,) in rows))


class TransactionMacros:
    """The macros that one open transaction may not see, each created when a statement of it needs it.

    They are temporary: other connections do not see them, and ROLLBACK takes them away.

    Args:
        duck: The connection, before its transaction begins.
        missing: The statements of the macros that the instance has not at that moment.
    """

    def __init__(self, duck: DuckDBPyConnection, missing: Mapping[str, str]) -> None:
        self._duck = duck
        self._missing = missing
        self._created: set[str] = set()

    def create(self, sql: str) -> str:
        """Create the macros that SQL calls, and those that they call; return SQL that calls them."""
        for name in catalogue.called_macros(sql):
            if name in self._missing and name not in self._created:
                definition = self.create(self._missing[name].partition("(")[2])
                self._duck.execute(f"CREATE OR REPLACE TEMP MACRO {name}({definition}")
                self._created.add(name)
        return catalogue.with_temporary(sql, self._created)
