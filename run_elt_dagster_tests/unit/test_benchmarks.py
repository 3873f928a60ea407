"""The pure parts of the benchmarks: what is built, what is counted, and how it is told."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot
import yaml

from benchmarks.clients import PEERS, POSTGRES, PROJECT, dbt_2, pinned, prepare
from benchmarks.events import rows as event_rows
from benchmarks.load import COMPARED, LARGEST
from benchmarks.load import verdicts as load_verdicts
from benchmarks.measure import Cost
from benchmarks.partitions import Seen, table_of
from benchmarks.report import Round, Scenario, difference, middle, ratio, rendered, summary, verdicts
from benchmarks.run import machine, warm_ups
from benchmarks.server import executable, kind_of, relabelled, timeless
from benchmarks.threads import rows
from benchmarks.timed import NO_EVENT, Book
from benchmarks.workload import SOURCES, dbt_files, project_files, raw_files, sqlmesh_files, workload
from run_elt_dagster.embedded.results import Result


def a_round(client: str, number: int = 0, *, seconds: float = 1.0, count: int = 200, **changes: object) -> Round:
    values = {"cpu_seconds": 0.5, "peak_mib": 100, "server_cpu_seconds": 0.1, "logins": 1, "statements": 4 * count}
    scenario = Scenario(count, "trivial", with_latency=True)
    return Round(scenario, number, client, seconds, **{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["trivial", "realistic"])
def test_workload_has_so_many_tables_whose_sql_can_be_read(kind: str) -> None:
    tables = workload(7, kind)  # type: ignore[arg-type]
    assert [table.name for table in tables] == [f"t_{number:05d}" for number in range(7)]
    assert all(sqlglot.parse_one(table.sql(), dialect="snowflake") for table in tables)


def test_realistic_table_reads_sources_or_tables_before_it_and_has_about_45_lines() -> None:
    tables = workload(20, "realistic")
    earlier = set(SOURCES)
    for table in tables:
        assert set(table.reads) <= earlier
        earlier.add(table.key)
    assert [bool(set(table.reads) - set(SOURCES)) for table in tables[:5]] == [False] * 4 + [True]
    assert all(40 <= table.sql().count("\n") <= 55 for table in tables)


def test_project_file_is_a_table_of_the_project_with_one_check() -> None:
    (path, text), *_ = project_files(workload(3, "realistic")).items()
    assert path == "analytics/t_00000.sql"
    assert "row_count: {min: 1}" in text


def test_clients_get_the_same_sql_but_for_the_names_of_what_it_reads() -> None:
    tables = workload(5, "realistic")
    models = dbt_files(tables, threads=8)
    by_key = {table["key"]: table for table in json.loads(raw_files(tables)["tables.json"])}
    assert "{{ source('raw_data', 'orders') }}" in models["models/t_00000.sql"]
    assert "{{ ref('t_00003') }}" in models["models/t_00004.sql"]
    assert by_key["analytics.t_00004"]["parents"] == ["analytics.t_00003", "analytics.t_00002"]
    plain = models["models/t_00004.sql"].replace("{{ ref('", "analytics.").replace("') }}", "")
    assert plain.strip() == by_key["analytics.t_00004"]["sql"] == tables[4].sql()


def test_sqlmesh_model_is_rebuilt_wholly_and_audited() -> None:
    tables = workload(5, "realistic")
    header, sql = sqlmesh_files(tables)["models/t_00004.sql"].split(";\n\n")
    assert "kind FULL" in header
    assert "audits (number_of_rows(threshold := 0))" in header
    assert sql.strip() == tables[4].sql()


def test_project_on_postgres_has_the_storage_of_deploy(tmp_path: Path) -> None:
    for name in (POSTGRES, PROJECT):
        prepare(name, workload(1, "trivial"), server={}, place=tmp_path / name, threads=8, postgres={"SET_BY": "us"})
    deployed = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "dagster.yaml").read_text(encoding="utf-8"))
    on_postgres, on_sqlite = (
        yaml.safe_load((tmp_path / name / "home" / "dagster.yaml").read_text(encoding="utf-8"))
        for name in (POSTGRES, PROJECT)
    )
    assert on_postgres["storage"] == deployed["storage"]
    assert "storage" not in on_sqlite


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("dbt-fusion 2.0.9", "2.0.9"),
        ("Core:\n  - installed: 1.11.16\n  - latest:    2.0.9", None),
    ],
)
def test_dbt_2_is_known_by_its_own_version(tmp_path: Path, printed: str, version: str | None) -> None:
    program = tmp_path / "dbt"
    program.write_text(f"#!/bin/sh\necho '{printed}'\n", encoding="utf-8")
    program.chmod(0o755)
    assert dbt_2(f"/nowhere:{tmp_path}") == (version and (program, version))


def test_dbt_project_has_a_test_a_model() -> None:
    files = dbt_files(workload(4, "trivial"), threads=3)
    models = json.loads(files["models/schema.yml"])["models"]
    assert [len(model["data_tests"]) for model in models] == [1] * 4
    assert json.loads(files["profiles.yml"])["bench"]["outputs"]["bench"]["threads"] == 3


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("CREATE OR REPLACE TABLE a.b COMMENT = 'x' AS (\nselect 1 as id\n)", "CTAS"),
        ('/* {"app": "dbt"} */\ncreate or replace transient table a.b\n  as (select 1)', "CTAS"),
        ("CREATE OR REPLACE TABLE a.b CLONE a.temp_b COPY GRANTS", "CREATE OR"),
        ("drop table if exists a.b", "DROP TABLE"),
        ("select count(*) from a", "SELECT"),
    ],
)
def test_kind_of_a_statement_tells_what_costs_as_a_ctas(sql: str, kind: str) -> None:
    assert kind_of(sql) == kind


def test_statements_of_two_runs_are_the_same_one_without_their_run_and_time() -> None:
    def ctas(suffix: str, marker: str) -> str:
        return f"CREATE OR REPLACE TABLE A.TEMP_B__{suffix} COMMENT = 'b [run_elt run {marker}]' AS (select 1)"

    first, second = ctas("0A1B2C3D", "0a1b2c3d-1 at 2026-01-01"), ctas("FFFF0000", "ffff0000-2 at 2026-01-02")
    assert timeless(first) == timeless(second)
    assert timeless(first) != timeless(second.replace("TEMP_B", "TEMP_C"))


@pytest.mark.parametrize(
    ("listing", "query"),
    [
        (
            'show terse schemas in database bench_dbt\n    limit 10000\n/* {"app": "dbt"} */',
            'SELECT schema_name AS "name" FROM BENCH_DBT.information_schema.schemata /* {"app": "dbt"} */',
        ),
        ("show terse schemas in database bench_dbt limit 10000 starts with 'a'", None),
        (
            'show user functions in bench_dbt.analytics\n/* {"app": "dbt"} */',
            (
                'SELECT table_catalog AS "catalog_name", table_schema AS "schema_name", table_name AS "name", '
                "'N' AS \"is_builtin\"\n        FROM BENCH_DBT.information_schema.tables WHERE table_schema = 'ANALYTICS' AND FALSE "
                '/* {"app": "dbt"} */'
            ),
        ),
        ("show user functions like 'a' in bench_dbt.analytics", None),
    ],
)
def test_listing_of_dbt_is_a_query_if_all_of_it_is_understood(listing: str, query: str | None) -> None:
    assert executable(listing) == (query or listing)


@pytest.mark.parametrize(
    ("sent", "executed"),
    [
        ("\ncreate or replace  temporary view a.b.c\n as (select 1)", "\ncreate or replace view a.b.c\n as (select 1)"),
        ("drop view if exists a.b.c cascade\n/* dbt */", "drop view if exists a.b.c\n/* dbt */"),
        ("select 'temporary view', 'cascade'", "select 'temporary view', 'cascade'"),
    ],
)
def test_view_of_a_batch_is_one_that_the_embedded_snowflake_has(sent: str, executed: str) -> None:
    assert executable(sent) == executed


def test_what_a_reader_saw_of_the_bad_day_is_a_line_for_each_client() -> None:
    good = Seen(15, {"SELECT": 15}, 0, ["5 rows of 1", "5 rows of 2"], "5 rows of 2")
    bad = Seen(9, {"SELECT": 9}, 1, ["5 rows of 2", "no rows", "5 rows of -1"], "5 rows of -1")
    assert table_of({"dbt": (good, bad)}).splitlines()[2:] == [
        "| dbt | 15 | 1 | 5 rows of 2, then no rows, then 5 rows of -1 | 5 rows of -1 |"
    ]


def test_project_on_postgres_gets_the_answers_recorded_before_it() -> None:
    assert warm_ups("project-postgres", ["floor", "project", "project-postgres"]) == ("replay", "replay")
    assert warm_ups("project-postgres", ["project-postgres"]) == warm_ups("dbt", ["dbt"]) == ("execute", "record")


def test_statements_of_two_plans_of_sqlmesh_are_the_same_one() -> None:
    first, second = (f"/* SQLMESH_PLAN: {plan * 8} */ DESCRIBE TABLE a" for plan in ("0a1b", "ffff"))
    assert timeless(first) == timeless(second) == "DESCRIBE TABLE a"


def test_recorded_answer_speaks_of_the_run_that_asks() -> None:
    text = '[{"name": "TEMP_B__12345678", "comment": "b [run_elt run 12345678-1 at 2026-01-01]"}, {"name": "B"}]'
    recorded = Result(pa.table({"tables": [text, None], "n": [1, 2]}), [], 0)
    before, after = (
        ("[run_elt run 12345678-1 at 2026-01-01]", "12345678"),
        ("[run_elt run ffff0000-2 at 2026-02-02]", "FFFF0000"),
    )
    tables, n = relabelled(recorded, dict(zip(before, after, strict=True))).table.to_pydict().values()
    assert tables == [
        '[{"name": "TEMP_B__FFFF0000", "comment": "b [run_elt run ffff0000-2 at 2026-02-02]"}, {"name": "B"}]',
        None,
    ]
    assert n == [1, 2]
    assert recorded.table["tables"].to_pylist() == [text, None]


def test_ratio_is_the_median_of_ratios_within_a_round() -> None:
    rounds = [
        *[a_round("project", number, seconds=seconds) for number, seconds in enumerate((2.0, 30.0, 4.0))],
        *[a_round("dbt", number, seconds=seconds) for number, seconds in enumerate((1.0, 10.0, 4.0))],
    ]
    assert middle(rounds, "project", "wall_seconds") == 4.0
    assert ratio(rounds, "project", "dbt") == 2.0
    assert difference(rounds, "project", "dbt") == 1.0


def test_ratio_is_unknown_when_the_other_client_never_ran_in_the_same_round() -> None:
    assert ratio([a_round("project", 0), a_round("dbt", 1)], "project", "dbt") is None


def test_verdict_compares_what_is_printed() -> None:
    rounds = [a_round("project", seconds=0.784), a_round("dbt", seconds=1.0)]
    assert ("wall time, in dbt's", "0.78", "0.78", "met") in verdicts(rounds)
    rounds = [a_round("project", seconds=0.79, statements=805), a_round("dbt", seconds=1.0)]
    assert ("wall time, in dbt's", "0.78", "0.79", "not met") in verdicts(rounds)
    assert ("statements besides 4 a table", "4", "5.00", "not met") in verdicts(rounds)


def test_postgres_is_judged_by_its_time_and_its_connections() -> None:
    rounds = [
        a_round("project", seconds=2.0),
        a_round("before", seconds=4.0),
        a_round("project-postgres", seconds=3.0, connections=17),
    ]
    judged = {text: (number, verdict) for text, _, number, verdict in verdicts(rounds)}
    assert judged["wall time on Postgres, in SQLite's"] == ("1.50", "not met")
    assert judged["wall time on Postgres, in SQLite's before"] == ("0.75", "not met")
    assert judged["connections to Postgres"] == ("17.00", "not met")


def test_first_statement_is_judged_against_a_bare_run_of_the_same_round() -> None:
    scenario = Scenario(1, "trivial", with_latency=False)
    rounds = [
        *[Round(scenario, n, "bare", wall, 1, 100, 0, 0, 0) for n, wall in enumerate((1.0, 2.0, 3.0))],
        *[
            Round(scenario, n, "project", 9.0, 1, 100, 0, 1, 4, first_statement_seconds=first)
            for n, first in enumerate((1.3, 2.1, 3.4))
        ],
    ]
    assert ("first statement, seconds after a bare run's end", "0.3", "0.30", "met") in verdicts(rounds)


def test_number_that_a_client_does_not_have_is_left_out() -> None:
    rounds = [a_round("project"), a_round("project-postgres", connections=3)]
    assert middle(rounds, "project", "connections") is None
    last = [line.split("|")[-2].strip() for line in summary(rounds).splitlines()[2:4]]
    assert last == ["-", "3"]


def test_event_within_an_event_is_counted_apart() -> None:
    book, kept = Book(), object()
    book.connected(kept)
    with book.storing("outer"):
        book.connected(object())
        with book.storing("inner"):
            book.connected(kept)
    assert book.kind == NO_EVENT
    assert {kind: (spent.count, spent.connections) for kind, spent in book.spent.items()} == {
        NO_EVENT: (0, 1),
        "outer": (1, 1),
        "inner": (1, 0),
    }


def test_events_are_ordered_by_what_they_cost_and_summed() -> None:
    kind = {"count": 2, "seconds": 0.5, "cpu_seconds": 0.25, "statements": 8, "connections": 4}
    assert event_rows({"cheap": kind, "dear": {**kind, "seconds": 1.5}}) == [
        ("dear", "2", "1.50", "0.25", "750.0", "8", "4"),
        ("cheap", "2", "0.50", "0.25", "250.0", "8", "4"),
        ("all", "4", "2.00", "0.50", "500.0", "16", "8"),
    ]


def test_round_survives_being_kept() -> None:
    measured = a_round("project", 3)
    assert Round.of(json.loads(json.dumps(measured.record()))) == measured


def test_table_is_markdown_with_aligned_columns() -> None:
    assert rendered(("client", "s"), [("project", "1.5"), ("dbt", "10.25")]) == (
        "| client  |     s |\n|---------|------:|\n| project |   1.5 |\n| dbt     | 10.25 |"
    )


def test_summary_says_how_many_answers_had_not_been_recorded() -> None:
    assert "2 statements had no recorded answer" in summary([a_round("floor", missed=2)])


def test_efficiency_is_what_of_the_threads_was_of_use() -> None:
    assert rows([("project", 1, 40.0), ("project", 2, 20.0), ("project", 8, 10.0)]) == [
        ("project", "1", "40.0", "1.00", "1.00"),
        ("project", "2", "20.0", "2.00", "1.00"),
        ("project", "8", "10.0", "4.00", "0.50"),
    ]


def test_loading_is_judged_against_dbt_parse() -> None:
    measured = {
        ("project", COMPARED, "warm"): Cost(2.0, 2.0, 100),
        ("dbt", COMPARED, "warm"): Cost(5.0, 5.0, 100),
        ("project", LARGEST, "warm"): Cost(15.5, 15, 100),
    }
    assert [row[1:] for row in load_verdicts(measured)] == [("0.25", "0.40", "not met"), ("15", "15.50", "not met")]


def test_loading_is_judged_against_dbt_2_where_it_is() -> None:
    measured = {("project", COMPARED, "cold"): Cost(2.0, 2.0, 100), ("dbt2", COMPARED, "cold"): Cost(2.5, 2.0, 100)}
    assert load_verdicts(measured) == [("1,000 tables cold, in the time of dbt2 parse", "1", "0.80", "met")]


def test_versions_printed_are_those_that_each_peer_is_installed_with() -> None:
    told = machine()
    for name in PEERS:
        assert f"; {name}: {', '.join(pinned(name))}" in told
        assert all("==" in package for package in pinned(name))
