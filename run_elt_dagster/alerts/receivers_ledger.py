"""The ledger of the receivers: which alerts each still has to get, how its last attempt ended, and which incidents are open.

Slack's ledger says nothing of it: the answer of one says nothing of the other. Observations of the asset `alerts/receivers` keep it, one for
each code location as its partition. The last one holds everything, and is written before and after each attempt.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import dagster as dg

from run_elt_dagster.alerts.receivers import Outcome
from run_elt_dagster.alerts.scope import CHECK
from run_elt_dagster.alerts.scope import RECEIVERS_ASSET as ASSET
from run_elt_dagster.model.counted import counted

What = Literal["failed", "again", "recovered", "late", "fresh", "backfill", "more"]
RETRY_SECONDS = (60, 120, 240)
# After these, as long as the alert is younger than 48 h.
LATER_SECONDS = 600
# An attempt whose process never came back counts as one whose answer was lost.
POSTING_SECONDS = 90
# What waits longer than this though no attempt failed: the sensor does not work.
SILENT_SECONDS = 300
# The ledger is one event: so many alerts are kept one by one, and so many with their texts.
MOST_NEWS, MOST_TEXTS = 200, 30
# What ends an incident. A pager needs each by itself, with the incident's key.
ENDS = ("recovered", "fresh")
_LEDGER, _NOWHERE = "ledger", "-"
# Before the id of what counts several alerts.
COUNTED = "counted-"


@dataclass(frozen=True)
class News:
    """An alert for the receivers.

    Attributes:
        id: Its own, in each message about it.
        what: What it says.
        of: What it is about: the first run of an incident, a lateness, a backfill, or all that it counts.
        at: When there was a reason for it, in seconds since the epoch.
        title: One line.
        body: The text.
        left: The receivers that have not got it.
        count: How many it stands for.
        is_told: Whether a receiver has got it.
    """

    id: str
    what: What
    of: str
    at: float
    title: str
    body: str = ""
    left: tuple[str, ...] = ()
    count: int = 1
    is_told: bool = False


@dataclass(frozen=True)
class Incident:
    """Failures of one cause, from the first until the tables are published again.

    Attributes:
        run_id: The first run.
        fingerprint: What makes another failure the same one.
        failed_at: When it failed first, in seconds since the epoch.
        last_failed_at: When it failed last.
        told_at: When there was a message about it last.
        title: What failed, in one line.
        count: How many runs failed.
        members: Runs that may lack different partitions, the newest; empty where tables are built whole.
        to: The receivers that get what becomes of it; empty for all.
    """

    run_id: str
    fingerprint: str
    failed_at: float
    last_failed_at: float
    told_at: float
    title: str
    count: int = 1
    members: tuple[str, ...] = ()
    to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """How a receiver stands.

    Attributes:
        status: Empty if its last attempt got through.
        attempts: How many attempts failed in a row.
        next_at: No attempt before this moment, in seconds since the epoch.
        reason: Why the last one failed.
        sending: The alerts of the attempt that is under way, or that failed: they may have arrived.
        delivered_at: When an attempt got through last, in seconds since the epoch.
        lost: How many alerts it did not get within 48 h, since an attempt got through.
    """

    status: Literal["", "posting", "retry", "unusable"] = ""
    attempts: int = 0
    next_at: float = 0
    reason: str = ""
    sending: tuple[str, ...] = ()
    delivered_at: float = 0
    lost: int = 0

    def after(self, outcome: Outcome, *, now: float) -> "Standing":
        """Return it after an attempt: again after 60, 120 and 240 s, then every 600 s. Pure."""
        if outcome.kind == "delivered":
            return Standing(delivered_at=now)
        wait = RETRY_SECONDS[self.attempts] if self.attempts < len(RETRY_SECONDS) else LATER_SECONDS
        status = "unusable" if outcome.kind == "unusable" else "retry"
        return replace(self, status=status, attempts=self.attempts + 1, next_at=now + wait, reason=outcome.reason)


@dataclass(frozen=True)
class ReceiverLedger:
    """What a code location keeps.

    Attributes:
        began_at: Failures before this moment are none of it, in seconds since the epoch.
        news: The alerts that some receiver has not got, the oldest first.
        incidents: Those that are open, the oldest first.
        standings: By the name of the receiver.
        late: Of each lateness by its id, how many of its messages became alerts, its title, and the receivers that got it; none for all.
        backfills: Those that were told of.
        taking: Runs that are in it, and may not have the tag yet that says so.
        counted: Of alerts that were counted, what each of these counts is about, and the receivers that get it. A pager has an incident of it.
        faults: Which parts of the last look failed, in sentences.
    """

    began_at: float
    news: tuple[News, ...] = ()
    incidents: tuple[Incident, ...] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict[str, Standing])
    late: Mapping[str, tuple[int, str, tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[int, str, tuple[str, ...]]]
    )
    backfills: tuple[str, ...] = ()
    taking: tuple[str, ...] = ()
    counted: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    faults: tuple[str, ...] = ()

    def of(self, receiver: str) -> Standing:
        """Return how a receiver stands."""
        return self.standings.get(receiver, Standing())

    def waiting(self, receiver: str) -> list[News]:
        """Return the alerts that a receiver has not got, the oldest first."""
        return [each for each in self.news if receiver in each.left]

    def standing(self, receiver: str, standing: Standing) -> "ReceiverLedger":
        """Return it with another state of a receiver."""
        return replace(self, standings={**self.standings, receiver: standing})

    def told(self, receiver: str, ids: Sequence[str]) -> "ReceiverLedger":
        """Return it after a receiver got some alerts."""
        news = [
            replace(each, left=tuple(name for name in each.left if name != receiver), is_told=True)
            if each.id in ids
            else each
            for each in self.news
        ]
        return replace(self, news=tuple(each for each in news if each.left))

    def added(self, news: News, *, pagers: Collection[str] = ()) -> "ReceiverLedger":
        """Return it with one more alert; where very many wait, it is counted.

        Args:
            news: The alert.
            pagers: The receivers that keep incidents: what ends one is never counted for them, or it stays open there for good.
        """
        if not news.left:
            return self
        if len(self.news) < MOST_NEWS:
            has_room = sum(bool(each.body) for each in self.news) < MOST_TEXTS
            return replace(self, news=(*self.news, news if has_room else replace(news, body="")))
        alone = tuple(name for name in news.left if name in pagers) if news.what in ENDS else ()
        ledger = replace(self, news=(*self.news, replace(news, left=alone, body=""))) if alone else self
        others = tuple(name for name in news.left if name not in alone)
        return ledger.counting(replace(news, id=f"{news.id}+" if alone else news.id, left=others)) if others else ledger

    def counting(self, news: News) -> "ReceiverLedger":
        """Return it with one more alert that is only counted."""
        under_way = {id_ for standing in self.standings.values() for id_ in standing.sending}
        counting = (each for each in self.news if each.what == "more" and each.id not in under_way)
        known = next((each for each in counting if set(each.left) == set(news.left)), None)
        if known is None:
            # About no incident: what ends one of those that it counts must not take the others away.
            of = f"{COUNTED}{news.id}"
            kept = {**self.counted, of: news.left}
            return replace(self, news=(*self.news, replace(news, what="more", of=of, body="")), counted=kept)
        count = known.count + news.count
        more = replace(
            known,
            count=count,
            is_told=False,
            title=f"{counted(count, 'more alerts', 'more alert')}, the last: {news.title}",
        )
        return replace(self, news=tuple(more if each is known else each for each in self.news))

    def words(self, *, now: float) -> str:
        """Return what is wrong in a sentence for each receiver and each part of the look that failed, empty if nothing is."""
        return " ".join([*filter(None, (self._words_of(name, now=now) for name in self.standings)), *self.faults])

    def _words_of(self, name: str, *, now: float) -> str:
        standing, waiting = self.of(name), self.waiting(name)
        lost = f" {counted(standing.lost, 'older ones were', 'older one was')} given up." if standing.lost else ""
        alerts = counted(sum(each.count for each in waiting), "alerts wait", "alert waits")
        if standing.reason:
            reason = standing.reason.rstrip(".")
            return f"{alerts} for the receiver {name}, got {reason} ({counted(standing.attempts, 'attempts')}).{lost}"
        if waiting and now - waiting[0].at > SILENT_SECONDS:
            return f"{alerts} for the receiver {name}, and no attempt was made.{lost}"
        return lost.strip()


def read_ledger(instance: dg.DagsterInstance, location: str) -> ReceiverLedger | None:
    """Return what a code location has kept, None if nothing."""
    where = dg.AssetRecordsFilter(asset_key=dg.AssetKey(list(ASSET)), asset_partitions=[location or _NOWHERE])
    records = instance.fetch_observations(where, limit=1).records
    observed = records[0].asset_observation if records else None
    kept = observed.metadata.get(_LEDGER) if observed is not None else None
    return _from_json(kept.value) if kept is not None else None


def words_of_receivers(instance: dg.DagsterInstance, location: str, *, now: float) -> str:
    """Return what is wrong with the receivers of a code location, empty if nothing is."""
    ledger = read_ledger(instance, location)
    return ledger.words(now=now) if ledger is not None else ""


def write_ledger(
    instance: dg.DagsterInstance, location: str, ledger: ReceiverLedger, *, now: float, said: str | None
) -> None:
    """Keep it, and show the state on the asset's page. Safe to repeat.

    Args:
        instance: Where it is kept.
        location: The code location.
        ledger: What is kept.
        now: The moment, in seconds since the epoch.
        said: What the ledger before said is wrong, None if there was none: the check has another verdict only where that changes.
    """
    delivered = max((each.delivered_at for each in ledger.standings.values()), default=0)
    metadata: dict[str, Any] = {
        "state": ledger.words(now=now) or "Every receiver got its alerts.",
        "undelivered": sum(each.count for each in ledger.news),
        **({"last_delivery": dg.MetadataValue.timestamp(delivered)} if delivered else {}),
        **({"code_location": location} if location else {}),
        _LEDGER: dg.MetadataValue.json(_to_json(ledger)),
    }
    key, words = dg.AssetKey(list(ASSET)), ledger.words(now=now)
    instance.report_runless_asset_event(dg.AssetObservation(key, partition=location or _NOWHERE, metadata=metadata))
    if words != said:
        verdict = dg.AssetCheckEvaluation(
            asset_key=key, check_name=CHECK, passed=not words, description=words or "Nothing waits."
        )
        instance.report_runless_asset_event(verdict)


def _to_json(ledger: ReceiverLedger) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(ledger)))


def _from_json(kept: Any) -> ReceiverLedger:
    return ReceiverLedger(
        float(kept["began_at"]),
        news=tuple(News(**_known(News, each)) for each in kept["news"]),
        incidents=tuple(Incident(**_known(Incident, each)) for each in kept["incidents"]),
        standings={name: Standing(**_known(Standing, each)) for name, each in kept["standings"].items()},
        late={id_: (int(each[0]), str(each[1]), tuple(each[2:] and each[2])) for id_, each in kept["late"].items()},
        backfills=tuple(kept["backfills"]),
        taking=tuple(kept["taking"]),
        counted={of: tuple(names) for of, names in kept.get("counted", {}).items()},
        faults=tuple(kept.get("faults", ())),
    )


def _known(of: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a later release has kept besides."""
    names = {each.name for each in fields(of)}
    return {
        name: tuple(value) if isinstance(value, list) and name in ("left", "members", "sending", "to") else value
        for name, value in kept.items()
        if name in names
    }
