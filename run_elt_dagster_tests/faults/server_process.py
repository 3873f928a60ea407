"""A simulator in a process of its own, which can be stopped or killed at a chosen statement of a run.

    python -m run_elt_dagster_tests.faults.server_process DIRECTORY PASSWORD

takes orders in lines of JSON and reports in lines of JSON: `{"port": 1234}` at the start, `{"met": true}` where the chosen statement
is reached and held, `{"settled": true}` where no statement runs any more.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster_tests.faults.laboratory import tag_of
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS


class Orders:
    """Which statement of which run is held, and until when."""

    def __init__(self) -> None:
        # What libraries print must not get between the reports.
        self._reports = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._run_id, self._index, self._phase, self._count = "", -1, "", 0
        self._go = threading.Event()

    def report(self, **what: Any) -> None:
        self._reports.write(json.dumps(what) + "\n")

    def hold(self, run_id: str, index: int, phase: str) -> None:
        """Hold the statement with this number of a run; its count begins anew."""
        with self._lock:
            self._run_id, self._index, self._phase, self._count = run_id, index, phase, 0
            self._go.clear()

    def go(self) -> None:
        """Let go of what is held, and hold nothing any more."""
        with self._lock:
            self._run_id = ""
            self._go.set()

    def hook(self, event: StatementEvent) -> None:
        with self._lock:
            if tag_of(event).get("run_id", "") != self._run_id or not self._run_id:
                return
            self._count += event.phase == "before"
            if self._count != self._index + 1 or event.phase != self._phase:
                return
            # Only once.
            self._run_id = ""
        self.report(met=True)
        self._go.wait(PATIENCE_SECONDS)


def main(directory: Path, password: str) -> None:
    orders = Orders()
    server = SimulatedServer(directory, hook=orders.hook)
    # The same after a restart: a run can sign in again.
    server.password = password
    set_up_database(server.engine, "RUN_ELT", sample_data=False, log=print)
    server.start()
    orders.report(port=server.port)
    for line in sys.stdin:
        order = json.loads(line)
        if "hold" in order:
            orders.hold(*order["hold"])
        elif "go" in order:
            orders.go()
        else:
            while server.running():
                threading.Event().wait(0.01)
            orders.report(settled=True)
    # Whoever gave the orders is gone.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
