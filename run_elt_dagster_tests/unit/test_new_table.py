"""`run-elt new` and `run-elt lint`, by what they leave in a folder and print."""

import json
import os
from pathlib import Path

import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.front_matter import read_settings
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.new_table import new_table

BASE = """/* elt
columns: {id: int, '"Net"': 'number(10, 2)', at: timestamp_tz, text: varchar, data: variant, free: }
elt */
select * from raw_data.base
"""


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one table, and the working directory above it."""
    folder = tmp_path / "tables"
    (folder / "Analytics").mkdir(parents=True)
    (folder / "Analytics" / "base.sql").write_text(BASE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(folder))
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}


def lines_without_comments(text: str) -> list[str]:
    lines = text.partition("elt */")[2].splitlines()
    return [line.strip() for line in lines if line and not line.startswith("--")]


def test_new_table_loads_with_its_source_and_its_settings(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "analytics/Orders_Daily"
    assert main(["new", name, "--from", "raw_data.orders", "--key", 'day,"Net id"', "--owner", "team:a-b"]) == 0
    assert capsys.readouterr().out == (
        "wrote tables/Analytics/orders_daily.sql\n"
        "wrote tables/Analytics/orders_daily.test.yaml\n\n"
        "Next: edit the query, its description and its tests. Then:\n"
        "  run-elt lint analytics.orders_daily\n"
        "  run-elt test analytics.orders_daily\n"
        "  dagster asset materialize --select analytics/orders_daily -m run_elt_dagster\n"
    )
    found = load_tables(tables)
    made = found["analytics", "orders_daily"]
    assert found.upstream[made.key] == (("raw_data", "orders"),)
    assert (made.owner, made.primary_key) == ("team:a-b", ("day", '"Net id"'))
    assert made.description
    assert main(["lint"]) == 0


@pytest.mark.parametrize(
    ("source", "key", "query", "row"),
    [
        (None, (), ["select 1 as id"], {"id": 1}),
        (None, ("a", "b"), ["select", "1 as a,", "1 as b"], {"a": 1, "b": 1}),
        ("raw_data.orders", ("day",), ["select *", "from raw_data.orders"], {"day": 1}),
        (
            "ANALYTICS.Base",
            (),
            ["select", "id,", '"Net",', "at,", "text,", "data,", "free", "from ANALYTICS.Base"],
            {"id": 1, '"Net"': 1, "text": "a", "data": None, "free": 1},
        ),
    ],
)
def test_test_of_a_new_table_gives_and_expects_the_columns_of_its_query(
    tables: Path, source: str | None, key: tuple[str, ...], query: list[str], row: dict[str, object]
) -> None:
    made = new_table(tables, "analytics.made", source=source, key=key)
    assert lines_without_comments(made.sql) == query
    (case,) = read_settings(made.test).values["cases"].values()
    (given,) = case["given"].get(source, case["expect"])
    assert {name: value for name, value in given.items() if name != "at"} == row
    assert case["expect"] == [given]
    assert set(case["given"]) == ({source} if source else set())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analytics.BASE"], "Analytics/base.sql is there. Nothing was written."),
        (["made"], "requires schema.table, got made. Nothing was written."),
        (["analytics.a-b", "--owner", "Joe"], "got 'a-b'. owner: requires an e-mail address"),
        (["analytics.made", "--from", "orders"], "requires --from schema.table, got orders without a schema"),
        (["analytics.made", "--from", "a..b"], "requires --from schema.table, got a..b: a name requires"),
        (["analytics.made", "--from", "analytics.made"], "analytics.made cannot read itself"),
        (["analytics.made", "--from", "analytics.bse"], "Did you mean analytics.base?"),
        (["analytics.made", "--key", "a b"], "primary_key.0: requires a letter"),
    ],
)
def test_new_table_writes_nothing_when_it_would_not_load(
    tables: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = contents(tables)
    assert main(["new", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert contents(tables) == before


def test_new_table_takes_its_first_file_back_when_the_second_came_up_meanwhile(tables: Path) -> None:
    made = new_table(tables, "analytics.made")
    made.sql_path.write_text("select 2 as id", encoding="utf-8")
    before = contents(tables)
    with pytest.raises(ValueError, match=r"made\.sql is there"):
        made.write()
    assert contents(tables) == before


def test_new_table_needs_the_folder_and_no_other_right_file(
    tables: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tables / "Analytics" / "base.sql").write_text("not sql", encoding="utf-8")
    assert main(["new", "other.made"]) == 0
    assert (tables / "other" / "made.sql").is_file()
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tables / "none"))
    assert main(["new", "other.made"]) == 1
    assert "requires the folder of table files, got none at" in capsys.readouterr().err


def test_lint_lists_all_problems_of_all_files_with_their_lines(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tables / "Analytics" / "a.sql").write_text("/* elt\nowner: Joe\nelt */\nselect 1 as id, from", encoding="utf-8")
    (tables / "Analytics" / "b.sql").write_text("select * from analytics.bse", encoding="utf-8")
    assert main(["lint"]) == 1
    *problems, summary = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in problems] == ["tables/Analytics/a.sql:2", "tables/Analytics/b.sql:1"]
    assert summary == "2 problems in 3 table files"

    assert main(["lint", "analytics.base"]) == 0
    assert capsys.readouterr().out == "no problems in 1 table file\n"
    assert main(["lint", "--json", "analytics/B"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["path"], problem["line"]) == ("tables/Analytics/b.sql", 1)
    assert main(["lint", str(Path("tables", "Analytics", "b.sql"))]) == 1
    assert capsys.readouterr().out.endswith("\n1 problem in 1 table file\n")
    assert main(["lint", "analytics.bses"]) == 1
    assert "requires declared tables, got analytics.bses: no file declares it. " in (err := capsys.readouterr().err)
    assert "Did you mean analytics.base?" in err
    assert main(["lint", "c.c"]) == 1
    assert "Known tables: analytics.a, analytics.b, analytics.base." in capsys.readouterr().err


def test_lint_takes_another_folder_and_fails_where_there_is_none(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tables.parent / "more" / "s").mkdir(parents=True)
    assert main(["lint", "--tables-dir", "more"]) == 1
    assert "got no SQL file" in capsys.readouterr().out
    (tables.parent / "more" / "s" / "t.sql").write_text("select 1 as id", encoding="utf-8")
    assert main(["lint", "--tables-dir", "more"]) == 0
    assert main(["lint", "--tables-dir", f"more{os.sep}none", "s.t"]) == 1
