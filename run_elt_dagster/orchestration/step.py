"""What the one step of a run does: connect, build, audit and publish the selected tables, and record what became of each."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg

from run_elt_dagster.model.broken import BrokenTable
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.column_lineage import ColumnLineage
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.orchestration.code_versions import built_version, code_version, source_versions, version_tags
from run_elt_dagster.orchestration.columns import column_metadata
from run_elt_dagster.orchestration.events import check_result, evaluations_of, is_selected, materialization_metadata
from run_elt_dagster.orchestration.failing import (
    broken_facts,
    check_run_facts,
    early_failure,
    facts_of,
    fail_if,
    session_reason,
)
from run_elt_dagster.orchestration.groups import IncompleteGroupError, whole_groups
from run_elt_dagster.orchestration.heartbeat import heartbeat
from run_elt_dagster.orchestration.interruption import closed_at_exit, ends_as_cancelled, repeat_lost_interruptions
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.partition_events import record_partition_checks_alone
from run_elt_dagster.orchestration.partitions import NoPartitionError, slices_of
from run_elt_dagster.orchestration.past import past_of
from run_elt_dagster.orchestration.progress import ProgressLog
from run_elt_dagster.orchestration.publish_log import RunLog, publish_log
from run_elt_dagster.orchestration.rebuild import Building, RebuildError, rebuilt
from run_elt_dagster.orchestration.recording import Described, Describer, Event, Record, asset_of, recorded, teller
from run_elt_dagster.orchestration.selection import refuse_empty_selection
from run_elt_dagster.orchestration.sources import own_sources, record_sources, sources_of
from run_elt_dagster.orchestration.specs import asset_key
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import audit_published, run_tables
from run_elt_dagster.redaction import redact_exception
from run_elt_dagster.runs.code_location import Place
from run_elt_dagster.runs.history import last_seconds
from run_elt_dagster.runs.live import is_live
from run_elt_dagster.settings import PublishOptions, history_is_kept, secret_values
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession, Session, StatementError, told
from run_elt_dagster.storage import keep_sqlite_connections

_NOT_REACHED = "Snowflake could not be reached"

NO_ALERT = (
    "An alert requires DAGSTER_HOME or a dagster.yaml in the working directory, got neither. This run is on a temporary "
    "instance that no daemon ever sees. No alert comes if it fails. Set one of them."
)


@dataclass(frozen=True)
class Step:
    """What a step may build, and how.

    Attributes:
        name: Of its op.
        tables: The declared tables; the run says which of them it builds.
        options: How they are built and published.
        links: Where the links of their pages lead.
        lineage: Where their columns come from.
        place: What the code location builds, and where; None for what the environment says.
    """

    name: str
    tables: Catalogue
    options: PublishOptions
    links: Links
    lineage: ColumnLineage
    place: Place | None


def run_step(step: Step, context: dg.AssetExecutionContext, config: Building, snowflake: Snowflake) -> Iterator[Event]:
    """Build, audit and publish what a run selects, and yield what Dagster records.

    Raises:
        dagster.Failure: A table or a check failed, or the run cannot begin. Its metadata says what alerts need.
    """
    # Once more: a process may load the code location before it opens Dagster's storage.
    keep_sqlite_connections()
    context.log.addFilter(partial(_is_no_list_of_missing_outputs, step.name))
    try:
        yield from _whole_step(step, context, config, snowflake)
    except (NoPartitionError, RebuildError, IncompleteGroupError) as error:
        raise early_failure("build", error.summary, str(error), error, reason=error.reason) from None
    except StatementError as error:
        summary = "Snowflake refused to say which tables exist"
        raise early_failure("build", summary, str(error), error, reason=Reason.CATALOGUE) from None
    except Exception as error:
        # Whatever it is, Dagster stores its text.
        redact_exception(error, secrets=secret_values())
        raise
    finally:
        if context.run.remote_job_origin is None and not history_is_kept():
            context.log.warning(NO_ALERT)


def _whole_step(
    step: Step, context: dg.AssetExecutionContext, config: Building, snowflake: Snowflake
) -> Iterator[Event]:
    tables = step.tables
    selected = [key for key, table in tables.items() if asset_of(table) in context.selected_asset_keys]
    broken = _broken_files(context, tables, selected)
    root = context.instance.get_run_by_id(context.run.root_run_id) if context.run.root_run_id else None
    refuse_empty_selection(context.run, [*selected, *broken], tables, root=root)
    facts = [broken_facts(each, tables.asset_path(each.key)) for each in broken.values()]
    for fact in facts:
        context.log.error(fact["message"])
    if not selected and not context.selected_asset_check_keys:
        fail_if(facts, [])
    slices, whole = slices_of(context, tables), rebuilt(config, tables, whole_groups(tables, selected))
    context.log.info(_connecting_line(snowflake, selected, tables))
    run = RunContext(
        context.run.run_id,
        context.run.job_name,
        is_live=lambda start: is_live(context.instance, start),
        past=past_of(context.instance, tables.asset_path),
    )
    with (
        repeat_lost_interruptions(),
        heartbeat(context.instance, context.run.run_id, place=step.place),
        ends_as_cancelled(context),
        closed_at_exit() as opened,
    ):
        session = _session(opened, snowflake)
        warn = teller(context.log.warning)
        log = opened.enter_context(publish_log(context, session, run, tables=tables, options=step.options, warn=warn))
        work = _Work(session, run, selected, slices, whole, broken, log)
        failed, skipped = (yield from _built(step, context, work)) if selected else ([], [])
        facts += [
            facts_of(outcome, outcome.failure, part=slices.get(outcome.table.key))
            for outcome in failed
            if outcome.failure is not None
        ]
        facts += yield from _checks_alone(context, session, tables, run, step.links, slices=slices, log=log)
        fail_if(facts, skipped)


@dataclass(frozen=True)
class _Work:
    """What one run builds, and with what.

    Attributes:
        session: The session of the run.
        run: The run.
        selected: The tables that it builds.
        slices: The partitions that it builds, by table.
        whole: The tables with increments that it builds whole.
        broken: The broken files that it is concerned with.
        log: The log of publishes.
    """

    session: Session
    run: RunContext
    selected: Sequence[Key]
    slices: Mapping[Key, Slice]
    whole: frozenset[Key]
    broken: Mapping[Key, BrokenTable]
    log: RunLog


def _built(
    step: Step, context: dg.AssetExecutionContext, work: _Work
) -> Generator[Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
    """Build the tables, yield what Dagster records, and return the tables that failed and those that were skipped."""
    tables, options, selected, origins = step.tables, step.options, work.selected, step.lineage
    if options.observe_sources:
        sources = own_sources(tables, sources_of(tables, selected))
        origins = origins.knowing(record_sources(context, work.session, sources=sources))
    progress = ProgressLog(teller(context.log.info))
    is_many = len(selected) > options.max_concurrent_tables
    outcomes = run_tables(
        work.session,
        tables,
        selected,
        run=work.run,
        options=options,
        slices={key: part for key, part in work.slices.items() if key in selected},
        whole=work.whole,
        seconds=_begun(lambda: _last_seconds(context.instance, tables, selected)) if is_many else dict,
        warn=teller(context.log.warning),
        look=progress.look,
    )
    with closing(work.log.noting(outcomes, work.slices)) as noted:
        described = _describer(context, tables, selected=selected, links=step.links, lineage=origins)
        ended = yield from recorded(context, noted, Record(described, step.links, work.broken, progress))
        origins.save()
    return ended


def _connecting_line(snowflake: Snowflake, selected: Sequence[Key], tables: Catalogue) -> str:
    where = "the embedded Snowflake" if snowflake.is_embedded else "Snowflake"
    return f"Connecting to {where} for {len(selected)} of {counted(len(tables), 'tables')}"


def _broken_files(
    context: dg.AssetExecutionContext, tables: Catalogue, selected: Sequence[Key]
) -> dict[Key, BrokenTable]:
    """Return the broken files that a run is concerned with: those that are selected, that selected tables read, or of their groups."""
    read = {parent for key in selected for parent in tables.broken_parents(key)}
    groups = {tables[key].publish_group for key in selected} - {None}
    read |= {key for key, broken in tables.broken.items() if broken.publish_group in groups}
    return {
        key: broken
        for key, broken in tables.broken.items()
        if key in read or dg.AssetKey(asset_key(tables.asset_path(key))) in context.selected_asset_keys
    }


def _is_no_list_of_missing_outputs(op: str, record: logging.LogRecord) -> bool:
    """Filter Dagster's line about missing outputs: it names all tables and checks, and none is recorded as an output."""
    return not record.getMessage().startswith(f"op '{op}' did not yield or return expected outputs")


def _begun(read: Callable[[], dict[Key, float]]) -> Callable[[], dict[Key, float]]:
    """Begin to read in a thread, while the run waits for Snowflake, and return what waits for the end of that."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="history")
    reading = pool.submit(read)
    pool.shutdown(wait=False)
    return reading.result


def _last_seconds(instance: dg.DagsterInstance, tables: Catalogue, keys: Sequence[Key]) -> dict[Key, float]:
    """Return how long tables took when they were published last."""
    by_asset = {tables.asset_path(key): key for key in keys}
    return {by_asset[path]: seconds for path, seconds in last_seconds(instance, list(by_asset)).items()}


def _session(opened: ExitStack, snowflake: Snowflake) -> ConnectorSession:
    """Open the session of a run, with a current database.

    Raises:
        dagster.Failure: It cannot be opened. The connector's own error would bring along forty lines of its code.
    """
    from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import

    try:
        session = opened.enter_context(snowflake.session())
        _ = session.database
    except Error as error:
        failure = early_failure("connect", _NOT_REACHED, told(error), error)
    except (OSError, ValueError, ImportError) as error:
        reason = session_reason(error, is_embedded=snowflake.is_embedded)
        failure = early_failure("connect", _NOT_REACHED, str(error), error, reason=reason)
    else:
        return session
    # Raised here: as its context, the other error would be stored too.
    raise failure


def _describer(
    context: dg.AssetExecutionContext,
    tables: Catalogue,
    *,
    selected: Sequence[Key],
    links: Links,
    lineage: ColumnLineage,
) -> Describer:
    """Return what makes metadata and tags of a table's materialization; the versions of the sources are looked up before."""
    upstream = {
        key: [dg.AssetKey(asset_key(tables.asset_path(parent))) for parent in tables.upstream[key]] for key in selected
    }
    sources = [dg.AssetKey(asset_key(tables.asset_path(key))) for key in sources_of(tables, selected)]
    versions = source_versions(context.instance, sources) if sources else {}

    def described(outcome: TableOutcome) -> Described:
        key = outcome.table.key
        built = [column.name for column in outcome.columns]
        warn = teller(context.log.warning)
        columns = column_metadata(lineage, key, built=built, warn=warn, asset_path=tables.asset_path)
        is_part = outcome.increment is not None and outcome.increment.start is not None
        of_old = built_version(context.instance, asset_of(outcome.table)) if is_part else None
        tags = version_tags(outcome.table, upstream[key], versions=versions, built=of_old)
        metadata = {**materialization_metadata(outcome, links), **columns}
        return Described(metadata, tags, is_outdated=of_old not in (None, code_version(outcome.table)))

    return described


def _checks_alone(
    context: dg.AssetExecutionContext,
    session: Session,
    tables: Catalogue,
    run: RunContext,
    links: Links,
    *,
    slices: Mapping[Key, Slice],
    log: RunLog,
) -> Generator[dg.AssetCheckResult, None, list[dict[str, Any]]]:
    """Evaluate checks that were selected without their table, on the table that readers see; return what failed."""
    alone = {key.asset_key for key in context.selected_asset_check_keys} - set(context.selected_asset_keys)
    facts: list[dict[str, Any]] = []
    for table in (table for table in tables.values() if asset_of(table) in alone):
        target = target_of(table, database=session.database)
        audit = audit_published(session, table, run=run, part=slices.get(table.key))
        log.note_published(target, audit)
        if table.partitions is not None:
            record_partition_checks_alone(context, table, audit.outcomes, audited=target, links=links)
        else:
            for evaluation in evaluations_of(context, table, audit.outcomes, audited=target, links=links):
                # Dagster looks up which materialization this is about.
                yield check_result(evaluation)
        failed = [o for o in audit.outcomes if o.blocks and is_selected(context, table, o)]
        if failed:
            facts.append(check_run_facts(table, target, audit, failed))
            context.log.error(facts[-1]["message"])
    return facts
