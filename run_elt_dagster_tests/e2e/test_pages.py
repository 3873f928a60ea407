"""The commands of README, the first steps and the tutorial, as a reader types them."""

import re

import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir
from run_elt_dagster_tests.support.pages import STORIES, blocks

pytestmark = pytest.mark.thorough

TABLES = "run_elt_dagster/tables"


def _play(deployment_dir: DeploymentDir, page: str) -> list[str]:
    """Do what a page says, and return what each command printed."""
    printed: list[str] = []
    folder = deployment_dir.directory
    (folder / TABLES / "analytics").mkdir(parents=True, exist_ok=True)
    for block in [block for block in blocks() if block.page == page]:
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        for command in block.commands() if block.language == "sh" else ():
            if command.reason:
                continue
            run = deployment_dir.run("bash", "-ec", command.text, env={"RUN_ELT_TABLES_DIR": str(folder / TABLES)})
            assert (run.returncode != 0) is command.fails, f"{block.place}: {command.text}\n{run.stdout}\n{run.stderr}"
            printed.append(run.stdout + run.stderr)
    return printed


def test_reader_gets_what_the_pages_promise(deployment_dir: DeploymentDir) -> None:
    # In this order: the sample data of the first pages is not loaded where there are tables of one's own.
    *_, tutorial = [_play(deployment_dir, page) for page in STORIES]
    # The last three: the wrong line is loaded, the run fails, and readers see the two days before it.
    assert "range_amount" in tutorial[-2]
    days = set(re.findall(r"^2026-01-\d\d", tutorial[-1], re.MULTILINE))
    assert days == {"2026-01-05", "2026-01-06"}
