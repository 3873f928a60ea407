"""Build the same tables with this project, dbt, dagster-dbt and a bare script, and compare: `python -m benchmarks.run`.

All talk to the same embedded Snowflake over HTTP, in a process of its own. Each scenario is warmed up by two runs of every
client, whose answers are recorded and then replayed: benchmarks/server.py. The clients take turns, so that what else the
machine does hits all of them; ratios are those within one round. A table is printed after each scenario. With --resume, what
the last command has measured is not measured again. docs/benchmarks.md says what the numbers mean.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

from benchmarks import clients, measure, workload
from benchmarks.clients import BARE, DAGSTER_DBT, DBT, PROJECT, RAW, Client
from benchmarks.report import Round, Scenario, summary, title
from benchmarks.service import LATENCY, NO_LATENCY, Latency, Mode, Service, serving

THREADS = 8
BUILDERS = (RAW, PROJECT, DBT, DAGSTER_DBT)
RESULTS = clients.CACHE / "results.jsonl"
# Rounds by the number of tables: short ones are noisy and cheap.
_ROUNDS = {1: 7, 20: 5, 200: 3}
WARM_UPS: tuple[Mode, ...] = ("execute", "record")


class Results:
    """What has been measured, kept in a file so that an interrupted command can go on."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self.rounds: list[Round] = []
        if resume and path.is_file():
            self.rounds = [Round.of(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")

    def add(self, round_: Round) -> None:
        """Keep a round."""
        self.rounds.append(round_)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(round_.record()) + "\n")

    def of(self, scenario: Scenario) -> list[Round]:
        """Return the rounds of a scenario."""
        return [round_ for round_ in self.rounds if round_.scenario == scenario]

    def has(self, scenario: Scenario, number: int, client: str) -> bool:
        """Tell whether a round has been measured."""
        return any((round_.number, round_.client) == (number, client) for round_ in self.of(scenario))


class Bench:
    """The scenarios with one set of tables: a server, the clients, and their rounds."""

    def __init__(self, arguments: argparse.Namespace, results: Results, deadline: float) -> None:
        self._arguments = arguments
        self._results = results
        self._deadline = deadline

    def scenarios(self, count: int, kind: workload.Kind) -> None:
        """Measure all scenarios with these tables that are not measured yet, and print each."""
        rounds = self._arguments.rounds or _ROUNDS.get(count, 1)
        names = [*self._arguments.clients, *([BARE] if count == 1 else [])]
        scenarios = [
            Scenario(count, kind, with_latency, self._arguments.answers) for with_latency in self._arguments.latency
        ]
        wanted = [(s, number, name) for s in scenarios for number in range(rounds) for name in names]
        if not all(self._results.has(*one) for one in wanted):
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                self._rounds(Path(folder), count, kind, wanted, names)
        for scenario in scenarios:
            if measured := self._results.of(scenario):
                print(f"\n### {title(scenario, latency=str(_latency(scenario)), rounds=measured)}\n")
                print(summary(measured), flush=True)

    def _rounds(
        self,
        place: Path,
        count: int,
        kind: workload.Kind,
        wanted: Sequence[tuple[Scenario, int, str]],
        names: Sequence[str],
    ) -> None:
        tables = workload.workload(count, kind)
        with serving(place / "server", list(clients.DATABASES.values()), log=place / "server.log") as service:
            ready = {
                name: clients.prepare(name, tables, server=service.where, place=place / name, threads=THREADS)
                for name in names
            }
            for mode in WARM_UPS:
                for name in names:
                    _note(f"{count} {kind} tables: {name} warms up")
                    service.begin(NO_LATENCY, mode=mode)
                    self._cost(ready[name], place)
            for scenario, number, name in wanted:
                if self._results.has(scenario, number, name):
                    continue
                if time.monotonic() > self._deadline:
                    _note("The time is over; --resume goes on.")
                    return
                self._results.add(self._round(service, scenario, number, ready[name], place))

    def _round(self, service: Service, scenario: Scenario, number: int, client: Client, place: Path) -> Round:
        service.begin(_latency(scenario), mode=cast("Mode", scenario.answers))
        cost = self._cost(client, place)
        report = service.report()
        _note(f"{scenario}: round {number}, {client.name}, {cost.wall_seconds:.1f} s")
        if report["missed"]:
            _note(f"{report['missed']} statements had no recorded answer; all that were sent: {report['kinds']}")
        return Round(
            scenario,
            number,
            client.name,
            **vars(cost),
            **{name: report[name] for name in ("server_cpu_seconds", "logins", "statements", "missed")},
        )

    def _cost(self, client: Client, place: Path) -> measure.Cost:
        return measure.run(
            client.command,
            environment=client.environment,
            directory=client.directory,
            log=place / f"{client.name}.log",
            timeout_seconds=self._arguments.timeout_seconds,
        )


def _latency(scenario: Scenario) -> Latency:
    return LATENCY if scenario.with_latency else NO_LATENCY


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    """Return what the numbers depend on: the machine, without its name, and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    pinned = (Path(__file__).parent / "requirements-dagster-dbt.txt").read_text(encoding="utf-8").split()
    own = [f"{name}=={version(name)}" for name in ("dagster", "dagster-snowflake", "snowflake-connector-python")]
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}; this project with {', '.join(own)}; "
        f"peers with {', '.join(pinned)}; {THREADS} threads."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 20, 200], help="numbers of tables")
    parser.add_argument("--kinds", nargs="+", choices=workload.KINDS, default=list(workload.KINDS))
    parser.add_argument("--clients", nargs="+", choices=BUILDERS, default=list(BUILDERS))
    parser.add_argument("--latency", nargs="+", choices=("off", "on"), default=["off", "on"])
    parser.add_argument("--rounds", type=int, help="instead of 7, 5, 3, and 1 from 1,000 tables")
    parser.add_argument(
        "--answers", choices=("replay", "execute"), default="replay", help="execute: by DuckDB each time"
    )
    parser.add_argument("--minutes", type=float, default=120, help="no run begins later")
    parser.add_argument("--timeout-seconds", type=float, default=1800, help="for one run of one client")
    parser.add_argument("--resume", action="store_true", help="keep what the last command has measured")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    measure.end_with_children()
    chosen.latency = [choice == "on" for choice in chosen.latency]
    clients.install([name for name in (DBT, DAGSTER_DBT) if name in chosen.clients])
    print(machine(), flush=True)
    bench = Bench(
        chosen, Results(chosen.results, resume=chosen.resume), deadline=time.monotonic() + 60 * chosen.minutes
    )
    for count in chosen.tables:
        for kind in chosen.kinds:
            bench.scenarios(count, kind)


if __name__ == "__main__":
    main()
