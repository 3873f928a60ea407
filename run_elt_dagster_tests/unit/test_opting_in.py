"""The tests on an account run where somebody has asked for them, and otherwise keep out of the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from run_elt_dagster_tests.support import opting_in

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
FOLDER = "run_elt_dagster_tests/snowflake"
OTHERS = ("unit", "integration", "e2e")
ACCOUNT = {
    "RUN_ELT_TESTS_SNOWFLAKE_ACCOUNT": "org-acc",
    "RUN_ELT_TESTS_SNOWFLAKE_USER": "svc",
    "RUN_ELT_TESTS_SNOWFLAKE_ROLE": "elt",
    "RUN_ELT_TESTS_SNOWFLAKE_WAREHOUSE": "wh",
    "RUN_ELT_TESTS_SNOWFLAKE_DATABASE": "tests",
    "RUN_ELT_TESTS_SNOWFLAKE_PASSWORD": "hunter2",
}


def collected(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(opting_in.PREFIX)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_folder_that_is_named_without_an_account_is_skipped_and_says_why() -> None:
    result = collected(f"{FOLDER}/test_reading.py")
    assert result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, result.stdout
    assert "requires RUN_ELT_TESTS_SNOWFLAKE_ACCOUNT, _USER, _ROLE, _WAREHOUSE, _DATABASE and" in result.stdout
    assert "passed" not in result.stdout


def test_run_of_all_tests_does_not_even_collect_it() -> None:
    """A skipped test fails the run that counts."""
    ignored = [f"--ignore=run_elt_dagster_tests/{other}" for other in OTHERS]
    result = collected("run_elt_dagster_tests", *ignored)
    assert result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, result.stdout
    assert "skipped" not in result.stdout


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        (FOLDER, True),
        (f"{FOLDER}/test_reading.py::test_x[clone]", True),
        ("run_elt_dagster_tests", False),
        ("run_elt_dagster_tests/unit/test_opting_in.py", False),
        (".", False),
    ],
)
def test_folder_is_named_by_its_own_paths_only(argument: str, named: bool) -> None:
    assert opting_in.is_named([argument], ROOT) is named


def test_variables_are_those_of_a_deployment() -> None:
    assert not opting_in.is_opted_in({"SNOWFLAKE_ACCOUNT": "prod", "RUN_ELT_TESTS_NO_SKIP": "1"})
    assert opting_in.is_opted_in({"RUN_ELT_TESTS_SNOWFLAKE_USER": "svc"})
    settings = opting_in.settings({**ACCOUNT, "RUN_ELT_TESTS_SNOWFLAKE_COPY_TAGS": "false"})
    assert settings.snowflake is not None
    assert (settings.snowflake.database, settings.copy_tags) == ("tests", False)


def test_half_of_them_is_an_error_and_nothing_falls_back() -> None:
    half = {name: value for name, value in ACCOUNT.items() if not name.endswith("_DATABASE")}
    with pytest.raises(ValueError, match="SNOWFLAKE_DATABASE"):
        opting_in.settings(half)
    with pytest.raises(ValueError, match="got none of them"):
        opting_in.settings({"SNOWFLAKE_ACCOUNT": "prod"})
