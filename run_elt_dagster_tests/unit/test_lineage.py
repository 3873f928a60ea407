import contextlib
import gc
import os
from pathlib import Path

import pytest

from run_elt_dagster.model.lineage import Catalogue, load_tables
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table_files import load_table

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


@pytest.mark.parametrize("threshold", [700, 0, 50_000])
@pytest.mark.parametrize("sql", ["select 1 as id", "no query"])
def test_loading_leaves_garbage_collection_as_it_was(tmp_path: Path, threshold: int, sql: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "t.sql").write_text(sql)
    before = gc.get_threshold()
    gc.set_threshold(threshold, *before[1:])
    try:
        with contextlib.suppress(TableProblemsError):
            load_tables(tmp_path)
        assert gc.get_threshold() == (threshold, *before[1:])
    finally:
        gc.set_threshold(*before)


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


@pytest.mark.parametrize(
    ("database", "written"), [("prod", "PROD"), ('"my-db"', '"my-db"'), ("my-db", '"my-db"'), ("PROD", "prod")]
)
def test_session_database_is_recognised_however_it_is_written(tmp_path: Path, database: str, written: str) -> None:
    directory = write_tables(
        tmp_path,
        {
            "public/x.sql": "select 1 as i",
            "a/y.sql": f"select * from {written}.public.x",
            "a/z.sql": f"select * from {written}..x",
        },
    )
    tables = load_tables(directory, database=database)
    assert tables.parents(("a", "y")) == tables.parents(("a", "z")) == (("public", "x"),)


def names_of(directory: Path) -> list[str]:
    return [table.name for table in load_tables(directory).values()]


def test_unreadable_sql_requires_upstream_and_is_built_with_it(tmp_path: Path) -> None:
    sql = "select * from a.x match_something_new (( partition"
    directory = write_tables(tmp_path, {"a/x.sql": "select 1 as i", "a/y.sql": sql})
    (problem,) = problems_of(directory)
    assert problem.startswith("a/y.sql:1: cannot tell which tables the SQL reads: it cannot be read near ")
    assert "if Snowflake takes it as it is, name every table that it reads" in problem
    assert "upstream: [raw_data.events]" in problem
    write_tables(tmp_path, {"a/y.sql": f"/* elt\nupstream: [a.x]\nelt */{sql}"})
    tables: Catalogue = load_tables(directory)
    assert tables.parents(("a", "y")) == (("a", "x"),)
    assert tables["a", "y"].sql == sql


def test_upstream_adds_to_what_can_be_read_beside_a_computed_name(tmp_path: Path) -> None:
    sql = "select * from s.a join identifier($v) using (i)"
    directory = write_tables(tmp_path, {"a/y.sql": sql})
    assert "the name in identifier(...) is computed when it runs" in problems_of(directory)[0]
    write_tables(tmp_path, {"a/y.sql": f"/* elt\nupstream: s.b\nelt */{sql}"})
    assert load_tables(directory).upstream["a", "y"] == (("s", "a"), ("s", "b"))


def test_upstream_does_not_hide_a_name_without_a_schema_that_it_does_not_name(tmp_path: Path) -> None:
    sql = "select * from orders join users using (i)"
    directory = write_tables(
        tmp_path, {"a/y.sql": f"/* elt\nupstream: [raw.orders]\nelt */{sql}", "b/users.sql": "select 1 as i"}
    )
    (problem,) = problems_of(directory)
    assert problem.startswith("a/y.sql:3: cannot tell which tables the SQL reads: table users has no schema")
    # Where a file declares a table of that name, it is offered.
    assert problem.endswith("Write b.users.")


def test_upstream_takes_names_in_quotes(tmp_path: Path) -> None:
    directory = write_tables(
        tmp_path,
        {
            "a/net.sql": "/* elt\nidentifier: '\"Net sales\"'\nelt */ select 1 as i",
            "a/y.sql": "/* elt\nupstream: ['A.\"Net sales\"']\nelt */ select * from s.view",
        },
    )
    assert load_tables(directory).parents(("a", "y")) == (("a", "net"),)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_error_in_the_sql_names_the_line_of_the_file(tmp_path: Path, start: str, line_end: str) -> None:
    matter = f"{start}/* elt\nowner: team:a\nelt */\n-- first\nselect *\n"
    bodies = {
        "a/circle.sql": "from s.x\njoin a.back using (i)",
        "a/back.sql": "from s.x\njoin a.circle using (i)",
    }
    others = {
        "a/broken.sql": "from s.x\nwhere i::array(number not null)",
        "a/computed.sql": "from s.x\n, identifier($v)",
        "a/itself.sql": "from s.x\njoin a.itself using (i)",
        "a/names.sql": "from s.x\njoin orders using (i) join users using (i)",
        "a/template.sql": "from s.x\njoin {{ ref('orders') }} using (i)",
    }
    line = 7 + start.count("\n")
    for files in (bodies, others):
        (tmp_path / str(len(files))).mkdir()
        text = {name: (matter + body).replace("\n", line_end) for name, body in files.items()}
        found = problems_of(write_tables(tmp_path / str(len(files)), text))
        assert {problem.split(": ")[0].partition(":")[2] for problem in found} == {str(line)}, found


def test_messages_about_sql_are_words_of_the_author(tmp_path: Path) -> None:
    broken = [
        "select 'abc",
        "select * from",
        "select x::array(int not null) from s.t",
        "select * from <% t %>",
        "select * from t",
    ]
    files = {f"a/t{at}.sql": text for at, text in enumerate(broken)}
    for problem in problems_of(write_tables(tmp_path, files)):
        assert not any(
            word in problem for word in ("Token", "ParseError", "sqlglot", "\x1b", "..", "None", "class ")
        ), problem


def test_check_that_cannot_be_read_is_reported_with_its_line(tmp_path: Path) -> None:
    text = """/* elt
checks:
  sql:
    first: select * from {table} join x using (i)
    second:
      severity: warn
      query: |
        select * from {table}
        where y::array(int not null)
    third: select * from {{ table }} join {table} using (i)
    fourth: select * from {table} join a.y using (i)
  relationship:
    i: s.parents.i
elt */
select 1 as i
"""
    found = problems_of(write_tables(tmp_path, {"a/y.sql": text}))
    assert [problem.split(": ")[0] for problem in found] == ["a/y.sql:4", "a/y.sql:7", "a/y.sql:10", "a/y.sql:11"]
    assert "checks.sql.first reads: table x has no schema" in found[0]
    assert "checks.sql.second reads: it cannot be read near 'array'" in found[1]
    assert "checks.sql.third cannot hold templates, got {{ table }}" in found[2]


@pytest.mark.parametrize(
    "query",
    [
        "select 1 where '{table}' = 'x'",
        "select * from s.t where note = '{table}'",
        "select {table}.id from s.t",
    ],
)
def test_check_that_does_not_read_the_candidate_is_refused(tmp_path: Path, query: str) -> None:
    text = f"/* elt\nchecks:\n  sql:\n    c: |\n      {query}\nelt */ select 1 as id"
    (problem,) = problems_of(write_tables(tmp_path, {"a/y.sql": text}))
    assert problem.startswith("a/y.sql:4: checks.sql.c requires {table} behind FROM or JOIN")


def test_check_reads_the_candidate_in_every_way(tmp_path: Path) -> None:
    queries = [
        "with q as (select * from {table} join s.u using (id)) select * from q",
        "select * from s.u where id not in (select id from {table})",
        "select * from identifier('{table}')",
        "select * from table({table})",
        "(select id from {table} minus select id from s.u); -- orphans",
    ]
    checks = "".join(f"    c{at}: |\n      {query}\n" for at, query in enumerate(queries))
    text = f"/* elt\nchecks:\n  sql:\n{checks}elt */ select 1 as id"
    tables = load_tables(write_tables(tmp_path, {"a/y.sql": text}))
    assert tables.upstream["a", "y"] == (("s", "u"),)
    assert tables["a", "y"].checks.sql["c4"].query == "(select id from {table} minus select id from s.u)"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("delete from {table}", "requires a query of the rows that are wrong (SELECT or WITH), got delete"),
        ("select * from {table}; drop table x", "requires one statement, got a second one that starts with drop"),
        ('select * from "{table}"', "requires {table} without double quotes"),
    ],
)
def test_check_that_is_no_query_is_refused_with_its_line(tmp_path: Path, query: str, says: str) -> None:
    text = f"/* elt\nchecks:\n  sql:\n    c: '{query}'\nelt */ select 1 as id"
    (problem,) = problems_of(write_tables(tmp_path, {"a/y.sql": text}))
    assert problem.startswith(f"a/y.sql:4: checks.sql.c.query: {says}")


def test_table_that_is_read_by_the_name_of_its_file_instead_of_its_identifier_is_refused(tmp_path: Path) -> None:
    files = {
        "a/orders.sql": "/* elt\nidentifier: '\"Net sales\"'\nchecks:\n  relationship: {i: a.orders.i}\nelt */ select 1 as i",
        "a/check.sql": "/* elt\nchecks:\n  relationship:\n    i: A.Orders.i\nelt */ select 1 as i",
        "a/sql.sql": "/* elt\nelt */\n\nselect * from prod.a.orders",
        "a/stated.sql": "/* elt\nowner: team:a\nupstream:\n  - a.orders\nelt */ select 1 as i",
    }
    found = problems_of(write_tables(tmp_path, files), database="PROD")
    assert sorted(problem.split(": ")[0] for problem in found) == [f"{name}:4" for name in sorted(files)]
    for problem in found:
        assert problem.endswith('Snowflake would look for another table. Write a."Net sales".')


def test_misspelt_table_is_an_error_that_offers_the_declared_one(tmp_path: Path) -> None:
    texts = {
        "sql": "/* elt\nelt */\nselect *\nfrom analytics.mau_sumary",
        "schema": "/* elt\nelt */\nselect *\nfrom analytic.mau_summary",
        "check": "/* elt\nchecks:\n  sql:\n    c: select * from {table} join analytics.mau_sumary using (i)\nelt */select 1 as i",
        "parent": "/* elt\nchecks:\n  relationship:\n    i: analytics.mau_sumary.i\nelt */select 1 as i",
        "upstream": "/* elt\nowner: team:a\nupstream:\n  - analytics.mau_sumary\nelt */select * from s.view",
    }
    for name, text in texts.items():
        directory = write_tables(tmp_path / name, {"analytics/mau_summary.sql": "select 1 as i", f"a/{name}.sql": text})
        (problem,) = problems_of(directory)
        assert problem.startswith(f"a/{name}.sql:4: ")
        assert "Did you mean analytics.mau_summary?" in problem


def test_table_that_something_else_builds_may_have_a_near_name_when_upstream_says_so(tmp_path: Path) -> None:
    declared = {"analytics/mau_summary.sql": "select 1 as i"}
    reading = {"a/x.sql": "select * from analytics.wau_summary", "b/y.sql": "select * from analytics.wau_summary"}
    assert len(problems_of(write_tables(tmp_path / "1", declared | reading))) == 2
    meant = {"a/x.sql": "/* elt\nupstream: [analytics.wau_summary]\nelt */ select * from analytics.wau_summary"}
    tables = load_tables(write_tables(tmp_path / "2", declared | reading | meant))
    assert tables.sources == (("analytics", "wau_summary"),)
    # In upstream alone, with its database.
    view = {"a/x.sql": "/* elt\nupstream: [prod.analytics.wau_summary]\nelt */ select * from s.view"}
    tables = load_tables(write_tables(tmp_path / "3", declared | view), database="PROD")
    assert tables.sources == (("analytics", "wau_summary"), ("s", "view"))


def test_table_whose_file_has_another_problem_is_no_misspelt_one(tmp_path: Path) -> None:
    files = {"a/orders.sql": "select 1 as i", "a/order.sql": "selec 1", "b/x.sql": "select * from a.order"}
    (problem,) = problems_of(write_tables(tmp_path, files | {"b/x.sql": 'select * from a."ORDER"'}))
    assert problem.startswith("a/order.sql:1: ")


def test_mounted_config_map_is_each_table_once(tmp_path: Path) -> None:
    write_tables(tmp_path, {"..2026_11_27/x.sql": "select 1 as i", "..2026_11_27/y.sql": "select * from analytics.x"})
    (tmp_path / "..data").symlink_to("..2026_11_27")
    (tmp_path / "analytics").mkdir()
    for name in ("x.sql", "y.sql"):
        (tmp_path / "analytics" / name).symlink_to(f"../..data/{name}")
    assert names_of(tmp_path) == ["analytics.x", "analytics.y"]


def test_names_that_begin_with_a_dot_are_no_tables(tmp_path: Path) -> None:
    names = ["a/.ipynb_checkpoints/x-checkpoint.sql", "a/._x.sql", "a/.sql", ".git/a/x.sql", ".a/x.sql"]
    write_tables(
        tmp_path, {**dict.fromkeys(names, "no SQL"), "a/x.sql": "select 1 as i", "a/x.sql~": "", "a/x.sql.bak": ""}
    )
    (tmp_path / "a" / ".#x.sql").symlink_to("nobody@host:1")
    assert names_of(tmp_path) == ["a.x"]


def test_linked_schema_and_upper_case_suffix_are_read(tmp_path: Path) -> None:
    write_tables(tmp_path / "elsewhere", {"x.sql": "select 1 as i"})
    tables = write_tables(tmp_path / "tables", {"a/Y.SQL": "select 1 as i", "a/z.Sql": "select 1 as i"})
    (tables / "a" / "v.sql ").write_text("select 1 as i", encoding="utf-8")
    (tables / "linked").symlink_to("../elsewhere")
    (tables / "a" / "w.sql").symlink_to("Y.SQL")
    assert names_of(tables) == ["a.y", "a.v", "a.w", "a.z", "linked.x"]


def test_what_cannot_be_read_is_an_error_with_its_path(tmp_path: Path) -> None:
    directory = write_tables(
        tmp_path, {"a/good.sql": "select 1 as i", "a/folder.sql/x.sql": "select 1", "1a/x.sql": "select 1"}
    )
    os.mkfifo(directory / "a" / "pipe.sql")
    links = {
        "a/dangling.sql": "nowhere.sql",
        "a/itself.sql": "itself.sql",
        "a/device.sql": "/dev/null",
        # A file that exists and refuses to be read, whoever asks.
        "a/refused.sql": "/proc/self/mem",
        "a/up": "..",
        "gone": "nowhere",
        "circle": ".",
    }
    for name, target in links.items():
        (directory / name).symlink_to(target)
    names = {problem.partition(":")[0] for problem in problems_of(directory)}
    assert names == {*links, "a/folder.sql", "a/pipe.sql", "1a/x.sql"}


def test_name_that_is_no_text_is_an_error_that_can_be_shown(tmp_path: Path) -> None:
    write_tables(tmp_path, {"a/good.sql": "select 1 as i"})
    Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.sql")).write_text("select 1", encoding="utf-8")
    (problem,) = problems_of(tmp_path)
    assert problem.encode().startswith(b"a/\\udcff.sql:1: ")


def test_file_that_is_no_utf_8_is_an_error_with_its_line(tmp_path: Path) -> None:
    write_tables(tmp_path, {"a/x.sql": ""})
    (tmp_path / "a" / "x.sql").write_bytes(b"select 1 as i\n\n-- \xc3\x28")
    (problem,) = problems_of(tmp_path)
    assert problem == "a/x.sql:3: requires UTF-8, got byte 0xc3 at 18. Save it as UTF-8."


def test_path_that_is_no_plain_name_is_an_error_that_says_how_to_name_it(tmp_path: Path) -> None:
    for problem in problems_of(
        write_tables(tmp_path, {"a/x-1.sql": "select 1", "a-b/x.sql": "select 1", "a/y$.sql": "select 1"})
    ):
        assert (
            "name the path so, and say with identifier in the file what else the name is in Snowflake, got " in problem
        )


def test_sign_that_cannot_be_seen_is_shown(tmp_path: Path) -> None:
    (problem,) = problems_of(write_tables(tmp_path, {"a/x.sql": "\u200bselect 1 as i"}))
    assert "got '\\u200b'. run_ctas" in problem


def test_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    assert "got no SQL file" in problems_of(tmp_path)[0]
    assert "the path of a folder of tables requires a folder" in problems_of(tmp_path / "nowhere")[0]


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
