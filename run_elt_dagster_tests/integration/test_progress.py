"""What the log of a run says while real statements take their time."""

import re
import threading
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.orchestration import progress, step
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import running_server, simulated_account

# How the statements of a table look that a test holds, by what the log says meanwhile.
HELD = {
    "building": r"CREATE OR REPLACE .*'slow'",
    "auditing": r"SELECT.*FROM \S*TEMP_SLOW__",
    "publishing": r"CREATE .*\bSLOW\"? CLONE",
}


def test_log_says_what_is_at_work_while_statements_are_held_and_how_many_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {phase: threading.Event() for phase in HELD}
    monkeypatch.setattr(progress, "CHANGED_SECONDS", 0.0)

    class Watched(progress.ProgressLog):
        """The log, and a sign for each phase that it has named."""

        def __init__(self, log: Callable[[str], None]) -> None:
            super().__init__(lambda line: (log(line), note(line))[0])

    def note(line: str) -> None:
        for phase, event in seen.items():
            if f"{phase}: analytics.slow (since" in line:
                event.set()

    def hold(event: StatementEvent) -> None:
        for phase, pattern in HELD.items():
            if event.phase == "before" and re.match(pattern, event.sql, re.DOTALL):
                assert seen[phase].wait(PATIENCE_SECONDS), phase

    monkeypatch.setattr(step, "ProgressLog", Watched)
    with running_server(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        resource = simulated_account(server)
        with resource.connect() as connection:
            project = DagsterProject(tmp_path, connection, resource, instance)
            project.declare(slow="select 'slow' as n", other="select 1 as n")
            project.declare(child="/* elt\nupstream: [analytics.slow]\nelt */ select 2 as n")
            server.hook = hold
            result = project.materialize(max_concurrent_tables=1)
            said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert result.success
    assert all(event.is_set() for event in seen.values())
    lines = [line for line in said if "tables published" in line]
    assert re.fullmatch(
        r"0 of 3 tables published; building: analytics\.slow \(since \d\d:\d\d:\d\d UTC, \d+ s\); waiting for a slot: 1; "
        r"waiting for parents: 1",
        lines[0],
    ), lines
