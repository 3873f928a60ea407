"""Much at once, on a server of the test's own: many bad rows, many columns, long SQL, many tables, many runs."""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import sqlalchemy.event

from run_elt_dagster.alerts.blocks import BLOCKS_LIMIT, TEXT_LIMIT, size, units
from run_elt_dagster.model.candidate import Marker, marker_in
from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.orchestration import failing
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import Answer, ConnectorSession, StatementError
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.alert_harness import AlertHarness, ScriptedSession
from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.embedded import Account, connecting
from run_elt_dagster_tests.support.embedded import account as account  # noqa: PLC0414 - a fixture
from run_elt_dagster_tests.support.embedded import server as server  # noqa: PLC0414 - a fixture
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.run_arguments import run_arguments
from run_elt_dagster_tests.support.slack_stand_in import slack_stand_in

SHOWN = 5


class Counting(ConnectorSession):
    """A session that notes how many rows the answers to audits have, and from which snapshots what was built."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most_rows = 0
        self.built: list[tuple[str, Marker]] = []

    def execute(self, sql: str, *, tag: Mapping[str, str], **more: Any) -> Answer:
        answer = super().execute(sql, tag=tag, **more)
        if tag["stage"] == "audit":
            # What the run asks besides grows with the tables of other tests.
            self.most_rows = max(self.most_rows, len(answer.rows))
        if tag["stage"] == "build" and (marker := marker_in(sql)):
            self.built.append((tag["asset"].rpartition("/")[-1], marker))
        return answer


@contextmanager
def session_on(account: Account) -> Generator[Counting]:
    connect = connecting(account.arguments)
    with connect() as connection, Counting(connection, connect) as session:
        yield session


def tables_of(texts: Mapping[str, str]) -> Catalogue:
    return catalogue(
        [parse_table_file(Path(f"{name}.sql"), text, schema="analytics", table=name) for name, text in texts.items()]
    )


def built(
    account: Account, texts: Mapping[str, str], *, run_id: str, **options: Any
) -> tuple[Sequence[TableOutcome], Counting]:
    tables = tables_of(texts)
    with session_on(account) as session:
        return list(run_tables(session, tables, list(tables), **run_arguments(run_id, **options))), session


BAD_ROWS = f"""/* elt
primary_key: v
show_rows: {SHOWN}
checks:
  row_count: {{max: 10}}
  unique: v
  not_null: empty
  accepted_values: {{v: [2]}}
  matches: {{t: 'b+'}}
  range: {{v: {{min: 2}}}}
  relationship: {{v: raw_data.few.v}}
  sql:
    none: select * from {{table}}
    twice: select a.v from {{table}} as a inner join raw_data.few as b on a.v <> b.v
elt */ select 1 as v, 'a' as t, null::int as empty from table(generator(rowcount => %d))"""


def test_every_kind_of_check_counts_in_snowflake_and_fetches_no_bad_rows(account: Account) -> None:
    account.session().sql("create or replace table raw_data.few as select 7 as v")
    count = effort(usual=30_000, thorough=1_000_000)
    (outcome,), session = built(account, {"bad": BAD_ROWS % count}, run_id="badrows1")
    assert session.most_rows <= SHOWN
    assert outcome.failure is not None
    assert outcome.failure.stage == "audit"
    failed = {audit.audit.name: audit.bad_rows for audit in outcome.audits if not audit.passed}
    assert failed.keys() == {audit.audit.name for audit in outcome.audits}
    # What a query returns is counted up to a limit, what the scan measures is counted.
    assert (failed["none"], failed["twice"], failed["relationship_v"]) == (10_001, 10_001, 10_001)
    assert (failed["not_null"], failed["primary_key"], failed["range_v"]) == (count, count - 1, count)
    assert all(len(audit.sample) in (0, SHOWN) for audit in outcome.audits)


def test_table_of_many_columns_is_built_with_a_contract_and_a_check_on_each(account: Account) -> None:
    names = [f"column_{number:04d}" for number in range(effort(usual=60, thorough=2000))]
    settings = "columns:\n" + "".join(f"  {name}: number\n" for name in names)
    settings += f"checks:\n  not_null: [{', '.join(names)}]\n"
    columns = ", ".join(f"{number} as {name}" for number, name in enumerate(names))
    wide = f"/* elt\n{settings}elt */ select {columns}"
    for run_id in ("wide0001", "wide0002"):
        (outcome,), _ = built(account, {"wide": wide}, run_id=run_id)
        assert outcome.published, outcome.failure
        assert [audit.passed for audit in outcome.audits] == [True, True, True]
    (empty,), _ = built(account, {"wide": wide.replace("select 0 as", "select null::int as")}, run_id="wide0003")
    assert empty.failure is not None
    assert "1 row with a NULL column_0000" in empty.failure.message
    assert "column_0001" not in empty.failure.message


def listed(size: int) -> str:
    values = ", ".join(f"'{number:012d}'" for number in range(size // 16))
    return f"select count(*) as n from (select 7 as v) as few where v::varchar in ({values})"


def commented(size: int) -> str:
    return f"/* {'x' * size} */ select 1 as n"


def quoted(size: int) -> str:
    return f"select length('{'x' * size}') as n"


@pytest.mark.parametrize("written", [listed, commented, quoted])
def test_long_sql_is_built(account: Account, written: Callable[[int], str]) -> None:
    sql = written(effort(usual=50_000, thorough=1_000_000))
    (outcome,), _ = built(account, {"long": sql}, run_id=f"long{written.__name__[:4]}")
    assert outcome.published, outcome.failure


@pytest.mark.thorough
def test_sixty_four_tables_are_built_at_a_time(account: Account) -> None:
    """As many as the setting takes, each with a thread that publishes beside it, in one session."""
    most = effort(usual=16, thorough=64)
    building: set[str] = set()

    def all_meet(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("CREATE") and "TEMP_MANY" in event.sql:
            building.add(event.sql)
            while len(building) < most:
                event.statement.wait(0.01)

    texts = {f"many_{number}": f"select {number} as n" for number in range(most)}
    logins = account.server.logins
    with account.hooked(all_meet):
        outcomes, _ = built(account, texts, run_id="many0001", max_concurrent_tables=most)
    assert [outcome.failure for outcome in outcomes] == [None] * most
    assert len(building) >= most
    assert account.server.logins == logins + 1


def test_many_runs_of_the_same_tables_end_with_the_newest_in_front_of_readers(account: Account) -> None:
    count = effort(usual=4, thorough=20)
    texts = {
        "first": "select 1 as n",
        "second": "select n from analytics.first",
        "third": "/* elt\npublish: overwrite\nelt */ select n from analytics.second",
    }
    together = threading.Barrier(count)

    def run(number: int) -> tuple[Sequence[TableOutcome], Counting]:
        together.wait()
        return built(account, texts, run_id=f"{number:08x}", poll_seconds=0.05)

    with ThreadPoolExecutor(count) as pool:
        runs = list(pool.map(run, range(1, count + 1)))
    assert [o.failure for outcomes, _ in runs for o in outcomes if not o.in_production] == []
    reader = account.session()
    for name in texts:
        newest = max((m for _, session in runs for table, m in session.built if table == name), key=lambda m: m.order)
        comment = reader.value(
            "select comment from information_schema.tables where table_schema = 'ANALYTICS' "
            f"and table_name = '{name.upper()}'"
        )
        assert marker_in(comment) == newest
        assert reader.sql(f"select n from analytics.{name}") == [(1,)]
    left = reader.sql(
        "select table_name from information_schema.tables where table_schema = 'ANALYTICS' "
        "and regexp_like(table_name, 'TEMP_(FIRST|SECOND|THIRD)__.*')"
    )
    assert left == []


def test_failure_of_many_tables_with_long_causes_is_one_event_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look at the run reads that event; the page of the run shows some of the causes beside it."""
    monkeypatch.setattr(failing, "_CAUSES_SHOWN", 1)
    monkeypatch.setattr(failing, "_FACTS_LIMIT", 20_000)
    count = 12
    cause = StatementError("x" * 30_000, errno=1, query_id="01b2-77", answered=True)
    with slack_stand_in() as stand_in, dg.DagsterInstance.local_temp(str(lay_empty_history(tmp_path))) as instance:
        harness = AlertHarness(instance, stand_in, names=[f"t{number}" for number in range(count)])
        harness.session = ScriptedSession(errors={"build": cause})
        run_id = harness.run()
        (event,) = instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE})
        # Twelve causes of 20,000 characters would be 240,000.
        assert len(dg.serialize_value(event)) < 100_000
        harness.first_attempt(run_id)
        assert harness.ledger(run_id).status == "delivered"
        assert f"{count} tables were not published" in stand_in.messages[0]["text"]


class Statements(Counter[str]):
    """Counts the statements that reach Dagster's storage, under the name of what is done at the time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = ""

    def __call__(self, *_: Any) -> None:
        self[self.now] += 1

    @contextmanager
    def of(self, name: str) -> Generator[None]:
        self.now = name
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", self)
        try:
            yield
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", self)


def statements_of_alerts(directory: Path, *, tables: int) -> Counter[str]:
    """Let so many published tables fail twice and be published again, and return how many statements each alert took."""
    statements = Statements()
    directory.mkdir()
    with slack_stand_in() as stand_in, dg.DagsterInstance.local_temp(str(lay_empty_history(directory))) as instance:
        harness = AlertHarness(instance, stand_in, names=[f"t{number}" for number in range(tables)])
        harness.publish()
        first = harness.fail()
        with statements.of("the alert"):
            harness.first_attempt(first)
        with statements.of("a tick while nothing is published again"):
            harness.tick()
        again = harness.fail()
        with statements.of("the reply"):
            harness.first_attempt(again)
        (message, reply) = stand_in.messages
        assert f"{tables} tables were not published" in message["text"]
        assert reply["thread_ts"] == message["ts"]
        assert units(message["text"]) <= TEXT_LIMIT
        assert 0 < size(message["blocks"]) <= BLOCKS_LIMIT
        harness.publish()
        with statements.of("the tick of the recovery"):
            harness.tick()
        assert harness.ledger(first).state == "recovered"
    return statements


@pytest.mark.thorough
def test_alert_of_many_failed_tables_is_one_message_with_as_many_look_ups_as_one_of_few(tmp_path: Path) -> None:
    """A tick has 60 s: a look-up for each of five thousand tables takes longer, and the alert never came."""
    few, many = (statements_of_alerts(tmp_path / str(tables), tables=tables) for tables in (3, 24))
    assert many == few
