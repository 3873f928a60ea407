"""One table on its way: build, audit, publish, and what becomes of it when a step fails or another run is in the way."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeGuard

from run_elt_dagster.audit.catalogue import Inspection
from run_elt_dagster.audit.plan import AuditOutcome, schema_changes
from run_elt_dagster.audit.runner import AuditRunner
from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO
from run_elt_dagster.model.candidate import Marker, State, candidate_of, comment_of, run_suffix, target_of
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import Production, TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import grant_changes_sql, grants_of, show_grants_sql
from run_elt_dagster.publish.guards import (
    PublishRefusedError,
    TargetInventory,
    missing_schema,
    refusal,
    require_same_columns,
)
from run_elt_dagster.publish.outcome import Failure, Stage, TableOutcome
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.statements import (
    build_sql,
    column_comments_sql,
    comment_sql,
    drop_sql,
    exchange_sql,
    file_position,
    same_rows_sql,
)
from run_elt_dagster.snowflake.runner import RunOptions, RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError

# "Object already exists": another run published the table for the first time after this run had looked.
OBJECT_EXISTS = 2002
# "Object does not exist": where it is said of the candidate, a run with a newer snapshot has taken it away.
OBJECT_MISSING = 2003
# "SQL compilation error": what an account without COPY TAGS answers to the clause.
SYNTAX_ERROR = 1003
# How often production is looked at before an exchange without an answer counts as not done.
VERIFICATIONS = 3
# How often a target may come or go while it is being published.
EXCHANGES = 5


class _TargetChangedError(Exception):
    """The target has come or gone since it was looked at, so another statement publishes."""


class SupersededError(Exception):
    """A run with a newer snapshot has published the table, so this one must not.

    Attributes:
        marker: The run of the rows that readers see.
    """

    def __init__(self, marker: Marker) -> None:
        super().__init__(f"superseded by run {marker.run_id}")
        self.marker = marker


class TableRun:
    """One table on its way through the stages, in one thread."""

    def __init__(
        self,
        runner: StatementRunner,
        table: AnalyticsTable,
        inventory: TargetInventory,
        clock: Callable[[], str],
        *,
        database: str,
        options: RunOptions,
    ) -> None:
        self._runner = runner
        self._table = table
        self._inventory = inventory
        self._clock = clock
        self._options = options
        self._target = target_of(table, database=database)
        self._candidate = candidate_of(table, database=database, run_id=options.run_id)
        self._existing = inventory.at(self._target)
        self._auditor = self._auditor_of(runner)
        # What readers see, by the last look at the catalogue; where no look was possible, it is unknown.
        self._standing: TableVersion | None = self._existing
        self._is_unknown = False
        self._snapshot_at = ""
        self._built = False
        self._inspection = Inspection()
        self._audits: tuple[AuditOutcome, ...] = ()
        self._seconds: dict[str, float] = {}
        self._query_ids: dict[str, str] = {}
        self._warnings: list[str] = []
        self._stage: Stage = "build"

    def run(self, audited: Callable[[], None]) -> TableOutcome:
        """Take the table as far as it gets.

        Its candidate is left: `clean_up` drops it where readers see its rows or newer ones.

        Args:
            audited: Called when the warehouse has done its work for the table. It is not published yet.
        """
        failure, superseded_by = None, None
        try:
            self._refuse_what_would_be_lost()
            self._build()
            self._audit()
            failure = self._failed_audit()
            if failure is None:
                if self._table.publish != "overwrite":
                    audited()
                self._publish()
        except StatementError as error:
            if self._stage == "build" and error.answered:
                with contextlib.suppress(StatementError, RunStoppedError):
                    self._inspect(self._auditor)
            failure = self._failed_statement(error)
        except PublishRefusedError as error:
            failure = Failure(self._stage, str(error), self._production(), problem=str(error))
        except SupersededError as error:
            superseded_by = error.marker.run_id
        except Exception as error:  # noqa: BLE001 - it crosses to the main thread; lost here, the run would wait for ever
            problem = f"{type(error).__name__} in stage {self._stage}: {error}"
            failure = Failure(self._stage, problem, self._production(), cause=error, problem=problem)
        if failure is not None and self._built:
            self._mark_as_failed()
        return TableOutcome(
            table=self._table,
            target=self._target,
            candidate=self._candidate,
            row_count=_row_count(self._audits),
            audits=self._audits,
            seconds=self._seconds,
            query_ids=self._query_ids,
            warnings=tuple(self._warnings),
            failure=failure,
            superseded_by=superseded_by,
            schema_changes=schema_changes(self._inspection),
        )

    def _auditor_of(self, runner: StatementRunner) -> AuditRunner:
        return AuditRunner(
            lambda sql: self._send(sql, runner=runner), self._table, target=self._target, candidate=self._candidate
        )

    def _send(self, sql: str, *, once: bool = False, runner: StatementRunner | None = None) -> Answer:
        tag = {"asset": "/".join(self._table.key), "stage": self._stage}
        chosen = runner or self._runner
        started = time.perf_counter()
        try:
            answer = chosen.send_once(sql, tag=tag) if once else chosen.send(sql, tag=tag)
        finally:
            elapsed = time.perf_counter() - started
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + elapsed
        self._query_ids[self._stage] = answer.query_id
        return answer

    def _marker(self, state: State = "run") -> Marker:
        return Marker(state, self._options.run_id, self._snapshot_at)

    def _refuse_what_would_be_lost(self) -> None:
        """Look before the build, because the build costs money: what hangs on the target forbids every publish by this method."""
        refused = refusal(self._table, self._target, self._existing, role=self._inventory.role)
        if refused is not None:
            self._stage = "publish"
            raise PublishRefusedError(refused.message)

    def _build(self) -> None:
        self._stage = "build"
        # A moment before the statement begins: a run that notes a later one has read later.
        self._snapshot_at = self._clock()
        statement = build_sql(self._table, self._candidate, marker=self._marker())
        try:
            self._send(statement)
        except StatementError as error:
            raise self._in_the_file(error, statement) from None
        self._built = True
        if comments := column_comments_sql(self._table, self._candidate):
            try:
                self._send(comments)
            except StatementError as error:
                # A run with a newer snapshot may have taken the candidate away. The audit finds out.
                if error.errno != OBJECT_MISSING:
                    raise

    def _in_the_file(self, error: StatementError, statement: str) -> StatementError:
        if error.line is None or error.position is None:
            return error
        where = file_position(self._table, statement, line=error.line, position=error.position)
        return error.with_changes(where=where or error.where)

    def _audit(self) -> None:
        self._stage = "audit"
        try:
            self._audits, self._inspection = self._auditor.evaluate()
        except StatementError as error:
            self._audits = self._auditor.unanswered(error)
            raise
        self._standing = self._inspection.target
        if any(outcome.error is not None for outcome in self._audits):
            # Between two questions a newer run may have taken the candidate away.
            with contextlib.suppress(StatementError):
                self._inspect(self._auditor)
        if not any(listed.name == self._candidate.name for listed in self._inspection.candidates):
            # A newer run may have taken it away: there is no verdict on rows that nobody could ask about, and failed checks would
            # make Dagster fail the run. Otherwise its audits have failed, and say so.
            audits, self._audits = self._audits, ()
            self._wait_for_newer_builds()
            self._audits = audits
        if self._table.schema_change == "report":
            changes = schema_changes(self._inspection)
            self._warnings += [f"{self._table.name}: {change}" for change in changes]
        warned = [outcome for outcome in self._audits if not outcome.passed and not outcome.blocks]
        self._warnings += [f"{self._table.name}: {outcome}" for outcome in warned]

    def _failed_audit(self) -> Failure | None:
        failed = [outcome for outcome in self._audits if outcome.blocks]
        if not failed:
            return None
        problem, production = "; ".join(map(str, failed)), self._production()
        query_id = next((outcome.query_id for outcome in failed if outcome.query_id), self._query_ids.get("audit"))
        message = (
            f"{self._table.name} was not published: {problem} in {self._candidate} "
            f"(query {query_id}). {production.words} Fix the SQL or the source, then materialize again; the "
            "candidate is kept for inspection."
        )
        return Failure("audit", message, production, query_id=query_id, problem=problem)

    def _publish(self) -> None:
        self._stage = "publish"
        self._look_again_if_the_target_came_or_went()
        self._wait_for_newer_builds()
        self._take_older_candidates_away()
        for _ in range(EXCHANGES):
            try:
                self._put_into_production()
            except _TargetChangedError:
                # Another run has published the table for the first time, or it was dropped.
                continue
            return
        raise StatementError("the exchange was refused again and again", errno=None, query_id=None, answered=True)

    def _put_into_production(self) -> None:
        if self._existing is not None and self._table.publish == "overwrite":
            self._overwrite()
            return
        if self._existing is not None and self._table.publish == "swap":
            try:
                self._carry_grants_over()
            except StatementError as error:
                if error.errno != OBJECT_MISSING:
                    raise
                self._yield_to_the_newer(error)
                raise _TargetChangedError from error
        self._exchange()

    def _look_again_if_the_target_came_or_went(self) -> None:
        """Since this run began, another run may have published the table for the first time, or it was dropped."""
        if (self._inspection.target is None) == (self._existing is None):
            return
        self._inventory = read_targets(
            self._runner, [self._table], database=self._target.database, options=self._options
        )
        self._existing = self._standing = self._inventory.at(self._target)
        self._refuse_what_would_be_lost()

    def _wait_for_newer_builds(self) -> None:
        """Let a newer snapshot go first, so an older one never overwrites it.

        A run that publishes has first dropped the older candidates that it saw. Publishing them then fails. A candidate
        that came too late to be seen sees the newer one here, and waits until that is published or has failed.

        Raises:
            SupersededError: Readers see a newer snapshot.
            PublishRefusedError: The newer build neither publishes nor fails; its run may have died.
        """
        own, waited = self._marker().order, 0.0
        while True:
            target = self._inspection.target
            live = target.marker if target else None
            if live is not None and live.order > own and live.state in ("run", "rollback"):
                raise SupersededError(live)
            newer = [
                m for m in [live, *map(_marker_of, self._inspection.candidates)] if _is_pending(m) and m.order > own
            ]
            if not newer:
                return
            if waited >= self._options.wait_seconds:
                raise PublishRefusedError(
                    f"{self._table.name} requires that the newest build is published last, got run {newer[0].run_id} that "
                    f"has built from a newer snapshot and has not published it in {waited:g} s. {self._production().words} "
                    "Materialize again.",
                )
            self._runner.wait(self._options.poll_seconds)
            waited += self._options.poll_seconds
            self._inspect(self._auditor)

    def _take_older_candidates_away(self) -> None:
        """Drop what older runs of the table have built and not yet published; their publishing then finds nothing."""
        own = self._marker().order
        for listed in self._inspection.candidates:
            marker = _marker_of(listed)
            if _is_pending(marker) and marker.order < own:
                self._send(drop_sql(Relation(self._target.database, self._target.schema, listed.name)))

    def _carry_grants_over(self) -> None:
        """Give the candidate the grants of the table it replaces, since a swap exchanges them too.

        Raises:
            PublishRefusedError: Afterwards it has others all the same.
        """
        wanted = grants_of(self._send(show_grants_sql(self._target)).rows, self._target)
        present = grants_of(self._send(show_grants_sql(self._candidate)).rows, self._candidate)
        changes = grant_changes_sql(self._candidate, present=present, wanted=wanted)
        for statement in changes:
            self._send(statement)
        if changes:
            present = grants_of(self._send(show_grants_sql(self._candidate)).rows, self._candidate)
        if present != wanted:
            missing = ", ".join(sorted(f"{grant.privilege} to {'.'.join(grant.grantee)}" for grant in wanted ^ present))
            raise PublishRefusedError(
                f"{self._table.name} requires the grants of {self._target} on its candidate, got a difference: {missing}. "
                f"{self._production().words} Use publish: clone, or publish: overwrite.",
            )

    def _overwrite(self) -> None:
        """Write over the rows of the target. Its comment names their run before and after."""
        columns = [column.name for column in self._inspection.candidate_columns]
        published = [column.name for column in self._inspection.target_columns]
        require_same_columns(self._table, self._target, new=columns, published=published)
        is_owner = self._existing is not None and self._existing.owner == self._inventory.role
        if is_owner:
            self._announce()
        else:
            self._warnings.append(
                f"{self._table.name}: {self._target} belongs to another role. Its comment does not name the run of "
                "its rows, and two runs at once are not kept in order."
            )
        try:
            # Safe to repeat: the rows are the candidate's each time.
            self._send(self._exchange_sql(columns))
        except StatementError as error:
            if not self._is_written(columns, error):
                if error.errno == OBJECT_MISSING:
                    self._yield_to_the_newer(error)
                    raise _TargetChangedError from error
                raise
        if is_owner:
            written = "has the new rows"
            self._comment_target(comment_sql(self._target, comment_of(self._table, self._marker())), otherwise=written)
            if comments := column_comments_sql(self._table, self._target):
                self._comment_target(comments, otherwise=written)

    def _announce(self) -> None:
        """Say in the target's comment that its rows are being written; where that is reported as failed, take it back."""
        try:
            self._send(comment_sql(self._target, comment_of(self._table, self._marker("publishing"))))
        except StatementError:
            with contextlib.suppress(StatementError, RunStoppedError), self._runner.fresh() as fresh:
                self._inspect(self._auditor_of(fresh))
            self._take_announcement_back()
            raise

    def _comment_target(self, sql: str, *, otherwise: str) -> None:
        """Comment the target; tried again in new sessions: `publishing` for ever would hide the run of the rows.

        It does not change the rows, so a failure is a warning.
        """
        try:
            self._send(sql)
        except StatementError as error:
            if not self._is_sent_afresh(sql):
                self._warnings.append(
                    f"{self._table.name}: {self._target} {otherwise}, but could not be commented, got: {error}. Its comment is "
                    "that of a run that is publishing until the next publish."
                )

    def _is_sent_afresh(self, sql: str) -> bool:
        for pause in self._options.retry_seconds:
            try:
                self._runner.wait(pause)
                with self._runner.fresh() as fresh:
                    self._send(sql, once=True, runner=fresh)
            except (StatementError, RunStoppedError):
                continue
            return True
        return False

    def _is_written(self, columns: Sequence[str], error: StatementError) -> bool:
        """Ask whether readers see the candidate's rows, whatever Snowflake said of the statement that writes them.

        Where they do not, the target gets its comment back; if that is unknown, it keeps saying that it is being written.
        """
        same: bool | None = None
        with contextlib.suppress(StatementError), self._runner.fresh() as fresh:
            answer = self._send(same_rows_sql(self._target.sql, self._candidate.sql, columns), runner=fresh)
            self._inspect(self._auditor_of(fresh))
            same = not int(answer.rows[0][0])
        self._is_unknown = same is None
        if same:
            self._warnings.append(self._reported_as_failed(error))
        if same is False:
            self._take_announcement_back()
        return bool(same)

    def _take_announcement_back(self) -> None:
        """Give the target its comment back after rows were not written; not if another run has commented it since."""
        standing = self._standing
        if standing is not None and standing.marker == self._marker("publishing") and self._existing is not None:
            self._comment_target(comment_sql(self._target, self._existing.comment), otherwise="has the rows of before")
            self._standing = self._existing

    def _exchange(self) -> None:
        """Send the one statement that publishes; whatever is said of it but success, look what readers see before all else.

        Snowflake may report a statement as failed, cancelled or timed out that has taken effect, and an answer may be lost.

        Raises:
            StatementError: It failed, and readers see what they saw before; or that is unknown.
            SupersededError: A run with a newer snapshot took the candidate away.
            _TargetChangedError: There is a target now, or none any more.
        """
        statement = self._exchange_sql()
        for pause in (*self._options.retry_seconds, None):
            try:
                self._send(statement, once=True)
            except StatementError as error:
                if self._is_published(looks=1 if error.answered else VERIFICATIONS):
                    if error.answered:
                        self._warnings.append(self._reported_as_failed(error))
                    return
                if error.errno in (OBJECT_EXISTS, OBJECT_MISSING):
                    self._yield_to_the_newer(error)
                    raise _TargetChangedError from error
                # A second swap would bring the old table back, were the first one only late.
                if pause is None or not error.transient or self._is_unknown or self._table.publish == "swap":
                    raise
                self._runner.wait(pause)
                self._runner.reconnect(error)
            else:
                return

    def _exchange_sql(self, columns: Sequence[str] = ()) -> str:
        return exchange_sql(
            self._table,
            target=self._target,
            candidate=self._candidate,
            exists=self._existing is not None,
            columns=columns,
            copy_tags=self._options.copy_tags,
        )

    def _yield_to_the_newer(self, error: StatementError) -> None:
        """Find out what happened when the candidate is gone, or a target has come: this run's own doing, or a newer run's.

        Raises:
            SupersededError: A run with a newer snapshot has published, or is about to.
            StatementError: The error, where there is no newer run to blame.
        """
        self._inspect(self._auditor)
        self._wait_for_newer_builds()
        has_candidate = any(listed.name == self._candidate.name for listed in self._inspection.candidates)
        if not has_candidate or (self._inspection.target is None) == (self._existing is None):
            raise error
        self._look_again_if_the_target_came_or_went()

    def _is_published(self, *, looks: int) -> bool:
        """Look whether readers see this run's table: its comment names its run."""
        for look in range(looks):
            if look:
                self._runner.wait(min(self._options.poll_seconds, 1))
            self._is_unknown = True
            with contextlib.suppress(StatementError), self._runner.fresh() as fresh:
                self._inspect(self._auditor_of(fresh))
                self._is_unknown = False
            if not self._is_unknown and self._standing is not None and self._standing.marker == self._marker():
                return True
        return False

    def _inspect(self, auditor: AuditRunner) -> None:
        self._inspection = auditor.inspect()
        self._standing = self._inspection.target

    def _reported_as_failed(self, error: StatementError) -> str:
        return (
            f"{self._table.name}: Snowflake reported its publishing as failed ({error}; query {error.query_id}), yet it took "
            "effect: the catalogue says that readers see the new table."
        )

    def _mark_as_failed(self) -> None:
        """Say in the candidate's comment that no run need wait for it."""
        self._try(comment_sql(self._candidate, comment_of(self._table, self._marker("failed"))))

    def _try(self, sql: str) -> None:
        try:
            self._runner.send_once(sql, tag={"asset": "/".join(self._table.key), "stage": self._stage})
        except (StatementError, RunStoppedError):
            # What failed before is told; this only would have made it easier for other runs.
            return

    def _failed_statement(self, error: StatementError) -> Failure:
        remedy = "Read the query in Snowflake's history, fix the SQL or the grants, then materialize again."
        if error.errno == EMBEDDED_DISK_ERRNO:
            remedy = "Nothing of the statement was kept. Make room on that disk or mend it, then materialize again."
        if error.errno == SYNTAX_ERROR and self._stage == "publish" and self._options.copy_tags:
            remedy = "If the account refuses COPY TAGS, set RUN_ELT_COPY_TAGS=false."
        said, problem = str(error), error.problem
        if self._stage == "build" and (missing := missing_schema(self._target, error, role=self._role)):
            problem, remedy = missing
            said = problem
        production = self._production()
        number = f"Snowflake error {error.errno}, " if error.errno else ""
        message = (
            f"{self._table.name} failed in stage {self._stage}: {said} ({number}query {error.query_id}). {production.words} "
            f"{remedy}"
        )
        return Failure(
            self._stage,
            message,
            production,
            query_id=error.query_id,
            errno=error.errno,
            cause=error,
            problem=problem,
            where=error.where if self._stage == "build" else "",
        )

    @property
    def _role(self) -> str:
        """The session's role. Its name is not known yet if no target schema exists."""
        if self._inventory.role:
            return self._inventory.role
        try:
            return str(self._runner.send_once("SELECT CURRENT_ROLE()", tag={"stage": "inspect"}).rows[0][0])
        except (StatementError, RunStoppedError, IndexError):
            return "of the session"

    def _production(self) -> Production:
        if self._is_unknown:
            return Production("unknown", run_id=self._options.run_id, target=str(self._target))
        return Production.of(self._standing)


def clean_up(runner: StatementRunner, outcome: TableOutcome) -> str | None:
    """Drop a candidate that is of no use any more: it was published, or a newer one was.

    Returns:
        Why it is still there, None if it is gone.
    """
    try:
        runner.send(drop_sql(outcome.candidate), tag={"asset": "/".join(outcome.table.key), "stage": "clean-up"})
    except Exception as error:  # noqa: BLE001 - raised before the outcome is handed over, the run would wait for ever
        return f"{outcome.candidate} is of no use any more and could not be dropped: {error}"
    return None


def _row_count(audits: Sequence[AuditOutcome]) -> int | None:
    return next((outcome.row_count for outcome in audits if outcome.row_count is not None), None)


def _marker_of(listed: TableVersion) -> Marker | None:
    """Return the marker of a candidate, None where its rows are another run's: after a swap, they are the old table's."""
    marker = listed.marker
    return marker if marker is not None and listed.name.endswith(run_suffix(marker.run_id)) else None


def _is_pending(marker: Marker | None) -> TypeGuard[Marker]:
    """Return whether a run may still publish what it has built, or is just writing it over the target."""
    return marker is not None and marker.state in ("run", "publishing")
