"""Whether Apprise reads the addresses of the receivers besides Slack. Nothing is sent."""

from collections.abc import Iterator

from run_elt_dagster.alerts.receivers import problem_of, receivers_of
from run_elt_dagster.doctor.finding import Finding, NamedCheck, failed, ok
from run_elt_dagster.settings import Settings


class Check(NamedCheck):
    """The check of the receivers."""

    RECEIVER = (
        "alert receiver",
        (
            "Apprise is not installed, or reads no address in a part of `RUN_ELT_ALERT_RECEIVERS`. Nothing is sent: `run-elt alert "
            "--test` tries each receiver"
        ),
    )


def check_receivers(settings: Settings) -> Iterator[Finding]:
    """Yield for each receiver whether it can be used; nothing without receivers."""
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
