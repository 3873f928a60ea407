"""The ledger of the daily digests: what each one says, and how its message stands.

A warning has no failed run whose tags could keep it. So observations of the asset `alerts/digest` keep it, one for each code location as its
partition: the last one holds everything. It is written before and after each message, as the tags of a run are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import dagster as dg

from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.scope import DIGEST_ASSET as ASSET

_LEDGER, _NOWHERE = "ledger", "-"
# Of a line, as many runs are known again: what a look before the last one has read is not read again.
RUNS_KEPT = 60

What = Literal["failed", "late", "warned"]


@dataclass(frozen=True)
class Line:
    """What a digest says of some tables.

    Attributes:
        key: What makes another one the same.
        what: What became of them.
        tables: Their names.
        words: The cause, without secrets and row values.
        first_at: When it was so first, in seconds since the epoch.
        last_at: When it was so last.
        count: How often.
        run_id: The last run in which it was so; empty of a late table.
        runs: How the ids of the last runs start.
        over_at: Since when it is over, 0 while it is not.
        row: How often in a row, since it was over last.
        row_at: When that row began.
        paged_at: Since when it pages all the same, 0 if it does not.
    """

    key: str
    what: What
    tables: tuple[str, ...]
    words: str
    first_at: float
    last_at: float
    count: int = 1
    run_id: str = ""
    runs: tuple[str, ...] = ()
    over_at: float = 0
    row: int = 1
    row_at: float = 0
    paged_at: float = 0

    @property
    def row_untold(self) -> int:
        """How many failures of its row have no message of their own: of one that pages, the last run has."""
        return self.row - bool(self.paged_at)

    def again(self, other: "Line") -> "Line":
        """Return it with one more occurrence; itself if it knows that one."""
        # After another `fresh_within`, and the former one again, a table is late since the same moment.
        is_late_again = bool(self.over_at) and other.what == "late"
        if not other.runs or (other.runs[0] in self.runs and not is_late_again):
            return self
        runs = (*self.runs, *other.runs)[-RUNS_KEPT:]
        known = {
            "first_at": self.first_at,
            "last_at": max(self.last_at, other.last_at),
            "count": self.count + 1,
            "runs": runs,
        }
        in_row = {} if self.over_at else {"row": self.row + 1, "row_at": self.row_at, "paged_at": self.paged_at}
        return replace(other, **known, **in_row)


@dataclass(frozen=True)
class Digest:
    """One message of a day, in one channel.

    Attributes:
        id: Its own, for Slack's metadata.
        route: The channel of its tables, empty for that of the deployment.
        due_at: When it is posted, in seconds since the epoch. From then on, what is new changes the message.
        lines: What it says, in order.
        entry: How the message stands.
        shown: A fingerprint of what Slack shows.
    """

    id: str
    route: str
    due_at: float
    lines: tuple[Line, ...] = ()
    entry: LedgerEntry = field(default_factory=LedgerEntry)
    shown: str = ""

    def with_line(self, line: Line) -> "Digest":
        """Return it with one more line, or with one more occurrence of a line that it has."""
        known = {each.key: each for each in self.lines}
        known[line.key] = known[line.key].again(line) if line.key in known else line
        return replace(self, lines=tuple(known.values()))

    @property
    def is_posted(self) -> bool:
        """Whether Slack has it."""
        return self.entry.status == "delivered"


@dataclass(frozen=True)
class DigestLedger:
    """What a code location keeps: a digest for each channel that has one."""

    digests: tuple[Digest, ...] = ()

    def of(self, route: str) -> Digest | None:
        """Return the digest of a channel."""
        return next((each for each in self.digests if each.route == route), None)

    def with_digest(self, digest: Digest) -> "DigestLedger":
        """Return it with another state of the digest of a channel, or with a new one."""
        known = {each.route: each for each in self.digests} | {digest.route: digest}
        return replace(self, digests=tuple(known.values()))

    @property
    def lines(self) -> Iterator[Line]:
        """The lines of all digests."""
        return (line for digest in self.digests for line in digest.lines)

    @property
    def waiting(self) -> Sequence[Digest]:
        """The digests that Slack has not taken."""
        return [each for each in self.digests if each.entry.status not in ("", "delivered")]


def read_digests(instance: dg.DagsterInstance, location: str) -> DigestLedger:
    """Return what a code location has kept; an empty ledger if it has kept nothing."""
    where = dg.AssetRecordsFilter(asset_key=dg.AssetKey(list(ASSET)), asset_partitions=[location or _NOWHERE])
    records = instance.fetch_observations(where, limit=1).records
    observed = records[0].asset_observation if records else None
    kept = observed.metadata.get(_LEDGER) if observed is not None else None
    return DigestLedger(tuple(map(_digest, kept.value))) if kept is not None else DigestLedger()  # type: ignore[arg-type]


def write_digests(instance: dg.DagsterInstance, location: str, ledger: DigestLedger) -> None:
    """Keep it. Safe to repeat."""
    metadata: dict[str, Any] = {
        "lines": sum(1 for line in ledger.lines if not line.over_at),
        "undelivered": len(ledger.waiting),
        **({"code_location": location} if location else {}),
        _LEDGER: dg.MetadataValue.json(json.loads(json.dumps([asdict(each) for each in ledger.digests]))),
    }
    instance.report_runless_asset_event(
        dg.AssetObservation(dg.AssetKey(list(ASSET)), partition=location or _NOWHERE, metadata=metadata)
    )


def _digest(kept: Mapping[str, Any]) -> Digest:
    known = _known(Digest, kept)
    known |= {"lines": tuple(map(_line, kept["lines"])), "entry": _entry(kept["entry"])}
    return Digest(**known)


def _line(kept: Mapping[str, Any]) -> Line:
    known = _known(Line, kept)
    known |= {"tables": tuple(kept["tables"]), "runs": tuple(kept["runs"])}
    return Line(**known)


def _entry(kept: Mapping[str, Any]) -> LedgerEntry:
    known = _known(LedgerEntry, kept)
    known["covers"] = tuple(kept.get("covers", ()))
    return LedgerEntry(**known)


def _known(of: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a later release has kept besides."""
    names = {each.name for each in fields(of)}
    return {name: value for name, value in kept.items() if name in names}
