"""Connections to Dagster's SQLite files that are kept: real files, real engines, real runs."""

import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import NullPool, QueuePool

from run_elt_dagster.storage import keep_sqlite_connections
from run_elt_dagster.storage.idle import IDLE
from run_elt_dagster.storage.sqlite import KeptConnection
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases
from run_elt_dagster_tests.support.kept_connections import stop_keeping

OPENED: list[str] = []
WHEN_OPEN: list[Callable[[], object]] = []
INSERT = sa.text("insert into numbers values (:n)")


def _note_opened(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "sqlite3.connect":
        OPENED.append(str(arguments[0]))
    elif name == "sqlite3.connect/handle" and WHEN_OPEN:
        WHEN_OPEN.pop()()


# Python reports every file that it opens. https://docs.python.org/3/library/sqlite3.html#sqlite3.connect
sys.addaudithook(_note_opened)


class OtherDialect(SQLiteDialect_pysqlite):
    """What somebody else has put in the place of SQLAlchemy's own."""

    supports_statement_cache = True


@pytest.fixture(autouse=True)
def _keeping() -> None:
    keep_sqlite_connections()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file where Dagster would have it, with its way of writing."""
    path = tmp_path / "history" / "runs" / "index.db"
    path.parent.mkdir(parents=True)
    _create(path, [1])
    OPENED.clear()
    return path


def _create(path: Path, numbers: list[int]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table numbers (n integer primary key)")
        connection.executemany("insert into numbers values (?)", [(n,) for n in numbers])


def engine(path: Path, **options: Any) -> sa.Engine:
    """Return what Dagster makes for each event."""
    return sa.create_engine(f"sqlite:///{path}", **{"poolclass": NullPool, **options})


def insert(path: Path, number: int, **options: Any) -> None:
    with engine(path, **options).connect() as connection, connection.begin():
        connection.execute(INSERT, {"n": number})


def numbers(path: Path) -> list[int]:
    with engine(path).connect() as connection:
        return list(connection.scalars(sa.text("select n from numbers order by n")))


def open_files(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open, deleted ones too."""
    links: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # The one that lists them is closed by then.
        with suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith(str(folder))]


def test_file_is_opened_once_for_many_engines_and_is_there_for_others(path: Path) -> None:
    for number in range(2, 22):
        insert(path, number)
    assert [str(path)] == OPENED
    with closing(sqlite3.connect(path, timeout=0)) as other:
        assert other.execute("select count(*) from numbers").fetchone() == (21,)
        # Nothing that waits holds a lock: the whole log is written back, and the file is this one's alone.
        assert other.execute("pragma wal_checkpoint(truncate)").fetchone() == (0, 0, 0)
        other.execute("begin exclusive")


def test_setting_turns_it_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_keeping()
    monkeypatch.setenv("RUN_ELT_KEEP_STORAGE_CONNECTIONS", "false")
    keep_sqlite_connections()
    insert(path, 2)
    insert(path, 3)
    assert (len(OPENED), len(IDLE)) == (2, 0)


LOADING = """
import sys
{first}
import run_elt_dagster.definitions
if "sqlalchemy" in sys.modules:
    from sqlalchemy import Engine, event
    from run_elt_dagster.storage.sqlite import connect
    print(event.contains(Engine, "do_connect", connect))
"""


@pytest.mark.parametrize(("first", "printed"), cases((("", []), ("import sqlalchemy", ["True"])), usual=[("", [])]))
def test_loading_the_code_location_turns_it_on_and_imports_nothing_for_it(
    tmp_path: Path, first: str, printed: list[str]
) -> None:
    """A command has opened its storage by then, and writes the planned events of its run next."""
    assert run_script(LOADING.format(first=first), tmp_path) == printed


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("sales.db", {}),
        ("runs/index.db", {}),
        ("history/runs/index.db", {"poolclass": QueuePool}),
        ("history/runs/index.db", {"connect_args": {"check_same_thread": True}}),
        ("history/runs/index.db", {"creator": lambda: None}),
    ],
)
def test_engine_of_somebody_else_is_left_alone(tmp_path: Path, place: str, options: dict[str, Any]) -> None:
    path = tmp_path / "base" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    _create(path, [1])
    chosen = {**options, "creator": lambda: sqlite3.connect(path)} if "creator" in options else options
    theirs = engine(path, **chosen)
    with theirs.connect() as connection:
        assert list(connection.scalars(sa.text("select n from numbers"))) == [1]
    theirs.dispose()
    assert len(IDLE) == 0
    assert open_files(path.parent) == []


def test_transaction_that_was_left_open_is_undone_and_its_connection_closed(path: Path) -> None:
    raw = engine(path).raw_connection()
    assert isinstance(raw.dbapi_connection, KeptConnection)
    raw.cursor().execute("insert into numbers values (2)")
    raw.dbapi_connection.close()
    assert len(IDLE) == 0
    insert(path, 3)
    assert numbers(path) == [1, 3]


def test_cursor_that_was_not_read_to_its_end_holds_no_lock(path: Path) -> None:
    for number in range(2, 200):
        insert(path, number)
    raw = engine(path).raw_connection()
    cursor = raw.cursor()
    cursor.execute("select n from numbers")
    cursor.fetchone()
    raw.close()
    assert len(IDLE) == 1
    with closing(sqlite3.connect(path, timeout=0)) as other:
        assert other.execute("pragma wal_checkpoint(truncate)").fetchone() == (0, 0, 0)


def test_connection_with_another_isolation_is_not_kept(path: Path) -> None:
    raw = engine(path).raw_connection()
    raw.dbapi_connection.isolation_level = None
    raw.close()
    assert len(IDLE) == 0


@pytest.mark.parametrize("way", ["deleted", "renamed", "overwritten"])
def test_file_that_was_exchanged_is_opened_anew_and_its_log_stays(path: Path, tmp_path: Path, way: str) -> None:
    insert(path, 2)
    fresh = tmp_path / "fresh.db"
    _create(fresh, [7])
    if way == "deleted":
        for each in path.parent.iterdir():
            each.unlink()
        shutil.copy(fresh, path)
    elif way == "renamed":
        fresh.rename(path)
        for each in ("-wal", "-shm"):
            Path(f"{path}{each}").unlink()
    else:
        # As `cp` puts a backup back: the same inode. The log has been written back before.
        with closing(sqlite3.connect(path)) as other:
            other.execute("pragma wal_checkpoint(truncate)")
        assert numbers(path) == [1, 2]
        path.write_bytes(fresh.read_bytes())
    assert numbers(path) == [7]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("insert into numbers values (8)")
        assert numbers(path) == [7, 8]
        other.execute("insert into numbers values (9)")
        assert numbers(path) == [7, 8, 9]
    IDLE.close()
    assert open_files(path.parent) == []
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)
        assert other.execute("select count(*) from numbers").fetchone() == (3,)


def test_file_that_is_exchanged_while_it_is_opened_is_not_kept(path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    _create(fresh, [7])
    WHEN_OPEN.append(lambda: fresh.rename(path))
    with engine(path).connect():
        assert WHEN_OPEN == []
    assert len(IDLE) == 0
    assert numbers(path) == [7]


def test_log_of_a_deleted_run_is_let_go_with_the_next_event(path: Path) -> None:
    run = path.with_name("0e4b3b5e-7d0a-4a33-8d53-0a5a1e5c6c1d.db")
    _create(run, [1])
    insert(run, 2)
    for each in path.parent.glob(f"{run.name}*"):
        each.unlink()
    insert(path, 2)
    assert not [name for name in open_files(path.parent) if run.stem in name]


def test_locked_file_is_an_error_once_and_its_connection_is_closed(path: Path) -> None:
    insert(path, 2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(sa.exc.OperationalError, match="database is locked"):
            insert(path, 3, connect_args={"timeout": 0.01})
        other.execute("rollback")
    insert(path, 3, connect_args={"timeout": 0.01})
    assert len(OPENED) == 4
    assert numbers(path) == [1, 2, 3]


def test_file_of_runs_is_waited_for_as_long_as_files_of_events(path: Path) -> None:
    """Dagster sets 30 s for events alone."""
    for name, options in (("runs.db", {}), ("index.db", {"connect_args": {"timeout": 7}})):
        with engine(path.with_name(name), **options).connect() as connection:
            milliseconds = connection.scalar(sa.text("pragma busy_timeout"))
        assert milliseconds == (30_000 if name == "runs.db" else 7_000)


def test_commit_waits_for_the_disk_only_where_a_file_has_no_log_ahead_of_it(path: Path) -> None:
    """Dagster creates a file first and gives it its log then."""
    new = path.with_name("new.db")
    for expected in (2, 1):
        with engine(new).connect() as connection:
            assert connection.scalar(sa.text("pragma synchronous")) == expected
            connection.execute(sa.text("pragma journal_mode = wal"))
    with engine(path).connect() as connection:
        assert connection.scalar(sa.text("pragma synchronous")) == 1


def test_statement_is_compiled_once_for_all_engines_of_dagsters_files(path: Path, tmp_path: Path) -> None:
    hits: list[str] = []
    other = tmp_path / "other.db"
    _create(other, [1])
    for file, number in ((path, 2), (path, 3), (path.with_name("more.db"), 4), (other, 5), (other, 6)):
        if not file.is_file():
            _create(file, [])
        made = engine(file)
        sa.event.listen(made, "before_cursor_execute", lambda *given: hits.append(given[4].cache_hit.name))
        # A statement of this test alone: the number is a parameter, not a part of it.
        table = sa.table("numbers", sa.column("n", sa.Integer))
        with made.connect() as connection, connection.begin():
            connection.execute(table.insert(), {"n": number})
            assert connection.scalar(sa.select(sa.func.max(table.c.n)).where(table.c.n == number)) == number
    # A database of somebody else is left alone.
    assert [hit.removeprefix("CACHE_") for hit in hits] == ["MISS"] * 2 + ["HIT"] * 4 + ["MISS"] * 4


def test_dialect_of_somebody_else_stays_in_its_place(path: Path) -> None:
    stop_keeping()
    registry.register("sqlite", __name__, OtherDialect.__name__)
    try:
        keep_sqlite_connections()
        assert type(engine(path).dialect) is OtherDialect
    finally:
        registry.deregister("sqlite")


def test_row_that_is_there_already_costs_no_connection(path: Path) -> None:
    """Dagster records the second materialization of an asset so: it inserts, and updates when that fails."""
    for _ in range(3):
        with pytest.raises(sa.exc.IntegrityError):
            insert(path, 1)
    insert(path, 2)
    assert [str(path)] == OPENED


FULL_DISK = """
import resource, sys
import sqlalchemy as sa
from run_elt_dagster.storage import keep_sqlite_connections
from run_elt_dagster.storage.idle import IDLE
keep_sqlite_connections()
def insert(rows):
    engine = sa.create_engine("sqlite:///" + sys.argv[1], poolclass=sa.pool.NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text("create table if not exists texts (t)"))
        for _ in range(rows):
            connection.execute(sa.text("insert into texts values (:t)"), {"t": "x" * 100_000})
insert(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    insert(100)
except sa.exc.OperationalError as error:
    print(error.orig, "kept:", len(IDLE))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
insert(1)
print("kept:", len(IDLE))
"""
FORK = """
import os, sys
import sqlalchemy as sa
from run_elt_dagster.storage import keep_sqlite_connections
from run_elt_dagster.storage.idle import IDLE
keep_sqlite_connections()
def insert(number):
    engine = sa.create_engine("sqlite:///" + sys.argv[1], poolclass=sa.pool.NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text("insert into numbers values (:n)"), {"n": number})
        return id(connection.connection.dbapi_connection)
theirs = insert(2)
engine = sa.create_engine("sqlite:///" + sys.argv[1], poolclass=sa.pool.NullPool)
used = engine.connect()
if os.fork() == 0:
    used.close()
    print("child has", len(IDLE), flush=True)
    insert(3)
    os._exit(0)
os.wait()
used.close()
insert(4)
print("parent has", len(IDLE))
"""


def run_script(script: str, path: Path) -> list[str]:
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_full_disk_is_an_error_once_and_what_was_written_stays(path: Path) -> None:
    full, after = run_script(FULL_DISK, path)
    assert full in {"database or disk is full kept: 0", "disk I/O error kept: 0"}
    assert after == "kept: 1"
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("select count(*) from texts").fetchone() == (2,)
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)


def test_child_process_uses_no_connection_of_its_parent(path: Path) -> None:
    assert run_script(FORK, path) == ["child has 0", "parent has 1"]
    # The last one has closed what it kept when it ended: nothing is left to write back.
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert numbers(path) == [1, 2, 3, 4]


def test_watcher_of_a_run_sees_each_event_while_its_connection_is_kept(tmp_path: Path) -> None:
    """The page of a run watches the file of its events: SQLite writes to that only when a connection is closed."""
    seen: list[str] = []
    arrived = threading.Condition()

    def note(event: dg.EventLogEntry, _cursor: str) -> None:
        with arrived:
            seen.append(event.user_message)
            arrived.notify()

    run_id = str(uuid.uuid4())
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        _log(instance, run_id, "first")
        instance.watch_event_logs(run_id, None, note)
        for message in ("second", "third"):
            _log(instance, run_id, message)
            with arrived:
                assert arrived.wait_for(lambda message=message: message in seen, PATIENCE_SECONDS)
        instance.end_watch_event_logs(run_id, note)


def _log(instance: dg.DagsterInstance, run_id: str, message: str) -> None:
    instance.store_event(dg.EventLogEntry(None, logging.INFO, message, run_id, time.time()))


def test_logs_of_many_runs_in_one_process_leave_no_file_open(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        # Each run has a file of its own. The first is made when Dagster looks for its events; the others are copies.
        first, *others = (str(uuid.uuid4()) for _ in range(50))
        assert list(instance.all_logs(first)) == []
        IDLE.close()
        folder = tmp_path / "history" / "runs"
        for run_id in others:
            shutil.copy(folder / f"{first}.db", folder / f"{run_id}.db")
        for run_id in (first, *others):
            assert [list(instance.all_logs(run_id)) for _ in range(2)] == [[], []]
        # Each connection has the file, its log and the log's index open, and is one of eight.
        assert 0 < len(IDLE) <= 8
        assert len(open_files(tmp_path)) <= 3 * 8
    IDLE.close()
    assert open_files(tmp_path) == []


def test_run_opens_as_many_connections_for_twelve_tables_as_for_two(project: DagsterProject, tmp_path: Path) -> None:
    # The op turns it on, if loading the code location has not.
    stop_keeping()
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        project.instance = instance
        opened = []
        for count in (2, 12):
            project.declare(**{f"t_{number}": "select 1 as a" for number in range(count)})
            OPENED.clear()
            result = project.materialize(max_concurrent_tables=4)
            assert result.success
            opened.append(len([path for path in OPENED if path.startswith(str(tmp_path / "home"))]))
    # Of the first run, the events before the op are in there too.
    assert opened[1] <= min(opened[0], 8), opened
