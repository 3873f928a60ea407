"""How building scales with the tables built at the same time: `python -m benchmarks.threads`.

The efficiency at T threads is the time that so many threads would take if one thread's work were only divided among them, in
what they took; 1.00 is perfect, and start-up counts as work that nothing divides.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import clients, measure, workload
from benchmarks.clients import PROJECT, RAW
from benchmarks.report import rendered
from benchmarks.run import WARM_UPS, machine
from benchmarks.service import LATENCY, NO_LATENCY, serving

TIMEOUT_SECONDS = 1800.0


def rows(walls: Sequence[tuple[str, int, float]]) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each client, number of threads and wall time: with speed-up and efficiency against its first one."""
    first: dict[str, tuple[int, float]] = {}
    shown: list[tuple[str, str, str, str, str]] = []
    for client, threads, seconds in walls:
        least, longest = first.setdefault(client, (threads, seconds))
        speed_up = longest / seconds
        efficiency = speed_up * least / threads
        shown.append((client, str(threads), f"{seconds:.1f}", f"{speed_up:.2f}", f"{efficiency:.2f}"))
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    chosen = parser.parse_args(arguments)
    measure.end_with_children()
    tables = workload.workload(chosen.tables, "trivial")
    walls: list[tuple[str, int, float]] = []
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        place = Path(folder)
        with serving(
            place / "server", [clients.DATABASES[name] for name in (RAW, PROJECT)], log=place / "server.log"
        ) as service:
            for name in (RAW, PROJECT):
                for step, threads in enumerate([*[max(chosen.threads)] * len(WARM_UPS), *chosen.threads]):
                    client = clients.prepare(name, tables, server=service.where, place=place / name, threads=threads)
                    is_measured = step >= len(WARM_UPS)
                    service.begin(
                        LATENCY if is_measured else NO_LATENCY, mode="replay" if is_measured else WARM_UPS[step]
                    )
                    cost = measure.run(
                        client.command,
                        environment=client.environment,
                        directory=client.directory,
                        log=place / f"{name}.log",
                        timeout_seconds=TIMEOUT_SECONDS,
                    )
                    if is_measured:
                        walls.append((name, threads, cost.wall_seconds))
    print(f"\n### {chosen.tables} trivial tables, {LATENCY}\n")
    print(rendered(("client", "threads", "wall s", "speed-up", "efficiency"), rows(walls)))


if __name__ == "__main__":
    main()
