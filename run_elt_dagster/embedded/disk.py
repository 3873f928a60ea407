"""What the embedded Snowflake says of its folder and its files where the disk does not do what it should."""

import contextlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from run_elt_dagster.disk import DAMAGED, DiskError, disk_trouble


@contextmanager
def opening(path: Path) -> Generator[None]:
    """Turn what opening a file or a folder raises into an error that says what to do.

    Raises:
        DiskError: It cannot be used.
    """
    try:
        yield
    except (DiskError, TimeoutError):
        raise
    except (OSError, duckdb.Error) as error:
        raise _unopened(path, error) from error


def _unopened(path: Path, error: Exception) -> DiskError:
    trouble = disk_trouble(error)
    words = str(error).splitlines()[0]
    if trouble is not None and trouble is not DAMAGED:
        return DiskError(
            f"The embedded Snowflake cannot open {path}, got {trouble.got} ({words}). Nothing was executed, and its tables are as "
            f"they were. {trouble.remedy}, or set RUN_ELT_EMBEDDED_DIR to another folder; then try again.",
            trouble=trouble,
        )
    got = f"{DAMAGED.got} ({words})" if trouble else words
    return DiskError(
        f"The embedded Snowflake cannot open {path}, got {got}. Nothing was executed. Close whatever else uses the file and put a "
        f"copy of it back, or delete {path} and {path.name}.wal beside it to begin anew: the next run builds every table again.",
        trouble=trouble,
    )


def unmerged(path: Path, error: Exception) -> str:
    """Return what to say where the log of a database could not be written into its file at the end."""
    with contextlib.suppress(OSError):
        if not path.with_name(f"{path.name}.wal").exists():
            return f"The embedded Snowflake could not close {path} in order, got {str(error).splitlines()[0]}."
    trouble = disk_trouble(error)
    got, remedy = (trouble.got, trouble.remedy) if trouble else (str(error).splitlines()[0], "Look at its disk")
    return (
        f"The embedded Snowflake cannot write {path} in one piece, got {got}. What was committed is kept in {path.name}.wal "
        f"beside it: keep the two together. {remedy}; the next start joins them."
    )
