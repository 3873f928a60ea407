import subprocess

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir

MATERIALIZE = ("dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster")


def assert_no_table_was_built(deployment_dir: DeploymentDir, run: subprocess.CompletedProcess[str]) -> None:
    """Assert what becomes of a selection that matches nothing: Dagster 1.13.27 records it as none, and would build every table."""
    assert run.returncode == 1
    assert "got key:mau_summary. Dagster would build every table" in run.stderr
    assert 'Did you mean key:"analytics/mau_summary"?' in run.stderr
    # The embedded Snowflake was not even opened.
    assert not (deployment_dir.directory / ".run_elt").exists()


def test_selection_that_matches_nothing_builds_nothing_and_a_temporary_instance_says_that_nobody_is_alerted(
    deployment_dir: DeploymentDir,
) -> None:
    """Both of one process, which takes three seconds of CPU."""
    (deployment_dir.directory / "dagster.yaml").unlink()
    run = deployment_dir.run("dagster", "asset", "materialize", "-m", "run_elt_dagster", "--select", "key:mau_summary")
    assert_no_table_was_built(deployment_dir, run)
    assert "This run is on a temporary instance that no daemon ever sees" in run.stderr


@pytest.mark.thorough
def test_newer_command_builds_nothing_for_such_a_selection_either(deployment_dir: DeploymentDir) -> None:
    assert_no_table_was_built(deployment_dir, deployment_dir.run("dg", "launch", "--assets", "key:mau_summary"))


@pytest.mark.thorough
def test_half_a_configuration_in_an_env_file_is_an_error_of_both_commands(deployment_dir: DeploymentDir) -> None:
    """It is not the embedded Snowflake."""
    half = "SNOWFLAKE_ACCOUNT=org-acc\nSNOWFLAKE_PASSWORD=canary\n"
    (deployment_dir.directory / ".env").write_text(half, encoding="utf-8")
    for command in (MATERIALIZE, ("run-elt", "show")):
        run = deployment_dir.run(*command)
        assert run.returncode != 0
        assert "a Snowflake account requires SNOWFLAKE_USER, SNOWFLAKE_ROLE" in run.stderr
        assert "canary" not in run.stdout + run.stderr
    assert not (deployment_dir.directory / ".run_elt").exists()


def test_failed_check_ends_the_command_with_an_error_and_retry_builds_what_is_left(
    deployment_dir: DeploymentDir,
) -> None:
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    for name, sql in {
        "good": "select 1 as n",
        "bad": "select * from raw_data.session_timestamp where false",
        "child": "select 2 as n from analytics.bad",
    }.items():
        (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    env = {"RUN_ELT_TABLES_DIR": str(deployment_dir.directory / "tables")}
    failed = deployment_dir.run(*MATERIALIZE, env=env)
    assert failed.returncode == 1
    assert "check row_count found 0 rows, expected at least 1 in RUN_ELT.ANALYTICS.TEMP_BAD__" in failed.stderr
    (folder / "bad.sql").write_text("select 2 as n", encoding="utf-8")
    retry = deployment_dir.run("run-elt", "retry", env=env)
    assert retry.returncode == 0, retry.stderr
    assert (
        "analytics.bad, analytics.child\ndagster asset materialize --select analytics/bad,analytics/child"
        in retry.stdout
    )
    assert "for 2 of 3 tables" in retry.stderr


@pytest.mark.thorough
def test_broken_file_fails_validation_and_a_run_builds_the_other_tables(deployment_dir: DeploymentDir) -> None:
    tables = deployment_dir.directory / "tables" / "analytics"
    tables.mkdir(parents=True)
    (tables / "right.sql").write_text("select 1 as n", encoding="utf-8")
    (tables / "broken.sql").write_text("/* elt\nownr: x\nelt */ select 1 as n", encoding="utf-8")
    (tables / "unclear.sql").write_text("select * from nowhere", encoding="utf-8")
    environment = {"RUN_ELT_TABLES_DIR": str(tables.parent)}
    validation = deployment_dir.run("dagster", "definitions", "validate", "-m", "run_elt_dagster", env=environment)
    assert validation.returncode == 1
    assert f"{tables}/broken.sql:2: unknown key 'ownr'" in validation.stdout
    assert f"{tables}/unclear.sql:1: cannot tell which tables the SQL reads" in validation.stdout

    run = deployment_dir.run(*MATERIALIZE, env=environment)
    assert run.returncode == 1
    assert "2 tables failed: analytics.broken in stage build, analytics.unclear in stage build." in run.stderr
    shown = deployment_dir.run("run-elt", "show", "analytics.right", env=environment)
    assert "RUN_ELT.ANALYTICS.RIGHT" in shown.stdout
