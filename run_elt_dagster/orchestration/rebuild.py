"""Building a table with increments whole again: how a run is asked for it, and what it would take."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
from pydantic import Field

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import built_version, code_version

if TYPE_CHECKING:
    # Loading the code location does without what only a command needs.
    from run_elt_dagster.publish.planned import PlannedStatement

# The op that builds all tables.
OP_NAME = "run_ctas"
# Materializations that are looked through for the last whole build.
RECORDS_READ = 1000


class Building(dg.Config):
    """How a run builds its tables."""

    rebuild: list[str] = Field(
        default=[],
        description="The tables with increments that are built whole, as schema.table. The run has to select them.",
    )


class RebuildError(ValueError):
    """A run that names a table which it cannot rebuild.

    Attributes:
        summary: That in words.
        reason: The same as a fact.
    """

    summary: ClassVar[str] = "The run cannot rebuild what it names"
    reason: ClassVar[Reason] = Reason.REBUILD


def rebuilt(building: Building, tables: Catalogue, selected: Sequence[Key]) -> frozenset[Key]:
    """Return the tables that a run builds whole, though they have increments.

    Raises:
        RebuildError: A name is none of a selected table with increments.
    """
    able = {tables[key].name: key for key in selected if tables[key].increment is not None}
    wanted = [name.lower().replace("/", ".") for name in building.rebuild]
    if others := [name for name in wanted if name not in able]:
        raise RebuildError(
            f"rebuild requires tables with increments that the run selects, got {', '.join(others)}. Select them, or take them out of the "
            "run's config."
        )
    return frozenset(able[name] for name in wanted)


@dataclass(frozen=True)
class RebuildPlan:
    """What a rebuild of a table would take.

    Attributes:
        table: The table.
        statements: What a run would send, in order.
        rows: Rows that readers see now; None where there is no table.
        last_whole_at: When it was built whole last, aware, UTC; None where Dagster's history does not say.
        last_seconds: How long that took.
        is_outdated: Whether its file has changed since; None where Dagster's history does not say.
        others: The keys of the assets of the other tables of its group: a run builds all of them.
    """

    table: AnalyticsTable
    statements: "Sequence[PlannedStatement]"
    rows: int | None
    last_whole_at: datetime | None
    last_seconds: float | None
    is_outdated: bool | None
    others: tuple[tuple[str, ...], ...] = ()

    def command(self, target: Sequence[str], *, folder: str = "") -> list[str]:
        """Return the arguments of `dagster` that rebuild it.

        Args:
            target: What names its code location.
            folder: Name of its folder, which its op is named after.
        """
        config = {"ops": {op_name(folder): {"config": {"rebuild": [self.table.name]}}}}
        select = " or ".join(f'key:"{"/".join(path)}"' for path in (self.table.asset_path, *self.others))
        select = select if self.others else "/".join(self.table.asset_path)
        return [
            "asset",
            "materialize",
            "--select",
            select,
            "--config-json",
            json.dumps(config),
            *target,
        ]


def op_name(folder: str) -> str:
    """Return the name of the op of a folder."""
    return f"{folder}_{OP_NAME}" if folder else OP_NAME


def require_increment(table: AnalyticsTable, target: Sequence[str]) -> None:
    """Require a table that a rebuild is of use for.

    Args:
        table: The table.
        target: What names its code location in commands of Dagster.

    Raises:
        ValueError: It is built by partitions, or whole anyway. The text says what to do in place of a rebuild.
    """
    if table.increment is not None:
        return
    select, place = f"dagster asset materialize --select {'/'.join(table.asset_path)}", shlex.join(target)
    if table.partitions is None:
        raise ValueError(
            f"run-elt rebuild requires a table with increments, got {table.name}: each run builds it whole. Nothing was built. Run "
            f"{select} {place}"
        )
    partitions = table.partitions.partitions(datetime.now(UTC))
    keys = f"{partitions[0].key}...{partitions[-1].key}" if partitions else "FIRST...LAST"
    raise ValueError(
        f"run-elt rebuild requires a table with increments, got {table.name} with partitions. Nothing was built. Run "
        f"{select} --partition-range {keys} {place}, or start a backfill on its page."
    )


def plan_of(
    instance: dg.DagsterInstance, table: AnalyticsTable, statements: "Sequence[PlannedStatement]", *, rows: int | None
) -> RebuildPlan:
    """Return what a rebuild would take, by Dagster's history."""
    key = dg.AssetKey(list(table.asset_path))
    built = built_version(instance, key)
    last = _last_whole(instance, key)
    return RebuildPlan(
        table,
        statements,
        rows,
        last_whole_at=datetime.fromtimestamp(last[0], UTC) if last else None,
        last_seconds=last[1] if last else None,
        is_outdated=None if built is None else built != code_version(table),
    )


def _last_whole(instance: dg.DagsterInstance, key: dg.AssetKey) -> tuple[float, float | None] | None:
    """Return when the table was built whole last, and how many seconds that took."""
    for record in instance.fetch_materializations(key, limit=RECORDS_READ).records:
        metadata = record.asset_materialization.metadata if record.asset_materialization is not None else {}
        if is_whole(metadata):
            seconds = metadata["seconds"].value if "seconds" in metadata else None
            return record.timestamp, float(seconds) if isinstance(seconds, (int, float)) else None
    return None


def is_whole(metadata: Mapping[str, Any]) -> bool:
    """Return whether a materialization is of a whole build, by its metadata: those of a person say nothing of it."""
    return "candidate" in metadata and "increment_start" not in metadata
