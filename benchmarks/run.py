"""Build the same tables with this project, its peers and a bare script, and compare: `python -m benchmarks.run`.

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
from collections.abc import Container, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import cast

from benchmarks import clients, measure, workload
from benchmarks.clients import BARE, BEFORE, DAGSTER_DBT, DBT, DBT_2, POSTGRES, PROJECT, RAW, SQLMESH, Client
from benchmarks.postgres import postgres_version, sessions, storage_database
from benchmarks.report import THREADS, Round, Scenario, summary, title
from benchmarks.service import LATENCY, NO_LATENCY, Latency, Mode, Service, serving
from run_elt_dagster_tests.support.postgres import Database

BUILDERS = (RAW, PROJECT, POSTGRES, BEFORE, DBT, DBT_2, DAGSTER_DBT, SQLMESH)
RESULTS = clients.CACHE / "results.jsonl"
# Rounds by the number of tables: short ones are noisy and cheap.
_ROUNDS = {1: 7, 20: 5, 200: 3}
WARM_UPS: tuple[Mode, ...] = ("execute", "record")
_REPORTED = ("first_statement_seconds", "server_cpu_seconds", "logins", "statements", "missed")


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
        self._postgres: Database | None = None

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
        databases = list(dict.fromkeys(clients.DATABASES[name] for name in names if name in clients.DATABASES))
        with ExitStack() as stack:
            self._postgres = stack.enter_context(storage_database()) if POSTGRES in names else None
            service = stack.enter_context(serving(place / "server", databases, log=place / "server.log"))
            ready = {name: self._prepared(name, tables, service, place) for name in names}
            self._warm_up(ready, service, place, f"{count} {kind} tables")
            for scenario, number, name in wanted:
                if self._results.has(scenario, number, name) or name not in ready:
                    continue
                if time.monotonic() > self._deadline:
                    _note("The time is over; --resume goes on.")
                    return
                self._results.add(self._round(service, scenario, number, ready[name], place))

    def _prepared(self, name: str, tables: Sequence[workload.Table], service: Service, place: Path) -> Client:
        return clients.prepare(
            name,
            tables,
            server=service.where,
            place=place / name,
            threads=THREADS,
            postgres=self._postgres.variables if self._postgres else {},
            before=self._arguments.before,
        )

    def _warm_up(self, ready: dict[str, Client], service: Service, place: Path, what: str) -> None:
        """Run every client before it is measured. dbt 2 is left out if it fails: nothing says that it can speak to this server."""
        for name, client in list(ready.items()):
            for step, mode in enumerate(warm_ups(name, ready)):
                service.begin(NO_LATENCY, mode=mode)
                try:
                    cost = self._cost(client if step else client.first, place)
                except measure.CommandError as error:
                    if name != DBT_2:
                        raise
                    _note(f"dbt 2 was not measured, since it cannot build these tables.\n{error}")
                    del ready[name]
                    break
                used = service.report()["server_cpu_seconds"]
                _note(f"{what}: {name} warmed up in {cost.wall_seconds:.1f} s, the server used {used:.1f} s of CPU")

    def _round(self, service: Service, scenario: Scenario, number: int, client: Client, place: Path) -> Round:
        database = self._postgres if client.name == POSTGRES else None
        counted = sessions(database) if database else 0
        service.begin(_latency(scenario), mode=cast("Mode", scenario.answers))
        cost = self._cost(client, place)
        report = service.report()
        connections = sessions(database) - counted if database else None
        _note(f"{scenario}: round {number}, {client.name}, {cost.wall_seconds:.1f} s{_connected(connections)}")
        if report["missed"]:
            _note(f"{report['missed']} statements had no recorded answer; all that were sent: {report['kinds']}")
        return Round(
            scenario,
            number,
            client.name,
            **vars(cost),
            **{name: report[name] for name in _REPORTED},
            connections=connections,
        )

    def _cost(self, client: Client, place: Path) -> measure.Cost:
        return measure.run(
            client.command,
            environment=client.environment,
            directory=client.directory,
            log=place / f"{client.name}.log",
            timeout_seconds=self._arguments.timeout_seconds,
        )


def warm_ups(name: str, names: Container[str]) -> Sequence[Mode]:
    """Return what the server does in the runs of a client before it is measured, among others before it.

    The floor's statements and their answers depend on nothing. On Postgres the project sends what it sends on SQLite, to the same
    database, and gets the answers of that.
    """
    if name == RAW:
        return ("record",)
    return ("replay", "replay") if name == POSTGRES and PROJECT in names else WARM_UPS


def _connected(connections: int | None) -> str:
    return "" if connections is None else f", {connections} connections to Postgres"


def _latency(scenario: Scenario) -> Latency:
    return LATENCY if scenario.with_latency else NO_LATENCY


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def chosen_clients(asked: Sequence[str] | None, *, before: Path | None) -> tuple[list[str], list[str]]:
    """Return the clients to measure, and a sentence for each that this machine has not.

    Args:
        asked: Names; None for all.
        before: Another checkout of this project, None without one.
    """
    missing: dict[str, str] = {}
    if postgres_version() is None:
        missing[POSTGRES] = "The client project-postgres requires Postgres 15 or newer, got none. It is not measured."
    if clients.dbt_2() is None:
        missing[DBT_2] = "The client dbt2 requires dbt 2 on PATH, got none. It is not measured."
    if before is None:
        missing[BEFORE] = "The client before requires --before, got none. It is not measured."
    names = [name for name in BUILDERS if name in (asked or BUILDERS) and name not in missing]
    # A comparison with the past is made only when somebody asks for it.
    return names, [text for name, text in missing.items() if name in (asked or (POSTGRES, DBT_2))]


def machine() -> str:
    """Return what the numbers depend on: the machine, without its name, and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    pinned = [f"{name}: {', '.join(clients.pinned(name))}" for name in clients.PEERS]
    pinned += [f"dbt 2 {found[1]}"] if (found := clients.dbt_2()) else []
    own = [f"{name}=={version(name)}" for name in ("dagster", "dagster-snowflake", "snowflake-connector-python")]
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}; this project with {', '.join(own)}; "
        f"{'; '.join(pinned)}; Postgres {postgres_version() or 'none'}; {THREADS} threads."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 20, 200], help="numbers of tables")
    parser.add_argument("--kinds", nargs="+", choices=workload.KINDS, default=list(workload.KINDS))
    parser.add_argument("--clients", nargs="+", choices=BUILDERS, help="instead of all that the machine has")
    parser.add_argument("--before", type=Path, help="another checkout of this project, measured as client before")
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
    chosen.before = chosen.before and chosen.before.resolve()
    chosen.clients, missing = chosen_clients(chosen.clients, before=chosen.before)
    clients.install([name for name in clients.PEERS if name in chosen.clients])
    if not set(clients.OWN).isdisjoint(chosen.clients):
        clients.install([clients.PROJECT])
    print("\n".join([machine(), *missing]), flush=True)
    bench = Bench(
        chosen, Results(chosen.results, resume=chosen.resume), deadline=time.monotonic() + 60 * chosen.minutes
    )
    for count in chosen.tables:
        for kind in chosen.kinds:
            bench.scenarios(count, kind)


if __name__ == "__main__":
    main()
