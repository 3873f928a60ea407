"""Remembers which tables a SQL text reads, so that a file is parsed once and not at every start.

A file of 45 lines takes sqlglot 2 to 6 ms, and every process of Dagster loads the code location: the webserver's, the daemon's,
each run's. What is remembered goes by the content of the SQL and the version of sqlglot, so that it cannot be out of date.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Keys = tuple[tuple[str, ...], ...]
# Raised when the reading of SQL changes.
_FORMAT = 1


class LineageCache:
    """The tables that SQL texts read, in one file; without a file, or with one that cannot be read, everything is parsed.

    Args:
        path: The file, None for none.
        parse: Returns the tables that a SQL text reads; what it raises is not remembered.
    """

    def __init__(self, path: Path | None, parse: Callable[[str], Keys]) -> None:
        self._path = path
        self._parse = parse
        self._known = _read(path) if path else {}
        self._used: dict[str, Keys] = {}

    def __call__(self, sql: str) -> Keys:
        """Return the tables that a SQL text reads."""
        digest = hashlib.sha256(sql.encode("utf-8", "surrogatepass")).hexdigest()
        keys = self._known.get(digest)
        if keys is None:
            keys = self._parse(sql)
        self._used[digest] = keys
        return keys

    def save(self) -> None:
        """Write down what was asked for, in one piece, if it is not what the file says; a read-only place is no error."""
        if self._path is None or self._used == self._known:
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps({"version": _version(), "tables": self._used}), encoding="utf-8")
            draft.replace(self._path)


def cache_file(directory: Path | None, tables_dir: Path) -> Path | None:
    """Return the file for a folder of tables, so that two projects of one user do not push each other out."""
    if directory is None:
        return None
    return directory / f"lineage-{hashlib.sha256(str(tables_dir).encode()).hexdigest()[:16]}.json"


def _version() -> str:
    return f"{_FORMAT} {importlib.metadata.version('sqlglot')}"


def _read(path: Path) -> dict[str, Keys]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _version():
            return {}
        entries: Mapping[str, Any] = content["tables"]
        return {digest: tuple(tuple(map(str, key)) for key in keys) for digest, keys in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Not there yet, cut off, or somebody else's: everything is parsed again.
        return {}
