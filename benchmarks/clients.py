"""Who builds the tables: the commands, their variables and the folders that they work in."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from benchmarks import workload
from benchmarks.service import ROOT

# In the virtual environment that the command runs in: whoever removes that removes the peers too.
CACHE = Path(sys.prefix) / "benchmarks"
PROJECT, POSTGRES, BEFORE = "project", "project-postgres", "before"
DBT, DBT_2, DAGSTER_DBT, SQLMESH, RAW, BARE = "dbt", "dbt2", "dagster-dbt", "sqlmesh", "floor", "bare"
# Those that pip installs, each by its own file of requirements.
PEERS = (DBT, DAGSTER_DBT, SQLMESH)
# Those that need this project. It is installed as deploy/Dockerfile installs it: without the embedded Snowflake, whose pyarrow the
# connector imports where it finds it (25 MiB).
OWN = (PROJECT, POSTGRES, BARE)
# Each has a database of its own, so that nobody's tables slow down another one's look at the catalogue. What this project sends
# does not depend on where Dagster stores its events.
DATABASES: Mapping[str, str] = {
    PROJECT: "BENCH_PROJECT",
    POSTGRES: "BENCH_PROJECT",
    BEFORE: "BENCH_BEFORE",
    DBT: "BENCH_DBT",
    DBT_2: "BENCH_DBT_2",
    DAGSTER_DBT: "BENCH_DAGSTER_DBT",
    SQLMESH: "BENCH_SQLMESH",
    RAW: "BENCH_FLOOR",
}
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")
# Nobody looks for the cloud that the machine runs in, asks for the address of a proxy, or reports anything.
_QUIET = {
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore",
}
_DAGSTER_YAML: Mapping[str, Any] = {"telemetry": {"enabled": False}}
_DONE = "installed.txt"
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")


@dataclass(frozen=True)
class Client:
    """A way of building the tables.

    Attributes:
        name: One of this module's constants.
        command: What is run.
        directory: Where.
        environment: All of its variables.
        first_command: What is run instead in the first warm-up, None if it is the same.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    first_command: Sequence[str] | None = None

    @property
    def first(self) -> "Client":
        """The client of the first warm-up."""
        return replace(self, command=self.first_command or self.command)


def prepare(
    name: str,
    tables: Sequence[workload.Table],
    *,
    server: Mapping[str, Any],
    place: Path,
    threads: int,
    postgres: Mapping[str, str] = MappingProxyType({}),
    before: Path | None = None,
) -> Client:
    """Write a client's files below a folder and return it, ready to run; what it needs is installed.

    Args:
        name: One of this module's constants.
        tables: What it builds.
        server: Where the Snowflake is, as `Service.where` has it; what is missing is left empty.
        place: The folder.
        threads: Tables built at the same time.
        postgres: The variables that deploy/dagster.yaml reads, for the client POSTGRES.
        before: Another checkout of this project, for the client BEFORE.
    """
    place.mkdir(parents=True, exist_ok=True)
    (place / "home").mkdir(exist_ok=True)
    instance = {**_DAGSTER_YAML, **(_deployed_storage() if name == POSTGRES else {})}
    # JSON is YAML.
    (place / "home" / "dagster.yaml").write_text(json.dumps(instance), encoding="utf-8")
    environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
    environment |= {**_QUIET, **postgres, "DAGSTER_HOME": str(place / "home")}
    makers = {
        PROJECT: _project,
        POSTGRES: partial(_project, name=POSTGRES),
        BEFORE: partial(_project, name=BEFORE, root=before or ROOT),
        DBT: _dbt,
        DBT_2: _dbt_2,
        DAGSTER_DBT: _dagster_dbt,
        SQLMESH: _sqlmesh,
        RAW: _raw,
        BARE: _bare,
    }
    return makers[name](list(tables), environment, _account(name, server), place, threads)


def _deployed_storage() -> Mapping[str, Any]:
    """Return the storage of deploy/dagster.yaml as it stands there."""
    deployed = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text(encoding="utf-8"))
    return {"storage": deployed["storage"]}


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
    tables: list[workload.Table],
    environment: dict[str, str],
    account: dict[str, str],
    place: Path,
    threads: int,
    *,
    name: str = PROJECT,
    root: Path = ROOT,
) -> Client:
    workload.write(place / "tables", workload.project_files(tables))
    variables = {f"SNOWFLAKE_{key.upper()}": value for key, value in account.items()}
    environment |= {
        **variables,
        "RUN_ELT_TABLES_DIR": str(place / "tables"),
        "RUN_ELT_MAX_CONCURRENT_TABLES": str(threads),
        # What SQL files read is remembered there, not with the user's own.
        "RUN_ELT_CACHE_DIR": str(place / "cache"),
        "PYTHONPATH": str(root),
    }
    own = root / ".venv" / "bin" / "dagster"
    dagster = str(own) if root != ROOT and own.is_file() else _own("dagster")
    command = [dagster, "asset", "materialize", "--select", "*", "-m", "run_elt_dagster"]
    return Client(name, command, place, environment)


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


def _dbt_2(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    """Return the dbt that is found on the path.

    Raises:
        LookupError: There is none of version 2.
    """
    if (found := dbt_2()) is None:
        raise LookupError("The client dbt2 requires dbt 2 on PATH, got none. It was not measured. Install it first.")
    client = _dbt(tables, environment, account, place, threads)
    return replace(client, name=DBT_2, command=[str(found[0]), "build"])


def _sqlmesh(
    tables: list[workload.Table], environment: dict[str, str], account: dict[str, str], place: Path, threads: int
) -> Client:
    workload.write(place, workload.sqlmesh_files(tables))
    shutil.copy(Path(__file__).parent / "sqlmesh_config.py", place / "config.py")
    environment |= {f"BENCH_{name.upper()}": value for name, value in account.items()}
    # SQLMesh 0.236 asks for its tables in the order of a set. In another order there would be no recorded answer.
    environment |= {"BENCH_THREADS": str(threads), "PYTHONHASHSEED": "0"}
    plan = [_peer(SQLMESH, "sqlmesh"), "plan", "--auto-apply", "--no-prompts"]
    # Nothing has changed, and all tables are of today: a rebuild of all has to be asked for.
    return Client(SQLMESH, [*plan, "--restate-model", "analytics.*"], place, environment, first_command=plan)


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
    installed = CACHE / PROJECT
    return str((installed / "bin" if (installed / _DONE).is_file() else Path(sys.executable).parent) / script)


def _peer(name: str, script: str) -> str:
    return str(CACHE / name / "bin" / script)


def dbt_2(path: str | None = None) -> tuple[Path, str] | None:
    """Return the first dbt 2 on a path, by default the caller's, and its version; None if there is none.

    Its package downloads its program from its vendor, so that no registry alone can install it.
    """
    folders = (os.environ.get("PATH", "") if path is None else path).split(os.pathsep)
    for program in (Path(folder) / name for folder in folders for name in ("dbt", "dbtf")):
        if os.access(program, os.X_OK) and program.is_file():
            asked = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, timeout=60)
            # The first version is its own. dbt 1 names the newest one too.
            version = _VERSION.search(asked.stdout)
            if not asked.returncode and version and version[0].startswith("2."):
                return program, version[0]
    return None


def install(names: Sequence[str] = (*PEERS, PROJECT)) -> None:
    """Install clients into virtual environments of their own; what is there in the pinned versions stays."""
    # What lies on the caller's path must not look installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name in names:
        files, arguments = _requirements(name)
        wanted, done = "\n".join(file.read_text(encoding="utf-8") for file in files), CACHE / name / _DONE
        if done.is_file() and done.read_text(encoding="utf-8") == wanted:
            continue
        print(f"Installing {name} into a virtual environment of its own", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / name)], check=True, env=environment)
        pip = [_peer(name, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *arguments], check=True, env=environment)
        done.write_text(wanted, encoding="utf-8")


def pinned(name: str) -> list[str]:
    """Return the packages that a peer is installed with, as its file of requirements names them."""
    lines = (Path(__file__).parent / f"requirements-{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _requirements(name: str) -> tuple[list[Path], list[str]]:
    """Return the files that say what a client needs, and what pip is told of it."""
    if name == PROJECT:
        constraints = ROOT / "constraints.txt"
        return [ROOT / "pyproject.toml", constraints], [
            "--constraint",
            str(constraints),
            "--editable",
            f"{ROOT}[deploy]",
        ]
    requirements = Path(__file__).parent / f"requirements-{name}.txt"
    return [requirements], ["--requirement", str(requirements)]
