"""Files of tables that cannot be used: what is wrong with each, and which names SQL may read its table by."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from run_elt_dagster.model.alert_rule import is_owner
from run_elt_dagster.model.front_matter import read_settings
from run_elt_dagster.model.names import Key, key_of, stored_names
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable

_SCHEMA_AND_TABLE = 2
# So much of a file is looked at for the two settings that matter although it is broken.
_READ_CHARACTERS = 1_000_000

Hidden = Literal["nothing", "quoted", "all"]


@dataclass(frozen=True)
class BrokenTable:
    """A file that declares a table, or a folder of such files, and that cannot be used.

    Attributes:
        key: From its path: the parts below the folder of tables, in lower case, without the suffix.
        problems: What is wrong, at least one problem.
        names: The keys that SQL reads the table by, as far as they can be told.
        hidden: Which other undeclared tables of its schema may be this one: a setting `identifier` that cannot be read names it
            otherwise. `quoted` are the names that need quotes.
        owner: Who is responsible, where the file still says it.
        upstream: What it reads, where that is known and no circle.
        publish_group: The group that it is published with, where the file still says it.
    """

    key: Key
    problems: tuple[TableProblem, ...]
    names: frozenset[Key] = frozenset()
    hidden: Hidden = "nothing"
    owner: str | None = None
    upstream: tuple[Key, ...] = ()
    publish_group: str | None = None

    @property
    def text(self) -> str:
        """What is wrong, a line for each problem."""
        return "\n".join(map(str, self.problems))

    def may_be(self, key: Key) -> bool:
        """Return whether SQL that reads an undeclared table of this key may mean this one."""
        if key in self.names:
            return True
        is_in_schema = len(key) == _SCHEMA_AND_TABLE and key[0] == self.key[0]
        return is_in_schema and (self.hidden == "all" or (self.hidden == "quoted" and key[-1].startswith('"')))


def broken_tables(
    directory: Path,
    tables: Sequence[AnalyticsTable],
    problems: Sequence[TableProblem],
    *,
    names: Mapping[Key, Key],
    upstream: Mapping[Key, tuple[Key, ...]],
) -> list[BrokenTable]:
    """Return what cannot be used of a folder, in the order of the problems. Files of one key are one.

    Args:
        directory: The folder of tables.
        tables: The tables whose files could be read.
        problems: What is wrong, each with a path below the folder.
        names: The keys that SQL reads these tables by, each with the key of the asset.
        upstream: What these tables read. A table in a circle is left out of it.
    """
    by_key: dict[Key, list[TableProblem]] = {}
    paths: dict[Key, Path] = {}
    for problem in problems:
        for path in dict.fromkeys((problem.path or directory, *problem.others)):
            key = _key_of(directory, path)
            by_key.setdefault(key, []).append(problem)
            paths.setdefault(key, path)
    parsed: dict[Key, AnalyticsTable] = {table.key: table for table in tables}
    known: dict[Key, set[Key]] = {}
    for name, key in names.items():
        known.setdefault(key, {key}).add(name)
    return [
        _known(parsed[key], found, known.get(key, {key}), upstream.get(key, ()))
        if key in parsed
        else _unread(key, paths[key], found)
        for key, found in by_key.items()
    ]


def _known(
    table: AnalyticsTable, problems: Iterable[TableProblem], names: Iterable[Key], upstream: tuple[Key, ...]
) -> BrokenTable:
    """Return a table whose file can be read, and that does not go with the others."""
    return BrokenTable(
        table.key,
        tuple(problems),
        frozenset(names),
        owner=table.owner,
        upstream=upstream,
        publish_group=table.publish_group,
    )


def _unread(key: Key, path: Path, problems: Iterable[TableProblem]) -> BrokenTable:
    """Return a table whose file cannot be read, or a folder."""
    text = _text(path)
    if text is None:
        return BrokenTable(key, tuple(problems), frozenset({key}), "all")
    owner = next((value for value in _values(text, "owner") if is_owner(value)), None)
    group = next(_values(text, "publish_group"), None)
    identifiers = list(_values(text, "identifier"))
    try:
        names = {_named(key, identifier) for identifier in identifiers}
    except ValueError:
        names = set[Key]()
    hidden: Hidden = "nothing" if names else "all" if "identif" in text.lower() else "quoted"
    return BrokenTable(key, tuple(problems), frozenset({key, *names}), hidden, owner, publish_group=group)


def _text(path: Path) -> str | None:
    """Return what can be read of a file; None of what is no file, or cannot be opened. A pipe would never end."""
    try:
        if not path.is_file():
            return None
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_READ_CHARACTERS)
    except OSError:
        return None


def _named(key: Key, identifier: str) -> Key:
    """Return the key of the name that `identifier` gives a table.

    Raises:
        ValueError: It is no name.
    """
    parts = key_of(stored_names(identifier))
    return parts if len(parts) == _SCHEMA_AND_TABLE else (key[0], *parts)


def _values(text: str, setting: str) -> Iterator[str]:
    """Yield what a line seems to say of a setting, wherever it stands: the front matter as a whole may be unreadable."""
    for line in re.findall(rf"^[ \t]*({setting}[ \t]*:.*)$", text, re.MULTILINE):
        value = read_settings(line).values.get(setting)
        if isinstance(value, str):
            yield value


def _key_of(directory: Path, path: Path) -> Key:
    """Return the key of a path below the folder of tables; empty for the folder itself."""
    inside = path.parts[len(directory.parts) :]
    if path.suffix.rstrip().lower() == ".sql":
        inside = (*inside[:-1], path.stem)
    return tuple(part.lower() for part in inside)
