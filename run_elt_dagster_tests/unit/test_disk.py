"""What is said of a disk, by the errors that the operating system, SQLite and DuckDB raise."""

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.disk import (
    DAMAGED,
    DENIED,
    EMBEDDED_DISK_ERRNO,
    FAILING,
    FULL,
    READ_ONLY,
    DiskTrouble,
    disk_trouble,
    writing_trouble,
)
from run_elt_dagster.redaction import redact_row_values
from run_elt_dagster.runs.history_files import FILES, history_problems, sqlite_folder


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (OSError(errno.ENOSPC, "x"), FULL),
        (OSError(errno.EDQUOT, "x"), FULL),
        (OSError(errno.EFBIG, "x"), FULL),
        (OSError(errno.EROFS, "x"), READ_ONLY),
        (OSError(errno.EACCES, "x"), DENIED),
        (OSError(errno.EIO, "x"), FAILING),
        (OSError(errno.ENOTDIR, "x"), None),
        (sqlite3.OperationalError("database or disk is full"), FULL),
        (sqlite3.OperationalError("attempt to write a readonly database"), READ_ONLY),
        (sqlite3.OperationalError("disk I/O error"), FAILING),
        (sqlite3.DatabaseError("database disk image is malformed"), DAMAGED),
        (sqlite3.OperationalError("no such table: runs"), None),
        (RuntimeError('IO Error: Could not write file "/a": No space left on device'), FULL),
        (RuntimeError('IO Error: Cannot open file "/a": Read-only file system'), READ_ONLY),
        (RuntimeError('IO Error: Could not read enough bytes from file "/a"'), DAMAGED),
    ],
)
def test_trouble_is_told_by_what_raised_it(error: Exception, trouble: DiskTrouble | None) -> None:
    assert disk_trouble(error) is trouble


def test_folder_is_written_to_and_nothing_stays(tmp_path: Path) -> None:
    assert writing_trouble(tmp_path) is None
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    trouble = writing_trouble(tmp_path / "file")
    assert trouble is not None
    assert trouble.got == os.strerror(errno.ENOTDIR)


def test_file_of_the_embedded_snowflake_stays_in_the_error_and_values_do_not() -> None:
    said = (
        "The embedded Snowflake cannot use its file /data/1234567/RUN_ELT.db.wal, got a disk that is mounted read-only"
    )
    assert redact_row_values(said, EMBEDDED_DISK_ERRNO) == said
    assert "Jane" not in redact_row_values(f"{said}: 'Jane'", EMBEDDED_DISK_ERRNO)


@pytest.fixture(scope="module")
def new_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("history")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs_count()
    return home


@pytest.fixture
def home(tmp_path: Path, new_history: Path) -> Path:
    """A history with its three databases."""
    shutil.copytree(new_history, tmp_path, dirs_exist_ok=True)
    assert all((tmp_path / name).exists() for name in FILES)
    return tmp_path


def test_history_that_is_in_order_has_no_problem(home: Path) -> None:
    assert history_problems(home) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 1000, 20_000])
def test_history_that_is_cut_off_is_named_and_left_as_it_is(home: Path, name: str, size: int) -> None:
    os.truncate(home / name, size)
    (problem,) = history_problems(home)
    assert problem.path == home / name
    assert (
        f"got a file that is damaged ({'no table' if not size else 'database disk image is malformed'}"
        in problem.detail
    )
    assert str(home / name) in problem.detail
    assert "put a copy of the file back" in problem.remedy
    assert (home / name).stat().st_size == size


def test_history_that_is_no_database_is_named(home: Path) -> None:
    (home / "history/runs.db").write_bytes(b"not a database at all" * 1000)
    (problem,) = history_problems(home)
    assert "(file is not a database)" in problem.detail


def test_history_without_its_version_is_named_and_migrated(home: Path) -> None:
    with closing(sqlite3.connect(home / "history/runs.db", isolation_level=None)) as database:
        database.execute("DROP TABLE alembic_version")
    (problem,) = history_problems(home)
    assert "got none in" in problem.detail
    assert "dagster instance migrate" in problem.remedy


def test_history_that_is_locked_is_not_damaged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("run_elt_dagster.runs.history_files._BUSY_SECONDS", 0)
    database = sqlite3.connect(home / "history/runs.db", isolation_level=None)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")
    try:
        assert history_problems(home) == []
    finally:
        database.close()


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        (None, "."),
        ("telemetry: {enabled: false}", "."),
        ("storage: {sqlite: {base_dir: /somewhere}}", "/somewhere"),
        ("storage: {sqlite: {base_dir: {env: HISTORY_HERE}}}", "/from/environment"),
        ("storage: {postgres: {}}", None),
        ("run_storage: {module: x, class: y}", None),
        ("storage: [", None),
    ],
)
def test_folder_of_the_history_is_what_dagster_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None, folder: str | None
) -> None:
    monkeypatch.setenv("HISTORY_HERE", "/from/environment")
    if config is not None:
        (tmp_path / "dagster.yaml").write_text(config, encoding="utf-8")
    assert sqlite_folder(tmp_path) == (None if folder is None else tmp_path / folder)
