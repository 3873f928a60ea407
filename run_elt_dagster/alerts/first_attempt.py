"""The first attempt to alert of a failed run, as soon as it has failed."""

import logging

import dagster as dg

from run_elt_dagster.alerts.drafts import attempt_alert
from run_elt_dagster.alerts.failed_runs import WAITING_READ, end_if_interrupted, is_ours, is_retried
from run_elt_dagster.alerts.holding import hold_back
from run_elt_dagster.alerts.ledger import LedgerEntry, start_of
from run_elt_dagster.alerts.reconciliation import is_pausing
from run_elt_dagster.alerts.scope import RETRIES_SENSOR, Alerts, alerting_statuses
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.runs.tags import ALERT


def alert_of_failed_run(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    slack: Slack,
    run_id: str,
    *,
    log: logging.Logger,
) -> None:
    """Make the first attempt to alert of a failed run, unless it is another's, Dagster retries it, or Slack is down."""
    record = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]), limit=1)[0]
    if LedgerEntry.of(record.dagster_run).status or not _alerts_by_itself(alerts, instance, record):
        return
    if alerts.here is not None and not alerts.here.surely_has(record.dagster_run):
        # The others are known when their sensors were evaluated once: after the start of a daemon, some are not.
        log.info(
            f"run {run_id} was started elsewhere, and is left to {RETRIES_SENSOR}: it knows the other code locations"
        )
        return
    if end_if_interrupted(instance, record.dagster_run):
        log.info(f"run {run_id} was interrupted at the command line before its first step: it is cancelled")
        return
    if not hold_back(alerts, instance, [record], log=log):
        return
    held = dg.RunsFilter(tags={ALERT: ["posting", "retry", "blocked"]}, statuses=alerting_statuses(alerts))
    waiting = [LedgerEntry.of(run) for run in instance.get_runs(held, limit=WAITING_READ)]
    if any(start_of(run_id) in entry.covers for entry in waiting):
        log.info(f"run {run_id} is in the message of another run, and that message is under way")
        return
    if not slack.missing and any(is_pausing(entry, slack, alerts.clock()) for entry in waiting):
        log.info(f"run {run_id} waits for its alert, since Slack takes none at the moment")
        return
    attempt_alert(alerts, instance, slack, record, log=log)


def _alerts_by_itself(alerts: Alerts, instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    return is_ours(alerts, instance, record.dagster_run) and not is_retried(record, now=alerts.clock())
