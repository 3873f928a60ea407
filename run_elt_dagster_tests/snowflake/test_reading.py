"""What other sessions see while tables are published."""

import itertools
import threading
from typing import Any

import pytest

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.publish.methods import exchange_sql
from run_elt_dagster.publish.statements import build_sql
from run_elt_dagster_tests.support.embedded import Background, Session
from run_elt_dagster_tests.support.snowflake_account import METHODS, OwnTable, built

PUBLISHES = 100
ROUNDS = 10


class Reader:
    """A session of its own that reads a table until it is told to stop, and keeps every version that it saw."""

    def __init__(self, table: OwnTable, session: Session) -> None:
        self._table, self._session = table, session
        self._stop = threading.Event()
        self._reading = Background(self._read)

    def _read(self) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []
        while not self._stop.is_set():
            seen.append(self._table.seen(self._session))
            self._stop.wait(0.02)
        return seen

    def stop(self) -> list[tuple[Any, ...]]:
        self._stop.set()
        return self._reading.result(120)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("publish", METHODS)
def test_reader_sees_whole_versions_only_and_never_an_older_one_again(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    # No cached result, which would hide what the table is.
    reading = table.schema.session()
    reading.sql("alter session set use_cached_result = false")
    target, candidate = table.relations("0000000A")
    table.publish("00000001", built(10, 0, publish=publish))
    versions = [(10 + number % 7, number, number) for number in range(PUBLISHES + 1)]
    reader = Reader(table, reading)
    for rows, value, _ in versions[1:]:
        declared = table.parsed(built(rows, value, publish=publish))
        session.sql(build_sql(declared, candidate, marker=Marker("run", "0000000A")))
        session.sql(exchange_sql(declared, target=target, candidate=candidate, exists=True, columns=["N", "V"]))
    assert table.seen(session) == versions[-1]
    seen = reader.stop()
    assert set(seen) <= set(versions)
    assert seen == sorted(seen, key=lambda row: row[1])
    assert len(set(seen)) > 5


def test_child_reads_the_version_of_its_parent_that_was_published_just_before(table: OwnTable) -> None:
    """One session for a whole run: what it reads next is what it has published, as a session opened later does.

    A session that was open before may read the version before for a moment: READ_CONSISTENCY_MODE.
    https://docs.snowflake.com/en/sql-reference/parameters#read-consistency-mode
    """
    publisher, open_before = table.schema.session(), table.schema.session()
    target, candidate = table.relations("0000000A")
    table.publish("00000001", built(1, 0))
    for value in range(1, ROUNDS + 1):
        declared = table.parsed(built(1, value))
        publisher.sql(build_sql(declared, candidate, marker=Marker("run", "0000000A")))
        publisher.sql(exchange_sql(declared, target=target, candidate=candidate, exists=True))
        assert table.seen(open_before) in [(1, value, value), (1, value - 1, value - 1)]
        publisher.sql(f"create or replace table {table.name}_child as select v from {table.name}")
        assert publisher.value(f"select v from {table.name}_child") == value
        assert table.seen(table.schema.session()) == (1, value, value)


def test_threads_that_share_a_session_read_what_one_of_them_published(table: OwnTable) -> None:
    session = table.schema.session()
    session.sql(f"create table {table.name} as select 0 as v")
    for value in range(1, ROUNDS + 1):
        Background(
            lambda value=value: session.sql(f"create or replace table {table.name} as select {value} as v")
        ).result(60)
        readers = [Background(lambda: table.seen(session)) for _ in range(3)]
        assert set(itertools.chain(reader.result(60) for reader in readers)) == {(1, value, value)}
