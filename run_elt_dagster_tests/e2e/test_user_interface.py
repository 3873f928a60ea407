"""Materialize from the page, as a person does, in headless Chromium."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Page

from run_elt_dagster_tests.support.browser import CHROMIUM, WIDTH, open_page
from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, Webserver

# Set it to keep the pictures: docs/take_pictures.py does.
SCREENSHOTS = os.environ.get("RUN_ELT_TESTS_SCREENSHOTS")


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with open_page() as page:
        yield page


def screenshot(page: Page, directory: Path, name: str, *, height: int = 900) -> None:
    if SCREENSHOTS:
        # Icons come after the text that the test waits for.
        page.wait_for_load_state("networkidle")
    clip = FloatRect(x=0, y=0, width=WIDTH, height=height)
    page.screenshot(path=Path(SCREENSHOTS or directory) / f"{name}.png", clip=clip)


def test_tables_are_materialized_from_the_page(
    deployment_dir: DeploymentDir, dagster_dev: Webserver, page: Page
) -> None:
    page.goto(f"{dagster_dev.url}/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    deployment_dir.wait_for("the run", lambda: [run["status"] for run in dagster_dev.runs()] == ["SUCCESS"])

    page.goto(f"{dagster_dev.url}/locations/__repository__@run_elt_dagster/asset-groups/analytics/lineage")
    page.get_by_text("2 / 2 Passed").nth(2).wait_for()
    assert page.get_by_text("Materialized", exact=True).count() == 3
    screenshot(page, deployment_dir.directory, "lineage")

    page.goto(f"{dagster_dev.url}/assets/analytics/mau_summary")
    page.get_by_text("Row count").wait_for()
    page.get_by_text("row_count, primary_key").first.wait_for()
    screenshot(page, deployment_dir.directory, "mau_summary")

    # A wrong GROUP BY: several rows for each month. The page shows which check kept them from the readers.
    folder = shutil.copytree(ROOT / "run_elt_dagster" / "tables", deployment_dir.directory / "tables")
    file = folder / "analytics" / "mau_summary.sql"
    file.write_text(file.read_text(encoding="utf-8").rstrip() + ", user_session_channel.channel\n", encoding="utf-8")
    rejected = deployment_dir.run(
        *("dagster", "asset", "materialize", "--select", "analytics/mau_summary", "-m", "run_elt_dagster"),
        env={"RUN_ELT_TABLES_DIR": str(folder)},
    )
    assert rejected.returncode != 0
    page.goto(f"{dagster_dev.url}/assets/analytics/mau_summary?view=checks&checkDetail=primary_key")
    page.get_by_text("Failed", exact=True).first.wait_for()
    screenshot(page, deployment_dir.directory, "failed_check", height=700)

    # The command line reads the history that the page wrote.
    shown = deployment_dir.run("run-elt", "show")
    assert "RUN_ELT.ANALYTICS.MAU_SUMMARY" in shown.stdout, shown.stderr
