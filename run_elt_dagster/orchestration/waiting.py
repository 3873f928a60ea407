"""What waits in a run for the tables of this project: assets, asset checks and other ops of other projects."""

from collections.abc import Collection, Iterator

import dagster as dg


def awaited_tables(context: dg.AssetExecutionContext) -> set[dg.AssetKey]:
    """Return the tables of this op that another op of the same run waits for.

    The other one may be this op again: Dagster splits it if an asset of another project stands between two tables.
    """
    outputs = {output for _, _, output in _waits(context)}
    return {key for key in context.selected_asset_keys if outputs and context.output_for_asset_key(key) in outputs}


def ops_behind(context: dg.AssetExecutionContext, tables: Collection[dg.AssetKey]) -> list[str]:
    """Return the ops of the run that wait for these tables of this op, directly or not, sorted."""
    outputs = {context.output_for_asset_key(key) for key in tables}
    waits = list(_waits(context))
    behind = {name for name, _, output in waits if output in outputs}
    while more := {name for name, source, _ in waits if source in behind} - behind:
        behind |= more
    return sorted(behind)


def _waits(context: dg.AssetExecutionContext) -> Iterator[tuple[str, str, str]]:
    """Yield an op, an op that it waits for, and the output that it waits for."""
    for node, inputs in context.job_def.dependencies.items():
        for wanted in inputs.values():
            for source in wanted.get_node_dependencies():
                yield node.alias or node.name, source.node, source.output
