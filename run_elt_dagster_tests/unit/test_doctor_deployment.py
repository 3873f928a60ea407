"""What doctor makes of heartbeats and of the code server's answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from run_elt_dagster.doctor.code_server import answer_of, ask_code_server
from run_elt_dagster.doctor.heartbeats import BEAT_SECONDS, LOOK_SECONDS, Beats, daemons_at_work

LOAD_ERROR = """context.py:1174: UserWarning: Error loading repository location run_elt:dagster._core.errors.DagsterUserCodeLoadError: Error
occurred during the loading of Dagster definitions

Stack Trace:
  File "server.py", line 504

The above exception was caused by the following exception:
run_elt_dagster.model.table.TableProblemsError: 1 problem in table files:
  /tables/a/b.sql:2: unknown key 'ownr'.

Stack Trace:
  File "definitions.py", line 23
"""
AWAY = """context.py: UserWarning: Error loading repository location run_elt:dagster._core.errors.DagsterUserCodeUnreachableError: Could
not reach user code server. gRPC Error code: UNAVAILABLE

Stack Trace:

The above exception was caused by the following exception:
grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC>
"""


class History:
    """The heartbeats of processes that live for a while, on a clock of its own."""

    def __init__(self, *daemons: tuple[str, float, float]) -> None:
        """Take the id of each process, when it gives its first heartbeat, and when it ends."""
        self.now, self._daemons = 100.0, daemons

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> Beats:
        beats = [(at, process) for process, first, end in self._daemons for at in self._beats(first, end)]
        # The kinds of one process beat a little apart.
        return {
            kind: (process, at)
            for kind, delay in (("SCHEDULER", 0), ("SENSOR", 1))
            for at, process in [max((at + delay, process) for at, process in beats if at + delay <= self.now)]
        }

    def _beats(self, first: float, end: float) -> Iterator[float]:
        at = first
        while at < end:
            yield at
            at += BEAT_SECONDS

    def found(self) -> tuple[str, ...]:
        return daemons_at_work(self.read, wait=self.wait, clock=lambda: self.now)


FOREVER = 10_000.0


def test_one_daemon_is_known_as_soon_as_it_gives_its_next_heartbeat() -> None:
    history = History(("a", 75, FOREVER))
    assert history.found() == ("a",)
    assert history.now <= 75 + BEAT_SECONDS + 1 + 2 * LOOK_SECONDS


@pytest.mark.parametrize("apart", [0.7, 2, 15, 29])
def test_two_daemons_are_seen_wherever_their_heartbeats_lie(apart: float) -> None:
    history = History(("a", 60, FOREVER), ("b", 60 + apart, FOREVER))
    assert history.found() == ("a", "b")
    assert history.now < 180


def test_three_daemons_are_seen() -> None:
    assert len(History(("a", 60, FOREVER), ("b", 70, FOREVER), ("c", 80, FOREVER)).found()) >= 2


def test_daemon_that_was_started_anew_is_no_second_one() -> None:
    assert History(("a", 60, 115), ("b", 118, FOREVER)).found() == ("b",)
    assert History(("a", 60, 98), ("b", 99.5, FOREVER)).found() == ("b",)
    # Twice in the meantime, as in a loop of crashes.
    assert History(("a", 60, 98), ("b", 101, 110), ("c", 115, FOREVER)).found() == ("c",)


def test_daemon_that_stops_meanwhile_is_waited_for_no_longer_than_a_turn() -> None:
    history = History(("a", 75, 76))
    assert history.found() == ("a",)
    assert history.now < 140


def test_no_heartbeats_at_all_are_nobody() -> None:
    history = History(("a", 75, FOREVER))
    assert daemons_at_work(dict, wait=history.wait, clock=lambda: history.now) == ()


def test_answer_of_the_code_server_is_the_cause_without_dagsters_words() -> None:
    kind, said = answer_of(2, LOAD_ERROR, "code:4000")
    assert (kind, said) == ("broken", "1 problem in table files:\n  /tables/a/b.sql:2: unknown key 'ownr'.")
    assert answer_of(2, AWAY, "code:4000") == ("away", "no code server answers at code:4000")
    assert answer_of(0, "", "code:4000") == ("loaded", "code:4000")
    assert answer_of(2, "Usage: dagster schedule list", "code:4000") == ("unknown", "")


@pytest.mark.parametrize(
    "workspace",
    [
        None,
        "load_from: []",
        "load_from: [{python_module: run_elt_dagster}]",
        "load_from: [{grpc_server: {host: {env: NOT_SET_HERE}, port: 4000}}]",
        "load_from: [{grpc_server: {host: a, port: 1}}, {grpc_server: {host: b, port: 1}}]",
        "- : [",
    ],
)
def test_code_server_is_not_asked_where_the_workspace_names_none(tmp_path: Path, workspace: str | None) -> None:
    if workspace is not None:
        (tmp_path / "workspace.yaml").write_text(workspace, encoding="utf-8")
    assert ask_code_server(tmp_path) == ("unknown", "")
