"""What the alert of a failed run costs: `python -m benchmarks.alerting FOLDER`, with what `benchmarks.many --failing --keep` left.

Makes the first attempt and two ticks, as the sensors do, with a stand-in of Slack on loopback.
"""

import argparse
import logging
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import sqlalchemy
import sqlalchemy.event

from benchmarks.report import rendered
from run_elt_dagster_tests.support.alert_harness import AlertHarness
from run_elt_dagster_tests.support.slack_stand_in import slack_stand_in

_HEADINGS = ("", "wall s", "CPU s", "statements", "messages", "peak MiB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of one number of tables")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    tables = [path.stem for path in (chosen.folder / "project" / "tables" / "analytics").glob("*.sql")]
    home = chosen.folder / "project" / "home"
    with slack_stand_in() as stand_in, dg.DagsterInstance.from_config(str(home)) as instance:
        harness = AlertHarness(instance, stand_in, names=tables)
        (failed,) = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=1)
        run_id, harness.now = failed.dagster_run.run_id, failed.update_timestamp.timestamp() + 60
        rows = [
            (name, *_cost(act), str(len(stand_in.messages)), f"{_peak_mib():.0f}")
            for name, act in (
                ("the first attempt", lambda: harness.first_attempt(run_id)),
                ("a tick", harness.tick),
                ("another tick", harness.tick),
            )
        ]
    print(rendered(_HEADINGS, rows))


def _cost(act: Callable[[], object]) -> tuple[str, str, str]:
    statements: list[str] = []

    def note(*event: object) -> None:
        statements.append(str(event[2]))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    wall, cpu = time.monotonic(), time.process_time()
    act()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    return f"{wall:.1f}", f"{cpu:.1f}", str(len(statements))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
