"""The embedded Snowflake of a benchmark, as those who measure see it."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

ROOT = Path(__file__).parent.parent
# What the server does with a statement: benchmarks/server.py.
Mode = Literal["execute", "record", "replay", "refuse"]


@dataclass(frozen=True)
class Latency:
    """How long a warehouse would take.

    Attributes:
        statement_seconds: For every statement but a CTAS.
        ctas_seconds: For a CTAS.
    """

    statement_seconds: float = 0.0
    ctas_seconds: float = 0.0

    def __str__(self) -> str:
        """Return it in words."""
        if not self.statement_seconds and not self.ctas_seconds:
            return "no latency"
        return f"{self.statement_seconds:g} s a statement, {self.ctas_seconds:g} s a CTAS"


NO_LATENCY = Latency()
LATENCY = Latency(0.05, 0.5)


@dataclass(frozen=True)
class Service:
    """A running server.

    Attributes:
        where: Its `host`, `port`, `user` and `password`.
    """

    where: Mapping[str, Any]
    _orders: TextIO
    _answers: TextIO

    def begin(self, latency: Latency, *, mode: Mode) -> None:
        """Set latency and mode, and count anew."""
        self._ask({**vars(latency), "mode": mode, "reset": True})

    def report(self) -> dict[str, Any]:
        """Return the counts since `begin`."""
        return self._ask({})

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        print(json.dumps(order), file=self._orders, flush=True)
        return json.loads(self._answers.readline())


@contextmanager
def serving(directory: Path, databases: Sequence[str], *, log: Path, are_alike: bool = False) -> Generator[Service]:
    """Run a server while the context lasts.

    Args:
        directory: Where its files are.
        databases: Its databases.
        log: What it prints goes there.
        are_alike: Whether the answers for one table of a trivial workload serve every other one.

    Raises:
        RuntimeError: It did not start; the log says why.
    """
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks.server",
        str(directory),
        *databases,
        *(["--alike"] if are_alike else []),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"The server of the benchmark did not start. Nothing was measured. Read {log}.")
            yield Service(json.loads(line), process.stdin, process.stdout)
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
