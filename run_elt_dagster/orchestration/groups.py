"""Groups of tables in a run: all of their tables are selected, and what Dagster records of a table that was held back."""

from collections.abc import Collection, Sequence
from typing import ClassVar

import dagster as dg

from run_elt_dagster.model.groups import left_out
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.orchestration.specs import asset_key
from run_elt_dagster.publish.outcome import TableOutcome

_NAMES_SHOWN = 10


class IncompleteGroupError(ValueError):
    """A run that selects some tables of a group and not the others.

    Attributes:
        summary: That in words.
        reason: The same as a fact.
    """

    summary: ClassVar[str] = "The run selects a part of a group"
    reason: ClassVar[Reason] = Reason.GROUP_INCOMPLETE


def whole_groups(tables: Catalogue, selected: Sequence[Key]) -> Sequence[Key]:
    """Return the tables of a run that lets readers see no part of a group change.

    Raises:
        IncompleteGroupError: It selects some tables of a group without the others.
    """
    for name, missing in left_out(tables, selected).items():
        names = ", ".join(".".join(key) for key in missing[:_NAMES_SHOWN])
        more = f" and {len(missing) - _NAMES_SHOWN:,} more" if len(missing) > _NAMES_SHOWN else ""
        keys = [key for key in tables if tables[key].publish_group == name]
        selection = " or ".join(f'key:"{"/".join(asset_key(tables.asset_path(key)))}"' for key in keys[:_NAMES_SHOWN])
        raise IncompleteGroupError(
            f"a run requires all tables of publish_group {name}, got it without {names}{more}. Readers would see rows of two runs. "
            f"Select the others too, as in {selection}."
        )
    return selected


def held_back_observation(
    outcome: TableOutcome, path: Sequence[str], *, broken: Collection[Key]
) -> dg.AssetObservation:
    """Return what the page of a table shows of a run that has held it back with its group."""
    because = ", ".join(names_of(outcome.held_back_by, broken))
    seen = outcome.production.words if outcome.production else ""
    return dg.AssetObservation(
        list(path),
        description=f"Held back with publish_group {outcome.table.publish_group}, because of {because}. {seen}",
        metadata={
            "held_back_by": because,
            "publish_group": outcome.table.publish_group or "",
            "candidate": str(outcome.candidate),
            "rows_of_candidate": outcome.row_count,
        },
    )


def names_of(keys: Sequence[Key], broken: Collection[Key]) -> list[str]:
    """Return failed tables and broken files as a message names them."""
    return [".".join(asset_key(key)) if key in broken else ".".join(key) for key in keys]
