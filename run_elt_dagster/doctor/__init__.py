"""Checks of a set-up, one line each: what would stop the next run, the next alert, or the next reader.

Nothing is changed but for one empty table in each target schema, which is made and dropped again: only that tells for sure
whether the role may create one, since a privilege can come through any number of roles.
"""

from collections.abc import Callable, Iterator

import dagster as dg

from run_elt_dagster.doctor import account, channel, deployment
from run_elt_dagster.doctor.finding import Finding, skipped, summary, within
from run_elt_dagster.doctor.installation import check_versions, read_settings, read_tables
from run_elt_dagster.settings import secret_values

__all__ = ["Finding", "examine", "summary"]


def examine(open_instance: Callable[[], dg.DagsterInstance]) -> Iterator[Finding]:
    """Yield what is found, as it is found, without secrets and each on one line. Safe to repeat.

    What depends on a failed check is skipped, everything else is looked at. Snowflake is signed in to once, and a failed
    sign-in is not tried again: five lock the user.

    Args:
        open_instance: Opens the instance that Dagster's commands use here.
    """
    secrets = secret_values()
    for finding in _looks(open_instance):
        yield finding.without(secrets)


def _looks(open_instance: Callable[[], dg.DagsterInstance]) -> Iterator[Finding]:
    yield from check_versions()
    settings, found = read_settings()
    yield from found
    if settings is None:
        yield from skipped(["table files", *account.NAMES, *channel.NAMES], "the check of the settings failed")
        tables = None
    else:
        tables, found = read_tables(settings)
        yield from found
        yield from within(account.LIMIT_SECONDS, "snowflake", lambda: account.check_account(settings, tables))
        yield from within(channel.LIMIT_SECONDS, "slack", lambda: channel.check_slack(settings))
    yield from within(
        deployment.LIMIT_SECONDS, "dagster", lambda: deployment.check_deployment(settings, tables, open_instance)
    )
