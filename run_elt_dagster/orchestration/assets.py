"""The assets that Dagster sees: one for every table, in one op that builds them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.model.column_lineage import ColumnLineage
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.orchestration.jobs import condition_of
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.rebuild import OP_NAME, Building
from run_elt_dagster.orchestration.specs import NO_LINKS, asset_specs, check_spec
from run_elt_dagster.runs.code_location import Place
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY, needs_snowflake
from run_elt_dagster.snowflake.resource import Snowflake


def analytics_assets(
    tables: Catalogue,
    options: PublishOptions,
    *,
    links: Links = NO_LINKS,
    columns: ColumnLineage | None = None,
    woken: Mapping[Key, Collection[Key]] | None = None,
    name: str = OP_NAME,
    group: str | None = None,
    resource: str = SNOWFLAKE_KEY,
    place: Place | None = None,
) -> dg.AssetsDefinition:
    """Return one asset for every table, with its checks, and one for every broken file; any selection of them runs as one step.

    Args:
        tables: The declared tables. Broken files are assets too: a run that selects one, or a table that reads it, fails.
        options: How they are built and published.
        links: Where the links of their pages lead.
        columns: Where their columns come from, None to read it off their SQL in each process.
        woken: The tables that are built again when others were, by the daemon, and the others.
        name: Of the op.
        group: Group of the assets, None for the schema of each table.
        resource: Key of the resource of Snowflake.
        place: What the code location builds, and where; None for what the environment says.
    """
    lineage = columns or ColumnLineage(tables)
    conditions = {
        key: condition_of(map(tables.asset_path, wakers), in_parts=tables[key].partitions is not None)
        for key, wakers in (woken or {}).items()
    }

    @dg.multi_asset(
        name=name,
        specs=asset_specs(tables, links=links, conditions=conditions, group=group),
        check_specs=[check_spec(tables[key], audit) for key in tables for audit in audits_of(tables[key])],
        can_subset=True,
        # One run for a range of partitions, on the page and on the command line. Dagster refuses a range of the command line if one
        # selected asset has no such policy, one that is built whole too.
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Builds each table as a candidate, audits it, and publishes it in one atomic exchange.",
    )
    @needs_snowflake(resource)
    def run_ctas(
        context: dg.AssetExecutionContext, config: Building, snowflake: Snowflake
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        # With all of publish/: only a run needs it.
        from run_elt_dagster.orchestration.step import Step, run_step  # noqa: PLC0415

        yield from run_step(Step(name, tables, options, links, lineage, place), context, config, snowflake)

    return run_ctas
