"""Requests to Snowflake that may never get an answer: each is made in a thread of its own, and a run can leave it behind."""

import contextlib
import random
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

# How long Snowflake may leave a request without an answer.
LIMIT_SECONDS = 900.0
# When the log begins to say what is waited for, and how often it says it again.
REPORT_AFTER_SECONDS, REPORT_AGAIN_SECONDS = 30.0, 180.0
# Snowflake answers after 45 s at most that a query is still running, and the connector asks again. Silence of twice that is none.
# https://github.com/snowflakedb/snowflake-connector-python/blob/main/src/snowflake/connector/network.py
REPORTS_OF_RUNNING = 3
NAMES_SHOWN = 5
# What the end of a session may take where Snowflake answers, and where it does not.
CLOSE_SECONDS, GIVEN_UP_CLOSE_SECONDS = 10.0, 1.0
# Seconds between two tries of one request, as the connector's own policy has them.
LONGEST_PAUSE_SECONDS = 16

T = TypeVar("T")
_this_thread = threading.local()
_by_connection: "weakref.WeakKeyDictionary[Any, Answers]" = weakref.WeakKeyDictionary()


class NoAnswerError(Exception):
    """Snowflake has not answered a request in time, or the run waits for it no longer; it may still take effect.

    Attributes:
        query_id: Snowflake's id of the query, if an earlier answer has named it.
    """

    def __init__(self, message: str, *, query_id: str | None = None) -> None:
        super().__init__(message)
        self.query_id = query_id


class Request(Generic[T]):
    """A request that waits for its answer.

    Attributes:
        what: What it is, in words.
        over: Set once it is answered or given up.
        given_up: Whether no caller waits for it any longer. Nothing is sent for it any more.
        query_id: Snowflake's id of the query, None as long as no answer has named it.
        heard: How often a part of it was sent: more than once where Snowflake has answered that it is still running.
    """

    def __init__(self, what: str, make: Callable[[], T], discard: Callable[[T], None]) -> None:
        self.what = what
        self.over = threading.Event()
        self.given_up = False
        self.query_id: str | None = None
        self.heard = 0
        self._make, self._discard = make, discard
        self._lock = threading.Lock()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._last_answer = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """How long ago it was sent, or Snowflake has answered last that it is still running."""
        return time.monotonic() - self._last_answer

    def start(self) -> None:
        """Make the request in a thread that no process waits for when it ends."""
        threading.Thread(target=self._run, name=f"request {self.what}", daemon=True).start()

    def next_part(self) -> None:
        """Note that a part of it is about to be sent: what was sent before is answered.

        Raises:
            NoAnswerError: It was given up.
        """
        if self.given_up:
            raise NoAnswerError(f"{self.what} was given up")
        self.heard += 1
        self._last_answer = time.monotonic()

    def give_up(self) -> None:
        """Let no caller wait for it any longer."""
        with self._lock:
            if not self.over.is_set():
                self.given_up = True
                self.over.set()

    def result(self) -> T:
        """Return what the request gave, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result  # pyright: ignore[reportReturnType] - set together with `over`

    def _run(self) -> None:
        _this_thread.request = self
        try:
            result, error = self._make(), None
        except BaseException as raised:  # noqa: BLE001 - it is raised where the answer is waited for
            result, error = None, raised
        with self._lock:
            if not self.given_up:
                self._result, self._error = result, error
                self.over.set()
                return
        if result is not None:
            self._discard(result)


class Answers:
    """The requests of a run, or of a command, that wait for Snowflake's answer.

    The connector repeats a request for ever; its `network_timeout` would end that, but it ends each query after the same
    time too, also one that Snowflake goes on answering for. A limit here is on the silence.

    Args:
        limit_seconds: How long Snowflake may leave a request without an answer.
    """

    def __init__(self, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.limit_seconds = limit_seconds
        self._given_up = False
        self._close_seconds = CLOSE_SECONDS
        self._open: list[Request[Any]] = []
        self._lock = threading.Lock()

    @classmethod
    def of(cls, connection: Any) -> "Answers":
        """Return those that a connection was opened with, new ones if it was opened by other means."""
        return _by_connection.get(connection) or cls()

    def adopt(self, connection: Any) -> None:
        """Let whatever is asked of a connection be bounded by these."""
        _by_connection[connection] = self

    def ask(
        self,
        what: str,
        make: Callable[[], T],
        *,
        limit_seconds: float | None = None,
        discard: Callable[[T], None] = lambda _: None,
        is_last: bool = False,
    ) -> T:
        """Make a request, and return or raise what it gives.

        Args:
            what: What it is, in words, for the log and the error.
            make: Makes it; called in another thread.
            limit_seconds: How long it may stay without an answer, if not as long as every other.
            discard: Called with the result if it comes when no caller waits any longer.
            is_last: Whether it is made even if nothing is sent any more, since it has something to tidy up on this side too.

        Raises:
            NoAnswerError: No answer came in time, or the run waits no longer. The request may still take effect.
        """
        request, limit = Request(what, make, discard), limit_seconds or self.limit_seconds
        with self._lock:
            if self._given_up and not is_last:
                raise NoAnswerError(f"{what} was not sent, since the run waits for no answer any longer")
            self._open.append(request)
        try:
            request.start()
            while not request.over.wait(max(limit - request.silent_seconds, 0)):
                if request.silent_seconds >= limit:
                    request.give_up()
        finally:
            # Also where an interruption is raised in this thread.
            request.give_up()
            with self._lock:
                self._open.remove(request)
        if request.given_up:
            self._close_seconds = GIVEN_UP_CLOSE_SECONDS
            raise NoAnswerError(self._problem(request), query_id=request.query_id)
        return request.result()

    def close(self, close: Callable[[], None]) -> None:
        """Close a connection; where Snowflake does not answer, leave it to a thread: Snowflake ends the session by itself.

        The connector tells Snowflake about it, up to four times a minute each. A run has nothing to wait for there.
        """
        with contextlib.suppress(NoAnswerError):
            self.ask("closing a session", close, limit_seconds=self._close_seconds, is_last=True)

    def give_up(self) -> None:
        """Wait for nothing any longer, and send nothing any more."""
        with self._lock:
            self._given_up, self._close_seconds = True, GIVEN_UP_CLOSE_SECONDS
            requests = list(self._open)
        for request in requests:
            request.give_up()

    def pauses(self) -> Iterator[int]:
        """Return the pauses between the tries of one request; called by the connector for each request that it sends.

        It is the connector's `backoff_policy`: https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api

        Raises:
            NoAnswerError: Nothing is sent any more. The connector then does not send it.
        """
        if self._given_up:
            raise NoAnswerError("nothing is sent any more")
        request: Request[Any] | None = getattr(_this_thread, "request", None)
        if request is not None:
            request.next_part()
        return _Pauses(request, limit_seconds=self.limit_seconds)

    def note_query_id(self, answer: Any) -> None:
        """Note the id that an answer gives to the query of this thread's request."""
        request: Request[Any] | None = getattr(_this_thread, "request", None)
        data = answer.get("data") if isinstance(answer, dict) else None
        if request is not None and isinstance(data, dict) and data.get("queryId"):
            request.query_id = str(data["queryId"])

    def silent(self, seconds: float) -> list[Request[Any]]:
        """Return the requests that have waited for so long, the longest first; longer, if Snowflake has said that they run."""
        with self._lock:
            requests = list(self._open)
        waiting = [r for r in requests if r.silent_seconds >= seconds * (REPORTS_OF_RUNNING if r.heard > 1 else 1)]
        return sorted(waiting, key=lambda request: -request.silent_seconds)

    @contextmanager
    def reported(
        self,
        tell: Callable[[str], None],
        *,
        after_seconds: float,
        again_seconds: float,
    ) -> Generator[None]:
        """Log what is waited for and since when, again every few minutes, and when it goes on, until the block ends."""
        ended, report = threading.Event(), _Report(self, tell, after_seconds, again_seconds)

        def watch() -> None:
            while not ended.wait(min(after_seconds / 5, 1)):
                # A storage of Dagster's that is away is no reason to stop looking.
                with contextlib.suppress(Exception):
                    report.look()

        thread = threading.Thread(target=watch, name="answers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            # Not for ever: a storage that is away must not hold up the end of a run.
            thread.join(1)
            if not thread.is_alive():
                with contextlib.suppress(Exception):
                    report.say_that_it_goes_on()

    def _problem(self, request: Request[Any]) -> str:
        since = _clock_time(request.silent_seconds)
        if self._given_up:
            return f"the run ended while Snowflake had not answered since {since}"
        return (
            f"Snowflake has not answered since {since}, for {request.silent_seconds:.0f} s: the limit for a request without an "
            "answer (RUN_ELT_ANSWER_TIMEOUT_SECONDS)"
        )


class _Pauses(Iterator[int]):
    """Seconds before each next try of a request; raises instead of sending one that no caller waits for."""

    def __init__(self, request: Request[Any] | None, *, limit_seconds: float) -> None:
        self._request = request
        self._until = time.monotonic() + limit_seconds
        self._longest = 1

    def __next__(self) -> int:
        if self._request is None and time.monotonic() > self._until:
            raise _unreachable()
        if self._request is not None and self._request.given_up:
            raise NoAnswerError("no caller waits for the answer any longer")
        longest, self._longest = self._longest, min(self._longest * 2, LONGEST_PAUSE_SECONDS)
        # Sixty-four tables that were turned away together do not come back together.
        return random.randint(-(-longest // 2), longest)  # noqa: S311 - no secret


def _unreachable() -> Exception:
    """Return the error of a request outside of `ask`, as who uses a connection directly expects it."""
    from snowflake.connector.errorcode import ER_FAILED_TO_REQUEST  # noqa: PLC0415 - half a second to import
    from snowflake.connector.errors import OperationalError  # noqa: PLC0415

    return OperationalError(msg="Snowflake has not answered in time", errno=ER_FAILED_TO_REQUEST)


class _Report:
    """What the log has said about silence, and what it says next."""

    def __init__(
        self, answers: Answers, tell: Callable[[str], None], after_seconds: float, again_seconds: float
    ) -> None:
        self._answers, self._tell = answers, tell
        self._after, self._again = after_seconds, again_seconds
        self._told: list[Request[Any]] = []
        self._told_at = self._began = 0.0

    def look(self) -> None:
        """Say what is to be said now."""
        now, silent = time.monotonic(), self._answers.silent(self._after)
        if not silent:
            self.say_that_it_goes_on()
            return
        if not self._told:
            self._began = now - silent[0].silent_seconds
        is_new = any(request not in self._told for request in silent)
        if not self._told or now - self._told_at >= (self._after if is_new else self._again):
            # What has only begun to wait is named at once: its own report would come just after this one.
            self._told, self._told_at = self._answers.silent(self._after / 3), now
            self._tell(_waiting_text(self._told, limit_seconds=self._answers.limit_seconds))

    def say_that_it_goes_on(self) -> None:
        """Say so, if what was waited for is answered."""
        if any(not request.given_up for request in self._told):
            self._tell(f"Snowflake has answered after {_duration(time.monotonic() - self._began)}: it goes on.")
        self._told = []


def _waiting_text(requests: Sequence[Request[Any]], *, limit_seconds: float) -> str:
    longest = requests[0].silent_seconds
    names = [f"{request.what} since {_clock_time(request.silent_seconds)}" for request in requests[:NAMES_SHOWN]]
    more = f", and {len(requests) - NAMES_SHOWN} more" if len(requests) > NAMES_SHOWN else ""
    return (
        f"Waiting for Snowflake's answer for {_duration(longest)}: {', '.join(names)}{more}. A request without an answer "
        f"fails after {_duration(limit_seconds)} (RUN_ELT_ANSWER_TIMEOUT_SECONDS)."
    )


def _clock_time(seconds_ago: float) -> str:
    return f"{datetime.fromtimestamp(time.time() - seconds_ago, UTC):%H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"  # noqa: PLR2004 - two minutes
