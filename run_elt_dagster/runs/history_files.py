"""The files of Dagster's history on SQLite: whether they are whole, and whether they can be written. Nothing is changed.

Dagster 1.13 keeps three databases, and one more for the log of each run:
https://docs.dagster.io/deployment/oss/oss-instance-configuration#sqlite-storage
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from run_elt_dagster.disk import DAMAGED, disk_trouble, writing_trouble

# The tables without which Dagster does not work, by file.
FILES = {
    "history/runs.db": ("runs", "run_tags"),
    "history/runs/index.db": ("event_logs", "asset_keys"),
    "schedules/schedules.db": ("instigators", "job_ticks"),
}
# Every page of a larger file is not read: that takes longer than a look may.
CHECKED_BYTES = 256 << 20
_VERSION = "alembic_version"
_BUSY_SECONDS = 5
_CONSEQUENCE = "No run can be recorded, and no failed run alerts."


@dataclass(frozen=True)
class HistoryProblem:
    """What is wrong with the history.

    Attributes:
        path: The file or the folder.
        detail: What was found, and what follows from it.
        remedy: The next step.
    """

    path: Path
    detail: str
    remedy: str

    def __str__(self) -> str:
        """Return it as an error's text."""
        return f"{self.detail} {self.remedy}"


def history_problems(home: Path) -> list[HistoryProblem]:
    """Return what is wrong with the files of the history, nothing where it is kept elsewhere or there is none yet.

    Args:
        home: DAGSTER_HOME, or the folder with dagster.yaml.
    """
    base = sqlite_folder(home)
    if base is None or not base.is_dir():
        return []
    folders = dict.fromkeys([base, *((base / name).parent for name in FILES)])
    problems = [problem for folder in folders if folder.is_dir() and (problem := _unwritable(folder))]
    # One disk that is full is one problem.
    return problems[:1] + [p for name, tables in FILES.items() for p in _problems_of(base / name, tables)]


def sqlite_folder(home: Path) -> Path | None:
    """Return the folder in which Dagster keeps its databases, None if they are not SQLite or the file cannot be read."""
    try:
        config: Any = yaml.safe_load((home / "dagster.yaml").read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return home
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(config, Mapping) or any(name.endswith("_storage") and "local" not in name for name in config):
        return None
    storage: Any = config.get("storage")
    if storage is None:
        return home
    folder = storage["sqlite"].get("base_dir") if isinstance(storage, Mapping) and "sqlite" in storage else None
    if isinstance(folder, Mapping):
        folder = os.environ.get(str(folder.get("env")))
    # Dagster takes a relative path from the working directory.
    return Path(folder).absolute() if folder else None


def _unwritable(folder: Path) -> HistoryProblem | None:
    trouble = writing_trouble(folder)
    if trouble is None:
        return None
    detail = f"Dagster's history requires a folder that can be written, got {trouble.got} in {folder}. {_CONSEQUENCE}"
    return HistoryProblem(folder, detail, f"{trouble.remedy}; what was recorded is still there.")


def _problems_of(path: Path, tables: tuple[str, ...]) -> Iterator[HistoryProblem]:
    if not path.exists():
        # Dagster makes it when it needs it.
        return
    try:
        with closing(_opened(path)) as database:
            yield from _problems_in(database, path, tables)
    except sqlite3.Error as error:
        # Locked, or of a read-only disk, where the folder has said so: no damage.
        if disk_trouble(error) is DAMAGED:
            yield _damaged(path, str(error))


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)


def _problems_in(database: sqlite3.Connection, path: Path, tables: tuple[str, ...]) -> Iterator[HistoryProblem]:
    if said := _check(database, path):
        yield _damaged(path, said)
        return
    found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    missing = [name for name in (*tables, _VERSION) if name not in found]
    versions = [str(v) for (v,) in database.execute(f"SELECT version_num FROM {_VERSION}")] if _VERSION in found else []
    if missing and set(missing) != {_VERSION}:
        yield _damaged(path, f"no table {', '.join(missing)}")
    elif not versions:
        yield _unversioned(path)
    elif len(versions) > 1:
        yield _opened_twice(path, versions)


def _check(database: sqlite3.Connection, path: Path) -> str:
    """Return what SQLite finds wrong with the file, empty if it is whole: https://www.sqlite.org/pragma.html#pragma_quick_check."""
    if path.stat().st_size > CHECKED_BYTES:
        return _cut_off(path)
    said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if said == "ok" else " ".join(said.split())


def _cut_off(path: Path) -> str:
    """Return whether a file is shorter than its head says: https://www.sqlite.org/fileformat.html#in_header_database_size."""
    with path.open("rb") as file:
        head = file.read(100)
    size = int.from_bytes(head[16:18], "big")
    pages, page = int.from_bytes(head[28:32], "big"), 65536 if size == 1 else size
    return (
        f"{path.stat().st_size:,} bytes, its head says {pages * page:,}" if pages * page > path.stat().st_size else ""
    )


def _damaged(path: Path, said: str) -> HistoryProblem:
    return HistoryProblem(
        path,
        f"Dagster's history requires whole files, got {DAMAGED.got} ({said}): {path}. {_CONSEQUENCE}",
        "Stop every Dagster process, then put a copy of the file back; without one, move it and its -wal and -shm aside: Dagster "
        "makes an empty one, and what the file had recorded is lost. The tables in Snowflake are not touched.",
    )


def _unversioned(path: Path) -> HistoryProblem:
    return HistoryProblem(
        path,
        f"Dagster's history requires the version of its schema, got none in {path}. Dagster takes it for one of an old release.",
        "Stop every Dagster process, then run dagster instance migrate.",
    )


def _opened_twice(path: Path, versions: list[str]) -> HistoryProblem:
    older = OLD_VERSION if OLD_VERSION in versions else versions[0]
    return HistoryProblem(
        path,
        f"Dagster's history requires one version of its schema, got {', '.join(sorted(versions))} in {path}: two processes "
        f"opened it at the same moment when it was new. No Dagster process can open it any more. {_CONSEQUENCE}",
        f"Stop every Dagster process, then run python -c \"import sqlite3; d = sqlite3.connect('{path}'); "
        f"d.execute('DELETE FROM {_VERSION} WHERE version_num = ?', ['{older}']); d.commit()\". Nothing that was recorded is lost.",
    )


# Dagster 1.13 gives this one to a history that it finds half made by another process, and the newest to a new one.
OLD_VERSION = "5771160a95ad"
