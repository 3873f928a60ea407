"""What readers may see, and which sentences about production are true: the judge of every trial."""

import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from snowflake.connector.errors import Error

from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.outcome import TableOutcome

# Rows, least and greatest value of a table; nothing where there is none.
Content = tuple[Any, ...]
# What a trial can find: a reader saw what no reader may see; a sentence about production was not what the catalogue says; a run
# ended otherwise than it should; or something did not end.
Verdict = Literal["wrong", "untrue", "failed", "did not end"]
VERDICTS: tuple[Verdict, ...] = ("wrong", "untrue", "failed", "did not end")
# A value that the check of every table here rejects.
REJECTED_FROM = 100
SCHEMA = "analytics"


class Problem(NamedTuple):
    """What a trial found, and what it was."""

    verdict: Verdict
    text: str


class Version(NamedTuple):
    """The table of one run: so many rows, each with the same value. A mixture has another least or greatest one."""

    rows: int
    value: int

    @property
    def content(self) -> Content:
        return (self.rows, self.value, self.value)

    @property
    def sql(self) -> str:
        return f"select seq4() as n, {self.value}::int as v from table(generator(rowcount => {self.rows}))"

    @property
    def is_good(self) -> bool:
        """Whether the check accepts it."""
        return self.value < REJECTED_FROM


# What stood before a trial, what was there before that, and what two runs of the trial build.
BEFORE, OLD, NEW, NEXT = Version(1, 0), Version(3, 1), Version(5, 2), Version(7, 3)


def declared(table: str, publish: str, version: Version, *, parent: str | None = None) -> AnalyticsTable:
    """Return a table of a run: of a version, or with the rows of another table."""
    return AnalyticsTable.model_validate(
        {
            "schema": SCHEMA,
            "table": table,
            "publish": publish,
            "columns": {"n": {"type": "int", "description": "A number"}, "v": "int"},
            "checks": {"range": {"v": {"max": REJECTED_FROM - 1}}},
            "sql": version.sql if parent is None else f"select n, v from {SCHEMA}.{parent}",
        }
    )


def look(session: Any, table: str) -> Content:
    """Return what a session sees of a table; nothing if there is none."""
    try:
        (found,) = session.sql(f"select count(*), min(v), max(v) from {SCHEMA}.{table}")
    except Error as error:
        if error.errno == OBJECT_MISSING:
            return ()
        raise
    return found


# Sentences about what readers see, each with the question whether it is true of a content. A number is one of rows.
_Truth = Callable[[re.Match[str], Content, Content], bool]


def _has_rows(match: re.Match[str], content: Content, _: Content) -> bool:
    return bool(content) and content[0] == int(match[1].replace(",", ""))


def _is_missing(_: re.Match[str], content: Content, __: Content) -> bool:
    return not content


def _is_new(_: re.Match[str], content: Content, new: Content) -> bool:
    return content == new


def _is_another(_: re.Match[str], content: Content, new: Content) -> bool:
    return bool(content) and content != new


_SENTENCES: Sequence[tuple[re.Pattern[str], _Truth]] = [
    (re.compile(pattern), truth)
    for pattern, truth in (
        (r"[Rr]eaders see ([\d,]+) rows", _has_rows),
        (r"Readers still see the previous table \(([\d,]+) rows", _has_rows),
        (r"Readers still see the previous table", _is_another),
        (r"is back at ([\d,]+) rows", _has_rows),
        (r"is published: ([\d,]+) rows", _has_rows),
        (r"[Tt]here is no published table yet", _is_missing),
        (r"[Tt]here is no RUN_ELT\.", _is_missing),
        (r"(?<!Whether )readers see the new table", _is_new),
        (r"New, verified in Snowflake", _is_new),
        (r"Unchanged, verified in Snowflake: readers still see", _is_another),
    )
]


def untrue(text: str, states: Collection[Content], new: Version) -> list[Problem]:
    """Return the sentences of a text about one table that are true of none of the states.

    Args:
        text: What was said: in a log, an alert, or on the command line.
        states: What readers saw from the moment of the last question to that of the sentence.
        new: What the run that speaks has built.
    """
    return [
        Problem("untrue", f"said {match[0]!r}, readers saw {sorted(states)}: {_around(text, match)}")
        for pattern, is_true in _SENTENCES
        for match in pattern.finditer(text)
        if not any(is_true(match, state, new.content) for state in states)
    ]


def _around(text: str, match: re.Match[str]) -> str:
    return text[max(match.start() - 200, 0) : match.end() + 200].replace("\n", " ")


def said_of(outcome: TableOutcome) -> str:
    """Return all that a run says of a table."""
    failure = outcome.failure
    said = [outcome.production.words] if outcome.production else []
    said += [*outcome.warnings, *([failure.message, failure.production.words] if failure else [])]
    if outcome.published:
        said.append(f"is published: {outcome.row_count} rows")
    return "\n".join(said)


def says_unknown(outcome: TableOutcome) -> bool:
    """Return whether a run says that nobody can tell what readers see."""
    return outcome.failure is not None and outcome.failure.production.state == "unknown"


def lines_about(text: str, table: str) -> str:
    """Return the lines that name a table, as its file is called or as Snowflake does."""
    names = (f"{SCHEMA}.{table}".lower(), str(Relation("run_elt", SCHEMA, table)).lower())
    found = [line for line in text.splitlines() if any(_names(line.lower(), name) for name in names)]
    return "\n".join(found)


def _names(line: str, name: str) -> bool:
    return re.search(rf"{re.escape(name)}(?![\w])", line) is not None


@dataclass
class Watched:
    """A table that a reader looks at.

    Attributes:
        table: Its name.
        versions: What readers may see.
        may_be_missing: Whether it may be gone for a moment, as while a clone is rolled back.
        keeps_grant: Whether the reader's role must be able to read it at every moment.
        sightings: What the reader saw, with the moment by the monotonic clock; only what differs from the sight before.
    """

    table: str
    versions: Sequence[Version]
    may_be_missing: bool = False
    keeps_grant: bool = False
    sightings: list[tuple[float, Content]] = field(default_factory=list)

    def note(self, seen: Content) -> str | None:
        """Note what was seen, and return what is wrong with it."""
        was_there = any(content for _, content in self.sightings)
        if not self.sightings or self.sightings[-1][1] != seen:
            self.sightings.append((time.monotonic(), seen))
        if seen in [version.content for version in self.versions if version.is_good]:
            return None
        if not seen:
            return f"{self.table} was gone" if was_there and not self.may_be_missing else None
        return f"{self.table} had {seen}, which no audited version has"

    def states(self, since: float, until: float) -> set[Content]:
        """Return what readers saw in a time, what stood at its beginning included."""
        before = [content for at, content in self.sightings if at <= since]
        return {*before[-1:], *(content for at, content in self.sightings if since < at <= until)}


class Reader:
    """A consumer who looks at tables without an end, from entering the block to its end.

    Args:
        connect: Opens its session.
        watched: What it looks at.
        pause_seconds: Between two rounds.

    Attributes:
        looks: How often it has looked.
        problems: What it should not have seen.
        is_patient: Whether a Snowflake that is away is no problem; it signs in again then.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        watched: Sequence[Watched],
        *,
        pause_seconds: float = 0.01,
        is_patient: bool = False,
    ) -> None:
        self.looks, self.problems = 0, list[Problem]()
        self._connect, self._watched, self._pause, self.is_patient = connect, watched, pause_seconds, is_patient
        self._stop, self._looked = threading.Event(), threading.Condition()
        self._round = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look; each table has been seen once when this returns."""
        self._thread.start()
        self.wait_for_look()
        return self

    def __exit__(self, *_: object) -> None:
        """Look once more, and end."""
        self.wait_for_look()
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def wait_for_look(self, seconds: float = 60) -> None:
        """Wait for a round that begins after this moment: nothing that stands now goes unseen."""
        with self._looked:
            # The round that is under way may have seen a table before.
            wanted = self._round + 2
            self._looked.wait_for(lambda: self._round >= wanted or not self._thread.is_alive(), seconds)

    def _run(self) -> None:
        try:
            session: Any = None
            while not self._stop.is_set():
                session = self._look_at_all(session)
                with self._looked:
                    self._round += 1
                    self._looked.notify_all()
                self._stop.wait(self._pause)
        except BaseException as error:  # noqa: BLE001 - it is raised at the end of the block
            self._error = error

    def _look_at_all(self, session: Any) -> Any:
        """Look at each table, and return the session for the next round; None if it is lost."""
        try:
            session = session or self._connect()
            for watched in self._watched:
                self.looks += 1
                self._note(watched, session)
        except Error:
            if not self.is_patient:
                raise
            return None
        return session

    def _note(self, watched: Watched, session: Any) -> None:
        if wrong := watched.note(look(session, watched.table)):
            self._report(wrong)
        if watched.keeps_grant:
            grants = session.sql(f"show grants on table {SCHEMA}.{watched.table}")
            if ("SELECT", "CONSUMER") not in [(row[1], row[5]) for row in grants]:
                self._report(f"{watched.table} could not be read by its consumer")

    def _report(self, text: str) -> None:
        problem = Problem("wrong", text)
        if problem not in self.problems:
            self.problems.append(problem)
