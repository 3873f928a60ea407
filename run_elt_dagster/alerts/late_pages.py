"""Late tables that page after a while, as failures do: once for a lateness, unless a person has taken it."""

from dataclasses import replace

import dagster as dg

from run_elt_dagster.alerts.late_causes import run_of_cause
from run_elt_dagster.alerts.late_ledger import LateLedger, Lateness, Telling
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.notes import Acknowledgement
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.snoozes import read_snoozes
from run_elt_dagster.model.freshness import in_words


def is_quiet(alerts: Alerts, lateness: Lateness) -> bool:
    """Return whether the messages of a lateness wait for the end of quiet hours: what pages does not."""
    return not lateness.paged_at and alerts.quiet_until(lateness.tables) > 0


def with_pages(alerts: Alerts, instance: dg.DagsterInstance, ledger: LateLedger) -> LateLedger:
    """Return the ledger with a page for each lateness whose tables ask for it by now. Where no file does, nothing is asked."""
    due = {each.id: words for each in ledger.latenesses if (words := _words(alerts, each))}
    snoozes = read_snoozes(alerts, instance) if due else {}
    for id_, words in due.items():
        lateness = ledger.of(id_)
        if not all(name in snoozes for name in lateness.late) and not _is_taken(instance, lateness):
            ledger = ledger.with_lateness(_paging(lateness, words, now=alerts.clock()))
    return ledger


def _words(alerts: Alerts, lateness: Lateness) -> str:
    """Return why a lateness pages now; empty if it does not, or has. Failures in a row are those of runs."""
    late = lateness.late
    if lateness.paged_at or not late or alerts.severity_of(late) == "page":
        return ""
    times = {name: rule.time for name, rule in alerts.escalations_of(late).items() if rule.time is not None}
    due = (time for name, time in times.items() if alerts.clock() - lateness.tables[name].since >= time.total_seconds())
    return next((f"late for {in_words(time)}" for time in due), "")


def _is_taken(instance: dg.DagsterInstance, lateness: Lateness) -> bool:
    """Return whether a person has taken the incident in whose thread the lateness is, or that incident has paged."""
    run = None if lateness.is_own else instance.get_run_by_id(run_of_cause(lateness.cause))
    first_id = LedgerEntry.of(run).first if run is not None else ""
    first = instance.get_run_by_id(first_id) if first_id else run
    if first is None or (entry := LedgerEntry.of(first)).state != "open":
        return False
    return bool(entry.paged_at or Acknowledgement.of(first))


def _paging(lateness: Lateness, words: str, *, now: float) -> Lateness:
    """Return a lateness that pages from now on, with the message that does."""
    paged = replace(lateness, is_told=True, paged_at=now, paged_for=words)
    page = Telling("page", lateness.late, now)
    if not lateness.is_told:
        first = Telling("late", lateness.late, now)
        return replace(paged, tellings=(first,) if lateness.is_own else (first, page))
    # What waits in quiet hours since it began pages by its own message.
    is_untold = lateness.is_own and lateness.tellings[0].entry.status == ""
    return paged if is_untold else replace(paged, tellings=(*lateness.tellings, page))
