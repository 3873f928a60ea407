"""One process at a time: the lock on the embedded Snowflake's directory."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
HOLDER_FILE = ".holder.json"
FIRST_MESSAGE_SECONDS = 1.0
NEXT_MESSAGE_SECONDS = 30.0
COMMAND_CHARACTERS = 200


@contextmanager
def directory_lock(directory: Path, *, wait_seconds: float, log: Callable[[str], None]) -> Generator[None]:
    """Hold an existing directory's lock, which the operating system takes back even from a process that was killed.

    Who is waited for is logged after a second and then every half minute.

    Raises:
        TimeoutError: Another process held the lock all the time.
    """
    lock = FileLock(directory / LOCK_FILE, thread_local=False)
    _acquire(lock, directory, wait_seconds=wait_seconds, log=log)
    try:
        _write_holder(directory)
        yield
    finally:
        (directory / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, directory: Path, *, wait_seconds: float, log: Callable[[str], None]) -> None:
    deadline = time.monotonic() + wait_seconds
    patience = FIRST_MESSAGE_SECONDS
    while True:
        left = deadline - time.monotonic()
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=max(min(patience, left), 0), poll_interval=0.05)
            return
        if deadline <= time.monotonic():
            raise TimeoutError(
                f"The embedded Snowflake in {directory} requires to be used by one process at a time, got "
                f"{_holder(directory)} holding it for more than {wait_seconds:g} s. Nothing was executed. Wait for that process "
                "or end it, then try again."
            )
        log(f"Waiting for the embedded Snowflake in {directory}: it is used by {_holder(directory)}.")
        patience = NEXT_MESSAGE_SECONDS


def _write_holder(directory: Path) -> None:
    """Say who holds the lock, in one piece, since others may read at any moment."""
    draft = directory / f"{HOLDER_FILE}.{os.getpid()}"
    command = " ".join(" ".join(sys.orig_argv).split())[:COMMAND_CHARACTERS]
    draft.write_text(json.dumps({"pid": os.getpid(), "command": command}), encoding="utf-8")
    draft.replace(directory / HOLDER_FILE)


def _holder(directory: Path) -> str:
    try:
        holder = json.loads((directory / HOLDER_FILE).read_text(encoding="utf-8"))
        return f"process {holder['pid']} ({holder['command']})"
    except (OSError, ValueError, KeyError):
        return "another process"
