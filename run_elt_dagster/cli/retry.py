"""`run-elt retry`."""

import os
import shlex
import sys

import click

from run_elt_dagster.cli.opening import dagster_instance
from run_elt_dagster.cli.parameters import of_location
from run_elt_dagster.model.names import short_id
from run_elt_dagster.orchestration.retry import retry_of
from run_elt_dagster.project import Location


@click.command("retry")
@click.argument("run", required=False, metavar="[RUN]")
@of_location
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only print what would be built.")
def command(location: Location, run: str | None, *, is_dry_run: bool) -> int:
    """Build what a failed run left unpublished, and nothing else.

    RUN is the run's id or its beginning. Without it, the newest failed run is meant.
    """
    # As it was, so Dagster finds its instance as it does without this command.
    environment = dict(os.environ)
    with dagster_instance() as instance:
        retry = retry_of(instance, location.specs(), run)
    for key in retry.published_since:
        print(f"{'.'.join(key.path)} is published since run {short_id(retry.run_id)}, and is left out.")
    if not retry.keys:
        print(f"All that run {short_id(retry.run_id)} left is published since. Nothing was built.")
        return 0
    print(f"Left by run {short_id(retry.run_id)}: {', '.join('.'.join(key.path) for key in retry.keys)}")
    command = retry.command(location.target)
    print(f"dagster {shlex.join(command)}", flush=True)
    if is_dry_run:
        return 0
    try:
        # In place of this process: a signal reaches Dagster, and its exit code is the command's.
        os.execve(sys.executable, [sys.executable, "-m", "dagster", *command], environment)  # noqa: S606
    except OSError as error:
        raise ValueError(
            f"run-elt retry requires a selection that fits into a command line, got {len(retry.keys):,} tables ({error}). "
            "Nothing was built. Re-execute the run from asset failure in the UI, or select a schema with group:."
        ) from error
