"""What all of `run-elt publish` have in common: the look for what a run has kept, the person, the session, and what is dropped at the end."""

import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.model.candidate import (
    ByHand,
    Marker,
    audited_at,
    by_hand_in,
    is_candidate_of,
    is_from_its_run,
    target_of,
)
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Relation, short_id
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.past import Past
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import OBJECT_MISSING, PublishRefusedError, Refusal, TargetInventory, server_instant
from run_elt_dagster.publish.log import BY_HAND
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.partitions import Markers, markers_of
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.statements import comment_sql, same_rows_sql
from run_elt_dagster.publish.table_run import clean_up
from run_elt_dagster.publish.versions import at_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import Patience, RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Session, StatementError

JOB = BY_HAND
NOTHING_CHANGED = "Nothing was changed."
RAISE_THE_LIMIT = "Set another limit in the table's file for one run, and materialize again."
_LOOK = "run-elt show {} lists what runs have left. Without its candidate, materialize the table again."
# It compares with what readers see. Whoever publishes by hand has seen what it found.
_WAIVED_ANYWAY = "changes"
_NOT_REJECTED = {
    "failed": "one whose audit has not ended",
    "preview": "a preview",
    "withdrawn": "rows that a rollback took away",
}


def not_by_hand(table: AnalyticsTable, rule: str, got: str, remedy: str) -> PublishRefusedError:
    """Return why nothing of a table is published by hand; nothing was changed."""
    return PublishRefusedError(
        Refusal(f"publishing {table.name} by hand requires {rule}", got, remedy, seen=NOTHING_CHANGED)
    )


def kept_candidates(table: AnalyticsTable, inventory: TargetInventory, run: str) -> list[tuple[TableVersion, Marker]]:
    """Return the candidates of a table that a run has left, each with its marker.

    Args:
        table: The table.
        inventory: What its schema holds.
        run: The run's id, or how it begins.
    """
    return [
        (found, found.marker)
        for (schema, name), found in inventory.tables.items()
        if schema == table.stored_schema
        and is_candidate_of(table, name)
        and found.marker is not None
        and is_from_its_run(name, found.marker)
        and found.marker.run_id.startswith(run)
    ]


def the_one_kept(
    table: AnalyticsTable, kept: Sequence[tuple[TableVersion, Marker]], run: str
) -> tuple[TableVersion, Marker]:
    """Return the candidate of a run, of those that are kept.

    Raises:
        PublishRefusedError: There is none, or more runs begin so.
    """
    if len(kept) == 1:
        return kept[0]
    got = f"{counted(len(kept), 'candidates')} of runs that begin so" if kept else "none"
    raise not_by_hand(table, f"the candidate that run {run} has kept", got, _LOOK.format(table.name))


def require_alone(table: AnalyticsTable, run: str) -> None:
    """Require a table that changes by itself.

    Raises:
        PublishRefusedError: It is one of a group.
    """
    if table.publish_group is not None:
        got = f"one of publish_group {table.publish_group}, whose other tables would keep the rows of another run"
        remedy = f"Publish all of them: run-elt publish --group {table.publish_group} --run {run}"
        # All rows of such a group are exchanged in one transaction, and no command does that.
        remedy = RAISE_THE_LIMIT if table.is_in_parts else remedy
        raise not_by_hand(table, "a table that is published by itself", got, remedy)


def require_no_policies(table: AnalyticsTable) -> None:
    """Require a table without policies in its file.

    A command that was killed may have left them on the candidate, and its checks would count what they show. And a look at who may
    read a candidate would put an empty table in its place.

    Raises:
        PublishRefusedError: It has some.
    """
    if table.policies is not None:
        raise not_by_hand(table, "a table without policies in its file", "some", RAISE_THE_LIMIT)


def when_audited(table: AnalyticsTable, marker: Marker, version: TableVersion) -> str:
    """Return when the audit of a rejected candidate had ended; of one, too, that a command was publishing when it was ended.

    Raises:
        PublishRefusedError: It was not rejected, or its audit has not ended.
    """
    when = audited_at(version.comment)
    if when and (marker.state == "failed" or by_hand_in(version.comment) is not None):
        return when
    raise not_by_hand(
        table,
        f"a candidate that run {short_id(marker.run_id)} has audited and rejected",
        _NOT_REJECTED.get(marker.state, "one that the run has not ended with"),
        "Wait for the run if it goes on. Otherwise materialize the table again.",
    )


class Person:
    """What a publish by hand does besides the steps of a run.

    Args:
        work: The table, with its kept candidate.
        clock: Returns Snowflake's time as markers have it.
        name: Who publishes it.
        waived: The names of the checks that may fail, besides `changes`.
        taken_up: Who was publishing it when a command was ended.

    Attributes:
        work: The table, with its kept candidate.
        clock: Returns Snowflake's time as markers have it.
    """

    def __init__(
        self,
        work: TableWork,
        clock: Callable[[], str],
        *,
        name: str,
        waived: Collection[str],
        taken_up: ByHand | None,
    ) -> None:
        self.work, self.clock, self._name, self._waived = work, clock, name, waived
        # The rows that it compares with may be these already, where a command was ended in its exchange.
        self._earlier = taken_up.waived if taken_up is not None else ()

    @property
    def by_hand(self) -> ByHand | None:
        """Who publishes it, once its checks have passed or were waived."""
        return self.work.by_hand

    def waiving(self, outcomes: Sequence[AuditOutcome]) -> tuple[AuditOutcome, ...]:
        """Return verdicts of which those are waived that have failed and may be."""
        return tuple(replace(each, is_waived=self._may_waive(each)) for each in outcomes)

    def _may_waive(self, outcome: AuditOutcome) -> bool:
        """Return whether a check has failed and may. One without an answer says nothing that a person could have wanted."""
        is_named = outcome.audit.name in self._waived or outcome.audit.kind == _WAIVED_ANYWAY
        return outcome.blocks and outcome.error is None and is_named

    def require_its_rows(self) -> None:
        """Require the rows that the run has audited: Time Travel has them.

        https://docs.snowflake.com/en/sql-reference/constructs/at-before

        Raises:
            PublishRefusedError: There are others now, or Snowflake does not know.
        """
        work = self.work
        then = at_sql(work.candidate, work.audited_at)
        try:
            others = int(work.send(same_rows_sql(work.candidate.sql, then, work.columns)).rows[0][0])
            got = f"{counted(others, 'rows that have', 'row that has')} come or gone since {work.audited_at}"
        except StatementError as error:
            if not error.answered:
                raise
            others, got = 1, f"no answer which rows it had at {work.audited_at} ({error})"
        if others:
            raise PublishRefusedError(
                Refusal(
                    f"publishing {work.table.name} by hand requires the rows that run {short_id(work.run.run_id)} has audited in {work.candidate}",
                    got,
                    "Materialize the table again. Snowflake keeps the rows of then for DATA_RETENTION_TIME_IN_DAYS.",
                    seen=work.production.words,
                )
            )

    def signs(self, outcomes: Sequence[AuditOutcome]) -> None:
        """Write into the candidate's comment who publishes it: it goes to readers with the rows, and other runs wait for it."""
        waived = dict.fromkeys(each.audit.name for each in outcomes if each.is_waived)
        names = tuple(dict.fromkeys((*waived, *self._earlier)))
        self.work.by_hand = ByHand.of(self._name, at=self.clock(), waived=names)
        self.work.send(comment_sql(self.work.candidate, self.work.comment()))


class ByHandDesk:
    """Where a person publishes kept candidates of some tables: one session, and what is known besides.

    Args:
        session: An open session.
        tables: The tables.
        options: How tables are published.
        is_live: Whether a run goes on.
        past: Returns what was published before; None where nobody knows.
        patience: How long is waited for what may pass.

    Attributes:
        database: Stored name of the session's database.
    """

    def __init__(
        self,
        session: Session,
        *tables: AnalyticsTable,
        options: PublishOptions,
        is_live: Callable[[str], bool] = lambda _: False,
        past: Past | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._session, self._tables, self._options, self._is_live = session, tables, options, is_live
        self._past, self._patience = past, patience
        self.database = session.database

    def _target(self, table: AnalyticsTable) -> Relation:
        return target_of(table, database=self.database)

    def _runner(self, run_id: str, session: Session | None = None) -> StatementRunner:
        """Return what sends statements, under the id of the run that has built the candidates."""
        run = RunContext(run_id, JOB, is_live=self._is_live, past=self._past)
        return StatementRunner(session or self._session, run, threading.Event(), patience=self._patience)

    def _look(self, runner: StatementRunner) -> TargetInventory:
        """Return what the schemas of the tables hold."""
        check_policies = self._options.check_policies
        return read_targets(runner, self._tables, database=self.database, check_policies=check_policies)

    def _look_with_clock(self, runner: StatementRunner) -> tuple[TargetInventory, Callable[[], str]]:
        """Return what the schemas of the tables hold, and what returns Snowflake's time as markers have it."""
        inventory, looked_at = self._look(runner), time.monotonic()
        return inventory, lambda: server_instant(inventory, elapsed_seconds=time.monotonic() - looked_at)

    def _person(
        self,
        runner: StatementRunner,
        table: AnalyticsTable,
        looked: tuple[TargetInventory, Callable[[], str]],
        *,
        name: str,
        waived: Collection[str],
        taken_up: ByHand | None,
        part: Slice | None = None,
    ) -> Person:
        """Return who publishes a kept candidate of a table. The arguments are those of `Person` and of `_look_with_clock`."""
        inventory, clock = looked
        work = TableWork(runner, table, inventory, database=self.database, options=self._options, part=part)
        return Person(work, clock, name=name, waived=waived, taken_up=taken_up)

    def _noted(self, runner: StatementRunner, table: AnalyticsTable, sql: str) -> Markers:
        """Return what a query for the notes of a table says; nothing where nobody has noted anything in its schema."""
        try:
            return markers_of(runner.send(sql, tag={"asset": "/".join(table.key), "stage": "inspect"}).rows)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            return Markers(None, ())

    @contextmanager
    def _on_its_warehouse(self, table: AnalyticsTable) -> Generator[Session]:
        if table.warehouse is None:
            yield self._session
            return
        with self._session.on_warehouse(table.warehouse) as own:
            yield own

    def _drop(self, table: AnalyticsTable, candidate: Relation | None, run_id: str) -> str | None:
        """Drop the candidate of rows that readers see already; return why it is still there."""
        if candidate is None:
            return None
        return clean_up(self._runner(run_id), TableOutcome(table, self._target(table), candidate))
