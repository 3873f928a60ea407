"""One bad file does not take the others down: what is left of a folder, and which tables must wait."""

import os
from pathlib import Path

import pytest

from run_elt_dagster.model.lineage import Catalogue, load_tables
from run_elt_dagster.model.problems import TableProblemsError

BAD = "/* elt\nownr: team:data\nowner: team:analytics\n{}\nelt */ select 1 as n"


def load(directory: Path, **files: str) -> Catalogue:
    """Load a folder; `schema__table` is the file of a table."""
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_tables(directory, keeps_broken=True)


def waiting(tables: Catalogue) -> set[str]:
    return {table.name for key, table in tables.items() if tables.broken_parents(key)}


def test_broken_file_leaves_the_right_tables_and_says_what_is_wrong(tmp_path: Path) -> None:
    tables = load(tmp_path, a__good="select 1 as n", a__child="select * from a.bad", a__bad=BAD.format(""))
    assert list(tables) == [("a", "child"), ("a", "good")]
    (broken,) = tables.broken.values()
    assert broken.key == ("a", "bad")
    assert broken.owner == "team:analytics"
    assert broken.text.startswith(f"{tmp_path}/a/bad.sql:2: unknown key 'ownr'")
    assert waiting(tables) == {"a.child"}
    # It is no source that something else loads.
    assert tables.sources == ()


def test_right_folder_has_nothing_broken(tmp_path: Path) -> None:
    tables = load(tmp_path, a__x="select 1 as n", a__y="select * from a.x")
    assert (tables.broken, tables.problems) == ({}, ())
    assert tables.upstream == load_tables(tmp_path).upstream


def test_both_files_of_a_duplicate_and_all_files_of_circles_are_broken(tmp_path: Path) -> None:
    tables = load(
        tmp_path,
        a__x="select 1 as n",
        a__y="/* elt\nidentifier: x\nelt */ select 1 as n",
        a__p="select * from a.q, a.q2",
        a__q="select * from a.p",
        a__q2="select * from a.p",
        a__free="select * from b.source",
        a__self="select * from a.self",
    )
    assert list(tables) == [("a", "free")]
    assert set(tables.broken) == {("a", name) for name in ("x", "y", "p", "q", "q2", "self")}
    assert "in a circle" in tables.broken["a", "q"].text
    assert tables.broken["a", "q2"].upstream == ()
    # Each problem once, though it is one of several files.
    assert len(tables.problems) == len(set(tables.problems)) == 4


def test_files_that_fold_to_one_key_are_one_even_if_one_of_them_is_right(tmp_path: Path) -> None:
    tables = load(tmp_path, a__Orders="select 1 as n", a__orders="no select", b__x="select * from A.ORDERS")
    assert (list(tables), list(tables.broken)) == ([("b", "x")], [("a", "orders")])
    assert waiting(tables) == {"b.x"}


@pytest.mark.parametrize(
    ("setting", "waits"),
    [
        ("identifier: '\"Net sales\"'", {"b.named"}),
        ("identifier: other.name", {"b.elsewhere"}),
        # What the author meant cannot be told, so whatever it may be waits.
        ("identifer: '\"Net sales\"'", {"b.named", "b.unquoted"}),
        ("identifier: [x", {"b.named", "b.unquoted"}),
        ("", {"b.named"}),
    ],
)
def test_readers_of_a_broken_table_under_its_other_name_wait(tmp_path: Path, setting: str, waits: set[str]) -> None:
    tables = load(
        tmp_path,
        a__bad=BAD.format(setting),
        b__named='select * from a."Net sales"',
        b__unquoted="select * from a.seeds",
        b__elsewhere="select * from other.name",
        b__free="select * from c.source",
    )
    assert waiting(tables) == waits


def test_tables_that_may_be_in_a_folder_that_cannot_be_read_wait(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    tables = load(tmp_path, b__x="select * from gone.y", b__z="select * from here.y")
    assert set(tables.broken) == {("gone",)}
    assert waiting(tables) == {"b.x"}


def test_files_in_wrong_places_are_broken_by_their_paths(tmp_path: Path) -> None:
    tables = load(tmp_path, flat="select 1", too__deep__x="select 1", a__x="select 1 as n")
    (tmp_path / "a" / "latin.sql").write_bytes(b"select '\xe9'")
    (tmp_path / "a" / "dir.sql").mkdir()
    # It is not opened: nobody would ever write into it.
    os.mkfifo(tmp_path / "a" / "pipe.sql")
    tables = load_tables(tmp_path, keeps_broken=True)
    assert set(tables.broken) == {("a", "dir"), ("a", "latin"), ("a", "pipe"), ("flat",), ("too", "deep", "x")}
    assert list(tables) == [("a", "x")]


def test_folder_that_is_missing_or_empty_is_refused_all_the_same(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TableProblemsError):
            load_tables(directory, keeps_broken=True)


def test_folder_in_which_all_is_broken_loads(tmp_path: Path) -> None:
    tables = load(tmp_path, a__x="no select", a__y="no select")
    assert (len(tables), len(tables.broken)) == (0, 2)


def test_tables_that_all_read_each_other_are_told_in_bounded_time(tmp_path: Path) -> None:
    names = [f"t{number:02}" for number in range(40)]
    files = {
        f"a__{name}": f"select 1 from {', '.join(f'a.{other}' for other in names if other != name)}" for name in names
    }
    tables = load(tmp_path, **files, a__free="select 1 as n")
    assert list(tables) == [("a", "free")]
    assert len(tables.problems) <= 100 + len(names)
