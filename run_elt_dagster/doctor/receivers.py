"""Whether Apprise reads the addresses of the receivers besides Slack, and files name receivers that are set. Nothing is sent."""

from collections.abc import Iterator

from run_elt_dagster.alerts.receivers import problem_of, receivers_of
from run_elt_dagster.doctor.finding import Finding, NamedCheck, failed, ok
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.orchestration.specs import receivers_of as named_by
from run_elt_dagster.settings import Settings


class Check(NamedCheck):
    """The check of the receivers."""

    RECEIVER = (
        "alert receiver",
        (
            "Apprise is not installed, or reads no address in a part of `RUN_ELT_ALERT_RECEIVERS`. Nothing is sent: `run-elt alert "
            "--test` tries each receiver. Or a file names a receiver that is not set here"
        ),
    )


def check_receivers(settings: Settings, tables: Catalogue | None) -> Iterator[Finding]:
    """Yield for each receiver whether it can be used, and which ones files name in vain; nothing without receivers.

    Args:
        settings: With the receivers.
        tables: The tables; None if their files cannot be read.
    """
    yield from _unknown(settings, tables)
    for receiver in receivers_of(settings.alerts):
        problem = problem_of(receiver)
        if problem:
            yield failed(
                Check.RECEIVER,
                f"{receiver.name}: {problem}",
                "Correct it; run-elt alert --test then tries each receiver.",
            )
        else:
            yield ok(Check.RECEIVER, f"{receiver.name} ({receiver.kind}); run-elt alert --test tries it by a message")


def _unknown(settings: Settings, tables: Catalogue | None) -> Iterator[Finding]:
    known = settings.alerts.receiver_addresses
    named = named_by(tables) if tables is not None and known else {}
    for name in sorted({each for names in named.values() for each in names} - {*known}):
        first, *others = (table for table, names in named.items() if name in names)
        yield failed(
            Check.RECEIVER,
            f"alerts.receivers of {first}{f' and {len(others):,} more tables' if others else ''} requires receivers of RUN_ELT_ALERT_RECEIVERS "
            f"({', '.join(known)}), got {name}. It gets no alert.",
            "Set it in RUN_ELT_ALERT_RECEIVERS, or correct the file.",
        )
