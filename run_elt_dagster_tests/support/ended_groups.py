"""Ending the exchange of a group in the place of a run that goes on: as a daemon does that cannot reach its process."""

import threading
from collections.abc import Callable, Sequence

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_recovery import EndedExchange, end_left_exchanges
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.local_server import LocalServer


def _is_dead(_: str) -> bool:
    return False


def ended_by_another(server: LocalServer, tables: Sequence[AnalyticsTable]) -> list[EndedExchange]:
    """End what has the lock of a group, whether its run is dead or not.

    Args:
        server: Where its tables are.
        tables: The declared tables.
    """
    with open_session(server.account.arguments) as session:
        runner = StatementRunner(session, RunContext("0000000E", is_live=_is_dead), threading.Event())
        found = read_targets(runner, tables, database=session.database, check_policies=False)
        known, options = catalogue(tables), PublishOptions()
        return end_left_exchanges(runner, known, found, database=session.database, options=options)


def at_first(begins: str, call: Callable[[], object], *, has: str = "") -> Callable[[StatementEvent], None]:
    """Return a hook that calls once, before the first statement that begins so and has a text."""
    met: list[str] = []

    def hook(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith(begins) and has in event.sql and not met:
            met.append(event.sql)
            call()

    return hook
