"""The ledger: how the alert of a failed run stands, kept in the run's tags."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import dagster as dg

from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.runs.tags import ALERT, DETAIL, INCIDENT, OPEN, bound, own

Status = Literal["", "posting", "delivered", "held", "queued", "digest", "retry", "blocked", "undeliverable"]
State = Literal["", "open", "recovered", "closed"]
# docs/alerts.md is written from both.
STATUSES: Mapping[Status, str] = {
    "delivered": "it is in Slack",
    "held": "its tables are snoozed, or have quiet hours. It comes when that ends",
    "queued": "the daily digest takes it within a minute",
    "digest": "the daily digest has it, and is posted at its hour",
    "retry": "Slack did not take it. The next attempt comes by itself",
    "blocked": "a person must correct the token, a scope or the channel",
    "undeliverable": "token or channel are not set, or the retries are used up",
    "posting": "an attempt is under way, or its process was killed",
    "": "not tried yet, or copied by a re-execution from another run",
}

# Several requests to Slack may belong to one attempt; the reason must fit into a tag.
REASON_LIMIT = 300
_DIGEST_CHARACTERS = 8
# Runs that one reply speaks of, besides the one that it is kept with: their ids must fit into a tag too.
COVERED_LIMIT = 60
_ID_CHARACTERS = 12
# The location of a run without one, since a tag without a value is nothing to filter by.
_NOWHERE = "-"


@dataclass(frozen=True)
class LedgerEntry:
    """The ledger's entry of a run.

    Attributes:
        status: How the alert stands; empty if it was never tried.
        attempts: How often it was posted in vain.
        next_at: Not before this moment, in seconds since the epoch; 0 for at once.
        reason: Why it is not delivered.
        ambiguous: Whether an attempt may have posted it.
        ts: Slack's id of the message.
        channel: ID of its channel.
        thread_ts: The first message of its thread; itself if it is the first.
        config: A fingerprint of token and channel, to notice a change.
        destination: A fingerprint of the channel alone, to notice that a thread is in another one.
        location: The code location that alerts of it.
        covers: How the ids of the runs start that the same message speaks of.
        first: On a repeat, the id of the run whose message it replies to.
        fingerprint: What makes another failure the same one; on the first of an incident.
        state: How the incident stands; on its first.
        last_failed_at: When it failed last, in seconds since the epoch; on the first of an incident.
        recovery_attempts: How often its recovery was announced in vain.
        down: Whether Slack answered nothing else either when it was posted in vain.
        quiet_until: Slack asked for no message before this moment, in seconds since the epoch.
        released: Whether it became due before its time once, since another one got through.
        listed: Whether the runs that it covers failed of other causes: its message is a list.
        held_since: Since when it was held back, in seconds since the epoch; 0 if it never was.
        held_for: Why it was held back.
        acknowledged_at: Which acknowledgement its thread tells of, by its moment in seconds since the epoch; on the first of an
            incident.
        paged_at: When it paged although its tables do not, in seconds since the epoch; on the first of an incident.
        paged_for: Why it paged.
        page_tried_at: When an attempt to page was made whose answer is unknown.
    """

    status: Status = ""
    attempts: int = 0
    next_at: float = 0
    reason: str = ""
    ambiguous: bool = False
    ts: str = ""
    channel: str = ""
    thread_ts: str = ""
    config: str = ""
    destination: str = ""
    location: str = ""
    covers: tuple[str, ...] = ()
    first: str = ""
    fingerprint: str = ""
    state: State = ""
    last_failed_at: float = 0
    recovery_attempts: int = 0
    down: bool = False
    quiet_until: float = 0
    released: bool = False
    listed: bool = False
    held_since: float = 0
    held_for: str = ""
    acknowledged_at: float = 0
    paged_at: float = 0
    paged_for: str = ""
    page_tried_at: float = 0

    @classmethod
    def of(cls, run: dg.DagsterRun) -> "LedgerEntry":
        """Return the entry of a run; an empty one if it has none of its own. What a person sets in the one visible tag counts."""
        kept = _kept(own(run, DETAIL))
        if kept is None:
            return cls()
        kept |= {"covers": tuple(kept.get("covers", ())), "status": run.tags.get(ALERT, "")}
        return cls(**kept)

    def tags(self, run_id: str) -> dict[str, str]:
        """Return the entry as tags of this run; all of them, so nothing of an earlier entry stays."""
        shortened = replace(self, status="", reason=self.reason[:REASON_LIMIT])
        kept = {name: value for name, value in asdict(shortened).items() if value != getattr(LedgerEntry(), name)}
        is_open = self.state == "open"
        return {
            ALERT: self.status,
            DETAIL: bound(run_id, json.dumps(kept, ensure_ascii=False)),
            INCIDENT: self.first or (self.fingerprint if is_open else ""),
            OPEN: (self.location or _NOWHERE) if is_open else "",
        }

    def is_due(self, *, now: float, config: str) -> bool:
        """Return whether an attempt may be made now, with the token and the channel as they are."""
        if self.status in ("", "held", "retry", "posting"):
            return now >= self.next_at
        if self.status in ("blocked", "undeliverable"):
            return self.config != config or (self.next_at > 0 and now >= self.next_at)
        return False

    def waits_for_slack(self, config: str) -> bool:
        """Return whether it was posted in vain, with this token and channel, and is tried again by itself."""
        is_tried_again = self.status in ("retry", "blocked") or (self.status == "undeliverable" and self.next_at > 0)
        return is_tried_again and self.config == config

    @property
    def is_free(self) -> bool:
        """Whether it is in no message, not even in one that may have been posted, so any may speak of it."""
        return self.status not in ("posting", "delivered", "queued", "digest") and not self.ambiguous


def open_incidents(location: str, *, fingerprint: str | None = None) -> Mapping[str, str]:
    """Return the tags that find the first runs of open incidents; copies of them have the same."""
    return {OPEN: location or _NOWHERE, **({} if fingerprint is None else {INCIDENT: fingerprint})}


def start_of(run_id: str) -> str:
    """Return the part of a run's id that an entry keeps of each run that it covers."""
    return run_id[:_ID_CHARACTERS]


def config_of(slack: Slack) -> str:
    """Return a fingerprint of token and channel. Neither can be read from it."""
    return _fingerprint(slack.token, slack.channel, slack.base_url)


def destination_of(slack: Slack) -> str:
    """Return a fingerprint of the channel. It cannot be read from it."""
    return _fingerprint(slack.channel, slack.base_url)


def _fingerprint(*parts: str | None) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _kept(text: str | None) -> dict[str, Any] | None:
    try:
        kept = json.loads(text or "")
    except ValueError:
        return None
    known = {each.name for each in fields(LedgerEntry)}
    return {name: value for name, value in kept.items() if name in known} if isinstance(kept, dict) else None
