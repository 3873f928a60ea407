"""Which table files differ from a Git revision, those that are not committed included.

Git itself is asked: https://git-scm.com/docs/git-diff. It lists names byte for byte with `-z`.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_elt_dagster.model.names import Key
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable

# What the default branch may be called, the likeliest name first.
_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
_WITH_ANCESTOR = "..."
_SECONDS = 60
# Settings that change no row of the table: its readers get the same.
_OF_NO_ROW: Any = {
    **dict.fromkeys(
        ("path", "sql_line", "lines", "description", "owner", "business_owner", "primary_key", "tags"), True
    ),
    **dict.fromkeys(
        ("schema_change", "show_rows", "publish", "transient", "warehouse", "fresh_within", "alerts", "checks"), True
    ),
    "upstream": True,
    "columns": {"__all__": {"description"}},
    "partitions": {"end", "lookback", "max_per_run"},
    "increment": {"lookback_hours"},
}


@dataclass(frozen=True)
class Changes:
    """How table files differ from a revision.

    Attributes:
        revision: The revision, in words.
        rows: Tables whose SQL differs, or a setting that changes rows: their readers are built too.
        settings: Tables with differences in other settings alone.
        new: Those of `rows` that the revision has no file of.
        deleted: Tables that only the revision has a file of, sorted.
    """

    revision: str
    rows: frozenset[Key]
    settings: frozenset[Key]
    new: frozenset[Key]
    deleted: tuple[Key, ...]


def changes_since(
    directory: Path, revision: str | None, tables: Mapping[Key, AnalyticsTable], broken: Mapping[Key, Path]
) -> Changes:
    """Return how the table files of a folder differ from a revision.

    Args:
        directory: The folder of table files.
        revision: A revision of Git; with `...` behind it, where the branch left it. None for where it left the default branch.
        tables: The tables that the folder has now.
        broken: The files that cannot be used, by key.

    Raises:
        ValueError: The folder is in no working tree of Git, or Git does not find the revision.
    """
    git = _Git(directory)
    commit, words = git.commit_of(revision)
    paths = {key: table.path for key, table in tables.items() if table.path is not None} | dict(broken)
    names = {key: _name(path, directory) for key, path in paths.items()}
    differing, tracked = git.differing(commit), git.tracked()
    # Git lists nothing behind a link, and nothing that is ignored: what it does not track may be anything.
    changed = {key for key, name in names.items() if name in differing or name not in tracked}
    olds = git.texts(commit, [names[key] for key in changed])
    found = {key: _kind(tables.get(key), olds.get(names[key])) for key in changed}
    gone = differing - {*names.values()}
    return Changes(
        words,
        frozenset(key for key, kind in found.items() if kind == "rows"),
        frozenset(key for key, kind in found.items() if kind == "settings"),
        frozenset(key for key in changed if names[key] not in olds),
        tuple(sorted({key for name in gone if (key := _key(name)) and key not in names})),
    )


def _name(path: Path, directory: Path) -> str:
    return Path(*path.parts[len(directory.parts) :]).as_posix()


def _key(name: str) -> Key | None:
    """Return the key of a table by the name of its file below the folder, None for another file."""
    path = Path(name)
    if len(path.parts) != 2 or path.suffix.lower() != ".sql" or any(part.startswith(".") for part in path.parts):  # noqa: PLR2004 - schema and table
        return None
    return path.parts[0].lower(), path.stem.lower()


def _kind(table: AnalyticsTable | None, old_text: bytes | None) -> str:
    if table is None or old_text is None or table.path is None:
        return "rows"
    try:
        text = old_text.decode("utf-8")
        old = parse_table_file(table.path, text, schema=table.schema_name, table=table.table)
    except (TableProblemsError, UnicodeDecodeError):
        return "rows"
    return "settings" if _of_rows(old) == _of_rows(table) else "rows"


def _of_rows(table: AnalyticsTable) -> Mapping[str, Any]:
    # Where front matter comes or goes, a line end before the SQL does.
    return {**table.model_dump(exclude=_OF_NO_ROW), "sql": table.sql.strip()}


class _Git:
    """Questions to Git about a folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        code, out, err = self._ask("rev-parse", "--is-inside-work-tree")
        if code or out.strip() != b"true":
            raise ValueError(
                f"--changed requires a folder in a working tree of Git, got {directory} ({err or 'outside of one'}). Nothing was "
                "planned. Name the tables instead."
            )

    def commit_of(self, revision: str | None) -> tuple[str, str]:
        """Return a commit, and the revision in words."""
        if revision is None:
            return self._where_it_left(next(self._branches(), None))
        if revision.endswith(_WITH_ANCESTOR):
            return self._where_it_left(revision.removesuffix(_WITH_ANCESTOR))
        return self._resolved(revision), revision

    def differing(self, commit: str) -> set[str]:
        """Return the names below the folder that differ from a commit. A renamed file is two: the old name and the new one."""
        return self._names(
            "diff", "--name-only", "--no-renames", "--no-ext-diff", "--relative", "-z", commit, "--", "."
        )

    def tracked(self) -> set[str]:
        """Return the names below the folder that Git tracks."""
        return self._names("ls-files", "-z", "--", ".")

    def texts(self, commit: str, names: Sequence[str]) -> dict[str, bytes]:
        """Return what a commit has under names below the folder, for those that it has."""
        if not names:
            return {}
        prefix = self._answer("rev-parse", "--show-prefix").decode().strip()
        # A name with a line end would be two questions; it is no table's either.
        asked = [name for name in names if "\n" not in name]
        out = self._answer(
            "cat-file", "--batch", given="".join(f"{commit}:{prefix}{name}\n" for name in asked).encode()
        )
        return dict(_batch(out, asked))

    def _branches(self) -> Iterator[str]:
        for name in _BRANCHES:
            code, _, _ = self._ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            if not code:
                yield name

    def _where_it_left(self, branch: str | None) -> tuple[str, str]:
        if branch is None:
            raise ValueError(
                f"--changed requires a default branch to compare with, got none of {', '.join(_BRANCHES)}. Nothing was planned. Fetch "
                "it, or name a revision: --changed=REVISION."
            )
        commit = self._resolved(branch)
        code, out, _ = self._ask("merge-base", "HEAD", commit)
        if code:
            shallow = self._answer("rev-parse", "--is-shallow-repository").strip() == b"true"
            raise ValueError(
                f"--changed requires the commit where this branch left {branch}, got "
                f"{'a shallow clone without it' if shallow else 'two histories without a common one'}. Nothing was planned. "
                f"{'Fetch the history (git fetch --unshallow; fetch-depth: 0 in a workflow of GitHub), or name' if shallow else 'Name'} "
                "a revision: --changed=REVISION."
            )
        return out.decode().strip(), f"where this branch left {branch}"

    def _resolved(self, revision: str) -> str:
        code, out, err = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if code:
            shallow = self._answer("rev-parse", "--is-shallow-repository").strip() == b"true"
            remedy = "Fetch it (this clone is shallow)" if shallow else "Name another one, as in --changed=main"
            raise ValueError(
                f"--changed requires a revision that Git has here, got {revision}{f' ({err})' if err else ''}. Nothing was planned. {remedy}."
            )
        return out.decode().strip()

    def _names(self, *arguments: str) -> set[str]:
        return {os.fsdecode(name) for name in self._answer(*arguments).split(b"\0") if name}

    def _answer(self, *arguments: str, given: bytes = b"") -> bytes:
        code, out, err = self._ask(*arguments, given=given)
        if code:
            raise ValueError(
                f"--changed requires an answer of Git, got {err or f'exit code {code}'} from git {arguments[0]}. Nothing was planned."
            )
        return out

    def _ask(self, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
        # Locks would disturb a person who commits meanwhile: https://git-scm.com/docs/git#_environment_variables
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        command = ["git", "-C", str(self._directory), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - fixed words, and names as arguments
                command, input=given, capture_output=True, check=False, timeout=_SECONDS, env=environment
            )
        except FileNotFoundError as error:
            raise ValueError(
                "--changed requires git, got no such program. Nothing was planned. Install it, or name the tables."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"--changed requires an answer of Git, got none of git {arguments[0]} within {_SECONDS} s. Nothing was planned."
            ) from error
        return (
            done.returncode,
            done.stdout,
            " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: "),
        )


def _batch(out: bytes, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what `git cat-file --batch` has answered: a line `<id> blob <size>` and the bytes, or `<name> missing`."""
    for name in names:
        line, _, out = out.partition(b"\n")
        parts = line.split(b" ")
        if len(parts) >= 3 and parts[-1].isdigit():  # noqa: PLR2004 - id, kind, size
            size = int(parts[-1])
            if parts[-2] == b"blob":
                yield name, out[:size]
            out = out[size + 1 :]
