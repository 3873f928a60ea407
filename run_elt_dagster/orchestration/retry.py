"""The command `run-elt retry`: build what a failed run left unpublished, as the page does "From asset failure"."""

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import dagster as dg

from run_elt_dagster.orchestration.selection import matches_nothing
from run_elt_dagster.runs.partitions import latest_materializations

# Runs that are looked through for the one that is meant, by its id or as the newest that failed.
RUNS_READ, FAILED_READ = 500, 20
_UNFINISHED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_EVENTS = {dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION}


@dataclass(frozen=True)
class Retry:
    """What is left of a failed run.

    Attributes:
        run_id: The failed run.
        keys: What it planned and no run has published since, and what reads these; parents first.
        published_since: What another run has published since; it is left out.
        partitions: The first and the last partition that the run left, or was asked for; None of whole tables alone.
    """

    run_id: str
    keys: tuple[dg.AssetKey, ...]
    published_since: tuple[dg.AssetKey, ...] = ()
    partitions: tuple[str, str] | None = None

    def command(self, target: Sequence[str]) -> list[str]:
        """Return the arguments of `dagster` that build it.

        Args:
            target: What names the code location.
        """
        selection = ",".join(key.to_user_string() for key in self.keys)
        part = ["--partition-range", "...".join(self.partitions)] if self.partitions else []
        return ["asset", "materialize", "--select", selection, *part, *target]


def retry_of(instance: dg.DagsterInstance, specs: Sequence[dg.AssetSpec], start: str | None = None) -> Retry:
    """Return what is left of a failed run.

    Args:
        instance: Where the runs are recorded.
        specs: The assets of the code location; assets of other locations are left out.
        start: How the run's id begins; None for the newest failed run with something left.

    Raises:
        ValueError: There is no such run, or it did not fail.
    """
    parents = {spec.key: {dep.asset_key for dep in spec.deps} for spec in specs}
    if start is not None:
        return _left_of(instance, _the_run(instance, start), parents)
    failed = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=FAILED_READ)
    retries = (_left_of(instance, record, parents) for record in failed if not matches_nothing(record.dagster_run))
    for retry in retries:
        if retry.keys:
            return retry
    raise ValueError(
        f"run-elt retry requires a failed run with something left to build, got none among the newest {FAILED_READ}. Nothing was built. "
        "Pass a run's id for an older one."
    )


def _the_run(instance: dg.DagsterInstance, start: str) -> dg.RunRecord:
    exact = instance.get_run_records(dg.RunsFilter(run_ids=[start]))
    found = exact or [
        record for record in instance.get_run_records(limit=RUNS_READ) if record.dagster_run.run_id.startswith(start)
    ]
    if len(found) != 1:
        got = f"{len(found)} of that id" if found else f"none among the newest {RUNS_READ} whose id begins with {start}"
        raise ValueError(f"run-elt retry requires one run, got {got}. Nothing was built. Pass the whole id.")
    run = found[0].dagster_run
    if run.status not in _UNFINISHED:
        raise ValueError(
            f"run-elt retry requires a failed run, got {run.run_id}, {run.status.value}. Nothing was built."
        )
    if matches_nothing(run):
        raise ValueError(
            f"run-elt retry requires a run that selected assets, got {run.run_id}: its selection matched nothing. Nothing was "
            "built. Select the tables with dagster asset materialize."
        )
    return found[0]


def _left_of(
    instance: dg.DagsterInstance, record: dg.RunRecord, parents: Mapping[dg.AssetKey, AbstractSet[dg.AssetKey]]
) -> Retry:
    run = record.dagster_run
    left = {key: parts for key, parts in _unpublished(instance, run.run_id).items() if key in parents}
    started_at = record.start_time or record.create_timestamp.timestamp()
    since = {key for key, parts in left.items() if _is_published_since(instance, key, parts, started_at)}
    todo = left.keys() - since
    # A table that reads a rebuilt one is older than that, even if another run has published it since.
    while more := {key for key in since - todo if parents[key] & todo}:
        todo |= more
    asked = [part for key in todo for part in left[key] if part is not None]
    # Keys sort as their times do. All tables of a run have the same partitions.
    return Retry(
        run.run_id,
        tuple(_parents_first(todo, parents)),
        tuple(sorted(since - todo)),
        (min(asked), max(asked)) if asked else None,
    )


def _unpublished(instance: dg.DagsterInstance, run_id: str) -> dict[dg.AssetKey, list[str | None]]:
    """Return what a run planned and has not published: the partitions of each asset, or None of one that is built whole."""
    planned: dict[dg.AssetKey, dict[str | None, None]] = {}
    for record in instance.get_records_for_run(run_id, of_type=_EVENTS).records:
        event = record.event_log_entry.dagster_event
        if event is None or event.asset_key is None:
            continue
        parts = planned.setdefault(event.asset_key, {})
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            parts[event.partition] = None
        else:
            parts.pop(event.partition, None)
    return {key: list(parts) for key, parts in planned.items() if parts}


def _is_published_since(
    instance: dg.DagsterInstance, key: dg.AssetKey, parts: Sequence[str | None], started_at: float
) -> bool:
    partitions = [part for part in parts if part is not None]
    if not partitions:
        return _published_at(instance, key) > started_at
    latest = latest_materializations(instance, key, partitions)
    return len(latest) == len(partitions) and all(record.timestamp > started_at for record in latest.values())


def _published_at(instance: dg.DagsterInstance, key: dg.AssetKey) -> float:
    event = instance.get_latest_materialization_event(key)
    return event.timestamp if event is not None else 0.0


def _parents_first(
    keys: AbstractSet[dg.AssetKey], parents: Mapping[dg.AssetKey, AbstractSet[dg.AssetKey]]
) -> Iterator[dg.AssetKey]:
    yield from graphlib.TopologicalSorter({key: sorted(parents[key] & keys) for key in sorted(keys)}).static_order()
