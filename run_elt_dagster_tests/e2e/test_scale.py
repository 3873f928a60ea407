"""A thousand tables in twelve levels, one in a hundred of which is bad, through Dagster: what readers, pages and Slack get."""

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster_tests.support.deployment_dir import DeploymentDir
from run_elt_dagster_tests.support.embedded import Account, account_variables, running_server
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, slack_stand_in

pytestmark = pytest.mark.thorough

TABLES, LEVELS, BAD = 1000, 12, 10
# A run with one table takes 200 MiB.
MOST_MIB = 500


def parents() -> dict[str, list[str]]:
    """Return what each table reads: two neighbours of the level above."""
    by_level = [[f"t{n}" for n in range(TABLES) if n * LEVELS // TABLES == level] for level in range(LEVELS)]
    reads = {name: list[str]() for name in by_level[0]}
    for above, level in pairwise(by_level):
        reads |= {name: [above[n % len(above)], above[(n + 1) % len(above)]] for n, name in enumerate(level)}
    return reads


def write_tables(folder: Path, reads: dict[str, list[str]], bad: set[str]) -> None:
    folder.mkdir(parents=True)
    for name, read in reads.items():
        source = " union all ".join(f"select n from analytics.{parent}" for parent in read) or "select 1 as n"
        minimum = 2 if name in bad else 1
        text = f"/* elt\nchecks:\n  row_count: {{min: {minimum}}}\nelt */\nselect max(n) as n from ({source}) as read\n"
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")


def test_thousand_tables_publish_and_skip_the_right_ones_and_alert_once(
    deployment_dir: DeploymentDir,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = parents()
    bad = set(random.Random(1).sample(sorted(reads), BAD))  # noqa: S311 - the same tables each time
    kept_back = set(bad)
    for name, read in reads.items():
        if kept_back.intersection(read):
            kept_back.add(name)
    failed = {name for name in bad if not kept_back.intersection(reads[name])}
    assert len(kept_back) < TABLES / 2
    write_tables(tmp_path / "tables" / "analytics", reads, bad)

    (tmp_path / "warehouse").mkdir()
    with running_server(tmp_path / "warehouse") as server, slack_stand_in() as slack, ExitStack() as resources:
        home = {
            **account_variables(server),
            "DAGSTER_HOME": str(deployment_dir.directory),
            "RUN_ELT_TABLES_DIR": str(tmp_path / "tables"),
            # With an account, the sensors run by themselves only in a deployment.
            "RUN_ELT_DEPLOYMENT": "scale",
            "SLACK_TOKEN": TOKEN,
            "SLACK_CHANNEL": CHANNEL,
            "SLACK_BASE_URL": slack.url,
        }
        run = deployment_dir.start(
            "dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster", env=home
        )
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        assert run.returncode == 1, deployment_dir.logs()
        mib = usage.ru_maxrss / 1024
        record_property("peak MiB", mib)
        assert mib < MOST_MIB

        session = Account(server, resources).session()
        seen = {row[1].lower() for row in session.sql("SHOW TABLES IN SCHEMA analytics")}
        assert {name for name in seen if not name.startswith("temp_")} == set(reads) - kept_back
        # The candidates of the bad ones are kept, and nothing else.
        assert {name.removeprefix("temp_").rpartition("__")[0] for name in seen if name.startswith("temp_")} == failed

        # Its storage is relative to the folder.
        monkeypatch.chdir(deployment_dir.directory)
        with dg.DagsterInstance.from_config(str(deployment_dir.directory)) as instance:
            materialized = {
                key.path[-1] for key in instance.get_asset_keys() if instance.get_latest_materialization_event(key)
            }
        assert materialized == set(reads) - kept_back

        deployment_dir.start("dagster-daemon", "run", "-w", "workspace.yaml", env=home)
        deployment_dir.wait_for("the alert", lambda: slack.messages)
        (message,) = slack.messages
        assert f"{len(failed)} tables were not published" in message["text"]
        deployment_dir.wait_for("the run's mark", lambda: _is_marked(deployment_dir.directory))
        (message,) = slack.messages


def _is_marked(home: Path) -> bool:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        return [run.tags.get("run_elt/alert") for run in runs] == ["delivered"]
