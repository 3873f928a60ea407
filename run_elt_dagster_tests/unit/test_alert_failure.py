"""From runs as Dagster records them to the facts of an alert."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.failure import RunFailure
from run_elt_dagster.alerts.production import seen_from_text, seen_to_text
from run_elt_dagster.alerts.run_events import EVENT_TYPES, TABLE_EVENT_TYPES, run_failure
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.production import Production, ProductionState, TableVersion
from run_elt_dagster.runs.partitions import BACKFILL, RANGE_END, RANGE_START

AT = datetime(2026, 11, 22, tzinfo=UTC)
LAST = TableVersion(rows=7, created_at=datetime(2026, 11, 21, tzinfo=UTC))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def failure_of(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    records = instance.get_records_for_run(run_id, of_type=EVENT_TYPES | TABLE_EVENT_TYPES).records
    events = [record.event_log_entry for record in records]
    return run_failure(run, events, failed_at=AT, last_published=lambda names: dict.fromkeys(names, LAST))


def run_of(
    instance: dg.DagsterInstance, error: Exception, *, resources: dict[str, Any] | None = None, **more: Any
) -> str:
    @dg.asset(key=["analytics", "mau"], required_resource_keys=set(resources or {}))
    def mau() -> None:
        raise error

    definitions = dg.Definitions(
        assets=[mau], jobs=[dg.define_asset_job("RunELT_Alert", selection="*")], resources=resources or {}
    )
    job = definitions.resolve_job_def("RunELT_Alert")
    return job.execute_in_process(instance=instance, raise_on_error=False, **more).run_id


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "table": "analytics.mau",
        "stage": "audit",
        "cause": "check row_count found 0 rows",
        "cause_class": "check row_count",
        "checks": [{"name": "row_count", "got": "0 rows", "expected": "at least 1 row"}],
        "query_id": "01b2",
        "production": "Readers still see the previous table (7 rows).",
        "readers_see": Production.of(TableVersion(rows=7)).to_json(),
        "owners": ["team:analytics"],
        "candidate": "DB.A.TEMP_MAU",
        **changes,
    }


def test_facts_of_the_step_are_taken_over_and_production_is_dated(instance: dg.DagsterInstance) -> None:
    metadata = {"facts": [facts()], "skipped": ["analytics.child"]}
    failure = failure_of(instance, run_of(instance, dg.Failure("1 table failed", metadata=metadata)))
    (table,) = failure.tables
    assert failure.summary == "analytics.mau was not published"
    assert failure.skipped == ("analytics.child",)
    assert (table.stage, table.query_id, table.checks[0].got) == ("audit", "01b2", "0 rows")
    assert table.production == "Unchanged: readers still see the table published 21 Nov 2026 00:00 UTC with 7 rows."
    assert failure.owners == ("team:analytics",)


def test_refused_selection_names_its_cause_and_no_table(instance: dg.DagsterInstance) -> None:
    """Dagster has planned every table, but the run touched none: nothing is unknown about them."""
    refused = dg.Failure("a run requires a selection", metadata={"refused_selection": "a run requires a selection"})
    failure = failure_of(instance, run_of(instance, refused))
    assert failure.summary == "The selection of a run matches no table"
    assert failure.cause == "a run requires a selection"
    assert failure.tables == ()


def test_failure_without_the_state_of_production_keeps_its_words(instance: dg.DagsterInstance) -> None:
    """A history may hold failures from before the state was noted."""
    old = {name: value for name, value in facts().items() if name != "readers_see"}
    failure = dg.Failure("x", metadata={"facts": [old], "skipped": []})
    (table,) = failure_of(instance, run_of(instance, failure)).tables
    assert (table.readers_see, table.production) == (None, "Readers still see the previous table (7 rows).")


@pytest.mark.parametrize("state", ["unknown", "none"])
def test_production_that_is_not_known_to_be_unchanged_is_not_dated(
    instance: dg.DagsterInstance, state: ProductionState
) -> None:
    production = Production(state, run_id="r", target="t")
    noted = facts(stage="publish", production=production.words, readers_see=production.to_json())
    failure = dg.Failure("x", metadata={"facts": [noted], "skipped": []})
    described = failure_of(instance, run_of(instance, failure))
    assert (described.tables[0].readers_see, described.tables[0].production) == (state, production.words)
    assert not described.is_unclear


def test_published_table_that_fails_a_check_is_not_said_to_be_unchanged(instance: dg.DagsterInstance) -> None:
    noted = facts(was_built=False, production="Readers see it, with rows that fail the check.")
    failure = dg.Failure("x", metadata={"facts": [noted], "skipped": []})
    (table,) = failure_of(instance, run_of(instance, failure)).tables
    assert table.production == "Readers see it, with rows that fail the check."


def test_root_cause_is_named_and_not_the_step(instance: dg.DagsterInstance) -> None:
    failure = failure_of(instance, run_of(instance, ValueError("the root cause")))
    assert failure.cause.startswith("ValueError: the root cause")
    assert "Steps failed" not in failure.cause
    assert failure.stage == "outside our code"
    assert [table.name for table in failure.tables] == ["analytics.mau"]


def test_failing_resource_is_a_failure_before_the_first_step(instance: dg.DagsterInstance) -> None:
    @dg.resource
    def broken(_: Any) -> None:
        raise RuntimeError("no such account")

    failure = failure_of(instance, run_of(instance, ValueError(), resources={"snowflake": broken}))
    assert failure.summary == "The run failed before its first step"
    assert failure.cause.startswith("RuntimeError: no such account")
    assert failure.tables[0].production.startswith("Unchanged: readers still see the table published 21 Nov")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"dagster/schedule_name": "daily"}, ("the schedule", "daily")),
        ({"dagster/sensor_name": "files"}, ("a sensor", "files")),
        ({"dagster/backfill": "abc"}, ("a backfill", "abc")),
        ({}, ("the command line", "")),
        (
            {"dagster/schedule_name": "daily", "dagster/parent_run_id": "11111111-0000"},
            ("a re-execution", "of run 11111111"),
        ),
        (
            {"dagster/sensor_name": "s", "dagster/parent_run_id": "11111111-0000", "dagster/retry_number": "1"},
            ("an automatic retry", "of run 11111111"),
        ),
    ],
)
def test_trigger_is_told_from_the_tags(
    instance: dg.DagsterInstance, tags: dict[str, str], expected: tuple[str, str]
) -> None:
    failure = failure_of(instance, run_of(instance, ValueError(), tags=tags))
    assert (failure.trigger, failure.trigger_name) == expected


def test_run_without_any_error_lost_its_process(instance: dg.DagsterInstance) -> None:
    run = instance.get_run_by_id(run_of(instance, ValueError()))
    assert run is not None
    failure = run_failure(run, [], failed_at=AT)
    assert failure.summary == "The run's process was lost"
    assert failure.fingerprint


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        (None, "Unchanged, verified in Snowflake: there is no published table yet."),
        (Marker("run", "unknown"), "Unchanged, verified in Snowflake: readers still see the previous table."),
        (
            Marker("run", "another0", "2026-11-20T01:02:03.0Z"),
            "Unchanged, verified in Snowflake: readers still see the previous table, built 2026-11-20 01:02 UTC by run another0.",
        ),
        (Marker("run", "this"), "New, verified in Snowflake: this run has published the table"),
        (Marker("publishing", "this"), "Unknown"),
    ],
)
def test_snowflake_tells_what_readers_see_after_a_process_was_lost(
    instance: dg.DagsterInstance, marker: Marker | None, expected: str
) -> None:
    run = instance.get_run_by_id(run_of(instance, ValueError()))
    assert run is not None
    # A killed process leaves no word of its end.
    told = (EVENT_TYPES | TABLE_EVENT_TYPES) - {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    events = [record.event_log_entry for record in instance.get_records_for_run(run.run_id, of_type=told).records]
    assert run_failure(run, events, failed_at=AT).is_unclear
    if marker is not None and marker.run_id == "this":
        marker = Marker(marker.state, run.run_id)
    # As the run's tags keep it.
    seen = seen_from_text(seen_to_text({"analytics.mau": marker}))
    failure = run_failure(run, events, failed_at=AT, seen=seen)
    assert failure.tables[0].production.startswith(expected)


DAYS = dg.DailyPartitionsDefinition("2026-01-01")


def run_of_days(instance: dg.DagsterInstance, error: Exception, *, tags: dict[str, str] | None = None) -> str:
    """Run three days of a table, record the first of them, and fail."""

    @dg.multi_asset(specs=[dg.AssetSpec(["analytics", "mau"], partitions_def=DAYS)], can_subset=True)
    def mau(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        yield from ()
        context.log_event(dg.AssetMaterialization(["analytics", "mau"], partition="2026-01-01"))
        raise error

    definitions = dg.Definitions(assets=[mau], jobs=[dg.define_asset_job("RunELT_Alert", selection="*")])
    asked = {RANGE_START: "2026-01-01", RANGE_END: "2026-01-03", **(tags or {})}
    job = definitions.resolve_job_def("RunELT_Alert")
    return job.execute_in_process(instance=instance, raise_on_error=False, tags=asked).run_id


def test_partitions_that_a_lost_run_has_not_recorded_are_named_and_unknown(instance: dg.DagsterInstance) -> None:
    """The comment of the table names another run, the one that has created it: it says nothing of its partitions."""
    run_id = run_of_days(instance, ValueError("lost"))
    run = instance.get_run_by_id(run_id)
    assert run is not None
    records = instance.get_records_for_run(run_id, of_type=EVENT_TYPES | TABLE_EVENT_TYPES).records
    seen = {"analytics.mau": Marker("run", "of-another-run", "2026-11-21T00:00:00.000000Z")}
    failure = run_failure(run, [record.event_log_entry for record in records], failed_at=AT, seen=seen)
    (table,) = failure.tables
    assert (table.partitions, table.readers_see) == (("2026-01-02", "2026-01-03"), "unknown")
    assert table.production == (
        "Unknown of these partitions, since the run may have been publishing: run-elt show analytics.mau --partitions says "
        f"which are of run {run_id}."
    )


def test_failed_partitions_are_named_and_no_other_publication_is_taken_for_theirs(instance: dg.DagsterInstance) -> None:
    some = facts(partitions=["2026-01-02", "2026-01-03"], partitions_published=1)
    many = facts(table="analytics.many", partitions=[f"2026-01-0{day}" for day in range(1, 10)])
    for noted, summary in (
        ([some], "analytics.mau, 2026-01-02, 2026-01-03, was not published"),
        ([many], "analytics.many, 9 partitions, 2026-01-01 to 2026-01-09, was not published"),
        ([some, many], "2 tables were not published"),
    ):
        error = dg.Failure("x", metadata={"facts": noted, "skipped": []})
        failure = failure_of(instance, run_of_days(instance, error))
        assert failure.summary == summary
    assert [(table.partitions[0], table.partitions_published) for table in failure.tables] == [
        ("2026-01-02", 1),
        ("2026-01-01", 0),
    ]
    assert failure.tables[0].production == "Readers still see the previous table (7 rows)."


def test_failures_of_other_partitions_are_alike_and_those_of_a_backfill_are_one(instance: dg.DagsterInstance) -> None:
    def fingerprint(noted: dict[str, Any], **tags: str) -> str:
        error = dg.Failure("x", metadata={"facts": [noted], "skipped": []})
        return failure_of(instance, run_of_days(instance, error, tags=tags)).fingerprint

    first, other = facts(partitions=["2026-01-02"]), facts(partitions=["2026-01-03"])
    of_another_cause = facts(partitions=["2026-01-03"], cause_class="check unique")
    assert fingerprint(first) == fingerprint(other) != fingerprint(of_another_cause)
    tag = {BACKFILL: "kqwzabcd"}
    assert fingerprint(first, **tag) == fingerprint(of_another_cause, **tag) != fingerprint(first)
