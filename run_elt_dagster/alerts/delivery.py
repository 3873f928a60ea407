"""Delivery: one attempt to post an alert, and what became of it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from run_elt_dagster.alerts.blocks import Message
from run_elt_dagster.alerts.ledger import LedgerEntry, State, Status, config_of, destination_of, start_of
from run_elt_dagster.alerts.posting import (
    CHANNEL_ERRORS,
    FROZEN_ERRORS,
    Outcome,
    answers,
    ask,
    find_posted,
    is_gone,
    post,
    post_where,
    update,
)
from run_elt_dagster.alerts.slack import Slack

if TYPE_CHECKING:
    from slack_sdk.web.client import WebClient

Clock = Callable[[], float]

RETRY_SECONDS = (60, 120, 240)
# What has used up its retries is tried again this often, one for all: enough to notice that Slack is there again, and no storm.
PROBE_SECONDS = 60
# The same for alerts that a person must act for: every tick, since a person who has acted looks for the alert.
BLOCKED_SECONDS = 30
# The same for an alert with its retries used up that may have been posted without an answer: each time it may appear once more.
DOUBTFUL_PROBE_SECONDS = 600
# After this, an attempt whose process never came back counts as one whose answer was lost.
POSTING_SECONDS = 90

# Both sensors are evaluated in the code server's one process. While one posts, the other must not look at the ledger.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Thread:
    """The thread that a repeat belongs into.

    Attributes:
        run_id: The run whose message is the first.
        channel: ID of its channel.
        ts: Slack's id of the first message.
        message: The first message, the repeat counted; None where it is about something else, and stays as it is.
        reply: What to say in the thread; None where the first message alone is to count it, since a person has acknowledged it.
        is_broadcast: Whether the channel shows the reply too, since it pages.
    """

    run_id: str
    channel: str
    ts: str
    message: Message | None
    reply: Message | None
    is_broadcast: bool = False


@dataclass(frozen=True)
class Draft:
    """A message before it is sent.

    Attributes:
        message: The whole message, for where there is no thread, or none any more.
        thread: The thread it belongs into, if it repeats a failure.
        covered: The ids of the runs that it speaks of besides its own.
        listed: Whether those failed of other causes; the message is a list then, and begins no incident.
        firsts: Of runs in a list that repeat a failure, the first run of the incident, and when they failed.
        fingerprint: What makes another failure the same one, empty if that is unknown.
        state: How the incident stands that begins with the message.
        last_failed_at: When the last of its runs failed, in seconds since the epoch.
        location: The code location that alerts.
        channel: That of its tables, empty for that of the deployment.
    """

    message: Message
    thread: Thread | None = None
    covered: tuple[str, ...] = ()
    listed: bool = False
    firsts: Mapping[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    fingerprint: str = ""
    state: State = ""
    last_failed_at: float = 0
    location: str = ""
    channel: str = ""


def after(entry: LedgerEntry, outcome: Outcome, *, now: float, config: str) -> LedgerEntry:
    """Return the entry after an attempt: delivered, due again after 60, 120 and 240 s, or held. Pure."""
    entry = replace(
        entry,
        reason=outcome.reason,
        config=config,
        ambiguous=entry.ambiguous or outcome.ambiguous,
        down=outcome.down,
        quiet_until=now + outcome.retry_after_seconds if outcome.retry_after_seconds else 0,
    )
    if outcome.kind == "delivered":
        return replace(
            entry,
            status="delivered",
            next_at=0,
            reason="",
            ambiguous=False,
            released=False,
            ts=outcome.ts,
            channel=outcome.channel,
            thread_ts=outcome.thread_ts or outcome.ts,
        )
    if outcome.kind == "unauthorized":
        return replace(entry, status="blocked", next_at=now + BLOCKED_SECONDS)
    if outcome.kind == "refused":
        return replace(entry, status="undeliverable", attempts=entry.attempts + 1, next_at=0)
    if entry.attempts >= len(RETRY_SECONDS):
        reason = f"gave up after {len(RETRY_SECONDS)} retries: {outcome.reason}"
        wait = max(DOUBTFUL_PROBE_SECONDS if entry.ambiguous else PROBE_SECONDS, outcome.retry_after_seconds)
        return replace(entry, status="undeliverable", attempts=entry.attempts + 1, next_at=now + wait, reason=reason)
    wait = max(RETRY_SECONDS[entry.attempts], outcome.retry_after_seconds)
    return replace(entry, status="retry", attempts=entry.attempts + 1, next_at=now + wait)


def missing(slack: Slack) -> LedgerEntry:
    """Return the entry of an alert that has nowhere to go; it is due as soon as the variables are set."""
    return LedgerEntry(status="undeliverable", reason=f"{slack.missing} not set", config=config_of(slack))


def deliver_once(
    instance: dg.DagsterInstance,
    run_id: str,
    slack: Slack,
    *,
    clock: Clock,
    render: Callable[[], Draft],
) -> tuple[LedgerEntry, bool]:
    """Make one attempt to deliver the alert of a run, if none is under way and it is due.

    The ledger says `posting` before Slack is asked and the outcome afterwards, so an attempt whose process was
    killed is seen. It never sleeps, and never raises for what can be retried.

    Args:
        instance: Where the run is.
        run_id: The failed run.
        slack: Where to.
        clock: The time in seconds since the epoch.
        render: Makes the message; called only if it is sent.

    Returns:
        The entry as it is afterwards, and whether Slack was asked.
    """
    config = config_of(slack)
    with _ONE_AT_A_TIME:
        run = instance.get_run_by_id(run_id)
        entry = LedgerEntry.of(run) if run else LedgerEntry()
        if run is None or not entry.is_due(now=clock(), config=config):
            return entry, False
        return _attempt(instance, run_id, slack, clock=clock, entry=entry, draft=render()), True


def hold(
    instance: dg.DagsterInstance,
    run_id: str,
    *,
    until: float,
    words: str,
    location: str,
    clock: Clock,
    for_digest: bool = False,
) -> bool:
    """Hold the alert of a run back, or leave it to the digest, unless an attempt was made meanwhile; return whether it waits. Safe to repeat.

    Args:
        instance: Where the run is.
        run_id: The failed run.
        until: It is due again at this moment, in seconds since the epoch.
        words: Why it waits.
        location: The code location that alerts of it.
        clock: The time in seconds since the epoch.
        for_digest: Whether the digest tells it.
    """
    status: Status = "queued" if for_digest else "held"
    with _ONE_AT_A_TIME:
        run = instance.get_run_by_id(run_id)
        entry = LedgerEntry.of(run) if run else LedgerEntry()
        if run is None or entry.status not in ("", "held"):
            return False
        since = entry.held_since or clock()
        entry = replace(
            entry, status=status, next_at=until, reason=words, held_since=since, held_for=words, location=location
        )
        instance.add_run_tags(run_id, entry.tags(run_id))
        return True


def take_into_digest(instance: dg.DagsterInstance, run_id: str) -> None:
    """Write down that the ledger of the digests has a run by now. Safe to repeat."""
    with _ONE_AT_A_TIME:
        run = instance.get_run_by_id(run_id)
        if run is not None and (entry := LedgerEntry.of(run)).status == "queued":
            instance.add_run_tags(run_id, replace(entry, status="digest", next_at=0, reason="").tags(run_id))


def let_out(instance: dg.DagsterInstance, run_id: str, *, words: str, clock: Clock) -> bool:
    """Make due at once what a digest has told, since it pages by now; return whether it was told there. Safe to repeat."""
    with _ONE_AT_A_TIME:
        run = instance.get_run_by_id(run_id)
        entry = LedgerEntry.of(run) if run else LedgerEntry()
        if run is None or entry.status != "digest":
            return False
        entry = replace(entry, status="held", next_at=0, paged_at=clock(), paged_for=words)
        instance.add_run_tags(run_id, entry.tags(run_id))
        return True


def note_on_first(instance: dg.DagsterInstance, first_id: str, **noted: Any) -> None:
    """Write down on the first of an incident what its thread tells: that it is acknowledged, or that it pages by now.

    Args:
        instance: Where the run is.
        first_id: The run that the incident begins with.
        noted: Fields of its entry in the ledger.
    """
    with _ONE_AT_A_TIME:
        run = instance.get_run_by_id(first_id)
        if run is not None:
            instance.add_run_tags(first_id, replace(LedgerEntry.of(run), **noted).tags(first_id))


def release(
    instance: dg.DagsterInstance, run_ids: Sequence[str], slack: Slack, *, clock: Clock, answered: bool = False
) -> None:
    """Make due at once what waits for Slack, now that Slack is there again. Safe to repeat.

    Args:
        instance: Where the runs are.
        run_ids: The runs whose alerts wait.
        slack: Where they go.
        clock: The time in seconds since the epoch.
        answered: Whether Slack answers again after it answered nothing. Otherwise one message got through: an alert that fails
            all the same keeps to its times from then on.
    """
    with _ONE_AT_A_TIME:
        for run in instance.get_runs(dg.RunsFilter(run_ids=list(run_ids))) if run_ids else ():
            entry = LedgerEntry.of(run)
            if entry.waits_for_slack(config_of(slack)) and (answered or not entry.released):
                due = replace(entry, next_at=min(entry.next_at, clock()), down=False, released=True)
                instance.add_run_tags(run.run_id, due.tags(run.run_id))


def _attempt(
    instance: dg.DagsterInstance,
    run_id: str,
    slack: Slack,
    *,
    clock: Clock,
    entry: LedgerEntry,
    draft: Draft,
) -> LedgerEntry:
    entry = replace(entry, covers=tuple(map(start_of, draft.covered)), listed=draft.listed)
    entry, _ = attempt(
        slack,
        entry,
        draft,
        run_id,
        clock=clock,
        keep=lambda posting: instance.add_run_tags(run_id, posting.tags(run_id)),
    )
    if entry.status == "delivered":
        entry = _settle(instance, run_id, entry, draft)
    # One write: killed between two, the next failure of this kind would not find its thread.
    instance.add_run_tags(run_id, entry.tags(run_id))
    return entry


def _settle(instance: dg.DagsterInstance, run_id: str, entry: LedgerEntry, draft: Draft) -> LedgerEntry:
    """Mark the runs that the message speaks of besides its own, and return the entry of its own: a first, or a repeat.

    Killed in between, the message counts as one whose answer was lost, and covers the runs that are left.
    """
    if draft.listed:
        return _settle_list(instance, run_id, entry, draft)
    is_repeat = entry.thread_ts != entry.ts
    first = draft.thread.run_id if is_repeat and draft.thread else ""
    entry = replace(entry, covers=(), first=first, fingerprint="", state="")
    member = replace(entry, first=first or run_id)
    for covered in draft.covered:
        instance.add_run_tags(covered, member.tags(covered))
    if draft.thread:
        _note_on_first(instance, draft.thread.run_id, draft.last_failed_at, is_over=not first)
    if first:
        return entry
    return replace(entry, fingerprint=draft.fingerprint, state=draft.state, last_failed_at=draft.last_failed_at)


def _settle_list(instance: dg.DagsterInstance, run_id: str, entry: LedgerEntry, draft: Draft) -> LedgerEntry:
    """Mark the runs of a list, each as a repeat of its incident if one is open, and return the entry of its own run."""
    entry = replace(entry, covers=(), listed=False, fingerprint="", state="closed")
    firsts = {run: first for run, (first, _) in draft.firsts.items()}
    for first, failed_at in draft.firsts.values():
        _note_on_first(instance, first, failed_at, is_over=False)
    for covered in draft.covered:
        instance.add_run_tags(covered, replace(entry, first=firsts.get(covered, "")).tags(covered))
    return replace(entry, first=firsts.get(run_id, ""))


def _note_on_first(instance: dg.DagsterInstance, first_id: str, failed_at: float, *, is_over: bool) -> None:
    """Write down on the first of an incident when it failed last, or that another message goes on for it."""
    run = instance.get_run_by_id(first_id)
    if run is None:
        return
    entry = LedgerEntry.of(run)
    entry = replace(
        entry,
        last_failed_at=max(entry.last_failed_at, failed_at),
        state="closed" if is_over else entry.state,
    )
    instance.add_run_tags(first_id, entry.tags(first_id))


def attempt(
    slack: Slack,
    entry: LedgerEntry,
    draft: Draft,
    key: str,
    *,
    clock: Clock,
    keep: Callable[[LedgerEntry], None],
) -> tuple[LedgerEntry, Outcome]:
    """Make one attempt to send a message, whatever ledger its entry is in; and return the entry afterwards.

    The ledger says `posting` before Slack is asked: an attempt whose process was killed is seen by it.

    Args:
        slack: Where to.
        entry: How the message stands.
        draft: The message.
        key: What it is found again by: the id of its run, or of what else it is about.
        clock: The time in seconds since the epoch.
        keep: Writes an entry into the ledger.
    """
    config = config_of(slack)
    entry = replace(
        entry,
        attempts=0 if entry.status == "undeliverable" and entry.config != config else entry.attempts,
        # A process that died while posting left this mark; Slack may have taken the message.
        ambiguous=entry.ambiguous or entry.status == "posting",
        thread_ts=draft.thread.ts if draft.thread else "",
        destination=destination_of(slack.into(draft.channel)),
        location=draft.location,
    )
    keep(replace(entry, status="posting", next_at=clock() + POSTING_SECONDS, config=config))
    outcome = _sent(slack.client(), slack, entry, draft, key)
    return after(entry, outcome, now=clock(), config=config), outcome


def _sent(client: "WebClient", slack: Slack, entry: LedgerEntry, draft: Draft, run_id: str) -> Outcome:
    """Post a message once, or find it where an attempt before may have posted it; and say whether Slack answers at all."""
    outcome = _outcome(client, slack, entry, draft, run_id)
    return replace(outcome, remedy=slack.named(outcome.remedy), down=_is_down(client, entry, outcome))


def _outcome(client: "WebClient", slack: Slack, entry: LedgerEntry, draft: Draft, run_id: str) -> Outcome:
    if _is_asked_first(entry):
        answer = ask(client)
        if answer.kind != "delivered":
            return replace(answer, down=answer.kind != "rate limit", ambiguous=False)
    outcome = _posted_before(client, slack, entry, draft, run_id) if entry.ambiguous else None
    if draft.thread is None:
        return outcome or post_where(client, slack, draft.channel, draft.message, run_id=run_id)
    outcome = outcome or _reply(client, draft.thread, run_id, draft.thread.channel if draft.channel else slack.channel)
    if is_gone(outcome) or (draft.thread.is_broadcast and outcome.error in CHANNEL_ERRORS):
        # A page does not wait for a person to correct its channel.
        return post_where(client, slack, draft.channel, draft.message, run_id=run_id)
    if outcome.kind == "delivered" and not outcome.thread_ts:
        # Slack makes a reply to a message that was deleted meanwhile a message of its own, and does not fail:
        # https://github.com/slack-go/slack/issues/1571. It says the whole then.
        update(client, outcome.channel, outcome.ts, draft.message)
    return outcome


def _posted_before(client: "WebClient", slack: Slack, entry: LedgerEntry, draft: Draft, run_id: str) -> Outcome | None:
    """Look for a message whose answer was lost: in the channel of its tables, and in that of the deployment."""
    channels = dict.fromkeys([draft.channel or slack.channel, slack.channel])
    found = (find_posted(client, channel, run_id, entry.thread_ts) for channel in channels)
    return next((each for each in found if each is not None), None)


def _is_asked_first(entry: LedgerEntry) -> bool:
    """Return whether it is worth another post only once Slack answers again: its retries are used up, or the token is refused."""
    has_given_up = entry.status == "undeliverable" and entry.attempts > len(RETRY_SECONDS)
    return has_given_up or (entry.status == "blocked" and entry.down)


def _is_down(client: "WebClient", entry: LedgerEntry, outcome: Outcome) -> bool:
    """Return whether Slack answers nothing at all; if only posting fails, its answer is nothing new."""
    if outcome.kind not in ("transient", "unauthorized"):
        return False
    if outcome.down or (entry.down and outcome.ambiguous):
        return True
    return not answers(ask(client))


def _reply(client: "WebClient", thread: Thread, run_id: str, channel: str) -> Outcome:
    """Count the repeat on the first message, then reply to it; where the first is gone, Slack says so at the counting.

    The thread of a deleted message may go on, but no person sees it.
    """
    if thread.message is not None:
        counted = update(client, thread.channel, thread.ts, thread.message)
        if thread.reply is None and not is_gone(counted):
            if counted.error in FROZEN_ERRORS:
                # Nothing is to be said beside the count, and no other alert is to wait for it.
                return Outcome("delivered", channel=thread.channel, thread_ts=thread.ts)
            return replace(counted, ts="", channel=thread.channel, thread_ts=thread.ts)
        if is_gone(counted) or counted.kind == "transient":
            return counted
    if thread.reply is None:
        return Outcome("delivered", channel=thread.channel, thread_ts=thread.ts)
    outcome = post(client, channel, thread.reply, run_id=run_id, thread_ts=thread.ts, is_broadcast=thread.is_broadcast)
    return replace(outcome, thread_ts=thread.ts) if outcome.thread_ts is None else outcome
