"""What others let wait for a table in the same run: their assets, their checks, and tables behind these."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.specs import source_assets
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.table_run import TableRun
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text

A, B = dg.AssetKey(["analytics", "a"]), dg.AssetKey(["analytics", "b"])
FAILS = "select * from raw_data.nowhere"


def materialize(project: DagsterProject, *others: Any, selection: Any = None) -> dg.ExecuteInProcessResult:
    tables = load_tables(project.directory / "tables")
    ours = [analytics_assets(tables, PublishOptions(max_concurrent_tables=4, creates_schemas=True))]
    own = {key for other in others for key in getattr(other, "keys", ())}
    sources = [spec for spec in source_assets(tables) if spec.key not in own]
    return dg.materialize(
        [*ours, *sources, *others],
        selection=selection,
        instance=project.instance,
        resources={"snowflake": project.resource},
        raise_on_error=False,
    )


def steps(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> set[str]:
    return {str(event.step_key) for event in result.all_events if event.event_type is kind}


def superseded_by(run_id: str) -> Callable[..., TableOutcome]:
    """Let a table end as it does when a newer run has published it, which takes two runs and a pause to happen."""
    run = TableRun.run

    def ended(self: TableRun, *args: Any) -> TableOutcome:
        return dataclasses.replace(run(self, *args), superseded_by=run_id)

    return ended


def ran(result: dg.ExecuteInProcessResult) -> set[str]:
    return steps(result, dg.DagsterEventType.STEP_SUCCESS)


@dg.asset(deps=[A])
def report() -> None: ...


@dg.asset(deps=[B])
def report_of_b() -> None: ...


@dg.asset_check(asset=A)
def looked_at() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.multi_asset(specs=[dg.AssetSpec("one", deps=[A]), dg.AssetSpec("two", deps=[B])])
def several() -> Iterator[dg.MaterializeResult[Any]]:
    yield from (dg.MaterializeResult("one"), dg.MaterializeResult("two"))


@dg.op(ins={"start": dg.In(dg.Nothing)})
def first() -> int:
    return 1


@dg.op
def second(number: int) -> int:
    return number


@dg.graph_asset(ins={"start": dg.AssetIn(A, dagster_type=dg.Nothing)})
def graphed(start: Any) -> Any:
    return second(first(start))


def test_what_waits_for_a_table_runs_when_it_is_published(
    project: DagsterProject, caplog: pytest.LogCaptureFixture
) -> None:
    project.declare(a="select 1 as n", b="select n from analytics.a")
    result = materialize(project, report, report_of_b, looked_at, several, graphed)
    assert result.success
    expected = {
        "run_ctas",
        "report",
        "report_of_b",
        "analytics__a_looked_at",
        "several",
        "graphed.first",
        "graphed.second",
    }
    assert ran(result) == expected
    assert steps(result, dg.DagsterEventType.STEP_SKIPPED) == set()
    # Dagster says so of a blocking check that is no output of the op.
    assert "without gating" not in caplog.text
    evaluations = {(e.asset_key, e.check_name): e for e in result.get_asset_check_evaluations()}
    assert set(evaluations) == {(A, "row_count"), (B, "row_count"), (A, "looked_at")}
    target = evaluations[A, "row_count"].target_materialization_data
    assert target is not None
    assert target.run_id == result.run_id


def test_table_that_a_newer_run_publishes_releases_what_waits_for_it(
    project: DagsterProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see the newer rows, so that its children are built, and others' assets run."""
    project.declare(a="select 1 as n", b="select n from analytics.a")
    newer = materialize(project)
    monkeypatch.setattr(TableRun, "run", superseded_by(newer.run_id))
    result = materialize(project, report)
    assert result.success
    assert "report" in ran(result)
    event = next(e for e in result.get_asset_materialization_events() if e.asset_key == A)
    assert (event.materialization.tags or {})["dagster/data_version"] == "INITIAL"
    assert project.materialized(result)["a"] == {**project.materialized(newer)["a"], "published_by": newer.run_id}


def test_fault_of_our_own_in_a_thread_ends_the_run(project: DagsterProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """No outcome comes from that thread, and a run that waits for one calls nobody."""

    def ends_without_an_outcome(*_: Any) -> TableOutcome:
        raise LookupError("nobody expected this")

    project.declare(a="select 1 as n", b="select n from analytics.a")
    monkeypatch.setattr(TableRun, "run", ends_without_an_outcome)
    result = materialize(project, report)
    assert not result.success
    assert "nobody expected this" in failure_text(result)
    assert ran(result) == set()


def test_what_waits_for_a_table_does_not_run_when_it_is_not_published(project: DagsterProject) -> None:
    project.declare(a="select 1 as n where false", b="select 1 as n")
    result = materialize(project, report, looked_at)
    assert not result.success
    assert "check row_count found 0 rows" in failure_text(result)
    assert ran(result) == set()
    assert set(project.materialized(result)) == {"b"}


def test_what_waits_for_a_published_table_is_named_when_another_one_fails(project: DagsterProject) -> None:
    """Dagster starts nothing behind an op that failed."""
    project.declare(a="select 1 as n", b=FAILS)
    result = materialize(project, report, looked_at, graphed)
    assert not result.success
    assert set(project.materialized(result)) == {"a"}
    assert ran(result) == set()
    lines = [entry.user_message for entry in project.instance.all_logs(result.run_id) if entry.level == 30]
    assert [line.partition(" waited for")[0] for line in lines if " waited for" in line] == [
        "analytics__a_looked_at, graphed, report"
    ]


def test_asset_of_somebody_else_between_two_tables_runs_between_them(project: DagsterProject) -> None:
    """Dagster splits the op in two there, and the second part waits for the first."""
    ran_between: list[set[str]] = []

    @dg.asset(key=["raw_data", "scored"], deps=[A])
    def scored() -> None:
        project.sql("create or replace table raw_data.scored as select n + 1 as n from analytics.a")
        ran_between.append(project.tables())

    project.declare(a="select 1 as n", b="select s.n from raw_data.scored s join analytics.a on true")
    result = materialize(project, scored, report_of_b)
    assert result.success, failure_text(result)
    assert ran_between == [{"A"}]
    assert ran(result) == {"run_ctas", "raw_data__scored", "run_ctas_2", "report_of_b"}
    assert project.sql("select n from analytics.b") == [(2,)]


def test_only_awaited_tables_cost_more_events(project: DagsterProject) -> None:
    project.declare(a="select 1 as n", b="select n from analytics.a", c="select n from analytics.b")
    result = materialize(project, report_of_b)
    outputs = [e.step_output_data.output_name for e in result.all_events if e.is_successful_output]
    assert [name for name in outputs if name.startswith("analytics")] == ["analytics__b", "analytics__b_row_count"]
    kinds = Counter(e.event_type for e in result.all_events)
    assert kinds[dg.DagsterEventType.ASSET_MATERIALIZATION] == 4


def test_awaited_table_is_recorded_as_any_other(project: DagsterProject) -> None:
    """By the same versions, too: otherwise its readers were out of date after some runs, and not after others."""
    project.sql("create table raw_data.source as select 1 as n")
    project.declare(c="select n from raw_data.source", a="select n from analytics.c join raw_data.source using (n)")
    alone, awaited = materialize(project), materialize(project, report)
    of_alone, of_awaited = [
        next(e.materialization.tags or {} for e in result.get_asset_materialization_events() if e.asset_key == A)
        for result in (alone, awaited)
    ]
    versions = {name: value for name, value in of_awaited.items() if "version" in name}
    assert versions.pop("dagster/data_version") == "INITIAL"
    assert versions.pop("dagster/data_version_is_user_provided") == "true"
    assert versions == {name: value for name, value in of_alone.items() if "version" in name}
    assert sorted(name for name in versions if "input" in name) == [
        "dagster/input_data_version/analytics/c",
        "dagster/input_data_version/raw_data/source",
    ]
    assert set(project.materialized(awaited)["a"]) == set(project.materialized(alone)["a"])


@pytest.mark.parametrize("selected", [["analytics/a"], ["analytics/a", "analytics/b"]])
def test_asset_that_was_not_selected_does_not_make_a_table_awaited(
    project: DagsterProject, selected: list[str]
) -> None:
    project.declare(a="select 1 as n", b="select n from analytics.a")
    result = materialize(project, report, selection=dg.AssetSelection.assets(*selected))
    assert result.success
    assert [e for e in result.all_events if e.is_successful_output] == []
