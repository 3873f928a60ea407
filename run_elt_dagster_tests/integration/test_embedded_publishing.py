"""What readers see while a table is published over and over."""

import threading

from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.embedded import Account, Background, Session, account, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

PUBLISHES = effort(usual=18, thorough=200)
ROWS = 5
METHODS = (
    "create or replace table x clone y copy grants copy tags",
    "alter table x swap with y",
    "insert overwrite into x (v, i) select v, i from y",
)


class Reader:
    """A session of its own that reads until it is told to stop, and keeps what nobody should ever see."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        self._reading = Background(self._read)
        self.reads = 0

    def _read(self) -> list[object]:
        wrong: list[object] = []
        while not self._stop.is_set():
            rows = self._session.sql("select count(*), count(distinct i), min(v), max(v) from x")
            count, distinct, first, last = rows[0]
            if (count, distinct) != (ROWS, ROWS) or first != last:
                wrong.append(rows)
            listed = self._session.sql(
                "select table_type, row_count from information_schema.tables "
                "where table_schema = current_schema() and table_name = 'X'"
            )
            if listed != [("BASE TABLE", ROWS)]:
                wrong.append(listed)
            self.reads += 1
            # One process makes all of this: publishing needs its turn.
            self._stop.wait(0.02)
        return wrong

    def stop(self) -> list[object]:
        self._stop.set()
        return self._reading.result()


def build(version: int) -> str:
    return f"create or replace table y as select {version}::int as v, i from x"


def test_reader_never_sees_a_table_missing_empty_or_mixed(account: Account, session: Session) -> None:
    session.sql("create table x as select 0::int as v, column1 as i from values (1), (2), (3), (4), (5)")
    session.sql(build(1))
    reader = Reader(account.session(schema=session.value("select current_schema()")))
    for number in range(PUBLISHES):
        session.sql(METHODS[number % len(METHODS)])
        if number % 10 == 0:
            session.sql(build(number))
    assert reader.stop() == []
    assert reader.reads > PUBLISHES / 4


def test_sessions_that_write_at_once_do_not_disturb_each_other(account: Account, session: Session) -> None:
    schema = session.value("select current_schema()")
    session.sql("create table log (writer int)")

    def write(number: int) -> None:
        other = account.session(schema=schema)
        for version in range(10):
            other.sql(f"create or replace table t{number} as select {version} as v")
            other.sql(f"create or replace table p{number} clone t{number}")
            other.sql(f"insert into log values ({number})")
            other.sql(f"update log set writer = writer where writer = {number}")

    for call in [Background(lambda number=number: write(number)) for number in range(3)]:
        call.result()
    assert session.value("select count(*) from log") == 30
    assert [session.value(f"select v from p{number}") for number in range(3)] == [9, 9, 9]
