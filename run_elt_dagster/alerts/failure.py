"""What failed: the facts of an alert. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from run_elt_dagster.model.production import ProductionState
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.runs.trigger import Trigger

Stage = Literal["connect", "build", "audit", "publish", "clean-up", "outside our code"]
# For a failure from before the number was noted: row values are then taken out of whatever it says.
ERRNO_UNKNOWN = 0
# So many partitions are named one by one.
PARTITIONS_NAMED = 3


# Before the name of a group, beside the names of tables: what became of an exchange that the run has left half done.
ENDED_GROUP: Mapping[str, str] = {
    "forward": "group published ",
    "declared": "group declared ",
    "back": "group put back ",
    "open": "group left ",
}
_ENDED_WORDS = {
    "forward": "the run has left its exchange half done. All tables had passed their checks, so the exchange was ended: readers see the "
    "new rows in all of them.",
    "declared": "the run has left its exchange half done. All tables had passed their checks, so the exchange was ended: readers see the "
    "new rows in all tables that a file still declares. No file declares the others any more, and they stay as they are.",
    "back": "the run has left its exchange half done, and it was taken back: readers see in all tables what they saw before.",
    "open": "the run has left its exchange half done, and it could not be ended: readers may see rows of two runs. Materialize all of "
    "its tables again.",
}


@dataclass(frozen=True)
class FailedCheck:
    """A check that did not hold.

    Attributes:
        name: Of the asset check.
        got: What it got, in words.
        expected: What it expected, in words.
        kind: What declares it, as `audit.plan.Audit.kind`; empty for a check of another tool, and where an older failure did not
            note it.
        is_answered: Whether its question was answered. Otherwise the cause of the table says why not.
    """

    name: str
    got: str
    expected: str
    kind: str = ""
    is_answered: bool = True

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "FailedCheck":
        """Return the check that the metadata of a failure keeps. What a later release notes besides is left out."""
        return cls(**{field.name: kept[field.name] for field in fields(cls) if field.name in kept})


@dataclass(frozen=True)
class FailedTable:
    """A table that was not published, or one that was to be checked as it is.

    Attributes:
        name: `schema.table`.
        stage: Where it failed.
        cause: The root cause in words; may hold secrets and row values. The message takes them out.
        cause_class: What makes two failures the same one: failed checks, Snowflake's error number, or an exception. Nothing reads
            it, but compares it.
        errno: Snowflake's error number, None if the cause is none of Snowflake's, ERRNO_UNKNOWN where an older failure did not note
            it.
        reason: Why, as a fact; None where the checks or the number say it.
        checks: The checks that did not hold.
        query_id: The failed query in Snowflake's history, None if there is none.
        production: What readers see now, in words.
        readers_see: The same as a fact; None where an older failure did not note it.
        owners: Who is responsible, as the asset says: e-mail or `team:name`.
        candidate: Where the rejected rows can be inspected, None if nothing was built.
        was_built: Whether it was to be built, and not only its published rows to be checked.
        where: The place of the cause in its SQL file, empty if Snowflake names none.
        partitions: The keys of the partitions that were not published, in order; empty of a table that is built whole.
        partitions_published: How many other partitions of the run were published all the same.
        if_wanted: The command by which a person publishes it all the same; empty where there is none.
    """

    name: str
    stage: Stage
    cause: str
    cause_class: str
    errno: int | None = None
    reason: Reason | None = None
    checks: tuple[FailedCheck, ...] = ()
    query_id: str | None = None
    production: str = ""
    readers_see: ProductionState | None = None
    owners: tuple[str, ...] = ()
    candidate: str | None = None
    was_built: bool = True
    where: str = ""
    partitions: tuple[str, ...] = ()
    partitions_published: int = 0
    if_wanted: str = ""

    @property
    def partition_words(self) -> str:
        """Its partitions for a person: some by name, many by the first, the last and how many; empty if it is built whole."""
        if len(self.partitions) <= PARTITIONS_NAMED:
            return ", ".join(self.partitions)
        return f"{len(self.partitions):,} partitions, {self.partitions[0]} to {self.partitions[-1]}"


@dataclass(frozen=True)
class RunFailure:
    """A failed run, as an alert needs it.

    Attributes:
        run_id: Dagster's id of the run.
        job: Name of its job.
        failed_at: When it ended, aware UTC.
        trigger: How it was launched.
        trigger_name: Name of the schedule or sensor, the person, or the repeated run, where one is known.
        summary: What happened, in one sentence.
        tables: The tables that were not published because of the failure.
        skipped: Tables that were not refreshed because they read a failed one.
        held_back: Tables that passed their checks and were not published, since others of their group failed.
        ended_groups: What became of groups whose exchange the run has left half done, in sentences.
        stage: Where the first failure was.
        cause: The root cause of a failure that belongs to no single table, empty otherwise.
        cause_class: What makes two such failures the same one, empty for a failure of tables.
        errno: Snowflake's error number of such a failure, as for a table.
        reason: Why it failed, as for a table.
        cancelled: Whether a person cancelled it.
        backfill: Dagster's id of the backfill that it is a part of, empty if it is none.
    """

    run_id: str
    job: str
    failed_at: datetime
    trigger: Trigger
    trigger_name: str
    summary: str
    tables: tuple[FailedTable, ...]
    skipped: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()
    ended_groups: tuple[str, ...] = ()
    stage: Stage = "outside our code"
    cause: str = ""
    cause_class: str = ""
    errno: int | None = None
    reason: Reason | None = None
    cancelled: bool = False
    backfill: str = ""

    @property
    def fingerprint(self) -> str:
        """The same for two runs that failed alike: same tables, stages and causes; and for the runs of one backfill."""
        if self.backfill:
            return hashlib.sha256(f"backfill|{self.backfill}".encode()).hexdigest()[:16]
        parts = sorted(f"{table.name}|{table.stage}|{table.cause_class}" for table in self.tables)
        return hashlib.sha256(
            "\n".join([*parts, "" if parts else self.summary]).encode("utf-8", "replace")
        ).hexdigest()[:16]

    @property
    def is_of_tables(self) -> bool:
        """Whether tables have failed, each by itself. The summary then names the only one."""
        return bool(self.tables) and not self.cause_class

    @property
    def is_unclear(self) -> bool:
        """Whether the run was lost while it may have been publishing, or has published a part of a group: Snowflake has to be asked."""
        return any(
            (table.stage == "outside our code" and table.readers_see == "unknown")
            or table.reason is Reason.GROUP_HALF_PUBLISHED
            for table in self.tables
        )

    @property
    def owners(self) -> tuple[str, ...]:
        """All owners of failed tables, each once."""
        return tuple(dict.fromkeys(owner for table in self.tables for owner in table.owners))


def ended_groups_of(seen: Mapping[str, object] | None) -> Iterator[str]:
    """Yield what became of groups whose exchange a look at production has ended, in sentences."""
    for name in seen or ():
        for state, start in ENDED_GROUP.items():
            if name.startswith(start):
                yield f"publish_group {name.removeprefix(start)}: {_ENDED_WORDS[state]}"
