"""Merging an increment into its table, or putting a whole build in the place of all of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from run_elt_dagster.audit.increment import is_replaced_sql, keys_that_stay_sql, rows_to_merge
from run_elt_dagster.audit.plan import AuditOutcome, KeyAudit
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.partitions import (
    INCREMENT_KEY,
    Markers,
    forget_all_sql,
    increment_note,
    newest_of,
    record_sql,
)
from run_elt_dagster.publish.row_exchange import RowExchange, Superseding, insert_rows_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import StatementRunner


@dataclass(frozen=True)
class MergedRows:
    """What became of a candidate.

    Attributes:
        total: Rows of the table that readers see now.
        superseded_by: The run with a newer snapshot, if that has published before; readers see its rows then.
        is_found: Whether somebody else has merged the same candidate before.
    """

    total: int
    superseded_by: str | None = None
    is_found: bool = False


def newest_sql(table: AnalyticsTable, target: Relation) -> str:
    """Return the query for the latest time of a published row. Snowflake knows it without a look at the rows.

    Raises:
        ValueError: The table has no increment.
    """
    if table.increment is None:
        raise ValueError(f"{table.name} requires increment in its front matter for its latest row, got none.")
    return f"SELECT MAX({quote_identifier(table.increment.stored_column)}) FROM {target.sql}"


def delete_replaced_sql(target: Relation, candidate: Relation, *, key: Sequence[str]) -> str:
    """Return the statement that deletes the rows whose key is in the candidate.

    The columns of the candidate have other names there, so those of the target need no table's name before them.
    https://docs.snowflake.com/en/sql-reference/sql/delete

    Args:
        target: What readers see.
        candidate: What comes in the place of those rows. No part of its keys is NULL.
        key: The columns of the key, as stored.
    """
    names = [(quote_identifier(name), f'"run_elt key {number}"') for number, name in enumerate(key, start=1)]
    built = ", ".join(f"{name} AS {other}" for name, other in names)
    same = " AND ".join(f"{name} = {other}" for name, other in names)
    return f"DELETE FROM {target.sql} USING (SELECT {built} FROM {candidate.sql}) AS built WHERE {same}"


def delete_all_sql(target: Relation) -> str:
    """Return the statement that deletes all rows. TRUNCATE would commit what is open on some engines."""
    return f"DELETE FROM {target.sql}"


def count_sql(target: Relation, candidate: Relation, *, key: Sequence[str]) -> str:
    """Return the query for the number of rows of a table, and of those with a key of the candidate."""
    replaced = f"SELECT COUNT(*) FROM {target.sql} AS published WHERE {is_replaced_sql(candidate, key)}"
    return f"SELECT (SELECT COUNT(*) FROM {target.sql}), ({replaced})"


def total_sql(target: Relation) -> str:
    """Return the query for the number of rows of a table."""
    return f"SELECT COUNT(*) FROM {target.sql}"


class IncrementExchange(RowExchange[MergedRows]):
    """Merges the candidate by key. A candidate of the whole table comes in the place of all rows.

    Args:
        work: The table, with its audited candidate.
        audits: The verdicts on the candidate.
    """

    def __init__(self, work: TableWork, audits: Sequence[AuditOutcome]) -> None:
        super().__init__(work)
        if work.table.increment is None:
            raise ValueError(f"{work.table.name} requires increment in its front matter for a merge, got none.")
        self._key = work.table.increment.stored_key
        self._rows = rows_to_merge(audits)
        # Whether a transaction of this exchange has noted it, whether its COMMIT was answered or not.
        self._has_noted = False
        # A person who waives the check of a key wants its rows, whatever rows that stay have that key.
        asked = [each.audit for each in audits if each.audit.severity == "error" and not each.is_waived]
        self._keys = [audit for audit in asked if isinstance(audit, KeyAudit)] if work.start is not None else []

    def _first_sql(self) -> str:
        if self._work.start is not None:
            raise self._gone("no table any more")
        return super()._first_sql()

    @property
    def _created(self) -> MergedRows:
        return MergedRows(self._rows)

    def superseding(self, markers: Markers) -> Superseding | None:
        """Return the newer run that has published the table."""
        newest = newest_of(markers, self._work.standing)
        return Superseding(newest) if newest is not None and newest.order > self._work.marker().order else None

    def exchange_under_lock(self, markers: Markers, fresh: StatementRunner) -> MergedRows:
        """Merge the candidate, unless readers see newer rows."""
        work = self._work
        newest = newest_of(markers, work.standing)
        if (newer := self.superseding(markers)) is not None:
            return MergedRows(self._total(fresh), newer.marker.run_id)
        if _is_noted(work.marker(), markers):
            return self._found(fresh)
        self._require_base(newest)
        # What the first statement has published needs its note alone.
        total, query_id = (self._rows, None) if self._is_own else self._merge(fresh)
        self._note(fresh, query_id)
        self._has_noted = True
        return MergedRows(total)

    def found_done(self, markers: Markers, fresh: StatementRunner) -> MergedRows | None:
        """Return what was merged, if it is noted."""
        return self._found(fresh) if _is_noted(self._work.marker(), markers) else None

    def _found(self, fresh: StatementRunner) -> MergedRows:
        return MergedRows(self._total(fresh), is_found=not self._has_noted)

    def _merge(self, fresh: StatementRunner) -> tuple[int, str]:
        """Exchange the rows.

        Returns:
            How many the table has then, and the statement that took away the rows of before.
        """
        work = self._work
        is_whole = work.start is None
        delete = (
            delete_all_sql(work.target) if is_whole else delete_replaced_sql(work.target, work.candidate, key=self._key)
        )
        query_id = work.send(delete, once=True, runner=fresh).query_id
        work.send(insert_rows_sql(work.target, work.candidate, columns=work.columns), once=True, runner=fresh)
        count = count_sql(work.target, work.candidate, key=self._key)
        total, merged = work.send(count, once=True, runner=fresh).rows[0]
        self._require_rows(int(total if is_whole else merged), expected=self._rows, where=f"in {work.target}")
        for audit in self._keys:
            sql = keys_that_stay_sql(audit.key, work.target, work.candidate, key=self._key)
            self._require_key(audit, sql, fresh)
        return int(total), query_id

    def _note(self, fresh: StatementRunner, query_id: str | None) -> None:
        work, note = self._work, [increment_note(self._work.start)]
        work.send(forget_all_sql(work.target), once=True, runner=fresh)
        record = record_sql(work.target, note, {INCREMENT_KEY: self._rows}, work.marker(), query_id=query_id)
        work.send(record, once=True, runner=fresh)

    def _total(self, fresh: StatementRunner) -> int:
        return int(self._work.send(total_sql(self._work.target), once=True, runner=fresh).rows[0][0])

    def _require_base(self, newest: Marker | None) -> None:
        """Require that readers have not gone back to rows before those after which the increment begins.

        Somebody may have dropped the table, and an older run have created it. The rows in between would be missing.
        """
        if self._work.start is not None and not is_base_there(newest, self._work.base):
            raise self._gone("an older one")

    def _gone(self, got: str) -> PublishRefusedError:
        work = self._work
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} requires the table that its increment begins after at {work.target}",
                got,
                "Materialize again: the next run looks anew where to begin.",
                reason=Reason.TARGET_CHANGES,
            )
        )


def is_base_there(newest: Marker | None, base: Marker | None) -> bool:
    """Return whether readers still see the rows after which an increment begins, or newer ones.

    Args:
        newest: The run of the newest rows that they see. Where a rollback has put these back, nobody knows how old they are.
        base: That run when the increment began; None where it was not known.
    """
    if base is None or newest == base:
        return True
    return newest is not None and not newest.is_rolled_back and newest.order > base.order


def _is_noted(own: Marker, markers: Markers) -> bool:
    """Return whether a run itself is noted."""
    return any(each.marker == own for each in markers.partitions)
