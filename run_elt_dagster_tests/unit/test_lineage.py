from pathlib import Path

import pytest

from run_elt_dagster.lineage import Catalogue, UnreadableSqlError, load_table, load_tables, upstream_tables
from run_elt_dagster.table import TableProblemsError

PACKAGE_TABLES = Path(__file__).parents[2] / "run_elt_dagster" / "tables"


def write_tables(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return directory


def problems_of(directory: Path, **options: str) -> list[str]:
    with pytest.raises(TableProblemsError) as caught:
        load_tables(directory, **options)
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", ()),
        ("select * from raw.a join raw.b using (id)", (("raw", "a"), ("raw", "b"))),
        ("select * from Raw.A, RAW.a", (("raw", "a"),)),
        ("select * from db.raw.a", (("db", "raw", "a"),)),
        ('select * from raw."Mixed Case"', (("raw", '"Mixed Case"'),)),
        ("with a as (select * from raw.x) select * from a", (("raw", "x"),)),
        ("with a as (select 1 as i) select * from a join raw.a on true", (("raw", "a"),)),
        (
            "select (select max(id) from raw.b) from raw.a where exists (select 1 from raw.c)",
            (("raw", "a"), ("raw", "b"), ("raw", "c")),
        ),
        ("select * from raw.a union all select * from raw.b", (("raw", "a"), ("raw", "b"))),
        ("select f.value from raw.a, lateral flatten(input => a.v) f", (("raw", "a"),)),
        ("select seq4() from table(generator(rowcount => 10))", ()),
        ("select id from raw.a qualify row_number() over (partition by id order by ts) = 1", (("raw", "a"),)),
    ],
)
def test_upstream_tables_are_read_off_the_sql(sql: str, expected: tuple[tuple[str, ...], ...]) -> None:
    assert upstream_tables(sql) == expected


@pytest.mark.parametrize("sql", ["select from from", "select * from orders", "describe table x"])
def test_sql_whose_upstream_is_unclear_is_unreadable(sql: str) -> None:
    with pytest.raises(UnreadableSqlError):
        upstream_tables(sql)


def test_shipped_tables_know_their_parents_and_sources() -> None:
    tables = load_tables(PACKAGE_TABLES)
    assert tables.parents(("analytics", "channel_summary")) == (("analytics", "session_summary"),)
    assert tables.sources == (("raw_data", "session_timestamp"), ("raw_data", "user_session_channel"))


def test_every_shipped_table_has_a_description_an_owner_and_a_primary_key() -> None:
    incomplete = [
        table.name
        for table in load_tables(PACKAGE_TABLES).values()
        if not (table.description and table.owner and table.primary_key)
    ]
    assert incomplete == []


def test_problems_of_all_files_are_reported_together(tmp_path: Path) -> None:
    directory = write_tables(
        tmp_path,
        {
            "a/bad_key.sql": "/* elt\nfoo: 1\nelt */ select 1",
            "a/empty.sql": "",
            "a/good.sql": "select 1 as id",
            "a/latin.sql": "",
            "too/deep/x.sql": "select 1",
            "flat.sql": "select 1",
        },
    )
    (directory / "a" / "latin.sql").write_bytes(b"select '\xe9'")
    starts = [problem.split(" ")[0] for problem in problems_of(directory)]
    assert starts == ["a/bad_key.sql:2:", "a/empty.sql:1:", "a/latin.sql:1:", "flat.sql:1:", "too/deep/x.sql:1:"]


def test_files_whose_names_fold_to_one_table_are_refused(tmp_path: Path) -> None:
    directory = write_tables(tmp_path, {"a/Orders.sql": "select 1", "a/orders.sql": "select 1"})
    (problem,) = problems_of(directory)
    assert problem.startswith("a/orders.sql:1: a.orders requires one file, got a second: ")


def test_tables_that_depend_on_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    directory = write_tables(
        tmp_path, {"a/x.sql": "select * from a.y", "a/y.sql": "select * from a.z", "a/z.sql": "select * from a.x"}
    )
    (problem,) = problems_of(directory)
    assert "tables cannot depend on each other in a circle, got a." in problem


def test_table_that_reads_itself_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(write_tables(tmp_path, {"a/x.sql": "select * from a.x"}))
    assert problem.startswith("a/x.sql:1: a.x cannot read itself")


def test_name_with_the_session_database_is_the_declared_table(tmp_path: Path) -> None:
    directory = write_tables(tmp_path, {"a/x.sql": "select 1 as i", "a/y.sql": "select * from Prod.a.x"})
    assert load_tables(directory, database="PROD").parents(("a", "y")) == (("a", "x"),)
    assert load_tables(directory, database="OTHER").sources == (("prod", "a", "x"),)


def test_unreadable_sql_requires_upstream_and_is_built_with_it(tmp_path: Path) -> None:
    sql = "select * from a.x match_something_new (( partition"
    directory = write_tables(tmp_path, {"a/x.sql": "select 1 as i", "a/y.sql": sql})
    (problem,) = problems_of(directory)
    assert problem.startswith("a/y.sql:1: cannot tell which tables the SQL reads:")
    assert "upstream: [raw_data.events]" in problem
    write_tables(tmp_path, {"a/y.sql": f"/* elt\nupstream: [a.x]\nelt */{sql}"})
    tables: Catalogue = load_tables(directory)
    assert tables.parents(("a", "y")) == (("a", "x"),)
    assert tables["a", "y"].sql == sql


def test_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    assert "got no SQL file" in problems_of(tmp_path)[0]
    assert "RUN_ELT_TABLES_DIR requires a folder" in problems_of(tmp_path / "nowhere")[0]


def test_one_table_is_loaded_when_every_other_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_tables(
        tmp_path / "tables",
        {
            "a/good.sql": "select * from unreadable from",
            "a/bad.sql": "/* elt\nnosuch: 1\nelt */ select 1",
            "too/deep/bad.sql": "select 1",
            "a/bytes.sql": "select 1",
        },
    )
    (tmp_path / "tables" / "a" / "bytes.sql").write_bytes(b"\xff\xfe")
    (tmp_path / "tables" / "a" / "dangling.sql").symlink_to("nowhere")
    for name in ("a.good", "A/Good"):
        assert load_table(tmp_path / "tables", name).name == "a.good"


def test_one_table_is_loaded_through_a_linked_folder_and_in_any_case(tmp_path: Path) -> None:
    write_tables(tmp_path / "shared", {"Orders.SQL": "select 1 as n"})
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "Sales").symlink_to(tmp_path / "shared")
    assert load_table(tmp_path / "tables", "sales.orders").name == "sales.orders"


def test_one_table_without_a_file_is_refused_with_what_is_near(tmp_path: Path) -> None:
    write_tables(tmp_path, {"a/orders.sql": "broken (", ".checkpoints/orderss.sql": "", "a/._orders.sql": ""})
    with pytest.raises(ValueError, match=r"got a\.ordres: .* Nothing was done\. Did you mean a\.orders\?"):
        load_table(tmp_path, "a.ordres")
    with pytest.raises(ValueError, match=r"Known tables: a\.orders\.$"):
        load_table(tmp_path, "quite-different")
    with pytest.raises(TableProblemsError, match="requires a folder"):
        load_table(tmp_path / "nowhere", "a.orders")


def test_one_table_with_two_files_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, {"a/orders.sql": "select 1", "a/ORDERS.sql": "select 2"})
    with pytest.raises(
        TableProblemsError, match=r"orders\.sql:1: a\.orders requires one file, got a second: .*ORDERS\.sql"
    ):
        load_table(tmp_path, "a.orders")
