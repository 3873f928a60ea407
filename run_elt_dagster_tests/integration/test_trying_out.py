"""`run-elt seed`, `query`, `preview` and `diff`, over the real connector."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.embedded.server import EmbeddedServer
from run_elt_dagster.model.candidate import marker_in
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.embedded import running_server, simulated_account
from run_elt_dagster_tests.support.empty_database import lay_empty_database
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.run_arguments import run_arguments

ORDERS = "id,zip,amount,at,note\n1,007,12.50,2026-11-28T10:00:00Z,\n2,10115,3,2026-11-28 12:30:00 +02:00,late\n"
TOTALS = """/* elt
primary_key: [zip]
checks:
  row_count: {{min: {least}}}
elt */
select zip, amount{more} from raw_data.orders
"""


class Place:
    """A person's folder, and what a command of hers prints there."""

    def __init__(self, directory: Path, resource: Snowflake, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.resource, self.capsys = directory, resource, capsys

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main(arguments)
        told = self.capsys.readouterr()
        return code, told.out, told.err

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "--json")
        assert (code, err) == (0, ""), f"{out}\n{err}"
        return json.loads(out)

    def rows(self, query: str) -> list[list[Any]]:
        return [list(row.values()) for row in self.json("query", query)]

    def sql(self, *statements: str) -> None:
        with self.resource.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def publish(self, run_id: str, *, keep_candidates_hours: float = 72.0) -> None:
        with self.resource.session(log=print) as session:
            tables = load_tables(self.directory / "tables")
            chosen = run_arguments(
                run_id, keep_candidates_hours=keep_candidates_hours, creates_schemas=True, wait_seconds=0.0
            )
            (outcome,) = run_tables(session, tables, list(tables), **chosen)
        assert outcome.published, outcome.failure

    def candidates(self) -> list[str]:
        return [
            row[0]
            for row in self.rows("select comment from information_schema.tables where startswith(table_name, 'TEMP_')")
        ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path / "embedded"))
    return Place(tmp_path, Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False), capsys)


@pytest.fixture(params=["embedded", "account"])
def shop(request: pytest.FixtureRequest, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place with a table of orders, on the embedded Snowflake or on a simulated account; one server for all commands."""
    is_account = request.param == "account"
    lay_empty_database(
        place.directory / ("" if is_account else "embedded"), SimulatedServer if is_account else EmbeddedServer
    )
    with ExitStack() as opened:
        if is_account:
            account = simulated_account(opened.enter_context(running_server(place.directory)))
            for name in ("account", "user", "password", "role", "warehouse", "database", "host", "port", "protocol"):
                monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", str(getattr(account, name)))
            place.resource = account
        opened.enter_context(place.resource.connect())
        place.sql(
            "create table raw_data.orders as select column1 as zip, column2 as amount from values ('007', 1), ('10115', 2)"
        )
        place.write("tables/analytics/totals.sql", TOTALS.format(least=1, more=""))
        yield place


def test_seeded_table_is_like_any_other(place: Place) -> None:
    code, out, err = place.run("seed", "shop.orders", place.write("orders.csv", ORDERS))
    assert (code, err) == (0, ""), err
    assert out.splitlines()[1:] == [
        "ID      NUMBER(38,0)",
        "ZIP     VARCHAR",
        "AMOUNT  NUMBER(38,2)",
        "AT      TIMESTAMP_TZ",
        "NOTE    VARCHAR",
        "",
        "Loaded 2 rows from orders.csv into RUN_ELT.SHOP.ORDERS.",
    ]
    with place.resource.connect():
        assert place.rows(
            "select column_name, data_type, numeric_scale from information_schema.columns where table_schema = 'SHOP'"
        ) == [
            ["ID", "NUMBER", 0],
            ["ZIP", "TEXT", None],
            ["AMOUNT", "NUMBER", 2],
            ["AT", "TIMESTAMP_TZ", None],
            ["NOTE", "TEXT", None],
        ]
        (shown,) = place.json("query", "show tables in schema shop")
        assert (shown["rows"], shown["comment"]) == (2, "Loaded from orders.csv by run-elt seed")
        assert place.rows("select zip, amount, note from shop.orders order by id") == [
            ["007", "12.50", None],
            ["10115", "3.00", "late"],
        ]
    # Whoever has tables needs no sample data.
    _, _, err = place.run("query", "show tables in schema raw_data")
    assert "RUN_ELT has tables of its own, so no sample data was loaded." in err


def test_table_that_is_there_is_replaced_on_request_alone_and_wholly(place: Place) -> None:
    file = place.write("orders.csv", ORDERS)
    place.write(
        "tables/raw_data/orders.sql",
        "/* elt\ncolumns: {zip: {type: varchar(5), description: its zip}}\nelt */ select 1 as zip\n",
    )
    assert place.run("seed", "raw_data.orders", file)[0] == 0
    code, out, err = place.run("seed", "raw_data.orders", file)
    assert (code, out) == (1, "")
    assert "requires a name without a table, got RUN_ELT.RAW_DATA.ORDERS: it is there. Nothing was loaded" in err
    wrong = place.write("wrong.csv", ORDERS + "3,12345678,x,,\n")
    code, out, err = place.run("seed", "raw_data.orders", wrong, "--replace", "--types", "amount number(10, 2)")
    assert (code, out) == (1, "")
    assert "wrong.csv, line 4, column zip: VARCHAR(5) requires at most 5 characters, got '12345678'" in err
    lines = '{"zip": "007", "tags": [1], "o": {"b": 1}, "v": 1}\n{"v": "x"}\n'
    code, out, err = place.run("seed", "raw_data.orders", place.write("orders.jsonl", lines), "--replace")
    assert (code, err) == (0, ""), err
    with place.resource.connect():
        columns = "select column_name, data_type, character_maximum_length, comment from information_schema.columns where table_name = 'ORDERS'"
        assert place.rows(columns) == [
            ["ZIP", "TEXT", 5, "its zip"],
            ["TAGS", "ARRAY", None, None],
            ["O", "OBJECT", None, None],
            ["V", "VARIANT", None, None],
        ]
        assert place.rows("select tags[0]::int, o:b::int, v::varchar from raw_data.orders order by zip") == [
            [1, 1, "1"],
            [None, None, "x"],
        ]
        # What it replaced comes back as after any CREATE OR REPLACE.
        place.sql(
            "drop table raw_data.orders",
            "undrop table raw_data.orders",
            "alter table raw_data.orders rename to raw_data.newest",
        )
        place.sql("undrop table raw_data.orders")
        assert place.rows("select count(*) from raw_data.orders where amount > 3") == [[1]]


def test_seed_does_not_replace_what_a_run_has_published(place: Place) -> None:
    file = place.write("orders.csv", ORDERS)
    assert place.run("seed", "raw_data.orders", file)[0] == 0
    place.write("tables/analytics/totals.sql", TOTALS.format(least=1, more=""))
    place.publish("5" * 8 + "-0000-0000-0000-000000000000")
    code, out, err = place.run("seed", "analytics.totals", file, "--replace")
    assert (code, out) == (1, "")
    assert "requires a table that no run has published, got RUN_ELT.ANALYTICS.TOTALS: run 55555555 has. " in err
    with place.resource.connect():
        assert place.rows("select count(*) from analytics.totals") == [[2]]
    assert place.run("seed", "raw_data.orders", file, "--replace")[0] == 0


def test_seed_is_refused_on_an_account(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("account", "user", "role", "warehouse", "database", "password"):
        monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", "x")
    code, out, err = place.run("seed", "raw_data.orders", place.write("orders.csv", ORDERS))
    assert (code, out) == (1, "")
    assert (
        "requires the embedded Snowflake, got account x. Nothing was loaded. Load the file there with PUT and COPY INTO."
        in err
    )


def test_query_reads_and_says_where_it_stops(shop: Place) -> None:
    code, out, err = shop.run("query", "select zip, null as nothing from raw_data.orders order by zip", "--limit", "1")
    assert (code, out.split()) == (0, ["zip", "nothing", "007", "NULL"])
    assert "There are more rows than the 1 that are printed" in err
    code, out, err = shop.run("query", "delete from raw_data.orders")
    assert (code, out) == (1, "")
    assert "requires one SELECT, WITH, SHOW or DESCRIBE, got 'DELETE'" in err
    code, _, err = shop.run("query", "select monht from raw_data.orders")
    assert code == 1
    assert "Snowflake cannot run the query, got" in err
    assert "MONHT" in err
    code, out, err = shop.run("query", "select 1 as a, 2 as a", "--json")
    assert (code, out) == (1, "")
    assert "got A several times" in err


def test_query_names_columns_as_sql_does_and_gives_each_column_one_type(shop: Place) -> None:
    sql = 'select column1::number(9, 2) as "Net sales", column1 as n from values (5), (null)'
    code, out, _ = shop.run("query", sql)
    assert (code, out.splitlines()[0].split("  ")) == (0, ['"Net sales"', "n"])
    assert shop.json("query", sql) == [{"Net sales": "5.00", "N": 5}, {"Net sales": None, "N": None}]


def test_broken_file_is_neither_previewed_nor_compared(shop: Place) -> None:
    shop.write("tables/analytics/broken.sql", "select zip from raw_data.orders, orders")
    for command in ("preview", "diff"):
        code, out, err = shop.run(command, "analytics.broken")
        assert (code, out) == (1, "")
        assert "analytics.broken requires a file without problems, got\n" in err
        assert "broken.sql:1: cannot tell which tables the SQL reads: table orders has no schema" in err
        assert err.endswith("Nothing was built. Correct the file.\n")
    assert shop.run("preview", "analytics.totals")[0] == 0


@pytest.mark.parametrize("shop", cases(("embedded", "account"), usual=["account"]), indirect=True)
def test_preview_shows_rows_and_verdicts_and_publishes_nothing(shop: Place) -> None:
    code, out, err = shop.run("preview", "analytics.totals")
    assert (code, err) == (0, ""), err
    assert out.split()[:6] == ["zip", "amount", "007", "1", "10115", "2"]
    assert "primary_key  passed" in out
    assert "Nothing was published. There is no published table yet." in out
    assert shop.candidates() == []
    shop.write("tables/analytics/totals.sql", TOTALS.format(least=9, more=""))
    code, out, _ = shop.run("preview", "analytics.totals", "--rows", "0")
    assert (code, "row_count    failed   found 2 rows, expected at least 9" in out) == (1, True)
    shop.write("tables/analytics/totals.sql", TOTALS.format(least=1, more=",\n  monht"))
    code, out, err = shop.run("preview", "analytics.totals")
    assert (code, out) == (1, "")
    assert "totals.sql:7:" in err
    assert "There is no published table yet." in err
    assert shop.candidates() == []
    assert shop.rows("select table_name from information_schema.tables where table_schema = 'ANALYTICS'") == []


@pytest.mark.parametrize("shop", cases(("embedded", "account"), usual=["account"]), indirect=True)
def test_kept_preview_is_no_rival_of_a_run_and_is_dropped_when_it_is_old(shop: Place) -> None:
    facts = shop.json("preview", "analytics.totals", "--keep")
    assert facts["columns"]["AMOUNT"] == "NUMBER(1,0)"
    assert (facts["rows"], facts["published"], len(facts["first_rows"])) == (2, False, 2)
    assert shop.rows(f"select count(*) from {facts['candidate']}") == [[2]]
    (comment,) = shop.candidates()
    marker = marker_in(comment)
    assert marker is not None
    assert marker.state == "preview"
    assert "a preview that nothing will publish" in shop.run("show")[1]
    # A run waits for a build with a newer snapshot, and fails where it may not wait.
    shop.sql(
        f"comment on table {facts['candidate']} is '[run_elt preview {marker.run_id} at 9999-01-01T00:00:00.000000Z]'"
    )
    shop.publish("aaaaaaaa")
    assert len(shop.candidates()) == 1
    shop.publish("bbbbbbbb", keep_candidates_hours=0.0)
    assert shop.candidates() == []


@pytest.mark.parametrize("shop", cases(("embedded", "account"), usual=["embedded"]), indirect=True)
def test_diff_counts_what_readers_would_see_change(shop: Place) -> None:
    code, out, err = shop.run("diff", "analytics.totals")
    assert (code, err) == (0, "")
    assert "There is no such table yet. Every row and every column is new." in out
    shop.publish("aaaaaaaa")
    assert "No difference." in shop.run("diff", "analytics.totals", "--exit-code")[1]
    shop.sql("insert into raw_data.orders values ('999', 9)", "update raw_data.orders set amount = 5 where zip = '007'")
    shop.sql("delete from raw_data.orders where zip = '10115'")
    shop.write("tables/analytics/totals.sql", TOTALS.format(least=1, more=", true as is_new"))
    facts = shop.json("diff", "analytics.totals")
    assert facts["schema"] == {"added": {"IS_NEW": "BOOLEAN"}, "removed": {}, "changed": {}}
    assert facts["rows"] == {
        "now": 2,
        "after": 2,
        "added": 1,
        "removed": 1,
        "changed": 1,
        "repeated": 0,
        "by_column": {"AMOUNT": 1},
    }
    code, out, _ = shop.run("diff", "analytics.totals", "--rows", "5", "--exit-code")
    assert code == 1
    examples = [line.split() for line in out.splitlines()[-4:]]
    assert examples == [
        ["difference", "zip", "columns"],
        ["added", "999"],
        ["changed", "007", "amount"],
        ["removed", "10115"],
    ]
    assert shop.candidates() == []
    assert shop.rows("select zip, amount from analytics.totals order by 1") == [["007", 1], ["10115", 2]]


VALUES: list[tuple[str, str, bool]] = [
    ("1.5::float", "1.5000000000001::float", True),
    ("1.5::float", "1.5001::float", False),
    ("0::float", "null::float", False),
    ("null::float", "null::float", True),
    ("'nan'::float", "'nan'::float", True),
    ("'nan'::float", "1::float", False),
    ("'inf'::float", "1::float", False),
    ("1::number(38, 0)", "1::float", True),
    ('parse_json(\'{"a": 1, "b": 2}\')', 'parse_json(\'{"b": 2, "a": 1}\')', True),
    ("array_construct(1)", "array_construct(2)", False),
    ("'2026-11-28 10:00:00 +00:00'::timestamp_tz", "'2026-11-28 12:00:00 +02:00'::timestamp_tz", False),
    ("true", "false", False),
    ("true", "null::boolean", False),
    ("'1'", "1", True),
    ("to_binary('AB')", "to_binary('AB')", True),
]


@pytest.mark.parametrize("shop", cases(("embedded", "account"), usual=["embedded"]), indirect=True)
def test_diff_compares_each_type_and_null_with_null(shop: Place) -> None:
    columns = [f"c{number}" for number in range(len(VALUES))]

    def select(side: int) -> str:
        values = ", ".join(f"{each[side]} as {column}" for each, column in zip(VALUES, columns, strict=True))
        return f"select null::int as id, {values} union all select 1, {', '.join(each[side] for each in VALUES)}"

    shop.sql("create schema other", f"create table other.found as {select(1)}")
    shop.write("tables/analytics/totals.sql", f"/* elt\nprimary_key: [id]\nelt */ {select(0)}")
    facts = shop.json("diff", "analytics.totals", "--against", "RUN_ELT.OTHER.FOUND")
    differing = {column.upper(): 2 for (_, _, same), column in zip(VALUES, columns, strict=True) if not same}
    assert facts["rows"]["by_column"] == differing


def test_increment_is_previewed_compared_shown_and_rolled_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(lay_empty_history(place.directory)))
    with place.resource.connect():
        place.sql(
            "create table raw_data.o as select column1 as id, column2::timestamp_ntz as at, column3 as v from values "
            "(1, '2024-01-01 10:00:00', 1), (2, '2024-01-01 11:00:00', 1)"
        )
        place.write(
            "tables/analytics/orders.sql",
            "/* elt\nincrement: {column: at, key: id}\nelt */\nselect id, at, v from raw_data.o",
        )
        # There is nothing to go on with: a build is the whole table.
        assert place.json("preview", "analytics.orders")["increment"] is None
        place.publish("aaaaaaaa")
        place.sql("update raw_data.o set v = 2", "insert into raw_data.o values (3, '2024-01-01 12:00:00', 1)")
        facts = place.json("preview", "analytics.orders")
        assert facts["increment"] == {"start": "2024-01-01 11:00:00", "rows": 2}
        assert (facts["rows"], [row["ID"] for row in facts["first_rows"]]) == (3, [2, 3])
        # A row that stays is none that a build removes.
        found = place.json("diff", "analytics.orders")
        assert (found["increment_start"], found["key"]) == ("2024-01-01 11:00:00", ["ID"])
        rows = found["rows"]
        assert [rows[name] for name in ("now", "after", "added", "removed", "changed")] == [1, 2, 1, 0, 1]
        rows = place.json("diff", "analytics.orders", "--whole")["rows"]
        assert [rows[name] for name in ("now", "after", "added", "removed", "changed")] == [2, 3, 1, 0, 2]
        shown = place.json("show", "analytics.orders")["details"]["analytics.orders"]["increment"]
        assert (shown["rows"], shown["run_id"], shown["start"]) == (2, "aaaaaaaa", "0001-01-01 00:00:00+00:00")
        place.publish("bbbbbbbb")
        assert (
            "last increment: 2 rows, since 2024-01-01 11:00:00, published" in place.run("show", "analytics.orders")[1]
        )
        code, out, err = place.run("rollback", "analytics.orders", "--yes")
        assert (code, err, "has the rows from before the last increment (2 rows)" in out) == (0, "", True)
        assert place.rows("select id, v from analytics.orders order by id") == [[1, 1], [2, 1]]
        assert "put back the last increment, and nothing is left to do" in place.run("rollback", "analytics.orders")[1]
        assert "that of run bbbbbbbb was rolled back" in place.run("show", "analytics.orders")[1]
        # The next run finds the same rows anew.
        place.publish("cccccccc")
        assert place.rows("select id, v from analytics.orders order by id") == [[1, 1], [2, 2], [3, 1]]


def test_partition_is_previewed_compared_listed_and_rolled_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(lay_empty_history(place.directory)))
    with place.resource.connect():
        place.sql(
            "create table raw_data.e as select column1::date as day, column2 as n from values ('2024-01-01', 1), ('2024-01-02', 2)"
        )
        place.write(
            "tables/analytics/days.sql",
            "/* elt\npartitions: {by: day, column: day, start: 2024-01-01}\nprimary_key: [day, n]\nelt */\n"
            "select day, n from raw_data.e",
        )
        for command in ("preview", "diff"):
            code, _, err = place.run(command, "analytics.days")
            assert (code, "analytics.days requires a partition, got none. Nothing was built." in err) == (1, True)
        assert place.json("show", "--partitions", "analytics.days") == {"analytics.days": []}
        tables = load_tables(place.directory / "tables")
        ((key, table),) = tables.items()
        with place.resource.session(log=print) as session:
            chosen = run_arguments("aaaaaaaa", creates_schemas=True)
            (outcome,) = run_tables(
                session, tables, [key], slices={key: table.part("2024-01-01...2024-01-02")}, **chosen
            )
        assert outcome.published, outcome.failure
        place.sql("insert into raw_data.e values ('2024-01-02', 3), ('2024-01-03', 4)")

        facts = place.json("preview", "analytics.days", "--partition", "2024-01-02")
        assert (facts["rows"], facts["published"]) == (2, False)
        assert {check["partition"] for check in facts["checks"]} == {"2024-01-02"}
        # The other partitions of the table are not taken for rows that a build removes.
        rows = place.json("diff", "analytics.days", "--partition", "2024-01-02")["rows"]
        assert (rows["now"], rows["after"], rows["added"], rows["removed"]) == (1, 2, 1, 0)
        listed = place.json("show", "--partitions", "analytics.days")["analytics.days"]
        assert [(each["partition"], each["rows"], each["run_id"]) for each in listed] == [
            ("2024-01-01", 1, "aaaaaaaa"),
            ("2024-01-02", 1, "aaaaaaaa"),
        ]
        code, out, _ = place.run("show", "--partitions", "analytics.days")
        assert (code, out.splitlines()[0]) == (0, "analytics.days: 2 partitions published")
        shown = place.json("show", "--partition", "2024-01-02", "analytics.days")
        assert shown["rows"]["analytics.days"] == [{"day": "2024-01-02", "n": 2}]
        deleted = next(
            one["sql"] for one in shown["details"]["analytics.days"]["statements"] if "DELETE FROM" in one["sql"]
        )
        assert deleted.endswith("""WHERE ("DAY" >= '2024-01-02'::DATE AND "DAY" < '2024-01-03'::DATE)""")
        for alone in ("--partitions", "--partition=2024-01-02"):
            assert place.run("show", alone)[0] == 2
        with place.resource.session(log=print) as session:
            again = run_arguments("bbbbbbbb")
            (outcome,) = run_tables(session, tables, [key], slices={key: table.part("2024-01-02")}, **again)
        assert outcome.published, outcome.failure
        assert place.run("rollback", "analytics.days", "--yes")[0] == 1
        code, out, err = place.run("rollback", "analytics.days", "--partition", "2024-01-02", "--yes")
        assert not err, err
        assert (code, "partition 2024-01-02 has the rows of before (1 row)" in out) == (0, True)
        assert (
            "An earlier command has put back" in place.run("rollback", "analytics.days", "--partition", "2024-01-02")[1]
        )
        assert "rollback of bbbbbbbb" in place.run("show", "--partitions", "analytics.days")[1]
