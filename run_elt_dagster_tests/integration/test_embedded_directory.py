"""One directory, several users: threads, processes, and processes that were killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import snowflake.connector

from run_elt_dagster.disk import DiskError
from run_elt_dagster.embedded import Endpoint, embedded_snowflake
from run_elt_dagster.embedded.engine import Engine
from run_elt_dagster.embedded.objects import Register
from run_elt_dagster.embedded.server import EmbeddedServer
from run_elt_dagster.embedded.set_up import SAMPLE_LOADED, set_up_database
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import Background, Session

# Holds the directory, does what it is told in SQL (and says so at `tell`), says so, and waits to be told to go on.
HOLDER = """
import sys, snowflake.connector
from pathlib import Path
from run_elt_dagster.embedded import embedded_snowflake
log = lambda message: print("log", message, flush=True)
with embedded_snowflake(Path(sys.argv[1]), sample_data=False, log=log) as endpoint:
    connection = snowflake.connector.connect(**endpoint.connection_args())
    for statement in sys.argv[2:]:
        print("told", flush=True) if statement == "tell" else connection.cursor().execute(statement)
    print("held", flush=True)
    sys.stdin.readline()
    connection.close()
print("released", flush=True)
"""


PUBLISH = (
    "create or replace table analytics.y comment = '{0}' as select {0} as v, column1 as i from values (1), (2), (3)",
    "create or replace table analytics.x clone analytics.y copy grants",
    "alter table analytics.x swap with analytics.y",
)


class Holder:
    """Another process that uses a directory."""

    def __init__(self, directory: Path, *statements: str, code: str = HOLDER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(directory), *statements],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def release(self) -> None:
        self.process.communicate("\n", timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    started: list[Holder] = []
    yield started
    for holder in started:
        if holder.process.poll() is None:
            holder.kill()


def value(endpoint: Endpoint, query: str) -> object:
    with closing(snowflake.connector.connect(**endpoint.connection_args())) as connection:
        return Session(connection).value(query)


def change(endpoint: Endpoint, *statements: str) -> None:
    with closing(snowflake.connector.connect(**endpoint.connection_args())) as connection:
        for statement in statements:
            Session(connection).sql(statement)


def test_everything_is_there_again(tmp_path: Path) -> None:
    with embedded_snowflake(tmp_path / "new" / "place", sample_data=False, log=print) as endpoint:
        change(
            endpoint,
            "create transient table analytics.x comment = 'c' as select 1 as a",
            "create database second",
            "create table second.public.x as select 2 as a",
        )
    with embedded_snowflake(tmp_path / "new" / "place", sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select a from analytics.x") == 1
        assert value(endpoint, "select a from second.public.x") == 2
        tables = "select comment || is_transient from information_schema.tables where table_name = 'X'"
        assert value(endpoint, tables) == "cYES"
        with closing(snowflake.connector.connect(**endpoint.connection_args())) as connection:
            granted = [row[5] for row in Session(connection).sql("show grants on table analytics.x")]
        assert granted == ["SYSADMIN"]


def test_view_and_table_that_call_macros_work_again(tmp_path: Path) -> None:
    """A start creates no macro but those that the files call."""
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        change(
            endpoint,
            """create view analytics.v as select to_char(column1::date) || parse_json('{"a": 1}'):a as x from values ('2024-01-05')""",
            "create view analytics.w as select left(x, 4) as x from analytics.v",
            "create table analytics.t (a varchar(3), d varchar default to_char('2024-01-05'::date))",
        )
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select x from analytics.w") == "2024"
        assert value(endpoint, "select x from analytics.v") == "2024-01-051"
        change(endpoint, "insert into analytics.t (a) values ('abc')")
        assert value(endpoint, "select d from analytics.t") == "2024-01-05"


def test_views_of_a_database_are_created_again_only_if_their_statements_have_changed(tmp_path: Path) -> None:
    """CREATE OR REPLACE VIEW would take the comment away."""
    view = "RUN_ELT._fs_information_schema.embedded_relations"
    comments = []
    for _ in range(3):
        with closing(Engine(tmp_path, ["RUN_ELT"])) as engine:
            found = "SELECT comment FROM duckdb_views() WHERE view_name = 'embedded_relations'"
            comments += engine.duck_conn.execute(found).fetchone() or ()
            engine.duck_conn.execute(f"COMMENT ON VIEW {view} IS 'as it was'")
            if len(comments) > 1:
                Register(engine.duck_conn, "RUN_ELT").forget("laid ")
    assert comments == [None, "as it was", None]


def test_closed_server_leaves_one_file_for_each_database(tmp_path: Path) -> None:
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        change(endpoint, "create table analytics.x as select 1 as a")
        assert (tmp_path / ".holder.json").exists()
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"RUN_ELT.db"}


@pytest.mark.parametrize("end", [pytest.param(Holder.release, marks=pytest.mark.thorough), Holder.kill])
def test_process_leaves_nothing_in_the_temporary_directory(
    tmp_path: Path, holders: list[Holder], monkeypatch: pytest.MonkeyPatch, end: Callable[[Holder], None]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    holders.append(holder := Holder(tmp_path / "place", "create table analytics.x as select 1 as a"))
    assert holder.line() == "held"
    end(holder)
    assert list(temporary.iterdir()) == []


def test_users_in_one_process_share_the_server_until_the_last_one_leaves(tmp_path: Path) -> None:
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as first:
        with embedded_snowflake(tmp_path / ".." / tmp_path.name, sample_data=False, log=print) as second:
            assert second == first
        assert value(first, "select 1") == 1
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as third:
        assert third != first


def test_threads_start_only_one_server(tmp_path: Path) -> None:
    ports: set[int] = set()
    together = threading.Barrier(4)

    def use() -> None:
        with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
            together.wait(PATIENCE_SECONDS)
            ports.add(endpoint.port)

    for call in [Background(use) for _ in range(4)]:
        call.result()
    assert len(ports) == 1


def test_two_directories_are_apart_in_one_process(tmp_path: Path) -> None:
    with (
        embedded_snowflake(tmp_path / "a", sample_data=False, log=print) as a,
        embedded_snowflake(tmp_path / "b", sample_data=False, log=print) as b,
    ):
        change(a, "create table analytics.x as select 'a' as a")
        change(b, "create table analytics.x as select 'b' as a")
        assert (value(a, "select a from analytics.x"), value(b, "select a from analytics.x")) == ("a", "b")


def test_other_process_waits_and_says_for_whom(tmp_path: Path, holders: list[Holder]) -> None:
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        holders.append(waiting := Holder(tmp_path, "select a from analytics.x"))
        message = waiting.line()
        assert message.startswith(f"log Waiting for the embedded Snowflake in {tmp_path}: it is used by process")
        assert f"process {os.getpid()} (" in message
        change(endpoint, "create table analytics.x as select 1 as a")
    assert waiting.line() == "held"
    waiting.release()


@pytest.mark.thorough
def test_process_that_waits_too_long_is_told_who_holds_the_lock(tmp_path: Path, holders: list[Holder]) -> None:
    holders.append(holder := Holder(tmp_path))
    assert holder.line() == "held"
    messages: list[str] = []
    with pytest.raises(TimeoutError, match=f"got process {holder.process.pid} .* holding it for more than 1.2 s"):  # noqa: SIM117
        with embedded_snowflake(tmp_path, wait_seconds=1.2, log=messages.append):
            pass
    # After a second, and not again for half a minute; none where this process had no turn in time.
    assert len(messages) <= 1
    holder.release()
    with embedded_snowflake(tmp_path, sample_data=False, wait_seconds=PATIENCE_SECONDS, log=messages.append):
        pass


def test_killed_process_frees_the_lock_and_leaves_what_it_committed(tmp_path: Path, holders: list[Holder]) -> None:
    holders.append(holder := Holder(tmp_path, "create table analytics.x comment = 'c' as select 1 as a"))
    assert holder.line() == "held"
    holder.kill()
    with embedded_snowflake(tmp_path, sample_data=False, wait_seconds=PATIENCE_SECONDS, log=print) as endpoint:
        assert value(endpoint, "select listagg(a) from analytics.x") == "1"
        assert value(endpoint, "select comment from information_schema.tables where table_name = 'X'") == "c"


@pytest.mark.thorough
def test_process_killed_while_it_publishes_leaves_one_version_or_the_other(
    tmp_path: Path, holders: list[Holder]
) -> None:
    publish = [statement.format(version) for version in range(1, 200) for statement in PUBLISH]
    begin = "create table analytics.x as select 0 as v, 1 as i"
    holders.append(holder := Holder(tmp_path, begin, *publish[:60], "tell", *publish[60:]))
    assert holder.line() == "told"
    holder.kill()
    with embedded_snowflake(tmp_path, sample_data=False, wait_seconds=PATIENCE_SECONDS, log=print) as endpoint:
        with closing(snowflake.connector.connect(**endpoint.connection_args())) as connection:
            session = Session(connection)
            rows = session.sql("select count(*), min(v), max(v) from analytics.x")
            known = session.sql("select row_count, comment from information_schema.tables where table_name = 'X'")
        (count, first, last), (row_count, comment) = rows[0], known[0]
        assert first == last
        assert (count, row_count) == (3, 3)
        assert comment == str(first)


def test_sample_data_is_loaded_once(tmp_path: Path) -> None:
    messages: list[str] = []
    with embedded_snowflake(tmp_path, log=messages.append) as endpoint:
        change(endpoint, "delete from raw_data.session_timestamp where ts >= '2019-06-01'")
    with embedded_snowflake(tmp_path, log=messages.append) as endpoint:
        months = "select listagg(distinct to_varchar(ts, 'YYYY-MM')) from raw_data.session_timestamp"
        assert value(endpoint, months) == "2019-05"
        assert value(endpoint, "select count(*) from raw_data.user_session_channel") == 101_520
    (message,) = messages
    assert message.startswith("Loaded 101,520 sample sessions into RUN_ELT.RAW_DATA in ")


def test_sample_data_that_was_interrupted_is_loaded_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedServer(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Register, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            set_up_database(server.engine, "RUN_ELT", sample_data=True, log=print)
    register = Register(server.engine.duck_conn, "RUN_ELT")
    assert register.existing_name("RAW_DATA", "SESSION_TIMESTAMP") is None
    set_up_database(server.engine, "RUN_ELT", sample_data=True, log=print)
    assert register.knows(SAMPLE_LOADED)
    server.stop()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_sample_data_does_not_touch_tables_of_ones_own(tmp_path: Path) -> None:
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        change(endpoint, "create table raw_data.session_timestamp as select 1 as a")
    with embedded_snowflake(tmp_path, log=print) as endpoint:
        assert value(endpoint, "select a from raw_data.session_timestamp") == 1


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "RUN_ELT.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DiskError, match=r"cannot open .*RUN_ELT\.db, got .*delete"):  # noqa: SIM117
        with embedded_snowflake(tmp_path, log=print):
            pass
    (tmp_path / "RUN_ELT.db").unlink()
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select 1") == 1


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"SQLite format 3" + bytes(4096))
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select 1") == 1


def test_users_in_one_process_have_one_database(tmp_path: Path) -> None:
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        with pytest.raises(ValueError, match="got 'other' beside 'RUN_ELT'"):  # noqa: SIM117
            with embedded_snowflake(tmp_path, database="other", log=print):
                pass
        assert value(endpoint, "select 1") == 1


def test_database_needs_a_plain_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain identifier as its name, got 'a b'"):  # noqa: SIM117
        with embedded_snowflake(tmp_path, database="a b", log=print):
            pass


def test_proxy_of_the_machine_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select 1") == 1


def test_process_says_nothing_that_it_was_not_asked(tmp_path: Path) -> None:
    code = HOLDER.replace("sys.stdin.readline()", "connection.cursor().execute('select 1').fetchall()")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            str(tmp_path),
            "create table analytics.x as select to_varchar(1) as a",
            "show tables",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("held\nreleased\n", "")


def test_holder_is_written_for_others_to_read(tmp_path: Path) -> None:
    with embedded_snowflake(tmp_path, sample_data=False, log=print):
        holder = json.loads((tmp_path / ".holder.json").read_text())
    assert holder["pid"] == os.getpid()
    assert holder["command"].split()[0] == sys.orig_argv[0]
