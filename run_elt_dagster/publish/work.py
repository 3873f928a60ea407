"""What is known of one table on its way, and how its statements are sent."""

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

from run_elt_dagster.audit.catalogue import Inspection
from run_elt_dagster.audit.runner import AuditRunner
from run_elt_dagster.model.candidate import (
    ByHand,
    Marker,
    State,
    after_note,
    audited_note,
    candidate_of,
    comment_of,
    target_of,
)
from run_elt_dagster.model.increment import Start
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import Production, TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import InventoryTable, TargetInventory
from run_elt_dagster.publish.outcome import Stage
from run_elt_dagster.publish.statements import Protection, after_clone_sql, after_rows_sql, stored_as_sql
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError

# What two questions to the catalogue may differ by for one object.
_SAME_SECONDS = 0.001


def is_same(one: TableVersion | None, other: TableVersion) -> bool:
    """Return whether two looks have found the same object, where both say when it was created."""
    if one is None:
        return False
    if one.created_at is None or other.created_at is None:
        return True
    return abs((one.created_at - other.created_at).total_seconds()) < _SAME_SECONDS


class TableWork:
    """The table, what is known of it by the last look, and what was measured. One thread works on it.

    Attributes:
        table: The table.
        target: What readers see.
        candidate: What this run builds.
        runner: Sends the statements.
        run: The run that builds it.
        patience: How long it waits for what may pass.
        options: How tables are published.
        part: The partitions that are built; None for a table without them.
        start: Where the increment begins that is built; None for the whole table.
        base: The run of the newest rows that readers saw when the increment began; None where it is not known.
        inventory: What the target schemas held when it was looked at last.
        existing: What stood under the target's name then; it decides between the first publish and another.
        inspection: What the catalogue said when it was asked last, with the other candidates.
        standing: What readers see by the last look at the catalogue.
        is_unknown: Whether that is unknown, since no look was possible.
        snapshot_at: When the build began, by Snowflake's clock; empty before.
        audited_at: When its audit had ended, by Snowflake's clock; empty before.
        by_hand: Who publishes what its run had rejected; None in a run.
        protection: The policies and tags that the creating statement sets; None where they come after the audit.
        is_read_in_group: Whether another table of its group reads it. Where it is rejected, that one is not built.
        is_in_one_transaction: Whether its group is exchanged in one transaction. No command publishes that by hand.
        stage: Where the table is, for the tag on its queries.
        seconds: Duration of each stage.
        query_ids: The last query of each stage.
        warnings: What did not stop the publishing but should be looked at.
        before: What stood under the target's name when the run began.
        replaced: What somebody else has put into the place of the target since the run has looked at it first, in words; empty if nobody has.
    """

    def __init__(
        self,
        runner: StatementRunner,
        table: AnalyticsTable,
        inventory: TargetInventory,
        *,
        database: str,
        options: PublishOptions,
        part: Slice | None = None,
    ) -> None:
        self.part = part
        self.start: Start | None = None
        self.base: Marker | None = None
        self.runner, self.run, self.patience = runner, runner.run, runner.patience
        self.table, self.options = table, options
        self.target = target_of(table, database=database)
        self.candidate = candidate_of(table, database=database, run_id=self.run.run_id)
        self.inspection = Inspection()
        self.is_unknown = False
        self.snapshot_at = ""
        self.audited_at = ""
        self.by_hand: ByHand | None = None
        self.protection: Protection | None = None
        self.is_read_in_group = self.is_in_one_transaction = False
        self.stage: Stage = "build"
        self.seconds: dict[str, float] = {}
        self.query_ids: dict[str, str] = {}
        self.warnings: list[str] = []
        self.replaced = ""
        self.take(inventory)
        self._known = self.standing
        self.before: TableVersion | None = self.existing

    def take(self, inventory: TargetInventory) -> None:
        """Go by another look at the target schemas from now on."""
        self.inventory = inventory
        self.existing: InventoryTable | None = inventory.at(self.target)
        self.standing: TableVersion | None = self.existing

    @property
    def columns(self) -> list[str]:
        """The candidate's columns in order, by the last inspection."""
        return [column.name for column in self.inspection.candidate_columns]

    @property
    def has_candidate(self) -> bool:
        """Whether the candidate was still there."""
        return any(listed.name == self.candidate.name for listed in self.inspection.candidates)

    @property
    def has_target_come_or_gone(self) -> bool:
        """Whether another run has published the table for the first time since the inventory, or it was dropped."""
        return (self.inspection.target is None) != (self.existing is None)

    @property
    def is_owner(self) -> bool:
        """Whether the session's role owns the target."""
        return self.existing is not None and self.existing.owner == self.inventory.role

    @property
    def production(self) -> Production:
        """What readers see."""
        if self.is_unknown:
            return Production("unknown", run_id=self.run.run_id, target=str(self.target))
        if self.snapshot_at and self.standing is not None and self.standing.marker == self.marker():
            return Production("new", self.standing)
        return Production.of(self.standing)

    def marker(self, state: State = "run") -> Marker:
        """Return what comments say of this run's rows."""
        return Marker(state, self.run.run_id, self.snapshot_at)

    def comment(self, state: State = "run") -> str:
        """Return the comment of this run's rows; that of rejected ones says when their audit had ended."""
        notes = [audited_note(self.audited_at)] if state == "failed" or self.by_hand else []
        notes += [after_note(self.base)] if self.start is not None and self.base is not None else []
        notes += [str(self.by_hand)] if self.by_hand is not None and state != "failed" else []
        pieces = [(self.part.start, self.part.end)] if self.part is not None else []
        return comment_of(self.table, self.marker(state), pieces, start=self.start, notes=notes)

    def auditor(self, runner: StatementRunner | None = None) -> AuditRunner:
        """Return what asks the candidate and the catalogue."""
        return AuditRunner(
            lambda sql: self.send(sql, runner=runner),
            self.table,
            target=self.target,
            candidate=self.candidate,
            past=self.run.past,
        )

    def send(self, sql: str, *, once: bool = False, runner: StatementRunner | None = None) -> Answer:
        """Send a statement; one that is safe to repeat is sent again where that may help.

        Raises:
            StatementError: It failed.
            RunStoppedError: The run was interrupted before.
        """
        tag = {"asset": "/".join(self.table.key), "stage": self.stage}
        chosen = runner or self.runner
        started = time.perf_counter()
        try:
            answer = chosen.send_once(sql, tag=tag) if once else chosen.send(sql, tag=tag)
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + elapsed
        self.query_ids[self.stage] = answer.query_id
        return answer

    def inspect(self, runner: StatementRunner | None = None, *more: str) -> tuple[Any, ...]:
        """Ask the catalogue what readers see, and which candidates there are.

        Args:
            runner: Sends the statement.
            more: Other expressions that the same statement asks for.

        Returns:
            Their values.
        """
        self.inspection, asked = self.auditor(runner).inspect_with(*more)
        self.take_look()
        return asked

    def take_look(self) -> None:
        """Go by the last look at the catalogue; where it shows that somebody else has replaced the target, warn."""
        known, found = self._known, self.inspection.target
        self.standing = self._known = found
        if (known is None and found is None) or (known is not None and known.marker == self.marker()):
            # What this run has published it may have taken back.
            return
        if found is not None and (is_same(known, found) or self._is_of_a_run(known, found)):
            return
        words = found.words if found is not None else "nothing"
        if found is not None and found.created_at is not None:
            words += f", created {found.created_at:%Y-%m-%d %H:%M:%S} UTC"
        was = f"the table with {known.words}" if known is not None else "no table"
        self.replaced = words
        self.warnings.append(
            f"{self.table.name}: somebody else has changed {self.target} while this run went on. There was {was}, and then {words}. The run "
            "publishes all the same. Find in Snowflake's history who has done it. Time Travel and UNDROP TABLE have the rows, for as long "
            "as Snowflake keeps them."
        )

    def _is_of_a_run(self, known: TableVersion | None, found: TableVersion) -> bool:
        """Return whether a run, this one too, has published what stands there now."""
        marker, before = found.marker, known.marker if known is not None else None
        if marker is None or marker.state not in ("run", "publishing"):
            return False
        return before is None or marker.order > before.order

    def looks_afresh(self) -> bool:
        """Ask the catalogue in a session of its own, and return whether it answered."""
        self.is_unknown = True
        with contextlib.suppress(StatementError), self.runner.fresh() as fresh:
            self.inspect(fresh)
            self.is_unknown = False
        return not self.is_unknown

    def warn_of_effect(self, error: StatementError) -> None:
        """Warn that a statement took effect, though Snowflake said that it failed."""
        self.warnings.append(
            f"{self.table.name}: Snowflake reported its publishing as failed ({error}; query {error.query_id}), yet it took "
            "effect: the catalogue says that readers see the new table."
        )

    def settle(self, statements: Iterable[str]) -> None:
        """Send what follows an exchange. What fails is a warning: readers see the new rows."""
        for sql in statements if self.options.applies_policies else ():
            try:
                self.send(sql)
            except StatementError as error:
                self.warnings.append(
                    f"{self.table.name}: {self.target} was published, but its clustering or retention is not that of its file: {error}"
                )

    def settle_in_place(self, *, is_clone: bool) -> None:
        """Give a table that stays its declared clustering key and days of Time Travel, if it has others.

        Args:
            is_clone: Whether this run has created it as a clone: it has them, with Automatic Clustering suspended.
        """
        if is_clone:
            self.settle(after_clone_sql(self.table, self.target))
        elif self.options.applies_policies and (asked := stored_as_sql(self.table, self.target)):
            try:
                rows = self.send(asked).rows
            except StatementError as error:
                self.warnings.append(
                    f"{self.table.name}: the clustering and retention of {self.target} could not be looked up: {error}"
                )
                return
            self.settle(after_rows_sql(self.table, self.target, *(rows[0] if rows else (None, None))))

    def comment_target(self, sql: str, *, otherwise: str) -> None:
        """Comment the target; tried again in new sessions: `publishing` for ever would hide the run of the rows.

        It does not change the rows, so a failure is a warning.
        """
        try:
            self.send(sql)
        except StatementError as error:
            if not self._is_sent_afresh(sql, self.patience.retry_seconds):
                self.warnings.append(
                    f"{self.table.name}: {self.target} {otherwise}, but could not be commented, got: {error}. Its comment is "
                    "that of a run that is publishing until the next publish."
                )

    def _is_sent_afresh(self, sql: str, pauses: Sequence[float]) -> bool:
        for pause in pauses:
            try:
                self.runner.wait(pause)
                with self.runner.fresh() as fresh:
                    self.send(sql, once=True, runner=fresh)
            except (StatementError, RunStoppedError):
                continue
            return True
        return False
