"""One day of a table by three clients: statements, and what a reader sees while and after its check fails.

    .venv/bin/python -m benchmarks.partitions

This project, dbt's microbatch and SQLMesh's INCREMENTAL_BY_TIME_RANGE build ten days of the same source on the same embedded
Snowflake, then the last day again with right rows, and again with a row that its check refuses. A reader polls that day meanwhile.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import snowflake.connector
from snowflake.connector.errors import Error

from benchmarks import clients, workload
from benchmarks.server import RecordingServer, kind_of
from run_elt_dagster.embedded import Endpoint
from run_elt_dagster.embedded.server import HOST, USER
from run_elt_dagster.embedded.set_up import set_up_database
from run_elt_dagster_tests.simulator import StatementEvent

DAYS = 10
FIRST, LAST, AFTER = "2024-01-01", "2024-01-10", "2024-01-11"
CLIENTS = (clients.PROJECT, clients.DBT, clients.SQLMESH)
# The value of the rows of the last day, 1 before; the check refuses one below 0.
GOOD, BAD = 2, -1
SELECT = "select at, n, v from {0}"
SOURCE_SQL = """CREATE OR REPLACE TABLE {database}.RAW_DATA.EVENTS AS SELECT
    DATEADD(hour, 1, DATEADD(day, FLOOR(SEQ4() / 5), '2024-01-01 00:00:00 +00:00'::TIMESTAMP_TZ)) AS at, SEQ4() AS n, 1 AS v
    FROM TABLE(GENERATOR(ROWCOUNT => 50))"""
CHANGE_SQL = "UPDATE {database}.RAW_DATA.EVENTS SET v = {v} WHERE n >= 45"
# The reader's statements are not counted.
LOOK_SQL = "/* reader */ SELECT COUNT(*), MIN(v), MAX(v) FROM {database}.ANALYTICS.EVENTS_DAILY WHERE n >= 45"


@dataclass(frozen=True)
class Seen:
    """What came of a build of the last day.

    Attributes:
        statements: How many it sent.
        kinds: How many of each kind.
        code: Its exit code.
        looks: What a reader saw meanwhile, each once, in order.
        after: What readers see afterwards.
    """

    statements: int
    kinds: Mapping[str, int]
    code: int
    looks: Sequence[str]
    after: str


def files_of(name: str) -> dict[str, str]:
    """Return the project of a client, with one table and one check of each row."""
    if name == clients.PROJECT:
        head = f"partitions: {{by: day, column: at, start: {FIRST}, end: {AFTER}}}\ncolumns: {{at: timestamp_tz, n: int, v: int}}\n"
        text = f"/* elt\n{head}checks:\n  range: {{v: {{min: 0}}}}\nelt */\n{SELECT.format('raw_data.events')}\n"
        return {"tables/analytics/events_daily.sql": text}
    if name == clients.DBT:
        return _dbt_files()
    model = (
        "MODEL (\n  name analytics.events_daily,\n  kind INCREMENTAL_BY_TIME_RANGE (time_column at),\n"
        f"  start '{FIRST}',\n  end '{LAST}',\n  cron '@daily',\n  audits (no_negative)\n);\n\n"
        f"{SELECT.format('raw_data.events')}\nwhere at between @start_tstz and @end_tstz\n"
    )
    audit = "AUDIT (\n  name no_negative\n);\n\nselect * from @this_model where v < 0\n"
    return {"models/events_daily.sql": model, "audits/no_negative.sql": audit}


def _dbt_files() -> dict[str, str]:
    config = (
        "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', "
        f"begin='{FIRST}', lookback=0) }}}}\n"
    )
    tests = {"data_tests": ["no_negative"]}
    source = {"name": "raw_data", "tables": [{"name": "events", "config": {"event_time": "at"}}]}
    files = workload.dbt_files([], threads=1)
    return {
        **{name: files[name] for name in ("dbt_project.yml", "profiles.yml")},
        "macros/no_negative.sql": "{% test no_negative(model) %}\nselect * from {{ model }} where v < 0\n{% endtest %}\n",
        "models/schema.yml": json.dumps(
            {"version": 2, "sources": [source], "models": [{"name": "events_daily", **tests}]}
        ),
        "models/events_daily.sql": config + SELECT.format("{{ source('raw_data', 'events') }}") + "\n",
    }


def command_of(name: str, client: clients.Client, *, days: tuple[str, str], is_first: bool) -> Sequence[str]:
    """Return the command that builds some days, the first and the last one included."""
    first, last = days
    if name == clients.PROJECT:
        dagster = client.command[0]
        asset = ["--select", "analytics/events_daily", "--partition-range", f"{first}...{last}"]
        return [dagster, "asset", "materialize", *asset, "-m", "run_elt_dagster"]
    if name == clients.DBT:
        return [client.command[0], "build", "--event-time-start", first, "--event-time-end", AFTER]
    plan = [client.command[0], "plan", "--auto-apply", "--no-prompts"]
    return plan if is_first else [*plan, "--restate-model", "analytics.events_daily", "--start", first, "--end", last]


@contextmanager
def looking(look: Callable[[], str]) -> Generator[list[str]]:
    """Collect what a reader sees while the context lasts, each once, in order."""
    seen: list[str] = []
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(0.005):
            if (found := look()) not in seen[-1:]:
                seen.append(found)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join(30)


class Sent:
    """What was sent, as a hook of the server: the kind of each statement, but for the reader's."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def __call__(self, event: StatementEvent) -> None:
        """Note a statement."""
        if event.phase == "before" and not event.sql.startswith("/* reader */"):
            self.kinds.append(kind_of(event.sql))


class Bench:
    """The server, and the project of one client on it."""

    def __init__(self, server: RecordingServer, sent: Sent, name: str, place: Path, connection: Any) -> None:
        self._sent, self._name = sent, name
        self._database, self._connection = clients.DATABASES[name], connection
        where = {"host": HOST, "port": server.port, "user": USER, "password": server.password}
        self._client = clients.prepare(name, [], server=where, place=place, threads=1)
        shutil.rmtree(place / "models", ignore_errors=True)
        workload.write(place, files_of(name))

    def sql(self, text: str) -> list[Any]:
        """Send a statement of the bench's own."""
        with self._connection.cursor() as cursor:
            return cursor.execute(text.format(database=self._database)).fetchall()

    def change(self, value: int) -> None:
        """Give the last day of the source another value."""
        with self._connection.cursor() as cursor:
            cursor.execute(CHANGE_SQL.format(database=self._database, v=value))

    def look(self) -> str:
        """Return what a reader sees of the last day."""
        try:
            ((count, low, high),) = self.sql(LOOK_SQL)
        except Error:
            return "no table"
        if not count:
            return "no rows"
        return f"{count} rows of {low}" if low == high else f"{count} rows of {low} to {high}"

    def build(self, days: tuple[str, str], *, is_first: bool = False) -> Seen:
        """Build some days, and return what came of it. The reader's own statements are not counted."""
        command = command_of(self._name, self._client, days=days, is_first=is_first)
        self._sent.kinds.clear()
        with looking(self.look) as looks:
            done = subprocess.run(
                command, check=False, cwd=self._client.directory, env=self._client.environment, capture_output=True
            )
        kinds = Counter(self._sent.kinds)
        if is_first and done.returncode:
            raise RuntimeError(f"{self._name} built nothing: {(done.stdout + done.stderr).decode()[-20000:]}")
        return Seen(kinds.total(), kinds, done.returncode, looks, self.look())


def measured(name: str, server: RecordingServer, sent: Sent, place: Path) -> tuple[Seen, Seen]:
    """Build the ten days, the last one with right rows and with a bad one, and return what came of those two."""
    database = clients.DATABASES[name]
    set_up_database(server.engine, database, sample_data=False, log=print)
    endpoint = Endpoint(HOST, server.port, "http", "embedded", USER, server.password, database)
    with closing(snowflake.connector.connect(**endpoint.connection_args())) as connection:
        bench = Bench(server, sent, name, place, connection)
        bench.sql(SOURCE_SQL)
        bench.build((FIRST, LAST), is_first=True)
        bench.change(GOOD)
        good = bench.build((LAST, LAST))
        bench.change(BAD)
        return good, bench.build((LAST, LAST))


def table_of(found: Mapping[str, tuple[Seen, Seen]]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| client | statements for the day | exit code of the bad day | a reader sees meanwhile | and afterwards |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (good, bad) in found.items():
        looks = ", then ".join(bad.looks)
        lines.append(f"| {name} | {good.statements} | {bad.code} | {looks} | {bad.after} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table and the kinds of statements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=CLIENTS)
    chosen = parser.parse_args().clients
    clients.install([name for name in clients.PEERS if name in chosen])
    sent, found = Sent(), dict[str, tuple[Seen, Seen]]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data").mkdir()
        server = RecordingServer(place / "data", databases=[clients.DATABASES[name] for name in chosen], hook=sent)
        server.start()
        try:
            for name in chosen:
                found[name] = measured(name, server, sent, place / name)
        finally:
            server.stop()
    print(table_of(found))
    for name, (good, bad) in found.items():
        print(
            f"\n{name}: {dict(good.kinds)}\n  the day with right rows: {', then '.join(good.looks)}; exit code {good.code}"
        )
        print(f"  the bad day: {dict(bad.kinds)}")


if __name__ == "__main__":
    main()
