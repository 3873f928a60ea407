"""Which tables declare how old their rows may be, and what builds them."""

from collections.abc import Sequence

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.orchestration.jobs import TableJob
from run_elt_dagster.orchestration.specs import asset_key
from run_elt_dagster.runs.freshness import Watched


def watched_tables(tables: Catalogue, jobs: Sequence[TableJob], *, has_schedule: bool = True) -> tuple[Watched, ...]:
    """Return the tables with `fresh_within`.

    Args:
        tables: The declared tables.
        jobs: The jobs that build them.
        has_schedule: Whether the job of all tables has a schedule.
    """
    schedules = {
        key: job.schedule for job in jobs for key in (*job.whole, *job.partitions) if has_schedule or not job.is_main
    }
    return tuple(
        Watched(
            ".".join(asset_key(tables.asset_path(key))),
            table.fresh_within,
            table.partitions,
            schedules.get(key),
            tuple(".".join(asset_key(tables.asset_path(parent))) for parent in tables.parents(key)),
            table.mentioned,
        )
        for key, table in tables.items()
        if table.fresh_within is not None
    )
