"""`kill -9` at random moments of the process that has the embedded Snowflake and runs tables on it.

RUN_ELT_TESTS_SEED repeats the moments of a run, which it prints.
"""

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, effort

ROUNDS = effort(usual=2, thorough=100)
ROWS = 2000

# Imports once, and forks a process for each line that it reads: `run VERSION` publishes versions until it is killed, `look` says
# what is there. Nothing of DuckDB is open when it forks.
NURSERY = """
import json, os, sys
from pathlib import Path
import dagster as dg, duckdb, fakesnow, snowflake.connector
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.embedded import embedded_snowflake, server
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.snowflake.resource import Snowflake
home, rows = Path(sys.argv[1]), int(sys.argv[2])
def say(word, value):
    os.write(1, f"{word} {json.dumps(value)}\\n".encode())
def run(version):
    say("started", os.getpid())
    resources = {"snowflake": Snowflake(embedded_dir=str(home / "embedded"), sample_data=False)}
    with resources["snowflake"].connect():
        say("opened", version)
        while True:
            version += 1
            sql = f"select {version} as v, column1 as n from values " + ", ".join(f"({n})" for n in range(rows))
            for name in ("one", "two"):
                (home / f"tables/analytics/{name}.sql").write_text(sql)
            assets = [analytics_assets(load_tables(home / "tables"), PublishOptions(max_concurrent_tables=2, creates_schemas=True))]
            with dg.DagsterInstance.ephemeral() as instance:
                result = dg.materialize(assets, resources=resources, instance=instance, raise_on_error=False)
            say("published" if result.success else "failed", version)
def look():
    found = {}
    with embedded_snowflake(home / "embedded", sample_data=False, log=lambda text: None) as endpoint:
        connection = snowflake.connector.connect(**endpoint.connection_args())
        known = "select table_name, row_count from information_schema.tables where table_schema = 'ANALYTICS'"
        for name, count in connection.cursor().execute(known).fetchall():
            if not name.startswith("TEMP_"):
                read = f"select count(*), count(distinct n), min(v), max(v) from analytics.{name}"
                found[name] = [count, *connection.cursor().execute(read).fetchone()]
        connection.close()
    say("found", found)
for line in sys.stdin:
    word, *version = line.split()
    pid = os.fork()
    if not pid:
        try:
            run(int(version[0])) if word == "run" else look()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    say("ended", pid)
"""


@dataclass
class Nursery:
    """The process that forks the others, what they have said, and the file with Dagster's log of them."""

    process: subprocess.Popen[str]
    log: Path
    said: list[tuple[str, object]] = field(default_factory=list)

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def until(self, word: str) -> object:
        """Read until a process has said a word, and return what it said with it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said, _, value = line.partition(" ")
            self.said.append((said, json.loads(value)))
            if said == word:
                return self.said[-1][1]
        raise AssertionError(f"the processes ended before one said {word}: {self.said[-5:]}")


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    (tmp_path / "tables" / "analytics").mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", "-c", NURSERY, str(tmp_path), str(ROWS)]
    # Dagster's own log of each run would fill the pipe.
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    ended = threading.Timer(PATIENCE_SECONDS + 60 * ROUNDS, os.killpg, (process.pid, signal.SIGKILL))
    ended.start()
    try:
        yield Nursery(process, tmp_path / "log")
    finally:
        ended.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def first_published(nursery: Nursery) -> float:
    """Run tables, kill the process when it has published, and return how many seconds that took."""
    nursery.order("run 0")
    pid, started = nursery.until("started"), time.monotonic()
    assert isinstance(pid, int)
    assert nursery.until("published") == 1
    seconds = time.monotonic() - started
    os.kill(pid, signal.SIGKILL)
    nursery.until("ended")
    return seconds


def killed(nursery: Nursery, version: int, *, after_seconds: float) -> int:
    """Run tables from a version on, kill the process after some time, and return the version that it had published last."""
    begin = len(nursery.said)
    nursery.order(f"run {version}")
    pid = nursery.until("started")
    assert isinstance(pid, int)
    timer = threading.Timer(after_seconds, os.kill, (pid, signal.SIGKILL))
    timer.start()
    nursery.until("ended")
    timer.join()
    said = nursery.said[begin:]
    errors = [line for line in nursery.log.read_text(errors="replace").splitlines() if " ERROR - " in line]
    assert "failed" not in [word for word, _ in said], errors[-10:]
    return max([version, *(int(str(value)) for word, value in said if word == "published")])


@pytest.mark.timeout(900 + 60 * ROUNDS)
def test_process_killed_at_any_moment_leaves_the_last_published_tables_whole(
    nursery: Nursery,
) -> None:
    seed = int(os.environ.get("RUN_ELT_TESTS_SEED") or secrets.randbelow(2**32))
    print(f"RUN_ELT_TESTS_SEED={seed}")  # noqa: T201 - what repeats a failure
    moments = random.Random(seed)  # noqa: S311 - moments, no secrets
    # A busy machine takes longer for all of it: opening, building, and the publishes after the first.
    latest_seconds = 2 * first_published(nursery)
    version, last = 1, {"ONE": 1, "TWO": 1}
    stages = {"while it opened": 0, "before the first publish": 0, "later": 0}
    for number in range(ROUNDS):
        begin = len(nursery.said)
        after_seconds = moments.uniform(0, latest_seconds)
        published = killed(nursery, version, after_seconds=after_seconds)
        opened = any(word == "opened" for word, _ in nursery.said[begin:])
        stages["later" if published > version else "before the first publish" if opened else "while it opened"] += 1
        nursery.order("look")
        found = nursery.until("found")
        nursery.until("ended")
        assert isinstance(found, dict)
        where = f"round {number}, killed after {after_seconds:.3f} s, seed {seed}: {found}"
        assert found.keys() == {"ONE", "TWO"}, where
        for name, (row_count, count, distinct, low, high) in found.items():
            assert (row_count, count, distinct) == (ROWS, ROWS, ROWS), where
            assert low == high, where
            # What was said to be published is there, or what the killed run was about to publish.
            assert (published if published > version else last[name]) <= low <= published + 1, where
            last[name] = low
        version = max(last.values())
    # As `pytest -s` shows it.
    print(f"{ROUNDS} killed, {version} versions published: {stages}")  # noqa: T201
