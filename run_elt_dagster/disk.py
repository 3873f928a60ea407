"""What went wrong with a disk or a file on it, by what the operating system, DuckDB or SQLite says of it."""

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Enough for the next events of a run. Nothing has this name, so nothing is left behind, not even by a killed process.
PROBE_BYTES = 1 << 20
# The embedded Snowflake's number for a disk that does not take or give what it should: an account has no such error.
EMBEDDED_DISK_ERRNO = 9998


@dataclass(frozen=True)
class DiskTrouble:
    """A kind of trouble.

    Attributes:
        got: What was met, in words: "a disk that is full".
        remedy: The next step.
    """

    got: str
    remedy: str


FULL = DiskTrouble("a disk that is full", "Free space there")
READ_ONLY = DiskTrouble(
    "a disk that is mounted read-only", "Mount it writable, and look for a failing disk in the kernel's log"
)
DENIED = DiskTrouble("no permission", "Let this user write there")
FAILING = DiskTrouble("an input or output error", "Look for a full or failing disk in df and in the kernel's log")
DAMAGED = DiskTrouble("a file that is damaged", "Put a copy of the file back")

_BY_ERRNO = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    # A limit on the size of files, as `ulimit -f` sets it.
    errno.EFBIG: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EIO: FAILING,
}
# SQLite: https://www.sqlite.org/rescode.html. DuckDB quotes the operating system's own words.
_BY_TEXT = (
    ("database or disk is full", FULL),
    ("readonly database", READ_ONLY),
    ("disk i/o error", FAILING),
    ("malformed", DAMAGED),
    ("file is not a database", DAMAGED),
    ("not a valid duckdb database", DAMAGED),
    ("corrupt database file", DAMAGED),
    ("could not read enough bytes", DAMAGED),
    ("checksum", DAMAGED),
    *((os.strerror(number).lower(), trouble) for number, trouble in _BY_ERRNO.items()),
)


class DiskError(OSError):
    """A file or a folder cannot be used: the message says what was met, the consequence and the next step.

    Attributes:
        trouble: What was met; None where the operating system says something else.
    """

    def __init__(self, message: str, *, trouble: DiskTrouble | None = None) -> None:
        super().__init__(message)
        self.trouble = trouble


def disk_trouble(error: BaseException) -> DiskTrouble | None:
    """Return what an error of the operating system, of DuckDB or of SQLite says about a disk; None if it says nothing."""
    if isinstance(error, OSError) and error.errno is not None:
        return _BY_ERRNO.get(error.errno)
    text = str(error).lower()
    return next((trouble for words, trouble in _BY_TEXT if words in text), None)


def writing_trouble(folder: Path) -> DiskTrouble | None:
    """Return what keeps this process from writing into a folder, None if nothing does. Safe to repeat: nothing stays."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return disk_trouble(error) or DiskTrouble(error.strerror or str(error), "Make it a folder that can be written")
    return None
