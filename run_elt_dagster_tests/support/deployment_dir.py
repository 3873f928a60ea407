"""Real Dagster processes on loopback, each test in a folder of its own that holds what a clone holds."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from run_elt_dagster.settings import VARIABLES
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 300
SCHEDULE_STATES = "select id, instigator_body from instigators where instigator_type = 'SCHEDULE'"
_SCHEDULE_MOMENTS = ("start_timestamp", "last_iteration_timestamp")


def daily(rows: Iterable[Sequence[Any]]) -> tuple[int, dict[str, Any]] | None:
    """Return the id and the state of the schedule of all tables among those of SCHEDULE_STATES.

    None until a daemon has noted both when the schedule started and when it looked at it last.
    """
    for identifier, body in rows:
        state = json.loads(body)
        if state["origin"]["job_name"] == "daily" and all(
            state["job_specific_data"].get(moment) for moment in _SCHEDULE_MOMENTS
        ):
            return identifier, state
    return None


def dated_back(rows: Iterable[Sequence[Any]], *, days: int) -> tuple[int, str]:
    """Return the id and the state of that schedule as a daemon would have left it that was last up days ago."""
    found = daily(rows)
    assert found is not None
    identifier, state = found
    for moment in _SCHEDULE_MOMENTS:
        state["job_specific_data"][moment] -= days * 86400
    return identifier, json.dumps(state)


@dataclass
class DeploymentDir:
    """A folder in which Dagster's commands are started, and the processes that run in it."""

    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        left_out = {*VARIABLES, "DAGSTER_HOME", "PYTHONPATH"}
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        path = f"{BIN}{os.pathsep}{kept.get('PATH', '')}"
        return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), **(more or {})}

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        path = self.directory / f"{Path(command[0]).name}-{len(self.processes)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment(env),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a process and its children, which share its process group."""
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(PATIENCE_SECONDS)

    def _schedules(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.directory / ".dagster_storage" / "schedules" / "schedules.db"))

    def schedule_was_evaluated(self) -> bool:
        """Tell whether the daemon has noted both when the schedule started and when it looked at it last."""
        with self._schedules() as database:
            return daily(database.execute(SCHEDULE_STATES)) is not None

    def date_schedule_back(self, *, days: int) -> None:
        """Leave the schedule's state as a daemon would have that was last up days ago.

        Moving the clock of the processes instead breaks gRPC, which compares it with the machine's.
        """
        with self._schedules() as database:
            identifier, body = dated_back(database.execute(SCHEDULE_STATES), days=days)
            database.execute("update instigators set instigator_body = ? where id = ?", (body, identifier))
            database.commit()

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in self.directory.glob("*.log")
        )

    def wait_for(self, what: str, probe: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
        """Return the first true value of a probe, at most a second after it is true: each look costs the processes that are waited for, too."""
        deadline, pause = time.monotonic() + seconds, 0.1
        while time.monotonic() < deadline:
            if value := probe():
                return value
            time.sleep(pause)
            pause = min(1.5 * pause, 1)
        raise AssertionError(f"{what} did not happen within {seconds} s\n{self.logs()}")


@dataclass
class Webserver:
    """A running webserver, by its GraphQL."""

    url: str

    def query(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - loopback
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def is_up(self) -> bool:
        try:
            entries = self.query("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }")
        except OSError:
            return False
        return [e["loadStatus"] for e in entries["workspaceOrError"]["locationEntries"]] == ["LOADED"]

    def runs(self) -> list[dict[str, Any]]:
        query = "{ runsOrError { ... on Runs { results { runId status jobName tags { key value } } } } }"
        return self.query(query)["runsOrError"]["results"]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
