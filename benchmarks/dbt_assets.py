"""dagster-dbt as its documentation shows it: https://docs.dagster.io/integrations/libraries/dbt.

The executor is the faster one of the two that Dagster has without a deployment: the default one starts a second process.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

project = DbtProject(project_dir=Path(os.environ["BENCH_DBT_PROJECT"]))


@dbt_assets(manifest=project.manifest_path)
def bench(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """Build and test every model."""
    yield from dbt.cli(["build"], context=context).stream()


defs = dg.Definitions(
    assets=[bench], resources={"dbt": DbtCliResource(project_dir=project)}, executor=dg.in_process_executor
)
