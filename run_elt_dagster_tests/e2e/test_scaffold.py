"""`dg scaffold defs` adds to the code location, in a copy of the project."""

import shutil
import sys
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir

# As errors, since a warning of a library at each start is one that nobody can act on.
LOAD = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Using extra keyword arguments on `Field`")
import run_elt_dagster
from run_elt_dagster.defs.assets import x
import dagster as dg
assert isinstance(run_elt_dagster.defs, dg.Definitions)
print(sorted(key.to_user_string() for key in run_elt_dagster.defs.resolve_all_asset_keys()))
print(sorted(schedule.name for schedule in run_elt_dagster.defs.get_repository_def().schedule_defs))
"""
SCHEDULE = """
import dagster as dg


@dg.schedule(cron_schedule="@hourly", target="x")
def hourly() -> dg.RunRequest:
    return dg.RunRequest()
"""


@pytest.fixture
def project(deployment_dir: DeploymentDir) -> Path:
    shutil.copytree(ROOT / "run_elt_dagster", deployment_dir.directory / "run_elt_dagster")
    return deployment_dir.directory


@pytest.mark.thorough
def test_scaffolded_definitions_are_part_of_the_code_location(deployment_dir: DeploymentDir, project: Path) -> None:
    env = {"PYTHONPATH": str(project)}
    scaffolded = deployment_dir.run("dg", "scaffold", "defs", "dagster.asset", "assets/x.py", env=env)
    assert scaffolded.returncode == 0, scaffolded.stderr
    assert (project / "run_elt_dagster" / "defs" / "assets" / "x.py").is_file()
    (project / "run_elt_dagster" / "defs" / "hourly.py").write_text(SCHEDULE, encoding="utf-8")
    loaded = deployment_dir.run(sys.executable, "-c", LOAD, env=env)
    assert loaded.returncode == 0, loaded.stderr
    assets, schedules = loaded.stdout.splitlines()
    assert "'x'" in assets
    assert "'analytics/mau_summary'" in assets
    assert schedules == "['daily', 'hourly']"
