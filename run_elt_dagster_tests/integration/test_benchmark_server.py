"""The server of the benchmarks: a replayed answer costs and counts as much as one that is executed."""

import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

from benchmarks.server import Counted, Pace, RecordingServer
from run_elt_dagster_tests.support.embedded import Account, running_server

LATENCY_SECONDS = 0.3


@pytest.mark.parametrize("mode", ["execute", "record", "replay"])
def test_statement_is_counted_and_waited_for_however_it_is_answered(tmp_path: Path, mode: str) -> None:
    pace = Pace()
    with running_server(tmp_path, RecordingServer) as server:
        server.hook = pace
        counted = Counted(server, pace)
        with closing(snowflake.connector.connect(**Account(server).arguments)) as connection:
            cursor = connection.cursor()
            for server.mode in ("record", mode):
                began = time.monotonic()
                counted.reset()
                assert counted.report()["first_statement_seconds"] is None
                cursor.execute("select 7 as n")
                assert cursor.fetchall() == [(7,)]
                pace.statement_seconds = LATENCY_SECONDS
        seconds = time.monotonic() - began
        report = counted.report()
    assert seconds >= LATENCY_SECONDS
    assert (report["kinds"], report["missed"]) == ({"SELECT": 1}, 0)
    # From its arrival, before the wait.
    assert 0 < report["first_statement_seconds"] <= seconds - LATENCY_SECONDS


def test_view_of_sqlmesh_is_created_without_what_the_embedded_snowflake_lacks(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, RecordingServer) as server,
        closing(snowflake.connector.connect(**Account(server).arguments)) as connection,
    ):
        cursor = connection.cursor()
        cursor.execute(
            """/* SQLMESH_PLAN: 0a1b */ CREATE OR REPLACE VIEW "RUN_ELT"."PUBLIC"."V" COPY GRANTS COMMENT='it''s' AS SELECT 7 AS n"""
        )
        assert cursor.execute("select n from v").fetchall() == [(7,)]


@contextmanager
def alike(directory: Path) -> Generator[tuple[RecordingServer, SnowflakeCursor]]:
    with (
        running_server(directory, RecordingServer) as server,
        closing(snowflake.connector.connect(**Account(server).arguments)) as connection,
    ):
        server.are_alike = True
        yield server, connection.cursor()


def test_answer_for_one_table_serves_every_other_one_under_its_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with alike(tmp_path) as (server, cursor):
        server.mode = "record"
        cursor.execute("select 'T_00000' as name, 1 as n from (select 0 as id)")
        server.mode = "replay"
        cursor.execute("select 'T_04711' as name, 1 as n from (select 4711 as id)")
        assert cursor.fetchall() == [("T_04711", 1)]
        assert server.missed == 0
        cursor.execute("select 'T_04711' as name, 2 as n from (select 4711 as id)")
        assert server.missed == 1
        assert "without a recorded answer: select 'T_04711' as name, 2 as n" in capfd.readouterr().err


def test_tables_can_be_refused(tmp_path: Path) -> None:
    with alike(tmp_path) as (server, cursor):
        server.mode = "refuse"
        with pytest.raises(snowflake.connector.errors.ProgrammingError, match="GONE_T_00003") as refused:
            cursor.execute("create table run_elt.public.t_00003 as select 3 as id")
        assert refused.value.errno == 2003
