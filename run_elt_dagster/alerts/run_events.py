"""From a run's record and its events to what failed. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from run_elt_dagster.alerts.failure import (
    ERRNO_UNKNOWN,
    FailedCheck,
    FailedTable,
    RunFailure,
    Stage,
    ended_groups_of,
)
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.production import Production, ProductionState, TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.runs.facts import REFUSED
from run_elt_dagster.runs.partitions import BACKFILL
from run_elt_dagster.runs.trigger import trigger_of

# What tells how a run ended, in a few events; everything else of its log stays unread.
EVENT_TYPES = {
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
    dg.DagsterEventType.ENGINE_EVENT,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_START,
}
# What is read besides where a run's failure has no facts: a run may have thousands of tables.
TABLE_EVENT_TYPES = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
}
# The same of its checks.
CHECK_EVENT_TYPES = {dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
# Longer than any message: what is cut off here was not going to be read.
CAUSE_LIMIT = 40_000
_INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


@dataclass(frozen=True)
class _Story:
    """A run's events, by what they mean."""

    planned: Mapping[str, tuple[str | None, ...]]
    materialized: frozenset[tuple[str, str | None]]
    step_failures: tuple[Any, ...]
    started_steps: int
    end_message: str
    end_error: Any

    @property
    def unpublished(self) -> dict[str, tuple[str, ...]]:
        """The planned tables that were not materialized, each with its partitions that were not; none of a whole table."""
        left = {
            name: [part for part in parts if (name, part) not in self.materialized]
            for name, parts in self.planned.items()
        }
        return {name: tuple(part for part in parts if part is not None) for name, parts in left.items() if parts}


@dataclass(frozen=True)
class _Ending:
    """How a run ended whose failure no table reported, as `RunFailure` has it."""

    stage: Stage
    summary: str
    cause: str
    cause_class: str
    errno: int | None = None
    reason: Reason | None = None


def _none_published(_: Sequence[str]) -> Mapping[str, TableVersion]:
    return {}


def run_failure(
    run: dg.DagsterRun,
    events: Sequence[dg.EventLogEntry],
    *,
    failed_at: datetime,
    last_published: Callable[[Sequence[str]], Mapping[str, TableVersion]] = _none_published,
    owners: Mapping[str, Sequence[str]] | None = None,
    seen: Mapping[str, Marker | None] | None = None,
    table_events: Callable[[], Sequence[dg.EventLogEntry]] = lambda: (),
    check_events: Callable[[], Sequence[dg.EventLogEntry]] = lambda: (),
) -> RunFailure:
    """Return what failed in a run.

    Args:
        run: The failed run.
        events: Its events of `EVENT_TYPES`, oldest first.
        failed_at: When it ended, aware UTC.
        last_published: Returns what is known to be published of these tables, `schema.table`; asked once, for all of them.
        owners: The owners of every declared table by name.
        seen: The run of the rows that readers see, by table; None if Snowflake was not asked or did not answer.
        table_events: Reads its events of `TABLE_EVENT_TYPES`, for a failure without facts.
        check_events: Reads its events of `CHECK_EVENT_TYPES`, for a failure without facts.
    """
    story = _story(events)
    facts = [fact for failure in story.step_failures for fact in _facts(failure)]
    trigger, trigger_name = trigger_of(run)
    common: dict[str, Any] = {
        "run_id": run.run_id,
        "job": "tables by hand" if run.job_name.startswith("__ASSET_JOB") else run.job_name,
        "failed_at": failed_at,
        "trigger": trigger,
        "trigger_name": trigger_name,
        "cancelled": run.status is dg.DagsterRunStatus.CANCELED,
        "backfill": run.tags.get(BACKFILL, ""),
        "ended_groups": tuple(ended_groups_of(seen)),
    }
    knows_owners = owners or {}
    published = last_published([str(fact["table"]) for fact in facts]) if facts else {}
    tables = tuple(_verified_half(_failed_table(f, published.get(str(f["table"]))), run.run_id, seen) for f in facts)
    skipped, held_back = (
        tuple(name for failure in story.step_failures for name in _metadata(failure).get(field, ()))
        for field in ("skipped", "held_back")
    )
    has_more = not tables or len(story.step_failures) > 1
    story = _story([*events, *table_events()]) if has_more else story
    # A check of a table that was to be built was asked of its candidate, and stands in the facts.
    rejected = {*(table.name for table in tables), *story.unpublished}
    others = {name: owners for name, owners in knows_owners.items() if name not in rejected}
    checks = _Checks.of(check_events() if has_more else (), others)
    tables += checks.failed_tables(knows_owners)
    if tables:
        return RunFailure(
            **common,
            summary=_tables_summary(tables),
            tables=tables,
            skipped=skipped,
            held_back=held_back,
            stage=tables[0].stage,
        )
    refused = [metadata[REFUSED] for metadata in map(_metadata, story.step_failures) if REFUSED in metadata]
    if refused:
        # Dagster planned every table, and none of them was touched.
        summary = "The selection of a run matches no table"
        return RunFailure(**common, summary=summary, tables=(), cause=str(refused[0]), reason=Reason.SELECTION)
    ending = _outside(run, story)
    named = list(story.unpublished)
    may_have_published = ending.stage == "outside our code" and story.started_steps > 0
    # The comment of a table in parts names the run that has created it, and of none of its parts whose rows it has.
    whole = [name for name in named if not story.unpublished[name]]
    verified = {name: found for name in whole if (found := _verified(name, run.run_id, seen))}
    unverified = [name for name in named if name not in verified]
    published = last_published(unverified) if unverified else {}
    tables = tuple(
        FailedTable(
            name,
            ending.stage,
            "",
            ending.cause_class,
            errno=ending.errno,
            reason=ending.reason,
            production=words,
            readers_see=state,
            owners=tuple(knows_owners.get(name, ())),
            partitions=story.unpublished[name],
        )
        for name in named
        for state, words in (
            verified.get(name)
            or _from_history(
                name,
                run.run_id,
                may_have_published=may_have_published,
                last=published.get(name),
                in_parts=bool(story.unpublished[name]),
            ),
        )
    )
    if not tables:
        tables = checks.unanswered_tables(ending, knows_owners)
    return RunFailure(**common, tables=tables, **vars(ending))


@dataclass(frozen=True)
class _Checks:
    """The checks of our tables that a run was to evaluate, and their verdicts."""

    planned: tuple[str, ...]
    failed: tuple[dg.AssetCheckEvaluation, ...]

    @classmethod
    def of(cls, events: Sequence[dg.EventLogEntry], tables: Mapping[str, Any]) -> "_Checks":
        """Return what the events say of these tables."""
        planned, failed = dict[str, None](), list[dg.AssetCheckEvaluation]()
        for event in (entry.dagster_event for entry in events if entry.dagster_event is not None):
            data: Any = event.event_specific_data
            name = ".".join(data.asset_key.path)
            if name not in tables:
                continue
            if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                planned[name] = None
            elif not data.passed and data.blocking and data.severity is dg.AssetCheckSeverity.ERROR:
                failed.append(data)
        return cls(tuple(planned), tuple(failed))

    def failed_tables(self, owners: Mapping[str, Sequence[str]]) -> tuple[FailedTable, ...]:
        """Return the tables whose checks did not hold."""
        names = dict.fromkeys(".".join(evaluation.asset_key.path) for evaluation in self.failed)
        return tuple(self._failed_table(name, owners) for name in names)

    def _failed_table(self, name: str, owners: Mapping[str, Sequence[str]]) -> FailedTable:
        own = [evaluation for evaluation in self.failed if ".".join(evaluation.asset_key.path) == name]
        checks = tuple(_failed_check(evaluation) for evaluation in own)
        return FailedTable(
            name,
            "audit",
            "; ".join(f"check {check.name} found {check.got}" for check in checks),
            f"published: check {', '.join(check.name for check in checks)}",
            checks=checks,
            production="Readers see the published table, with rows that fail the check.",
            owners=tuple(owners.get(name, ())),
            was_built=False,
        )

    def unanswered_tables(self, ending: _Ending, owners: Mapping[str, Sequence[str]]) -> tuple[FailedTable, ...]:
        """Return the tables whose checks were to be evaluated when the run ended."""
        production = "Unchanged, since this run was to evaluate checks only."
        return tuple(
            FailedTable(
                name,
                ending.stage,
                "",
                ending.cause_class,
                errno=ending.errno,
                reason=ending.reason,
                production=production,
                owners=tuple(owners.get(name, ())),
                was_built=False,
            )
            for name in self.planned
        )


def _failed_check(evaluation: dg.AssetCheckEvaluation) -> FailedCheck:
    """Return a check of our own by its numbers, another one by what it says of itself."""
    metadata = {name: value.value for name, value in evaluation.metadata.items()}
    got = (
        evaluation.description or ", ".join(f"{name} {value}" for name, value in metadata.items()) or "no reason given"
    )
    return FailedCheck(evaluation.check_name, got, "that it passes")


def is_interrupted_before_a_step(events: Sequence[dg.EventLogEntry]) -> bool:
    """Return from a run's events whether a signal ended it before its first step."""
    story = _story(events)
    error = story.end_error
    return not story.started_steps and error is not None and any(e.cls_name in _INTERRUPTIONS for e in _chain(error))


def _story(events: Sequence[dg.EventLogEntry]) -> _Story:
    planned: dict[str, dict[str | None, None]] = {}
    materialized: set[tuple[str, str | None]] = set()
    failures: list[Any] = []
    started, end_message, end_error = 0, "", None
    for event in (entry.dagster_event for entry in events if entry.dagster_event is not None):
        kind = event.event_type
        if kind is dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED and event.asset_key:
            planned.setdefault(".".join(event.asset_key.path), {}).update(dict.fromkeys(_planned_parts(event)))
        elif kind is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            materialized.add((".".join(event.asset_key.path), event.partition))
        elif kind is dg.DagsterEventType.STEP_FAILURE:
            failures.append(event.step_failure_data)
        elif kind is dg.DagsterEventType.STEP_START:
            started += 1
        elif kind in (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED):
            end_message = event.message or end_message
            end_error = getattr(event.event_specific_data, "error", None) or end_error
        elif getattr(event.event_specific_data, "error", None) is not None:
            end_error = end_error or event.event_specific_data.error  # type: ignore[union-attr]
    parts = {name: tuple(each) for name, each in planned.items()}
    return _Story(parts, frozenset(materialized), tuple(failures), started, end_message, end_error)


def _planned_parts(event: dg.DagsterEvent) -> Iterable[str | None]:
    """Return the partitions of a planned materialization; Dagster's own storages keep an event for each of them."""
    subset = getattr(event.event_specific_data, "partitions_subset", None)
    return (event.partition,) if subset is None else subset.get_partition_keys()


def _metadata(step_failure: Any) -> Mapping[str, Any]:
    data = step_failure.user_failure_data
    return {} if data is None else {name: value.value for name, value in data.metadata.items()}


def _facts(step_failure: Any) -> Iterator[Mapping[str, Any]]:
    facts = _metadata(step_failure).get("facts", ())
    yield from (fact for fact in facts if isinstance(fact, Mapping) and "table" in fact)


def _failed_table(fact: Mapping[str, Any], last: TableVersion | None) -> FailedTable:
    name, stage = str(fact["table"]), fact.get("stage", "outside our code")
    was_built = bool(fact.get("was_built", True))
    words = str(fact.get("production", ""))
    production = Production.from_json(fact.get("readers_see"))
    partitions = tuple(map(str, fact.get("partitions", ())))
    # The last publication of a table in parts is of another part.
    if last is not None and was_built and not partitions and production is not None and production.state == "unchanged":
        words = _unchanged_since(last)
    return FailedTable(
        name=name,
        stage=stage,
        was_built=was_built,
        where=str(fact.get("where") or ""),
        cause=str(fact.get("cause", "")),
        cause_class=str(fact.get("cause_class", "")),
        errno=fact.get("errno", ERRNO_UNKNOWN),
        reason=_reason(fact),
        checks=tuple(FailedCheck.of(check) for check in fact.get("checks", ())),
        query_id=fact.get("query_id"),
        production=words,
        readers_see=production.state if production else None,
        owners=tuple(fact.get("owners", ())),
        candidate=fact.get("candidate"),
        partitions=partitions,
        partitions_published=int(fact.get("partitions_published", 0)),
        if_wanted=str(fact.get("if_wanted", "")),
    )


def _tables_summary(tables: Sequence[FailedTable]) -> str:
    built = [table.name for table in tables if table.was_built]
    checked = [table for table in tables if not table.was_built]
    parts = [
        f"{_built_name(tables)} was not published" if len(built) == 1 else f"{len(built):,} tables were not published"
    ] * bool(built)
    if len(checked) == 1:
        parts.append(f"{checked[0].name} fails {_checks_of(checked[0])}")
    elif checked:
        parts.append(f"{len(checked):,} published tables fail their checks")
    return ", and ".join(parts)


def _built_name(tables: Sequence[FailedTable]) -> str:
    """Return the one table that was not published, with its partitions if it is built in parts."""
    table = next(table for table in tables if table.was_built)
    return f"{table.name}, {table.partition_words}," if table.partitions else table.name


def _checks_of(table: FailedTable) -> str:
    return f"check {table.checks[0].name}" if len(table.checks) == 1 else f"{len(table.checks)} checks"


def _outside(run: dg.DagsterRun, story: _Story) -> _Ending:
    """Return how a run ended whose failure no table reported."""
    outside: Stage = "outside our code"
    if run.status is dg.DagsterRunStatus.CANCELED:
        return _Ending(outside, "The run was cancelled", story.end_message, "cancelled", reason=Reason.CANCELLED_RUN)
    early = next((found for failure in story.step_failures if (found := _metadata(failure).get("early"))), None)
    if isinstance(early, Mapping):
        return _early(early)
    error = next((failure.error for failure in story.step_failures if failure.error), None) or story.end_error
    if error is None:
        return _Ending(outside, "The run's process was lost", story.end_message, "killed", reason=Reason.PROCESS_LOST)
    chain = list(_chain(error))
    root = chain[-1]
    cause, cause_class = _error_text(root), root.cls_name or "unknown"
    if any(link.cls_name in _INTERRUPTIONS for link in chain):
        summary = "The run was interrupted before it was done"
        return _Ending(outside, summary, cause, "interrupted", reason=Reason.INTERRUPTED)
    if not story.started_steps:
        summary, cause_class = "The run failed before its first step", f"before the first step: {cause_class}"
        return _Ending(outside, summary, cause, cause_class, reason=Reason.BEFORE_THE_FIRST_STEP)
    return _Ending(outside, "The run failed outside the building of tables", cause, cause_class)


def _early(noted: Mapping[str, Any]) -> _Ending:
    """Return how a run ended that came to no table, as it has noted it."""
    return _Ending(
        noted["stage"],
        noted["summary"],
        noted["cause"],
        f"early: {noted['cause_class']}",
        errno=noted.get("errno", ERRNO_UNKNOWN),
        reason=_reason(noted),
    )


def _reason(noted: Mapping[str, Any]) -> Reason | None:
    """Return the reason that a failure has noted; None for one that is not known here, as of another version."""
    return next((reason for reason in Reason if reason == noted.get("reason")), None)


def _chain(error: Any) -> Iterator[Any]:
    """Yield an error and what caused it, outermost first; Dagster wraps the author's error in its own."""
    for _ in range(20):
        yield error
        error = error.cause
        if error is None:
            return


def _error_text(error: Any) -> str:
    message = (error.message or "").strip()
    if len(message) > CAUSE_LIMIT:
        message = message[: CAUSE_LIMIT // 2] + "\n…\n" + message[-CAUSE_LIMIT // 2 :]
    where = error.stack[-1].strip() if error.stack else ""
    return f"{message}\n{where}".strip()


def _verified(name: str, run_id: str, seen: Mapping[str, Marker | None] | None) -> tuple[ProductionState, str] | None:
    """Return what readers see by what Snowflake said, as a fact and in words; None if it said nothing that decides it."""
    if seen is None or name not in seen:
        return None
    marker = seen[name]
    if marker is None:
        return "none", "Unchanged, verified in Snowflake: there is no published table yet."
    if marker.run_id != run_id:
        built = f", {marker.published}" if marker.published else ""
        return "unchanged", f"Unchanged, verified in Snowflake: readers still see the previous table{built}."
    if marker.state == "run":
        return (
            "new",
            "New, verified in Snowflake: this run has published the table, and was lost before it could record it.",
        )
    return None


def _verified_half(table: FailedTable, run_id: str, seen: Mapping[str, Marker | None] | None) -> FailedTable:
    """Return a table of a group that was published in part with what readers see since another process has ended that."""
    if table.reason is not Reason.GROUP_HALF_PUBLISHED or (found := _verified(table.name, run_id, seen)) is None:
        return table
    state, words = found
    return replace(table, readers_see=state, production=words)


def _from_history(
    name: str, run_id: str, *, may_have_published: bool, last: TableVersion | None, in_parts: bool
) -> tuple[ProductionState, str]:
    """Return what readers see by what Dagster has recorded, as a fact and in words."""
    if in_parts and may_have_published:
        return "unknown", (
            f"Unknown of these partitions, since the run may have been publishing: run-elt show {name} --partitions says which are of "
            f"run {run_id}."
        )
    if in_parts:
        return "unchanged", "Unchanged: readers see of these partitions what they saw before."
    if may_have_published:
        known = f" Last known publication: {_publication(last)}." if last else ""
        return "unknown", (
            f"Unknown, since the run may have been publishing: run-elt show {name} says whether its rows are of run {run_id}.{known}"
        )
    return "unchanged", _unchanged_since(last) if last else "Unchanged; no publication is recorded."


def _unchanged_since(last: TableVersion) -> str:
    return f"Unchanged: readers still see the table published {_publication(last)}."


def _publication(version: TableVersion) -> str:
    """Return when a version was published, in UTC, and with how many rows."""
    count = version.rows
    rows = "" if count is None else f" with {count:,} row{'' if count == 1 else 's'}"
    return f"{version.created_at:%d %b %Y %H:%M} UTC{rows}"


def utc(timestamp: float | None) -> datetime:
    """Return a moment of Dagster's storage as aware UTC; the epoch for none."""
    return datetime.fromtimestamp(timestamp or 0, UTC)
