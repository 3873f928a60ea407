"""Killed, interrupted and stopped processes, of a run and of Snowflake, at random statements."""

import contextlib
import itertools
import json
import logging
import os
import random
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import dagster as dg
import snowflake.connector
from pydantic import SecretStr

from run_elt_dagster.alerts.first_attempt import alert_of_failed_run
from run_elt_dagster.alerts.production import look_at_production
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.embedded import Endpoint
from run_elt_dagster.embedded.server import HOST, USER
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.settings import AlertSettings
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.faults.laboratory import METHODS, PROCESSES, run
from run_elt_dagster_tests.faults.oracle import (
    BEFORE,
    NEW,
    NEXT,
    OLD,
    SCHEMA,
    Content,
    Problem,
    Reader,
    Watched,
    declared,
    lines_about,
    look,
    untrue,
)
from run_elt_dagster_tests.faults.run_process import JOB, run_in_dagster
from run_elt_dagster_tests.faults.trials import Outcome
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import Session
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, SlackStandIn, slack_stand_in
from run_elt_dagster_tests.support.wire import Wire, wire_to

# Dagster takes seconds to import.
PROCESSES.set_forkserver_preload([run_in_dagster.__module__])
LOG = logging.getLogger("faults")
# How long an interrupted run may take to its end: 30 s are promised, and this machine does other things as well.
END_SECONDS = 60
# What happens, and how often among all.
ACTIONS: Mapping[str, int] = {
    "SIGKILL of the run": 5,
    "SIGINT of the run": 4,
    "SIGTERM of the run": 4,
    "SIGINT of the run, twice": 3,
    "SIGSTOP and SIGCONT of the run": 3,
    "SIGSTOP of the run, a newer run, SIGCONT": 4,
    "SIGSTOP and SIGCONT of Snowflake": 3,
    "SIGKILL of Snowflake": 5,
    "SIGSTOP of Snowflake, SIGINT of the run": 1,
}
# After these a run publishes, or a newer one has.
_MERE_PAUSES = frozenset(
    {"SIGSTOP and SIGCONT of the run", "SIGSTOP of the run, a newer run, SIGCONT", "SIGSTOP and SIGCONT of Snowflake"}
)

# After these nothing of the run takes effect once its process has ended.
_FINAL = frozenset({"SIGINT of the run", "SIGTERM of the run"})


class Server:
    """The process of a simulator, always at the same port."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._password = directory, secrets.token_urlsafe(12)
        self._process: subprocess.Popen[str] | None = None
        self._wire: Wire | None = None
        self._opened = ExitStack()

    def start(self) -> None:
        command = [sys.executable, "-m", f"{__package__}.server_process", str(self._directory), self._password]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self._report("port")
        if self._wire is None:
            self._wire = self._opened.enter_context(wire_to(port))
        self._wire.target = (HOST, port)

    def close(self) -> None:
        self.signal(signal.SIGKILL)
        self._opened.close()

    @property
    def port(self) -> int:
        assert self._wire is not None
        return self._wire.port

    @property
    def account(self) -> dict[str, Any]:
        """Return the fields of the resource."""
        return {
            "account": "embedded",
            "user": USER,
            "password": self._password,
            "host": HOST,
            "port": self.port,
            "protocol": "http",
            "database": "RUN_ELT",
            "answer_timeout_seconds": float(END_SECONDS),
        }

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the connector for who only asks; it gives up soon."""
        endpoint = Endpoint(HOST, self.port, "http", "embedded", USER, self._password, "RUN_ELT")
        return {**endpoint.connection_args(), "paramstyle": "qmark", "login_timeout": 5, "network_timeout": 5}

    def order(self, **what: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def has_met(self, process: BaseProcess) -> bool:
        """Wait until the chosen statement is held, or the run's process has ended."""
        assert self._process is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            ready.register(process.sentinel, selectors.EVENT_READ)
            found = [key.fileobj for key, _ in ready.select(PATIENCE_SECONDS)]
        return self._process.stdout in found and bool(self._report("met"))

    def settle(self) -> None:
        """Wait until no statement runs any more."""
        self.order(settle=True)
        while not self._reported().get("settled"):
            """A statement may still be met."""

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.communicate()

    def restart(self) -> None:
        self.start()

    def _report(self, what: str) -> Any:
        return self._reported()[what]

    def _reported(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@dataclass(frozen=True)
class Plan:
    """What happens to which process, and when, made from a seed."""

    action: str
    publish: str
    first: bool
    index: int
    phase: str
    pause_seconds: float
    run_id: str

    @classmethod
    def of(cls, seed: int) -> "Plan":
        choose = random.Random(seed)  # noqa: S311 - no secret
        (action,) = choose.choices(list(ACTIONS), list(ACTIONS.values()))
        return cls(
            action,
            choose.choice(METHODS),
            choose.random() < 0.25,
            choose.randrange(12),
            choose.choice(["before", "after"]),
            round(choose.uniform(0, 1.5), 2),
            str(uuid.UUID(int=choose.getrandbits(128), version=4)),
        )


class Processes:
    """Trials named `process/<seed>`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Start Snowflake, Slack's stand-in and an empty history."""
        (self._directory / "snowflake").mkdir()
        self._server = Server(self._directory / "snowflake")
        self._opened.callback(self._server.close)
        self._server.start()
        self._slack: SlackStandIn = self._opened.enter_context(slack_stand_in())
        history = self._directory / "history"
        history.mkdir()
        self._instance = self._opened.enter_context(dg.DagsterInstance.local_temp(str(history)))
        self._sql("create role consumer")
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        self._opened.close()

    def names(self, seed: int) -> Iterator[str]:
        order = random.Random(seed)  # noqa: S311 - no secret
        while True:
            yield f"process/{order.getrandbits(32)}"

    def run(self, name: str) -> Outcome:
        plan, number = Plan.of(int(name.partition("/")[2])), next(self._numbers)
        table = f"mau_{number}"
        if not plan.first:
            self._publish_old(table)
        versions = (OLD, NEW, NEXT)
        watched = Watched(table, versions, keeps_grant=not plan.first)
        with Reader(self._consumer, [watched], is_patient=True, pause_seconds=0.03) as reader:
            trial = _Trial(self._server, plan, table, self._directory)
            found = trial.play()
            reader.wait_for_look()
            over_at = time.monotonic()
            self._server.settle()
            reader.wait_for_look()
            if plan.action in _FINAL and len(watched.states(over_at, time.monotonic())) > 1:
                found.append(Problem("wrong", f"readers saw a change after {plan.action} had ended it"))
            problems = found + self._judge(plan, table, watched, trial)
            problems += self._next_run(plan, table)
        self._sql(f"drop table if exists {SCHEMA}.{table}")
        return Outcome(plan.action, (*reader.problems, *problems), is_void=not trial.is_met)

    def _judge(self, plan: Plan, table: str, watched: Watched, trial: "_Trial") -> list[Problem]:
        seen = self._seen(table)
        if seen not in (() if plan.first else OLD.content, NEW.content, NEXT.content):
            return [Problem("wrong", f"a new session sees {seen}")]
        states = {seen, *watched.states(trial.ended_at, time.monotonic())}
        problems = untrue(lines_about(self._said(plan.run_id, trial.log), table), states, NEW)
        problems += untrue(self._alert(plan, table), states, NEW)
        if plan.action in _MERE_PAUSES and trial.exit_code != 0:
            problems.append(Problem("failed", f"a pause alone made the run fail: {trial.log.read_text()[-1500:]}"))
        if plan.action not in _MERE_PAUSES and trial.exit_code == 0 and seen != NEW.content:
            problems.append(Problem("untrue", f"the run succeeded, readers see {seen}"))
        return problems

    def _said(self, run_id: str, log: Path) -> str:
        entries = self._instance.all_logs(run_id) if self._instance.has_run(run_id) else []
        return "\n".join([log.read_text(errors="replace"), *(entry.message for entry in entries)])

    def _alert(self, plan: Plan, table: str) -> str:
        """Return what Slack is told of the run: by the sensor's own first attempt, after a lost run is found to be lost."""
        known = self._instance.get_run_by_id(plan.run_id)
        if known is None:
            return ""
        if not known.is_finished:
            self._instance.report_run_failed(known)
        tables = catalogue([declared(table, plan.publish, NEW)])
        alerts = Alerts(
            settings=AlertSettings(token=SecretStr(TOKEN), channel=CHANNEL, base_url=self._slack.url, on_cancel=True),
            owners={f"{SCHEMA}.{table}": []},
            jobs=(JOB,),
            look=lambda names, log, run_id: look_at_production(
                lambda: Snowflake(**self._server.account), tables, names, log, run_id=run_id
            ),
        )
        before = len(self._slack.calls("chat.postMessage"))
        slack = Slack(token=TOKEN, channel=CHANNEL, base_url=self._slack.url)
        alert_of_failed_run(alerts, self._instance, slack, plan.run_id, log=LOG)
        posted = self._slack.calls("chat.postMessage")[before:]
        return "\n".join(json.dumps(body, ensure_ascii=False) for body in posted)

    def _next_run(self, plan: Plan, table: str) -> list[Problem]:
        (after,) = run(self._server.arguments, [declared(table, plan.publish, NEXT)], "ffffffff")
        if after.failure is not None:
            return [Problem("failed", f"the next run: {after.failure.message}")]
        seen = self._seen(table)
        return [Problem("wrong", f"after the next run a new session sees {seen}")] * (seen != NEXT.content)

    def _publish_old(self, table: str) -> None:
        for run_id, version in (("00", BEFORE), ("0", OLD)):
            self._sql(
                f"create or replace table {SCHEMA}.{table} comment = '[run_elt run {run_id} at 2026-01-01]' as {version.sql}"
            )
        self._sql(f"grant select on table {SCHEMA}.{table} to role consumer")

    def _consumer(self) -> Session:
        return Session(snowflake.connector.connect(**{**self._server.arguments, "role": "consumer"}))

    def _sql(self, statement: str) -> Sequence[Any]:
        with closing(snowflake.connector.connect(**self._server.arguments)) as connection:
            return Session(connection).sql(statement)

    def _seen(self, table: str) -> Content:
        with closing(snowflake.connector.connect(**self._server.arguments)) as connection:
            return look(Session(connection), table)


class _Trial:
    """One run in a process of its own, and what happens to it or to Snowflake.

    Attributes:
        is_met: Whether the run came to the statement at which it happens.
        exit_code: Of the run's process.
        ended_at: When what happened had happened, by the monotonic clock.
        log: What it printed.
    """

    def __init__(self, server: Server, plan: Plan, table: str, directory: Path) -> None:
        self._server, self._plan, self._table = server, plan, table
        self.is_met, self.exit_code, self.ended_at = False, 0, 0.0
        self.log = directory / f"{plan.run_id}.log"
        self.log.touch()
        history = directory / "history"
        tables: list[AnalyticsTable] = [declared(table, plan.publish, NEW)]
        arguments = (server.account, history, tables, plan.run_id, self.log)
        self._process = PROCESSES.Process(target=run_in_dagster, args=arguments)

    def play(self) -> list[Problem]:
        plan = self._plan
        self._server.order(hold=[plan.run_id, plan.index, plan.phase])
        self._process.start()
        try:
            self.is_met = self._server.has_met(self._process)
            self.ended_at = time.monotonic()
            if self.is_met:
                self._happen()
            self._process.join(END_SECONDS if "INT" in plan.action or "TERM" in plan.action else PATIENCE_SECONDS)
            if self._process.exitcode is None:
                return [Problem("did not end", f"{plan.action}: the run still runs: {self.log.read_text()[-1000:]}")]
        finally:
            self._process.kill()
            self._process.join()
            self._server.signal(signal.SIGCONT)
            self._server.order(go=True)
        self.exit_code = self._process.exitcode or 0
        return []

    def _happen(self) -> None:
        match self._plan.action:
            case "SIGKILL of the run":
                self._send(signal.SIGKILL)
                self._process.join()
            case "SIGINT of the run":
                self._send(signal.SIGINT)
            case "SIGTERM of the run":
                self._send(signal.SIGTERM)
            case "SIGINT of the run, twice":
                self._send(signal.SIGINT)
                time.sleep(self._plan.pause_seconds)
                self._send(signal.SIGINT)
            case "SIGSTOP and SIGCONT of the run":
                self._paused(lambda: time.sleep(self._plan.pause_seconds))
            case "SIGSTOP of the run, a newer run, SIGCONT":
                self._paused(self._newer_run)
            case "SIGSTOP and SIGCONT of Snowflake":
                self._server.order(go=True)
                self._server.signal(signal.SIGSTOP)
                time.sleep(self._plan.pause_seconds)
                self._server.signal(signal.SIGCONT)
            case "SIGKILL of Snowflake":
                self._server.signal(signal.SIGKILL)
                time.sleep(self._plan.pause_seconds)
                self._server.restart()
            case _:
                self._server.signal(signal.SIGSTOP)
                self._send(signal.SIGINT)
                self._process.join(END_SECONDS)
                self._server.signal(signal.SIGCONT)
        self._server.order(go=True)

    def _send(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _paused(self, meanwhile: Any) -> None:
        self._send(signal.SIGSTOP)
        try:
            meanwhile()
        finally:
            self._send(signal.SIGCONT)

    def _newer_run(self) -> None:
        """Let a newer run begin, and end it after the older one goes on: the older may hold a statement."""
        thread = threading.Thread(
            target=run, args=(self._server.arguments, [declared(self._table, self._plan.publish, NEXT)], "eeeeeeee")
        )
        thread.start()
        thread.join(self._plan.pause_seconds + 1)
        self._server.order(go=True)
        self._send(signal.SIGCONT)
        thread.join(PATIENCE_SECONDS)
