"""Where columns come from through the tables of a folder, what is remembered of it, and what Dagster and a person see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.column_lineage import ColumnLineage, Step, read_columns
from run_elt_dagster.model.lineage import Catalogue, load_tables
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.origins import (
    ColumnRef,
    Columns,
    Output,
    Rest,
    Unknown,
    columns_of_table,
    opaque,
    read,
    written,
)
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration import columns as recorded
from run_elt_dagster.orchestration.columns import column_metadata

FILES = {
    "a/base": "select id, upper(name) as name, amount from raw.orders",
    "a/wide": "/* elt\ncolumns: {id: int, name: varchar, seen: date}\nelt */\nselect *, current_date as seen from raw.people",
    "a/star": "select b.*, w.name as who from run_elt.a.base b join a.wide w on w.id = b.id",
    "a/sums": "select who, sum(amount) as total, count(*) as n from a.star group by who",
    "a/open": "select * from raw.events",
    "a/after": "select kind, f.value as item from a.open, lateral flatten(items) f",
}


class Reader:
    """Reads SQL, and counts it."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, sql: str, tables: Callable[[Key], Columns]) -> Columns:
        self.texts.append(sql)
        return read_columns(sql, tables)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "tables" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "tables"


def lineage_in(folder: Path, **options: Any) -> ColumnLineage:
    return ColumnLineage(load_tables(folder, database="RUN_ELT"), **options)


def told(lineage: ColumnLineage, table: str) -> dict[str, str]:
    return {
        name: f"? {origin.reason}" if isinstance(origin, Unknown) else " ".join(map(str, sorted(origin)))
        for name, origin in lineage.shown(("a", table))
    }


def drawn(step: Step) -> dict[str, Any]:
    return {str(step.column): [drawn(each) for each in step.steps]}


def test_columns_come_from_the_next_tables_whatever_they_are_called(folder: Path) -> None:
    lineage = lineage_in(folder)
    assert told(lineage, "star") == {
        "ID": "a.base.id",
        "NAME": "a.base.name",
        "AMOUNT": "a.base.amount",
        "WHO": "a.wide.name",
    }
    assert told(lineage, "sums") == {"WHO": "a.star.who", "TOTAL": "a.star.amount", "N": ""}
    # `columns` says which columns a star stands for; others would fail the table.
    assert told(lineage, "wide") == {"ID": "raw.people.id", "NAME": "raw.people.name", "SEEN": ""}
    assert told(lineage, "open") == {}
    assert lineage.unnamed(("a", "open")) == ["the columns of raw.events are not known"]
    assert told(lineage, "after") == {"KIND": "a.open.kind", "ITEM": "a.open.items"}


def test_columns_of_sources_are_taken_where_they_are_known(folder: Path) -> None:
    lineage = lineage_in(folder, sources={("raw", "events"): ["KIND", "ITEMS"]})
    assert told(lineage, "open") == {"KIND": "raw.events.kind", "ITEMS": "raw.events.items"}


def test_steps_lead_to_the_sources_and_back(folder: Path) -> None:
    lineage = lineage_in(folder)
    up = lineage.upstream(ColumnRef(("a", "sums"), "TOTAL"))
    assert drawn(up) == {"a.sums.total": [{"a.star.amount": [{"a.base.amount": [{"raw.orders.amount": []}]}]}]}
    down = lineage.downstream(ColumnRef(("raw", "orders"), "AMOUNT"))
    assert drawn(down) == {"raw.orders.amount": [{"a.base.amount": [{"a.star.amount": [{"a.sums.total": []}]}]}]}
    # A column that cannot be told may come from anything that its table reads.
    assert list(lineage.doubtful(("raw", "events"))) == [
        ("columns of a.open", "the columns of raw.events are not known")
    ]


def test_column_is_read_once_and_again_only_when_something_changes(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "columns.json"

    def asked() -> list[str]:
        reader = Reader()
        lineage = lineage_in(folder, path=path, read_sql=reader)
        found = [lineage.of(key) for key in load_tables(folder, database="RUN_ELT")]
        assert found == [lineage_in(folder).of(key) for key in load_tables(folder, database="RUN_ELT")]
        lineage.save()
        return reader.texts

    assert len(asked()) == len(FILES)
    assert asked() == []
    # A star means other columns when the table behind it has others.
    (folder / "a" / "base.sql").write_text("select id, name, amount, tax from raw.orders")
    changed = asked()
    assert len(changed) == 3
    assert [text for text in changed if "from raw.orders" in text or "b.*" in text or "sum(amount)" in text] == changed
    path.write_text("{", encoding="utf-8")
    assert len(asked()) == len(FILES)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["columns"] |= {next(iter(content["columns"])): "["}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [len(asked()), len(asked())] == [1, 0]


def test_long_chain_of_tables_is_followed() -> None:
    keys = [("a", f"t{number}") for number in range(1200)]
    tables = [
        AnalyticsTable.model_validate({"schema": "a", "table": name, "sql": f"select {number}"})
        for number, (_, name) in enumerate(keys)
    ]
    parents = {key: keys[max(at - 1, 0) : at] or [("raw", "s")] for at, key in enumerate(keys)}
    lineage = ColumnLineage(
        Catalogue(tables, {key: tuple(upstream) for key, upstream in parents.items()}),
        sources={("raw", "s"): ["X"]},
        # Each takes all columns of the table before it.
        read_sql=lambda sql, given: given(parents[keys[int(sql.split()[-1])]][0]),
    )
    assert lineage.of(keys[-1]).names == ("X",)
    step = lineage.upstream(ColumnRef(keys[-1], "X"))
    while step.steps:
        (step,) = step.steps
    assert (step.column.table, step.unknown) == (
        keys[-101],
        "more than 100 tables are between: ask for this column by itself",
    )


def test_columns_are_the_same_when_they_are_written_and_read() -> None:
    columns = Columns(
        (
            Output("A", frozenset({ColumnRef(("s", "t"), "x y"), ColumnRef(("d", "s", "t"), "B")})),
            Output(None, Unknown("why")),
            Rest(("s", "t"), "why", frozenset({"A"})),
            *opaque("no").items,
        ),
        is_ordered=False,
    )
    assert read(json.loads(json.dumps(written(columns)))) == columns
    assert read(json.loads(json.dumps(written(columns_of_table(("s", "t"), ["A"]))))).names == ("A",)


def test_materialization_has_the_columns_that_are_known_and_a_text_of_all(folder: Path) -> None:
    warnings: list[str] = []
    metadata = column_metadata(lineage_in(folder), ("a", "sums"), warn=warnings.append)
    assert metadata["dagster/column_lineage"] == dg.TableColumnLineage(
        {
            "who": [dg.TableColumnDep(dg.AssetKey(["a", "star"]), "who")],
            "total": [dg.TableColumnDep(dg.AssetKey(["a", "star"]), "amount")],
            "n": [],
        }
    )
    assert metadata["column_lineage"].value.splitlines()[2:] == [
        "| who | a.star.who |",
        "| total | a.star.amount |",
        "| n | no column |",
    ]
    unknown = column_metadata(lineage_in(folder), ("a", "open"), warn=warnings.append)
    assert "dagster/column_lineage" not in unknown
    assert (
        "| *other columns* | unknown, because the columns of raw.events are not known |"
        in unknown["column_lineage"].value
    )
    assert warnings == []


def test_lineage_of_other_columns_than_the_table_has_is_not_recorded(folder: Path) -> None:
    """A star gives what a table has, and not what its file says: it may not be built yet as its file stands."""
    built = ["ID", "NAME", "AMOUNT", "Kind"]
    metadata = column_metadata(lineage_in(folder), ("a", "star"), built=built, warn=pytest.fail)
    assert "dagster/column_lineage" not in metadata
    assert metadata["column_lineage"].startswith(
        'unknown: the table has other columns than the files give (more: "Kind"; missing: who). '
    )
    same = column_metadata(lineage_in(folder), ("a", "star"), built=[*built[:3], "WHO"], warn=pytest.fail)
    assert same == column_metadata(lineage_in(folder), ("a", "star"), warn=pytest.fail)


def test_lineage_that_fails_or_is_too_wide_does_not_lose_the_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_sql: str, _tables: Callable[[Key], Columns]) -> Columns:
        raise AttributeError("secret")

    warnings: list[str] = []
    assert column_metadata(lineage_in(folder, read_sql=broken), ("a", "base"), warn=warnings.append) == {}
    (warning,) = warnings
    assert warning.startswith(
        "The column lineage of a.base cannot be worked out, got AttributeError. The table is published"
    )
    assert "secret" not in warning
    monkeypatch.setattr(recorded, "MOST_COLUMNS", 2)
    wide = column_metadata(lineage_in(folder), ("a", "base"), warn=warnings.append)
    assert wide == {"column_lineage": "3 columns: run-elt lineage a.base shows where they come from"}


@pytest.fixture
def command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(folder))
    monkeypatch.setenv("RUN_ELT_CACHE_DIR", str(tmp_path / "cache"))

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["lineage", *arguments]) == code
        told = capsys.readouterr()
        return told.err if code else told.out

    return run


def test_command_draws_the_columns_behind_a_table(command: Callable[..., str]) -> None:
    assert command("a.sums").splitlines() == [
        "a.sums",
        "├── who",
        "│   └── a.star.who",
        "│       └── a.wide.name",
        "│           └── raw.people.name",
        "├── total",
        "│   └── a.star.amount",
        "│       └── a.base.amount",
        "│           └── raw.orders.amount",
        "└── n  (comes from no column)",
    ]
    assert "other columns unknown, because the columns of raw.events are not known" in command("a/open")


def test_command_draws_what_comes_from_a_column_and_what_may(command: Callable[..., str]) -> None:
    assert command("raw.people.name", "--downstream").splitlines()[:3] == [
        "raw.people  (no file declares it)",
        "└── name",
        "    └── a.wide.name",
    ]
    assert "nope  (no file reads a column of this name)" in command("raw.people.nope", "--downstream")
    assert "columns of a.open: unknown, because the columns of raw.events are not known" in command(
        "raw.events", "--downstream"
    )
    facts = json.loads(command("raw.orders.amount", "--downstream", "--json"))
    assert facts["columns"][0]["to"][0]["column"] == "a.base.amount"


def test_command_takes_the_columns_of_sources_from_their_last_observations(
    command: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not known" in command("a.open")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    with dg.DagsterInstance.get() as instance:
        for names in (("kind",), ("kind", "items", '"Net sales"')):
            schema = dg.TableSchema([dg.TableColumn(name, type="VARIANT") for name in names])
            observation = dg.AssetObservation(["raw", "events"], metadata={"dagster/column_schema": schema})
            instance.report_runless_asset_event(observation)
    told = command("a.open")
    assert told.splitlines()[:7] == [
        "a.open",
        "├── kind",
        "│   └── raw.events.kind",
        "├── items",
        "│   └── raw.events.items",
        '└── "Net sales"',
        '    └── raw.events."Net sales"',
    ]
    assert "They may have changed since:\n  raw.events: 20" in told
    facts = json.loads(command("a.open", "--json"))
    assert facts["columns"][1]["from"] == [{"column": "raw.events.items", "from": []}]
    assert list(facts["sources_observed"]) == ["raw.events"]
    # Of a source, all columns are listed that it has, and not only those that are read.
    assert '└── "Net sales"' in command("raw.events", "--downstream")
    # It may have another one since.
    assert "nope  (no file reads a column of this name)" in command("raw.events.nope", "--downstream")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.nope", "requires a table that a file declares or that one reads, got a.nope. Did you mean a.open"),
        ("b.nothing", "that one reads, got b.nothing. run-elt show lists the declared tables."),
        ("a.base.nope", "requires a column of a.base, got a.base.nope. It has 3 columns, as id, name, amount."),
        ("a.base.amuont", "requires a column of a.base, got a.base.amuont. It has 3 columns, as amount."),
        ("a b", "run-elt lineage requires schema.table or schema.table.column, got a b: "),
    ],
)
def test_command_refuses_a_name_that_means_nothing(command: Callable[..., str], name: str, text: str) -> None:
    assert text in command(name, code=1)


def test_command_shows_the_others_where_one_file_is_broken(
    command: Callable[..., str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a" / "broken.sql").write_text("select x from a.base, orders", encoding="utf-8")
    assert main(["lineage", "a.base"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("a.base\n")
    assert "broken.sql:1: cannot tell which tables the SQL reads" in told.err
    for name in ("a.broken", "A/broken", "a.broken.x"):
        problems = command(name, code=1)
        assert problems.startswith("run-elt: a.broken requires a file without problems, got\n")
        assert problems.endswith("Nothing was shown. Correct the file.\n")
