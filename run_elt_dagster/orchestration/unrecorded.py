"""A table that is published and that Dagster could not record: it is said where Dagster's storage is not needed for it."""

import contextlib
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

_KEPT = 50


class Recording:
    """Which published table is being recorded at the moment.

    Args:
        instance: Where.
        run_id: The run that has published it.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance = instance
        self._run_id = run_id
        self._pending: str | None = None

    @contextmanager
    def of(self, name: str) -> Generator[None]:
        """Yield while a table's events are handed to Dagster; what it then raises, it has not recorded."""
        self._pending = name
        yield
        self._pending = None

    @contextmanager
    def said(self, say: Callable[[str], object]) -> Generator[None]:
        """Say which table was published and is not recorded, if the block ends within `of`.

        Dagster does not throw its storage's error into an op: it leaves the op where it is. An interruption may come when
        everything is stored, so the history is asked.
        """
        try:
            yield
        except BaseException:
            if self._pending is not None and not self._is_recorded(self._pending):
                say(self._words(self._pending))
            raise

    def _is_recorded(self, name: str) -> bool:
        with contextlib.suppress(Exception):
            records = self._instance.fetch_materializations(dg.AssetKey(name.split(".")), limit=_KEPT).records
            return any(record.run_id == self._run_id for record in records)
        # It does not even answer.
        return False

    def _words(self, name: str) -> str:
        from run_elt_dagster.runs.history_files import history_problems  # noqa: PLC0415 - an error is rare

        home = Path(self._instance.root_directory)
        problems = history_problems(home)
        cause = str(problems[0]) if problems else "Look at Dagster's storage."
        return (
            f"{name} was published and could not be recorded in Dagster's history. Readers see the new table of run "
            f"{self._run_id}; the UI shows the materialization before it, and nothing that waits for the table is started. {cause} "
            f"Then materialize {name} again. run-elt show names every table that is not recorded."
        )


def say_on_stderr(text: str) -> None:
    """Write a line where neither Dagster's storage nor its log is needed: the terminal, or the log of the run's process."""
    # Whoever has closed it does not listen.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
