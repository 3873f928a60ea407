"""What `run-elt retry` builds: what a failed run left, and nothing else."""

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.retry import Retry, retry_of
from run_elt_dagster_tests.integration.house import House

FAILS = "select n / 0 as n from analytics.good"


@pytest.fixture
def failed(house: House) -> str:
    """A run in which one table fails, two are skipped because of it, and two are published."""
    house.declare(
        good="select 1 as n",
        other="select 1 as n",
        bad=FAILS,
        child="select n from analytics.bad join analytics.other using (n)",
        grandchild="select n from analytics.child",
    )
    result = house.materialize()
    assert not result.success
    return result.run_id


def retry(house: House, run_id: str | None = None) -> Retry:
    assets = analytics_assets(load_tables(house.directory / "tables"), max_concurrent_tables=4)
    return retry_of(house.instance, list(assets.specs), run_id)


def names(keys: tuple[dg.AssetKey, ...]) -> list[str]:
    return [key.path[-1] for key in keys]


@pytest.mark.parametrize("length", [8, 36, None])
def test_retry_builds_the_failed_tables_and_those_skipped_because_of_them(
    house: House, failed: str, length: int | None
) -> None:
    found = retry(house, failed[:length] if length else None)
    assert (found.run_id, names(found.keys), found.published_since) == (failed, ["bad", "child", "grandchild"], ())
    assert found.command[3] == "analytics/bad,analytics/child,analytics/grandchild"


def test_retry_leaves_out_what_is_published_since(house: House, failed: str) -> None:
    house.declare(bad="select 1 as n")
    assert house.materialize("bad").success
    found = retry(house)
    assert (names(found.keys), names(found.published_since)) == (["child", "grandchild"], ["bad"])


def test_retry_builds_what_was_published_since_from_a_table_that_is_built_again(house: House, failed: str) -> None:
    house.sql("create table analytics.child as select 1 as n")
    assert house.materialize("grandchild").success
    found = retry(house)
    assert (names(found.keys), names(found.published_since)) == (["bad", "child", "grandchild"], [])


def test_retry_takes_the_newest_failed_run_with_something_left(house: House, failed: str) -> None:
    house.declare(other=FAILS)
    last = house.materialize("other").run_id
    assert (retry(house).run_id, names(retry(house).keys)) == (last, ["other"])
    house.declare(other="select 1 as n")
    assert house.materialize("other").success
    assert retry(house).run_id == failed


def test_retry_refuses_when_nothing_is_left(house: House) -> None:
    house.declare(good="select 1 as n")
    succeeded = house.materialize().run_id
    with pytest.raises(ValueError, match="got none among the newest"):
        retry(house)
    with pytest.raises(ValueError, match=f"requires a failed run, got {succeeded}, SUCCESS"):
        retry(house, succeeded)
    with pytest.raises(ValueError, match="whose id begins with zzz"):
        retry(house, "zzz")


def test_retry_leaves_out_a_refused_run(house: House, failed: str) -> None:
    """It planned every table, and nobody had asked for one."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", run_id="11111111-refused", status=dg.DagsterRunStatus.FAILURE)
    house.instance.add_run(run)
    assert retry(house).run_id == failed
    with pytest.raises(ValueError, match="its selection matched nothing"):
        retry(house, "11111111")
