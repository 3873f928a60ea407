"""How Dagster records a run that is interrupted, as by Ctrl-C on the command line."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake


class InterruptedSnowflake(Snowflake):
    """A resource during whose session the process is told to end."""

    @contextmanager
    def session(self, **_: Any) -> Generator[Any]:
        raise ERROR[0]
        yield


ERROR: list[BaseException] = [KeyboardInterrupt()]


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), dg.DagsterRunStatus.CANCELED), (RuntimeError("refused"), dg.DagsterRunStatus.FAILURE)],
)
def test_interrupted_run_ends_as_cancelled_and_a_failed_one_as_failed(
    error: BaseException, status: dg.DagsterRunStatus
) -> None:
    ERROR[0] = error
    tables = catalogue([AnalyticsTable.model_validate({"schema": "a", "table": "t", "sql": "select 1 as n"})])
    definitions = dg.Definitions(
        assets=[analytics_assets(tables, PublishOptions(max_concurrent_tables=1, creates_schemas=True))],
        jobs=[dg.define_asset_job("job", selection="*")],
        resources={"snowflake": InterruptedSnowflake()},
        executor=dg.in_process_executor,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def("job").execute_in_process(instance=instance, raise_on_error=False)
        (run,) = instance.get_runs()
        assert run.status is status
