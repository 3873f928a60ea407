"""How the op ends when it is interrupted: a run that was told to end must not go on, nor hang, nor count as a failure."""

import atexit
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import dagster as dg

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


@contextmanager
def closed_at_exit() -> Generator[ExitStack]:
    """Yield a stack that is closed when the block ends, or when the process does before that.

    Where Dagster's storage fails, it leaves an op that has yielded a result where it is. Python ends it when no thread can be
    started any more: closing a session would then wait for ever, and the process with it.
    """
    with ExitStack() as opened:
        atexit.register(opened.close)
        try:
            yield opened
        finally:
            atexit.unregister(opened.close)


@contextmanager
def ends_as_cancelled(context: dg.AssetExecutionContext) -> Generator[None]:
    """Let a run of the command line end as cancelled when a person interrupts it. Dagster calls that a failure.

    What the UI terminates is being cancelled already when the signal comes, or, if it was forced, has been. A worker of a
    deployment that no person has cancelled was ended by its platform: that stays a failure. It alerts, and Dagster may
    retry.
    """
    try:
        yield
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        # KeyboardInterrupt, or Dagster's own interruption.
        run = context.instance.get_run_by_id(context.run.run_id)
        by_hand = run is not None and run.remote_job_origin is None and run.status is dg.DagsterRunStatus.STARTED
        if run is not None and (by_hand or run.status is dg.DagsterRunStatus.CANCELED):
            context.instance.report_run_canceling(run, "Interrupted: the queries of the run are cancelled.")
        raise
