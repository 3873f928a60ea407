"""What the log of a run says while it goes on. Each line of the log is an event that Dagster stores, so they are few."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Loading the code location does without what only a run needs.
    from run_elt_dagster.publish.progress import Progress

# No two lines in less time.
LINE_SECONDS = 1.0
# What has changed is told after this time in a short run, and after the second one in a long run: a twentieth of the run so far.
CHANGED_SECONDS, LONGEST_SECONDS = 5.0, 30.0
_SHARE = 20


class ProgressLog:
    """Names published tables, and says how far the run is: at most once a second, and in one line where both are due."""

    def __init__(self, log: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            log: Takes a line.
            clock: The time in seconds.
        """
        self._log, self._clock = log, clock
        self._lines: list[str] = []
        self._told_at = clock() - LINE_SECONDS
        self._looked_at = clock()
        self._changes = 0

    def tell(self, line: str) -> None:
        """Say that a table is published, now or with the next line."""
        self._lines.append(line)
        if self._clock() - self._told_at >= LINE_SECONDS:
            self.flush()

    def look(self, progress: "Progress") -> None:
        """Say how far the run is, if it is time for that; to be called about once a second."""
        now = self._clock()
        if now - self._told_at < LINE_SECONDS:
            return
        if self._is_due(progress, now - self._looked_at):
            self._lines.append(progress.line)
            self._looked_at, self._changes = now, progress.changes
        self.flush()

    def flush(self) -> None:
        """Say what was not said yet."""
        if self._lines:
            self._log("\n".join(self._lines))
            self._told_at = self._clock()
        self._lines = []

    def _is_due(self, progress: "Progress", seconds: float) -> bool:
        """Return whether a line is due after so many seconds. While a statement takes long, nothing changes."""
        if progress.changes == self._changes:
            return seconds >= LONGEST_SECONDS
        return seconds >= max(CHANGED_SECONDS, min(LONGEST_SECONDS, progress.elapsed_seconds / _SHARE))
