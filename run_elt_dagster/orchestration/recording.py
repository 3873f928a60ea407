"""What Dagster records of a run, table by table: materializations, checks, observations, and the lines of its log."""

import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.events import (
    evaluations_of,
    log_event,
    record_checks,
    record_table,
    superseding,
    without_secrets,
)
from run_elt_dagster.orchestration.failing import skipped_lines
from run_elt_dagster.orchestration.groups import held_back_observation
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.partition_events import (
    partition_words,
    published_partitions,
    record_partition_checks,
    record_partitions,
)
from run_elt_dagster.orchestration.progress import ProgressLog
from run_elt_dagster.orchestration.unrecorded import Recording, say_on_stderr
from run_elt_dagster.orchestration.waiting import awaited_tables, ops_behind
from run_elt_dagster.publish.outcome import Failure, TableOutcome

Describer = Callable[[TableOutcome], "Described"]
Event = dg.MaterializeResult[Any] | dg.AssetCheckResult


@dataclass(frozen=True)
class Described:
    """What is recorded of a published table.

    Attributes:
        metadata: What Dagster shows of it.
        tags: The versions of its code and of what it has read.
        is_outdated: Whether rows of other code than the present one stay in it.
    """

    metadata: Mapping[str, Any]
    tags: Mapping[str, str]
    is_outdated: bool = False


@dataclass(frozen=True)
class Record:
    """How a run is recorded.

    Attributes:
        described: Returns metadata and tags of a published table's materialization.
        links: Where the links of the checks lead.
        broken: The selected tables whose file is broken.
        progress: The lines of the log.
    """

    described: Describer
    links: Links
    broken: Collection[Key]
    progress: ProgressLog


def asset_of(table: AnalyticsTable) -> dg.AssetKey:
    """Return the key of a table's asset."""
    return dg.AssetKey(list(table.asset_path))


def teller(log: Callable[[str], object]) -> Callable[[str], None]:
    """Return what writes into Dagster's log, and ends no run where Dagster's storage is away."""

    def tell(text: str) -> None:
        try:
            log(without_secrets(text))
        except Exception as error:  # noqa: BLE001 - Dagster stores what is logged, and its storage may be what is away
            say_on_stderr(f"{without_secrets(text)} Dagster's log did not take this, got {type(error).__name__}.")

    return tell


def recorded(
    context: dg.AssetExecutionContext, outcomes: Iterator[TableOutcome], record: Record
) -> Generator[Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
    """Yield what Dagster records, table by table, and return the tables that failed and those that were skipped."""
    recording = Recording(context.instance, context.run.run_id)
    with recording.said(say_on_stderr):
        return (yield from _each_recorded(context, outcomes, recording, record))


def _each_recorded(
    context: dg.AssetExecutionContext,
    outcomes: Iterator[TableOutcome],
    recording: Recording,
    record: Record,
) -> Generator[Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
    failed: list[TableOutcome] = []
    skipped: list[TableOutcome] = []
    awaited = awaited_tables(context)
    for outcome in outcomes:
        for warning in outcome.warnings:
            context.log.warning(without_secrets(warning))
        if outcome.failure is not None:
            context.log.error(_error_line(outcome.failure))
            failed.append(outcome)
        elif not outcome.in_production:
            skipped.append(outcome)
        is_awaited = asset_of(outcome.table) in awaited
        record_one = _recorded_partitions if outcome.table.partitions is not None else _recorded_whole
        yield from record_one(context, outcome, recording, record, is_awaited=is_awaited)
    record.progress.flush()
    if skipped:
        context.log.warning(skipped_lines(skipped, broken=record.broken))
    if (failed or record.broken) and (held_back := ops_behind(context, awaited)):
        context.log.warning(_held_back_line(held_back))
    return failed, skipped


def _recorded_whole(
    context: dg.AssetExecutionContext,
    outcome: TableOutcome,
    recording: Recording,
    record: Record,
    *,
    is_awaited: bool,
) -> Iterator[Event]:
    """Record a table that is built whole: that it is published, and what its checks say."""
    key = asset_of(outcome.table)
    if outcome.published:
        with recording.of(outcome.table.asset_name):
            record.progress.tell(_published_line(outcome))
            said = record.described(outcome)
            if said.is_outdated:
                context.log.warning(_outdated_line(outcome))
            yield from record_table(
                context, key, said.metadata, tags=said.tags, is_awaited=is_awaited, is_outdated=said.is_outdated
            )
    elif outcome.held_back_by:
        log_event(context, held_back_observation(outcome, outcome.table.asset_path, broken=record.broken))
    elif outcome.superseded_by is not None:
        record.progress.tell(_superseded_line(outcome))
        if is_awaited:
            yield superseding(context.instance, key, outcome.superseded_by)
    # Not as AssetCheckResult: Dagster would look for the latest materialization, which is another table's for a rejected
    # candidate and this run's for a published one, and would store an output of each check.
    evaluations = evaluations_of(context, outcome.table, outcome.audits, audited=outcome.candidate, links=record.links)
    yield from record_checks(context, evaluations, is_awaited=outcome.in_production and is_awaited)


def _recorded_partitions(
    context: dg.AssetExecutionContext,
    outcome: TableOutcome,
    recording: Recording,
    record: Record,
    *,
    is_awaited: bool,
) -> Iterator[Event]:
    """Record the partitions of a table: those that were published, and what the checks say of each."""
    if outcome.held_back_by:
        log_event(context, held_back_observation(outcome, outcome.table.asset_path, broken=record.broken))
    published = published_partitions(outcome)
    if published:
        record.progress.tell(_published_partitions_line(outcome, published))
    if superseded := [key for key, part in outcome.partitions.items() if part.state == "superseded"]:
        record.progress.tell(_superseded_partitions_line(outcome, superseded))
    if published or (is_awaited and outcome.in_production):
        with recording.of(outcome.table.asset_name):
            said = record.described(outcome)
            yield from record_partitions(context, outcome, said.metadata, tags=said.tags, is_awaited=is_awaited)
    record_partition_checks(context, outcome, record.links)


def _superseded_line(outcome: TableOutcome) -> str:
    return (
        f"{outcome.table.name} was not published by this run: run {outcome.superseded_by} has published it from a newer "
        "snapshot. Readers see that one."
    )


def _published_partitions_line(outcome: TableOutcome, keys: Sequence[str]) -> str:
    rows = sum(outcome.partitions[key].row_count or 0 for key in keys)
    return (
        f"{outcome.table.name} is published for {partition_words(keys)}: {counted(rows, 'rows')} in {sum(outcome.seconds.values()):.1f} s, at "
        f"{outcome.target}"
    )


def _superseded_partitions_line(outcome: TableOutcome, keys: Sequence[str]) -> str:
    return (
        f"{outcome.table.name}: this run has not published {partition_words(keys)}. Another run has published "
        f"{'it' if len(keys) == 1 else 'them'} from a newer snapshot. Readers see that one."
    )


def _held_back_line(ops: Sequence[str]) -> str:
    return (
        f"{', '.join(ops)} waited for tables of this run and cannot run: Dagster starts nothing behind a failed op, even if "
        "the table is published. Materialize them when the failed tables are published."
    )


def _outdated_line(outcome: TableOutcome) -> str:
    name = outcome.table.name
    return (
        f"{name}: its file has changed since the table was built whole. Old rows are of the file of before. `run-elt rebuild {name}` says "
        "what a whole build takes, and starts it."
    )


def _published_line(outcome: TableOutcome) -> str:
    passed = ", ".join(audit.audit.name for audit in outcome.audits if audit.passed)
    return (
        f"{outcome.table.name} is published: {counted(outcome.row_count or 0, 'rows')}{_merged_words(outcome)} in {sum(outcome.seconds.values()):.1f} s, checks "
        f"passed: {passed}, at {outcome.target}"
    )


def _merged_words(outcome: TableOutcome) -> str:
    increment = outcome.increment
    if increment is None or increment.start is None:
        return ""
    return f", of which {increment.rows:,} since {increment.start.words} were merged,"


def _error_line(failure: Failure) -> str:
    """Return what the log says. A traceback helps only where this project is wrong, not where the SQL is."""
    if failure.cause is None or not failure.is_unexpected:
        return without_secrets(failure.message)
    # As `exc_info`, the exception would bring along the secrets in its text.
    return without_secrets(f"{failure.message}\n{''.join(traceback.format_exception(failure.cause))}")
