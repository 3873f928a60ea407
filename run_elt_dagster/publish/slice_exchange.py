"""Exchanging the partitions of a slice: a first table by one statement, later rows by one transaction in a session of its own.

No statement of the transaction is repeated by itself. After an error all of it is rolled back and begun again: it reads first what is
published, so what another run or this one has published meanwhile stays.
https://docs.snowflake.com/en/sql-reference/transactions
"""

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.partitioned import other_rows, pieces_sql, rows_of
from run_elt_dagster.audit.plan import KeyAudit
from run_elt_dagster.model.candidate import Marker, Piece, comment_of, pieces_in, run_suffix
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.partitions import Partition, Slice
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import (
    OBJECT_EXISTS,
    OBJECT_MISSING,
    PublishRefusedError,
    Refusal,
    policies_refusal,
    policies_sql,
    policy_words,
)
from run_elt_dagster.publish.partitions import (
    Markers,
    chunks,
    create_lock_sql,
    create_table_sql,
    forget_all_sql,
    forget_sql,
    lock_sql,
    markers_of,
    markers_sql,
    partitions_table,
    record_sql,
    remember_first_sql,
)
from run_elt_dagster.publish.statements import column_comments_sql, table_kind
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import StatementError

# A lock was not given: more than twenty statements wait for it, or the wait was too long.
LOCK_NOT_GIVEN = 625
# How often the exchange is begun anew because a table has come or gone meanwhile.
CHANGES = 5


class KeyElsewhereError(Exception):
    """After the exchange, rows would have a key of another partition: an audit would have found it, had it been there before.

    Attributes:
        audit: The check.
        rows: How many rows there would be.
    """

    def __init__(self, audit: KeyAudit, rows: int) -> None:
        super().__init__(f"check {audit.name} found {rows:,} rows with a key of another partition")
        self.audit, self.rows = audit, rows


@dataclass(frozen=True)
class Exchanged:
    """What became of the partitions that were to be exchanged.

    Attributes:
        published: The keys of those whose new rows readers see.
        superseded: The run with a newer snapshot, by the key of the others.
    """

    published: frozenset[str]
    superseded: Mapping[str, str]


def first_sql(
    table: AnalyticsTable,
    target: Relation,
    candidate: Relation,
    *,
    marker: Marker,
    pieces: Sequence[Piece],
    whole: bool,
) -> str:
    """Return the statement that publishes the first partitions. It fails where another run has created the table meanwhile.

    Args:
        table: The table.
        target: What readers see.
        candidate: What was audited.
        marker: The run of its rows.
        pieces: What of it is published.
        whole: Whether that is all of it: then a clone costs nothing.
    """
    kind = table_kind(table)
    if whole:
        return f"CREATE {kind} {target.sql} CLONE {candidate.sql}"
    comment = quote_literal(comment_of(table, marker, pieces))
    rows = rows_of(candidate, pieces_sql(table, pieces))
    return f"CREATE {kind} {target.sql} COMMENT = {comment} AS SELECT * FROM {rows.sql}"


def limit_waits_sql(seconds: float) -> str:
    """Return the statement that lets a session wait for a lock no longer than this, and roll back what fails.

    https://docs.snowflake.com/en/sql-reference/parameters#lock-timeout
    """
    return f"ALTER SESSION SET LOCK_TIMEOUT = {max(int(seconds), 1)}, TRANSACTION_ABORT_ON_ERROR = TRUE"


def begin_sql(run_id: str) -> str:
    """Return the statement that begins the transaction, named by its run."""
    return f"BEGIN TRANSACTION NAME RUN_ELT_{run_suffix(run_id)}"


def delete_sql(table: AnalyticsTable, target: Relation, pieces: Sequence[Piece]) -> str:
    """Return the statement that deletes the rows of some pieces of time: the column bare, so Snowflake prunes."""
    return f"DELETE FROM {target.sql} WHERE {pieces_sql(table, pieces)}"


def insert_sql(
    table: AnalyticsTable, target: Relation, candidate: Relation, *, columns: Sequence[str], pieces: Sequence[Piece]
) -> str:
    """Return the statement that inserts the candidate's rows of some pieces of time, by the names of the columns."""
    names = ", ".join(map(quote_identifier, columns))
    return f"INSERT INTO {target.sql} ({names}) SELECT {names} FROM {candidate.sql} WHERE {pieces_sql(table, pieces)}"


def count_sql(table: AnalyticsTable, target: Relation, pieces: Sequence[Piece]) -> str:
    """Return the query for the number of rows in some pieces of time."""
    return f"SELECT COUNT(*) FROM {target.sql} WHERE {pieces_sql(table, pieces)}"


def keys_elsewhere_sql(table: AnalyticsTable, target: Relation, key: Sequence[str], pieces: Sequence[Piece]) -> str:
    """Return the query for how many rows in some pieces of time have a key that rows outside of them have too."""
    names = [quote_identifier(column) for column in key]
    inside, outside = rows_of(target, pieces_sql(table, pieces)), other_rows(table, target, pieces)
    same = " AND ".join(f"here.{name} = there.{name}" for name in names)
    listed = ", ".join(names)
    return (
        f"SELECT COUNT(*) FROM (SELECT {listed} FROM {inside.sql}) AS here "
        f"WHERE EXISTS (SELECT 1 FROM (SELECT {listed} FROM {outside.sql}) AS there WHERE {same})"
    )


def add_column_sql(target: Relation, column: Column) -> str:
    """Return the statement that adds a column at the end; safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table
    """
    return f"ALTER TABLE {target.sql} ADD COLUMN IF NOT EXISTS {quote_identifier(column.name)} {column.type}"


def column_changes(published: Sequence[Column], new: Sequence[Column]) -> tuple[list[Column], list[str]]:
    """Return the columns that are new, and what else differs, in words: rows that would be lost or rounded.

    A narrower text or number is none of it: Snowflake refuses a value that does not fit.
    """
    there, wanted = {column.name: column for column in published}, {column.name: column for column in new}
    added = [column for column in new if column.name not in there]
    removed = [f"no column {name}" for name in there if name not in wanted]
    retyped = [
        f"{name} of type {wanted[name].type}, published as {column.type}"
        for name, column in there.items()
        if name in wanted and _is_lossy(wanted[name], column)
    ]
    return added, [*removed, *retyped]


def _is_lossy(new: Column, published: Column) -> bool:
    if new.data_type != published.data_type:
        return True
    if (new.scale or 0) > (published.scale or 0):
        return True
    return new.digits is not None and published.digits is not None and new.digits > published.digits


class SliceExchange:
    """Exchanges partitions of the candidate of one slice, until it is done or cannot be.

    Args:
        work: The table, with its audited candidate.
        part: The slice.
        rows: The number of rows of each partition, by key.
        keys: The checks of keys that the whole table has to hold.

    Attributes:
        is_created: Whether this run has created the table, so readers see its rows whatever follows.
    """

    def __init__(self, work: TableWork, part: Slice, rows: Mapping[str, int], keys: Sequence[KeyAudit] = ()) -> None:
        self._work, self._part, self._rows, self._keys = work, part, rows, keys
        self._pauses = list(work.patience.retry_seconds)
        self._changes = 0
        self._began = time.monotonic()
        self.is_created = False
        # Whether the table that stands there is the one that this run has created, by the last look.
        self._is_own = False

    def publish(self, keys: Collection[str]) -> Exchanged:
        """Publish some partitions. Safe to repeat as long as the candidate exists.

        Args:
            keys: Their keys.

        Raises:
            StatementError: It failed for good. `work.is_unknown` says whether readers may see the new rows.
            PublishRefusedError: It must not be published.
            KeyElsewhereError: Keys would not identify rows any more.
            RunStoppedError: The run was interrupted.
        """
        partitions = [partition for partition in self._part.partitions if partition.key in keys]
        while True:
            try:
                return self._attempt(partitions)
            except StatementError as error:
                if (done := self._look(partitions, error)) is not None:
                    return done
                pause = self._pause_before_another_try(error)
                if pause is None and not self.is_created:
                    raise
                if pause is None:
                    self._warn_without_notes(error)
                    return Exchanged(frozenset(keys), {})
                self._work.runner.wait(pause)

    def _attempt(self, partitions: Sequence[Partition]) -> Exchanged:
        """Publish in a session that was opened after the build, so it sees the candidate for certain."""
        work = self._work
        with work.runner.fresh() as fresh:
            self._inspect(fresh)
            self._require_candidate()
            if work.standing is None:
                self._create(partitions, fresh)
                self._inspect(fresh)
            self._require_table()
            self._require_no_policies(fresh)
            self._match_columns(fresh)
            self._limit_waits(fresh)
            return self._in_a_transaction(partitions, fresh)

    def _inspect(self, fresh: StatementRunner) -> None:
        self._work.inspect(fresh)
        standing = self._work.standing
        self._is_own = standing is not None and standing.marker == self._work.marker()
        self.is_created = self.is_created or self._is_own

    def _require_table(self) -> None:
        if self._work.standing is None:
            problem = f"{self._work.target} was created a moment ago, and is not there any more"
            raise StatementError(problem, errno=OBJECT_MISSING, query_id=None, answered=True)

    def _require_candidate(self) -> None:
        work = self._work
        if not work.has_candidate and not self._is_own:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires its candidate until it is published",
                    f"no {work.candidate}",
                    "Find in Snowflake's history who has dropped it, then materialize again.",
                    reason=Reason.TARGET_CHANGES,
                )
            )

    def _create(self, partitions: Sequence[Partition], fresh: StatementRunner) -> None:
        """Create the table with its first partitions.

        Raises:
            StatementError: It failed; another run may have been faster (002002).
        """
        work, is_whole = self._work, len(partitions) == len(self._part.partitions)
        sql = first_sql(
            work.table,
            work.target,
            work.candidate,
            marker=work.marker(),
            pieces=self._pieces(partitions),
            whole=is_whole,
        )
        self._send_for_readers(sql, fresh)
        self.is_created = True
        if not is_whole and (comments := column_comments_sql(work.table, work.target)):
            work.send(comments, once=True, runner=fresh)

    def _send_for_readers(self, sql: str, fresh: StatementRunner) -> None:
        """Send a statement whose effect readers see at once. Until there is an answer, what they see is unknown."""
        self._work.is_unknown = True
        try:
            self._work.send(sql, once=True, runner=fresh)
        except RunStoppedError:
            self._work.is_unknown = False
            raise
        self._work.is_unknown = False

    def _require_no_policies(self, fresh: StatementRunner) -> None:
        """Look once more, since the build may have taken hours: rows that a policy hides would not be deleted."""
        work = self._work
        if self._is_own or not work.options.check_policies:
            return
        rows = work.send(policies_sql([work.target]), once=True, runner=fresh).rows
        found = sorted({policy_words(*policy) for _, *policy in rows})
        if refused := policies_refusal(work.table, work.target, found):
            raise PublishRefusedError(refused)

    def _match_columns(self, fresh: StatementRunner) -> None:
        """Require the columns of the published table, or add new ones to it, before the transaction: DDL would commit it."""
        work = self._work
        added, others = column_changes(work.inspection.target_columns, work.inspection.candidate_columns)
        if not (added or others):
            return
        if others or work.table.schema_change != "add":
            new = [f"new columns {', '.join(column.name for column in added)}"] if added else []
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires the columns of {work.target}, since its other rows stay",
                    "; ".join([*new, *others]),
                    "Alter the published table to match, or build a table of another name. schema_change: add takes new columns.",
                    reason=Reason.PARTITION_COLUMNS,
                )
            )
        for column in added:
            work.send(add_column_sql(work.target, column), once=True, runner=fresh)

    def _limit_waits(self, fresh: StatementRunner) -> None:
        self._work.send(limit_waits_sql(self._work.patience.wait_seconds), once=True, runner=fresh)

    def _in_a_transaction(self, partitions: Sequence[Partition], fresh: StatementRunner) -> Exchanged:
        """Exchange the rows; nothing of it stays unless COMMIT is reached."""
        work, own = self._work, self._work.marker()
        self._begin(fresh)
        try:
            markers = self._locked(partitions, fresh)
            # Nobody else publishes now, and no transaction of before is under way.
            work.is_unknown = False
            superseded = self._superseded(partitions, markers)
            due = [partition for partition in partitions if partition.key not in superseded]
            new = [partition for partition in due if not _is_noted(partition, own, markers)]
            # What the first statement has published needs its note alone.
            self._exchange([] if self._is_own else new, fresh)
            self._note(new, markers, fresh)
        except BaseException:
            self._roll_back(fresh)
            raise
        self._send_for_readers("COMMIT", fresh)
        return Exchanged(frozenset(partition.key for partition in due), superseded)

    def _begin(self, fresh: StatementRunner) -> None:
        self._work.send(begin_sql(self._work.run.run_id), once=True, runner=fresh)

    def _roll_back(self, fresh: StatementRunner) -> None:
        """Give the locks back at once. Where that fails, the end of the session does it."""
        with contextlib.suppress(StatementError, RunStoppedError):
            self._work.send("ROLLBACK", once=True, runner=fresh)

    def _locked(self, partitions: Sequence[Partition], fresh: StatementRunner) -> Markers:
        """Take the lock of the table, and return what is published of the partitions."""
        work = self._work
        if not self._takes_lock(fresh):
            self._roll_back(fresh)
            work.send(create_table_sql(work.target), once=True, runner=fresh)
            work.send(create_lock_sql(work.target), once=True, runner=fresh)
            self._begin(fresh)
            self._require_lock(fresh)
        pieces = self._pieces(partitions)
        markers = markers_of(work.send(markers_sql(work.target, pieces), once=True, runner=fresh).rows)
        first = work.standing.marker if work.standing is not None else None
        if first is None or first.state != "run" or markers.first == first:
            return markers
        # Another table of this name stands here now: what is known of the old one is not true of it.
        work.send(forget_all_sql(work.target), once=True, runner=fresh)
        work.send(remember_first_sql(work.target, first), once=True, runner=fresh)
        return Markers(first, ())

    def _takes_lock(self, fresh: StatementRunner) -> bool:
        try:
            answer = self._work.send(lock_sql(self._work.target), once=True, runner=fresh)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            return False
        return bool(answer.rows and int(answer.rows[0][0]))

    def _require_lock(self, fresh: StatementRunner) -> None:
        if not self._takes_lock(fresh):
            raise PublishRefusedError(
                Refusal(
                    f"{self._work.table.name} requires its lock in {partitions_table(self._work.target)}",
                    "no row that could be changed",
                    "Look who else changes that table, and which policies it has. Then materialize again.",
                    reason=Reason.TARGET_CHANGES,
                )
            )

    def _exchange(self, partitions: Sequence[Partition], fresh: StatementRunner) -> None:
        if not partitions:
            return
        work, pieces = self._work, self._pieces(partitions)
        work.send(delete_sql(work.table, work.target, pieces), once=True, runner=fresh)
        insert = insert_sql(work.table, work.target, work.candidate, columns=work.columns, pieces=pieces)
        work.send(insert, once=True, runner=fresh)
        self._require_its_rows(partitions, fresh)
        for audit in self._keys:
            sql = keys_elsewhere_sql(work.table, work.target, audit.key, pieces)
            if found := int(work.send(sql, once=True, runner=fresh).rows[0][0]):
                raise KeyElsewhereError(audit, found)

    def _note(self, partitions: Sequence[Partition], markers: Markers, fresh: StatementRunner) -> None:
        """Note partitions as published, in the place of what is noted of their time."""
        work = self._work
        if any(_markers_in(partition, markers) for partition in partitions):
            work.send(forget_sql(work.target, self._pieces(partitions)), once=True, runner=fresh)
        for some in chunks(partitions):
            work.send(record_sql(work.target, some, self._rows, work.marker()), once=True, runner=fresh)

    def _require_its_rows(self, partitions: Sequence[Partition], fresh: StatementRunner) -> None:
        """Require the candidate's rows and no other, as long as all of it can be rolled back."""
        work = self._work
        expected = sum(self._rows[partition.key] for partition in partitions)
        sql = count_sql(work.table, work.target, self._pieces(partitions))
        found = int(work.send(sql, once=True, runner=fresh).rows[0][0])
        if found != expected:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires the {expected:,} rows of {work.candidate} in its partitions after the exchange",
                    f"{found:,}",
                    "Find in Snowflake's history who else writes into it, then materialize again.",
                    consequence="The exchange was rolled back.",
                    reason=Reason.TARGET_CHANGES,
                )
            )

    def _superseded(self, partitions: Sequence[Partition], markers: Markers) -> dict[str, str]:
        """Return the runs with newer snapshots by the keys of their partitions."""
        own, newer = self._work.marker(), dict[str, str]()
        for partition in partitions:
            found = [*_markers_in(partition, markers), *_first_marker_in(partition, self._work.standing)]
            newest = max(found, key=lambda marker: marker.order, default=own)
            if newest.order > own.order:
                newer[partition.key] = newest.run_id
        return newer

    def _pieces(self, partitions: Sequence[Partition]) -> tuple[Piece, ...]:
        return self._part.pieces({partition.key for partition in partitions})

    def _look(self, partitions: Sequence[Partition], error: StatementError) -> Exchanged | None:
        """Look in a new session what readers see where an error leaves it open; return it if all is done.

        Without an answer, what is not done may only be late: it stays unknown until the lock is taken again.
        """
        work, own = self._work, self._work.marker()
        if not work.is_unknown:
            return None
        try:
            with work.runner.fresh() as fresh:
                self._inspect(fresh)
                markers = self._read(partitions, fresh)
        except StatementError:
            return None
        superseded = self._superseded(partitions, markers)
        due = [partition for partition in partitions if partition.key not in superseded]
        is_done = all(_is_noted(partition, own, markers) for partition in due) and bool(due)
        work.is_unknown = not is_done and not self.is_created and not error.answered
        if not is_done:
            return None
        if error.answered:
            work.warn_of_effect(error)
        return Exchanged(frozenset(partition.key for partition in due), superseded)

    def _read(self, partitions: Sequence[Partition], fresh: StatementRunner) -> Markers:
        sql = markers_sql(self._work.target, self._pieces(partitions))
        try:
            return markers_of(self._work.send(sql, once=True, runner=fresh).rows)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            return Markers(None, ())

    def _pause_before_another_try(self, error: StatementError) -> float | None:
        """Return for how many seconds to wait before all is begun anew; None where that would not help."""
        patience = self._work.patience
        if error.errno == LOCK_NOT_GIVEN:
            is_left = time.monotonic() - self._began < patience.wait_seconds
            return patience.poll_seconds if is_left else None
        if error.transient or self._work.is_unknown:
            return self._pauses.pop(0) if self._pauses else None
        # A table has come or gone, or an answer said that the first statement had failed.
        self._changes += 1
        is_in_motion = error.errno in (OBJECT_EXISTS, OBJECT_MISSING) or self.is_created
        return patience.poll_seconds if is_in_motion and self._changes < CHANGES else None

    def _warn_without_notes(self, error: StatementError) -> None:
        work = self._work
        work.is_unknown = False
        work.warnings.append(
            f"{work.table.name}: readers see the new table, but its partitions could not be noted in "
            f"{partitions_table(work.target)}, got: {error}. Its comment keeps the order of runs all the same."
        )


def _markers_in(partition: Partition, markers: Markers) -> list[Marker]:
    """Return the runs of the rows in a partition, by the notes."""
    return [p.marker for p in markers.partitions if p.start < partition.end and p.end > partition.start]


def _first_marker_in(partition: Partition, standing: TableVersion | None) -> list[Marker]:
    """Return the run that has created the table, if the partition was among its rows: its notes may be still to come."""
    if standing is None or standing.marker is None or standing.marker.state != "run":
        return []
    pieces = pieces_in(standing.comment)
    is_among = pieces is None or any(start < partition.end and end > partition.start for start, end in pieces)
    return [standing.marker] if is_among else []


def _is_noted(partition: Partition, own: Marker, markers: Markers) -> bool:
    """Return whether the partition is noted as published by a run itself."""
    return any(p.key == partition.key and p.marker == own for p in markers.partitions)
