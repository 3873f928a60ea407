"""`make run` as the README has it, in an environment that is installed already."""

import re
import shutil
import sys

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir

# What differs from run to run: durations, the moment and the run.
VARYING = r"\d+\.\d s|\d{4}-\d\d-\d\d \d\d:\d\d UTC by run [0-9a-f]{8}"


def masked(text: str) -> str:
    return re.sub(VARYING, "#", text)


def test_make_run_warns_of_nothing_and_keeps_what_the_run_printed(deployment_dir: DeploymentDir) -> None:
    shutil.copy(ROOT / "Makefile", deployment_dir.directory)
    # -o: that file is as new as it need be, so nothing is installed.
    run = deployment_dir.run("make", "-o", f"{sys.prefix}/embedded", f"VENV={sys.prefix}", "run")
    assert run.returncode == 0, run.stderr
    assert "2019-11  721" in run.stdout
    shown = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[
        0
    ].splitlines()
    assert len(shown) == 8
    assert [line for line in shown if masked(line) not in masked(run.stdout + run.stderr)] == []
    for noise in ("Warning", "temporary directory"):
        assert noise not in run.stdout + run.stderr
    assert list((deployment_dir.directory / ".dagster_storage" / "compute_logs").rglob("*.err"))
    assert not (deployment_dir.directory / "storage").exists()
