"""What DuckDB read for the statements of a run, as its profiles tell."""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from run_elt_dagster.embedded import queries

# Of so many rows a table of DuckDB keeps the least and the greatest value of each column. So does Snowflake of a micro-partition:
# https://docs.snowflake.com/en/user-guide/tables-clustering-micropartitions
BLOCK_ROWS = 122_880


class Scan(NamedTuple):
    """One reading of a table by a statement.

    Attributes:
        statement: The first word of its SQL.
        table: Name of the table in its schema.
        rows: How many rows were looked at, in whole blocks: a block without a row in question is left out.
        filters: The conditions that were pushed down to the reading.
    """

    statement: str
    table: str
    rows: int
    filters: str


@contextmanager
def scans(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[list[Scan]]:
    """Note what the statements of the embedded Snowflake in this process read.

    Args:
        directory: Where DuckDB writes its profiles.
        monkeypatch: Puts the profile around each statement.
    """
    found: list[Scan] = []
    profile = directory / "profile.json"
    run = queries.run

    def profiled(session: Any, sql: str) -> Any:
        session.duck.execute(f"SET enable_profiling = 'json'; SET profiling_output = '{profile}'")
        rows = run(session, sql)
        session.duck.execute("SET enable_profiling = 'no_output'")
        found.extend(_scans_in(profile))
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(queries, "run", profiled)
        yield found


def _scans_in(profile: Path) -> Iterator[Scan]:
    told = json.loads(profile.read_text(encoding="utf-8"))
    statement = told["query"]["sql"].split()[0]
    for node in _nodes(told["operator"]):
        if node["type"] == "TABLE_SCAN" and (table := node["extra_info"].get("Table")):
            yield Scan(
                statement, table.rpartition(".")[2], node["rows_scanned"], str(node["extra_info"].get("Filters", ""))
            )


def _nodes(operators: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for node in operators:
        yield node
        yield from _nodes(node.get("children", []))
