"""What is remembered of the texts of table files, and that nothing wrong ever is."""

from pathlib import Path

import pytest

from run_elt_dagster.model import file_cache
from run_elt_dagster.model.file_cache import FileCache, Reads, Unclear, cache_file
from run_elt_dagster.model.front_matter import Settings, read_settings
from run_elt_dagster.model.lineage import load_tables
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
    cache = FileCache(path, parser)
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
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 1}',
        '{"version": "5", "texts": {}}',
        '{"version": "1", "tables": {}}',
        '{"version": null, "tables": [1]}',
    ],
)
def test_file_that_cannot_be_read_is_parsed_again_and_written_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lineage.json"
    path.write_text(content, encoding="utf-8")
    assert asked(path, "a") == ["a"]
    assert asked(path, "a") == []


def test_another_version_of_the_parser_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lineage.json"
    asked(path, "a")
    monkeypatch.setattr(file_cache, "_FORMAT", 99)
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
    path.write_text(text.replace('"version": "5 ', '"version": "4 '), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    assert asked(path, "a") == ["a"]


def test_what_raises_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "lineage.json"
    cache = FileCache(path, Parser())
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


@pytest.fixture
def read_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Front matter that PyYAML was asked for."""
    texts: list[str] = []

    def read(text: str) -> Settings:
        texts.append(text)
        return read_settings(text)

    monkeypatch.setattr(file_cache, "read_settings", read)
    return texts


def said(path: Path, *texts: str) -> list[Settings]:
    """Return what front matter says, as one process hears it."""
    cache = FileCache(path, Parser())
    settings = [cache.settings(text) for text in texts]
    cache.save()
    return settings


def test_front_matter_is_read_once_and_again_only_when_it_changes(tmp_path: Path, read_texts: list[str]) -> None:
    path = tmp_path / "tables.json"
    text = "description: a\n\nchecks:\n  row_count: {min: 1}\n  unique: [id, [a, b]]\ntransient: true\ncolumns: {id: }"
    first, again = said(path, text), said(path, text)
    assert read_texts == [text]
    assert first == again == [read_settings(text)]
    said(path, "description: b")
    said(path, text)
    assert read_texts == [text, "description: b", text]


@pytest.mark.parametrize("value", ["0.10", "2030-01-01", "2030-01-01T00:00:00Z", "{min: [1.5]}", "*b", "[1, 2"])
def test_front_matter_that_json_would_change_or_that_has_a_fault_is_read_again(
    tmp_path: Path, read_texts: list[str], value: str
) -> None:
    path, text = tmp_path / "tables.json", f"a: {value}"
    first, again = said(path, text), said(path, text)
    assert read_texts == [text, text]
    assert first == again == [read_settings(text)]


def test_problems_of_remembered_front_matter_stay_at_their_lines(tmp_path: Path, read_texts: list[str]) -> None:
    folder = tmp_path / "tables" / "analytics"
    folder.mkdir(parents=True)
    # Two files with the same front matter: what is done with that of one changes nothing of the other.
    for name in ("a", "b"):
        (folder / f"{name}.sql").write_text(
            "/* elt\ndescription: d\nshow_rows: 200\ntyp: x\nelt */ select 1 as id", encoding="utf-8"
        )
    messages: list[str] = []
    for _ in range(2):
        found = load_tables(folder.parent, cache_dir=tmp_path / "cache", keeps_broken=True)
        messages.append("\n".join(map(str, found.problems)))
    assert len(read_texts) == 2  # by the first process alone
    assert messages[0] == messages[1]
    assert [line.split(": ")[0].rpartition("/")[2] for line in messages[0].splitlines()] == [
        "a.sql:3", "a.sql:4", "b.sql:3", "b.sql:4"
    ]  # fmt: skip


def test_front_matter_is_read_again_by_other_rules(
    tmp_path: Path, read_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rules = tmp_path / "tables.json", tmp_path / "front_matter.py"
    rules.write_text("# as they are", encoding="utf-8")
    monkeypatch.setattr(file_cache, "_RULES", rules)
    said(path, "description: a")
    said(path, "description: a")
    assert len(read_texts) == 1
    rules.write_text("# a rule more", encoding="utf-8")
    said(path, "description: a")
    assert len(read_texts) == 2
