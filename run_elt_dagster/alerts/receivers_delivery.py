"""The way of an alert to the receivers: each is asked in a thread of its own, and its answer goes into the ledger.

No tick waits for a receiver that does not answer: all sensors share one thread of the daemon, and Slack's would come late.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import dagster as dg

from run_elt_dagster.alerts.blocks import Style
from run_elt_dagster.alerts.receivers import SEND_SECONDS, Outcome, Receiver, receivers_of, send
from run_elt_dagster.alerts.receivers_ledger import (
    POSTING_SECONDS,
    News,
    ReceiverLedger,
    read_ledger,
    write_ledger,
)
from run_elt_dagster.alerts.receivers_news import Newsroom, Seen, mark_taken, new_ledger
from run_elt_dagster.alerts.receivers_text import letter_of
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.model.counted import counted
from run_elt_dagster.runs.code_location import FRESH_SECONDS, was_seen_lately

# So long a tick waits for answers: most receivers give theirs. The others' go into the ledger at a later tick.
ANSWER_SECONDS = 2.0
# An attempt whose thread gives nothing back for so long has failed, though the message may arrive.
GIVEN_UP_SECONDS = 75
# To a receiver that keeps incidents each alert is a request of its own. None begins that may outlive the attempt: of what is given up
# nothing counts as taken, and a slow receiver would get the same alerts again and again, and no later one.
REQUESTS = 10
BEGIN_SECONDS = GIVEN_UP_SECONDS - SEND_SECONDS


class ReceiversUnusableError(Exception):
    """A receiver that a person must correct, or a part of the look that failed."""


@dataclass(frozen=True)
class Attempt:
    """What is sent to a receiver.

    Attributes:
        receiver: To whom.
        news: The alerts, the oldest first.
        attempts: How many attempts failed before it.
        lost: How many alerts the receiver never got.
        style: The secrets that must not appear.
    """

    receiver: Receiver
    news: tuple[News, ...]
    attempts: int
    lost: int
    style: Style

    def make(self) -> "Result":
        """Send; of several requests, until one fails, or there is no time for another: the next look goes on."""
        if not self.receiver.keeps_incidents:
            outcome = self._sent(self.news)
            return Result(self.receiver.name, outcome, self.news if outcome.kind == "delivered" else ())
        done, began = list[News](), time.monotonic()
        for each in self.news:
            if done and time.monotonic() > began + BEGIN_SECONDS:
                break
            outcome = self._sent([each])
            if outcome.kind != "delivered":
                return Result(self.receiver.name, outcome, tuple(done))
            done.append(each)
        return Result(self.receiver.name, Outcome("delivered"), tuple(done))

    def _sent(self, news: Sequence[News]) -> Outcome:
        return send(
            self.receiver,
            lambda limit: letter_of(news, attempts=self.attempts, lost=self.lost, style=self.style, limit=limit),
            incident=news[0].of,
            is_over=news[0].what in ("recovered", "fresh"),
        )


@dataclass(frozen=True)
class Result:
    """What became of an attempt.

    Attributes:
        receiver: The name of the receiver.
        outcome: Delivered, or why not.
        delivered: The alerts that it took.
    """

    receiver: str
    outcome: Outcome
    delivered: tuple[News, ...] = ()


@dataclass
class Courier:
    """The attempts that are under way in this process."""

    _answers: "queue.SimpleQueue[tuple[int, Result]]" = field(default_factory=queue.SimpleQueue)
    _under_way: dict[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])
    _number: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way."""
        return not self._under_way

    def has(self, receiver: str) -> bool:
        """Return whether an attempt for a receiver is under way."""
        return receiver in self._under_way

    def start(self, attempt: Attempt) -> None:
        """Begin an attempt, and do not wait for it."""
        self._number += 1
        name, number = attempt.receiver.name, self._number
        self._under_way[name] = number, time.monotonic()
        # A daemon: a receiver that hangs keeps no process from ending.
        threading.Thread(
            target=lambda: self._answers.put((number, attempt.make())), name=f"receiver {name}", daemon=True
        ).start()

    def results(self, *, within: float = 0) -> list[Result]:
        """Return what attempts came to; waits for the next answer, but no longer than some seconds."""
        found = list[Result]()
        while self._under_way:
            try:
                number, result = self._answers.get(timeout=0.001 if found else max(within, 0.001))
            except queue.Empty:
                break
            # What comes after it was given up counts as failed: the message is sent again, and says so.
            if self._under_way.get(result.receiver, (0, 0))[0] == number:
                del self._under_way[result.receiver]
                found.append(result)
        return [*found, *self._given_up()]

    def _given_up(self) -> list[Result]:
        late = [n for n, (_, began) in self._under_way.items() if time.monotonic() - began > GIVEN_UP_SECONDS]
        for name in late:
            del self._under_way[name]
        return [Result(name, Outcome("failed", f"no answer in {GIVEN_UP_SECONDS} s")) for name in late]


@dataclass
class Desk:
    """What one process keeps from tick to tick: the attempts under way, what it has read, and when it looked last."""

    courier: Courier = field(default_factory=Courier)
    seen: Seen = field(default_factory=Seen)
    looked_at: float = 0

    def knows_others(self, cursor: str | None, *, now: float) -> bool:
        """Return whether the other code locations were seen of late: by the cursor, or by this process, for a failed tick keeps no cursor.

        Args:
            cursor: Of the sensor.
            now: The moment of this look, in seconds since the epoch.
        """
        is_known = was_seen_lately(cursor, now=now) or self.looked_at > now - FRESH_SECONDS
        self.looked_at = now
        return is_known


def tell_receivers(
    alerts: Alerts,
    instance: dg.DagsterInstance,
    desk: Desk,
    *,
    log: logging.Logger,
    surely_ours: bool = False,
    is_without_slack: bool = False,
    answer_seconds: float = ANSWER_SECONDS,
) -> str:
    """Look at what happened, and make an attempt for each receiver that has something to get and is due. Safe to repeat.

    Args:
        alerts: Of the code location.
        instance: With the history.
        desk: Of this process.
        log: Of the tick.
        surely_ours: Leave the runs to a later look that may be another code location's.
        is_without_slack: Whether Slack is not set up: no digest tells there what can wait.
        answer_seconds: How long to wait for answers.

    Returns:
        What waits, for the tick.

    Raises:
        ReceiversUnusableError: A person must act, with the remedy, or a part of the look failed. What could be done was done.
    """
    receivers, location = receivers_of(alerts.settings), alerts.location
    before = read_ledger(instance, location)
    ledger = mark_taken(instance, before) if before is not None else new_ledger(alerts.clock())
    ledger = _with_results(ledger, desk.courier.results(), now=alerts.clock(), log=log)
    names = [each.name for each in receivers]
    pagers = [each.name for each in receivers if each.keeps_incidents]
    newsroom = Newsroom(
        alerts, instance, ledger, names, seen=desk.seen, log=log, is_without_slack=is_without_slack, pagers=pagers
    )
    ledger = newsroom.look(surely_ours=surely_ours)
    ledger, attempts = begun(ledger, receivers, desk.courier, now=alerts.clock(), style=alerts.style())
    if ledger != before:
        # Before anything is sent: an attempt whose process is killed is seen by it.
        said = before.words(now=alerts.clock()) if before is not None else None
        write_ledger(instance, location, ledger, now=alerts.clock(), said=said)
    mark_taken(instance, ledger)
    for attempt in attempts:
        desk.courier.start(attempt)
    until = time.monotonic() + answer_seconds
    # Each answer is kept as it comes: what one receiver took is not sent again because another one holds its answer at a kill.
    while not desk.courier.is_idle and (results := desk.courier.results(within=until - time.monotonic())):
        said = ledger.words(now=alerts.clock())
        ledger = replace(_with_results(ledger, results, now=alerts.clock(), log=log), taking=())
        write_ledger(instance, location, ledger, now=alerts.clock(), said=said)
    _report_unusable(ledger)
    return f"{counted(sum(each.count for each in ledger.news), 'alerts wait', 'alert waits')}. {ledger.words(now=alerts.clock())}".strip()


def begun(
    ledger: ReceiverLedger, receivers: Iterable[Receiver], courier: Courier, *, now: float, style: Style
) -> tuple[ReceiverLedger, list[Attempt]]:
    """Return the attempts that are to be made now, and the ledger that says so.

    Args:
        ledger: The ledger.
        receivers: All of them.
        courier: What is under way.
        now: The moment, in seconds since the epoch.
        style: The secrets that must not appear.
    """
    attempts = list[Attempt]()
    for receiver in receivers:
        standing, news = ledger.of(receiver.name), ledger.waiting(receiver.name)
        if not news or now < standing.next_at or courier.has(receiver.name):
            continue
        if standing.status == "posting":
            # Its process died while it sent: the receiver may have the message.
            standing = replace(standing, attempts=standing.attempts + 1)
        news = news[:REQUESTS] if receiver.keeps_incidents else news
        ids = tuple(each.id for each in news)
        posting = replace(standing, status="posting", next_at=now + POSTING_SECONDS, sending=ids)
        ledger = ledger.standing(receiver.name, posting)
        attempts.append(Attempt(receiver, tuple(news), standing.attempts, standing.lost, style))
    return ledger, attempts


def _with_results(
    ledger: ReceiverLedger, results: Iterable[Result], *, now: float, log: logging.Logger
) -> ReceiverLedger:
    for result in results:
        name, standing = result.receiver, ledger.of(result.receiver)
        ledger = ledger.told(name, [each.id for each in result.delivered])
        ledger = ledger.standing(name, standing.after(result.outcome, now=now))
        if result.outcome.kind == "delivered":
            log.info(f"the receiver {name} got {counted(len(result.delivered), 'alerts')}")
        else:
            log.warning(f"the receiver {name} did not get its alerts: {result.outcome.reason}")
    return ledger


def _report_unusable(ledger: ReceiverLedger) -> None:
    """Let the tick fail while a person must act, or a part of the look fails: the page of the sensors shows it, with the remedy."""
    found = {name: each.reason for name, each in ledger.standings.items() if each.status == "unusable"}
    problems = [*(f"The receiver {name} gets no alert: {why}" for name, why in found.items()), *ledger.faults]
    if problems:
        raise ReceiversUnusableError(" ".join(problems))
