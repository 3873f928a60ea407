"""What `run-elt show` says of tables on the embedded Snowflake, beside what Dagster has recorded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import running_server, simulated_account
from run_elt_dagster_tests.support.empty_database import lay_empty_database
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.local_server import mau

TABLES = "RUN_ELT_TABLES_DIR"


@dataclass
class Shop:
    """A folder of tables, an embedded Snowflake that stays open, a history, and the command."""

    directory: Path
    resource: Snowflake
    instance: dg.DagsterInstance
    capsys: pytest.CaptureFixture[str]
    opened: ExitStack = field(default_factory=ExitStack)

    def declare(self, path: str, text: str) -> None:
        file = self.directory / "tables" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def materialize(self, *, instance: dg.DagsterInstance | None = None) -> str:
        """Run all tables and return the start of the run's id."""
        assets = [
            analytics_assets(
                load_tables(self.directory / "tables"), PublishOptions(max_concurrent_tables=1, creates_schemas=True)
            )
        ]
        resources = {"snowflake": self.resource}
        result = dg.materialize(assets, resources=resources, instance=instance or self.instance, raise_on_error=False)
        # The run's own log.
        self.capsys.readouterr()
        return result.run_id[:8]

    def sql(self, *statements: str) -> None:
        with self.resource.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        told = self.capsys.readouterr()
        return code, told.out, told.err

    def shown(self, *names: str) -> str:
        code, out, err = self.run("show", *names)
        assert (code, err) == (0, ""), f"{out}\n{err}"
        return out


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(TABLES, str(tmp_path / "tables"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    return lay_empty_history(tmp_path)


@pytest.fixture
def shop(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(place / "embedded"))
    lay_empty_database(place / "embedded")
    resource = Snowflake(embedded_dir=str(place / "embedded"), sample_data=False)
    with ExitStack() as opened, dg.DagsterInstance.get() as instance:
        opened.enter_context(resource.connect())
        yield Shop(place, resource, instance, capsys, opened)


@pytest.fixture
def simulated_shop(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """A shop on a simulated account, for what the embedded Snowflake refuses."""
    lay_empty_database(place, SimulatedServer)
    with running_server(place) as server, ExitStack() as opened:
        account = simulated_account(server)
        for name in ("account", "user", "password", "role", "warehouse", "database", "host", "port", "protocol"):
            monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", str(getattr(account, name)))
        instance = opened.enter_context(dg.DagsterInstance.get())
        yield Shop(place, account, instance, capsys, opened)


def line_of(told: str, name: str) -> list[str]:
    return next(line.split() for line in told.splitlines() if line.startswith(f"{name} "))


def test_published_table_is_shown_with_the_run_that_built_it(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    run = shop.materialize()
    told = shop.shown("analytics.mau")
    assert line_of(told, "analytics.mau")[1] == "3"
    assert line_of(told, "analytics.mau")[-2:] == [run, "RUN_ELT.ANALYTICS.MAU"]
    assert f"by run {run}" in told
    assert "\nchecks read metadata alone: row_count\n" in told
    assert "What readers see is not what Dagster recorded last" not in told
    assert "Candidates" not in told


def test_candidate_that_a_person_publishes_is_recorded_and_shown_with_who_wanted_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    more = "primary_key: [n]\nchecks: {changes: {max_added: 0}}"
    shop.declare("analytics/mau.sql", mau(3, 1, more=more))
    shop.materialize()
    shop.declare("analytics/mau.sql", mau(5, 2, more=more))
    run = shop.materialize()
    code, out, err = shop.run("publish", "analytics.mau", "--run", run)
    assert (code, "Pass --yes" in err) == (1, True)
    assert "readers see now    3 rows, built" in out
    assert "they will see      5 rows, built" in out
    code, out, _ = shop.run("publish", "analytics.mau", "--run", run, "--yes")
    assert code == 0
    assert f"analytics.mau: 5 rows of run {run}, published by ana, 20" in out
    key = dg.AssetKey(["analytics", "mau"])
    check = shop.instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(key, "changes"))
    assert check is not None
    assert check.event is not None
    assert check.event.dagster_event is not None
    evaluation = check.event.dagster_event.asset_check_evaluation_data
    told = {name: evaluation.metadata[name].value for name in ("waived", "rows_added")}
    assert (evaluation.passed, told) == (False, {"waived": True, "rows_added": 2})
    # A repeated command changes nothing, and notes what Dagster may have lost.
    for _ in range(2):
        code, out, _ = shop.run("publish", "analytics.mau", "--run", run, "--yes")
        assert (code, "is published already: 5 rows, built" in out) == (0, True)
        shown = shop.shown("analytics.mau")
        assert "check changes waived" in next(
            line for line in shown.splitlines() if line.startswith("analytics.mau at")
        )
        assert "What readers see is not what Dagster recorded last" not in shown
        (record,) = shop.instance.fetch_materializations(key, limit=1).records
        assert record.asset_materialization is not None
        metadata = {name: value.value for name, value in record.asset_materialization.metadata.items()}
        assert str(metadata["published_run"]).startswith(run)
        assert [metadata[name] for name in ("published_by", "checks_waived", "dagster/row_count")] == [
            "ana",
            "changes",
            5,
        ]
        history = json.loads(shop.shown("analytics.mau", "--json"))["details"]["analytics.mau"]["history"]
        assert (history[0]["run"], history[0]["outcome"]) == (run, "published by ana, changes waived")
        shop.instance.wipe_assets([key])


def test_declared_table_is_shown_with_all_that_is_known_of_it(shop: Shop) -> None:
    more = "owner: team:shop\nfresh_within: 26h\ncolumns: {n: int, v: {type: int, description: A value.}}"
    shop.declare("analytics/mau.sql", mau(3, 1, more=more))
    shop.declare("analytics/reader.sql", "select n from analytics.mau, raw_data.orders")
    shop.declare("analytics/other.sql", "select 1 as n")
    shop.sql("create table raw_data.orders as select 42 as o")
    first = shop.materialize()
    shop.declare("analytics/mau.sql", mau(3, 1, more=f"{more}\nprimary_key: [v]"))
    second = shop.materialize()
    told = shop.shown("analytics.mau")
    assert "analytics.other" not in told
    lines = [" ".join(line.split()) for line in told.splitlines()]
    for line in ("owner file team:shop", "transient default false", "fresh_within file fail: 26 h", "v int A value."):
        assert line in lines
    for part in ("Reads:\n  no table", "Read by:\n  analytics.reader", "-- audit\nSELECT\n  COUNT(*),"):
        assert f"\n{part}" in told
    facts = json.loads(shop.shown("analytics.mau", "analytics.reader", "--json"))
    details = facts["details"]["analytics.mau"]
    settings = details["settings"]
    assert (settings["owner"], settings["primary_key"], settings["transient"]) == ("team:shop", ["v"], False)
    assert [key in details["defaults"] for key in ("transient", "publish")] == [True, False]
    assert [(each["run"], each["outcome"], each["rows"]) for each in details["history"]] == [
        (second, "not published: the run failed", None),
        (first, "published", 3),
    ]
    assert {each["name"]: each["verdict"] for each in details["checks"]} == {
        "row_count": "passed",
        "columns": "passed",
        "primary_key": "failed",
    }
    assert "found 2 rows with a duplicate key" in " ".join(each["found"] for each in details["checks"])
    stages = [each["stage"] for each in details["statements"]]
    assert stages == ["inspect", "inspect", "inspect", "build", "build", "audit", "publish", "clean-up"]
    assert facts["details"]["analytics.reader"]["upstream"] == [
        {"name": "analytics.mau", "note": ""},
        {"name": "raw_data.orders", "note": "no file builds it"},
    ]


@pytest.mark.parametrize(
    "publish", ["overwrite", *(pytest.param(m, marks=pytest.mark.thorough) for m in ("clone", "swap"))]
)
def test_rolled_back_table_is_shown_as_readers_see_it(simulated_shop: Shop, publish: str) -> None:
    shop = simulated_shop
    runs: list[str] = []
    for rows in (3, 5):
        shop.declare("analytics/mau.sql", mau(rows, rows, publish=publish))
        runs.append(shop.materialize())
    assert shop.run("rollback", "analytics.mau", "--yes")[0] == 0
    told = shop.shown("analytics.mau")
    first, second = runs
    # Rows that are written back over others are known by the run whose rows they replaced.
    assert line_of(told, "analytics.mau")[1] == "3"
    assert line_of(told, "analytics.mau")[-2] == (second if publish == "overwrite" else first)
    assert "  analytics.mau: rolled back " in told
    assert f"Dagster's last materialization is of run {second}" in told


def test_policies_that_the_embedded_snowflake_leaves_out_are_said(shop: Shop) -> None:
    more = "policies: {masking: {v: governance.mask}, row_access: {name: governance.filter, on: n}}\nobject_tags: {governance.domain: sales}"
    shop.declare("analytics/mau.sql", mau(3, 1, more=more))
    told = shop.shown("analytics.mau")
    assert "\nThe embedded Snowflake applies no policies and tags. It leaves out those of analytics.mau.\n" in told
    assert "ALTER TABLE" not in told
    assert "governance.mask" in told


def test_table_that_another_history_has_published_is_said_so(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    run = shop.materialize()
    with dg.DagsterInstance.ephemeral() as elsewhere:
        other = shop.materialize(instance=elsewhere)
    told = shop.shown()
    assert (
        f"analytics.mau: readers see the rows of run {other}, and Dagster's last materialization is of run {run}"
        in told
    )
    assert line_of(told, "analytics.mau")[2:4] == ["-", "-"]


CHANGES_FROM_OUTSIDE = {
    "insert into analytics.mau values (9, 9)": "it was published with 3 rows: something else has changed them",
    "comment on table analytics.mau is 'mine'": "its comment names no run",
    "create or replace table analytics.mau as select 1 as a": "its comment names no run",
    "drop table analytics.mau": "and there is no table any more",
}


def test_change_from_outside_is_said(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    shop.materialize()
    for statement, note in CHANGES_FROM_OUTSIDE.items():
        shop.sql(statement)
        assert note in shop.shown("analytics.mau"), statement


@pytest.mark.thorough
def test_materialization_that_a_person_reported_is_said_so(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    run = shop.materialize()
    shop.instance.report_runless_asset_event(dg.AssetMaterialization(["analytics", "mau"]))
    told = shop.shown("analytics.mau")
    assert line_of(told, "analytics.mau")[-2] == run
    assert "Dagster's last materialization is reported by hand" in told


def test_candidate_of_a_failed_run_is_listed_and_shown_by_name(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", "/* elt\nprimary_key: [n]\nelt */ select column1 as n from values (4), (4)")
    run = shop.materialize()
    name = f"analytics.temp_mau__{run}"
    told = shop.shown()
    assert line_of(told, "analytics.mau")[-2:] == ["no", "table"]
    assert f"  {name} at RUN_ELT.ANALYTICS.{name.split('.')[1].upper()}: 2 rows, built " in told
    assert "a candidate that failed" in told
    assert shop.shown(name).count("\n4\n") == 1


def test_source_is_shown_by_name_whatever_the_spelling(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    shop.sql("create table raw_data.orders as select 42 as n", 'create schema "my schema"')
    shop.sql('create table "my schema"."Net sales" as select 43 as n')
    for name in ("raw_data.orders", "RAW_DATA/ORDERS", "run_elt.raw_data.Orders"):
        assert "\n42\n" in shop.shown(name)
    assert "\n43\n" in shop.shown('"my schema"."Net sales"')


UNKNOWN = {
    "analytics.maus": "Did you mean analytics.mau?",
    "mau": "Did you mean analytics.mau?",
    "raw_dat.orders": "Did you mean raw_data.orders?",
    "analytics.orders": "raw_data.orders",
    "zz.qqqqqq": "run-elt show lists the declared tables.",
    "a b": "in double quotes",
}


def test_unknown_name_is_an_error_with_what_may_have_been_meant(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    shop.materialize()
    shop.sql("create table raw_data.orders as select 42 as n")
    for name, remedy in UNKNOWN.items():
        code, out, err = shop.run("show", name)
        assert (code, out) == (1, ""), name
        assert remedy in err


def test_table_whose_file_is_broken_is_shown_with_the_problems_and_without_statements(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    shop.declare("analytics/broken.sql", "select n from analytics.mau, orders")
    told = shop.shown("analytics.broken")
    assert "A run would send" not in told
    assert "\nNo run builds it, because its file is broken:\n  " in told
    assert "broken.sql:1: cannot tell which tables the SQL reads: table orders has no schema" in told
    details = json.loads(shop.shown("analytics.broken", "analytics.mau", "--json"))["details"]
    assert [len(details[name]["problems"]) for name in details] == [1, 0]
    assert [bool(details[name]["statements"]) for name in details] == [False, True]


def test_rows_and_numbers_are_what_they_are_for_a_program(shop: Shop) -> None:
    shop.declare("analytics/mau.sql", 'select 1 as n, null::varchar as "No", 2.50 as "Net sales" from raw_data.one')
    shop.declare("analytics/late.sql", "select n from analytics.mau")
    shop.sql("create table raw_data.one as select 1 as n")
    run = shop.materialize()
    shop.sql("drop table analytics.late")
    assert shop.shown("analytics.mau").splitlines()[-4].split() == ["n", '"No"', '"Net', 'sales"']
    facts = json.loads(shop.shown("analytics.mau", "--json"))
    assert facts["rows"]["analytics.mau"] == [{"n": 1, '"No"': None, '"Net sales"': "2.50"}]
    (mau_line,) = facts["tables"]
    assert (mau_line["rows"], mau_line["checks passed"], mau_line["by run"]) == (1, "row_count", run)
    assert isinstance(mau_line["seconds"], float)
    late = next(each for each in json.loads(shop.shown("--json"))["tables"] if each["table"] == "analytics.late")
    assert [late[name] for name in ("rows", "seconds", "by run", "at")] == [None] * 4


def test_other_table_with_a_wrong_file_stops_neither_show_nor_rollback(shop: Shop) -> None:
    for rows in (3, 5):
        shop.declare("analytics/mau.sql", mau(rows, rows))
        shop.materialize()
    shop.declare("analytics/bad.sql", "drop table everything")
    code, out, err = shop.run("show", "analytics.mau")
    assert code == 0
    assert line_of(out, "analytics.mau")[1] == "5"
    assert "bad.sql:1: " in err
    assert shop.run("show")[0] == 1
    assert shop.run("rollback", "analytics.mau", "--yes")[0] == 0


def test_deployment_without_history_is_asked_about_what_readers_see(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.declare("analytics/mau.sql", mau(3, 1))
    run = shop.materialize()
    monkeypatch.delenv("DAGSTER_HOME")
    (shop.directory / "dagster.yaml").unlink()
    told = shop.shown("analytics.mau")
    assert line_of(told, "analytics.mau")[-2] == run
    assert "Dagster's history: none here" in told


@pytest.mark.thorough
@pytest.mark.parametrize("arguments", [("show",), ("rollback", "analytics.mau", "--yes")])
def test_command_that_waits_says_for_whom(shop: Shop, arguments: tuple[str, ...]) -> None:
    for rows in (3, 5):
        shop.declare("analytics/mau.sql", mau(rows, rows))
        shop.materialize()
    # Where there are tables of one's own, no sample data is loaded.
    shop.sql("create table raw_data.session_timestamp as select 1 as a")
    command = [sys.executable, "-c", "import sys; from run_elt_dagster.cli import main; sys.exit(main())", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        message = process.stderr.readline()
        assert message.startswith("run-elt: Waiting for the embedded Snowflake in "), message
        assert f"used by process {os.getpid()} (" in message
        shop.opened.close()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, err) == (
        0,
        "run-elt: RUN_ELT has tables of its own, so no sample data was loaded.\n",
    )
    assert "analytics.mau" in out
