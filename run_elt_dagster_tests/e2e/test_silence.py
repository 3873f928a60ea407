"""Snowflake's process is stopped in the middle of a build: how a run of real processes ends when a person ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, Webserver, free_port

pytestmark = pytest.mark.thorough

LAUNCH = """
mutation($e: ExecutionParams!) { launchRun(executionParams: $e) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
TERMINATE = "mutation($r: String!) { terminateRun(runId: $r) { __typename ... on PythonError { message } } }"
EVENTS = (
    "query($r: ID!) { logsForRun(runId: $r) { ... on EventConnection { events { ... on MessageEvent { message } } } } }"
)
SELECTOR = {"repositoryLocationName": "run_elt_dagster", "repositoryName": "__repository__", "jobName": "RunELT_Alert"}
# What the end of a run may take whatever Snowflake does, and a second interruption until it.
SECONDS, AT_ONCE_SECONDS = 30, 10


@dataclass
class StoppableSnowflake:
    """The process, and what it has noted."""

    process: subprocess.Popen[bytes]
    directory: Path
    environment: dict[str, str]

    def held(self) -> int:
        path = self.directory / "held"
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def snowflake(deployment_dir: DeploymentDir) -> Iterator[StoppableSnowflake]:
    directory = deployment_dir.directory / "snowflake"
    directory.mkdir()
    process = deployment_dir.start(
        sys.executable, "-m", "run_elt_dagster_tests.support.snowflake_process", str(directory)
    )
    path = directory / "environment.json"
    deployment_dir.wait_for("Snowflake", path.exists)
    yield StoppableSnowflake(process, directory, json.loads(path.read_text(encoding="utf-8")))
    process.kill()
    process.wait(10)


@pytest.fixture
def home(deployment_dir: DeploymentDir, snowflake: StoppableSnowflake) -> dict[str, str]:
    tables = deployment_dir.directory / "tables" / "analytics"
    tables.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (tables / f"{name}.sql").write_text("select 'slow' as n", encoding="utf-8")
    return {
        **snowflake.environment,
        "DAGSTER_HOME": str(deployment_dir.directory),
        "RUN_ELT_TABLES_DIR": str(tables.parent),
        "PYTHONPATH": str(ROOT),
    }


def start_run(
    deployment_dir: DeploymentDir, snowflake: StoppableSnowflake, home: dict[str, str]
) -> subprocess.Popen[bytes]:
    before = snowflake.held()
    process = deployment_dir.start(
        "dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster", env=home
    )
    deployment_dir.wait_for("the builds", lambda: snowflake.held() == before + 3)
    snowflake.stop()
    return process


def seconds_to_the_end(process: subprocess.Popen[bytes], *numbers: signal.Signals) -> list[float]:
    """Send signals, the first at once and each other one three seconds later; return how long the end took after each."""
    sent: list[float] = []
    for number in numbers:
        if sent:
            time.sleep(3)
        sent.append(time.monotonic())
        process.send_signal(number)
    process.wait(120)
    return [round(time.monotonic() - moment, 1) for moment in sent]


def test_interrupted_run_ends_in_time_when_snowflake_is_stopped(
    deployment_dir: DeploymentDir, snowflake: StoppableSnowflake, home: dict[str, str], record_property: Any
) -> None:
    rounds = int(os.environ.get("RUN_ELT_TESTS_SILENCE_ROUNDS", "1"))
    once: list[float] = []
    for number in [signal.SIGINT, signal.SIGTERM] * rounds:
        once += seconds_to_the_end(start_run(deployment_dir, snowflake, home), number)
        snowflake.go_on()
    twice = seconds_to_the_end(start_run(deployment_dir, snowflake, home), signal.SIGINT, signal.SIGINT)
    record_property("seconds from an interruption to the end of the process", once)
    record_property("after a second one", twice[-1])
    assert max(once) < SECONDS
    assert twice[-1] < AT_ONCE_SECONDS


def test_run_that_the_page_terminates_ends_in_time_when_snowflake_is_stopped(
    deployment_dir: DeploymentDir, snowflake: StoppableSnowflake, home: dict[str, str]
) -> None:
    port = free_port()
    deployment_dir.start("dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), env=home)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=home)
    answer = webserver.query(LAUNCH, e={"selector": SELECTOR, "runConfigData": {}})["launchRun"]
    run_id = answer["run"]["runId"]
    deployment_dir.wait_for("the builds", lambda: snowflake.held() == 3)
    snowflake.stop()

    def messages() -> str:
        return "\n".join(
            event.get("message", "") for event in webserver.query(EVENTS, r=run_id)["logsForRun"]["events"]
        )

    deployment_dir.wait_for("what is waited for", lambda: "Waiting for Snowflake's answer" in messages(), 60)
    assert webserver.query(TERMINATE, r=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    deployment_dir.wait_for(
        "the end", lambda: {r["runId"]: r["status"] for r in webserver.runs()}[run_id] == "CANCELED", SECONDS
    )
