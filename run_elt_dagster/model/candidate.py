"""What a run names its candidate, and the marker in its comment. Pure.

The comment of every table that a run makes carries a marker: which run made it, from a snapshot of when, and how far it
is. A clone carries its source's comment, so that production says what is in it.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from run_elt_dagster.model.increment import Start, start_of
from run_elt_dagster.model.names import (
    IDENTIFIER_LIMIT,
    RUN_ID_CHARACTERS,
    Relation,
    is_candidate_name,
    short_id,
)
from run_elt_dagster.model.table import AnalyticsTable

# Its first moment, and the first one after it, aware.
Piece = tuple[datetime, datetime]
State = Literal["run", "publishing", "failed", "preview", "rollback", "withdrawn"]
_MARKER = re.compile(r"\[run_elt (run|publishing|failed|preview|rollback|withdrawn) ([^\s\]]+)(?: at ([^\s\]]+))?\]")
_INSTANT = r"[\d:TZ-]+"
_ROWS = re.compile(rf"\[run_elt rows ({_INSTANT}\.\.{_INSTANT}(?: {_INSTANT}\.\.{_INSTANT})*)\]")
_AUDITED = re.compile(r"\[run_elt audited ([^\s\]]+)\]")
_BY_HAND = re.compile(r"\[run_elt published by ([^\s\]]+) at ([^\s\]]+)(?: waiving ([^\s\]]+))?\]")
_SINCE = re.compile(r"\[run_elt increment since ([\d: +-]+)\]")
_AFTER = re.compile(r"\[run_elt increment after ([^\s\]]+) at ([^\s\]]*)\]")
_PUT_BACK = re.compile(r"\[run_elt put back from ([^\s\]]+) of ([^\s\]]*)\] ?")
_NO_NAME = "unknown"
_UNKNOWN_TIME = ""
# Before the id of the run that was rolled back: no run has the rows that readers see then.
_ROLLED_BACK = "rollback-of-"
# Behind it, once for each version more that a rollback has gone back: readers see other rows than before.
_FURTHER = "+"


@dataclass(frozen=True)
class Marker:
    """What the comment of a table says about its rows.

    Attributes:
        state: `run` for rows of a build, `publishing` while they are written over others, `failed` for rejected ones,
            `preview` for those that nothing will publish, `withdrawn` for those that a rollback has taken away, `rollback` for those that a rollback is taking away from readers.
        run_id: Dagster's id of the run.
        at: When its build began, ISO 8601 in UTC by Snowflake's clock; empty if it was not noted.
    """

    state: State
    run_id: str
    at: str = _UNKNOWN_TIME

    @property
    def is_rolled_back(self) -> bool:
        """Whether a rollback has written the rows of before over those of the run."""
        return self.run_id.startswith(_ROLLED_BACK)

    @property
    def run_of_rows(self) -> str:
        """The run: after such a rollback, the start of the id of the run that was taken back."""
        return self.run_id.removeprefix(_ROLLED_BACK).rstrip(_FURTHER)

    @property
    def times_further(self) -> int:
        """How many versions more such a rollback has gone back."""
        return len(self.run_id) - len(self.run_id.rstrip(_FURTHER))

    @property
    def order(self) -> tuple[str, str]:
        """What makes a later snapshot greater."""
        return (self.at, self.run_id)

    @property
    def read_at(self) -> datetime | None:
        """When its build began, aware; None where it was not noted, or a person has written something else there."""
        try:
            moment = datetime.fromisoformat(self.at)
        except ValueError:
            return None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    @property
    def published(self) -> str:
        """The time and the run that built the rows, in words; empty if unknown."""
        return f"built {self.at[:16].replace('T', ' ')} UTC by run {short_id(self.run_id)}" if self.at else ""

    def __str__(self) -> str:
        """Return it as the comment has it."""
        return f"[run_elt {self.state} {self.run_id}{f' at {self.at}' if self.at else ''}]"


def marker_in(comment: str | None) -> Marker | None:
    """Return the last marker of a comment, None if it has none."""
    found = list(_MARKER.finditer(comment or ""))
    return Marker(found[-1][1], found[-1][2], found[-1][3] or _UNKNOWN_TIME) if found else None  # type: ignore[arg-type]


def rolled_back_marker(taken_back: Marker | None) -> Marker:
    """Return the marker of rows that a rollback has written over those of a run; None for rows of an unknown one.

    After a rollback that goes further back it is another one: an increment that begins after the rows in between is merged into no others.
    """
    if taken_back is not None and taken_back.is_rolled_back:
        return Marker("run", taken_back.run_id + _FURTHER, taken_back.at)
    run, at = (short_id(taken_back.run_id), taken_back.at) if taken_back else ("", _UNKNOWN_TIME)
    return Marker("run", f"{_ROLLED_BACK}{run}", at)


def instant(moment: datetime) -> str:
    """Return an instant as markers have it: text that sorts by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# Room for the prefix, the run and a digest in the name of a candidate.
_LONGEST_KEPT = IDENTIFIER_LIMIT - len("TEMP_") - len("__") - RUN_ID_CHARACTERS
_DIGEST_CHARACTERS = 8


def target_of(table: AnalyticsTable, *, database: str) -> Relation:
    """Return the table that readers see."""
    return Relation(database, table.stored_schema, table.stored_table)


def candidate_prefix(table: AnalyticsTable) -> str:
    """Return what the names of all candidates of a table start with; a long name is cut and told apart by a digest."""
    name = table.stored_table
    if len(name) > _LONGEST_KEPT:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS].upper()
        name = f"{name[: _LONGEST_KEPT - _DIGEST_CHARACTERS - 1]}_{digest}"
    return f"TEMP_{name}__"


def run_suffix(run_id: str) -> str:
    """Return what the names of a run's candidates end with."""
    return run_id.replace("-", "")[:RUN_ID_CHARACTERS].upper()


def run_of_candidate(name: str) -> str:
    """Return what the name of a candidate says of its run: the start of the run's id, without hyphens."""
    return name[-RUN_ID_CHARACTERS:]


def candidate_of(table: AnalyticsTable, *, database: str, run_id: str) -> Relation:
    """Return the table that a run builds: a name of its own, so no other run can publish it unaudited."""
    return Relation(database, table.stored_schema, candidate_prefix(table) + run_suffix(run_id))


def is_candidate_of(table: AnalyticsTable, name: str) -> bool:
    """Return whether a stored name is one of the table's candidates: the prefix of `a` begins those of `a__b` too."""
    prefix = candidate_prefix(table)
    return name.startswith(prefix) and len(name) == len(prefix) + RUN_ID_CHARACTERS and is_candidate_name(name)


def is_from_its_run(name: str, marker: Marker) -> bool:
    """Return whether the run of a candidate's name made its rows; a copy of a published table names another run's."""
    return name.endswith(f"__{run_suffix(marker.run_id)}")


@dataclass(frozen=True)
class ByHand:
    """Who has published a candidate that its run had rejected.

    Attributes:
        person: The name of the user, without spaces and brackets.
        at: When, ISO 8601 in UTC by Snowflake's clock.
        waived: The checks that failed and were waived.
    """

    person: str
    at: str
    waived: tuple[str, ...] = ()

    @classmethod
    def of(cls, person: str, *, at: str, waived: Sequence[str]) -> "ByHand":
        """Return it with a name that a comment can hold."""
        return cls(re.sub(r"[^\w.@+-]", "_", person) or _NO_NAME, at, tuple(waived))

    @property
    def words(self) -> str:
        """It in words, as in `published by ana, 2026-11-28 09:12 UTC, check changes waived`."""
        checks = f"check{'s' if len(self.waived) > 1 else ''} {', '.join(self.waived)}" if self.waived else "no check"
        return f"published by {self.person}, {self.at[:16].replace('T', ' ')} UTC, {checks} waived"

    def __str__(self) -> str:
        """Return it as the comment has it."""
        waiving = f" waiving {','.join(self.waived)}" if self.waived else ""
        return f"[run_elt published by {self.person} at {self.at}{waiving}]"


def by_hand_in(comment: str | None) -> ByHand | None:
    """Return who has published the rows of a comment by hand, None if nobody has."""
    found = _BY_HAND.search(comment or "")
    return ByHand(found[1], found[2], tuple(found[3].split(",")) if found[3] else ()) if found else None


def audited_note(at: str) -> str:
    """Return what the comment of a rejected candidate says of the moment when its audit had ended, by Snowflake's clock."""
    return f"[run_elt audited {at}]" if at else ""


def audited_at(comment: str | None) -> str:
    """Return that moment, empty where a comment does not name it."""
    found = _AUDITED.search(comment or "")
    return found[1] if found else ""


def after_note(base: Marker) -> str:
    """Return what the comment of a rejected increment says of the rows that readers saw when it began: it is merged into no others."""
    return f"[run_elt increment after {base.run_id} at {base.at}]"


def base_in(comment: str | None) -> Marker | None:
    """Return the run of those rows, None where a comment does not name it."""
    found = _AFTER.search(comment or "")
    return Marker("run", found[1], found[2]) if found else None


def start_in(comment: str | None) -> Start | None:
    """Return where the increment of a comment begins, None if it names none: then the run built the whole table."""
    found = _SINCE.search(comment or "")
    return start_of(found[1]) if found else None


def put_back_comment(comment: str, taken_back: Marker) -> str:
    """Return the comment of a version that a rollback has put back: it names the run whose rows were taken away.

    Args:
        comment: Of the version as readers saw it before.
        taken_back: That run.
    """
    return f"[run_elt put back from {taken_back.run_id} of {taken_back.at}] {_PUT_BACK.sub('', comment)}".rstrip()


def put_back_from(comment: str | None) -> Marker | None:
    """Return that run, None if no rollback has put these rows back."""
    found = _PUT_BACK.search(comment or "")
    return Marker("withdrawn", found[1], found[2]) if found else None


def taken_back_of(comment: str | None) -> Marker | None:
    """Return the marker of the run whose rows a rollback has taken away from readers of a table; None without a rollback.

    After one by Time Travel, it has the start of the id of the run alone.
    """
    marker = marker_in(comment)
    return put_back_from(comment) or (marker if marker is not None and marker.is_rolled_back else None)


def comment_of(
    table: AnalyticsTable,
    marker: Marker,
    pieces: Sequence[Piece] = (),
    *,
    start: Start | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the comment of a table that a run made: its description, the time of its rows if it has some alone, and their run.

    Args:
        table: The table.
        marker: The run.
        pieces: The time of a slice.
        start: Where an increment begins.
        notes: What else it says: `audited_note`, `after_note`, a `ByHand`.
    """
    rows = f"[run_elt rows {' '.join(map(_piece_text, pieces))}]" if pieces else ""
    rows = f"[run_elt increment since {start.words}]" if start is not None else rows
    return " ".join(filter(None, (table.description, rows, *notes, str(marker))))


def pieces_in(comment: str | None) -> tuple[Piece, ...] | None:
    """Return the pieces of time that a comment names, None if it names none: then the run built the whole table."""
    found = _ROWS.findall(comment or "")
    pieces = [piece.split("..") for piece in found[-1].split(" ")] if found else []
    return tuple((datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in pieces) or None


def _piece_text(piece: Piece) -> str:
    return "..".join(each.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for each in piece)
