"""`run-elt watch`."""

import time
from pathlib import Path

import click

from run_elt_dagster.cli.printing import say
from run_elt_dagster.doctor.watch import Watch, run_doctor


@click.command("watch")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("run_elt_watch.json"),
    show_default=True,
    help="File that remembers what was posted.",
)
@click.option("--every", type=int, metavar="SECONDS", help="Check again and again; without it once, for a timer.")
@click.option(
    "--again-after-hours",
    type=float,
    default=6,
    show_default=True,
    help="Post a lasting failure again after this time.",
)
@click.option(
    "--confirm-seconds",
    type=float,
    default=60,
    show_default=True,
    help="Check a failure again after this time before it is posted.",
)
def command(state: Path, every: int | None, again_after_hours: float, confirm_seconds: float) -> int:
    """Check a deployment from outside, and post failures to Slack.

    It posts by itself, so it works while no daemon and no code server does.
    """
    watch = Watch(state, again_after_hours * 3600, confirm_seconds, run_doctor)
    if every is None:
        return 0 if watch.once(say) else 1
    while True:
        # First the wait: what is started together with it is not up yet.
        time.sleep(every)
        watch.once(say)
