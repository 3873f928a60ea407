"""Progress of what takes long: a line at the bottom of a terminal, gone at the end. Pipes and programs get none."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress


# The spinner, the count and the time.
_BESIDE = 30


class Steps:
    """The line, or nothing where there is no terminal.

    Args:
        live: What draws it, None for nothing.
    """

    def __init__(self, live: "Progress | None") -> None:
        self._live = live

    def tell(self, text: str, *, done: int = 0, total: int | None = None) -> None:
        """Say what is done now.

        Args:
            text: In words.
            done: How many of `total` are done.
            total: How many there are, None where that is not known.
        """
        if self._live is not None:
            count = "" if total is None else f"{done:,} of {total:,}"
            # Otherwise a long text would push the count and the time out of the line.
            room = max(self._live.console.width - _BESIDE, _BESIDE)
            short = text if len(text) <= room else f"{text[: room - 1]}…"
            self._live.update(self._live.task_ids[0], description=short, count=count)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Take the line away while something is printed: drawn above it, long lines would be cut into pieces."""
        if self._live is None:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()


@contextmanager
def progress(text: str) -> Generator[Steps]:
    """Show what is done, and since when, on a terminal. Nothing is shown with `--json`, or if the output goes to a pipe."""
    if not _is_watched():
        yield Steps(None)
        return
    # A tenth of a second, and only for a terminal.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    # Names of files and of test cases are text, and no markup.
    texts = (TextColumn(f"{{task.{part}}}", markup=False) for part in ("fields[count]", "description"))
    with Progress(SpinnerColumn(), *texts, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as live:
        live.add_task(text, total=None, count="")
        yield Steps(live)


def _is_watched() -> bool:
    context = click.get_current_context(silent=True)
    is_for_a_program = bool(context and context.params.get("as_json"))
    return not is_for_a_program and sys.stdout.isatty() and sys.stderr.isatty()
