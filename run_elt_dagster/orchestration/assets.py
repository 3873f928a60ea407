"""Assets: every declared table with its checks, built by one op, and the tables that they read from elsewhere."""

import atexit
import hashlib
import logging
import math
import re
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, cast

import dagster as dg

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import NO_ANSWER, Audit, AuditOutcome
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.heartbeat import heartbeat
from run_elt_dagster.orchestration.interruption import repeat_lost_interruptions
from run_elt_dagster.orchestration.selection import KINDS, refuse_empty_selection
from run_elt_dagster.orchestration.unrecorded import Recording, say_on_stderr
from run_elt_dagster.orchestration.waiting import awaited_tables, ops_behind
from run_elt_dagster.publish.guards import NOTHING_PUBLISHED
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.publish.run import PublishedAudit, audit_published, run_tables
from run_elt_dagster.redaction import excerpt, redact, redact_exception
from run_elt_dagster.settings import KEEP_CANDIDATES_HOURS, history_is_kept, secret_values
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import RunOptions
from run_elt_dagster.snowflake.session import Session, StatementError, told

_OP = "run_ctas"
# An error may have megabytes, and every event is kept: enough to see how it starts and ends.
_ERROR_LIMIT = 20_000
_QUERY_LIMIT = 4_000
# The page of a run shows so many causes; the alert has the facts of all.
_CAUSES_SHOWN = 50
# The facts of all failed tables are in one event, which each look at the run reads: five thousand tables share so many characters.
_FACTS_LIMIT, _LEAST_FACT = 2_000_000, 300
_NOT_REACHED = "Snowflake could not be reached"

NO_ALERT = (
    "An alert requires DAGSTER_HOME or a dagster.yaml in the working directory, got neither. This run is on a temporary "
    "instance that no daemon ever sees. No alert comes if it fails. Set one of them."
)

# Dagster's name. It offers no constant for it.
_DATA_VERSION = "dagster/data_version"

_Event = dg.MaterializeResult[Any] | dg.AssetCheckResult


def analytics_assets(
    tables: Catalogue,
    *,
    max_concurrent_tables: int,
    copy_tags: bool = True,
    check_policies: bool = True,
    keep_candidates_hours: float = KEEP_CANDIDATES_HOURS,
) -> dg.AssetsDefinition:
    """Return one asset for every table, with its checks; any selection of them runs as one step.

    Args:
        tables: The declared tables.
        max_concurrent_tables: Tables that are built at the same time.
        copy_tags: Whether publishing by clone keeps the tags of the table that it replaces.
        check_policies: Whether to ask for the policies on the targets: a clone or a swap would lose them.
        keep_candidates_hours: How long what a run left behind is kept for inspection.
    """

    @dg.multi_asset(
        name=_OP,
        specs=[_asset_spec(tables, key) for key in tables],
        check_specs=[_check_spec(tables[key], audit) for key in tables for audit in audits_of(tables[key])],
        can_subset=True,
        description="Builds each table as a candidate, audits it, and publishes it in one atomic exchange.",
    )
    def run_ctas(context: dg.AssetExecutionContext, snowflake: Snowflake) -> Iterator[_Event]:
        selected = [key for key in tables if dg.AssetKey(list(key)) in context.selected_asset_keys]
        options = RunOptions(
            run_id=context.run.run_id,
            job=context.run.job_name,
            max_concurrent_tables=max_concurrent_tables,
            copy_tags=copy_tags,
            check_policies=check_policies,
            keep_candidates_hours=keep_candidates_hours,
            creates_schemas=snowflake.is_embedded,
            is_live=lambda start: is_live(context.instance, start),
        )
        context.log.addFilter(_is_no_list_of_missing_outputs)
        where = "the embedded Snowflake" if snowflake.is_embedded else "Snowflake"
        try:
            root = context.instance.get_run_by_id(context.run.root_run_id) if context.run.root_run_id else None
            refuse_empty_selection(context.run, selected, tables, root=root)
            context.log.info("Connecting to %s for %d of %d tables", where, len(selected), len(tables))
            with (
                repeat_lost_interruptions(),
                heartbeat(context.instance, context.run.run_id),
                _ends_as_cancelled(context),
                _closed_at_exit() as opened,
            ):
                session = _session(opened, snowflake)
                failed, skipped = [], []
                if selected:
                    seconds = _last_seconds(context.instance, selected) if len(selected) > max_concurrent_tables else {}
                    outcomes = run_tables(
                        session, tables, selected, options=options, seconds=seconds, warn=_warner(context)
                    )
                    with closing(outcomes):
                        failed, skipped = yield from _events(context, outcomes)
                facts = [_facts(outcome, outcome.failure) for outcome in failed if outcome.failure is not None]
                facts += yield from _checks_alone(context, session, tables, options)
                _fail_if(facts, skipped)
        except StatementError as error:
            raise _early_failure("build", "Snowflake refused to say which tables exist", str(error), error) from None
        except Exception as error:
            # Whatever it is, Dagster stores its text.
            redact_exception(error, secrets=secret_values())
            raise
        finally:
            if context.run.remote_job_origin is None and not history_is_kept():
                context.log.warning(NO_ALERT)

    return run_ctas


@contextmanager
def _closed_at_exit() -> Generator[ExitStack]:
    """Yield a stack that is closed when the block ends, or when the process does before that.

    Where Dagster's storage fails, it leaves an op that has yielded a result where it is. Python ends it when no thread can be
    started any more: closing a session would then wait for ever, and the process with it.
    """
    with ExitStack() as opened:
        atexit.register(opened.close)
        try:
            yield opened
        finally:
            atexit.unregister(opened.close)


def _is_no_list_of_missing_outputs(record: logging.LogRecord) -> bool:
    """Filter Dagster's line about missing outputs: it names all tables and checks, and none is recorded as an output."""
    return not record.getMessage().startswith(f"op '{_OP}' did not yield or return expected outputs")


@contextmanager
def _ends_as_cancelled(context: dg.AssetExecutionContext) -> Generator[None]:
    """Let a run of the command line end as cancelled when a person interrupts it. Dagster calls that a failure.

    What the UI terminates is being cancelled already when the signal comes, or, if it was forced, has been. A worker of a
    deployment that no person has cancelled was ended by its platform: that stays a failure. It alerts, and Dagster may
    retry.
    """
    try:
        yield
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        # KeyboardInterrupt, or Dagster's own interruption.
        run = context.instance.get_run_by_id(context.run.run_id)
        by_hand = run is not None and run.remote_job_origin is None and run.status is dg.DagsterRunStatus.STARTED
        if run is not None and (by_hand or run.status is dg.DagsterRunStatus.CANCELED):
            context.instance.report_run_canceling(run, "Interrupted: the queries of the run are cancelled.")
        raise


def is_live(instance: dg.DagsterInstance, start: str) -> bool:
    """Return whether a run whose id starts with these characters, hyphens left out, is going on in this deployment."""
    active = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    wanted = start.replace("-", "").lower()
    return any(
        run.run_id.replace("-", "").lower().startswith(wanted)
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=active))
    )


def _last_seconds(instance: dg.DagsterInstance, keys: Sequence[Key]) -> dict[Key, float]:
    """Return how long tables took when they were published last, as their materializations say."""
    seconds: dict[Key, float] = {}
    for record in instance.get_asset_records([dg.AssetKey(list(key)) for key in keys]):
        event = record.asset_entry.last_materialization
        published = event.asset_materialization if event is not None else None
        value = published.metadata.get("seconds") if published is not None else None
        if value is not None and isinstance(value.value, (int, float)):
            seconds[tuple(record.asset_entry.asset_key.path)] = float(value.value)
    return seconds


def _warner(context: dg.AssetExecutionContext) -> Callable[[str], None]:
    def warn(text: str) -> None:
        try:
            context.log.warning(_without_secrets(text))
        except Exception as error:  # noqa: BLE001 - Dagster stores what is logged, and its storage may be what is away
            say_on_stderr(f"{_without_secrets(text)} Dagster's log did not take this, got {type(error).__name__}.")

    return warn


def source_assets(tables: Catalogue) -> list[dg.AssetSpec]:
    """Return an external asset for every table that is read but not declared."""
    return [
        dg.AssetSpec(
            _asset_key(key),
            group_name=_asset_key(key)[-2],
            kinds=KINDS,
            description="Loaded by another process.",
        )
        for key in tables.sources
    ]


def _asset_key(key: Key) -> list[str]:
    """Return a key as Dagster takes it: letters, digits and `_` only. Names that differ in other signs alone stay apart."""
    return [part if re.fullmatch(r"\w+", part, re.ASCII) else _plain(part) for part in key]


def _plain(name: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', name)[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _asset_spec(tables: Catalogue, key: Key) -> dg.AssetSpec:
    table = tables[key]
    return dg.AssetSpec(
        list(key),
        deps=[_asset_key(parent) for parent in tables.upstream[key]],
        description=f"{table.description}\n\n```sql\n{table.sql.strip()}\n```",
        group_name=table.schema_name.lower(),
        owners=[table.owner] if table.owner else None,
        tags=table.tags,
        kinds=KINDS,
        metadata=_definition_metadata(table),
        # A table whose parent failed, or that failed itself, ends the step without a materialization.
        skippable=True,
    )


def _definition_metadata(table: AnalyticsTable) -> dict[str, Any]:
    metadata: dict[str, Any] = {"publish": table.publish, "transient": table.transient}
    if table.identifier:
        metadata["identifier"] = table.identifier
    if table.warehouse:
        metadata["warehouse"] = table.warehouse
    if table.business_owner:
        metadata["business_owner"] = table.business_owner
    if table.primary_key:
        metadata["primary_key"] = ", ".join(table.primary_key)
    if table.path is not None:
        metadata["sql_file"] = dg.MetadataValue.path(str(table.path))
    return metadata


def _check_spec(table: AnalyticsTable, audit: Audit) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        audit.name, asset=list(table.key), description=audit.description, blocking=audit.severity == "error"
    )


def _session(opened: ExitStack, snowflake: Snowflake) -> Session:
    """Open the session of a run, with a current database.

    Raises:
        dagster.Failure: It cannot be opened. The connector's own error would bring along forty lines of its code.
    """
    from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import

    try:
        session = opened.enter_context(snowflake.session())
        _ = session.database
    except Error as error:
        failure = _early_failure("connect", _NOT_REACHED, told(error), error)
    except (OSError, ValueError, ImportError) as error:
        failure = _early_failure("connect", _NOT_REACHED, str(error), error)
    else:
        return session
    # Raised here: as its context, the other error would be stored too.
    raise failure


def _events(
    context: dg.AssetExecutionContext, outcomes: Iterator[TableOutcome]
) -> Generator[_Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
    """Yield what Dagster records, table by table, and return the tables that failed and those that were skipped."""
    recording = Recording(context.instance, context.run.run_id)
    with recording.said(say_on_stderr):
        return (yield from _recorded(context, outcomes, recording))


def _recorded(
    context: dg.AssetExecutionContext, outcomes: Iterator[TableOutcome], recording: Recording
) -> Generator[_Event, None, tuple[list[TableOutcome], list[TableOutcome]]]:
    failed: list[TableOutcome] = []
    skipped: list[TableOutcome] = []
    progress = _Progress(context.log.info)
    awaited = awaited_tables(context)
    for outcome in outcomes:
        key = dg.AssetKey(list(outcome.table.key))
        for warning in outcome.warnings:
            context.log.warning(_without_secrets(warning))
        if outcome.published:
            with recording.of(outcome.table.name):
                progress.tell(_published_line(outcome))
                yield from _record(context, key, _metadata(outcome), is_awaited=key in awaited)
        elif outcome.superseded_by is not None:
            progress.tell(_superseded_line(outcome))
            if key in awaited:
                yield _superseding(context.instance, key, outcome.superseded_by)
        elif outcome.failure is not None:
            context.log.error(_error_line(outcome.failure))
            failed.append(outcome)
        else:
            skipped.append(outcome)
        # Not as AssetCheckResult: Dagster would look for the latest materialization, which is another table's for a rejected
        # candidate and this run's for a published one, and would store an output of each check.
        evaluations = _evaluations(context, outcome.table, outcome.audits, audited=outcome.candidate)
        yield from _record_checks(context, evaluations, is_awaited=outcome.in_production and key in awaited)
    progress.flush()
    if skipped:
        context.log.warning("\n".join(map(_skipped_line, skipped)))
    if failed and (held_back := ops_behind(context, awaited)):
        context.log.warning(_held_back_line(held_back))
    return failed, skipped


def _record(
    context: dg.AssetExecutionContext, key: dg.AssetKey, metadata: Mapping[str, Any], *, is_awaited: bool
) -> Iterator[dg.MaterializeResult[Any]]:
    """Record a published table, at once or as the result that is yielded.

    A result is an output of the op, and Dagster starts what waits for it. It costs more events, and Dagster looks up the
    versions of all that the table reads: nothing needs them where nothing waits. The version of what this run publishes is
    the run: what reads the table in Dagster learns by it that the table is new.
    """
    version = context.run.run_id
    if is_awaited:
        yield dg.MaterializeResult(key, metadata=metadata, data_version=dg.DataVersion(version))
    else:
        _log_event(context, dg.AssetMaterialization(key, metadata=metadata, tags={_DATA_VERSION: version}))


def _record_checks(
    context: dg.AssetExecutionContext, evaluations: Sequence[dg.AssetCheckEvaluation], *, is_awaited: bool
) -> Iterator[dg.AssetCheckResult]:
    """Record checks, those of an awaited table as results: Dagster would warn that what waits is not gated by them."""
    if is_awaited:
        yield from map(_check_result, evaluations)
        return
    for evaluation in evaluations:
        _log_event(context, evaluation)


def _log_event(context: dg.AssetExecutionContext, event: dg.AssetMaterialization | dg.AssetCheckEvaluation) -> None:
    """Store an event here and now.

    Where Dagster's storage fails, the error is raised in the op, which then begins no other table. What is yielded, Dagster
    stores on its own: its error leaves the op where it is, until the process ends, and its threads would go on publishing.
    """
    # The annotation of 1.13 leaves out the evaluation, which it takes.
    context.log_event(cast("Any", event))


def _superseding(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> dg.MaterializeResult[Any]:
    """Return the result of a table that a newer run has published: what waits for it here can run, as its children can."""
    event = instance.get_latest_materialization_event(key)
    published = event.asset_materialization if event is not None and event.run_id == run_id else None
    metadata = dict(published.metadata) if published is not None else {}
    return dg.MaterializeResult(key, metadata={**metadata, "published_by": run_id}, data_version=dg.DataVersion(run_id))


class _Progress:
    """Names published tables in the log, at most once a second: each line of a log is an event that Dagster stores."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._lines: list[str] = []
        self._told_at = -math.inf

    def tell(self, line: str) -> None:
        self._lines.append(line)
        if time.monotonic() - self._told_at >= 1:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._log("\n".join(self._lines))
        self._lines, self._told_at = [], time.monotonic()


def _checks_alone(
    context: dg.AssetExecutionContext,
    session: Session,
    tables: Catalogue,
    options: RunOptions,
) -> Generator[dg.AssetCheckResult, None, list[dict[str, Any]]]:
    """Evaluate checks that were selected without their table, on the table that readers see; return what failed."""
    alone = {key.asset_key for key in context.selected_asset_check_keys} - set(context.selected_asset_keys)
    facts: list[dict[str, Any]] = []
    for table in (table for key, table in tables.items() if dg.AssetKey(list(key)) in alone):
        target = target_of(table, database=session.database)
        audit = audit_published(session, table, options=options)
        for evaluation in _evaluations(context, table, audit.outcomes, audited=target):
            # Dagster looks up which materialization this is about.
            yield _check_result(evaluation)
        failed = [o for o in audit.outcomes if o.blocks and _is_selected(context, table, o)]
        if failed:
            facts.append(_check_run_facts(table, target, audit, failed))
            context.log.error(facts[-1]["message"])
    return facts


def _check_run_facts(
    table: AnalyticsTable, target: Relation, audit: PublishedAudit, failed: Sequence[AuditOutcome]
) -> dict[str, Any]:
    """Return the facts about a published table that does not hold what its checks ask."""
    checks = f"check{'s' if len(failed) > 1 else ''}"
    if audit.is_published is False:
        production = NOTHING_PUBLISHED
    elif all(outcome.error is not None for outcome in failed):
        production = f"Readers see {target}. Whether it passes its {checks} is unknown."
    else:
        production = f"Readers see {target}, with rows that fail the {checks}. This run has changed nothing."
    problem = "; ".join(map(str, failed))
    query_id = next((outcome.query_id for outcome in failed if outcome.query_id), None)
    return {
        "table": table.name,
        "was_built": False,
        "stage": "audit",
        "message": _without_secrets(f"{table.name} as published: {problem} (query {query_id}). {production}"),
        "cause": _without_secrets(problem),
        "cause_class": f"published: check {', '.join(outcome.audit.name for outcome in failed)}",
        "checks": [_check_facts(outcome) for outcome in failed],
        "query_id": query_id,
        "production": production,
        "owners": [table.owner] if table.owner else [],
        "candidate": None,
    }


def _check_result(evaluation: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        severity=evaluation.severity,
        description=evaluation.description,
        metadata=evaluation.metadata,
    )


def _evaluations(
    context: dg.AssetExecutionContext,
    table: AnalyticsTable,
    outcomes: Sequence[AuditOutcome],
    *,
    audited: Relation,
) -> list[dg.AssetCheckEvaluation]:
    """Leave out checks that the run did not select: Dagster refuses them, though they did guard the publishing."""
    key = dg.AssetKey(list(table.key))
    return [_evaluation(key, outcome, audited) for outcome in outcomes if _is_selected(context, table, outcome)]


def _is_selected(context: dg.AssetExecutionContext, table: AnalyticsTable, outcome: AuditOutcome) -> bool:
    return dg.AssetCheckKey(dg.AssetKey(list(table.key)), outcome.audit.name) in context.selected_asset_check_keys


def _evaluation(key: dg.AssetKey, audit: AuditOutcome, audited: Relation) -> dg.AssetCheckEvaluation:
    blocking = audit.audit.severity == "error"
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=audit.audit.name,
        passed=audit.passed,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        blocking=blocking,
        description=_without_secrets(str(audit)),
        metadata=_check_metadata(audit, audited),
    )


def _check_metadata(audit: AuditOutcome, audited: Relation) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "got": dict(audit.got) if audit.found is None else _without_secrets(audit.found),
        "expected": audit.expected or audit.audit.description,
        "audited": str(audited),
        "query_id": audit.query_id or "",
    }
    if audit.query:
        metadata["query"] = excerpt(audit.query, limit=_QUERY_LIMIT)
    if audit.bad_rows is not None:
        metadata["bad_rows"] = audit.bad_rows
    if audit.sample:
        rows = [{name: _without_secrets(value) for name, value in row.items()} for row in audit.sample]
        metadata["bad_rows_sample"] = dg.MetadataValue.json(rows)
    return metadata


def _metadata(outcome: TableOutcome) -> Mapping[str, Any]:
    return {
        "dagster/row_count": outcome.row_count,
        "dagster/table_name": str(outcome.target),
        "candidate": str(outcome.candidate),
        "publish": outcome.table.publish,
        "checks_passed": ", ".join(audit.audit.name for audit in outcome.audits if audit.passed),
        **_findings(outcome),
        "seconds": round(sum(outcome.seconds.values()), 3),
        **{f"{stage}_seconds": round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        **{f"{stage}_query_id": query_id for stage, query_id in outcome.query_ids.items()},
    }


def _findings(outcome: TableOutcome) -> Mapping[str, str]:
    """Return what did not stop the publishing but should be looked at."""
    warned = ", ".join(audit.audit.name for audit in outcome.audits if not audit.passed)
    findings = {"checks_warned": warned, "schema_changes": "; ".join(outcome.schema_changes)}
    return {name: text for name, text in findings.items() if text}


def _superseded_line(outcome: TableOutcome) -> str:
    return (
        f"{outcome.table.name} was not published by this run: run {outcome.superseded_by} has published it from a newer "
        "snapshot. Readers see that one."
    )


def _held_back_line(ops: Sequence[str]) -> str:
    return (
        f"{', '.join(ops)} waited for tables of this run and cannot run: Dagster starts nothing behind a failed op, even if "
        "the table is published. Materialize them when the failed tables are published."
    )


def _published_line(outcome: TableOutcome) -> str:
    passed = ", ".join(audit.audit.name for audit in outcome.audits if audit.passed)
    return (
        f"{outcome.table.name} is published: {outcome.row_count:,} rows in {sum(outcome.seconds.values()):.1f} s, checks "
        f"passed: {passed}, at {outcome.target}"
    )


def _skipped_line(outcome: TableOutcome) -> str:
    names = ", ".join(".".join(key) for key in outcome.skipped_because)
    return f"{outcome.table.name} was skipped, because it reads failed tables: {names}. {outcome.production}"


def _without_secrets(text: str) -> str:
    return excerpt(redact(text, secrets=secret_values()), limit=_ERROR_LIMIT)


def _error_line(failure: Failure) -> str:
    """Return what the log says. A traceback helps only where this project is wrong, not where the SQL is."""
    if failure.cause is None or not failure.is_unexpected:
        return _without_secrets(failure.message)
    # As `exc_info`, the exception would bring along the secrets in its text.
    return _without_secrets(f"{failure.message}\n{''.join(traceback.format_exception(failure.cause))}")


def _fail_if(facts: Sequence[Mapping[str, Any]], skipped: Sequence[TableOutcome]) -> None:
    """Fail the run at its end, when everything is recorded.

    Raises:
        dagster.Failure: With the facts, if there are any.
    """
    if facts:
        raise _run_failure(facts, skipped)


def _run_failure(facts: Sequence[Mapping[str, Any]], skipped: Sequence[TableOutcome]) -> dg.Failure:
    """Return the failure of a run: which tables, in a line. Dagster prints it twice, and the causes are in the log already."""
    room = max(_LEAST_FACT, _FACTS_LIMIT // max(len(facts), 1))
    built = [fact for fact in facts if fact["was_built"]]
    checked = [fact for fact in facts if not fact["was_built"]]
    lines = [
        f"{_count(len(built), 'table')} failed: {_named(built)}." if built else "",
        f"{_count(len(checked), 'published table')} failed checks: {_named(checked)}." if checked else "",
        f"Skipped, since they read failed tables: {', '.join(o.table.name for o in skipped)}." if skipped else "",
        "The log and the metadata of this event have the causes.",
    ]
    return dg.Failure(
        description="\n".join(filter(None, lines)),
        metadata={
            # For a person, on the page of the run.
            **{fact["table"]: fact["message"] for fact in facts[:_CAUSES_SHOWN]},
            "failed": [fact["table"] for fact in built],
            "skipped": [outcome.table.name for outcome in skipped],
            # For the alert: it reads facts and parses no text.
            "facts": [_stored(fact, room=room) for fact in facts],
        },
        # run_ctas never retries by itself: a retry after a cancel would publish.
        allow_retries=False,
    )


def _stored(fact: Mapping[str, Any], *, room: int) -> dict[str, Any]:
    """Return a fact without its message, and with no more of its cause than there is room for."""
    cause = excerpt(fact["cause"], limit=min(room, _ERROR_LIMIT))
    return {**{name: value for name, value in fact.items() if name != "message"}, "cause": cause}


def _early_failure(stage: str, summary: str, problem: str, error: Exception) -> dg.Failure:
    """Return the failure of a run that came to no table."""
    errno = getattr(error, "errno", None)
    cause = _without_secrets(problem)
    return dg.Failure(
        description=f"{summary}: {cause}\nNothing was built.",
        metadata={
            "early": {
                "stage": stage,
                "summary": summary,
                "cause": cause,
                "cause_class": f"Snowflake error {errno}" if errno else type(error).__name__,
            }
        },
        allow_retries=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _named(facts: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{fact['table']} in stage {fact['stage']}" if fact["was_built"] else fact["table"] for fact in facts
    )


def _facts(outcome: TableOutcome, failure: Failure) -> dict[str, Any]:
    failed = [audit for audit in outcome.audits if audit.blocks]
    return {
        "table": outcome.table.name,
        "was_built": True,
        "stage": failure.stage,
        "message": _without_secrets(failure.message),
        "cause": _without_secrets(failure.problem or failure.message),
        "where": failure.where,
        "cause_class": _cause_class(failure, failed),
        "checks": [_check_facts(audit) for audit in failed],
        "query_id": failure.query_id,
        "production": failure.production,
        "owners": [outcome.table.owner] if outcome.table.owner else [],
        "candidate": str(outcome.candidate) if outcome.row_count is not None else None,
    }


def _cause_class(failure: Failure, failed: Sequence[AuditOutcome]) -> str:
    """Return what makes two failures the same one, without numbers and texts: these differ each day."""
    if failed and failure.cause is None:
        return "check " + ", ".join(audit.audit.name for audit in failed)
    if failure.errno is not None:
        return f"Snowflake error {failure.errno}"
    return type(failure.cause).__name__ if failure.cause is not None else "refused"


def _check_facts(audit: AuditOutcome) -> dict[str, str]:
    got = audit.found or ", ".join(f"{number:,} {counts}" for counts, number in audit.got.items() if number is not None)
    expected = ", ".join(f"{bounds} {counts}" for counts, bounds in audit.expected.items())
    # A check of two thousand columns has as many of each.
    return {
        "name": audit.audit.name,
        "got": excerpt(got or NO_ANSWER, limit=_QUERY_LIMIT),
        "expected": excerpt(expected or audit.audit.description, limit=_QUERY_LIMIT),
    }
