"""Materialize from the page, as a person does, in headless Chromium."""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Page

from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.browser import CHROMIUM, WIDTH, open_page
from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.embedded import Account, account_variables, running_server

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
    page.get_by_text("2 / 2 Passed").nth(1).wait_for()
    page.get_by_text("3 / 3 Passed").wait_for()
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
    # A wrong filter: a channel is gone. Only the difference to what readers see tells.
    other, filtered = file.with_name("channel_summary.sql"), "where session_summary.channel <> 'Naver' group by"
    other.write_text(other.read_text(encoding="utf-8").replace("group by", filtered), encoding="utf-8")
    both = "analytics/mau_summary,analytics/channel_summary"
    rejected = deployment_dir.run(
        *("dagster", "asset", "materialize", "--select", both, "-m", "run_elt_dagster"),
        env={"RUN_ELT_TABLES_DIR": str(folder)},
    )
    assert rejected.returncode != 0
    page.goto(f"{dagster_dev.url}/assets/analytics/mau_summary?view=checks&checkDetail=primary_key")
    page.get_by_text("Failed", exact=True).first.wait_for()
    screenshot(page, deployment_dir.directory, "failed_check", height=700)
    page.goto(f"{dagster_dev.url}/assets/analytics/channel_summary?view=checks&checkDetail=changes")
    page.get_by_text("7 of 42 rows removed (at most 0)").first.wait_for()
    screenshot(page, deployment_dir.directory, "failed_changes", height=900)

    # The command line reads the history that the page wrote.
    shown = deployment_dir.run("run-elt", "show")
    assert "RUN_ELT.ANALYTICS.MAU_SUMMARY" in shown.stdout, shown.stderr


BROKEN = """/* elt
description: Orders of each day (UTC), with what they cost together.
ownr: team:analytics
primary_key: [day]
checks:
  rang: {amount: {min: 0}}
elt */
select ordered_at::date as day, count(*) as orders, sum(amount) as amount
from analytics.orders
group by 1
"""
ORDERS = """/* elt
description: One row for each order.
owner: team:shop
primary_key: [order_id]
columns:
  order_id: {type: int, description: Number of the order}
  customer: {type: varchar, description: Who has ordered, tags: {pii: 'yes'}}
  amount: {type: 'number(10, 2)', description: What the order costs in euros}
elt */
select
    1 as order_id,
    name as customer,
    19.90::number(10, 2) as amount
from analytics.customers
"""
BUILD = re.compile(r"CREATE OR REPLACE TABLE .* AS \(", re.DOTALL)
TABLES = ("customers", "deliveries", "invoices", "orders", "payments", "refunds", "visits")
BUILD_SECONDS = 4.0


@pytest.mark.thorough
def test_page_shows_a_broken_file_and_how_far_a_run_is(
    deployment_dir: DeploymentDir, page: Page, tmp_path: Path
) -> None:
    folder, seen = deployment_dir.directory / "tables" / "analytics", threading.Event()
    folder.mkdir(parents=True)
    (folder / "orders_daily.sql").write_text(BROKEN, encoding="utf-8")
    for name in TABLES:
        text = ORDERS if name == "orders" else f"select '{name}' as name"
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")

    def hold(event: StatementEvent) -> None:
        """Let each build take some seconds, and the last one until the page has been seen."""
        if event.phase == "before" and BUILD.match(event.sql):
            _ = seen.wait(60) if f"'{TABLES[-1]}'" in event.sql else event.statement.wait(BUILD_SECONDS)

    (tmp_path / "account").mkdir()
    with running_server(tmp_path / "account") as server:
        server.hook = hold
        env = {
            **account_variables(server),
            "RUN_ELT_TABLES_DIR": str(folder.parent),
            "RUN_ELT_MAX_CONCURRENT_TABLES": "2",
        }
        port = free_port()
        deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port), env=env)
        webserver = Webserver(f"http://127.0.0.1:{port}")
        deployment_dir.wait_for("the webserver", webserver.is_up)

        page.goto(f"{webserver.url}/assets/analytics/orders_daily")
        page.get_by_text("The file of this table is broken.").wait_for()
        for problem in ("analytics/orders_daily.sql:3", "unknown key 'ownr'", "unknown key 'checks.rang'"):
            page.get_by_text(problem).first.wait_for()
        screenshot(page, deployment_dir.directory, "broken_file", height=520)

        selection = ",".join(f"analytics/{name}" for name in TABLES)
        command = ("dagster", "asset", "materialize", "--select", selection, "-m", "run_elt_dagster")
        deployment_dir.start(*command, env=env)
        (run,) = deployment_dir.wait_for("the run", webserver.runs)
        page.goto(f"{webserver.url}/runs/{run['runId']}")
        # They come while the page is open.
        line = page.get_by_text(f"of {len(TABLES)} tables published; building: analytics.")
        line.nth(1).wait_for(timeout=60_000)
        page.get_by_placeholder("Filter…").fill("tables published")
        page.get_by_text("Connecting to Snowflake").wait_for(state="hidden")
        line.nth(1).wait_for()
        screenshot(page, deployment_dir.directory, "long_run", height=700)
        seen.set()
        deployment_dir.wait_for("its end", lambda: [run["status"] for run in webserver.runs()] == ["SUCCESS"])

        # Types come from what was built, descriptions and tags from the file.
        page.goto(f"{webserver.url}/assets/analytics/orders")
        page.get_by_text("What the order costs in euros").wait_for()
        page.get_by_text("NUMBER(10,2)").first.wait_for()
        screenshot(page, deployment_dir.directory, "columns")

        # The page of the run says what a clone would have lost.
        account = Account(server)
        with account.resources:
            session = account.session()
            session.sql("create masking policy analytics.hide as (v varchar) returns varchar -> '***'")
            session.sql("alter table analytics.orders modify column customer set masking policy analytics.hide")
        command = ("dagster", "asset", "materialize", "--select", "analytics/orders", "-m", "run_elt_dagster")
        assert deployment_dir.run(*command, env=env).returncode != 0
        (run,) = [run for run in webserver.runs() if run["status"] == "FAILURE"]
        page.goto(f"{webserver.url}/runs/{run['runId']}")
        page.get_by_text("masking policy HIDE on it").first.wait_for()
        screenshot(page, deployment_dir.directory, "refused_policy", height=700)


# 400 orders a day and half of that on weekends, for twelve weeks. Of the Monday after them, only a part was loaded.
UNUSUAL = """/* elt
description: One row for each order.
partitions: {by: day, column: day, start: 2025-01-06}
checks: {usual: {rows: true, null_rate: customer}}
elt */
with
    orders as (select seq4() as n from table(generator(rowcount => 34000))),
    placed as (select n, n % 85 as day_number, floor(n / 85) as place from orders)

select
    dateadd('day', day_number, '2025-01-06'::date) as day,
    n as order_id,
    case when n % 50 > 0 then 'customer ' || n end as customer
from placed
where
    place < 380 + n % 20
    and (day_number % 7 < 5 or place % 2 = 0)
    and (day_number < 84 or place % 5 < 2)
"""


@pytest.mark.thorough
def test_page_shows_a_number_that_is_not_as_usual(deployment_dir: DeploymentDir, page: Page) -> None:
    folder = deployment_dir.directory / "tables" / "analytics"
    folder.mkdir(parents=True)
    (folder / "orders_daily.sql").write_text(UNUSUAL, encoding="utf-8")
    env = {"RUN_ELT_TABLES_DIR": str(folder.parent)}
    port = free_port()
    deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port), env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    command = ("dagster", "asset", "materialize", "--select", "analytics/orders_daily", "-m", "run_elt_dagster")
    published = deployment_dir.run(*command, "--partition-range", "2025-01-06...2025-03-30", env=env)
    assert published.returncode == 0, published.stderr[-2000:]
    assert deployment_dir.run(*command, "--partition", "2025-03-31", env=env).returncode != 0
    page.goto(f"{webserver.url}/assets/analytics/orders_daily?view=checks&checkDetail=usual_rows")
    page.get_by_text("rows on a Monday; usual").first.wait_for()
    page.get_by_text("over 12 Mondays").first.wait_for()
    screenshot(page, deployment_dir.directory, "unusual_rows", height=700)


REFUNDS = """/* elt
description: What was paid back.
publish_group: finance
primary_key: [order_id]
checks: {{changes: {{max_removed: 0}}}}
elt */
select seq4() as order_id, 10 as amount from table(generator(rowcount => {rows}))
"""
PAYMENTS = """/* elt
description: What was paid.
publish_group: finance
elt */
select 120 as amount
"""


@pytest.mark.thorough
def test_page_shows_a_table_that_was_held_back_with_its_group(deployment_dir: DeploymentDir, page: Page) -> None:
    folder = deployment_dir.directory / "tables" / "finance"
    folder.mkdir(parents=True)
    (folder / "payments.sql").write_text(PAYMENTS, encoding="utf-8")
    env = {"RUN_ELT_TABLES_DIR": str(folder.parent)}
    for rows in (12, 5):
        (folder / "refunds.sql").write_text(REFUNDS.format(rows=rows), encoding="utf-8")
        command = ("dagster", "asset", "materialize", "--select", "finance/payments,finance/refunds")
        ended = deployment_dir.run(*command, "-m", "run_elt_dagster", env=env)
        assert (ended.returncode == 0) == (rows == 12), ended.stderr[-2000:]
    port = free_port()
    deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port), env=env)
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    page.goto(f"{webserver.url}/assets/finance/payments?view=events")
    page.get_by_text("Held back with publish_group finance, because of finance.refunds.").first.wait_for()
    page.get_by_text("TEMP_PAYMENTS__").first.wait_for()
    screenshot(page, deployment_dir.directory, "held_back", height=700)
