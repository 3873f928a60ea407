"""The ledger of late tables: which are late, since when, for what cause, and how each message about them stands.

A late table has no failed run whose tags could keep that. So observations of the asset `alerts/late_tables` keep it, one for each code
location as its partition: the last one holds everything. It is written before and after each message, as the tags of a run are.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import dagster as dg

from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.scope import LATE_ASSET as ASSET

_LEDGER, _NOWHERE = "ledger", "-"
NAMES_SHOWN = 20

What = Literal["late", "more", "fresh", "page"]


@dataclass(frozen=True)
class Telling:
    """A message about a lateness, sent or not.

    Attributes:
        what: The first message, more tables of the same cause, that all are fresh again, or that they page by now.
        tables: Which tables it is about.
        at: When there was a reason for it, in seconds since the epoch.
        entry: How it stands.
    """

    what: What
    tables: tuple[str, ...]
    at: float
    entry: LedgerEntry = field(default_factory=LedgerEntry)


@dataclass(frozen=True)
class LateTable:
    """A table of a lateness.

    Attributes:
        since: Since when it is late, in seconds since the epoch.
        rows_at: Of what moment its rows were then, in seconds since the epoch; None if it was never published.
        missing: The oldest missing partition, empty if it is built whole.
        is_over: Whether it is fresh again, or not watched any more.
    """

    since: float
    rows_at: float | None = None
    missing: str = ""
    is_over: bool = False


@dataclass(frozen=True)
class Lateness:
    """Tables that are late for one cause: one thread of messages.

    Attributes:
        id: Its own, for Slack's metadata.
        cause: What makes another table late for the same cause.
        words: The cause in words.
        next_step: What a person does.
        tables: The tables, by name.
        tellings: The messages, in order.
        channel: ID of the channel of its thread, empty before the first message.
        ts: Slack's id of the first message of its thread.
        is_own: Whether that message is about the lateness, and not about the failed run that caused it.
        route: The channel of its tables, empty for that of the deployment.
        is_told: Whether it has messages of its own; otherwise the daily digest tells of it.
        paged_at: Since when it pages although its tables do not, in seconds since the epoch; 0 if it does not.
        paged_for: Why it pages.
    """

    id: str
    cause: str
    words: str
    next_step: str
    tables: Mapping[str, LateTable]
    tellings: tuple[Telling, ...] = ()
    channel: str = ""
    ts: str = ""
    is_own: bool = True
    route: str = ""
    is_told: bool = True
    paged_at: float = 0
    paged_for: str = ""

    @property
    def late(self) -> tuple[str, ...]:
        """The tables that are still late."""
        return tuple(name for name, table in self.tables.items() if not table.is_over)

    @property
    def waiting(self) -> tuple[Telling, ...]:
        """The messages that are not delivered."""
        return tuple(telling for telling in self.tellings if telling.entry.status != "delivered")

    def is_done(self, *, oldest: float) -> bool:
        """Return whether nothing is late, and no message waits that is younger than a moment in seconds since the epoch."""
        return not self.late and all(telling.at < oldest for telling in self.waiting)

    def with_entry(self, number: int, entry: LedgerEntry) -> "Lateness":
        """Return it with another state of one message."""
        tellings = [replace(each, entry=entry) if n == number else each for n, each in enumerate(self.tellings)]
        return replace(self, tellings=tuple(tellings))


@dataclass(frozen=True)
class LateLedger:
    """What a code location keeps.

    Attributes:
        seen: When each table was first looked at, in seconds since the epoch.
        latenesses: Those that are not over, or not told.
    """

    seen: Mapping[str, float] = field(default_factory=dict[str, float])
    latenesses: tuple[Lateness, ...] = ()

    def with_lateness(self, changed: Lateness) -> "LateLedger":
        """Return it with another state of one lateness, or with a new one."""
        known = {each.id: each for each in self.latenesses} | {changed.id: changed}
        return replace(self, latenesses=tuple(known.values()))

    def of(self, id_: str) -> Lateness:
        """Return one lateness."""
        return next(each for each in self.latenesses if each.id == id_)

    @property
    def late(self) -> dict[str, LateTable]:
        """The tables that are late now, by name."""
        return {name: each.tables[name] for each in self.latenesses for name in each.late}

    @property
    def waiting(self) -> Iterator[tuple[Lateness, Telling]]:
        """The messages that are not delivered, the oldest first."""
        return ((each, telling) for each in self.latenesses for telling in each.waiting)


def read_ledger(instance: dg.DagsterInstance, location: str) -> LateLedger:
    """Return what a code location has kept; an empty ledger if it has kept nothing."""
    where = dg.AssetRecordsFilter(asset_key=dg.AssetKey(list(ASSET)), asset_partitions=[location or _NOWHERE])
    records = instance.fetch_observations(where, limit=1).records
    observed = records[0].asset_observation if records else None
    kept = observed.metadata.get(_LEDGER) if observed is not None else None
    return _from_json(kept.value) if kept is not None else LateLedger()


def write_ledger(instance: dg.DagsterInstance, location: str, ledger: LateLedger) -> None:
    """Keep it. Safe to repeat."""
    late, waiting = ledger.late, len(list(ledger.waiting))
    names = sorted(late)
    more = len(names) - NAMES_SHOWN
    metadata: dict[str, Any] = {
        "late": len(names),
        "tables": ", ".join(names[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "") or "none",
        "undelivered": waiting,
        **({"code_location": location} if location else {}),
        _LEDGER: dg.MetadataValue.json(_to_json(ledger)),
    }
    instance.report_runless_asset_event(
        dg.AssetObservation(dg.AssetKey(list(ASSET)), partition=location or _NOWHERE, metadata=metadata)
    )


def _to_json(ledger: LateLedger) -> dict[str, Any]:
    return {
        "seen": dict(ledger.seen),
        "latenesses": [
            {
                **{name: getattr(each, name) for name in _PLAIN},
                "tables": {name: _brief(table, LateTable(table.since)) for name, table in each.tables.items()},
                "tellings": [
                    {
                        "what": one.what,
                        "tables": list(one.tables),
                        "at": one.at,
                        "entry": _brief(one.entry, LedgerEntry()),
                    }
                    for one in each.tellings
                ],
            }
            for each in ledger.latenesses
        ],
    }


_PLAIN = (
    "id",
    "cause",
    "words",
    "next_step",
    "channel",
    "ts",
    "is_own",
    "route",
    "is_told",
    "paged_at",
    "paged_for",
)


def _brief(value: Any, default: Any) -> dict[str, Any]:
    """Return the fields that are not at their defaults; the moment of a late table always."""
    at_default = asdict(default)
    return json.loads(
        json.dumps({name: each for name, each in asdict(value).items() if name == "since" or each != at_default[name]})
    )


def _from_json(kept: Any) -> LateLedger:
    return LateLedger(
        {str(name): float(at) for name, at in kept["seen"].items()},
        tuple(
            Lateness(
                **{name: each[name] for name in _PLAIN if name in each},
                tables={name: LateTable(**_known(LateTable, table)) for name, table in each["tables"].items()},
                tellings=tuple(
                    Telling(one["what"], tuple(one["tables"]), one["at"], _entry(one["entry"]))
                    for one in each["tellings"]
                ),
            )
            for each in kept["latenesses"]
        ),
    )


def _entry(kept: Mapping[str, Any]) -> LedgerEntry:
    entry = _known(LedgerEntry, kept)
    entry["covers"] = tuple(entry.get("covers", ()))
    return LedgerEntry(**entry)


def _known(of: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a later release has kept besides."""
    names = {each.name for each in fields(of)}
    return {name: value for name, value in kept.items() if name in names}
