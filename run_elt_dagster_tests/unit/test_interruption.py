"""An interruption in a place from which Python lets no exception out, in processes of their own."""

import subprocess
import sys
from pathlib import Path

from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

SCRIPT = """
import gc, os, signal, sys, threading, time, weakref
from run_elt_dagster.orchestration.interruption import repeat_lost_interruptions

class Thing:
    pass

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def interrupt(*_):
    gc.callbacks.clear()
    signal.raise_signal(signal.SIGINT)

def in_a_finalizer():
    Finalized()

def in_a_weak_reference_s_callback():
    global kept
    thing = Thing()
    kept = weakref.ref(thing, interrupt)
    del thing

def in_a_finalize():
    thing = Thing()
    weakref.finalize(thing, interrupt)

def in_the_garbage_collector():
    gc.callbacks.append(interrupt)
    gc.collect()

def in_a_generator_that_nobody_holds():
    def generator():
        try:
            yield
        finally:
            signal.raise_signal(signal.SIGINT)
    next(generator())

def twice():
    handler = signal.getsignal(signal.SIGINT)
    def once_more(*arguments):
        signal.signal(signal.SIGINT, handler)
        Finalized()
    signal.signal(signal.SIGINT, once_more)
    Finalized()

def tell(way):
    try:
        with repeat_lost_interruptions(pause_seconds=1):
            globals()[way]()
            os.write(1, b"goes on\\n")
            threading.Event().wait(60)
            print("was not interrupted")
    except KeyboardInterrupt:
        print("interrupted")
    print(sys.unraisablehook is sys.__unraisablehook__)

# Each in a process of its own, which has imported nothing anew, and says in a file what happened.
for way in sys.argv[1:]:
    if not os.fork():
        os.dup2(os.open(way, os.O_WRONLY | os.O_CREAT), 1)
        tell(way)
        sys.stdout.flush()
        os._exit(0)
for _ in sys.argv[1:]:
    os.wait()
"""

WAYS = [
    "in_a_finalizer",
    "in_a_weak_reference_s_callback",
    "in_a_finalize",
    "in_the_garbage_collector",
    "in_a_generator_that_nobody_holds",
    "twice",
]


def run(folder: Path, *ways: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *ways],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def test_interruption_that_is_swallowed_is_repeated(tmp_path: Path) -> None:
    ran = run(tmp_path, *WAYS)
    said = {way: (tmp_path / way).read_text(encoding="utf-8").splitlines() for way in WAYS}
    assert said == {way: ["goes on", "interrupted", "True"] for way in WAYS}, ran.stderr


def test_error_of_a_finalizer_is_still_printed(tmp_path: Path) -> None:
    script = SCRIPT.replace("signal.raise_signal(signal.SIGINT)", "print(1 / 0)").replace("60", "0")
    ran = run(tmp_path, "in_a_finalizer", script=script)
    assert "ZeroDivisionError" in ran.stderr
    assert "was not interrupted" in (tmp_path / "in_a_finalizer").read_text(encoding="utf-8")


def test_block_that_has_ended_is_interrupted_no_more(tmp_path: Path) -> None:
    script = """
import signal, time
from run_elt_dagster.orchestration.interruption import repeat_lost_interruptions
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
with repeat_lost_interruptions(pause_seconds=0.05):
    Finalized()
time.sleep(0.3)
print("left alone")
"""
    assert run(tmp_path, script=script).stdout == "left alone\n"
