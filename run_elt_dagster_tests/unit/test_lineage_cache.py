"""What is remembered of a SQL text, and that nothing wrong ever is."""

from pathlib import Path

import pytest

from run_elt_dagster.model import lineage_cache
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.lineage_cache import LineageCache, Reads, Unclear, cache_file
from run_elt_dagster.model.problems import TableProblemsError


class Parser:
    """Counts what it is asked to parse."""

    def __init__(self) -> None:
        self.parsed: list[str] = []

    def __call__(self, sql: str) -> Reads:
        if sql == "bad":
            raise ValueError(sql)
        self.parsed.append(sql)
        return reads(sql)


def reads(sql: str) -> Reads:
    return Reads(
        {("raw_data", sql): 3, ("db", "s", '"T"'): 1},
        (Unclear(2, "because", "Write it"), Unclear(4, "b", "r", "orders")),
    )


def asked(path: Path | None, *texts: str) -> list[str]:
    """Return what was parsed to answer for the texts in one process."""
    parser = Parser()
    cache = LineageCache(path, parser)
    for text in texts:
        assert cache(text) == reads(text)
    cache.save()
    return parser.parsed


def test_text_is_parsed_once_and_again_only_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "lineage.json"
    assert asked(path, "a", "b") == ["a", "b"]
    assert asked(path, "a", "b") == []
    assert asked(path, "a", "c") == ["c"]
    # What no file has any more is forgotten, so that the cache does not grow.
    assert asked(path, "b") == ["b"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": "1", "tables": {}}', '{"version": null, "tables": [1]}']
)
def test_file_that_cannot_be_read_is_parsed_again_and_written_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lineage.json"
    path.write_text(content, encoding="utf-8")
    assert asked(path, "a") == ["a"]
    assert asked(path, "a") == []


def test_another_version_of_the_parser_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lineage.json"
    asked(path, "a")
    monkeypatch.setattr(lineage_cache, "_FORMAT", 99)
    assert asked(path, "a") == ["a"]


def test_without_a_place_to_write_everything_is_parsed(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("", encoding="utf-8")
    for path in (None, taken / "lineage.json"):
        assert asked(path, "a") == ["a"]
        assert asked(path, "a") == ["a"]


def test_what_another_version_of_the_project_remembered_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "lineage.json"
    asked(path, "a")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"version": "4 ', '"version": "3 '), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    assert asked(path, "a") == ["a"]


def test_what_raises_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "lineage.json"
    cache = LineageCache(path, Parser())
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            cache("bad")
    cache.save()
    assert not path.exists()


def test_unclear_sql_is_remembered_and_stays_an_error(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    (tables / "analytics").mkdir(parents=True)
    (tables / "analytics" / "a.sql").write_text("select *\nfrom orders", encoding="utf-8")
    (tables / "analytics" / "b.sql").write_text("/* elt\nupstream: s.t\nelt */ select * from $v", encoding="utf-8")
    messages: list[str] = []
    for _ in range(2):
        with pytest.raises(TableProblemsError) as caught:
            load_tables(tables, cache_dir=tmp_path / "cache")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "a.sql:2: " in messages[0]
    (tables / "analytics" / "a.sql").unlink()
    first, again = (load_tables(tables, cache_dir=tmp_path / "cache") for _ in range(2))
    assert first.upstream == again.upstream == {("analytics", "b"): (("s", "t"),)}


def test_folder_of_tables_is_loaded_from_the_cache_with_the_same_result(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    (tables / "analytics").mkdir(parents=True)
    (tables / "analytics" / "a.sql").write_text("select * from raw_data.x", encoding="utf-8")
    (tables / "analytics" / "b.sql").write_text("select * from analytics.a", encoding="utf-8")
    first, again = (load_tables(tables, cache_dir=tmp_path / "cache") for _ in range(2))
    assert cache_file(tmp_path / "cache", tables).exists()  # type: ignore[union-attr]
    assert first.upstream == again.upstream == load_tables(tables).upstream
    assert cache_file(tmp_path, tables) != cache_file(tmp_path, tmp_path)
