"""Which rows parts of a table had before their last publish, and whether anything forbids to put them back.

A part is a partition, or whatever else is published by DELETE and INSERT with a note of its own. The note names the DELETE: Time Travel
has the rows, and the notes, as they were just before it. https://docs.snowflake.com/en/sql-reference/constructs/at-before
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.partitioned import pieces_sql
from run_elt_dagster.audit.plan import KeyAudit
from run_elt_dagster.model.candidate import Marker, is_candidate_of, pieces_in, rolled_back_marker, target_of
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import partition_words
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import (
    OBJECT_MISSING,
    InventoryTable,
    PublishRefusedError,
    Refusal,
    TargetInventory,
    policies_refusal,
)
from run_elt_dagster.publish.methods import refusal
from run_elt_dagster.publish.partitions import (
    INCREMENT_KEY,
    WHOLE_KEY,
    Markers,
    PublishedPartition,
    markers_of,
    notes_before_sql,
    notes_sql,
    partitions_table,
)
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.rollback_plan import rollback_tag
from run_elt_dagster.publish.slice_exchange import keys_elsewhere_sql
from run_elt_dagster.publish.versions import before_sql, columns_sql
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError

NOTHING_CHANGED = "Nothing was changed."


@dataclass(frozen=True)
class Parts:
    """Some parts of a table.

    Attributes:
        keys: The keys of their notes.
        condition: Returns the condition that a row is in one of some of them.
        elsewhere: Returns the queries that count rows with a key of another part, by the check, for some of them.
        is_in: Whether a candidate of the table may have rows of them.
        named: Returns some of them for a person.
        is_partition: Whether each is a partition, as Dagster has it.
    """

    keys: tuple[str, ...]
    condition: Callable[[Collection[str]], str]
    elsewhere: Callable[[Collection[str]], Mapping[str, str]]
    is_in: Callable[[InventoryTable], bool]
    named: Callable[[Sequence[str]], str]
    is_partition: bool = True

    @property
    def words(self) -> str:
        """All of them for a person."""
        return self.named(self.keys)


def parts_of_slice(table: AnalyticsTable, part: Slice, *, target: Relation) -> Parts:
    """Return the partitions of a slice."""

    def is_in(found: InventoryTable) -> bool:
        pieces = pieces_in(found.comment)
        return pieces is None or any(start < part.end and end > part.start for start, end in pieces)

    def elsewhere(keys: Collection[str]) -> Mapping[str, str]:
        audits = [audit for audit in audits_of(table, database=target.database) if isinstance(audit, KeyAudit)]
        return {
            audit.name: keys_elsewhere_sql(table, target, audit.key, part.pieces(keys))
            for audit in audits
            if audit.severity == "error"
        }

    return Parts(part.keys, lambda keys: pieces_sql(table, part.pieces(keys)), elsewhere, is_in, partition_words)


def last_increment() -> Parts:
    """Return the last increment of any table. What it replaced is not told apart from the other rows: all of them come back."""
    return Parts(
        (INCREMENT_KEY,),
        lambda _: "TRUE",
        lambda _: {},
        lambda _: True,
        lambda _: "the last increment",
        is_partition=False,
    )


def last_exchange() -> Parts:
    """Return all rows of a table that its group has written whole."""

    def named(_: Sequence[str]) -> str:
        return "the last exchange"

    return replace(last_increment(), keys=(WHOLE_KEY,), named=named)


@dataclass(frozen=True)
class PartVersion:
    """What one part has now, and what it had before.

    Attributes:
        present: Its note.
        previous: Its note of before; None if there was none.
        rows: How many rows it had.
    """

    present: PublishedPartition
    previous: PublishedPartition | None
    rows: int

    @property
    def note(self) -> PublishedPartition:
        """What is noted of it once its rows are back: a repeated command sees by that that they are."""
        earlier = self.previous
        return replace(
            self.present,
            marker=rolled_back_marker(self.present.marker),
            rows=self.rows,
            query_id=earlier.query_id if earlier is not None else None,
        )

    @property
    def words(self) -> str:
        """The rows of before, and the run that built them."""
        built = self.previous.marker.published if self.previous is not None else ""
        return ", ".join(filter(None, (counted(self.rows, "rows"), built)))

    @property
    def present_words(self) -> str:
        """The rows of now, and their run."""
        return ", ".join(filter(None, (counted(self.present.rows, "rows"), self.present.marker.published)))


@dataclass(frozen=True)
class PartRollbackPlan:
    """How the rows of before come back.

    Attributes:
        table: The table.
        target: What readers see.
        parts: What was asked for.
        versions: The parts whose rows come back, by the key.
        done: The keys of those that an earlier command has put back.
        columns: The columns in order.
        notes: What is noted of all parts that were asked for, by the key.
    """

    table: AnalyticsTable
    target: Relation
    parts: Parts
    versions: Mapping[str, PartVersion]
    done: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    notes: Mapping[str, PublishedPartition] = field(default_factory=dict[str, PublishedPartition])

    @property
    def rows(self) -> int:
        """How many rows come back."""
        return sum(version.rows for version in self.versions.values())

    @property
    def delete_sql(self) -> str:
        """The statement that takes the rows of now away."""
        return f"DELETE FROM {self.target.sql} WHERE {self.parts.condition(self.versions)}"

    @property
    def insert_sqls(self) -> tuple[str, ...]:
        """The statements that bring the rows of before back: one for each publish that is undone."""
        names = ", ".join(quote_identifier(column) for column in self.columns)
        return tuple(
            f"INSERT INTO {self.target.sql} ({names}) SELECT {names} FROM {before_sql(self.target, query_id)} "
            f"WHERE {self.parts.condition(keys)}"
            for query_id, keys in by_query(version.present for version in self.versions.values()).items()
        )

    @property
    def count_sql(self) -> str:
        """The query for how many rows there are now."""
        return f"SELECT COUNT(*) FROM {self.target.sql} WHERE {self.parts.condition(self.versions)}"

    @property
    def notes_sql(self) -> str:
        """The query for the notes."""
        return notes_sql(self.target, tuple(self.versions))


def by_query(notes: Any) -> dict[str, list[str]]:
    """Return the keys of notes by the statement that took their rows of before away."""
    found: dict[str, list[str]] = {}
    for note in notes:
        found.setdefault(str(note.query_id), []).append(note.key)
    return found


def _is_put_back(note: PublishedPartition, *, further: bool, begun_at: datetime | None) -> bool:
    """Return whether an earlier command has put a part back, and the person does not ask for the version before it."""
    return note.marker.is_rolled_back and (not further or (begun_at is not None and note.published_at >= begun_at))


class PartRollbackPlanner:
    """Finds out how the rows of before come back; nothing is changed.

    Args:
        runner: Sends its statements.
        table: The table.
        parts: Some of its parts.
        database: The stored name of its database.
        check_policies: Whether to ask for the policies on it.
    """

    def __init__(
        self,
        runner: StatementRunner,
        table: AnalyticsTable,
        parts: Parts,
        *,
        database: str,
        check_policies: bool = True,
    ) -> None:
        self._runner, self._table, self._parts = runner, table, parts
        self._target = target_of(table, database=database)
        self._check_policies, self._tag = check_policies, rollback_tag(table)

    def plan(self, *, further: bool = False, begun_at: datetime | None = None) -> PartRollbackPlan:
        """Look which rows there are to go back to, and whether anything forbids it.

        A person may repeat the command because its answer was lost. So rows that an earlier command has put back stay, unless the
        person asks for those before them.

        Args:
            further: Go back one version more than an earlier command has.
            begun_at: When a killed command began. What it has put back stays, `further` or not.

        Raises:
            PublishRefusedError: There are none, or something forbids it.
            StatementError: Snowflake did not answer.
        """
        inventory = read_targets(
            self._runner, [self._table], database=self._target.database, check_policies=self._check_policies
        )
        existing = self._existing(inventory)
        notes = self._notes(existing)
        done = tuple(note.key for note in notes if _is_put_back(note, further=further, begun_at=begun_at))
        due = [note for note in notes if note.key not in done]
        columns = tuple(str(name) for (name,) in self._send(columns_sql(self._target)).rows) if due else ()
        versions = {
            key: version
            for query_id, keys in by_query(self._with_something_before(due)).items()
            for key, version in self._versions(query_id, keys, {note.key: note for note in due}, columns).items()
        }
        by_key = {note.key: note for note in notes}
        return PartRollbackPlan(self._table, self._target, self._parts, versions, done, columns, by_key)

    def _existing(self, inventory: TargetInventory) -> InventoryTable:
        """Return the table.

        Raises:
            PublishRefusedError: Its rows must not be exchanged, or a run is about to do that.
        """
        existing = inventory.at(self._target)
        if self._table.policies is not None:
            # Rows of before would be read through them, and stored as the role sees them.
            raise self._refused("a table whose file declares policies", "Materialize them again.")
        if existing is None:
            raise self._refused(f"no {self._target}", "Materialize the table again, or restore it by UNDROP TABLE.")
        refused = refusal(self._table, self._target, existing, role=inventory.role)
        refused = refused or policies_refusal(self._table, self._target, existing.policies, existing.unknown)
        if refused is not None:
            raise PublishRefusedError(replace(refused, seen=NOTHING_CHANGED))
        for (schema, name), found in inventory.tables.items():
            marker = found.marker
            is_pending = schema == self._target.schema and is_candidate_of(self._table, name) and marker is not None
            if is_pending and marker is not None and marker.state == "run" and self._parts.is_in(found):
                self._require_dead(marker.run_id)
        return existing

    def _require_dead(self, run_id: str) -> None:
        if self._runner.run.is_live(run_id):
            raise self._refused(f"run {run_id} about to publish them", "Cancel it or wait for it.")

    def _notes(self, existing: InventoryTable) -> tuple[PublishedPartition, ...]:
        """Return the note of each part.

        Raises:
            PublishRefusedError: One has none.
        """
        try:
            markers = markers_of(self._send(notes_sql(self._target, self._parts.keys)).rows)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            markers = Markers(None, ())
        first = existing.marker
        if first is not None and first.state == "run" and markers.first not in (None, first):
            raise self._refused(
                f"a table that run {first.run_id} has created since", "Restore the earlier one by UNDROP TABLE."
            )
        self._require_written_last(first, markers)
        missing = sorted(set(self._parts.keys) - {note.key for note in markers.partitions})
        if missing:
            raise self._refused(f"no publish of {self._parts.named(missing)}", "Materialize them.")
        return markers.partitions

    def _require_written_last(self, first: Marker | None, markers: Markers) -> None:
        """Require that the note of a table that is written whole is of its newest rows: its comment names their run, too."""
        noted = next((note.marker for note in markers.partitions if note.key == WHOLE_KEY), None)
        if noted is not None and first is not None and first.state == "run" and first.at > noted.at:
            raise self._refused(
                f"run {first.run_id} that has published it since, without its group",
                f"Roll it back by itself: run-elt rollback {self._table.name}. Or materialize the group again.",
            )

    def _with_something_before(self, notes: Sequence[PublishedPartition]) -> Sequence[PublishedPartition]:
        first = [note.key for note in notes if note.query_id is None]
        if first:
            raise self._refused(
                f"nothing before what readers see of {self._parts.named(first)}",
                "Materialize them again, or delete them by hand.",
            )
        return notes

    def _versions(
        self, query_id: str, keys: Sequence[str], present: Mapping[str, PublishedPartition], columns: Sequence[str]
    ) -> dict[str, PartVersion]:
        """Return what parts had before one statement.

        Raises:
            PublishRefusedError: Snowflake does not have their rows any more, or has other columns.
        """
        condition = self._parts.condition
        counts = ", ".join(f"COUNT_IF({condition([key])})" for key in keys)
        past = before_sql(self._target, query_id)
        try:
            earlier = self._send(notes_before_sql(self._target, keys, query_id)).rows
            shown = self._send(f"SELECT * FROM {past} LIMIT 0").columns
            rows = self._send(f"SELECT {counts} FROM {past} WHERE {condition(keys)}").rows[0]
        except StatementError as error:
            if not error.answered:
                raise
            raise self._refused(
                f"no answer to what they were before query {query_id} ({error})",
                f"See DATA_RETENTION_TIME_IN_DAYS of {self._target} and of {partitions_table(self._target)}.",
            ) from error
        if list(shown) != list(columns):
            raise self._refused(
                f"columns {', '.join(shown)} then, and {', '.join(columns)} now",
                "Put the rows back by hand with Time Travel.",
            )
        notes = {note.key: note for note in markers_of(earlier).partitions}
        found = {
            key: PartVersion(present[key], notes.get(key), int(count or 0))
            for key, count in zip(keys, rows, strict=True)
        }
        if never := [key for key, version in found.items() if version.previous is None and not version.rows]:
            raise self._refused(
                f"no rows of {self._parts.named(never)} before", "Materialize them again, or delete them by hand."
            )
        return found

    def _refused(self, got: str, remedy: str) -> PublishRefusedError:
        rule = f"rolling back {self._table.name} requires an earlier publish of {self._parts.words}"
        return PublishRefusedError(Refusal(rule, got, remedy, seen=NOTHING_CHANGED))

    def _send(self, sql: str) -> Answer:
        return self._runner.send(sql, tag=self._tag)
