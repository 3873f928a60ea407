"""An interruption that Python swallows is sent again: a run that was told to end must not go on."""

import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

PAUSE_SECONDS = 0.2


@contextmanager
def repeat_lost_interruptions(*, pause_seconds: float = PAUSE_SECONDS) -> Generator[None]:
    """Interrupt the main thread again where an interruption was swallowed, until the block ends.

    A signal's exception comes up wherever the main thread happens to be. In a finalizer, a weak reference's callback or one of
    the garbage collector's it cannot go on: Python prints "Exception ignored in" and forgets it.
    https://docs.python.org/3/library/sys.html#sys.unraisablehook

    Args:
        pause_seconds: How long after the loss; what swallowed the interruption is over then.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        # Signals are for the main thread alone.
        yield
        return
    ended, lock = threading.Event(), threading.Lock()
    before = sys.unraisablehook

    def repeat() -> None:
        ended.wait(pause_seconds)
        with lock:
            if not ended.is_set() and main.ident is not None:
                signal.pthread_kill(main.ident, signal.SIGINT)

    def look(unraisable: "UnraisableHookArgs") -> None:
        if threading.current_thread() is main and _is_interruption(unraisable.exc_type):
            threading.Thread(target=repeat, name="repeat_interruption", daemon=True).start()
        else:
            before(unraisable)

    sys.unraisablehook = look
    try:
        yield
    finally:
        with lock:
            ended.set()
        sys.unraisablehook = before


def _is_interruption(error: type[BaseException]) -> bool:
    """Separate KeyboardInterrupt and Dagster's own interruption from errors."""
    return not issubclass(error, (Exception, GeneratorExit, SystemExit))
