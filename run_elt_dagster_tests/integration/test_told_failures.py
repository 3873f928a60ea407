"""What a failed run says in its log, its events and its alert: the cause once, where it is, and no row's value."""

import json
import logging
from collections.abc import Iterator

import dagster as dg
import pytest

from run_elt_dagster.alerts.first_attempt import alert_of_failed_run
from run_elt_dagster.alerts.reconciliation import reconcile
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.embedded.server import HOST, USER
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import AlertSettings, PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.local_server import LocalServer
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, SlackStandIn, slack_stand_in

LOG = logging.getLogger("told-failures")
CANARY = "Qx7Zjane"


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with slack_stand_in() as stand_in:
        yield stand_in


def run_job(project: DagsterProject, selection: dg.AssetSelection, *, job: str = "nightly") -> str:
    """Run a job of any name over the tables of the house and return the run's id."""
    tables = load_tables(project.directory / "tables")
    definitions = dg.Definitions(
        assets=[analytics_assets(tables, PublishOptions(max_concurrent_tables=2, creates_schemas=True))],
        jobs=[dg.define_asset_job(job, selection=selection)],
        resources={"snowflake": project.resource},
    )
    return definitions.resolve_job_def(job).execute_in_process(instance=project.instance, raise_on_error=False).run_id


def alerted(project: DagsterProject, slack: SlackStandIn, run_id: str, *, by_retries: bool = False) -> list[str]:
    """Return the texts that Slack has got after the run's end."""
    client = Slack(token=TOKEN, channel=CHANNEL, base_url=slack.url)
    record = project.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))[0]
    owners = {f"analytics.{name}": [f"team:{name}"] for name in "abcdefgh"}
    alerts = Alerts(AlertSettings(), owners, ("RunELT_Alert",), clock=lambda: (record.end_time or 0) + 60)
    if by_retries:
        reconcile(alerts, project.instance, client, log=LOG)
    else:
        alert_of_failed_run(alerts, project.instance, client, run_id, log=LOG)
    return [f"{message['text']}\n{json.dumps(message['blocks'], ensure_ascii=False)}" for message in slack.messages]


def everything_stored(instance: dg.DagsterInstance) -> str:
    return "\n".join(str(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id))


@pytest.mark.parametrize("by_retries", cases((False, True), usual=[False]), ids=["at once", "by the retries"])
def test_checks_alone_alert_with_what_they_got_and_what_readers_see(
    project: DagsterProject, slack: SlackStandIn, by_retries: bool
) -> None:
    project.declare(a="/* elt\nowner: team:a\nelt */ select 1 as n", b="select 1 as n")
    assert project.materialize().success
    project.declare(a="/* elt\nowner: team:a\nchecks: {row_count: {min: 5}}\nelt */ select 1 as n")
    run_id = run_job(project, dg.AssetSelection.all_asset_checks())
    (text,) = alerted(project, slack, run_id, by_retries=by_retries)
    first_line = text.split("\n", 1)[0]
    assert "analytics.a fails check row_count: got 1 row, expected at least 5 rows" in first_line
    assert "Readers see RUN_ELT.ANALYTICS.A, with rows that fail the check" in text
    assert "team:a" in text
    assert "not published" not in text
    assert "analytics.b" not in text


def test_checks_alone_that_only_warn_do_not_alert(project: DagsterProject, slack: SlackStandIn) -> None:
    project.declare(a="select 1 as n")
    assert project.materialize().success
    project.declare(a="/* elt\nchecks: {row_count: {min: 5, severity: warn}}\nelt */ select 1 as n")
    run_id = run_job(project, dg.AssetSelection.all_asset_checks())
    run = project.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS


def test_check_alone_without_an_answer_and_without_a_table_says_so(
    project: DagsterProject, slack: SlackStandIn
) -> None:
    project.declare(
        a="/* elt\nchecks: {sql: {odd: {query: 'select nosuch from {table}'}}}\nelt */ select 1 as n", b="select 1 as n"
    )
    project.sql("create schema if not exists analytics")
    project.sql("create table analytics.a as select 1 as n")
    (text,) = alerted(project, slack, run_job(project, dg.AssetSelection.all_asset_checks()))
    assert "check odd could not be evaluated: invalid identifier 'NOSUCH'" in text
    assert "There is no published table yet." in text
    assert "check-without-answer" in text


def test_mixed_run_names_the_failed_check_of_a_table_that_was_not_built(
    project: DagsterProject, slack: SlackStandIn
) -> None:
    project.declare(a="select 1 as n", b="select 1 as n")
    assert project.materialize().success
    project.declare(a="/* elt\nchecks: {row_count: {min: 5}}\nelt */ select 1 as n", b="select nosuch as n")
    selection = dg.AssetSelection.assets(["analytics", "b"]) | dg.AssetSelection.checks_for_assets(
        dg.AssetKey(["analytics", "a"])
    )
    (text,) = alerted(project, slack, run_job(project, selection))
    assert "analytics.b was not published, and analytics.a fails check row_count" in text
    assert "invalid identifier 'NOSUCH'" in text
    assert "*Next (build):*" in text
    assert "*Next (audit):*" in text


def test_blocking_check_of_somebody_else_alerts_with_its_table(project: DagsterProject, slack: SlackStandIn) -> None:
    @dg.asset_check(asset=["analytics", "a"], blocking=True)
    def theirs() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="the report has gaps")

    project.declare(a="select 1 as n")
    definitions = dg.Definitions(
        assets=[
            analytics_assets(
                load_tables(project.directory / "tables"), PublishOptions(max_concurrent_tables=2, creates_schemas=True)
            )
        ],
        asset_checks=[theirs],
        jobs=[dg.define_asset_job("nightly", selection=dg.AssetSelection.checks(theirs))],
        resources={"snowflake": project.resource},
    )
    job = definitions.resolve_job_def("nightly")
    run_id = job.execute_in_process(instance=project.instance, raise_on_error=False).run_id
    (text,) = alerted(project, slack, run_id)
    assert "analytics.a fails check theirs: got the report has gaps" in text
    assert "team:a" in text


def test_typo_is_told_in_one_line_with_its_place_in_the_file_and_without_a_traceback(project: DagsterProject) -> None:
    project.declare(a="/* elt\ndescription: |\n  One.\n  Two.\nelt */\nselect\n    1 as n,\n    nosuch as m")
    result = project.materialize()
    path = project.directory / "tables" / "analytics" / "a.sql"
    logs = [entry for entry in project.instance.all_logs(result.run_id) if entry.level >= logging.ERROR]
    (line,) = [entry.user_message for entry in logs if entry.dagster_event is None]
    assert line.startswith(f"analytics.a failed in stage build: invalid identifier 'NOSUCH' ({path}:8:5)")
    assert "Traceback" not in line
    assert "\n" not in line
    (failure,) = [entry.dagster_event for entry in logs if entry.dagster_event and entry.dagster_event.is_step_failure]
    # Dagster prints it below that line, with its own code: the cause once more, and no statement.
    assert failure.step_failure_data.error.message.count("NOSUCH") == 1
    assert failure.step_failure_data.error.to_string().count("NOSUCH") == 1
    assert line in str(failure.step_failure_data.user_failure_data)


def test_error_of_this_project_keeps_its_traceback(project: DagsterProject, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("run_elt_dagster.publish.building.build_sql", broken)
    project.declare(a="select 1 as n")
    result = project.materialize()
    lines = [entry.user_message for entry in project.instance.all_logs(result.run_id) if entry.level >= logging.ERROR]
    assert any("Traceback" in line and "a mistake of ours" in line for line in lines)


def test_table_that_is_skipped_before_its_first_publish_has_no_previous_one(project: DagsterProject) -> None:
    project.declare(a="select 1 as n", b="select n from analytics.a")
    assert project.materialize("a").success
    project.declare(a="select nosuch as n", c="select n from analytics.b")
    result = project.materialize()
    told = "\n".join(entry.user_message for entry in project.instance.all_logs(result.run_id))
    assert (
        "analytics.b was skipped, because it reads failed tables: analytics.a. There is no published table yet." in told
    )
    assert told.count("Readers still see the previous table (1 row") == 1


ROW_VALUES = [
    (100097, f"Can't parse '{CANARY}' as date with format 'YYYY'"),
    (100038, f"Numeric value '12\n{CANARY}' is not recognized"),
    (100038, f"Numeric value 'O'{CANARY}' is not recognized"),
    (100205, f"Error parsing Geo input: {CANARY}. Did not recognize valid GeoJSON, (E)WKT or (E)WKB."),
    (100071, f'Failed to cast variant value {{\n  "name": "{CANARY}"\n}} to FIXED'),
    (100090, f"Duplicate row detected during DML action\nRow Values: [1, {CANARY}]"),
    (100132, f"JavaScript execution error: Uncaught {CANARY} in F at 'x' position 3"),
    (100999, f"A new error about {CANARY} here"),
]


@pytest.mark.parametrize(
    ("stage", "head"), [pytest.param("build", "CREATE OR REPLACE", marks=pytest.mark.thorough), ("audit", "COUNT(")]
)
def test_row_value_is_in_no_log_event_and_message(
    local_server: LocalServer, project: DagsterProject, slack: SlackStandIn, *, stage: str, head: str
) -> None:
    """Over the real connector, which keeps the whole text in its own exception. Each table meets another error."""
    server = local_server.server
    project.resource = Snowflake(
        account="embedded",
        user=USER,
        password=server.password,
        host=HOST,
        port=server.port,
        protocol="http",
        database="RUN_ELT",
    )
    errors = dict(zip("abcdefgh", ROW_VALUES, strict=True))
    project.declare(**dict.fromkeys(errors, "/* elt\nprimary_key: n\nelt */ select 1 as n"))
    met: list[str] = []

    def fail(event: StatementEvent) -> None:
        asset = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}").get("asset", "")
        if event.phase == "before" and head in event.sql and (name := asset.rpartition("/")[2]) in errors:
            met.append(name)
            errno, text = errors[name]
            raise SqlError(text, errno=errno, sqlstate="22000")

    with local_server.account.hooked(fail):
        run_id = run_job(project, dg.AssetSelection.all())
    assert set(met) == errors.keys()
    assert len(alerted(project, slack, run_id)) == 1
    stored = everything_stored(project.instance)
    assert all(f"analytics.{name} in stage {stage}" in stored for name in errors)
    assert CANARY not in stored
    assert CANARY not in slack.everything()


def test_refused_sign_in_is_told_without_the_connectors_own_code(
    local_server: LocalServer, project: DagsterProject, slack: SlackStandIn
) -> None:
    project.resource = Snowflake(
        account="embedded", user=USER, password="wrong", host=HOST, port=local_server.server.port, protocol="http"
    )
    project.declare(a="select 1 as n")
    run_id = run_job(project, dg.AssetSelection.all())
    (text,) = alerted(project, slack, run_id)
    assert "Snowflake could not be reached: " in text.split("\n", 1)[0]
    assert "docs/operations.md#sign-in" in text
    assert "snowflake/connector" not in everything_stored(project.instance)


def test_held_back_table_is_told_on_its_page_in_the_log_and_in_the_alert(
    project: DagsterProject, slack: SlackStandIn
) -> None:
    head = "/* elt\npublish_group: finance\n{}\nelt */ "
    project.declare(
        a=head.format("") + "select 1 as n", b=head.format("checks: {row_count: {min: 5}}") + "select 1 as n"
    )
    run_id = run_job(project, dg.AssetSelection.assets(["analytics", "a"], ["analytics", "b"]))
    (text,) = alerted(project, slack, run_id)
    assert "analytics.b was not published. Check row_count" in text.split("\n", 1)[0]
    assert "*Held back with their group:* analytics.a" in text
    (seen,) = project.instance.fetch_observations(dg.AssetKey(["analytics", "a"]), limit=1).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.description == (
        "Held back with publish_group finance, because of analytics.b. There is no published table yet."
    )
    assert seen.asset_observation.metadata["candidate"].value == f"RUN_ELT.ANALYTICS.TEMP_A__{run_id[:8].upper()}"
    assert "analytics.a was held back with publish_group finance, because of failed tables: analytics.b." in (
        everything_stored(project.instance)
    )


def test_run_of_a_part_of_a_group_alerts_with_the_selection(project: DagsterProject, slack: SlackStandIn) -> None:
    text = "/* elt\npublish_group: finance\nelt */ select 1 as n"
    project.declare(a=text, b=text)
    (alert,) = alerted(
        project, slack, run_job(project, dg.AssetSelection.assets(["analytics", "a"]), job="RunELT_Alert")
    )
    assert "The run selects a part of a group" in alert
    assert 'key:\\"analytics/a\\" or key:\\"analytics/b\\"' in alert
    assert project.sql("select count(*) from information_schema.tables where table_schema = 'ANALYTICS'") == [(0,)]
