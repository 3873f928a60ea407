"""What digests and late tables have left to tell when no file asks for them any more: the sensors that would tell it are gone then."""

import logging

import dagster as dg

from run_elt_dagster.alerts.digest import end_digests
from run_elt_dagster.alerts.late_ledger import read_ledger
from run_elt_dagster.alerts.late_tables import look_for_late_tables
from run_elt_dagster.alerts.scope import Alerts, Known
from run_elt_dagster.alerts.slack import Slack


def tell_leftovers(
    alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, known: Known, *, log: logging.Logger
) -> None:
    """Tell what waits for a digest after the last `severity` is gone, and end what is late after the last `fresh_within` is. Safe to repeat.

    Where files ask for both, or nothing was left for two minutes, it asks for nothing. It raises nothing: no other alert waits for it.

    Args:
        alerts: Whose tables.
        instance: With the history.
        slack: Where to.
        known: What the ticks before have found.
        log: Of the tick.
    """
    if (alerts.rules and alerts.watched) or not known.looks_for_leftovers(alerts.clock()):
        return
    try:
        has_late = not alerts.watched and _end_lateness(alerts, instance, slack, log=log)
        is_told = alerts.rules or slack.is_left_out(alerts.settings)
        has_digests = not is_told and end_digests(alerts, instance, slack, log=log)
    except Exception as error:  # noqa: BLE001 - the failed runs of this tick must not wait for it
        log.error(f"what digests and late tables left cannot be told yet, got {type(error).__name__}: {error}")
        has_late = has_digests = True
    if has_late or has_digests:
        known.found_leftovers(alerts.clock())


def _end_lateness(alerts: Alerts, instance: dg.DagsterInstance, slack: Slack, *, log: logging.Logger) -> bool:
    """Let the threads of late tables say that nothing is watched any more; return whether there were some."""
    if not read_ledger(instance, alerts.location).latenesses:
        return False
    look_for_late_tables(alerts, instance, slack, None, log=log)
    return True
