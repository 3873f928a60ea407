"""What Dagster records of column lineage with a materialization."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import dagster as dg

from run_elt_dagster.model.column_lineage import ColumnLineage
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Key, key_of, key_part
from run_elt_dagster.model.origins import Origin, Unknown
from run_elt_dagster.orchestration.specs import asset_key

# Every materialization is kept: a table wider than this is shown by `run-elt lineage` alone.
MOST_COLUMNS = 500
_NAMES_SHOWN = 10
# Dagster keeps all events of a run in memory until it ends: what is alike in many of them is one object.
_SHARED = 10_000


def column_metadata(
    lineage: ColumnLineage,
    key: Key,
    *,
    built: Sequence[str] = (),
    warn: Callable[[str], None],
    asset_path: Callable[[Key], Key] = lambda key: key,
) -> Mapping[str, Any]:
    """Return `dagster/column_lineage` with the columns whose origin is known, and a table in Markdown with all of them.

    Dagster's UI shows the first nowhere; OpenLineage's integration reads it. A column that comes from no column has no
    dependencies. Nothing is returned if the lineage cannot be worked out: the table is published, and its record must not be lost.

    https://docs.dagster.io/guides/build/assets/metadata-and-tags/column-level-lineage

    Args:
        lineage: Where columns come from, by the files.
        key: The table.
        built: Stored names of the columns that it has now; empty if they are not known. Where the files give other ones, one of
            the tables that it reads is not as its file says, and the lineage would be wrong.
        warn: Called where the lineage cannot be worked out.
        asset_path: Returns the key of the asset of a table.
    """
    name = ".".join(key)
    try:
        if difference := _difference(lineage.of(key).names, built):
            return {"column_lineage": f"unknown: {difference}"}
        columns, missing = lineage.shown(key), lineage.unnamed(key)
        if len(columns) > MOST_COLUMNS:
            return {
                "column_lineage": f"{counted(len(columns), 'columns')}: run-elt lineage {name} shows where they come from"
            }
        dependencies = {
            key_part(column): [_dependency(asset_path(ref.table), ref.column) for ref in sorted(origin)]
            for column, origin in columns
            if not isinstance(origin, Unknown)
        }
        shown = _markdown(columns, missing)
    except Exception as error:  # noqa: BLE001 - whatever it is, the table is published and has to be recorded
        warn(
            f"The column lineage of {name} cannot be worked out, got {type(error).__name__}. The table is published, and recorded "
            "without it. Report this with the table's SQL."
        )
        return {}
    # Without any column, OpenLineage would take the table for one that reads nothing.
    known = {"dagster/column_lineage": dg.TableColumnLineage(dependencies)} if dependencies else {}
    return {**known, "column_lineage": shown}


@lru_cache(_SHARED)
def _dependency(path: Key, column: str) -> dg.TableColumnDep:
    return dg.TableColumnDep(_asset(path), key_part(column))


@lru_cache(_SHARED)
def _asset(path: Key) -> dg.AssetKey:
    return dg.AssetKey(asset_key(path))


def _difference(expected: Sequence[str] | None, built: Sequence[str]) -> str:
    """Return how the columns differ that the files give and that the table has, in words; empty if they do not."""
    if expected is None or not built or set(expected) == set(built):
        return ""
    more, fewer = _listed(set(built).difference(expected)), _listed(set(expected).difference(built))
    parts = [f"{what} {names}" for what, names in (("more:", more), ("missing:", fewer)) if names]
    return (
        f"the table has other columns than the files give ({'; '.join(parts)}). A table that it reads differs from its file or from "
        "its observation. Materialize that table, or observe the sources, and materialize this one again"
    )


def _listed(names: Iterable[str]) -> str:
    shown = key_of(sorted(names))
    more = f" and {len(shown) - _NAMES_SHOWN} more" if len(shown) > _NAMES_SHOWN else ""
    return ", ".join(shown[:_NAMES_SHOWN]) + more


def _markdown(columns: Sequence[tuple[str, Origin]], missing: Sequence[str]) -> dg.MarkdownMetadataValue:
    cells = [(key_part(name), _text(origin)) for name, origin in columns]
    cells += [("*other columns*", f"unknown, because {reason}") for reason in missing]
    lines = [f"| {_cell(name)} | {_cell(text)} |" for name, text in cells]
    return dg.MetadataValue.md("\n".join(["| column | comes from |", "| --- | --- |", *lines]))


def _text(origin: Origin) -> str:
    if isinstance(origin, Unknown):
        return f"unknown, because {origin.reason}"
    return ", ".join(map(str, sorted(origin))) or "no column"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
