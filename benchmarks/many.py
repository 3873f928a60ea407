"""Thousands of tables in one run: `python -m benchmarks.many --tables 5000`.

A run publishes them all, and with --failing another one fails at each. The tables are trivial, and the answers for one of them
are replayed for every other one: what is measured is the project and Dagster, not DuckDB. Dagster's history stays in the folder
of --keep.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import clients, measure, workload
from benchmarks.clients import PROJECT
from benchmarks.report import rendered
from benchmarks.run import machine
from benchmarks.service import NO_LATENCY, Mode, Service, serving

TIMEOUT_SECONDS = 7200.0
_HEADINGS = ("tables", "", "wall s", "CPU s", "peak MiB", "statements", "executed", "server CPU s")
# A run with failed tables ends with 1, and nothing else is to pass as one.
_ENDS_WITH_1 = ("bash", "-c", '"$@"; [ $? -eq 1 ]', "-")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, nargs="+", default=[500, 1000, 5000])
    parser.add_argument("--failing", action="store_true", help="measure a run too in which each table fails")
    parser.add_argument("--keep", type=Path, help="a folder for all files, which stay there")
    chosen = parser.parse_args(arguments)
    measure.end_with_children()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for count in chosen.tables:
            place = (chosen.keep or Path(folder)) / str(count)
            print(rendered(_HEADINGS, _measured(place, count, is_failing=chosen.failing)), flush=True)


def _measured(place: Path, count: int, *, is_failing: bool) -> list[tuple[str, ...]]:
    with serving(
        place / "server", [clients.DATABASES[PROJECT]], log=place.parent / "server.log", are_alike=True
    ) as service:
        _run(service, place / "one", 1, "record")
        rows = [(f"{count:,}", "published", *_run(service, place / PROJECT, count, "replay"))]
        if is_failing:
            rows.append((f"{count:,}", "failed", *_run(service, place / PROJECT, count, "refuse")))
    return rows


def _run(service: Service, place: Path, count: int, mode: Mode) -> tuple[str, ...]:
    tables = workload.workload(count, "trivial")
    client = clients.prepare(PROJECT, tables, server=service.where, place=place, threads=8)
    if mode == "refuse":
        client = replace(client, command=[*_ENDS_WITH_1, *client.command])
    service.begin(NO_LATENCY, mode=mode)
    cost = measure.run(
        client.command,
        environment=client.environment,
        directory=client.directory,
        log=place / "log",
        timeout_seconds=TIMEOUT_SECONDS,
    )
    report = service.report()
    seconds = (f"{cost.wall_seconds:.0f}", f"{cost.cpu_seconds:.0f}", f"{cost.peak_mib:.0f}")
    return (*seconds, f"{report['statements']:,}", str(report["missed"]), f"{report['server_cpu_seconds']:.0f}")


if __name__ == "__main__":
    main()
