"""Without the extra `embedded` and without an account, every command ends with one line that says what to install."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from run_elt_dagster.embedded import LIBRARIES
from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir

# Read by Python itself when it starts: these libraries are not found, as if nobody had installed them.
SITE = """
import importlib.machinery

_find = importlib.machinery.PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {missing!r} else _find(name, path, target)

importlib.machinery.PathFinder.find_spec = find_spec
"""


def without(folder: Path, missing: set[str]) -> dict[str, str]:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE.replace("{missing!r}", repr(missing)), encoding="utf-8")
    return {"PYTHONPATH": f"{folder / 'site'}:{ROOT}"}


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"pyarrow"}, id="partly"),
        pytest.param({"fakesnow", "duckdb", "pyarrow"}, id="not at all"),
    ],
)
# The next test has such an installation, too.
@pytest.mark.thorough
def test_command_without_the_embedded_snowflake_says_what_to_install(
    deployment_dir: DeploymentDir, missing: set[str]
) -> None:
    env = without(deployment_dir.directory, missing)
    for command in (("show",), ("test",), ("rollback", "analytics.mau_summary", "--yes")):
        run = deployment_dir.run("run-elt", *command, env=env)
        (line,) = run.stderr.splitlines()
        assert run.returncode == 1
        assert line.startswith("run-elt: The embedded Snowflake requires fakesnow, duckdb, filelock, pyarrow, got no ")
        assert "pip install -c constraints.txt -e '.[embedded]'" in line
        assert all(f"no {name}" in line for name in missing)
        assert run.stdout == ""


def test_run_and_doctor_without_the_embedded_snowflake_say_what_to_install(deployment_dir: DeploymentDir) -> None:
    env = without(deployment_dir.directory, {"pyarrow"})
    run = deployment_dir.run("dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster", env=env)
    assert run.returncode == 1
    assert "got no pyarrow. Nothing was executed. Run pip install -c constraints.txt -e '.[embedded]'" in run.stderr
    assert "ModuleNotFoundError" not in run.stderr
    doctor = deployment_dir.run("run-elt", "doctor", env=env)
    assert doctor.returncode == 1
    assert "it is not installed here (no pyarrow)" in doctor.stdout
    assert "-> Run pip install -c constraints.txt -e '.[embedded]'" in doctor.stdout


def test_libraries_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["embedded"]
    assert {Requirement(text).name for text in extra} == set(LIBRARIES)
