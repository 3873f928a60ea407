"""Tables of a half exchanged group that no file declares any more: what a dead run has made of them, by their names alone."""

from collections.abc import Sequence

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_exchange import is_exchanged
from run_elt_dagster.publish.methods import kept_of
from run_elt_dagster.publish.work import TableWork


def stand_in(key: Key) -> AnalyticsTable:
    """Return a table with the name that a file without `identifier` gives it. Nothing builds it."""
    schema, name = key
    return AnalyticsTable.model_validate({"schema": schema, "table": name, "sql": "select 1"})


def as_published(work: TableWork, *, read_at: Marker) -> TableWork:
    """Let a stand-in have the way of publishing that the last look shows, since its file is gone.

    Args:
        work: The stand-in, after a look at the catalogue.
        read_at: The marker of the run.
    """
    work.table = work.table.model_copy(update={"publish": _way(work, read_at)})
    return work


def _way(work: TableWork, read_at: Marker) -> str:
    candidate = work.inventory.at(work.candidate)
    if work.inventory.at(kept_of(work.candidate)) is not None:
        return "clone"
    if candidate is None or candidate.marker != work.marker():
        # It has the rows of before, or its name.
        return "swap"
    created, began = work.existing.created_at if work.existing is not None else None, read_at.read_at
    is_new = created is not None and began is not None and created >= began
    return "clone" if is_new else "overwrite"


def is_found(work: TableWork) -> bool:
    """Return whether anything stands under the names of a stand-in."""
    return work.standing is not None or any(
        work.inventory.at(each) is not None for each in (work.candidate, kept_of(work.candidate))
    )


def told_of(works: Sequence[TableWork]) -> str:
    """Return what readers see of stand-ins, by the last look, in sentences; empty without one."""
    if not works:
        return ""
    new = [work.table.name for work in works if is_exchanged(work)]
    unknown = [work.table.name for work in works if not is_found(work)]
    others = [work.table.name for work in works if work.table.name not in (*new, *unknown)]
    run = works[0].run.run_id
    return " ".join(
        filter(
            None,
            (
                f"No file declares {', '.join(new)} any more: readers see the rows of run {run} there." if new else "",
                f"No file declares {', '.join(others)} any more: readers see there what they saw before."
                if others
                else "",
                f"No file declares {', '.join(unknown)} any more, and nothing has that name in Snowflake. Look for tables whose comment "
                f"names run {run}."
                if unknown
                else "",
            ),
        )
    )
