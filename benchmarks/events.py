"""What each kind of event costs, on SQLite and on Postgres: `python -m benchmarks.events`.

One run of this project on each storage, after two that warm up, with the answers replayed. Watching costs a little itself: the
wall time is higher than that of `benchmarks.run`.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import clients, measure, workload
from benchmarks.clients import POSTGRES, PROJECT, Client
from benchmarks.postgres import sessions, storage_database
from benchmarks.report import THREADS, rendered
from benchmarks.run import chosen_clients, machine, warm_ups
from benchmarks.service import LATENCY, NO_LATENCY, Service, serving
from run_elt_dagster_tests.support.postgres import Database

TIMEOUT_SECONDS = 1800.0
HEADINGS = ("stored", "times", "seconds", "CPU s", "ms each", "statements", "connections")


def rows(spent: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for each kind of event, the most expensive one first, and one for all of them together."""
    columns = ("count", "seconds", "cpu_seconds", "statements", "connections")
    total = {column: sum(kind[column] for kind in spent.values()) for column in columns}
    ordered = sorted(spent.items(), key=lambda item: -item[1]["seconds"])
    return [_row(name, kind) for name, kind in [*ordered, ("all", total)]]


def _row(name: str, kind: Mapping[str, Any]) -> tuple[str, ...]:
    each = f"{1000 * kind['seconds'] / kind['count']:.1f}" if kind["count"] else "-"
    return (
        name,
        f"{kind['count']:,}",
        f"{kind['seconds']:.2f}",
        f"{kind['cpu_seconds']:.2f}",
        each,
        f"{kind['statements']:,}",
        f"{kind['connections']:,}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--kind", choices=workload.KINDS, default="trivial")
    parser.add_argument("--latency", choices=("off", "on"), default="off")
    chosen = parser.parse_args(arguments)
    measure.end_with_children()
    names, missing = chosen_clients([PROJECT, POSTGRES], before=None)
    print("\n".join([machine(), *missing]), flush=True)
    tables = workload.workload(chosen.tables, chosen.kind)
    latency = LATENCY if chosen.latency == "on" else NO_LATENCY
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, ExitStack() as stack:
        place = Path(folder)
        database = stack.enter_context(storage_database()) if POSTGRES in names else None
        databases = list(dict.fromkeys(clients.DATABASES[name] for name in names))
        service = stack.enter_context(serving(place / "server", databases, log=place / "server.log"))
        for name in names:
            client = clients.prepare(
                name,
                tables,
                server=service.where,
                place=place / name,
                threads=THREADS,
                postgres=database.variables if database else {},
            )
            for mode in warm_ups(name, names):
                service.begin(NO_LATENCY, mode=mode)
                _run(client, place)
            service.begin(latency, mode="replay")
            print(f"\n### {name}: {chosen.tables} {chosen.kind} tables, {latency}\n")
            print(_profile(client, service, database if name == POSTGRES else None, place), flush=True)


def _profile(client: Client, service: Service, database: Database | None, place: Path) -> str:
    """Run a client once more and return what it stored, as a table with a sentence below it."""
    file = place / f"{client.name}.json"
    dagster = Path(client.command[0])
    command = [str(dagster.parent / "python"), "-m", "benchmarks.timed", str(file), *client.command[1:]]
    counted = sessions(database) if database else 0
    cost = _run(replace(client, command=command), place)
    text = rendered(HEADINGS, rows(json.loads(file.read_text(encoding="utf-8"))))
    text += f"\n\nThe run took {cost.wall_seconds:.2f} s, {cost.cpu_seconds:.2f} s of CPU and {cost.peak_mib:.0f} MiB"
    text += f". {service.report()['missed']} statements had no recorded answer."
    return text + (f" Postgres counted {sessions(database) - counted} connections." if database else "")


def _run(client: Client, place: Path) -> measure.Cost:
    return measure.run(
        client.command,
        environment=client.environment,
        directory=client.directory,
        log=place / f"{client.name}.log",
        timeout_seconds=TIMEOUT_SECONDS,
    )


if __name__ == "__main__":
    main()
