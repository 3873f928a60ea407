"""An interruption in a place from which Python lets no exception out, in a process of its own."""

import subprocess
import sys

import pytest

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

try:
    with repeat_lost_interruptions(pause_seconds=1):
        globals()[sys.argv[1]]()
        os.write(1, b"goes on\\n")
        threading.Event().wait(60)
        print("was not interrupted")
except KeyboardInterrupt:
    print("interrupted")
print(sys.unraisablehook is sys.__unraisablehook__)
"""

WAYS = [
    "in_a_finalizer",
    "in_a_weak_reference_s_callback",
    "in_a_finalize",
    "in_the_garbage_collector",
    "in_a_generator_that_nobody_holds",
    "twice",
]


def run(way: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, way], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


@pytest.mark.parametrize("way", WAYS)
def test_interruption_that_is_swallowed_is_repeated(way: str) -> None:
    ran = run(way)
    assert ran.stdout.splitlines() == ["goes on", "interrupted", "True"], ran.stderr


def test_error_of_a_finalizer_is_still_printed() -> None:
    ran = run("in_a_finalizer", SCRIPT.replace("signal.raise_signal(signal.SIGINT)", "print(1 / 0)").replace("60", "0"))
    assert "ZeroDivisionError" in ran.stderr
    assert "was not interrupted" in ran.stdout


def test_block_that_has_ended_is_interrupted_no_more() -> None:
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
    assert run("", script).stdout == "left alone\n"
