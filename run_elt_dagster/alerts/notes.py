"""Lines that a message of an incident has besides what failed: since when it was held back, and who has acknowledged it."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.alerts.blocks import Message, Style, cut, date_text, say, with_note
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.runs.tags import ACKNOWLEDGED, bound, own

NAME_LIMIT, REASON_LIMIT = 80, 200


@dataclass(frozen=True)
class Acknowledgement:
    """That a person has taken an incident.

    Attributes:
        by: Who, as the command or Slack names them.
        at: When, in seconds since the epoch.
    """

    by: str
    at: float

    @classmethod
    def of(cls, first: dg.DagsterRun) -> "Acknowledgement | None":
        """Return that of the incident that begins with a run; None if nobody has acknowledged it."""
        try:
            kept = json.loads(own(first, ACKNOWLEDGED) or "")
            return cls(str(kept["by"]), float(kept["at"]))
        except (ValueError, KeyError, TypeError):
            return None

    def tags(self, run_id: str) -> dict[str, str]:
        """Return it as a tag of its own: the sensors write the ledger's entry, and processes of people write this."""
        return {ACKNOWLEDGED: bound(run_id, json.dumps(asdict(self), ensure_ascii=False))}

    def line(self, style: Style) -> str:
        """Return it for the message and its thread."""
        return f"Acknowledged by {say(self.by, style, NAME_LIMIT)}, {date_text(datetime.fromtimestamp(self.at, UTC))}."


def with_notes(message: Message, run: dg.DagsterRun, *, style: Style) -> Message:
    """Return the message of an incident with the lines that its first run keeps."""
    return with_note(message, "\n".join(_lines(run, style)))


def held_line(entry: LedgerEntry, style: Style) -> str:
    """Return since when a message was held back, and why; empty if it was not."""
    if not entry.held_since:
        return ""
    since = date_text(datetime.fromtimestamp(entry.held_since, UTC))
    return f"Held back since {since}: {say(entry.held_for, style, REASON_LIMIT)}."


def paged_line(entry: LedgerEntry, style: Style) -> str:
    """Return when it paged although its tables do not, and why; empty if it did not."""
    if not entry.paged_at:
        return ""
    at = date_text(datetime.fromtimestamp(entry.paged_at, UTC))
    return f":rotating_light: Pages since {at}: {say(entry.paged_for, style, REASON_LIMIT)}."


def shortened(text: str, limit: int) -> str:
    """Return what a person wrote in one line, cut: it must fit into a tag."""
    return cut(" ".join(text.split()), limit)


def _lines(run: dg.DagsterRun, style: Style) -> Iterator[str]:
    if held := held_line(LedgerEntry.of(run), style):
        yield held
    if paged := paged_line(LedgerEntry.of(run), style):
        yield paged
    acknowledged = Acknowledgement.of(run)
    if acknowledged is not None:
        yield f":eyes: {acknowledged.line(style)}"
