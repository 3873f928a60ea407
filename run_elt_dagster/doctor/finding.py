"""What a check of a set-up found, how it is shown, and how long it may take to find out."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Generic, Literal, Self, TypeVar

from run_elt_dagster.redaction import redact

Found = TypeVar("Found")
Status = Literal["ok", "FAIL", "skip"]
NAME_WIDTH = 16


class NamedCheck(StrEnum):
    """A check, by the name that is shown, with what makes it fail. docs/doctor.md lists the members of its subclasses.

    Attributes:
        fails_if: In Markdown, behind "fails if".
    """

    fails_if: str

    def __new__(cls, name: str, fails_if: str) -> Self:
        """Make a member of `NAME = "its name", "what makes it fail"`."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.fails_if = fails_if
        return member


@dataclass(frozen=True)
class Finding:
    """One check and what came of it.

    Attributes:
        name: What was looked at.
        status: `skip` is a check that was not made.
        detail: What was found, or why nothing was.
        remedy: The next step where it failed, empty otherwise.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def without(self, secrets: Sequence[str]) -> "Finding":
        """Return it on one line and without secrets: what it says may quote settings and errors of others."""
        name, detail, remedy = (
            redact(" ".join(text.split()), secrets=secrets) for text in (self.name, self.detail, self.remedy)
        )
        return replace(self, name=name, detail=detail, remedy=remedy)

    def as_mapping(self) -> dict[str, str]:
        """Return name, status, detail and remedy."""
        return asdict(self)

    def __str__(self) -> str:
        """Return a line, and for what failed a second one with the next step."""
        line = f"{self.status:4}  {self.name:{NAME_WIDTH}}  {self.detail}"
        return f"{line}\n{'':{NAME_WIDTH + 6}}  -> {self.remedy}" if self.remedy else line


def ok(name: str, detail: str) -> Finding:
    """Return a check that found everything in order."""
    return Finding(name, "ok", detail)


def failed(name: str, detail: str, remedy: str) -> Finding:
    """Return a check that found something to be mended."""
    return Finding(name, "FAIL", detail, remedy)


def skipped(names: Sequence[str], reason: str) -> Iterator[Finding]:
    """Yield checks that were not made."""
    for name in names:
        yield Finding(name, "skip", reason)


def summary(findings: Sequence[Finding]) -> str:
    """Return how many were in order, failed and were not made."""
    counts = {status: sum(finding.status == status for finding in findings) for status in ("ok", "FAIL", "skip")}
    return f"{counts['ok']} ok, {counts['FAIL']} failed, {counts['skip']} skipped"


def within(seconds: float, subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds as it is found; what it raises, and that it takes too long, are findings too.

    A look that hangs goes on in a thread that ends with the process.
    """
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            for finding in look():
                found.put(finding)
        except Exception as error:  # noqa: BLE001 - the other checks say something all the same
            found.put(
                failed(subject, f"the look at it broke off: {type(error).__name__}: {error}", "Mend what it names.")
            )
        finally:
            found.put(None)

    threading.Thread(target=run, daemon=True, name=f"doctor-{subject}").start()
    until = time.monotonic() + seconds
    while True:
        try:
            finding = found.get(timeout=max(until - time.monotonic(), 0.001))
        except queue.Empty:
            detail = f"requires answers within {seconds:g} s, got none in time. What comes after was not looked at."
            yield failed(subject, detail, "Look at the network and at what the last line named, then try again.")
            return
        if finding is None:
            return
        yield finding


class Later(Generic[Found]):
    """A look that is made while others go on, in a thread that ends with the process."""

    def __init__(self, look: Callable[[], Found]) -> None:
        self._results: queue.SimpleQueue[Found | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(look,), daemon=True, name="doctor-meanwhile").start()

    def _run(self, look: Callable[[], Found]) -> None:
        try:
            self._results.put(look())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._results.put(error)

    def result(self) -> Found:
        """Wait for what it found, once; raises what it raised."""
        result = self._results.get()
        if isinstance(result, Exception):
            raise result
        return result
