"""What loading the code location costs beside parsing a dbt project: `python -m benchmarks.load`.

Loading is what every command, code server and run worker does first: import the definitions and build the repository out of
them. Cold is without Python's compiled files and whatever the location caches; warm is the second time. For dbt, cold is
without `target/`, and warm is a partial parse of an unchanged project. Start-up without any table is in every number.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks import clients, measure, workload
from benchmarks.clients import BEFORE, DBT, DBT_2, PROJECT, Client
from benchmarks.report import rendered
from benchmarks.run import chosen_clients, machine
from benchmarks.service import ROOT

COMPARED = 1000
LARGEST = 5000
TIMEOUT_SECONDS = 900.0
# Of the time of dbt-core's parse; and of that of dbt 2, where it is.
_LIMITS = {"cold": 0.15, "warm": 0.25}
_LOAD = """
import run_elt_dagster
from dagster import AssetKey
repository = run_elt_dagster.defs.get_repository_def()
assert AssetKey(["analytics", "t_00000"]) in repository.asset_graph.get_all_asset_keys()
"""
Measured = Mapping[tuple[str, int, str], measure.Cost]


def verdicts(measured: Measured) -> list[tuple[str, str, str, str]]:
    """Return a row for each target that the measured loads tell of: the target, its limit, the number, met or not."""
    rows: list[tuple[str, str, str, str]] = []
    for state, limit in _LIMITS.items():
        own = measured.get((PROJECT, COMPARED, state))
        for peer, at_most in ((DBT, limit), (DBT_2, 1.0)):
            if own and (parse := measured.get((peer, COMPARED, state))):
                text = f"{COMPARED:,} tables {state}, in the time of {peer} parse"
                rows.append(_verdict(text, own.wall_seconds / parse.wall_seconds, at_most))
    if largest := measured.get((PROJECT, LARGEST, "warm")):
        rows.append(_verdict(f"seconds for {LARGEST:,} tables warm", largest.wall_seconds, 15))
    return rows


def _verdict(text: str, number: float, limit: float) -> tuple[str, str, str, str]:
    shown = f"{number:.2f}"
    return (text, f"{limit:g}", shown, "met" if float(shown) <= limit else "not met")


def summary(measured: Measured) -> str:
    """Return the loads as a table, and what became of the targets."""
    rows = [
        (client, f"{count:,}", state, f"{cost.wall_seconds:.2f}", f"{cost.cpu_seconds:.2f}", f"{cost.peak_mib:.0f}")
        for (client, count, state), cost in measured.items()
    ]
    text = rendered(("who loads", "tables", "state", "wall s", "CPU s", "peak MiB"), rows)
    judged = verdicts(measured)
    return text + ("\n\n" + rendered(("target", "at most", "got", ""), judged) if judged else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, nargs="+", default=[10, 100, COMPARED, LARGEST])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", action="store_true", help="list the slowest imports of a load too")
    parser.add_argument("--before", type=Path, help="another checkout of this project, in the place of dbt")
    chosen = parser.parse_args(arguments)
    measure.end_with_children()
    parsers: list[str] = []
    missing: list[str] = []
    if chosen.before is None:
        clients.install([DBT])
        parsers, missing = chosen_clients([DBT, DBT_2], before=None)
    print("\n".join([machine(), *missing]), flush=True)
    measured: dict[tuple[str, int, str], measure.Cost] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for count in chosen.tables:
            place = Path(folder) / str(count)
            tables = workload.workload(count, "realistic")
            loads = {PROJECT: _project_load(tables, place)}
            if chosen.before is not None:
                loads[BEFORE] = _project_load(tables, place, name=BEFORE, root=chosen.before.resolve())
            if count == COMPARED:
                loads |= {name: _dbt_parse(name, tables, place) for name in parsers}
            _measure(loads, count, chosen.rounds, measured, place)
            print(f"\n{summary({key: cost for key, cost in measured.items() if key[1] == count})}", flush=True)
        if chosen.imports:
            print("\n" + _imports(_project_load(workload.workload(1, "trivial"), Path(folder) / "imports")[0]))


_Load = tuple[Client, Callable[[], None]]


def _project_load(tables: Sequence[workload.Table], place: Path, *, name: str = PROJECT, root: Path = ROOT) -> _Load:
    client = clients.prepare(name, tables, server={"port": 1, "host": "127.0.0.1", "user": "x", "password": "x"},
                             place=place / name, threads=8, before=root)  # fmt: skip
    # Compiled files of the package go into a folder of this measurement, so that others' are neither used nor removed.
    compiled = place / "compiled"
    environment = {**client.environment, "PYTHONPYCACHEPREFIX": str(compiled)}
    home = place / name / "home"

    def forget() -> None:
        shutil.rmtree(compiled / root.relative_to(root.anchor) / "run_elt_dagster", ignore_errors=True)
        # The first run has made it: without it, cold would be warm.
        shutil.rmtree(client.environment["RUN_ELT_CACHE_DIR"])
        for cached in (*home.iterdir(), *place.glob(f"{name}/.run_elt*")):
            if cached.name != "dagster.yaml":
                shutil.rmtree(cached, ignore_errors=True)

    return Client(name, [sys.executable, "-c", _LOAD], client.directory, environment), forget


def _dbt_parse(name: str, tables: Sequence[workload.Table], place: Path) -> _Load:
    client = clients.prepare(name, tables, server={"port": 1}, place=place / name, threads=8)
    parse = Client(name, [client.command[0], "--quiet", "parse"], client.directory, client.environment)
    return parse, lambda: shutil.rmtree(client.directory / "target", ignore_errors=True)


def _measure(
    loads: Mapping[str, _Load],
    count: int,
    rounds: int,
    measured: dict[tuple[str, int, str], measure.Cost],
    place: Path,
) -> None:
    """Measure every load cold and warm in turn, and keep the run with the median wall time."""
    costs: dict[tuple[str, int, str], list[measure.Cost]] = {}
    for client, _ in loads.values():
        # Everybody else's compiled files are there before anything is measured.
        _run(client, place)
    for _ in range(rounds):
        for name, (client, forget) in loads.items():
            forget()
            for state in ("cold", "warm"):
                costs.setdefault((name, count, state), []).append(_run(client, place))
    for key, several in costs.items():
        middle = median(cost.wall_seconds for cost in several)
        measured[key] = min(several, key=lambda cost: abs(cost.wall_seconds - middle))


def _run(client: Client, place: Path) -> measure.Cost:
    return measure.run(
        client.command,
        environment=client.environment,
        directory=client.directory,
        log=place / f"{client.name}.log",
        timeout_seconds=TIMEOUT_SECONDS,
    )


def _imports(client: Client, *, shown: int = 25) -> str:
    """Return what takes longest to import, with what it imports itself: `-X importtime`, below its third level."""
    command = [client.command[0], "-X", "importtime", *client.command[1:]]
    output = subprocess.run(
        command, env=dict(client.environment), cwd=client.directory, check=True, capture_output=True, text=True
    ).stderr
    entries = [line.split("|") for line in output.splitlines() if line.startswith("import time:") and "|" in line]
    slowest = sorted((int(total), name.strip()) for _, total, name in entries if total.strip().isdecimal())[-shown:]
    return rendered(("import", "ms with its own"), [(name, f"{total / 1000:.0f}") for total, name in slowest[::-1]])


if __name__ == "__main__":
    main()
