"""`make run` as the README has it, in an environment that is installed already."""

import shutil
import sys

from run_elt_dagster_tests.e2e.place import ROOT, Place


def test_make_run_warns_of_nothing_and_keeps_what_the_run_printed(place: Place) -> None:
    shutil.copy(ROOT / "Makefile", place.directory)
    # -o: that file is as new as it need be, so nothing is installed.
    run = place.run("make", "-o", f"{sys.prefix}/embedded", f"VENV={sys.prefix}", "run")
    assert run.returncode == 0, run.stderr
    assert "2019-11  721" in run.stdout
    for noise in ("Warning", "temporary directory"):
        assert noise not in run.stdout + run.stderr
    assert list((place.directory / ".dagster_storage" / "compute_logs").rglob("*.err"))
    assert not (place.directory / "storage").exists()
