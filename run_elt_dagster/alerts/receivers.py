"""Receivers of alerts besides Slack, by Apprise: one attempt to send a text, and what came of it.

https://appriseit.com/services/ lists the kinds. Apprise is an extra, and imported by what sends alone.
"""

import logging
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlencode

from run_elt_dagster.redaction import redact
from run_elt_dagster.settings import AlertSettings, note_secrets

Mood = Literal["failure", "warning", "success"]

# Apprise stops waiting then, whatever the receiver does.
SEND_SECONDS = 45
TITLE_LIMIT, TEXT_LIMIT, REASON_LIMIT = 200, 6000, 200
EXTRA = "run_elt_dagster[receivers]"
NOT_INSTALLED = f"a receiver requires the package apprise, got none. Install it: pip install '{EXTRA}'."
NOT_READ = (
    "a receiver requires an address that Apprise reads, got another one. Correct it in RUN_ELT_ALERT_RECEIVERS; "
    "https://appriseit.com/services/ has the form of each kind."
)
# A part of an address shorter than this would tear words of a log line apart.
_SHORTEST_PART = 4
# The second one has the path of each request, for who logs at the level DEBUG.
_LOGGERS = ("apprise", "urllib3.connectionpool")
_private: ContextVar[tuple[str, ...]] = ContextVar("run_elt_receiver", default=())


@dataclass(frozen=True)
class Receiver:
    """A receiver of alerts.

    Attributes:
        name: What a person calls it: all that messages and logs contain.
        address: For Apprise; a secret.
    """

    name: str
    address: str = field(repr=False)

    @property
    def kind(self) -> str:
        """The kind, as in `mailto`."""
        return self.address.partition("://")[0].lower()

    @property
    def keeps_incidents(self) -> bool:
        """Whether it takes an incident's key: a message that is sent again is no second incident then, and a recovery ends it.

        https://developer.pagerduty.com/docs/events-api-v2-overview
        """
        return self.kind == "pagerduty" and not re.search(r"[?&](?:dedup|action)=", self.address, re.IGNORECASE)

    def about(self, incident: str, *, is_over: bool) -> str:
        """Return its address for a message about an incident: with the incident's key where it takes one."""
        if not self.keeps_incidents or not incident:
            return self.address
        sign = "&" if "?" in self.address else "?"
        return f"{self.address}{sign}{urlencode({'dedup': incident, 'action': 'resolve' if is_over else 'trigger'})}"


@dataclass(frozen=True)
class Letter:
    """What is sent.

    Attributes:
        title: One line.
        text: The rest; plain.
        mood: What the receiver may colour or rank it by.
    """

    title: str
    text: str
    mood: Mood = "failure"


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt.

    Attributes:
        kind: `failed` is tried again, though the message may have arrived: Apprise does not tell. `unusable` needs a person.
        reason: Why it is not delivered, without any part of the address.
    """

    kind: Literal["delivered", "failed", "unusable"]
    reason: str = ""


def receivers_of(settings: AlertSettings) -> tuple[Receiver, ...]:
    """Return the receivers of a deployment; their addresses count as secrets from then on."""
    note_secrets(*settings.receiver_addresses.values())
    return tuple(Receiver(name, address) for name, address in settings.receiver_addresses.items())


def send(receiver: Receiver, write: Callable[[int], Letter], *, incident: str = "", is_over: bool = False) -> Outcome:
    """Send once. Apprise's own retries stay off: they repeat a message whose answer was lost, too.

    Args:
        receiver: To whom.
        write: Returns the message; its argument is how long title and text may be together.
        incident: What the message is about, for a receiver that keeps incidents.
        is_over: Whether the incident is over.

    Returns:
        Delivered, or why not. It raises nothing.
    """
    with _kept_private(receiver.address):
        try:
            service = _service(receiver.about(incident, is_over=is_over))
            return service if isinstance(service, Outcome) else _sent(service, write)
        except Exception as error:  # noqa: BLE001 - Apprise's kinds are written by many hands
            return Outcome("failed", f"{type(error).__name__}")


def problem_of(receiver: Receiver) -> str:
    """Return why a receiver cannot be used, empty if it can. Nothing is sent."""
    with _kept_private(receiver.address):
        service = _service(receiver.address)
    return service.reason if isinstance(service, Outcome) else ""


def _service(address: str) -> Any:
    """Return Apprise's object of one address, or why there is none."""
    try:
        import apprise  # noqa: PLC0415 - an extra, and 0.5 s of CPU
    except ImportError:
        return Outcome("unusable", NOT_INSTALLED)
    asset = apprise.AppriseAsset(async_mode=False, app_id="run_elt_dagster", app_desc="run_elt_dagster")
    return apprise.Apprise.instantiate(address, asset=asset) or Outcome("unusable", NOT_READ)


def _sent(service: Any, write: Callable[[int], Letter]) -> Outcome:
    import apprise  # noqa: PLC0415

    letter = write(min(int(service.body_maxlen), TEXT_LIMIT))
    one = apprise.Apprise(asset=service.asset)
    one.add(service)
    result = one.notify(
        body=letter.text,
        title=letter.title,
        notify_type=letter.mood,
        body_format=apprise.NotifyFormat.TEXT,
        timeout=SEND_SECONDS,
    )
    # It equals neither True nor False: https://github.com/caronc/apprise, apprise/result.py of 2.3.
    if result:
        return Outcome("delivered")
    said = [entry.message for entry in result.logs()]
    what = "no answer in time" if result.status.name == "TIMEOUT" else "not taken"
    words = " ".join(said[-1].split()) if said else what
    return Outcome("failed", redact(words, secrets=_private.get())[:REASON_LIMIT].rstrip(".") or what)


@contextmanager
def _kept_private(address: str) -> Generator[None]:
    """Keep the parts of an address out of what Apprise logs meanwhile."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _WithoutAddresses) for each in logger.filters):
            logger.addFilter(_WithoutAddresses())
    token = _private.set(_parts(address))
    try:
        yield
    finally:
        _private.reset(token)


class _WithoutAddresses(logging.Filter):
    """Redacts a record that was written while one of our receivers was asked; others stay as they are."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take out the parts of the address; keep every record."""
        if parts := _private.get():
            record.msg, record.args = redact(record.getMessage(), secrets=parts), ()
        return True


def _parts(address: str) -> tuple[str, ...]:
    rest = address.partition("://")[2]
    found = [address, rest, *re.split(r"[/:@?&=,;+\s]+", rest)]
    return tuple(dict.fromkeys(form for part in found for form in (part, unquote(part)) if len(form) >= _SHORTEST_PART))
