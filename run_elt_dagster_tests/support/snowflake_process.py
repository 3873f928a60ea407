"""A Snowflake in a process of its own, which can be stopped in the middle of a statement.

    python -m run_elt_dagster_tests.support.snowflake_process DIRECTORY

writes `environment.json` into the directory, the variables that lead there, and a line into `held` for each statement on 'slow',
which does not end by itself.
"""

import json
import sys
import threading
from pathlib import Path

from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.embedded import account_variables

HOLD_SECONDS = 600


def main(directory: Path) -> None:
    def hold(event: StatementEvent) -> None:
        if event.phase == "before" and "'slow'" in event.sql:
            with (directory / "held").open("a", encoding="utf-8") as held:
                held.write(f"{event.statement.query_id}\n")
            event.statement.wait(HOLD_SECONDS)

    server = SimulatedServer(directory, hook=hold)
    set_up_database(server.engine, "RUN_ELT", sample_data=False, log=print)
    server.start()
    environment = account_variables(server)
    unfinished = directory / "environment.json.new"
    unfinished.write_text(json.dumps(environment), encoding="utf-8")
    unfinished.rename(directory / "environment.json")
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
