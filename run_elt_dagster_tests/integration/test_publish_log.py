"""The log of publishes: what runs add to it, and what becomes of a run whose log cannot be written."""

import getpass
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.unlogged import interrupted_rows
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.embedded import Account, running_server, simulated_account
from run_elt_dagster_tests.support.local_server import mau

DAYS = "/* elt\npartitions: {by: day, column: d, start: 2024-01-01}\nprimary_key: [d, n]\nelt */\nselect column1::date as d, column2 as n from values "
PAGE = Path(__file__).parents[2] / "docs" / "publish_log.md"


def logged(project: DagsterProject, columns: str, table: str, order: str = "1, 2, 3") -> list[tuple[Any, ...]]:
    return project.sql(f"select {columns} from run_elt.run_elt.{table} order by {order}")


def test_log_has_what_was_published_refused_and_skipped_and_the_numbers_of_the_checks(project: DagsterProject) -> None:
    project.declare(
        good="/* elt\nchecks: {row_count_change: {max_drop: 10%}}\nelt */\nselect seq4() as n from table(generator(rowcount => 3))",
        bad="/* elt\nprimary_key: n\nelt */\nselect 'it''s' as n from table(generator(rowcount => 2))",
        child="select n from analytics.bad",
    )
    result = project.materialize(log_schema="RUN_ELT")
    assert not result.success
    assert logged(project, "table_name, state, failed_stage, row_count, launched_by, run_id", "publishes") == [
        ("BAD", "failed", "audit", 2, "the command line", result.run_id),
        ("CHILD", "skipped", None, None, "the command line", result.run_id),
        ("GOOD", "published", None, 3, "the command line", result.run_id),
    ]
    rows = logged(project, "table_name, check_name, measure, verdict, got, expected_min, expected_max", "check_results")
    assert rows == [
        ("BAD", "primary_key", "rows with a NULL key", "failed", 0, None, 0),
        ("BAD", "primary_key", "rows with a duplicate key", "failed", 1, None, 0),
        ("BAD", "row_count", "rows", "passed", 2, 1, None),
        ("GOOD", "row_count", "rows", "passed", 3, 1, None),
        ("GOOD", "row_count_change", "% change of the row count", "not asked", None, -10, None),
    ]
    (good,) = project.sql(
        "select build_query_id, publish_query_id, build_seconds > 0, code_version, publish_method, "
        "abs(datediff('second', finished_at, convert_timezone('UTC', current_timestamp())::timestamp_ntz)) < 600 "
        "from run_elt.run_elt.publishes where table_name = 'GOOD'"
    )
    metadata = project.materialized(result)["good"]
    event = project.instance.get_latest_materialization_event(dg.AssetKey(["analytics", "good"]))
    assert event is not None
    assert event.asset_materialization is not None
    version = (event.asset_materialization.tags or {})["dagster/code_version"]
    assert good == (metadata["build_query_id"], metadata["publish_query_id"], True, version, "clone", True)
    # A check alone asks the published table.
    alone = project.materialize(
        selection=dg.AssetSelection.checks_for_assets(["analytics", "good"]), log_schema="RUN_ELT"
    )
    assert alone.success
    found = f"check_results where run_id = '{alone.run_id}'"
    assert logged(project, "check_name, verdict, is_of_candidate", found) == [
        ("row_count", "passed", False),
        ("row_count_change", "not asked", False),
    ]


def test_log_names_partitions_and_a_sum_counts_their_seconds_once(project: DagsterProject) -> None:
    project.declare(days=DAYS + "('2024-01-01', 1), ('2024-01-02', 2), ('2024-01-02', 2)")
    result = project.materialize(partitions="2024-01-01...2024-01-02", log_schema="RUN_ELT")
    assert not result.success
    assert logged(project, "partition_key, state, row_count, build_seconds is null", "publishes") == [
        ("2024-01-01", "published", 1, False),
        ("2024-01-02", "failed", 2, True),
    ]
    broken = logged(project, "partition_key, check_name, got", "check_results where verdict = 'failed' and got > 0")
    assert broken == [("2024-01-02", "primary_key", 1)]
    # Had it been interrupted, a later run would add what its history says, under the same ids: none stands there twice.
    (record,) = project.instance.get_run_records(dg.RunsFilter(run_ids=[result.run_id]))
    found = list(
        interrupted_rows(project.instance, record, load_tables(project.directory / "tables"), database="RUN_ELT")
    )
    assert [(row["PARTITION_KEY"], row["STATE"], row.get("ROW_COUNT")) for row in found] == [
        ("2024-01-01", "published", 1),
        ("2024-01-02", "interrupted", None),
    ]
    assert {(row["ENTRY_ID"],) for row in found} == set(logged(project, "entry_id", "publishes", order="1"))
    # Each query of the documentation runs, and answers.
    queries = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    project.sql("use database run_elt")
    counts = [len(project.sql(query.replace("'MAU_SUMMARY'", "'DAYS'"))) for query in queries]
    assert counts == [2, 1, 1, 2, 0, 1, 1]


def statements(server: SimulatedServer, run_id: str) -> list[str]:
    """Return what a run has sent, with its own id and times left out."""
    sent = [record.sql for record in server.history if run_id in (record.query_tag or "")]
    short = run_id.replace("-", "")[:8].upper()
    return [re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "T", sql.replace(run_id, "RUN").replace(short, "RUN")) for sql in sent]


def test_run_sends_two_statements_more_and_none_without_the_setting(tmp_path: Path) -> None:
    with running_server(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        resource = simulated_account(server)
        with resource.connect() as connection:
            project = DagsterProject(tmp_path, connection, resource, instance)
            project.declare(a="select 1 as n", b="select n from analytics.a")
            runs = [
                project.materialize(log_schema=schema, max_concurrent_tables=1)
                for schema in ("", "RUN_ELT", "", "RUN_ELT")
            ]
            assert all(run.success for run in runs)
            _, _, plain, logging = (statements(server, run.run_id) for run in runs)
    assert logging[:-2] == plain
    assert [sql.split(" (")[0] for sql in logging[-2:]] == [
        'INSERT INTO "RUN_ELT"."RUN_ELT"."PUBLISHES"',
        'INSERT INTO "RUN_ELT"."RUN_ELT"."CHECK_RESULTS"',
    ]


@pytest.mark.parametrize("kind", ["refused", pytest.param("answer lost", marks=pytest.mark.thorough)])
def test_log_that_fails_is_a_warning_and_one_without_an_answer_is_not_doubled(tmp_path: Path, kind: str) -> None:
    failed: list[str] = []

    def fail(event: StatementEvent) -> None:
        is_meant = "PUBLISHES" in event.sql and event.sql.startswith("INSERT")
        if kind == "refused" and is_meant and event.phase == "before":
            raise SqlError("SQL access control error:\nInsufficient privileges", errno=3001, sqlstate="42501")
        if kind == "answer lost" and is_meant and event.phase == "after" and not failed:
            failed.append(event.sql)
            raise SqlError("Processing aborted by error 300010:391167117", errno=603, sqlstate="XX000")

    with running_server(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        resource, account = simulated_account(server), Account(server)
        with account.resources, resource.connect() as connection:
            project = DagsterProject(tmp_path, connection, resource, instance)
            project.declare(a="select 1 as n")
            assert project.materialize(log_schema="RUN_ELT").success
            with account.hooked(fail):
                result = project.materialize(log_schema="RUN_ELT")
            assert result.success
            entries = project.sql("select count(*), count(distinct entry_id) from run_elt.run_elt.publishes")
            warnings = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == 30]
    told = [line for line in warnings if "log of publishes" in line]
    if kind == "refused":
        assert entries == [(1, 1)]
        assert [line.partition(", got")[0] for line in told] == [
            "The log of publishes requires that RUN_ELT.RUN_ELT.PUBLISHES exists and that the role has INSERT and SELECT on it"
        ]
    else:
        assert (entries, told, len(failed)) == ([(2, 2)], [], 1)


@pytest.mark.thorough
@pytest.mark.parametrize("publish_by", ["clone", "overwrite"])
def test_what_people_publish_and_roll_back_is_logged_once_with_who_and_what_was_waived(
    commanded_project: DagsterProject, monkeypatch: pytest.MonkeyPatch, publish_by: str
) -> None:
    monkeypatch.setenv("RUN_ELT_LOG_SCHEMA", "RUN_ELT")
    project = commanded_project
    checks = "primary_key: [n]\nchecks: {row_count: {max: 4}, changes: {max_added: 0}}"
    runs = []
    for rows in (3, 5):
        project.declare(mau=mau(rows, rows, publish=publish_by, more=checks))
        runs.append(project.materialize(log_schema="RUN_ELT").run_id)
    publish = ["publish", "analytics.mau", "--run", runs[1], "--check", "row_count", "--yes"]
    # The second command finds what the first has done, and would log what that has not.
    back = ["rollback", "analytics.mau", "--yes"]
    assert [main(publish), main(publish), main(back)] == [0, 0, 0]
    # As if the command had been killed before it could log.
    project.sql("delete from run_elt.run_elt.publishes where state = 'rolled back'")
    assert [main(back), main(back)] == [0, 0]
    columns = "state, failed_stage, job, launched_by, row_count, waived_checks, run_id"
    person = f"the command line {getpass.getuser()}"
    assert logged(project, columns, "publishes", order="finished_at") == [
        ("published", None, "job", "the command line", 3, None, runs[0]),
        ("failed", "audit", "job", "the command line", 5, None, runs[1]),
        ("published", None, "run-elt publish", person, 5, "row_count, changes", runs[1]),
        ("rolled back", None, "run-elt rollback", person, 3, None, runs[1]),
    ]
    waived = "check_results where verdict = 'waived'"
    assert logged(project, "distinct check_name, severity", waived, order="1") == [
        ("changes", "error"),
        ("row_count", "error"),
    ]
    answers = {title: project.sql(query.replace("RUN_ELT.", "RUN_ELT.RUN_ELT.")) for title, query in queries()}
    # Nobody repeats the command: the next run finds what it has done.
    project.sql("delete from run_elt.run_elt.publishes where state = 'rolled back'")
    project.declare(mau=mau(4, 4, publish=publish_by, more=checks.replace("max_added: 0", "max_added: 9")))
    project.materialize(log_schema="RUN_ELT")
    taken_back = "publishes where state = 'rolled back'"
    assert logged(project, "run_id, row_count, launched_by", taken_back, order="1") == [(runs[1], 3, None)]
    by_hand = answers["What people have published or taken back by hand, and which checks they waived"]
    assert [(row[1], row[8]) for row in by_hand] == [
        ("run-elt rollback", None),
        ("run-elt publish", "row_count, changes"),
    ]
    # What is refused is found with the attempt that it refused, and not with a later one of the same rows.
    refused = answers["The checks that refused a table, and what they found"]
    assert {row[8] for row in refused} == {"the command line"}
    stands = answers["Publishes that are still what readers see, or were until a newer one"]
    assert [row[3] for row in stands] == [runs[0]]


def queries() -> list[tuple[str, str]]:
    """Return the queries of the documentation, each with the sentence before it."""
    return re.findall(r"\n([^\n]+):\n\n```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_next_run_logs_one_that_was_interrupted(tmp_path: Path) -> None:
    def interrupt(event: StatementEvent) -> None:
        if event.phase == "before" and "TEMP_B__" in event.sql and not interrupted:
            interrupted.append(event.sql)
            # The other table is published, and may not be recorded yet.
            until = time.monotonic() + 30
            while instance.get_latest_materialization_event(dg.AssetKey(["analytics", "a"])) is None:
                assert time.monotonic() < until
                event.statement.wait(0.05)
            os.kill(os.getpid(), signal.SIGINT)

    interrupted: list[str] = []
    with running_server(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        resource, account = simulated_account(server), Account(server)
        with account.resources, resource.connect() as connection:
            project = DagsterProject(tmp_path, connection, resource, instance)
            project.declare(a="select 1 as n", b="select n from analytics.a")
            with account.hooked(interrupt):
                lost = project.materialize(log_schema="RUN_ELT").run_id
            assert instance.get_runs()[0].status is dg.DagsterRunStatus.CANCELED
            following = [project.materialize(log_schema="RUN_ELT").run_id for _ in range(2)]
            columns = "run_id, table_name, state, row_count, build_seconds is null, code_version is null"
            rows = logged(project, columns, "publishes", order="run_id = '" + lost + "' desc, finished_at, 2")
            inserts = [sql for sql in statements(server, following[1]) if "PUBLISHES" in sql]
    assert [row[1:] for row in rows if row[0] == lost] == [
        ("A", "published", 1, False, False),
        ("B", "interrupted", None, True, True),
    ]
    # They come in the one statement of the next run, and the one after it finds nothing more.
    assert (len(rows), len(inserts)) == (6, 1)
