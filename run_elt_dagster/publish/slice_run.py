"""Some partitions of one table on their way: build them as one candidate, audit each, exchange those that have passed."""

from collections.abc import Callable, Sequence
from datetime import datetime

from run_elt_dagster.audit.partitioned import EarlierRows, PartitionAuditRunner, PartitionVerdicts
from run_elt_dagster.audit.plan import AuditOutcome, KeyAudit, schema_changes, with_keys_elsewhere
from run_elt_dagster.model.candidate import instant
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import Production, partition_words
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.failures import failed_rule, if_wanted
from run_elt_dagster.publish.guards import Refusal
from run_elt_dagster.publish.in_place_run import InPlaceRun
from run_elt_dagster.publish.outcome import Failure, PartitionOutcome, TableOutcome
from run_elt_dagster.publish.partitions import earlier_of, earlier_sql, partitions_table
from run_elt_dagster.publish.row_exchange import KeyElsewhereError
from run_elt_dagster.publish.slice_exchange import Exchanged, SliceExchange
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.session import StatementError

# A failure tells so many failed checks. The outcomes of the partitions have all.
CHECKS_TOLD = 5


def without_partitions(work: TableWork) -> TableOutcome:
    """Return the outcome of a table with partitions that was asked for none of them: nothing is built."""
    rule, got = f"{work.table.name} requires partitions to build", "none"
    remedy = "Materialize some of its partitions."
    return TableOutcome(
        table=work.table,
        target=work.target,
        candidate=work.candidate,
        failure=failed_rule(work, Refusal(rule, got, remedy, reason=Reason.NO_PARTITION)),
    )


class SliceRun(InPlaceRun):
    """Takes a slice of one table as far as it gets, in one thread.

    Args:
        work: What is known of the table. Nothing was done for it yet.
        part: Its partitions that are built: those of the work.
        clock: Returns Snowflake's time as markers have it.
    """

    def __init__(self, work: TableWork, part: Slice, clock: Callable[[], str]) -> None:
        super().__init__(work, clock)
        self._part = part
        # Those that are published if they pass: of a kept candidate, readers see the others already.
        self._wanted: Sequence[str] = part.keys
        self._verdicts: PartitionVerdicts | None = None
        # The partitions that were to be exchanged.
        self._passed: tuple[str, ...] = ()
        self._exchange: SliceExchange | None = None
        self._exchanged = Exchanged(frozenset(), {})

    def _audit(self) -> None:
        work = self.work
        work.stage = "audit"
        auditor = partition_auditor(work, self._part)
        try:
            self._verdicts = auditor.evaluate()
        except StatementError as error:
            self._verdicts = PartitionVerdicts(auditor.unanswered(error), work.inspection)
            raise
        work.inspection = self._verdicts.inspection
        work.take_look()
        asked_at = work.inspection.asked_at
        # A kept candidate has the moment of its first audit.
        work.audited_at = work.audited_at or (instant(asked_at) if asked_at is not None else "")
        warned = [each for outcomes in self._verdicts.outcomes.values() for each in outcomes]
        work.warnings += [f"{work.table.name}: {each}" for each in warned if not each.passed and not each.blocks]

    def _publish(self) -> None:
        work, verdicts = self.work, self._verdicts
        assert verdicts is not None  # noqa: S101 - the audit comes before
        outcomes = verdicts.outcomes
        passed = [key for key in self._wanted if not any(each.blocks for each in outcomes[key])]
        if passed:
            work.stage = "publish"
            self._exchange_those(passed, self._exchange_of(passed, verdicts))
        self._failure = self._failed_audits()

    def begin_exchange(self) -> SliceExchange:
        """Return what exchanges all partitions."""
        assert self._verdicts is not None  # noqa: S101 - the audit comes before
        return self._exchange_of(self._wanted, self._verdicts)

    def end_exchange(self, done: Exchanged) -> None:
        """Note which of them readers see, and which of a newer run."""
        self._exchanged = done

    def _exchange_of(self, passed: Sequence[str], verdicts: PartitionVerdicts) -> SliceExchange:
        keys = _keys_to_hold([verdicts.outcomes[key] for key in passed])
        self._passed = tuple(passed)
        self._exchange = SliceExchange(self.work, self._part, passed, rows=verdicts.rows, keys=keys)
        return self._exchange

    def _failed_checks(self) -> Failure | None:
        is_blocked = any(each.blocks for key in self._part.keys for each in self._audits_of(key))
        return self._failed_audits() if is_blocked else None

    def _note_broken_key(self, error: KeyElsewhereError) -> None:
        self._broken_key = error

    def _exchange_those(self, passed: Sequence[str], exchange: SliceExchange) -> None:
        try:
            self._exchanged = exchange.publish()
        except KeyElsewhereError as error:
            self._note_broken_key(error)
        except Exception:
            if exchange.done is not None:
                self._exchanged = exchange.done
            elif exchange.is_created:
                # Readers see the rows of the first statement, whatever has failed since.
                self._exchanged = Exchanged(frozenset(passed), {})
            raise

    def _failed_audits(self) -> Failure | None:
        """Return the failure of a slice of which not all partitions have passed."""
        work, failed = self.work, self._failed_keys
        if not failed:
            return None
        blocked = [each for key in failed for each in self._audits_of(key) if each.blocks]
        more = len(blocked) - CHECKS_TOLD
        told = [*map(str, blocked[:CHECKS_TOLD]), *([f"{more:,} more failed checks"] if more > 0 else [])]
        problem = "; ".join(told)
        query_id = next((each.query_id for each in blocked if each.query_id), work.query_ids.get("audit"))
        command = if_wanted(work, blocked)
        message = (
            f"{work.table.name}: {partition_words(failed)} {'was' if len(failed) == 1 else 'were'} not published ({len(failed):,} of "
            f"{len(self._wanted):,}): {problem} in {work.candidate} (query {query_id}). "
            f"{self._seen} Fix the SQL or the source, then materialize {'it' if len(failed) == 1 else 'them'} again; the candidate is "
            f"kept for inspection.{f' If the change is wanted: {command}' if command else ''}"
        )
        return Failure("audit", message, self._production, query_id=query_id, problem=problem, if_wanted=command)

    @property
    def _failed_keys(self) -> list[str]:
        done = {*self._exchanged.published, *self._exchanged.superseded}
        return [key for key in self._wanted if key not in done]

    @property
    def _production(self) -> Production:
        """What readers see of the partitions that this run did not publish."""
        work, keys = self.work, tuple(self._failed_keys)
        if work.is_unknown:
            target, keys = str(partitions_table(work.target)), tuple(key for key in keys if key in self._passed)
            return Production("unknown", run_id=work.run.run_id, target=target, partitions=keys)
        is_created = self._exchange is not None and self._exchange.is_created
        if is_created:
            # The first statement has published what has passed, whatever has failed since.
            keys = tuple(key for key in keys if key not in self._passed)
        if not keys:
            return Production("new", work.standing)
        if work.standing is None and not is_created:
            return Production("none")
        return Production("unchanged", work.standing, partitions=keys)

    @property
    def _seen(self) -> str:
        """What readers see, in sentences."""
        published = [key for key in self._part.keys if key in self._exchanged.published]
        new = [f"Readers see the new rows of {partition_words(published)}."] if published and self._failed_keys else []
        return " ".join([*new, self._production.words])

    def _audits_of(self, key: str) -> tuple[AuditOutcome, ...]:
        outcomes = self._verdicts.outcomes.get(key, ()) if self._verdicts is not None else ()
        broken = self._broken_key
        if broken is None or any(each.blocks for each in outcomes):
            return outcomes
        return tuple(
            with_keys_elsewhere(each, broken.rows) if each.audit == broken.audit else each for each in outcomes
        )

    def _partition_outcome(self, key: str) -> PartitionOutcome:
        rows = self._verdicts.rows.get(key) if self._verdicts is not None else None
        audits = self._audits_of(key)
        if key in self._exchanged.published:
            return PartitionOutcome("published", rows, audits)
        if key in self._exchanged.superseded:
            return PartitionOutcome("superseded", rows, audits, superseded_by=self._exchanged.superseded[key])
        return PartitionOutcome("unknown" if self.work.is_unknown and key in self._passed else "failed", rows, audits)

    def _outcome(self) -> TableOutcome:
        work, verdicts = self.work, self._verdicts
        partitions = {key: self._partition_outcome(key) for key in self._wanted} if verdicts is not None else {}
        superseding = [each.superseded_by for each in partitions.values() if each.superseded_by]
        is_superseded = bool(partitions) and len(superseding) == len(partitions)
        inspection = verdicts.inspection if verdicts is not None else work.inspection
        return TableOutcome(
            table=work.table,
            target=work.target,
            candidate=work.candidate,
            row_count=sum(verdicts.rows.values()) if verdicts is not None and verdicts.rows else None,
            bytes=inspection.candidate_bytes,
            columns=inspection.candidate_columns,
            audits=_worst([each.audits for each in partitions.values()]),
            seconds=work.seconds,
            query_ids=work.query_ids,
            warnings=tuple(work.warnings),
            replaced=work.replaced,
            failure=self._failure,
            superseded_by=superseding[-1] if is_superseded else None,
            schema_changes=schema_changes(inspection),
            partitions=partitions,
        )


def partition_auditor(work: TableWork, part: Slice) -> PartitionAuditRunner:
    """Return what asks the partitions of a candidate."""
    now, earlier = datetime.fromisoformat(work.snapshot_at), _earlier(work, part)
    return PartitionAuditRunner(
        work.send,
        work.table,
        target=work.target,
        candidate=work.candidate,
        part=part,
        now=now,
        earlier=earlier,
        past=work.run.past,
    )


def _earlier(work: TableWork, part: Slice) -> EarlierRows | None:
    """Return what numbers of rows are compared with, where a check compares them and something was published before the run."""
    if work.table.checks.row_count_change is None or work.inventory.at(partitions_table(work.target)) is None:
        return None
    return EarlierRows(earlier_sql(work.target, part), lambda listed: earlier_of(listed, part))


def _keys_to_hold(verdicts: Sequence[Sequence[AuditOutcome]]) -> list[KeyAudit]:
    """Return the checks of keys that the whole table has to hold: those that nobody has waived for one of its partitions."""
    asked = [column[0].audit for column in zip(*verdicts, strict=True) if not any(each.is_waived for each in column)]
    return [audit for audit in asked if audit.severity == "error" and isinstance(audit, KeyAudit)]


def _worst(verdicts: Sequence[Sequence[AuditOutcome]]) -> tuple[AuditOutcome, ...]:
    """Return for each check the verdict on the first partition that failed it, or on the first one."""
    return tuple(
        next((each for each in column if not each.passed), column[0]) for column in zip(*verdicts, strict=True)
    )
