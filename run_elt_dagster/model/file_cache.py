"""Remembers what the texts of table files say, so a file is parsed once and not at every start.

A file of 45 lines takes sqlglot 2 to 6 ms, its settings take PyYAML 0.03 ms, and every process of Dagster loads the code location: the
webserver's, the daemon's, each run's. What is remembered goes by the content of a text and the versions of both, so it cannot be out of
date. Whether a setting is right is looked at every time.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from run_elt_dagster.model.front_matter import Settings, read_settings
from run_elt_dagster.model.names import Key

# Raised when the reading of SQL changes, or what is written here.
_FORMAT = 5
# That a text has no fault is remembered too. With other rules for settings, all of them are read again, and nobody has to think of it.
_RULES = Path(__file__).with_name("front_matter.py")


@dataclass(frozen=True)
class Unclear:
    """A place of a SQL text that does not name the table it reads.

    Attributes:
        line: Line of the SQL, from 1.
        reason: What stands there, as a sentence without its full stop.
        remedy: What to write instead.
        name: The table, as a part of a key, where only its schema is missing.
    """

    line: int
    reason: str
    remedy: str
    name: str | None = None


@dataclass(frozen=True)
class Reads:
    """What a SQL text reads.

    Attributes:
        tables: The tables by key, each with the first line of the SQL that reads it, from 1.
        unclear: The places that do not name the table they read, in the order of their lines.
        fixed: The tables in whose place no other one can be read (`redirects.Obstacles`), each with the line and why.
    """

    tables: Mapping[Key, int]
    unclear: tuple[Unclear, ...] = ()
    fixed: Mapping[Key, tuple[int, str]] = field(default_factory=dict[Key, tuple[int, str]])


class FileCache:
    """What SQL texts read and what front matter says, in one file; without a file, or with one that cannot be read, everything is parsed.

    Args:
        path: The file, None for none.
        parse: Returns what a SQL text reads; what it raises is not remembered.
    """

    def __init__(self, path: Path | None, parse: Callable[[str], Reads]) -> None:
        self._path = path
        self._parse = parse
        self._known, self._known_settings = _read(path) if path else ({}, {})
        self._ahead: dict[str, Reads] = {}
        self._used: dict[str, Reads] = {}
        self._used_settings: dict[str, Any] = {}
        self._digests: dict[str, str] = {}

    @property
    def remembers(self) -> bool:
        """Whether the file had anything of use."""
        return bool(self._known)

    def __call__(self, sql: str) -> Reads:
        """Return what a SQL text reads."""
        digest = self._digest(sql)
        reads = self._known.get(digest) or self._ahead.get(digest) or self._used.get(digest)
        if reads is None:
            reads = self._parse(sql)
        self._used[digest] = reads
        return reads

    def settings(self, front_matter: str) -> Settings:
        """Return what front matter says. Nobody may change it: two files may have the same.

        Only what JSON gives back as it was is remembered, and nothing with a fault.
        """
        digest = _digest(front_matter)
        if (entry := self._known_settings.get(digest)) is not None:
            self._used_settings[digest] = entry
            values, lines = entry
            return Settings(values, {tuple(at): line for line, *at in lines})
        said = read_settings(front_matter)
        if not said.faults and _is_plain(said.values):
            self._used_settings[digest] = [said.values, [[line, *at] for at, line in said.lines.items()]]
        return said

    def read_ahead(self, texts: Iterable[str], parse_many: Callable[[Sequence[str]], Mapping[str, Reads]]) -> None:
        """Parse those of many texts that are not known yet, all at once; one that is left out is parsed when it is asked for."""
        unknown = [sql for sql in dict.fromkeys(texts) if self._digest(sql) not in self._known]
        self._ahead.update({self._digest(sql): reads for sql, reads in parse_many(unknown).items()})

    def _digest(self, sql: str) -> str:
        """Return what a SQL text is remembered by. Each one of a folder is asked for twice."""
        if sql not in self._digests:
            self._digests[sql] = _digest(sql)
        return self._digests[sql]

    def save(self) -> None:
        """Write down what was asked for, in one piece, if it is not what the file says; a read-only place is no error."""
        is_as_before = self._used == self._known and self._used_settings.keys() == self._known_settings.keys()
        if self._path is None or is_as_before:
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        texts = {digest: written(reads) for digest, reads in self._used.items()}
        with contextlib.suppress(OSError):
            content = {"version": _version(), "texts": texts, "settings": self._used_settings}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(content), encoding="utf-8")
            draft.replace(self._path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_plain(value: Any) -> bool:
    """Return whether JSON gives a value back as it was: a number with all its digits and a date are none of its kinds."""
    if isinstance(value, dict):
        return all(map(_is_plain, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return all(map(_is_plain, cast("list[Any]", value)))
    return value is None or type(value) in (str, int, bool)


def cache_file(directory: Path | None, tables_dir: Path) -> Path | None:
    """Return the file for a folder of tables, so two projects of one user do not push each other out."""
    if directory is None:
        return None
    return directory / f"tables-{hashlib.sha256(str(tables_dir).encode()).hexdigest()[:16]}.json"


def _version() -> str:
    rules = hashlib.sha256(_RULES.read_bytes()).hexdigest()[:16]
    # To import sqlglot for its version would take half a second.
    return f"{_FORMAT} {importlib.metadata.version('sqlglot')} {yaml.__version__} {rules}"


def written(reads: Reads) -> list[Any]:
    """Return what a text reads as JSON takes it."""
    tables = [[line, *key] for key, line in reads.tables.items()]
    unclear = [[place.line, place.reason, place.remedy, place.name] for place in reads.unclear]
    return [tables, unclear, [[line, reason, *key] for key, (line, reason) in reads.fixed.items()]]


def reads_from(entry: Any) -> Reads:
    """Return what `written` has made JSON of.

    Raises:
        ValueError: It is something else.
        TypeError: It is something else.
    """
    tables, unclear, fixed = entry
    return Reads(
        {tuple(key): line for line, *key in tables},
        tuple(Unclear(*place) for place in unclear),
        {tuple(key): (line, reason) for line, reason, *key in fixed},
    )


def _read(path: Path) -> tuple[dict[str, Reads], dict[str, Any]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _version():
            return {}, {}
        texts: Mapping[str, Any] = content["texts"]
        settings: Mapping[str, Any] = content["settings"]
        return {digest: reads_from(entry) for digest, entry in texts.items()}, {**settings}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Not there yet, cut off, or of another program: everything is parsed again.
        return {}, {}
