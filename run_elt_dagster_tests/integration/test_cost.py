"""What statements read and cost, as the simulated account's own history has it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

from run_elt_dagster.cli import main
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake import cost
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.simulator.query_history import StatementRecord
from run_elt_dagster_tests.support.embedded import Account, connecting, running_server, simulated_account
from run_elt_dagster_tests.support.run_arguments import run_arguments

pytestmark = pytest.mark.thorough

ROW = "select k, 'a' as t, 1.5::float as f, current_date() as d, current_timestamp()::timestamp_ntz as ts"
EVERY_KIND = """/* elt
primary_key: k
columns: {k: int, t: varchar, f: float, d: date, ts: timestamp_ntz}
schema_change: fail
show_rows: 2
checks:
  row_count_change: {max_drop: 10%, min_rows: 0}
  unique: [k, [k, t]]
  not_null: [k, t]
  accepted_values: {t: [a, b]}
  matches: {t: '[a-z]'}
  range: {k: {min: 0}, d: {min: 2020-01-01}}
  freshness: {ts: 1}
  relationship: {k: raw_data.keys.k}
  sql: {negative: 'select * from {table} where k < 0', pairs: 'select a.k from {table} as a join {table} as b on a.k < b.k - 999'}
elt */ """
FROM_KEYS = "from raw_data.keys"


@dataclass
class Shop:
    """A simulated account that measures, and runs of tables on it."""

    server: SimulatedServer
    account: Account
    directory: Path

    def run(self, run_id: str, texts: Mapping[str, str]) -> None:
        """Run tables of the schema analytics, and write their files."""
        tables = []
        for name, text in texts.items():
            file = self.directory / "tables" / "analytics" / f"{name}.sql"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            tables.append(parse_table_file(file, text, schema="analytics", table=name))
        found = catalogue(tables)
        with self.session() as session:
            outcomes = list(run_tables(session, found, list(found), **run_arguments(run_id)))
        assert [outcome.failure for outcome in outcomes] == [None] * len(texts)

    def session(self) -> ConnectorSession:
        """Return an open session of the project; closing the account closes it."""
        arguments = self.account.arguments
        connection = self.account.resources.enter_context(closing(snowflake.connector.connect(**arguments)))
        return ConnectorSession(connection, connecting(arguments))

    def records(self, run_id: str, stage: str, table: str) -> list[StatementRecord]:
        """Return the statements of a run for one table."""
        wanted = {"run_id": run_id, "stage": stage, "asset": f"analytics/{table}"}
        return [
            record for record in self.server.history if wanted.items() <= json.loads(record.query_tag or "{}").items()
        ]

    def tags(self) -> list[tuple[dict[str, str], StatementRecord]]:
        """Return the statements of all runs with their tags."""
        tagged = [(json.loads(record.query_tag or "{}"), record) for record in self.server.history]
        return [(tag, record) for tag, record in tagged if tag.get("run_id")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two tables, each built twice; `plain` has no checks but the number of its rows."""
    directory = tmp_path_factory.mktemp("cost")
    with running_server(directory) as server:
        server.measures_bytes = True
        account = Account(server)
        with account.resources:
            account.session().sql(
                "create table raw_data.keys as select seq4() as k from table(generator(rowcount => 100))"
            )
            shop = Shop(server, account, directory)
            for run_id in ("00000001", "00000002"):
                shop.run(run_id, {"plain": f"select k {FROM_KEYS}", "checked": f"{EVERY_KIND}{ROW} {FROM_KEYS}"})
            yield shop


@pytest.fixture
def shop(ran: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, and the settings that lead there."""
    resource = simulated_account(ran.server)
    for name in ("account", "user", "password", "role", "warehouse", "database", "host", "port", "protocol"):
        monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", str(getattr(resource, name)))
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(ran.directory / "tables"))
    monkeypatch.chdir(ran.directory)
    return ran


def test_one_statement_scans_the_candidate_for_all_checks_but_relationship_and_sql(shop: Shop) -> None:
    run_id = "00000002"
    candidate, keys = f"RUN_ELT.ANALYTICS.TEMP_CHECKED__{run_id}", "RUN_ELT.RAW_DATA.KEYS"
    assert [record.scanned for record in shop.records(run_id, "build", "checked")] == [(keys,)]
    assert [record.scanned for record in shop.records(run_id, "audit", "checked")] == [
        (candidate,),
        (candidate, keys),
        (candidate,),
        (candidate, candidate),
    ]
    # Nothing but the number of its rows.
    assert [record.scanned for record in shop.records(run_id, "audit", "plain")] == [()]
    others = [(tag["stage"], record.scanned) for tag, record in shop.tags() if tag["stage"] not in ("build", "audit")]
    # The catalogue, a publish by clone, and dropping the candidate.
    assert {stage for stage, _ in others} >= {"inspect", "publish", "clean-up"}
    assert {scanned for _, scanned in others} == {()}


def test_failed_check_that_shows_rows_scans_the_candidate_once_more(shop: Shop) -> None:
    text = f"/* elt\nshow_rows: 2\nchecks: {{range: {{k: {{max: 5, severity: warn}}}}}}\nelt */ select k {FROM_KEYS}"
    shop.run("00000001", {"shown": text})
    candidate = "RUN_ELT.ANALYTICS.TEMP_SHOWN__00000001"
    assert [record.scanned for record in shop.records("00000001", "audit", "shown")] == [(candidate,), (candidate,)]


def costs(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command prints."""
    capsys.readouterr()
    code = main(["cost", *arguments])
    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    return told.out


def test_cost_is_what_the_account_has_recorded(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = shop.tags()
    found = json.loads(costs(capsys, "--json"))
    tables = {table["table"]: table for table in found["tables"]}
    assert found["history"] == "INFORMATION_SCHEMA.QUERY_HISTORY"
    assert list(tables) == sorted(tables, key=lambda name: -tables[name]["seconds"])
    for name in ("checked", "plain"):
        table = tables[f"analytics.{name}"]
        own = [(tag["stage"], record) for tag, record in recorded if tag.get("asset") == f"analytics/{name}"]
        assert table["statements"] == Counter(stage for stage, _ in own)
        scanned = Counter[str]()
        for stage, record in own:
            scanned[stage] += record.bytes_scanned
        assert table["bytes_scanned"] == scanned
        # What a warehouse has executed.
        seconds = sum(round(record.seconds, 3) for stage, record in own if stage in ("build", "audit"))
        assert table["seconds"] == pytest.approx(seconds)
        assert seconds > 0
        assert sum(day["seconds"] for day in table["days"]) == pytest.approx(seconds)
    # 100 rows of one column, twice; and the audit of `plain` has read none of them.
    assert (
        tables["analytics.plain"]["bytes_scanned"] | {"build": 1600, "audit": 0}
        == tables["analytics.plain"]["bytes_scanned"]
    )


def test_cost_lists_tables_or_the_days_of_one(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines, total, empty, note = costs(capsys).splitlines()
    assert header.split()[:3] == ["table", "seconds", "build"]
    assert {"analytics.checked", "analytics.plain"} <= {line.split("  ")[0] for line in lines}
    assert (total.split()[0], empty) == ("sum", "")
    assert "by INFORMATION_SCHEMA.QUERY_HISTORY: statements of this user" in note
    header, *days, total, _, _ = costs(capsys, "--table", "analytics/plain").splitlines()
    ended = {record.row()["END_TIME"].date() for tag, record in shop.tags() if tag.get("asset") == "analytics/plain"}
    assert (header.split()[0], total.split()[0]) == ("day", "sum")
    assert [day.split()[0] for day in days] == sorted(map(str, ended))
    assert main(["cost", "--table", "analytics.plane"]) == 1
    assert "Did you mean analytics.plain?" in capsys.readouterr().err
    assert main(["cost", "--days", "366"]) == 1
    assert "requires --days from 1 to 365, got 366. Nothing was asked." in capsys.readouterr().err


def test_full_call_of_the_function_is_followed_by_older_ones(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a call leaves out is read by the next one, and nothing twice."""
    with shop.session() as session:
        whole = cost.read_cost(session, days=7)
        before = len(shop.server.history)
        # A page of half of them is full twice, as the oldest of each page are read again.
        page = before // 2
        paged = cost.read_cost(session, days=7, page_statements=page)
        calls = [record for record in list(shop.server.history)[before:] if f"RESULT_LIMIT => {page})" in record.sql]
        assert len(calls) == 3
        assert without_own(paged) == without_own(whole)
        with pytest.raises(ValueError, match="requires fewer than 1 statements in a millisecond"):
            cost.read_cost(session, days=7, page_statements=1)
        monkeypatch.setattr(cost, "MOST_PAGES", 1)
        with pytest.raises(
            ValueError, match=rf"at most 1 calls of INFORMATION_SCHEMA\.QUERY_HISTORY with {page} statem"
        ):
            cost.read_cost(session, days=7, page_statements=page)


def without_own(report: cost.Report) -> dict[tuple[str, str], tuple[int, float, int]]:
    """Return statements, seconds and bytes by table and stage, without the statements of the command itself."""
    found: dict[tuple[str, str], tuple[int, float, int]] = {}
    for each in report.spent:
        if each.stage != "cost":
            statements, seconds, scanned = found.get((each.table, each.stage), (0, 0.0, 0))
            found[each.table, each.stage] = (
                statements + each.statements,
                round(seconds + each.seconds, 3),
                scanned + each.bytes_scanned,
            )
    return found


def test_more_days_than_seven_are_asked_of_the_account(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--days", "8"]) == 1
    told = capsys.readouterr().err
    assert "got a refusal for role SYSADMIN: Object 'SNOWFLAKE.ACCOUNT_USAGE.QUERY_HISTORY' does not exist" in told
    assert "GRANT DATABASE ROLE SNOWFLAKE.GOVERNANCE_VIEWER TO ROLE SYSADMIN, or pass --days 7." in told
    before = json.loads(costs(capsys, "--json"))["tables"]
    session: Any = shop.account.session()
    session.sql("create database snowflake")
    session.sql("create schema snowflake.account_usage")
    history = "table(run_elt.information_schema.query_history(result_limit => 10000))"
    session.sql(f"create table snowflake.account_usage.query_history as select * from {history}")
    found = json.loads(costs(capsys, "--json", "--days", "8"))
    assert found["history"] == "SNOWFLAKE.ACCOUNT_USAGE.QUERY_HISTORY"
    named = [table for table in before if table["table"] != cost.NO_TABLE]
    assert [table for table in found["tables"] if table["table"] != cost.NO_TABLE] == named


def test_embedded_snowflake_keeps_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cost"]) == 1
    assert capsys.readouterr().err == (
        "run-elt: run-elt cost requires a Snowflake account, got the embedded Snowflake. It keeps no history of statements, so there "
        "is nothing to show. Set the SNOWFLAKE_ variables.\n"
    )
