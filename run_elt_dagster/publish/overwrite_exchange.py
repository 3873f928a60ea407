"""Writing the candidate over all rows of a table that stays, in the transaction of its group.

It is noted as a part is, under a key of its own: so one note says of all tables of a group whether their transaction was committed.
"""

from dataclasses import dataclass

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.publish.guards import require_same_columns
from run_elt_dagster.publish.methods import exchange_sql, method_of
from run_elt_dagster.publish.partitions import (
    WHOLE_KEY,
    Markers,
    forget_all_sql,
    markers_of,
    record_sql,
    whole_note,
)
from run_elt_dagster.publish.row_exchange import RowExchange, Superseding
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import StatementRunner


@dataclass(frozen=True)
class WrittenRows:
    """What became of a candidate.

    Attributes:
        superseded_by: The run with a newer snapshot, if readers see its rows.
    """

    superseded_by: str | None = None


class OverwriteExchange(RowExchange[WrittenRows]):
    """Writes the candidate over all rows.

    Args:
        work: The table, with its audited candidate.
        rows: How many rows the candidate has.
    """

    def __init__(self, work: TableWork, *, rows: int) -> None:
        super().__init__(work)
        self._rows = rows

    @property
    def _created(self) -> WrittenRows:
        return WrittenRows()

    def superseding(self, markers: Markers) -> Superseding | None:
        """Return the newer run that has published the table, by its note or the comment of the table."""
        standing = self._work.standing.marker if self._work.standing is not None else None
        found = [each.marker for each in markers.partitions]
        # A role that does not own the table cannot comment it, and its note says the run all the same.
        found += [standing] if standing is not None and standing.state == "run" else []
        newest = max(found, key=lambda marker: marker.order, default=None)
        if newest is None or self._is_own or newest.order <= self._work.marker().order:
            return None
        return Superseding(newest)

    def noted(self, fresh: StatementRunner) -> Markers:
        """Return what is noted. The comment of the table names the run of its rows, and not the one that has created it."""
        return markers_of(self._work.send(self._notes_sql, once=True, runner=fresh).rows)

    def exchange_under_lock(self, markers: Markers, fresh: StatementRunner) -> WrittenRows:
        """Write the rows, unless readers see newer ones."""
        work = self._work
        if (newer := self.superseding(markers)) is not None:
            return WrittenRows(newer.marker.run_id)
        if (done := self.found_done(markers, fresh)) is not None:
            # Written twice, the note would name a statement that took away the run's own rows.
            return done
        # What the first statement has published needs its note alone.
        query_id = None if self._is_own else self._write(fresh)
        work.send(forget_all_sql(work.target), once=True, runner=fresh)
        note = record_sql(work.target, [whole_note()], {WHOLE_KEY: self._rows}, work.marker(), query_id=query_id)
        work.send(note, once=True, runner=fresh)
        return WrittenRows()

    def found_done(self, markers: Markers, fresh: StatementRunner) -> WrittenRows | None:  # noqa: ARG002 - the notes say all
        """Return that it was written, if it is noted."""
        own: Marker = self._work.marker()
        return WrittenRows() if any(each.marker == own for each in markers.partitions) else None

    def look_after(self) -> None:
        """Name the run of the rows in the comment of the table, besides what every exchange does then."""
        work = self._work
        method_of(work.table).exchange(exists=not self._is_own).finish(work)
        self._governance.look_after()

    def _write(self, fresh: StatementRunner) -> str:
        """Write the rows; return the query id of the statement that took the old ones away."""
        work = self._work
        sql = exchange_sql(work.table, target=work.target, candidate=work.candidate, exists=True, columns=work.columns)
        return work.send(sql, once=True, runner=fresh).query_id

    def _inspect_with_policies(self, fresh: StatementRunner) -> None:
        self._inspect(fresh)

    def _match_columns(self, fresh: StatementRunner) -> None:  # noqa: ARG002 - nothing is sent
        work = self._work
        published = [column.name for column in work.inspection.target_columns]
        require_same_columns(work.table, work.target, new=work.columns, published=published)

    def _require_no_policies(self, known: tuple[str, ...] | None, fresh: StatementRunner) -> None:
        """Take the table with the policies that hang on it: `overwrite` keeps them, and leaves no old row beside the new ones."""
