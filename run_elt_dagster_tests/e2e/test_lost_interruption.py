"""A signal that comes up in a finalizer, from which Python lets no exception out, ends the run all the same."""

import dagster as dg
import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir

# The first interruption falls into a finalizer, before the query that would go on for hours begins.
LOCATION = """
import signal
from contextlib import contextmanager

import dagster as dg

from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.model.table import AnalyticsTable

ENDLESS = '''
with n as (select seq4() as n from table(generator(rowcount => 1000000)))
select count(*) as n from n as a, n as b, n as c where a.n + b.n = c.n
'''


class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class Interrupted(Snowflake):
    @contextmanager
    def session(self, **options):
        with super().session(**options) as session:
            Finalized()
            yield session


table = AnalyticsTable.model_validate({"schema": "analytics", "table": "endless", "sql": ENDLESS})
defs = dg.Definitions(
    assets=[analytics_assets(catalogue([table]), PublishOptions(max_concurrent_tables=1, creates_schemas=True))],
    resources={"snowflake": Interrupted(sample_data=False, statement_timeout_seconds=90)},
    executor=dg.in_process_executor,
)
"""


@pytest.mark.thorough
def test_interruption_that_falls_into_a_finalizer_ends_the_run_as_cancelled(
    deployment_dir: DeploymentDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deployment_dir.directory / "location.py").write_text(LOCATION, encoding="utf-8")
    run = deployment_dir.run("dagster", "asset", "materialize", "--select", "*", "-f", "location.py")
    assert run.returncode == 1, run.stderr
    assert "is published" not in run.stderr
    monkeypatch.chdir(deployment_dir.directory)
    monkeypatch.setenv("DAGSTER_HOME", str(deployment_dir.directory))
    with dg.DagsterInstance.get() as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]
