"""Who builds the tables: the commands, their variables and the folders that they work in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.service import ROOT

# In the virtual environment that the command runs in: whoever removes that removes the peers too.
CACHE = Path(sys.prefix) / "benchmarks"
PROJECT, DBT, DAGSTER_DBT, RAW, BARE = "project", "dbt", "dagster-dbt", "floor", "bare"
# Each has a database of its own, so that nobody's tables slow down another one's look at the catalogue.
DATABASES: Mapping[str, str] = {
    PROJECT: "BENCH_PROJECT",
    DBT: "BENCH_DBT",
    DAGSTER_DBT: "BENCH_DAGSTER_DBT",
    RAW: "BENCH_FLOOR",
}
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")
# Nobody looks for the cloud that the machine runs in, asks for the address of a proxy, or reports anything.
_QUIET = {
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore",
}
_DAGSTER_YAML = "telemetry:\n  enabled: false\n"


@dataclass(frozen=True)
class Client:
    """A way of building the tables.

    Attributes:
        name: One of this module's constants.
        command: What is run.
        directory: Where.
        environment: All of its variables.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]


def prepare(
    name: str, tables: Sequence[workload.Table], *, server: Mapping[str, Any], place: Path, threads: int
) -> Client:
    """Write a client's files below a folder and return it, ready to run; what it needs is installed."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "home").mkdir(exist_ok=True)
    (place / "home" / "dagster.yaml").write_text(_DAGSTER_YAML, encoding="utf-8")
    environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
    environment |= {**_QUIET, "DAGSTER_HOME": str(place / "home")}
    makers = {PROJECT: _project, DBT: _dbt, DAGSTER_DBT: _dagster_dbt, RAW: _raw, BARE: _bare}
    return makers[name](list(tables), environment, _account(name, server), place, threads)


def _account(name: str, server: Mapping[str, Any]) -> dict[str, str]:
    return {
        "account": "embedded",
        "user": str(server.get("user", "")),
        "password": str(server.get("password", "")),
        "role": "SYSADMIN",
        "warehouse": "WH",
        "database": DATABASES.get(name, ""),
        "host": str(server.get("host", "")),
        "port": str(server.get("port", "")),
        "protocol": "http",
    }


def _project(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    workload.write(place / "tables", workload.project_files(tables))
    variables = {f"SNOWFLAKE_{name.upper()}": value for name, value in account.items()}
    environment |= {
        **variables,
        "RUN_ELT_TABLES_DIR": str(place / "tables"),
        "RUN_ELT_MAX_CONCURRENT_TABLES": str(threads),
        # What SQL files read is remembered there, not with the user's own.
        "RUN_ELT_CACHE_DIR": str(place / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    command = [_own("dagster"), "asset", "materialize", "--select", "*", "-m", "run_elt_dagster"]
    return Client(PROJECT, command, place, environment)


def _dbt(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    workload.write(place, workload.dbt_files(tables, threads=threads))
    environment |= {f"BENCH_{name.upper()}": value for name, value in account.items()}
    return Client(DBT, [_peer(DBT, "dbt"), "build"], place, environment)


def _dagster_dbt(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    workload.write(place, workload.dbt_files(tables, threads=threads))
    shutil.copy(Path(__file__).parent / "dbt_assets.py", place / "dbt_assets.py")
    environment |= {f"BENCH_{name.upper()}": value for name, value in account.items()}
    scripts = str(Path(_peer(DAGSTER_DBT, "dbt")).parent)
    environment |= {"BENCH_DBT_PROJECT": str(place), "PATH": f"{scripts}{os.pathsep}{environment.get('PATH', '')}"}
    # A deployment makes the manifest when it is built, not in each run.
    subprocess.run([_peer(DAGSTER_DBT, "dbt"), "--quiet", "parse"], check=True, cwd=place, env=environment)
    command = [_peer(DAGSTER_DBT, "dagster"), "asset", "materialize", "--select", "*", "-f", "dbt_assets.py"]
    return Client(DAGSTER_DBT, command, place, environment)


def _raw(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    workload.write(place, workload.raw_files(tables))
    environment |= {f"BENCH_{name.upper()}": value for name, value in account.items()}
    environment |= {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.raw", str(place / "tables.json"), str(threads)]
    return Client(RAW, command, place, environment)


def _bare(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    del tables, account, threads
    command = [_own("dagster"), "asset", "materialize", "--select", "*", "-f", str(Path(__file__).parent / "bare.py")]
    return Client(BARE, command, place, environment)


def _own(script: str) -> str:
    return str(Path(sys.executable).parent / script)


def _peer(name: str, script: str) -> str:
    return str(CACHE / name / "bin" / script)


def install(names: Sequence[str] = (DBT, DAGSTER_DBT)) -> None:
    """Install the peers into virtual environments of their own; what is there in the pinned versions stays."""
    # What lies on the caller's path must not look installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name in names:
        requirements = Path(__file__).parent / f"requirements-{name}.txt"
        wanted, done = requirements.read_text(encoding="utf-8"), CACHE / name / "installed.txt"
        if done.is_file() and done.read_text(encoding="utf-8") == wanted:
            continue
        print(f"Installing {', '.join(wanted.split())} into a virtual environment of its own", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / name)], check=True, env=environment)
        pip = [_peer(name, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(requirements)], check=True, env=environment)
        done.write_text(wanted, encoding="utf-8")
