"""What people do with published rows, for the log of publishes: `run-elt publish` and `run-elt rollback`.

A command is no run. It writes its rows when what it did is done. Nothing that goes wrong with them takes it back.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from run_elt_dagster.model.candidate import ByHand, Marker, rolled_back_marker
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.kept import ByHandOutcome, Published
from run_elt_dagster.publish.kept_parts import PartitionsByHand, PublishedPartitions
from run_elt_dagster.publish.log import (
    BY_HAND,
    ROLLBACK,
    LoggedRun,
    PublishLog,
    Row,
    check_rows,
    found_row,
    launched_by,
    publish_rows,
    published_by,
    rolled_back_row,
    waived,
)
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlan
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession

_UNKNOWN = "unknown"


class LogByHand:
    """Adds what a command has done to the log of publishes. Where there is no log, it sends nothing.

    Args:
        session: Of the command.
        options: Where the log is.
        person: The name of the user; empty where there is none.
        warn: Called with what could not be logged. That fails no command.
        whole_id: Returns the id of a run of a table by its start; the start where nobody knows more.
    """

    def __init__(
        self,
        session: ConnectorSession,
        options: PublishOptions,
        *,
        person: str,
        warn: Callable[[str], None],
        whole_id: Callable[[AnalyticsTable, str], str] = lambda _, start: start,
    ) -> None:
        self._session, self._options, self._warn = session, options, warn
        self._whole_id = whole_id
        # As a comment has it.
        self._person = ByHand.of(person, at="", waived=()).person

    def published(
        self, done: Sequence[ByHandOutcome | PartitionsByHand], run_id: str, *, keys: Sequence[str] = ()
    ) -> None:
        """Add kept candidates that were published, with their checks.

        Args:
            done: What became of each.
            run_id: The run that had built them.
            keys: The partitions that were to be published; empty for whole tables.
        """
        rows, checks, now = list[Row](), list[Row](), datetime.now(UTC)
        for each in done:
            if each.by_hand is None:
                continue
            run = published_by(each.by_hand, run_id)
            theirs = each.theirs if isinstance(each, PartitionsByHand) else frozenset()
            own = [key for key in keys if key not in theirs]
            asked = [row for row in publish_rows(run, each.outcome, at=now) if not keys or row["PARTITION_KEY"] in own]
            rows += [{**row, **waived(_by_hand_of(each, row))} for row in asked if row["STATE"] == "published"]
            found = check_rows(run, each.outcome, at=now)
            checks += [row for row in found if not keys or row.get("PARTITION_KEY") in own]
        self._write(BY_HAND, rows, checks)

    def published_before(self, found: Sequence[Published]) -> None:
        """Add candidates that an earlier command has published. What that one has logged itself is not added again."""
        rows: list[Row] = []
        for each in found:
            if each.by_hand is not None:
                known = {"ROW_COUNT": each.version.rows, **waived(each.by_hand)}
                run, at = published_by(each.by_hand, each.run_id), datetime.fromisoformat(each.by_hand.at)
                rows.append(found_row(run, each.table, each.target, at=at, published=known))
        self._write(BY_HAND, rows)

    def partitions_published_before(self, found: PublishedPartitions) -> None:
        """Add partitions that an earlier command has published, where what is left of their candidate says who it was."""
        rows: list[Row] = []
        for note in found.notes if found.by_hand is not None else ():
            if found.by_hand is not None and note.published_at >= datetime.fromisoformat(found.by_hand.at):
                run = published_by(found.by_hand, found.run_id)
                known = {"ROW_COUNT": note.rows, **waived(found.by_hand)}
                at = note.published_at
                rows.append(found_row(run, found.table, found.target, at=at, key=note.key, published=known))
        self._write(BY_HAND, rows)

    def rolled_back(self, plans: Sequence[RollbackPlan]) -> None:
        """Add tables that have their previous versions again. The run is that of the rows that readers do not see any more.

        What an earlier command has logged is not added again: each entry is known by the rows that were taken back.

        Args:
            plans: Of one table, or of all tables of a group. The one or the other may be done by an earlier command that was killed.
        """
        taken_back = [plan.taken_back for plan in plans]
        # Rows that were written over others name their run by the start of its id.
        whole = {short_id(each.run_id): each.run_id for each in taken_back if each and not each.is_rolled_back}
        rows: list[Row] = []
        for plan in plans:
            is_done = plan.method == "done"
            marker = plan.taken_back
            if marker is not None and marker.is_rolled_back and not is_done:
                # It goes further: the rows of an earlier rollback make way.
                marker = rolled_back_marker(marker)
            rows.append(
                rolled_back_row(
                    self._rolled_back_by(plan.table, marker, whole),
                    plan.table,
                    plan.target,
                    marker,
                    rows=plan.previous.rows,
                    method=None if is_done else plan.method,
                )
            )
        self._write(ROLLBACK, rows)

    def parts_rolled_back(self, plan: PartRollbackPlan) -> None:
        """Add the parts that have their rows of before again, also by an earlier command that was killed."""
        rows: list[Row] = []
        for key, note in plan.notes.items():
            version = plan.versions.get(key)
            after = version.note if version is not None else note
            if not after.marker.is_rolled_back:
                continue
            rows.append(
                rolled_back_row(
                    self._rolled_back_by(plan.table, after.marker),
                    plan.table,
                    plan.target,
                    after.marker,
                    rows=after.rows,
                    key=key if plan.parts.is_partition else None,
                    method=plan.table.method if version is not None else None,
                )
            )
        self._write(ROLLBACK, rows)

    def _rolled_back_by(
        self, table: AnalyticsTable, taken_back: Marker | None, whole: Mapping[str, str] | None = None
    ) -> LoggedRun:
        run_id = taken_back.run_of_rows if taken_back is not None else ""
        run_id = (whole or {}).get(run_id) or self._whole_id(table, run_id)
        return LoggedRun(run_id or _UNKNOWN, ROLLBACK, launched_by(self._person))

    def _write(self, command: str, rows: Sequence[Row], checks: Sequence[Row] = ()) -> None:
        schema, creates = self._options.log_schema, self._options.creates_schemas
        if not schema or not rows:
            return
        context, facts = RunContext(command, command), LoggedRun(command)
        log = PublishLog(self._session, context, facts, schema=schema, creates=creates)
        log.add(rows, checks)
        for problem in log.write():
            self._warn(problem)


def _by_hand_of(done: ByHandOutcome | PartitionsByHand, row: Row) -> ByHand | None:
    """Return who has published what a row is about."""
    return done.by_hand_of(row["PARTITION_KEY"]) if isinstance(done, PartitionsByHand) else done.by_hand
