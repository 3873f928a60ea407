"""An embedded Snowflake in a process of its own, with latency, told what to do line by line: `python -m benchmarks.server`.

It reads JSON objects from its standard input, each with some of `statement_seconds`, `ctas_seconds` (the latency from then
on), `mode` and `reset` (count anew), and answers each with what it has counted until then. The latency is waited for before
a statement, outside of all locks, as a warehouse works on several at once. A CTAS costs `ctas_seconds` instead of
`statement_seconds`.

Four modes: `execute` is the embedded Snowflake as it is; `record` keeps its answers too; `replay` gives a recorded answer to
a statement that differs from a recorded one in nothing but the run's id and time, without executing anything; `refuse` replays
and refuses each CTAS. With `--alike`, the answers for one table of a trivial workload serve every other one. A real
warehouse takes none of the client's CPU time: here, where both share a few cores, DuckDB would take most of it.
"""

import argparse
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import snowflake.connector

from benchmarks.workload import SOURCES_SQL
from run_elt_dagster.dialect.errors import missing_object
from run_elt_dagster.embedded import Endpoint
from run_elt_dagster.embedded.engine import Result
from run_elt_dagster.embedded.server import HOST, USER
from run_elt_dagster.embedded.sessions import Running
from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent

_CTAS = re.compile(r"\s*(?:/\*.*?\*/\s*)*create\s[^(]*?\btable\b(?!.*?\bclone\b).*?\bas\b", re.IGNORECASE | re.DOTALL)
_KIND = re.compile(r"\s*(?:/\*.*?\*/\s*)*(?:--[^\n]*\s*)*(\w+(?:\s+\w+)?)", re.DOTALL)


# The number of a table in a trivial workload, in its name and in its SELECT.
_NUMBER = re.compile(r"(?<=t_)\d{5}(?!\d)|(?<=select )\d+(?= as id)", re.IGNORECASE)
# What a run of this project writes into its statements: its candidates' names, with an end of its own, and the marker of a
# comment.
_CANDIDATE = re.compile(r"\b(TEMP_\w+?__)([0-9A-F]{8})\b")
_MARKER = re.compile(r"\[run_elt \w+ [^\]]*\]")
# SQLMesh writes the id of its plan before each statement: https://sqlmesh.readthedocs.io/en/stable/guides/configuration/.
_PLAN = re.compile(r"\A/\* SQLMESH_\w+: \w+ \*/ ")
# Grants and comments of views, as SQLMesh writes them. The embedded Snowflake has neither.
_VIEW_CLAUSES = re.compile(
    r"(\A(?:/\*.*?\*/ )?CREATE OR REPLACE VIEW \S+) COPY GRANTS(?: COMMENT='(?:[^']|'')*')?(?= AS )", re.DOTALL
)
# As dbt drops a view that is in its way. The embedded Snowflake takes the word for schemas and tables alone.
_CASCADE = re.compile(r"((?:\A|\n)\s*drop view if exists \S+) cascade\b", re.IGNORECASE)
# As dbt names the rows of a batch. The embedded Snowflake has no temporary views, and the name is the batch's own.
_TEMPORARY_VIEW = re.compile(r"((?:\A|\n)\s*create or replace)\s+temporary view\b", re.IGNORECASE)
# What dbt lists, and the columns that it reads of it. The embedded Snowflake lists tables alone.
_LISTINGS = (
    (
        re.compile(r"\s*show terse schemas in database (\w+)\s+limit \d+\s*(?=/\*|\Z)", re.IGNORECASE),
        'SELECT schema_name AS "name" FROM {0}.information_schema.schemata ',
    ),
    (
        re.compile(r"\s*show objects in (\w+)\.(\w+)\s+limit \d+\s*;?\s*(?=/\*|\Z)", re.IGNORECASE),
        """SELECT table_catalog AS "database_name", table_schema AS "schema_name", table_name AS "name",
        IFF(table_type = 'VIEW', 'VIEW', 'TABLE') AS "kind", 'N' AS "is_dynamic", 'N' AS "is_iceberg"
        FROM {0}.information_schema.tables WHERE table_schema = '{1}' """,
    ),
    # The embedded Snowflake has no functions of users.
    (
        re.compile(r"\s*show user functions in (\w+)\.(\w+)\s*(?=/\*|\Z)", re.IGNORECASE),
        """SELECT table_catalog AS "catalog_name", table_schema AS "schema_name", table_name AS "name", 'N' AS "is_builtin"
        FROM {0}.information_schema.tables WHERE table_schema = '{1}' AND FALSE """,
    ),
)

# Statements without a recorded answer that the log of a measured run names.
_NAMED = 5


class RecordingServer(SimulatedServer):
    """An embedded Snowflake that can answer what it has answered before.

    Attributes:
        mode: `execute`, `record`, `replay` or `refuse`.
        missed: Statements that were executed in mode `replay` or `refuse`, since no answer had been recorded.
        are_alike: Whether the answers for one table of a trivial workload serve every other one.
    """

    mode = "execute"
    missed = 0

    def __init__(self, directory: Path, *, are_alike: bool = False, **arguments: Any) -> None:
        super().__init__(directory, **arguments)
        self.are_alike = are_alike
        self._recorded: dict[tuple[str | None, str], tuple[tuple[str, ...], Result]] = {}
        self._markers: dict[tuple[str | None, str], str] = {}

    def _result(self, statement: Running, body: Any) -> Result:
        statement.sql = executable(statement.sql)
        if self.mode == "execute" or body.get("bindings"):
            return super()._result(statement, body)
        database = statement.session.connection.database
        key = (database, self._without_numbers(timeless(statement.sql)))
        labels = self._labels(database, statement.sql)
        if self.mode == "refuse" and kind_of(statement.sql) == "CTAS":
            self._tell("before", statement)
            raise missing_object(f"RAW_DATA.GONE_{labels[-1]}")
        if self.mode != "record" and key in self._recorded:
            # The hook waits as long as a warehouse would, and counts: here nothing else calls it.
            self._tell("before", statement)
            before, result = self._recorded[key]
            return relabelled(result, dict(zip(before, labels, strict=True)))
        self._note_missed(statement.sql)
        result = super()._result(statement, body)
        self._recorded[key] = (labels, result)
        return result

    def _note_missed(self, sql: str) -> None:
        if self.mode == "record":
            return
        self.missed += 1
        if self.missed <= _NAMED:
            print(f"without a recorded answer: {timeless(sql)[:500]}", file=sys.stderr, flush=True)

    def _labels(self, database: str | None, sql: str) -> tuple[str, ...]:
        """Return what tells the run of a statement from others: its candidate's marker, and the end of the candidate's name.

        The CTAS says the marker, and answers to later statements repeat it. A recorded one has the time of the recorded run,
        by which a run would take its own candidate for a newer run's, and wait for it.
        """
        number = [f"T_{found[0]}"] if self.are_alike and (found := _NUMBER.search(sql)) else []
        candidate = _CANDIDATE.search(sql)
        if candidate is None:
            return tuple(number)
        table, suffix = candidate.groups()
        if marker := _MARKER.search(sql):
            self._markers[database, table] = marker[0]
        return self._markers.get((database, table), suffix), suffix, *number

    def _without_numbers(self, sql: str) -> str:
        return _NUMBER.sub("", sql) if self.are_alike else sql


def executable(sql: str) -> str:
    """Return a peer's statement as the embedded Snowflake can execute it, every other one as it is."""
    for pattern, query in _LISTINGS:
        if found := pattern.match(sql):
            return query.format(*(name.upper() for name in found.groups())) + sql[found.end() :]
    for pattern, text in ((_CASCADE, r"\1"), (_TEMPORARY_VIEW, r"\1 view"), (_VIEW_CLAUSES, r"\1")):
        sql = pattern.sub(text, sql)
    return sql


def timeless(sql: str) -> str:
    """Return a statement without what differs from run to run."""
    return _MARKER.sub("[run_elt]", _CANDIDATE.sub(r"\1", _PLAN.sub("", sql)))


def relabelled(result: Result, labels: Mapping[str, str]) -> Result:
    """Return a result with the labels of the run that it was recorded in replaced in every text."""
    table = result.table
    for index, column in enumerate(table.columns):
        if labels and pa.types.is_string(column.type):
            values = column.to_pylist()
            for before, after in labels.items():
                values = [value and value.replace(before, after) for value in values]
            table = table.set_column(index, table.field(index), pa.array(values, column.type))
    return Result(table, result.rowtype, result.statement_type)


class Pace:
    """The latency, as a hook of the server, and what was sent."""

    def __init__(self) -> None:
        self.statement_seconds = 0.0
        self.ctas_seconds = 0.0
        self.kinds: Counter[str] = Counter()
        self.first_at: float | None = None
        self._lock = threading.Lock()

    def __call__(self, event: StatementEvent) -> None:
        """Wait as long as a warehouse would."""
        if event.phase != "before":
            return
        kind = kind_of(event.sql)
        with self._lock:
            self.kinds[kind] += 1
            self.first_at = self.first_at or time.monotonic()
        seconds = self.ctas_seconds if kind == "CTAS" else self.statement_seconds
        if seconds:
            event.statement.wait(seconds)

    def reset(self) -> None:
        """Count anew."""
        with self._lock:
            self.kinds.clear()
            self.first_at = None


def kind_of(sql: str) -> str:
    """Return what a statement is: `CTAS`, or its first two words, as in `DROP TABLE`."""
    if _CTAS.match(sql):
        return "CTAS"
    found = _KIND.match(sql)
    words = found[1].upper().split() if found else ["?"]
    return words[0] if words[0] in ("SELECT", "WITH", "COMMIT", "BEGIN") else " ".join(words)


class Counted:
    """What the server has done since it was asked to count anew."""

    def __init__(self, server: RecordingServer, pace: Pace) -> None:
        self._server = server
        self._pace = pace
        self.reset()

    def reset(self) -> None:
        """Count anew."""
        self._logins, self._cpu, self._began = self._server.logins, time.process_time(), time.monotonic()
        self._pace.reset()
        self._server.missed = 0

    def report(self) -> dict[str, Any]:
        """Return the counts, and the seconds from the reset to the first statement, None without a statement."""
        first = self._pace.first_at
        return {
            "first_statement_seconds": None if first is None else first - self._began,
            "logins": self._server.logins - self._logins,
            "server_cpu_seconds": time.process_time() - self._cpu,
            "missed": self._server.missed,
            "statements": self._pace.kinds.total(),
            "kinds": dict(self._pace.kinds),
        }


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("databases", nargs="+")
    parser.add_argument("--alike", action="store_true", help="the answers for one trivial table serve every other one")
    arguments = parser.parse_args()
    server, pace = _started(arguments.directory, arguments.databases, are_alike=arguments.alike)
    counted = Counted(server, pace)
    print(json.dumps({"host": HOST, "port": server.port, "user": USER, "password": server.password}), flush=True)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            answer = counted.report()
            pace.statement_seconds = order.get("statement_seconds", pace.statement_seconds)
            pace.ctas_seconds = order.get("ctas_seconds", pace.ctas_seconds)
            server.mode = order.get("mode", server.mode)
            if order.get("reset"):
                counted.reset()
            print(json.dumps(answer), flush=True)
    finally:
        server.stop()


def _started(directory: Path, databases: list[str], *, are_alike: bool) -> tuple[RecordingServer, Pace]:
    pace = Pace()
    server = RecordingServer(directory, are_alike=are_alike, databases=databases, hook=pace)
    for database in databases:
        set_up_database(server.engine, database, sample_data=False, log=print)
    server.start()
    endpoint = Endpoint(HOST, server.port, "http", "embedded", USER, server.password, databases[0])
    with snowflake.connector.connect(**endpoint.connection_args()) as connection, connection.cursor() as cursor:
        for database in databases:
            for sql in SOURCES_SQL:
                cursor.execute(sql.format(database=database))
    return server, pace


if __name__ == "__main__":
    main()
