"""Connections to Dagster's own storage, kept from one event to the next. Dagster opens one for each event that it writes."""

import sys

from run_elt_dagster.settings import keeps_storage_connections


def keep_sqlite_connections() -> None:
    """Keep this process's connections to Dagster's SQLite files from now on, unless the setting is off. Safe to repeat.

    Does nothing before SQLAlchemy is imported: loading the code location alone would take 0.25 s of processor time more. A process that
    has opened its storage has imported it.
    """
    if "sqlalchemy" in sys.modules and keeps_storage_connections():
        from run_elt_dagster.storage.sqlite import listen  # noqa: PLC0415 - it imports SQLAlchemy

        listen()
