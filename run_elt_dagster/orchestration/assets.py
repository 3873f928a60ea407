"""Assets: every declared table with its checks, built by one op, and how that op ends."""

import logging
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.model.broken import BrokenTable
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.column_lineage import ColumnLineage
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import built_version, code_version, source_versions, version_tags
from run_elt_dagster.orchestration.columns import column_metadata
from run_elt_dagster.orchestration.events import (
    check_result,
    evaluations_of,
    is_selected,
    log_event,
    materialization_metadata,
    record_checks,
    record_table,
    superseding,
    without_secrets,
)
from run_elt_dagster.orchestration.failing import (
    broken_facts,
    check_run_facts,
    early_failure,
    facts_of,
    fail_if,
    session_reason,
    skipped_lines,
)
from run_elt_dagster.orchestration.groups import IncompleteGroupError, held_back_observation, whole_groups
from run_elt_dagster.orchestration.heartbeat import heartbeat
from run_elt_dagster.orchestration.interruption import closed_at_exit, ends_as_cancelled, repeat_lost_interruptions
from run_elt_dagster.orchestration.jobs import condition_of
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.partition_events import (
    partition_words,
    published_partitions,
    record_partition_checks,
    record_partition_checks_alone,
    record_partitions,
)
from run_elt_dagster.orchestration.partitions import NoPartitionError, slices_of
from run_elt_dagster.orchestration.past import past_of
from run_elt_dagster.orchestration.progress import ProgressLog
from run_elt_dagster.orchestration.publish_log import RunLog, publish_log
from run_elt_dagster.orchestration.rebuild import OP_NAME, Building, RebuildError, rebuilt
from run_elt_dagster.orchestration.selection import refuse_empty_selection
from run_elt_dagster.orchestration.sources import own_sources, record_sources, sources_of
from run_elt_dagster.orchestration.specs import NO_LINKS, asset_key, asset_specs, check_spec
from run_elt_dagster.orchestration.unrecorded import Recording, say_on_stderr
from run_elt_dagster.orchestration.waiting import awaited_tables, ops_behind
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.redaction import redact_exception
from run_elt_dagster.runs.code_location import Place
from run_elt_dagster.runs.history import last_seconds
from run_elt_dagster.settings import PublishOptions, history_is_kept, secret_values
from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY, needs_snowflake
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession, Session, StatementError, told
from run_elt_dagster.storage import keep_sqlite_connections

_NOT_REACHED = "Snowflake could not be reached"

NO_ALERT = (
    "An alert requires DAGSTER_HOME or a dagster.yaml in the working directory, got neither. This run is on a temporary "
    "instance that no daemon ever sees. No alert comes if it fails. Set one of them."
)

_Describer = Callable[[TableOutcome], "_Described"]
_Event = dg.MaterializeResult[Any] | dg.AssetCheckResult


@dataclass(frozen=True)
class _Described:
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
class _Record:
    """How a run is recorded.

    Attributes:
        described: Returns metadata and tags of a published table's materialization.
        links: Where the links of the checks lead.
        broken: The selected tables whose file is broken.
        progress: The lines of the log.
    """

    described: _Describer
    links: Links
    broken: Collection[Key]
    progress: ProgressLog


def analytics_assets(
    tables: Catalogue,
    options: PublishOptions,
    *,
    links: Links = NO_LINKS,
    columns: ColumnLineage | None = None,
    woken: Mapping[Key, Collection[Key]] | None = None,
    name: str = OP_NAME,
    group: str | None = None,
    resource: str = SNOWFLAKE_KEY,
    place: Place | None = None,
) -> dg.AssetsDefinition:
    """Return one asset for every table, with its checks, and one for every broken file; any selection of them runs as one step.

    Args:
        tables: The declared tables. Broken files are assets too: a run that selects one, or a table that reads it, fails.
        options: How they are built and published.
        links: Where the links of their pages lead.
        columns: Where their columns come from, None to read it off their SQL in each process.
        woken: The tables that are built again when others were, by the daemon, and the others.
        name: Of the op.
        group: Group of the assets, None for the schema of each table.
        resource: Key of the resource of Snowflake.
        place: What the code location builds, and where; None for what the environment says.
    """
    lineage = columns or ColumnLineage(tables)
    conditions = {
        key: condition_of(map(tables.asset_path, wakers), in_parts=tables[key].partitions is not None)
        for key, wakers in (woken or {}).items()
    }

    @dg.multi_asset(
        name=name,
        specs=asset_specs(tables, links=links, conditions=conditions, group=group),
        check_specs=[check_spec(tables[key], audit) for key in tables for audit in audits_of(tables[key])],
        can_subset=True,
        # One run for a range of partitions, on the page and on the command line. Dagster refuses a range of the command line if one
        # selected asset has no such policy, one that is built whole too.
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Builds each table as a candidate, audits it, and publishes it in one atomic exchange.",
    )
    @needs_snowflake(resource)
    def run_ctas(context: dg.AssetExecutionContext, config: Building, snowflake: Snowflake) -> Iterator[_Event]:
        from run_elt_dagster.publish.run import run_tables  # noqa: PLC0415 - with all of publish/: only a run needs it

        selected = [key for key, table in tables.items() if _asset(table) in context.selected_asset_keys]
        broken = _broken_files(context, tables, selected)
        run = RunContext(
            context.run.run_id,
            context.run.job_name,
            is_live=lambda start: is_live(context.instance, start),
            past=past_of(context.instance, tables.asset_path),
        )
        # Once more: a process may load the code location before it opens Dagster's storage.
        keep_sqlite_connections()
        context.log.addFilter(partial(_is_no_list_of_missing_outputs, name))
        try:
            root = context.instance.get_run_by_id(context.run.root_run_id) if context.run.root_run_id else None
            refuse_empty_selection(context.run, [*selected, *broken], tables, root=root)
            facts = [broken_facts(each, tables.asset_path(each.key)) for each in broken.values()]
            for fact in facts:
                context.log.error(fact["message"])
            if not selected and not context.selected_asset_check_keys:
                fail_if(facts, [])
            slices, whole = slices_of(context, tables), rebuilt(config, tables, whole_groups(tables, selected))
            context.log.info(_connecting_line(snowflake, selected, tables))
            with (
                repeat_lost_interruptions(),
                heartbeat(context.instance, context.run.run_id, place=place),
                ends_as_cancelled(context),
                closed_at_exit() as opened,
            ):
                session = _session(opened, snowflake)
                log = opened.enter_context(
                    publish_log(
                        context, session, run, tables=tables, options=options, warn=_teller(context.log.warning)
                    )
                )
                failed, skipped = [], []
                if selected:
                    origins = lineage
                    if options.observe_sources:
                        observed = record_sources(
                            context, session, sources=own_sources(tables, sources_of(tables, selected))
                        )
                        origins = lineage.knowing(observed)
                    progress = ProgressLog(_teller(context.log.info))
                    outcomes = run_tables(
                        session,
                        tables,
                        selected,
                        run=run,
                        options=options,
                        slices={key: part for key, part in slices.items() if key in selected},
                        whole=whole,
                        seconds=_begun(lambda: _last_seconds(context.instance, tables, selected))
                        if len(selected) > options.max_concurrent_tables
                        else dict,
                        warn=_teller(context.log.warning),
                        look=progress.look,
                    )
                    with closing(log.noting(outcomes, slices)) as noted:
                        described = _describer(context, tables, selected=selected, links=links, lineage=origins)
                        failed, skipped = yield from _events(
                            context, noted, _Record(described, links, broken, progress)
                        )
                        origins.save()
                facts += [
                    facts_of(outcome, outcome.failure, part=slices.get(outcome.table.key))
                    for outcome in failed
                    if outcome.failure is not None
                ]
                facts += yield from _checks_alone(context, session, tables, run, links, slices=slices, log=log)
                fail_if(facts, skipped)
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

    return run_ctas


def _connecting_line(snowflake: Snowflake, selected: Sequence[Key], tables: Catalogue) -> str:
    where = "the embedded Snowflake" if snowflake.is_embedded else "Snowflake"
    return f"Connecting to {where} for {len(selected)} of {len(tables)} tables"


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


def _asset(table: AnalyticsTable) -> dg.AssetKey:
    return dg.AssetKey(list(table.asset_path))


def _is_no_list_of_missing_outputs(op: str, record: logging.LogRecord) -> bool:
    """Filter Dagster's line about missing outputs: it names all tables and checks, and none is recorded as an output."""
    return not record.getMessage().startswith(f"op '{op}' did not yield or return expected outputs")


def is_live(instance: dg.DagsterInstance, start: str) -> bool:
    """Return whether a run whose id starts with these characters, hyphens left out, is going on in this deployment."""
    active = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    wanted = start.replace("-", "").lower()
    return any(
        run.run_id.replace("-", "").lower().startswith(wanted)
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=active))
    )


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


def _teller(log: Callable[[str], object]) -> Callable[[str], None]:
    """Return what writes into Dagster's log, and ends no run where Dagster's storage is away."""

    def tell(text: str) -> None:
        try:
            log(without_secrets(text))
        except Exception as error:  # noqa: BLE001 - Dagster stores what is logged, and its storage may be what is away
            say_on_stderr(f"{without_secrets(text)} Dagster's log did not take this, got {type(error).__name__}.")

    return tell


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
) -> _Describer:
    """Return what makes metadata and tags of a table's materialization; the versions of the sources are looked up before."""
    upstream = {
        key: [dg.AssetKey(asset_key(tables.asset_path(parent))) for parent in tables.upstream[key]] for key in selected
    }
    sources = [dg.AssetKey(asset_key(tables.asset_path(key))) for key in sources_of(tables, selected)]
    versions = source_versions(context.instance, sources) if sources else {}

    def described(outcome: TableOutcome) -> _Described:
        key = outcome.table.key
        built = [column.name for column in outcome.columns]
        warn = _teller(context.log.warning)
        columns = column_metadata(lineage, key, built=built, warn=warn, asset_path=tables.asset_path)
        is_part = outcome.increment is not None and outcome.increment.start is not None
        of_old = built_version(context.instance, _asset(outcome.table)) if is_part else None
        tags = version_tags(outcome.table, upstream[key], versions=versions, built=of_old)
        metadata = {**materialization_metadata(outcome, links), **columns}
        return _Described(metadata, tags, is_outdated=of_old not in (None, code_version(outcome.table)))

    return described


def _events(
    context: dg.AssetExecutionContext, outcomes: Iterator[TableOutcome], record: _Record
) -> Generator[_Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
    """Yield what Dagster records, table by table, and return the tables that failed and those that were skipped."""
    recording = Recording(context.instance, context.run.run_id)
    with recording.said(say_on_stderr):
        return (yield from _recorded(context, outcomes, recording, record))


def _recorded(
    context: dg.AssetExecutionContext,
    outcomes: Iterator[TableOutcome],
    recording: Recording,
    record: _Record,
) -> Generator[_Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
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
        is_awaited = _asset(outcome.table) in awaited
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
    record: _Record,
    *,
    is_awaited: bool,
) -> Iterator[_Event]:
    """Record a table that is built whole: that it is published, and what its checks say."""
    key = _asset(outcome.table)
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
    record: _Record,
    *,
    is_awaited: bool,
) -> Iterator[_Event]:
    """Record the partitions of a table: those that were published, and what the checks say of each."""
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
    from run_elt_dagster.publish.run import audit_published  # noqa: PLC0415 - as in `run_ctas`

    alone = {key.asset_key for key in context.selected_asset_check_keys} - set(context.selected_asset_keys)
    facts: list[dict[str, Any]] = []
    for table in (table for table in tables.values() if _asset(table) in alone):
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


def _superseded_line(outcome: TableOutcome) -> str:
    return (
        f"{outcome.table.name} was not published by this run: run {outcome.superseded_by} has published it from a newer "
        "snapshot. Readers see that one."
    )


def _published_partitions_line(outcome: TableOutcome, keys: Sequence[str]) -> str:
    rows = sum(outcome.partitions[key].row_count or 0 for key in keys)
    return (
        f"{outcome.table.name} is published for {partition_words(keys)}: {rows:,} rows in {sum(outcome.seconds.values()):.1f} s, at "
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
        f"{outcome.table.name} is published: {outcome.row_count:,} rows{_merged_words(outcome)} in {sum(outcome.seconds.values()):.1f} s, checks "
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
