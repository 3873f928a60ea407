"""Which table files differ from a revision, asked of Git itself."""

import os
import subprocess
from pathlib import Path

import pytest

from run_elt_dagster.environments.changes import Changes, changes_since
from run_elt_dagster.model.lineage import load_tables

SQL = "select 1 as x from raw_data.s\n"


class Repository:
    """A repository of Git with a folder of tables."""

    def __init__(self, root: Path) -> None:
        self.root, self.tables = root, root / "project" / "tables"
        self.git("init", "--quiet", "--initial-branch=main", ".")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=n", "-c", "user.email=n@example.com", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, **tables: str) -> None:
        (self.tables / "analytics").mkdir(parents=True, exist_ok=True)
        for name, text in tables.items():
            (self.tables / "analytics" / f"{name}.sql").write_text(text)

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "x")
        return self.git("rev-parse", "HEAD")

    def changes(self, revision: str | None = None) -> Changes:
        found = load_tables(self.tables, keeps_broken=True)
        broken = {key: each.problems[0].path or self.tables for key, each in found.broken.items()}
        return changes_since(self.tables, revision, found, broken)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "repository").mkdir()
    made = Repository(tmp_path / "repository")
    made.write(a=SQL, b=SQL, c=SQL)
    made.commit()
    return made


def names(keys: frozenset[tuple[str, ...]] | tuple[tuple[str, ...], ...]) -> str:
    return " ".join(sorted(key[-1] for key in keys))


def told(changes: Changes) -> tuple[str, str, str, str]:
    return names(changes.rows), names(changes.settings), names(changes.new), names(changes.deleted)


def test_branch_differs_by_its_own_commits_and_by_what_is_not_committed(repository: Repository) -> None:
    assert told(repository.changes()) == ("", "", "", "")
    repository.git("checkout", "--quiet", "-b", "branch")
    repository.write(a=SQL + "where x > 1\n")
    repository.commit()
    repository.write(b=SQL + "where x > 2\n", d=SQL)
    (repository.root / "README.md").write_text("no table")
    # What the default branch got meanwhile is no change of this one.
    repository.git("stash", "--include-untracked", "--quiet")
    repository.git("checkout", "--quiet", "main")
    repository.write(c=SQL + "where x > 3\n")
    repository.commit()
    repository.git("checkout", "--quiet", "branch")
    repository.git("stash", "pop", "--quiet")
    assert told(repository.changes()) == ("a b d", "", "d", "")
    assert repository.changes().revision == "where this branch left main"
    assert told(repository.changes("main...")) == ("a b d", "", "d", "")
    assert told(repository.changes("main")) == ("a b c d", "", "d", "")
    assert told(repository.changes("HEAD")) == ("b d", "", "d", "")


def test_settings_that_change_no_row_are_told_apart(repository: Repository) -> None:
    repository.write(
        a=f"/* elt\ndescription: More words\nchecks: {{row_count: {{min: 2}}}}\nelt */\n{SQL}",
        b=f"/* elt\nidentifier: other\nelt */\n{SQL}",
        c=SQL + "-- a comment runs too\n",
    )
    assert told(repository.changes()) == ("b c", "a", "", "")


def test_when_rows_are_built_is_no_change_of_rows(repository: Repository) -> None:
    partitions = "/* elt\npartitions: {{column: x, by: day, start: 2026-01-{start}, lookback: {back}}}\nelt */\n" + SQL
    increment = "/* elt\nincrement: {{column: x, key: {key}, lookback_hours: {back}}}\nelt */\n" + SQL
    repository.write(
        a=partitions.format(start="01", back=1),
        b=increment.format(key="x", back=1),
        c=partitions.format(start="01", back=1),
        d=increment.format(key="x", back=1),
    )
    repository.commit()
    repository.write(
        a=partitions.format(start="01", back=2),
        b=increment.format(key="x", back=2),
        c=partitions.format(start="02", back=1),
        d=increment.format(key="y", back=1),
    )
    assert told(repository.changes("HEAD")) == ("c d", "a b", "", "")


def test_renamed_file_is_a_new_table_and_a_deleted_one(repository: Repository) -> None:
    repository.git("mv", "project/tables/analytics/a.sql", "project/tables/analytics/z.sql")
    assert told(repository.changes()) == ("z", "", "z", "a")
    repository.commit()
    assert told(repository.changes("HEAD~1")) == ("z", "", "z", "a")


def test_deleted_test_or_note_is_no_table(repository: Repository) -> None:
    (repository.tables / "analytics" / "a.test.yaml").write_text("cases: {}")
    (repository.tables / "notes.sql").write_text("no table")
    repository.commit()
    (repository.tables / "analytics" / "a.test.yaml").unlink()
    (repository.tables / "notes.sql").unlink()
    assert told(repository.changes("HEAD")) == ("", "", "", "")


def test_ignored_and_linked_files_count_as_changed(repository: Repository, tmp_path: Path) -> None:
    """Git compares none of them: what they were before is not known."""
    (repository.root / ".gitignore").write_text("d.sql\n")
    repository.commit()
    repository.write(d=SQL)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.sql").write_text(SQL)
    (repository.tables / "other").symlink_to(elsewhere)
    assert told(repository.changes("HEAD")) == ("d e", "", "d e", "")


def test_broken_file_differs_too(repository: Repository) -> None:
    repository.write(a="select (")
    assert told(repository.changes()) == ("a", "", "", "")


def test_odd_names_and_bytes_are_compared(repository: Repository) -> None:
    path = repository.tables / "analytics" / "a.sql"
    path.write_bytes(SQL.encode() + b"-- \xff\n")
    repository.commit()
    repository.write(a=SQL)
    assert told(repository.changes("HEAD")) == ("a", "", "", "")


def test_shallow_clone_is_refused_with_the_remedy(repository: Repository, tmp_path: Path) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "-b", "branch")
    for number in (1, 2):
        repository.write(a=SQL + f"where x > {number}\n")
        repository.commit()
    repository.git("checkout", "--quiet", "main")
    (tmp_path / "clone").mkdir()
    clone = Repository.__new__(Repository)
    clone.root, clone.tables = tmp_path / "clone", tmp_path / "clone" / "project" / "tables"
    clone.git("clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{repository.root}", ".")
    clone.git("checkout", "--quiet", "branch")
    with pytest.raises(ValueError, match=r"got a shallow clone without it\. .*git fetch --unshallow"):
        clone.changes()
    with pytest.raises(ValueError, match=r"a revision that Git has here.*Fetch it \(this clone is shallow\)"):
        clone.changes(f"{first[:-1]}{'0' if first[-1] != '0' else '1'}")
    # What it has can be compared with.
    assert told(clone.changes("origin/main")) == ("a", "", "", "")
    clone.git("fetch", "--quiet", "--unshallow")
    assert told(clone.changes()) == ("a", "", "", "")


def test_revision_that_is_none_or_an_option_is_refused(repository: Repository) -> None:
    for revision in ("nope", "--output=x", "HEAD:project", "nope..."):
        with pytest.raises(ValueError, match="requires a revision that Git has here, got "):
            repository.changes(revision)


def test_folder_outside_of_git_is_refused(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "plain" / "analytics").mkdir(parents=True)
    (tmp_path / "plain" / "analytics" / "a.sql").write_text(SQL)
    repository.tables = tmp_path / "plain"
    with pytest.raises(ValueError, match=r"requires a folder in a working tree of Git, got .*Name the tables instead"):
        repository.changes()


def test_history_without_a_default_branch_is_refused(repository: Repository) -> None:
    repository.git("branch", "--move", "main", "trunk")
    with pytest.raises(ValueError, match="requires a default branch to compare with, got none of origin/HEAD"):
        repository.changes()
    assert told(repository.changes("trunk")) == ("", "", "", "")


def test_missing_git_is_said(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="requires git, got no such program"):
        repository.changes()
