"""A Postgres on loopback for a benchmark, and how many connections it has been asked for."""

import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager

from run_elt_dagster_tests.support.postgres import Database, found_programs, postgres_server

_NAME = "bench"
_ENDED_WITHIN_SECONDS = 30.0


def postgres_version() -> str | None:
    """Return the version of the Postgres of this machine, None if it has none."""
    found = found_programs()
    if not found:
        return None
    answer = subprocess.run([found[-1], "--version"], check=True, capture_output=True, text=True)
    return answer.stdout.split()[2]


@contextmanager
def storage_database() -> Generator[Database]:
    """Run a server while the block lasts, and give an empty database of it.

    The password goes over TCP by SCRAM and each commit to the disk, as in deploy/compose.yaml.
    """
    with postgres_server(is_durable=True) as server:
        yield server.create_database(_NAME)


def sessions(database: Database) -> int:
    """Return how many connections to a database Postgres has counted since it began; call it between two runs.

    https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW

    Raises:
        TimeoutError: A run's connections are still open. Each is counted for certain only when it has ended.
    """
    # Asked from another database, which counts this connection itself.
    asked = Database(database.port, "postgres")
    deadline = time.monotonic() + _ENDED_WITHIN_SECONDS
    while asked.column(f"select count(*) from pg_stat_activity where datname = '{database.name}'") != [0]:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"The connections of a run cannot be counted while they are open, got some after {_ENDED_WITHIN_SECONDS:.0f} s. "
                "The run was not measured. Look for processes of it."
            )
        time.sleep(0.02)
    (counted,) = asked.column(f"select sessions from pg_stat_database where datname = '{database.name}'")
    return counted
