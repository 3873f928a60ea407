"""An empty history for a long one: on SQLite or on a Postgres of its own, with the alerting and Slack's stand-in."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg

from run_elt_dagster.runs.code_location import CodeLocation, surroundings
from run_elt_dagster_tests.support.alert_harness import AlertHarness
from run_elt_dagster_tests.support.postgres import postgres_server
from run_elt_dagster_tests.support.slack_stand_in import slack_stand_in
from run_elt_dagster_tests.support.storage_work import rows_read_by

STORAGES = ("sqlite", "postgres")


@dataclass(frozen=True)
class Server:
    """Postgres, where it keeps the history.

    Attributes:
        rows_read: Returns how many rows it has read so far.
        cpu_seconds: Returns what its processes have used so far.
    """

    rows_read: Callable[[], int]
    cpu_seconds: Callable[[], float]


@contextmanager
def empty_history(home: Path, storage: str) -> Generator[tuple[AlertHarness, Server | None]]:
    """Give an empty history whose DAGSTER_HOME is this folder, and Postgres where that keeps it."""
    with ExitStack() as stack:
        config, server = "", None
        if storage == "postgres":
            postgres = stack.enter_context(postgres_server())
            database = postgres.create_database("history")
            config = f"storage: {{postgres: {{postgres_url: '{database.url}'}}}}\n"
            server = Server(partial(rows_read_by, database.rows), lambda: postgres.cpu_seconds)
        (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{config}", encoding="utf-8")
        stand_in = stack.enter_context(slack_stand_in())
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        here = CodeLocation("run_elt_dagster", "__repository__", "", surroundings())
        yield AlertHarness(instance, stand_in, here=here), server
