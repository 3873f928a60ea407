"""A run of Dagster in a process that can be killed: the op, its log and its events, as the command line has them."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake

JOB = "RunELT_Alert"


def run_in_dagster(
    account: Mapping[str, Any], history: Path, tables: Sequence[AnalyticsTable], run_id: str, log: Path
) -> None:
    """Run tables, and end the process: 0 if all were published, 1 if not.

    Args:
        account: Fields of the resource.
        history: Folder of Dagster's instance.
        tables: What is declared.
        run_id: Dagster's id of the run.
        log: Where what is printed goes.
    """
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As Dagster's commands do.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    definitions = dg.Definitions(
        assets=[analytics_assets(catalogue(tables), PublishOptions(max_concurrent_tables=2, creates_schemas=True))],
        jobs=[dg.define_asset_job(JOB, selection="*")],
        resources={"snowflake": Snowflake(**account)},
    )
    with dg.DagsterInstance.local_temp(str(history)) as instance:
        job = definitions.resolve_job_def(JOB)
        result = job.execute_in_process(instance=instance, raise_on_error=False, run_id=run_id)
    raise SystemExit(not result.success)
