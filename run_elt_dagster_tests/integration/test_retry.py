"""What `run-elt retry` builds: what a failed run left, and nothing else."""

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.retry import Retry, retry_of
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import cases

FAILS = "select n / 0 as n from analytics.good"


@pytest.fixture
def failed(project: DagsterProject) -> str:
    """A run in which one table fails, two are skipped because of it, and two are published."""
    project.declare(
        good="select 1 as n",
        other="select 1 as n",
        bad=FAILS,
        child="select n from analytics.bad join analytics.other using (n)",
        grandchild="select n from analytics.child",
    )
    result = project.materialize()
    assert not result.success
    return result.run_id


def retry(project: DagsterProject, run_id: str | None = None) -> Retry:
    assets = analytics_assets(
        load_tables(project.directory / "tables"), PublishOptions(max_concurrent_tables=4, creates_schemas=True)
    )
    return retry_of(project.instance, list(assets.specs), run_id)


def names(keys: tuple[dg.AssetKey, ...]) -> list[str]:
    return [key.path[-1] for key in keys]


@pytest.mark.parametrize("length", cases((8, 36, None), usual=[8]))
def test_retry_builds_the_failed_tables_and_those_skipped_because_of_them(
    project: DagsterProject, failed: str, length: int | None
) -> None:
    found = retry(project, failed[:length] if length else None)
    assert (found.run_id, names(found.keys), found.published_since) == (failed, ["bad", "child", "grandchild"], ())
    assert found.command(("-m", "shop"))[3] == "analytics/bad,analytics/child,analytics/grandchild"


def test_retry_leaves_out_what_is_published_since(project: DagsterProject, failed: str) -> None:
    project.declare(bad="select 1 as n")
    assert project.materialize("bad").success
    found = retry(project)
    assert (names(found.keys), names(found.published_since)) == (["child", "grandchild"], ["bad"])


@pytest.mark.thorough
def test_retry_builds_what_was_published_since_from_a_table_that_is_built_again(
    project: DagsterProject, failed: str
) -> None:
    project.sql("create table analytics.child as select 1 as n")
    assert project.materialize("grandchild").success
    found = retry(project)
    assert (names(found.keys), names(found.published_since)) == (["bad", "child", "grandchild"], [])


def test_retry_takes_the_newest_failed_run_with_something_left(project: DagsterProject, failed: str) -> None:
    project.declare(other=FAILS)
    last = project.materialize("other").run_id
    assert (retry(project).run_id, names(retry(project).keys)) == (last, ["other"])
    project.declare(other="select 1 as n")
    assert project.materialize("other").success
    assert retry(project).run_id == failed
    project.declare(bad="select 1 as n")
    assert project.materialize("bad", "child", "grandchild").success
    with pytest.raises(ValueError, match="with something left to build, got none"):
        retry(project)


def test_retry_refuses_when_nothing_is_left(project: DagsterProject) -> None:
    project.declare(good="select 1 as n")
    succeeded = project.materialize().run_id
    with pytest.raises(ValueError, match="got none among the newest"):
        retry(project)
    with pytest.raises(ValueError, match=f"requires a failed run, got {succeeded}, SUCCESS"):
        retry(project, succeeded)
    with pytest.raises(ValueError, match="whose id begins with zzz"):
        retry(project, "zzz")


def test_retry_leaves_out_a_refused_run(project: DagsterProject, failed: str) -> None:
    """It planned every table, and nobody had asked for one."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", run_id="11111111-refused", status=dg.DagsterRunStatus.FAILURE)
    project.instance.add_run(run)
    assert retry(project).run_id == failed
    with pytest.raises(ValueError, match="its selection matched nothing"):
        retry(project, "11111111")
