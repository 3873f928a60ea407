"""Exchanging the partitions of a slice inside of their table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from run_elt_dagster.audit.partitioned import other_rows, pieces_sql, rows_of
from run_elt_dagster.audit.plan import KeyAudit
from run_elt_dagster.model.candidate import Marker, Piece, comment_of, pieces_in
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.partitions import Partition, Slice
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.partitions import (
    Markers,
    chunks,
    forget_sql,
    markers_sql,
    record_sql,
    seen_and_noted_sql,
)
from run_elt_dagster.publish.row_exchange import RowExchange, Superseding, insert_rows_sql
from run_elt_dagster.publish.statements import table_kind
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import StatementRunner


@dataclass(frozen=True)
class Exchanged:
    """What became of the partitions that were to be exchanged.

    Attributes:
        published: The keys of those whose new rows readers see.
        superseded: The run with a newer snapshot, by the key of the others.
        found: The keys of those of `published` that somebody else has exchanged with the same candidate.
    """

    published: frozenset[str]
    superseded: Mapping[str, str]
    found: frozenset[str] = frozenset()


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


def delete_sql(table: AnalyticsTable, target: Relation, pieces: Sequence[Piece]) -> str:
    """Return the statement that deletes the rows of some pieces of time: the column bare, so Snowflake prunes."""
    return f"DELETE FROM {target.sql} WHERE {pieces_sql(table, pieces)}"


def insert_sql(
    table: AnalyticsTable, target: Relation, candidate: Relation, *, columns: Sequence[str], pieces: Sequence[Piece]
) -> str:
    """Return the statement that inserts the candidate's rows of some pieces of time, by the names of the columns."""
    return f"{insert_rows_sql(target, candidate, columns=columns)} WHERE {pieces_sql(table, pieces)}"


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


def exchanged_sql(
    table: AnalyticsTable, target: Relation, pieces: Sequence[Piece], *, rows: int, keys: Sequence[Sequence[str]] = ()
) -> str:
    """Return the condition that some pieces of time have so many rows, and that their keys are those of no other row.

    Args:
        table: The table.
        target: What readers see.
        pieces: What was exchanged.
        rows: How many rows the candidate has of it.
        keys: The keys that the whole table has to hold, each as its columns.
    """
    counts = [(count_sql(table, target, pieces), rows)]
    counts += [(keys_elsewhere_sql(table, target, key, pieces), 0) for key in keys]
    return " AND ".join(f"({sql}) = {expected}" for sql, expected in counts)


class SliceExchange(RowExchange[Exchanged]):
    """Exchanges partitions of the candidate of one slice, until it is done or cannot be.

    Args:
        work: The table, with its audited candidate.
        part: The slice.
        passed: The keys of the partitions that are exchanged.
        rows: The number of rows of each partition, by key.
        keys: The checks of keys that the whole table has to hold.
    """

    def __init__(
        self,
        work: TableWork,
        part: Slice,
        passed: Collection[str],
        *,
        rows: Mapping[str, int],
        keys: Sequence[KeyAudit] = (),
    ) -> None:
        super().__init__(work)
        self._part, self._rows, self._keys = part, rows, keys
        self._partitions = [partition for partition in part.partitions if partition.key in passed]
        # The keys of those that a transaction of this exchange has noted, whether its COMMIT was answered or not.
        self._noted: set[str] = set()

    def _first_sql(self) -> str:
        work = self._work
        return first_sql(
            work.table,
            work.target,
            work.candidate,
            marker=work.marker(),
            pieces=self._pieces(self._partitions),
            whole=self._first_is_clone,
        )

    @property
    def _first_is_clone(self) -> bool:
        return len(self._partitions) == len(self._part.partitions)

    @property
    def _notes_sql(self) -> str:
        return markers_sql(self._work.target, self._pieces(self._partitions))

    @property
    def _created(self) -> Exchanged:
        return Exchanged(frozenset(partition.key for partition in self._partitions), {})

    def superseding(self, markers: Markers) -> Superseding | None:
        """Return the newest run that has published some of the partitions."""
        newer = self._superseded(markers)
        newest = max(newer.values(), key=lambda marker: marker.order, default=None)
        return None if newest is None else Superseding(newest, of_all=len(newer) == len(self._partitions))

    def exchange_under_lock(self, markers: Markers, fresh: StatementRunner) -> Exchanged:
        """Exchange the partitions of which readers see no newer rows."""
        superseded, own = self._superseded(markers), self._work.marker()
        due = [partition for partition in self._partitions if partition.key not in superseded]
        new = [partition for partition in due if not _is_noted(partition, own, markers)]
        # What the first statement has published needs its note alone.
        query_id = self._exchange([] if self._is_own else new, fresh)
        self._note(new, markers, fresh, query_id=query_id)
        self._noted |= {partition.key for partition in new}
        return self._done(due, superseded)

    def _done(self, due: Sequence[Partition], superseded: Mapping[str, Marker]) -> Exchanged:
        published = frozenset(partition.key for partition in due)
        newer = {key: marker.run_id for key, marker in superseded.items()}
        return Exchanged(published, newer, published - self._noted)

    def found_done(self, markers: Markers, fresh: StatementRunner) -> Exchanged | None:  # noqa: ARG002 - the notes say all
        """Return what was exchanged, if it is noted."""
        superseded, own = self._superseded(markers), self._work.marker()
        due = [partition for partition in self._partitions if partition.key not in superseded]
        is_done = bool(due) and all(_is_noted(partition, own, markers) for partition in due)
        return self._done(due, superseded) if is_done else None

    def _exchange(self, partitions: Sequence[Partition], fresh: StatementRunner) -> str | None:
        """Exchange the rows; return the query id of the statement that took the old ones away."""
        if not partitions:
            return None
        work, pieces = self._work, self._pieces(partitions)
        if self._governance.hides_rows:
            self._require_all_rows(fresh)
        deleted = work.send(delete_sql(work.table, work.target, pieces), once=True, runner=fresh)
        insert = insert_sql(work.table, work.target, work.candidate, columns=work.columns, pieces=pieces)
        work.send(insert, once=True, runner=fresh)
        return deleted.query_id

    def _require_all_rows(self, fresh: StatementRunner) -> None:
        """Require that the role sees as many rows as were published: DELETE leaves those that a row access policy hides.

        Raises:
            PublishRefusedError: It sees fewer.
        """
        work = self._work
        seen, noted = map(int, work.send(seen_and_noted_sql(work.target), once=True, runner=fresh).rows[0])
        if seen < noted:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires a role that sees all rows of {work.target}",
                    f"{seen:,} of the {counted(noted, 'rows that were', 'row that was')} published",
                    f"Let its row access policy exempt role {work.inventory.role}, or look who has deleted rows. Then materialize again.",
                    consequence="Old rows that the role cannot see would stay beside the new ones.",
                    reason=Reason.PARTITION_POLICIES,
                )
            )

    def _note(
        self, partitions: Sequence[Partition], markers: Markers, fresh: StatementRunner, *, query_id: str | None
    ) -> None:
        """Note partitions as published, in the place of what is noted of their time.

        What was exchanged is noted only if the table has the candidate's rows of it then, and no other, and their keys are nobody else's.
        """
        work, keys = self._work, {partition.key for partition in partitions}
        if any(_others_in(partition, keys, markers) for partition in partitions):
            work.send(forget_sql(work.target, self._pieces(partitions)), once=True, runner=fresh)
        for some in chunks(partitions):
            condition = self._condition(some) if query_id is not None else ""
            record = record_sql(work.target, some, self._rows, work.marker(), query_id=query_id, condition=condition)
            noted = work.send(record, once=True, runner=fresh).rows
            if condition and not sum(map(int, noted[0])):
                self._raise_why_not_noted(some, fresh)

    def _condition(self, partitions: Sequence[Partition]) -> str:
        work, keys = self._work, [audit.key for audit in self._keys]
        return exchanged_sql(
            work.table, work.target, self._pieces(partitions), rows=self._expected(partitions), keys=keys
        )

    def _expected(self, partitions: Sequence[Partition]) -> int:
        return sum(self._rows[partition.key] for partition in partitions)

    def _raise_why_not_noted(self, partitions: Sequence[Partition], fresh: StatementRunner) -> NoReturn:
        """Ask for each part of the condition by itself.

        Raises:
            PublishRefusedError: The table has other rows than the candidate.
            KeyElsewhereError: Other rows have their keys.
        """
        work, pieces = self._work, self._pieces(partitions)
        found = int(work.send(count_sql(work.table, work.target, pieces), once=True, runner=fresh).rows[0][0])
        expected, where = self._expected(partitions), "in its partitions"
        self._require_rows(found, expected=expected, where=where)
        for audit in self._keys:
            self._require_key(audit, keys_elsewhere_sql(work.table, work.target, audit.key, pieces), fresh)
        raise self._other_rows("others a moment before", expected=expected, where=where)

    def _superseded(self, markers: Markers) -> dict[str, Marker]:
        """Return the runs with newer snapshots by the keys of their partitions."""
        own, newer = self._work.marker(), dict[str, Marker]()
        for partition in self._partitions:
            found = [*_markers_in(partition, markers), *_first_marker_in(partition, self._work.standing)]
            newest = max(found, key=lambda marker: marker.order, default=own)
            if newest.order > own.order:
                newer[partition.key] = newest
        return newer

    def _pieces(self, partitions: Sequence[Partition]) -> tuple[Piece, ...]:
        return self._part.pieces({partition.key for partition in partitions})


def _others_in(partition: Partition, keys: Collection[str], markers: Markers) -> list[str]:
    """Return the keys of the notes of a partition's time that are none of some: its length was another one."""
    return [
        p.key for p in markers.partitions if p.start < partition.end and p.end > partition.start and p.key not in keys
    ]


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
