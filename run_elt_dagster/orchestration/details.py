"""What `run-elt show schema.table` prints of one declared table: its declaration as resolved, its place among others, its history."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import BaseModel

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.model.freshness import in_words
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, short_id
from run_elt_dagster.model.table import FRONT_MATTER_KEYS, AnalyticsTable
from run_elt_dagster.runs.history import run_of

EVENTS_SHOWN = 10
# They have parts of their own.
_SHOWN_ELSEWHERE = ("checks", "columns")
_ENDED = {
    dg.DagsterRunStatus.FAILURE: "not published: the run failed",
    dg.DagsterRunStatus.CANCELED: "not published: the run was cancelled",
    dg.DagsterRunStatus.SUCCESS: "not published by this run",
}


@dataclass(frozen=True)
class Setting:
    """A setting of a table.

    Attributes:
        key: As the file has it.
        value: What holds, in words.
        plain: The same for a program, as JSON has it.
        is_default: Whether the file leaves it out.
    """

    key: str
    value: str
    plain: Any
    is_default: bool


@dataclass(frozen=True)
class Parent:
    """A table that another one reads.

    Attributes:
        name: As in `schema.table`.
        note: What a run makes of it: empty for a declared table.
    """

    name: str
    note: str = ""


@dataclass(frozen=True)
class ShownCheck:
    """A check, and what it found last.

    Attributes:
        name: Of the asset check.
        severity: Whether a failure stops the publishing.
        holds_if: What it asks, in a sentence.
        verdict: `passed` or `failed`; empty where the last run that selected it has no result.
        found: What it found, in words.
        at: When that was.
    """

    name: str
    severity: str
    holds_if: str
    verdict: str = ""
    found: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Happened:
    """What a run or a person has done with the table.

    Attributes:
        at: When.
        run: The start of the run's id; empty if a person reported it.
        outcome: What came of it, in words.
        rows: Of the table that was published.
        seconds: What that took.
        by_hand: Who has published it, where its run had not.
    """

    at: datetime
    run: str
    outcome: str
    rows: int | None = None
    seconds: float | None = None
    by_hand: str = ""


@dataclass(frozen=True)
class Details:
    """What is known of a declared table beside its rows.

    Attributes:
        settings: Its declaration, with the defaults that the file leaves out.
        columns: The declared columns: name, type, description.
        upstream: What it reads; None if its SQL cannot be read.
        downstream: The declared tables that read it.
        checks: Its checks.
        history: The last events, the newest first; None where no history is kept.
    """

    settings: Sequence[Setting]
    columns: Sequence[tuple[str, str, str]]
    upstream: Sequence[Parent] | None
    downstream: Sequence[str]
    checks: Sequence[ShownCheck]
    history: Sequence[Happened] | None

    def as_mapping(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "settings": {each.key: each.plain for each in self.settings},
            "defaults": [each.key for each in self.settings if each.is_default],
            "columns": [dict(zip(("name", "type", "description"), column, strict=True)) for column in self.columns],
            "upstream": None if self.upstream is None else [vars(parent) for parent in self.upstream],
            "downstream": list(self.downstream),
            "checks": [vars(check) for check in self.checks],
            "history": None if self.history is None else [vars(event) for event in self.history],
        }


def details_of(tables: Catalogue, table: AnalyticsTable, *, instance: dg.DagsterInstance | None) -> Details:
    """Return the details of a table. Dagster is asked once for each check, and three times for the history.

    Args:
        tables: The declared tables, and what each of them reads.
        table: One of them, or one whose file is right by itself and broken beside the others.
        instance: Dagster's history, None if none is kept.
    """
    key = table.key
    upstream = None if key not in tables else [_parent(tables, parent) for parent in tables.upstream[key]]
    return Details(
        settings=settings_of(table),
        columns=[(name, each.type or "any", each.description) for name, each in table.columns.items()],
        upstream=upstream,
        downstream=sorted(".".join(reader) for reader in tables if key in tables.upstream[reader]),
        checks=[_check(table, audit.name, audit.severity, audit.description, instance) for audit in audits_of(table)],
        history=None if instance is None else history_of(instance, dg.AssetKey(list(table.asset_path))),
    )


def settings_of(table: AnalyticsTable) -> list[Setting]:
    """Return the settings of a table in words, those that the file leaves out with their defaults."""
    plain = table.model_dump(mode="json", include={*FRONT_MATTER_KEYS} - {*_SHOWN_ELSEWHERE})
    return [
        Setting(key, said(getattr(table, key)), plain[key], key not in table.model_fields_set)
        for key in FRONT_MATTER_KEYS
        if key not in _SHOWN_ELSEWHERE
    ]


def said(value: Any) -> str:
    """Return the value of a setting in words; `none` for nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return in_words(value)
    if isinstance(value, BaseModel):
        value = {name: each for name, each in value if each is not None}
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {said(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _parent(tables: Catalogue, key: Key) -> Parent:
    note = "" if key in tables else "its file is broken" if key in tables.broken else "no file builds it"
    return Parent(".".join(key), note)


def _check(
    table: AnalyticsTable, name: str, severity: str, holds_if: str, instance: dg.DagsterInstance | None
) -> ShownCheck:
    key = dg.AssetCheckKey(dg.AssetKey(list(table.asset_path)), name)
    record = instance.get_latest_asset_check_evaluation_record(key) if instance else None
    if record is None:
        return ShownCheck(name, severity, holds_if)
    event = record.event.dagster_event if record.event is not None else None
    # The record itself is as old as the plan of the run.
    at = datetime.fromtimestamp(record.event.timestamp if record.event else record.create_timestamp, UTC)
    if event is None or event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return ShownCheck(name, severity, holds_if, found=f"no result of run {short_id(record.run_id)}", at=at)
    evaluation = event.asset_check_evaluation_data
    found = (evaluation.description or "").removeprefix(f"check {name} ")
    return ShownCheck(name, severity, holds_if, "passed" if evaluation.passed else "failed", found, at)


def history_of(instance: dg.DagsterInstance, key: dg.AssetKey, *, limit: int = EVENTS_SHOWN) -> list[Happened]:
    """Return what has happened to a table last, the newest first: runs that built it or did not, reports, rollbacks."""
    published = list(_published(instance, key, limit))
    # A run whose rows a person has published has failed all the same.
    runs = {event.run for event in published if not event.by_hand}
    events = [
        *published,
        *(event for event in _planned(instance, key, limit) if event.run not in runs),
        *_rolled_back(instance, key, limit),
    ]
    return sorted(events, key=lambda event: event.at, reverse=True)[:limit]


def _published(instance: dg.DagsterInstance, key: dg.AssetKey, limit: int) -> Iterator[Happened]:
    for record in instance.fetch_materializations(key, limit=limit).records:
        event, materialization = record.event_log_entry, record.asset_materialization
        metadata = {name: value.value for name, value in materialization.metadata.items()} if materialization else {}
        partition = f", partition {record.partition_key}" if record.partition_key else ""
        yield Happened(
            at=datetime.fromtimestamp(event.timestamp, UTC),
            run=short_id(run_of(event)),
            outcome=_published_words(metadata, partition),
            rows=_number(metadata.get("dagster/row_count"), int),
            seconds=_number(metadata.get("seconds"), float),
            by_hand=str(metadata.get("published_by", "")),
        )


def _published_words(metadata: Mapping[str, Any], partition: str) -> str:
    if "published_by" in metadata:
        waived = f"{metadata['checks_waived']} waived" if metadata.get("checks_waived") else "no check waived"
        return f"published by {metadata['published_by']}, {waived}"
    return f"published{partition}" if "dagster/table_name" in metadata else f"reported by hand{partition}"


def _planned(instance: dg.DagsterInstance, key: dg.AssetKey, limit: int) -> Iterator[Happened]:
    planned = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=key)
    with warnings.catch_warnings():
        # Dagster 1.13.27 calls the method deprecated until 2.0, and has no other that returns planned materializations.
        warnings.simplefilter("ignore", DeprecationWarning)
        records = instance.get_event_records(planned, limit=limit)
    if not records:
        # Dagster refuses to look for runs without ids.
        return
    runs = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=[record.run_id for record in records]))}
    for record in records:
        run = runs.get(record.run_id)
        outcome = _ENDED.get(run.status, "the run goes on") if run else "not published: the run is deleted"
        yield Happened(datetime.fromtimestamp(record.timestamp, UTC), short_id(record.run_id), outcome)


def _rolled_back(instance: dg.DagsterInstance, key: dg.AssetKey, limit: int) -> Iterator[Happened]:
    for record in instance.fetch_observations(key, limit=limit).records:
        observation = record.asset_observation
        if observation is not None and "rolled_back_to" in observation.metadata:
            yield Happened(datetime.fromtimestamp(record.timestamp, UTC), "", "rolled back")


def _number(value: Any, kind: type) -> Any:
    return kind(value) if isinstance(value, int | float) else None
