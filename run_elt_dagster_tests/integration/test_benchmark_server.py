"""The server of the benchmarks: a replayed answer costs and counts as much as one that is executed."""

import time
from contextlib import closing
from pathlib import Path

import pytest
import snowflake.connector

from benchmarks.server import Pace, RecordingServer
from run_elt_dagster_tests.support.embedded import Account, running_server

LATENCY_SECONDS = 0.3


@pytest.mark.parametrize("mode", ["execute", "record", "replay"])
def test_statement_is_counted_and_waited_for_however_it_is_answered(tmp_path: Path, mode: str) -> None:
    pace = Pace()
    with running_server(tmp_path, RecordingServer) as server:
        server.hook = pace
        with closing(snowflake.connector.connect(**Account(server).arguments)) as connection:
            cursor = connection.cursor()
            for server.mode in ("record", mode):
                pace.kinds.clear()
                began = time.monotonic()
                cursor.execute("select 7 as n")
                assert cursor.fetchall() == [(7,)]
                pace.statement_seconds = LATENCY_SECONDS
        assert server.missed == 0
    assert pace.kinds == {"SELECT": 1}
    assert time.monotonic() - began >= LATENCY_SECONDS
