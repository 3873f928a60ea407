"""`make run` as the README has it, in an environment that is installed already."""

import re
import shutil
import sys

import pytest

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir
from run_elt_dagster_tests.support.effort import effort

# What differs from run to run: durations, the moment and the run.
VARYING = r"\d+\.\d s|\d{4}-\d\d-\d\d \d\d:\d\d UTC by run [0-9a-f]{8}"


def masked(text: str) -> str:
    return re.sub(VARYING, "#", text)


MONTHS = {"05": 281, "06": 459, "07": 623, "08": 662, "09": 639, "10": 763, "11": 721}
ROWS = {"analytics.session_summary": "101,520", "analytics.channel_summary": "42", "analytics.mau_summary": "7"}


def make_run(deployment_dir: DeploymentDir) -> str:
    """Run it, and return what it said; -o: that file is as new as it need be, so nothing is installed."""
    run = deployment_dir.run("make", "-o", f"{sys.prefix}/embedded", f"VENV={sys.prefix}", "run")
    assert run.returncode == 0, run.stderr
    # The first line of a word counts: a table's name is also the heading of its rows.
    lines = {words[0]: words[1:] for line in reversed(run.stdout.splitlines()) if (words := line.split())}
    assert {month: int(lines[f"2019-{month}"][0]) for month in MONTHS} == MONTHS
    assert {name: lines[name][0] for name in ROWS} == ROWS
    assert lines["analytics.mau_summary"][2:4] == ["row_count,", "primary_key"]
    assert lines["analytics.mau_summary"][-1] == "RUN_ELT.ANALYTICS.MAU_SUMMARY"
    return run.stdout + run.stderr


def test_make_run_warns_of_nothing_keeps_what_the_run_printed_and_gives_the_same_again(
    deployment_dir: DeploymentDir,
) -> None:
    shutil.copy(ROOT / "Makefile", deployment_dir.directory)
    shutil.rmtree(deployment_dir.directory / ".dagster_storage")
    said = make_run(deployment_dir)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)[0].splitlines()
    assert len(shown) == 7
    assert [line for line in shown if masked(line) not in masked(said)] == []
    for noise in ("Warning", "temporary directory"):
        assert noise not in said
    assert list((deployment_dir.directory / ".dagster_storage" / "compute_logs").rglob("*.err"))
    assert not (deployment_dir.directory / "storage").exists()
    if effort(usual=0, thorough=1):
        make_run(deployment_dir)


@pytest.mark.thorough
def test_make_example_partitions_builds_days_and_rolls_one_back(deployment_dir: DeploymentDir) -> None:
    shutil.copy(ROOT / "Makefile", deployment_dir.directory)
    shutil.copytree(ROOT / "examples/partitions/tables", deployment_dir.directory / "examples/partitions/tables")
    run = deployment_dir.run("make", "-o", f"{sys.prefix}/embedded", f"VENV={sys.prefix}", "example-partitions")
    assert run.returncode == 0, run.stderr
    said = run.stdout + run.stderr
    document = (ROOT / "docs/partitions.md").read_text(encoding="utf-8")
    shown = re.findall(r"```text\n(analytics.*?)```", document, re.DOTALL)[0].splitlines()
    assert len(shown) == 6
    run_and_time = r"\d{4}-\d\d-\d\d \d\d:\d\d|[0-9a-f]{8}(?= )"
    assert [line for line in shown if re.sub(run_and_time, "#", line) not in re.sub(run_and_time, "#", said)] == []
    assert "Warning" not in said
