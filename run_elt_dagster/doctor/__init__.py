"""Checks of a set-up, one line each: what would stop the next run, the next alert, or the next reader.

Nothing is changed but for one empty table in each target schema, which is made and dropped again: only that tells for sure
whether the role may create one, since a privilege can come through any number of roles. And what a dead run has left half done of a
group is ended.
"""

from collections.abc import Callable, Collection, Iterator

import dagster as dg

from run_elt_dagster.doctor import account, channel, deployment, installation, receivers
from run_elt_dagster.doctor.finding import Finding, skipped, summary, within
from run_elt_dagster.doctor.installation import check_versions, read_settings, read_tables
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.runs.live import is_live
from run_elt_dagster.settings import Settings, secret_values

__all__ = ["SECTIONS", "Finding", "examine", "summary"]

_NO_SETTINGS = "the check of the settings failed"
SECTIONS = ("installation", "snowflake", "slack", "dagster")


def examine(open_instance: Callable[[], dg.DagsterInstance], sections: Collection[str] = SECTIONS) -> Iterator[Finding]:
    """Yield what is found, as it is found, without secrets and each on one line. Safe to repeat.

    What depends on a failed check is skipped, everything else is looked at. Snowflake is signed in to once, and a failed
    sign-in is not tried again: five lock the user.

    Args:
        open_instance: Opens the instance that Dagster's commands use here.
        sections: Which of SECTIONS to look at.
    """
    secrets = secret_values()
    for section, finding in _looks(open_instance, sections):
        if section in sections:
            yield finding.without(secrets)


def _is_live(open_instance: Callable[[], dg.DagsterInstance], start: str) -> bool:
    """Return whether a run may go on: asked only where one has left something behind, and counted as live where that is unknown."""
    try:
        with open_instance() as instance:
            return is_live(instance, start)
    except Exception:  # noqa: BLE001 - whatever keeps Dagster's storage from answering has a line of its own
        return True


def _alert_findings(settings: Settings, tables: Catalogue | None) -> Iterator[Finding]:
    yield from channel.check_slack(settings)
    yield from receivers.check_receivers(settings, tables)


def _looks(open_instance: Callable[[], dg.DagsterInstance], sections: Collection[str]) -> Iterator[tuple[str, Finding]]:
    settings, found = read_settings()
    tables, problems = (
        read_tables(settings) if settings else (None, list(skipped([installation.Check.TABLE_FILES], _NO_SETTINGS)))
    )
    for finding in (*check_versions(), *found, *problems):
        yield "installation", finding
    looks: dict[str, tuple[float, Callable[[], Iterator[Finding]]]] = {
        "snowflake": (
            account.LIMIT_SECONDS,
            lambda: (
                account.check_account(settings, tables, lambda start: _is_live(open_instance, start))
                if settings
                else skipped(account.SHOWN, _NO_SETTINGS)
            ),
        ),
        "slack": (
            channel.LIMIT_SECONDS,
            lambda: _alert_findings(settings, tables) if settings else skipped(tuple(channel.Check), _NO_SETTINGS),
        ),
        "dagster": (
            deployment.LIMIT_SECONDS,
            lambda: deployment.check_deployment(settings, tables, open_instance),
        ),
    }
    for section in (each for each in looks if each in sections):
        seconds, look = looks[section]
        for finding in within(seconds, section, look):
            yield section, finding
